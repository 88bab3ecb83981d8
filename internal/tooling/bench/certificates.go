//go:build linux

package main

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// trust is what the servers show and what the functions believe.
type trust struct {
	secretsManager tls.Certificate // RSA-2048 behind an intermediate, as AWS has it
	incode         tls.Certificate // P-256
	root           string          // path of the one root, for Node, which brings its own others
	bundle         string          // path of the machine's bundle, the root at its end
	al2023         string          // SSL_CERT_DIR with Amazon Linux 2023's default directories
}

// bundles are the places of the machine's own certification authorities, which
// are those of Amazon Linux too: Mozilla's. What a certificate costs its reader
// depends on what is in it, so none are made up.
var bundles = []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"}

// newTrust makes certificates and, in dir, the files that Go looks for.
func newTrust(dir string) (*trust, error) {
	var m minter
	root := m.issue("Root", nil, m.rsaKey(), true)
	issuer := m.issue("Intermediate", root, m.rsaKey(), true)
	leaf := m.issue("Secrets Manager", issuer, m.rsaKey(), false)
	incode := m.issue("Incode", root, m.ecKey(), false)
	if m.err != nil {
		return nil, m.err
	}
	t := &trust{
		secretsManager: tls.Certificate{Certificate: [][]byte{leaf.der, issuer.der}, PrivateKey: leaf.key},
		incode:         tls.Certificate{Certificate: [][]byte{incode.der}, PrivateKey: incode.key},
		root:           filepath.Join(dir, "root.pem"),
		bundle:         filepath.Join(dir, "bundle.pem"),
	}
	bundle, err := systemBundle()
	if err != nil {
		return nil, err
	}
	bundle = append(bundle, root.pem()...)
	// Amazon Linux 2023 keeps its bundle twice in /etc/pki/tls/certs, to which
	// /etc/ssl/certs is a link; Go reads one file and both directories
	// (golang/go#79018).
	certs, link := filepath.Join(dir, "certs"), filepath.Join(dir, "link")
	t.al2023 = certs + ":" + link
	if err := os.MkdirAll(certs, 0o750); err != nil {
		return nil, err
	}
	_ = os.Remove(link)
	if err := os.Symlink("certs", link); err != nil {
		return nil, err
	}
	for path, text := range map[string][]byte{
		t.root: root.pem(), t.bundle: bundle,
		filepath.Join(certs, "ca-bundle.crt"): bundle, filepath.Join(certs, "ca-certificates.crt"): bundle,
	} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func systemBundle() ([]byte, error) {
	for _, path := range bundles {
		if text, err := os.ReadFile(path); err == nil {
			return text, nil
		}
	}
	return nil, fmt.Errorf("no certification authorities in %v: install ca-certificates", bundles)
}

type certificate struct {
	der  []byte
	key  crypto.Signer
	cert *x509.Certificate
}

func (c *certificate) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.der})
}

// minter makes keys and certificates; err is the first fault.
type minter struct{ err error }

// issue makes a certificate, signed by itself without an issuer.
func (m *minter) issue(name string, issuer *certificate, key crypto.Signer, authority bool) *certificate {
	c := &certificate{key: key}
	if m.err != nil {
		return c
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name, Organization: []string{"Omnistart Benchmark"}},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  authority,
	}
	if authority {
		template.KeyUsage |= x509.KeyUsageCertSign
	} else {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.cert, issuer.key
	}
	if c.der, m.err = x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer); m.err == nil {
		c.cert, m.err = x509.ParseCertificate(c.der)
	}
	return c
}

func (m *minter) rsaKey() crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	m.err = cmp.Or(m.err, err)
	return key
}

func (m *minter) ecKey() crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	m.err = cmp.Or(m.err, err)
	return key
}
