package incode

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"omnistart/internal/apikey"
	"omnistart/internal/tooling/incodetest"
	"omnistart/internal/tooling/leaktest"
)

var key = apikey.NewKey(incodetest.Key, "v1")

// standIn serves the Incode stand-in over TLS and returns a client for it.
func standIn(t *testing.T) (*incodetest.Server, *httptest.Server, *Client) {
	t.Helper()
	s := incodetest.New()
	server := httptest.NewTLSServer(s)
	t.Cleanup(server.Close)
	t.Cleanup(s.Close)
	return s, server, clientOf(t, server)
}

func parsed(t testing.TB, baseURL string) *url.URL {
	t.Helper()
	u, err := url.Parse(baseURL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func clientOf(t *testing.T, server *httptest.Server) *Client {
	t.Helper()
	c := New(parsed(t, server.URL))
	if c.pool.tls != nil {
		c.pool.tls.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	}
	t.Cleanup(func() {
		for _, idle := range c.pool.idle {
			idle.Close()
		}
	})
	return c
}

// failure returns the *Error of a call that must have failed.
func failure(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("not an *Error: %v", err)
	}
	return e
}

func TestStartSendsWhatIncodeDocuments(t *testing.T) {
	s, _, c := standIn(t)
	got, err := c.Start(t.Context(), key, StartRequest{
		ConfigurationID: incodetest.FlowID, ExternalCustomerID: "customer-42", CountryCode: "ALL", Language: "en-US",
		RedirectionURL: "https://app.example.com/done", CustomFields: map[string]string{"plan": "<gold>"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(got.Token, ".") != 2 || len(got.InterviewID) != 24 {
		t.Errorf("not a token and an interview ID: %+v", got)
	}
	last := s.Last()
	if last.Fields["externalCustomerId"] != "customer-42" || last.Fields["language"] != "en-US" || len(last.Fields) != 6 {
		t.Errorf("fields: %v", last.Fields)
	}
	if last.Header.Get("Accept") != "application/json" {
		t.Errorf("accepts %q", last.Header.Get("Accept"))
	}
	for name := range last.Header {
		switch name {
		case "Content-Type", "Content-Length", "Accept", "Accept-Encoding", "User-Agent", "Api-Version", "X-Api-Key":
		default:
			t.Errorf("Incode is sent %s, which it does not ask for", name)
		}
	}
}

func TestTokenAndCustomerAreNeverShown(t *testing.T) {
	session := Session{Token: "canary-token", InterviewID: "6a1"}
	request := StartRequest{ExternalCustomerID: "canary-customer", RedirectionURL: "https://canary-url", CustomFields: map[string]string{"canary-name": "canary-value"}}
	for _, v := range []any{
		session, &session, []Session{session}, struct{ S Session }{session}, map[Session]Session{session: session},
		request, &request,
	} {
		leaktest.Check(t, v, "canary")
	}
	reply := reply{200, http.Header{"X": {"canary"}}, []byte(`{"token":"canary"}`)}
	for _, v := range []any{&reply, []StartRequest{request}, struct{ R StartRequest }{request}} {
		leaktest.Printed(t, v, "canary")
	}
	if got := fmt.Sprint(request, request.LogValue(), session, reply); got != "[start request] [start request] [session 6a1] [reply 200]" {
		t.Errorf("they print as %s", got)
	}
}

func TestOutcomes(t *testing.T) {
	const zeros = "00000000000000000000"
	tests := []struct {
		flow    string
		want    Outcome
		status  int
		started int // sessions, although the caller gets no token
	}{
		{"0400", Rejected, 400, 0},
		{"9999", Rejected, 400, 0}, // an unknown configuration
		{"0401", Unauthorized, 401, 0},
		{"0403", Unauthorized, 403, 0},
		{"0429", Throttled, 429, 0},
		{"0500", Failed, 500, 0},
		{"0504", TimedOut, 504, 0},
		{"0201", InvalidReply, 201, 1},
		{"0204", InvalidReply, 204, 0},
		{"0302", InvalidReply, 302, 0},
		{"0307", InvalidReply, 307, 0},
		{"bad0", InvalidReply, 200, 0},
		{"bad1", InvalidReply, 200, 1},
		{"bad2", InvalidReply, 200, 1},
		{"bad3", InvalidReply, 200, 1},
		{"0b19", InvalidReply, 200, 1},
		{"0c07", Unknown, 0, 1},
		{"dead", Unknown, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.flow, func(t *testing.T) {
			s, _, c := standIn(t)
			got, err := c.Start(t.Context(), key, StartRequest{ConfigurationID: zeros + tt.flow})
			// What was started in vain has a name in the reply, unless that is cut off.
			named := tt.started == 1 && tt.status != 0 && tt.flow != "0b19"
			if got.Token != "" || (got.InterviewID != "") != named {
				t.Errorf("session %+v", got)
			}
			e := failure(t, err)
			if e.Outcome != tt.want || e.Status != tt.status {
				t.Errorf("got outcome %q, status %d: %v; want %q, %d", e.Outcome, e.Status, e, tt.want, tt.status)
			}
			if e.RetryAfter != 7*time.Second && tt.flow == "0429" {
				t.Errorf("Retry-After: 7 became %v", e.RetryAfter)
			}
			if s.Requests() != 1 || s.Sessions() != tt.started {
				t.Errorf("%d requests and %d sessions, want 1 and %d", s.Requests(), s.Sessions(), tt.started)
			}
			if strings.Contains(err.Error(), incodetest.Key) {
				t.Error("the error holds the key")
			}
		})
	}
}

func TestFailureOnAReusedConnectionIsNotReplayed(t *testing.T) {
	for _, flow := range []string{"00000000000000000000dead", "000000000000000000000c07"} {
		s, _, c := standIn(t)
		if _, err := c.Start(t.Context(), key, StartRequest{ConfigurationID: incodetest.FlowID}); err != nil {
			t.Fatal(err)
		}
		_, err := c.Start(t.Context(), key, StartRequest{ConfigurationID: flow})
		if e := failure(t, err); e.Outcome != Unknown || s.Requests() != 2 {
			t.Errorf("%s: outcome %q, %d requests in all, want Unknown and 2", flow, e.Outcome, s.Requests())
		}
	}
}

func TestNoAnswerInTime(t *testing.T) {
	s, _, c := standIn(t)
	if err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := c.Start(ctx, key, StartRequest{ConfigurationID: "000000000000000000000408"})
	if e := failure(t, err); e.Outcome != TimedOut || s.Requests() != 1 {
		t.Errorf("got %v after %d requests, want TimedOut after 1", e, s.Requests())
	}
}

func TestSwitchingProtocolsEndsTheCall(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "anything")
		w.WriteHeader(http.StatusSwitchingProtocols) // and the connection stays open
	}))
	t.Cleanup(server.Close)
	_, err := clientOf(t, server).Start(t.Context(), key, StartRequest{})
	if e := failure(t, err); e.Outcome != InvalidReply || e.Status != 101 {
		t.Errorf("got %v", e)
	}
}

