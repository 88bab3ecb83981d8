// Package network opens connections, and keeps what a server sends out of error texts and so out of the log.
package network

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// ConnectTimeout bounds the opening of one connection, from the DNS lookup to the end of the TLS handshake where the
// caller adds one.
const ConnectTimeout = 3 * time.Second

// Dial opens a TCP connection within [ConnectTimeout]. It is safe for concurrent use.
//
// Each call has a resolver of its own. One net.Resolver for all calls would share the lookups of a name: when a DNS
// packet is lost, every request that asks for the same name waits for that one lookup, 5 seconds and longer, even
// requests that arrive after the network has recovered.
func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	resolver := &net.Resolver{PreferGo: net.DefaultResolver.PreferGo, Dial: net.DefaultResolver.Dial}
	dialer := net.Dialer{Timeout: ConnectTimeout, Resolver: resolver}
	return dialer.DialContext(ctx, network, address)
}

// Redact returns err if it can only describe the connection, and a fixed text otherwise. net/http and crypto/x509
// quote what they cannot parse, which may be a key or a token, and crypto/tls quotes the names in a certificate. err
// must not be nil.
func Redact(err error) error {
	if untrusted, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("the server's certificate is not trusted: %T", untrusted.Err)
	}
	if _, ok := errors.AsType[*net.OpError](err); ok ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return errors.New("the server sent something that cannot be parsed")
}
