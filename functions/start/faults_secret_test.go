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

	"golang.org/x/net/dns/dnsmessage"

	"omnistart/internal/tooling/incodetest"
)

// secretFault is a fault of Secrets Manager, or a value that is no key. One of the
// functions is set.
type secretFault struct {
	name    string
	do      func(*harness)                  // changes the stand-in
	respond func(net.Conn)                  // replaces the stand-in after the request
	dns     func(dnsmessage.Message) []byte // replaces the response to a DNS query
	want    outcome
}

// secretFaults happen when the key has not been loaded, and when Incode has refused
// the key. In the second case, the response is Incode's refusal.
func secretFaults(t *testing.T, m *matrix) {
	var followed atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	defer elsewhere.Close()
	newRow := func(f secretFault) row { return row{f.name, func(t *testing.T) { f.try(t, m) }} }
	m.run(t, rows(secretErrors(), newRow), rows(secretValues(), newRow), rows(secretConnections(), newRow),
		rows(secretResponses(elsewhere.URL), newRow))
	if followed.Load() > 0 {
		t.Errorf("%d redirects were followed, with AWS credentials", followed.Load())
	}
}

func secretErrors() []secretFault {
	fault := func(name, code string, status int, want outcome) secretFault {
		return secretFault{name: name, do: func(h *harness) { h.secrets.Fail(code, status) }, want: want}
	}
	return []secretFault{
		fault("denied", "AccessDeniedException", 400, misconfigured),
		fault("missing", "ResourceNotFoundException", 400, misconfigured),
		fault("pending deletion", "InvalidRequestException", 400, misconfigured),
		fault("KMS denied", "DecryptionFailure", 400, misconfigured),
		fault("expired credentials", "ExpiredTokenException", 400, noSecret),
		fault("500", "InternalServiceError", 500, noSecret),
		fault("an unknown error", "NewException", 400, noSecret),
		{name: "without a value", do: func(h *harness) { h.secrets.Create(secretID) }, want: misconfigured},
		fault("throttled", "ThrottlingException", 400, noSecret),
	}
}

func secretValues() []secretFault {
	fault := func(name, value string) secretFault {
		return secretFault{name: name, do: func(h *harness) { h.secrets.Put(secretID, value) }, want: misconfigured}
	}
	return []secretFault{
		fault("broken JSON", `{"apiKey":"canary`),
		{name: "binary", do: func(h *harness) { h.secrets.PutBinary(secretID, []byte("canary")) }, want: misconfigured},
		fault("empty", ""),
		fault("blank", " \n"),
		fault("JSON without apiKey", `{"key":"canary","other":"canary"}`),
		fault("a number as apiKey", `{"apiKey":7}`),
		fault("an array", `["canary"]`),
		fault("a line feed in the key", "canary\r\nx: y"),
		fault("a NUL in apiKey", `{"apiKey":"canary\u0000"}`),
		fault("a long key", strings.Repeat("canary", 200)),
	}
}

// secretConnections end without a response.
func secretConnections() []secretFault {
	return []secretFault{
		{name: "no response", respond: func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, want: noSecret},
		{name: "closed", respond: func(net.Conn) {}, want: noSecret},
		{name: "reset", respond: func(c net.Conn) { resetTCP(c.(*net.TCPConn)) }, want: noSecret},
		{name: "refused", dns: refusingAddress, want: noSecret},
		{name: "no such host", dns: failWith(dnsmessage.RCodeNameError), want: noSecret},
		{name: "no response to the DNS query", dns: noDNSResponse, want: noSecret},
	}
}

