// Package certificates issues TLS certificates for test servers.
package certificates

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// Issue returns a certificate for the public key of key, with the names, dates
// and uses of template. It is signed by issuer, or by key itself when issuer is
// nil. The chain of the result contains all issuers but the root, as servers
// send it. Leaf is set.
func Issue(template *x509.Certificate, key crypto.Signer, issuer *tls.Certificate) (*tls.Certificate, error) {
	parent, signer, chain := template, key, [][]byte(nil)
	if issuer != nil {
		parent, signer = issuer.Leaf, issuer.PrivateKey.(crypto.Signer)
		if parent.Issuer.String() != parent.Subject.String() { // not the root
			chain = issuer.Certificate
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("issuing a certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("issuing a certificate: %w", err)
	}
	return &tls.Certificate{Certificate: append([][]byte{der}, chain...), PrivateKey: key, Leaf: leaf}, nil
}

// PEM returns a certificate without its chain, in the form that SSL_CERT_FILE
// names.
func PEM(certificate *tls.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})
}
