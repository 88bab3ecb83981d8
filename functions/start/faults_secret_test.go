//go:build unix

package main

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"omnistart/internal/tooling/incodetest"
)

// secretFault is something that Secrets Manager does, or holds.
type secretFault struct {
	name string
	do   func(*rig)     // on the stand-in, or
	raw  func(net.Conn) // in place of it, or
	dns  lookup         // on the way to it
	want want
}

// secretFaults meets each fault when no key is there yet, and when Incode has
// refused the one that is.
func secretFaults(t *testing.T, m *matrix) {
	var followed atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	defer elsewhere.Close()

	says := func(code string, status int) func(*rig) { return func(r *rig) { r.secrets.Fail(code, status) } }
	holds := func(text string) func(*rig) { return func(r *rig) { r.secrets.Put(secretID, text) } }
	sends := func(text string) func(net.Conn) {
		return func(c net.Conn) { _, _ = io.WriteString(c, text) }
	}
	endlessly := func(head, more string) func(net.Conn) {
		return func(c net.Conn) {
			more := strings.Repeat(more, 10_000)
			for _, err := io.WriteString(c, head); err == nil; {
				_, err = io.WriteString(c, more)
			}
		}
	}
	const (
		aws  = "Content-Type: application/x-amz-json-1.1\r\n"
		open = "HTTP/1.1 200 OK\r\n" + aws + "\r\n"
	)
	bomb := zip(`{"VersionId":"v","SecretString":"`) + strings.Repeat(zip(strings.Repeat("0", 1<<20)), 128)
	faults := []secretFault{
		{"denied", says("AccessDeniedException", 400), nil, nil, misconfigured},
		{"missing", says("ResourceNotFoundException", 400), nil, nil, misconfigured},
		{"without a value", func(r *rig) { r.secrets.Create(secretID) }, nil, nil, misconfigured},
		{"pending deletion", says("InvalidRequestException", 400), nil, nil, misconfigured},
		{"KMS denied", says("DecryptionFailure", 400), nil, nil, misconfigured},
		{"expired credentials", says("ExpiredTokenException", 400), nil, nil, noSecret},
		{"throttled", says("ThrottlingException", 400), nil, nil, noSecret},
		{"500", says("InternalServiceError", 500), nil, nil, noSecret},
		{"an unknown error", says("NewException", 400), nil, nil, noSecret},
		{"HTML", nil, sends(reply("503 Service Unavailable", "", "<title>canary</title>")), nil, noSecret},
		{"mute", nil, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, nil, noSecret},
		{"hanging up", nil, sends(""), nil, noSecret},
		{"reset", nil, func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }, nil, noSecret},
		{"refused", nil, nil, lookups["an address without port"], noSecret},
		{"no such host", nil, nil, lookups["no such host"], noSecret},
		{"a mute resolver", nil, nil, lookups["a mute resolver"], noSecret},
		{"slow", nil, func(c net.Conn) {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for _, err := io.WriteString(c, open+`{"VersionId":"v","SecretString":"`); err == nil; <-tick.C {
				_, err = io.WriteString(c, "canary")
			}
		}, nil, noSecret},
		{"cut off", nil, sends("HTTP/1.1 200 OK\r\n" + aws + "Content-Length: 100\r\n\r\n{\"SecretString\":\"canary"), nil, noSecret},
		{"no JSON", nil, sends(reply("200 OK", aws, "canary")), nil, noSecret},
		{"another type", nil, sends(reply("200 OK", aws, `{"VersionId":"v","SecretString":["canary"]}`)), nil, noSecret},
		{"no version", nil, sends(reply("200 OK", aws, `{"SecretString":"canary"}`)), nil, misconfigured},
		{"no HTTP", nil, sends("HTTP/1.1 200 OK\r\n{\"SecretString\":\"canary\"}\r\n\r\n"), nil, noSecret},
		{"no status", nil, sends("{\"SecretString\":\"canary\"}\r\n\r\n"), nil, noSecret},
		{"a redirect", nil, sends(reply("307 Temporary Redirect", "Location: "+elsewhere.URL+"/canary\r\n", "")), nil, noSecret},
		{"a reply without end", nil, endlessly(open+`{"VersionId":"v","SecretString":"`, "canary"), nil, noSecret},
		{"an error without end", nil, endlessly("HTTP/1.1 400 Bad Request\r\n"+aws+"\r\n"+`{"__type":"AccessDeniedException","Message":"`, "canary"), nil, noSecret},
		{"headers without end", nil, endlessly("HTTP/1.1 200 OK\r\n", "a: canary\r\n"), nil, noSecret},
		{"a gzip bomb", nil, sends(reply("200 OK", aws+"Content-Encoding: gzip\r\n", bomb)), nil, noSecret},
		{"binary", func(r *rig) { r.secrets.PutBinary(secretID, []byte("canary")) }, nil, nil, misconfigured},
		{"empty", holds(""), nil, nil, misconfigured},
		{"blank", holds(" \n"), nil, nil, misconfigured},
		{"broken JSON", holds(`{"apiKey":"canary`), nil, nil, misconfigured},
		{"JSON without apiKey", holds(`{"key":"canary"}`), nil, nil, misconfigured},
		{"JSON with two apiKeys", holds(`{"apiKey":"canary","apiKey":"canary"}`), nil, nil, misconfigured},
		{"a number for apiKey", holds(`{"apiKey":7}`), nil, nil, misconfigured},
		{"a line feed in the key", holds("canary\r\nx: y"), nil, nil, misconfigured},
		{"a NUL in apiKey", holds(`{"apiKey":"canary\u0000"}`), nil, nil, misconfigured},
		{"a long key", holds(strings.Repeat("canary", 200)), nil, nil, misconfigured},
	}
	names := make([]string, len(faults))
	for i := range faults {
		names[i] = faults[i].name
	}
	m.rows(t, names, func(t *testing.T, i int) { faults[i].try(t, m) })
	if followed.Load() > 0 {
		t.Errorf("%d redirects were followed, with AWS credentials", followed.Load())
	}
}