func secretResponses(elsewhere string) []secretFault {
	writes := func(name, text string) secretFault {
		return secretFault{name: name, respond: func(c net.Conn) { _, _ = io.WriteString(c, text) }, want: noSecret}
	}
	endless := func(name, head, more string, pause time.Duration) secretFault {
		return secretFault{name: name, respond: func(c net.Conn) { writeForever(c, head, more, pause) }, want: noSecret}
	}
	const (
		aws  = "Content-Type: application/x-amz-json-1.1\r\n"
		open = "HTTP/1.1 200 OK\r\n" + aws + "\r\n"
	)
	bomb := zip(`{"VersionId":"v","SecretString":"`) + strings.Repeat(zip(strings.Repeat("0", 1<<20)), 128)
	denied := func(name, message string) secretFault {
		body := `{"__type":"AccessDeniedException","Message":"` + message + `"}`
		fault := writes(name, httpResponse("400 Bad Request", aws, body))
		fault.want = misconfigured
		return fault
	}
	return []secretFault{
		endless("an endless response", open+`{"VersionId":"v","SecretString":"`, "canary", 0),
		endless("an endless slow response", open+`{"VersionId":"v","SecretString":"`, "canary", 5*time.Millisecond),
		endless("an endless error",
			"HTTP/1.1 400 Bad Request\r\n"+aws+"\r\n"+`{"__type":"AccessDeniedException","Message":"`, "canary", 0),
		endless("endless headers", "HTTP/1.1 200 OK\r\n", "a: canary\r\n", 0),
		writes("HTML", httpResponse("503 Service Unavailable", "", "<title>canary</title>")),
		writes("cut off", "HTTP/1.1 200 OK\r\n"+aws+"Content-Length: 100\r\n\r\n{\"SecretString\":\"canary"),
		writes("no JSON", httpResponse("200 OK", aws, "canary")),
		writes("another type", httpResponse("200 OK", aws, `{"VersionId":"v","SecretString":["canary"]}`)),
		writes("no version", httpResponse("200 OK", aws, `{"SecretString":"canary"}`)),
		writes("no secret", httpResponse("200 OK", aws, `{"VersionId":"v"}`)),
		writes("an empty body", httpResponse("200 OK", aws, "")),
		writes("an empty object", httpResponse("200 OK", aws, "{}")),
		writes("the object of another service", httpResponse("200 OK", aws, `{"status":"canary"}`)),
		writes("HTML with status 200", httpResponse("200 OK", "Content-Type: text/html\r\n", "<title>canary</title>")),
		writes("a version ID of 300 kB",
			httpResponse("200 OK", aws, `{"SecretString":"canary","VersionId":"`+strings.Repeat("v", 300_000)+`"}`)),
		denied("denied with a message of 300 kB", strings.Repeat("x", 300_000)),
		denied("denied with 50,000 control characters", strings.Repeat(`\u0001`, 50_000)),
		writes("invalid HTTP", "HTTP/1.1 200 OK\r\n{\"SecretString\":\"canary\"}\r\n\r\n"),
		writes("no status", "{\"SecretString\":\"canary\"}\r\n\r\n"),
		writes("a redirect", httpResponse("307 Temporary Redirect", "Location: "+elsewhere+"/canary\r\n", "")),
		writes("a gzip bomb", httpResponse("200 OK", aws+"Content-Encoding: gzip\r\n", bomb)),
	}
}

// try makes calls that meet the fault, before the key has been loaded and after
// Incode has refused it, and a successful call after each.
func (f secretFault) try(t *testing.T, m *matrix) {
	h := m.crowd(t)
	n := h.callers
	var broken atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if f.respond == nil || !broken.Load() {
			h.secrets.ServeHTTP(w, req)
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		f.respond(c)
	}))
	t.Cleanup(server.Close)
	h.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", strings.Replace(server.URL, "127.0.0.1", "secrets.example", 1))
	dns := startDNSServer(t, h)
	begin := func() {
		broken.Store(true)
		dns.fail(f.dns)
		if f.do != nil {
			f.do(h)
		}
	}
	end := func() {
		broken.Store(false)
		dns.fail(nil)
		h.secrets.Recover()
		h.secrets.Put(secretID, incodetest.Key)
		h.incode.SetKey(incodetest.Key)
	}

	begin()
	h.start(t)
	h.startSessions(t, f.want)
	end()
	h.startSessions(t, success)
	if h.incode.Requests() != n {
		t.Errorf("%d requests to Incode, want %d", h.incode.Requests(), n)
	}
	m.runRow(t, row{"after the key was refused", func(t *testing.T) {
		h.incode.SetKey("another")
		begin()
		h.startSessions(t, unauthorized)
		end()
		h.startSessions(t, success)
		if h.incode.Requests() != 3*n || h.incode.Sessions() != 2*n {
			t.Errorf("%d requests to Incode and %d sessions, want %d and %d",
				h.incode.Requests(), h.incode.Sessions(), 3*n, 2*n)
		}
	}})
}

// TestWarningsOfTheSDKAreLogLines has a date that the SDK warns about.
func TestWarningsOfTheSDKAreLogLines(t *testing.T) {
	t.Parallel() // it waits
	h := newHarness(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Date", strings.Repeat("soon ", 5000))
		h.secrets.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	h.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", server.URL)
	h.start(t)
	h.check(t, h.startSession(t, incodetest.FlowID), success)
	h.Close()                                               // completes the output
	if lines := h.output.requestLines(t); len(lines) != 1 { // every line is JSON
		t.Errorf("%d requests are logged, want 1", len(lines))
	}
	if !strings.Contains(h.output.String(), `"level":"WARN","message":"AWS SDK: failed to parse`) {
		t.Errorf("no warning in\n%s", h.output)
	}
}

// TestUnsolicitedResponseOfSecretsManagerIsNotPrinted has a server that responds
// before the request. net/http prints such a response to the standard logger.
func TestUnsolicitedResponseOfSecretsManagerIsNotPrinted(t *testing.T) {
	t.Parallel() // it waits
	h := newHarness(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	config := h.incodeServer.TLS.Clone()
	config.NextProtos = nil
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(tls.Server(c, config), httpResponse("500 canary", "", "canary"))
			}()
		}
	}()
	h.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "https://"+l.Addr().String())
	h.start(t)
	for range 3 { // net/http may also take it as the response to its request
		h.check(t, h.startSession(t, incodetest.FlowID), noSecret)
	}
}
