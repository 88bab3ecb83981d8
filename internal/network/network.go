// Package network opens connections, and redacts their errors so that nothing a server sent is logged.
package network

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// ConnectTimeout bounds the opening of one connection: the DNS lookup, the TCP connection and, in package incode, the
	// TLS handshake.
	ConnectTimeout = 3 * time.Second

	// attemptDelay is the time between the attempts to connect to two addresses of a host. RFC 8305 recommends it.
	attemptDelay = 250 * time.Millisecond

	// firstExchange bounds the first exchange with a name server.
	firstExchange = 700 * time.Millisecond
)

// Dial opens a TCP connection to a host and port within [ConnectTimeout]. It is safe for concurrent use.
//
// It tries all IPv4 addresses of the host, each a little later than the one before, and returns the first connection.
// net.Dialer was rejected: it gives up an address before it tries the next one, which takes 2 seconds or more. IPv6
// addresses are not looked up, because outside of a VPC, Lambda reaches the internet over IPv4 only:
// https://aws.amazon.com/blogs/compute/aws-lambda-networking-over-ipv6
func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, ConnectTimeout)
	defer cancel() // also ends the other attempts
	host, port, _ := net.SplitHostPort(address)
	ips, err := resolver().LookupNetIP(ctx, "ip4", host)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err} // as net.Dialer does; Redact keeps it
	}
	deadline, _ := ctx.Deadline()
	delay := min(attemptDelay, time.Until(deadline)/time.Duration(len(ips)+1)) // so that each address is tried in time
	conns, errs := make(chan net.Conn, 1), make(chan error, len(ips))
	var connected atomic.Bool
	for i, ip := range ips {
		time.AfterFunc(time.Duration(i)*delay, func() {
			conn, err := new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(ip.String(), port))
			switch {
			case err != nil:
				errs <- err
			case connected.Swap(true): // another attempt was faster
				conn.Close()
			default:
				conns <- conn
			}
		})
	}
	for range ips {
		select {
		case conn := <-conns:
			return conn, nil
		case err = <-errs:
		}
	}
	return nil, err
}

// resolver returns a resolver for one lookup. net.DefaultResolver was rejected for two reasons. It waits 5 seconds for
// each answer, so one lost packet or one silent name server would take all the time. Here the first exchange ends
// early, and the next one has the rest of the time, so that a slow name server can still answer. The other reason is
// that net.DefaultResolver shares one lookup of a name between all requests, even with requests that arrive after the
// network has recovered.
func resolver() *net.Resolver {
	dial := net.DefaultResolver.Dial // nil, except in tests
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	var first sync.Once
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, server string) (net.Conn, error) {
		conn, err := dial(ctx, network, server)
		if err == nil { // Close has no effect after the end of the exchange
			first.Do(func() { time.AfterFunc(firstExchange, func() { conn.Close() }) })
		}
		return conn, err
	}}
}

// Redact returns err if it describes only the connection, and a fixed text otherwise. net/http and crypto/x509
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
