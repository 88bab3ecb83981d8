// Package outbound opens connections, and keeps what comes over them out of
// errors, and so out of the log.
package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
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
	own := &net.Resolver{PreferGo: net.DefaultResolver.PreferGo, Dial: net.DefaultResolver.Dial}
	d := net.Dialer{Timeout: ConnectTimeout, Resolver: own}
	return d.DialContext(ctx, network, addr)
}

// Redact returns err itself if its kind tells of the connection alone, and fixed
// words otherwise: net/http and crypto/x509 quote what they cannot parse, which
// may be a key or a token, and crypto/tls the names in a certificate, which are
// what its owner likes. err must not be nil.
func Redact(err error) error {
	if certificate, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("the peer's certificate is not trusted: %T", certificate.Err)
	}
	if _, ok := errors.AsType[*net.OpError](err); ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return errors.New("the peer sent what cannot be read")
}
