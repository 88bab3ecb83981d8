package certificates_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"omnistart/internal/tooling/certificates"
)

func TestChainLeadsToTheRoot(t *testing.T) {
	issue := func(name string, isCA bool, issuer *tls.Certificate) *tls.Certificate {
		t.Helper()
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := certificates.Issue(&x509.Certificate{
			Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour),
			IsCA: isCA, BasicConstraintsValid: true,
		}, key, issuer)
		if err != nil {
			t.Fatal(err)
		}
		return certificate
	}
	root := issue("root", true, nil)
	intermediate := issue("intermediate", true, root)
	for name, tt := range map[string]struct {
		issuer *tls.Certificate
		chain  int
	}{"of the root": {root, 1}, "of an intermediate": {intermediate, 2}} {
		t.Run(name, func(t *testing.T) {
			server := issue("localhost", false, tt.issuer)
			roots, others := x509.NewCertPool(), x509.NewCertPool()
			roots.AppendCertsFromPEM(certificates.PEM(root))
			for _, der := range server.Certificate[1:] {
				certificate, err := x509.ParseCertificate(der)
				if err != nil {
					t.Fatal(err)
				}
				others.AddCert(certificate)
			}
			_, err := server.Leaf.Verify(x509.VerifyOptions{DNSName: "localhost", Roots: roots, Intermediates: others})
			if err != nil || len(server.Certificate) != tt.chain {
				t.Errorf("%v with %d certificates, want %d", err, len(server.Certificate), tt.chain)
			}
		})
	}
}