func TestReplyWithoutEndIsCutOff(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := io.WriteString(w, strings.Repeat(" ", 1<<10)); err != nil {
				return // the client has had enough
			}
		}
	}))
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := clientOf(t, server).Start(ctx, key, StartRequest{})
	if e := failure(t, err); e.Outcome != InvalidReply {
		t.Errorf("got %v", e)
	}
}

func TestCompressedReplyIsInvalid(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "" {
			t.Error("asks for compression")
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, `{"token":"x"}`)
		_ = z.Close()
	}))
	t.Cleanup(server.Close)
	_, err := clientOf(t, server).Start(t.Context(), key, StartRequest{})
	if e := failure(t, err); e.Outcome != InvalidReply {
		t.Errorf("got %v", e)
	}
}

// rawServer answers every connection's first request with bytes of its own and
// closes the connection.
func rawServer(t *testing.T, reply string) *Client {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			req, err := http.ReadRequest(bufio.NewReader(c))
			if err == nil {
				_, _ = io.Copy(io.Discard, req.Body)
				_, _ = io.WriteString(c, reply)
			}
			c.Close()
		}
	}()
	return New(parsed(t, "http://"+l.Addr().String()))
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestRepliesThatAreBrokenHTTP(t *testing.T) {
	tests := []struct {
		name, reply string
		want        Outcome
	}{
		{"status line", "eyJcanary\r\n\r\n", Unknown},
		{"header line", "HTTP/1.1 200 OK\r\neyJcanary\r\n\r\n", Unknown},
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: eyJcanary\r\n\r\n", Unknown},
		{"transfer encoding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: eyJcanary\r\n\r\n", Unknown},
		{"chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\neyJcanary\r\n", Unknown},
		{"redirect that leads nowhere", "HTTP/1.1 302 Found\r\nLocation: https://x/%zz?token=eyJcanary\r\nContent-Length: 0\r\n\r\n", InvalidReply},
		{"refusal, cut off", "HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\n{}", Unauthorized},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := rawServer(t, tt.reply).Start(t.Context(), key, StartRequest{})
			if e := failure(t, err); e.Outcome != tt.want {
				t.Errorf("got %v", e)
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("the error quotes the reply: %v", err)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	const noToken, noObject, tooLong = "the reply has no usable token", "the reply is not a JSON object", "the reply is too long"
	tests := []struct {
		name, reply string
		want        Session
		fault       string
	}{
		{"token alone", `{"token":"t"}`, Session{Token: "t"}, ""},
		{"unknown fields of any kind", `{"token":"t","x":{"y":[1]},"z":null}`, Session{Token: "t"}, ""},
		{"interview ID of another type", `{"token":"t","interviewId":7}`, Session{Token: "t"}, ""},
		{"interview ID unfit for a log", `{"token":"t","interviewId":"a\nb"}`, Session{Token: "t"}, ""},
		{"interview ID", `{"token":"t","interviewId":"6a1"}`, Session{"t", "6a1"}, ""},
		{"token in another case", `{"Token":"t"}`, Session{}, noToken},
		{"token of another type", `{"token":7}`, Session{}, noToken},
		{"a session started in vain", `{"token":"","interviewId":"6a1"}`, Session{InterviewID: "6a1"}, noToken},
		{"token with a C1 control", `{"token":"a\u0085"}`, Session{}, noToken},
		{"token with half a surrogate", `{"token":"a\ud83d"}`, Session{}, noToken},
		{"token with broken UTF-8", "{\"token\":\"a\xff\"}", Session{}, noToken},
		{"token at both ends of visible ASCII", `{"token":"!~"}`, Session{Token: "!~"}, ""},
		{"token with DEL", `{"token":"a\u007f"}`, Session{}, noToken},
		{"token with a space", `{"token":"a b"}`, Session{}, noToken},
		{"null", `null`, Session{}, noToken},
		{"array", `[]`, Session{}, noObject},
		{"empty", ``, Session{}, noObject},
		{"two objects", `{"token":"t"}{}`, Session{}, noObject},
		{"just over the limit", `{"token":"t"}` + strings.Repeat(" ", maxReply), Session{}, tooLong},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decode([]byte(tt.reply))
			fault := ""
			if err != nil {
				fault = failure(t, err).Err.Error()
			}
			if got != tt.want || fault != tt.fault {
				t.Errorf("got %+v, %q; want %+v, %q", got, fault, tt.want, tt.fault)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"":                              0,
		"7":                             7 * time.Second,
		"120":                           2 * time.Minute,
		"-7":                            0,
		"1.5":                           0,
		"soon":                          0,
		"99999999999999999999":          (1<<32 - 1) * time.Second,
		"7000000000A":                   0,
		"Mon, 23 Nov 2026 12:00:09 GMT": 9 * time.Second,
		"Mon, 23 Nov 2026 11:00:00 GMT": -time.Hour,
	} {
		if got := retryAfter(v, now); got != want {
			t.Errorf("%q: got %v, want %v", v, got, want)
		}
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	followed := make(chan string, 1)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		followed <- r.Header.Get("x-api-key")
	}))
	t.Cleanup(elsewhere.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, status))
		t.Cleanup(server.Close)
		_, err := clientOf(t, server).Start(t.Context(), key, StartRequest{})
		if e := failure(t, err); e.Outcome != InvalidReply {
			t.Errorf("%d: %v", status, e)
		}
	}
	select {
	case <-followed:
		t.Error("a redirect was followed")
	default:
	}
}