// try meets the fault cold, which is the row itself, and warm.
func (f secretFault) try(t *testing.T, m *matrix) {
	r := m.rig(t)
	n := r.callers
	var broken atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if f.raw == nil || !broken.Load() {
			r.secrets.ServeHTTP(w, req)
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		f.raw(c)
	}))
	t.Cleanup(server.Close)
	r.env["AWS_ENDPOINT_URL_SECRETS_MANAGER"] = named(server.URL, "secrets.example")
	dns := newResolver(t, r)
	breaks := func() {
		broken.Store(true)
		dns.meets(f.dns)
		if f.do != nil {
			f.do(r)
		}
	}
	mends := func() {
		broken.Store(false)
		dns.meets(nil)
		r.secrets.Recover()
		r.secrets.Put(secretID, incodetest.Key)
		r.incode.SetKey(incodetest.Key)
	}

	breaks()
	r.start(t, 5*time.Second)
	r.meet(t, f.want)
	mends()
	r.meet(t, ok)
	if r.incode.Requests() != n {
		t.Errorf("%d requests went to Incode, want %d", r.incode.Requests(), n)
	}
	m.row(t, "warm", func(t *testing.T) {
		r.incode.SetKey("another")
		breaks()
		r.meet(t, f.want)
		mends()
		r.meet(t, ok)
		if r.incode.Requests() != 3*n || r.incode.Sessions() != 2*n {
			t.Errorf("%d requests went to Incode and started %d sessions, want %d and %d", r.incode.Requests(), r.incode.Sessions(), 3*n, 2*n)
		}
	})
}

// TestUnaskedReplyOfSecretsManagerIsNotPrinted lets it speak first, which net/http
// tells the standard logger, with the text.
func TestUnaskedReplyOfSecretsManagerIsNotPrinted(t *testing.T) {
	t.Parallel() // it waits
	r := newRig(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	config := r.server.TLS.Clone()
	config.NextProtos = nil
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(tls.Server(c, config), reply("500 canary", "", "canary"))
			}()
		}
	}()
	r.env["AWS_ENDPOINT_URL_SECRETS_MANAGER"] = "https://" + l.Addr().String()
	r.start(t, 5*time.Second)
	for range 3 { // net/http may also take it for the reply
		r.check(t, r.session(t, incodetest.FlowID), noSecret)
	}
}
