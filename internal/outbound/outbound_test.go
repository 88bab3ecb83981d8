package outbound

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

// TestLookupsAreNotShared has a resolver whose packets are lost: nobody may wait
// for the answer to another's questions, of which there are two, for IPv4 and
// IPv6; nor so long that Go asks again, which it does after 5 s.
func TestLookupsAreNotShared(t *testing.T) {
	defer func(real *net.Resolver) { net.DefaultResolver = real }(net.DefaultResolver)
	asked := make(chan struct{}, 100)
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if ctx.Err() == nil { // Go asks on when it need not
			asked <- struct{}{}
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	ended := make(chan error)
	for range 2 {
		go func() {
			_, err := Dial(t.Context(), "tcp", "incode.example.:443")
			ended <- err
		}()
	}
	for range 2 {
		if err := <-ended; err == nil || Redact(err) != err { //nolint:errorlint // the same, not a like one
			t.Errorf("got %v", err)
		}
	}
	if len(asked) != 4 {
		t.Errorf("two lookups asked %d questions, want 4", len(asked))
	}
}

func TestWhatTellsOfTheConnectionPasses(t *testing.T) {
	for _, err := range []error{&net.OpError{Op: "dial", Err: io.ErrNoProgress}, io.EOF, io.ErrUnexpectedEOF, context.Canceled, context.DeadlineExceeded} {
		if wrapped := fmt.Errorf("x: %w", err); Redact(wrapped) != wrapped { //nolint:errorlint // the same, not a like one
			t.Errorf("%v became %v", err, Redact(wrapped))
		}
	}
}

func TestWhatMayQuoteThePeerBecomesFixedWords(t *testing.T) {
	const canary = "canary"
	owned := &x509.Certificate{DNSNames: []string{canary}}
	untrusted := func(err error) error {
		return &tls.CertificateVerificationError{UnverifiedCertificates: []*x509.Certificate{owned}, Err: err}
	}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errors.New(canary), "the peer sent what cannot be read"},
		{&tls.RecordHeaderError{Msg: canary}, "the peer sent what cannot be read"},
		{untrusted(x509.CertificateInvalidError{Cert: owned, Reason: x509.Expired, Detail: canary}), "the peer's certificate is not trusted: x509.CertificateInvalidError"},
		{untrusted(x509.HostnameError{Certificate: owned, Host: "x"}), "the peer's certificate is not trusted: x509.HostnameError"},
		{untrusted(x509.UnknownAuthorityError{Cert: owned}), "the peer's certificate is not trusted: x509.UnknownAuthorityError"},
	} {
		if err := Redact(fmt.Errorf("x: %w", tt.err)); err.Error() != tt.want || errors.Unwrap(err) != nil {
			t.Errorf("%T became %v, want %s", tt.err, err, tt.want)
		}
	}
}
