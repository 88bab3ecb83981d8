// Package outbound opens connections, and keeps what comes over them out of
// errors, and so out of the log.
package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"time"
)

// ConnectTimeout bounds the opening of one connection, TLS included where the
// caller adds it.
const ConnectTimeout = 3 * time.Second

// Dial opens a connection within [ConnectTimeout]. It is safe for concurrent
// use.
//
// The lookup of the name is its own. With one net.Resolver for all, a lookup
// whose packet was lost would make all wait that ask for the same name, for
// 5 s and longer, those included who come after the network has recovered.
func Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	shared := net.DefaultResolver
	d := net.Dialer{Timeout: ConnectTimeout, Resolver: &net.Resolver{PreferGo: shared.PreferGo, Dial: shared.Dial}}
	return d.DialContext(ctx, network, addr)
}

// Redact returns err itself if its kind tells of the connection alone, and fixed
// words otherwise: net/http and crypto/x509 quote what they cannot parse, which
// may be a key or a token, and crypto/tls the names in a certificate, which are
// what its owner likes. err must not be nil.
func Redact(err error) error {
	if certificate, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return untrusted(certificate.Err)
	}
	_, network := errors.AsType[*net.OpError](err)
	if network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return errors.New("the peer sent what cannot be read")
}

// untrusted tells the operator who must act: the peer, who renews and names its
// certificate, or whoever has set the URL and the roots.
func untrusted(err error) error {
	invalid, _ := errors.AsType[x509.CertificateInvalidError](err)
	_, name := errors.AsType[x509.HostnameError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	switch {
	case invalid.Cert != nil && invalid.Reason == x509.Expired:
		return errors.New("the peer's certificate has expired or is not yet valid")
	case name:
		return errors.New("the peer's certificate is for another host")
	case authority:
		return errors.New("the peer's certificate is of an unknown authority")
	}
	return errors.New("the peer's certificate is not valid")
}
