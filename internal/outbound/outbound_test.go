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
		{untrusted(x509.CertificateInvalidError{Cert: owned, Reason: x509.Expired, Detail: canary}), "the peer's certificate has expired or is not yet valid"},
		{untrusted(x509.CertificateInvalidError{Cert: owned, Reason: x509.NotAuthorizedToSign, Detail: canary}), "the peer's certificate is not valid"},
		{untrusted(x509.HostnameError{Certificate: owned, Host: "x"}), "the peer's certificate is for another host"},
		{untrusted(x509.UnknownAuthorityError{Cert: owned}), "the peer's certificate is of an unknown authority"},
		{untrusted(errors.New(canary)), "the peer's certificate is not valid"},
	} {
		if err := Redact(fmt.Errorf("x: %w", tt.err)); err.Error() != tt.want || errors.Unwrap(err) != nil {
			t.Errorf("%T became %v, want %s", tt.err, err, tt.want)
		}
	}
}
