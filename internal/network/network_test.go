package network

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
)

// TestLookupsAreNotShared uses a resolver that loses every packet. Each lookup must ask its own two questions, for IPv4
// and IPv6, and end before Go asks again after 5 seconds.
func TestLookupsAreNotShared(t *testing.T) {
	defer func(original *net.Resolver) { net.DefaultResolver = original }(net.DefaultResolver)
	questions := make(chan struct{}, 100)
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if ctx.Err() == nil { // Go continues for a moment after the end of a lookup
			questions <- struct{}{}
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	results := make(chan error)
	for range 2 {
		go func() {
			_, err := Dial(t.Context(), "tcp", "incode.example.:443")
			results <- err
		}()
	}
	for range 2 {
		if err := <-results; err == nil || Redact(err) != err { //nolint:errorlint // the same error, not a similar one
			t.Errorf("got %v", err)
		}
	}
	if len(questions) != 4 {
		t.Errorf("two lookups asked %d questions, want 4", len(questions))
	}
}

func TestRedactKeepsErrorsOfTheConnection(t *testing.T) {
	for _, err := range []error{
		&net.OpError{Op: "dial", Err: io.ErrNoProgress}, io.EOF, io.ErrUnexpectedEOF,
		context.Canceled, context.DeadlineExceeded,
	} {
		wrapped := fmt.Errorf("x: %w", err)
		if got := Redact(wrapped); got != wrapped { //nolint:errorlint // the same error, not a similar one
			t.Errorf("%v became %v", err, got)
		}
	}
}

func TestRedactReplacesErrorsThatMayQuoteTheServer(t *testing.T) {
	const unparseable = "the server sent something that cannot be parsed"
	const untrusted = "the server's certificate is not trusted: "
	certificate := &x509.Certificate{DNSNames: []string{"canary"}}
	verification := func(err error) error {
		return &tls.CertificateVerificationError{UnverifiedCertificates: []*x509.Certificate{certificate}, Err: err}
	}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errors.New("canary"), unparseable},
		{&tls.RecordHeaderError{Msg: "canary"}, unparseable},
		{verification(x509.CertificateInvalidError{Cert: certificate, Reason: x509.Expired, Detail: "canary"}),
			untrusted + "x509.CertificateInvalidError"},
		{verification(x509.HostnameError{Certificate: certificate, Host: "x"}), untrusted + "x509.HostnameError"},
		{verification(x509.UnknownAuthorityError{Cert: certificate}), untrusted + "x509.UnknownAuthorityError"},
	} {
		if err := Redact(fmt.Errorf("x: %w", tt.err)); err.Error() != tt.want || errors.Unwrap(err) != nil {
			t.Errorf("%T became %v, want %s", tt.err, err, tt.want)
		}
	}
}
