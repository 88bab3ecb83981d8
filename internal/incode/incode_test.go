package incode

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"omnistart/internal/problem"
	"omnistart/internal/tooling/incodetest"
	"omnistart/internal/tooling/leaktest"
)

func TestRequestIsTheDocumentedOne(t *testing.T) {
	incode := incodetest.New()
	_, c := serve(t, incode)
	session, err := c.Start(withDeadline(t), key, map[string]any{
		"configurationId": incodetest.FlowID, "externalCustomerId": "customer-42", "countryCode": "ALL",
		"redirectionUrl": "https://app.example.com/done", "customFields": map[string]any{"plan": "<gold>"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if tokens := incode.SessionsOf("customer-42"); !slices.Contains(tokens, session.Token) {
		t.Errorf("token %q, want one of %q", session.Token, tokens)
	}
	if len(session.InterviewID) != 24 || session.Status != 200 {
		t.Errorf("got %v, HTTP %d", session, session.Status)
	}
	last := incode.Last()
	if custom, _ := last.Fields["customFields"].(map[string]any); len(last.Fields) != 5 || custom["plan"] != "<gold>" {
		t.Errorf("Incode received %v", last.Fields)
	}
	headers := map[string]string{
		"Accept": "application/json", "Accept-Encoding": "identity", "Content-Type": "application/json",
		"Api-Version": "1.0", "X-Api-Key": incodetest.Key, "Content-Length": last.Header.Get("Content-Length"),
	}
	for name := range last.Header {
		if want, ok := headers[name]; !ok || last.Header.Get(name) != want {
			t.Errorf("Incode received %s: %s", name, last.Header.Get(name))
		}
	}
	if len(last.Header) != len(headers) {
		t.Errorf("Incode received %d headers, want %d", len(last.Header), len(headers))
	}
}

func TestHostHeaderHasThePort(t *testing.T) {
	hosts := make(chan string, 1)
	server, c := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { hosts <- r.Host }))
	_, _ = c.Start(withDeadline(t), key, fields)
	if host := <-hosts; "https://"+host != server.URL {
		t.Errorf("Host: %s", host)
	}
}

func TestConcurrentRequestsReceiveTheirOwnSessions(t *testing.T) {
	incode := incodetest.New()
	server := httptest.NewServer(incode) // without TLS: so many handshakes can exceed network.ConnectTimeout
	t.Cleanup(server.Close)
	c := newClient(t, server.URL)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			customer := fmt.Sprint("customer-", i)
			s, err := c.Start(withDeadline(t), key,
				map[string]any{"configurationId": incodetest.FlowID, "externalCustomerId": customer})
			if err != nil || !slices.Contains(incode.SessionsOf(customer), s.Token) {
				t.Errorf("got %v, %v", s, err)
			}
		})
	}
	wg.Wait()
	if incode.Sessions() != 50 {
		t.Errorf("%d sessions for 50 requests", incode.Sessions())
	}
}

func TestTokenIsNeverShown(t *testing.T) {
	s := Session{Token: "canary-token", InterviewID: "6a1"}
	for _, v := range []any{s, &s, []Session{s}, struct{ S Session }{s}, map[Session]Session{s: s}} {
		leaktest.Check(t, v, "canary")
	}
	if got := fmt.Sprintf("%v %d", s, s); got != "[session 6a1] [session 6a1]" {
		t.Errorf("got %s", got)
	}
}

// failure checks the error and the session of a call that failed, and returns the text after the problem's title.
func failure(t *testing.T, s Session, err error, want *problem.Problem) string {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
	if s.Token != "" {
		t.Error("a token beside an error")
	}
	if strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), incodetest.Key) {
		t.Errorf("the error quotes the response or the key: %v", err)
	}
	return strings.TrimPrefix(err.Error(), want.Title+": ")
}

func TestStatusDeterminesTheProblem(t *testing.T) {
	for want, statuses := range map[*problem.Problem][]int{
		problem.IncodeUnauthorized:    {401},
		problem.IncodeForbidden:       {403},
		problem.IncodeThrottled:       {429},
		problem.IncodeTimeout:         {408, 504},
		problem.IncodeRejected:        {400, 404, 407, 409, 499},
		problem.IncodeFailed:          {500, 501, 503, 505, 599},
		problem.IncodeInvalidResponse: {0, 99, 101, 201, 204, 299, 301, 307, 399, 600, 999},
	} {
		for _, status := range statuses {
			// The client follows no redirect, so it does not read Location.
			text := fmt.Sprintf("HTTP/1.1 %03d X\r\nLocation: https://x/%%zz?token=canary\r\nRetry-After: 7\r\n"+
				"Content-Length: 0\r\n\r\n", status)
			s, m, _, err := exchange(t, text)
			if cause := failure(t, s, err, want); cause != fmt.Sprint("HTTP ", status) {
				t.Errorf("%d: cause %q", status, cause)
			}
			if s.Status != status || s.RetryAfter != 7*time.Second || m.requests != 1 {
				t.Errorf("%d: status %d, Retry-After %v, %d requests", status, s.Status, s.RetryAfter, m.requests)
			}
		}
	}
}

func TestForbiddenConcernsTheKeyOnlyWithAJSONObject(t *testing.T) {
	for want, bodies := range map[*problem.Problem][]string{
		problem.IncodeUnauthorized: {`{}`, ` {"status":403,"message":"canary"}`},
		problem.IncodeForbidden: {"", "<html>canary</html>", "canary", "null", "[{}]", `"{}"`, "7", "{}{}",
			`{"status":403,`, "\ufeff{}"},
		problem.IncodeInvalidResponse: {`<html>{"token":"canary"}</html>`},
	} {
		for _, body := range bodies {
			s, m, _, err := exchange(t, response(403, body))
			if cause := failure(t, s, err, want); cause != "HTTP 403" || s.Status != 403 || m.requests != 1 {
				t.Errorf("%q: cause %q, status %d, %d requests", body, cause, s.Status, m.requests)
			}
		}
	}
}

func TestErrorResponseThatContainsASessionIsInvalid(t *testing.T) {
	tests := []struct {
		body        string
		valid       bool // a refusal without a session
		interviewID string
	}{
		{body: `{"token":"canary"}`},
		{body: `{"token":"canary","interviewId":"6a1"}`, interviewID: "6a1"},
		{body: `{"message":"x","interviewId" : "6a1"}`, interviewID: "6a1"},
		{body: "{\"interviewId\":\n\"6a1\",", interviewID: ""}, // broken JSON
		{body: `{"session":{"token":"canary"}}`},
		{body: `{"token":7}`},
		{body: `{"interviewId":["6a1"]}`},
		{body: `{}`, valid: true},
		{body: `{"message":"token"}`, valid: true},
		{body: `{"token":null,"interviewId" :  null}`, valid: true},
		{body: `{"token":"","interviewId":""}`, valid: true},
	}
	for _, tt := range tests {
		want := problem.IncodeInvalidResponse
		if tt.valid {
			want = problem.IncodeUnauthorized
		}
		cut := strings.Replace(response(403, tt.body), "Content-Length: ", "Content-Length: 9", 1)
		for name, text := range map[string]string{"complete": response(403, tt.body), "incomplete": cut} {
			t.Run(tt.body+" "+name, func(t *testing.T) {
				s, _, _, err := exchange(t, text)
				if cause := failure(t, s, err, want); cause != "HTTP 403" || s.InterviewID != tt.interviewID || s.Status != 403 {
					t.Errorf("got %+v, HTTP %d, %v", s, s.Status, err)
				}
			})
		}
	}
}

func TestOutcomeIsUnknownWithoutACompleteResponse(t *testing.T) {
	const unparseable = "the server sent something that cannot be parsed"
	tests := []struct{ name, response, cause string }{
		{"no response", "", "unexpected EOF"},
		{"no end of the header", "HTTP/1.1 200 OK\r\nX: canary", "unexpected EOF"},
		{"no end of the body", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"token\":\"canary\"}", "unexpected EOF"},
		{"no final response", "HTTP/1.1 100 Continue\r\n\r\n", "unexpected EOF"},
		{"another protocol", "SSH-2.0-canary\r\n", unparseable},
		{"broken status line", "canary\r\n\r\n", unparseable},
		{"broken header line", "HTTP/1.1 200 OK\r\ncanary\r\n\r\n", unparseable},
		{"broken length", "HTTP/1.1 200 OK\r\nContent-Length: canary\r\n\r\n", unparseable},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", unparseable},
		{"unknown encoding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: canary\r\n\r\n", unparseable},
		{"broken chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ncanary\r\n", unparseable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, m, c, err := exchange(t, tt.response)
			if cause := failure(t, s, err, problem.OutcomeUnknown); cause != tt.cause {
				t.Errorf("cause %q, want %q", cause, tt.cause)
			}
			if m.requests != 1 || !m.closed || len(c.idle) != 0 {
				t.Errorf("%d requests, connection closed: %t", m.requests, m.closed)
			}
		})
	}
	t.Run("write error", func(t *testing.T) {
		m := &memoryConn{writeErr: &net.OpError{Op: "write", Err: syscall.EPIPE}}
		s, err := connected(t, m).Start(withDeadline(t), key, fields)
		if failure(t, s, err, problem.OutcomeUnknown); !errors.Is(err, syscall.EPIPE) || m.requests != 1 || !m.closed {
			t.Errorf("%v, %d requests, connection closed: %t", err, m.requests, m.closed)
		}
	})
}

func TestResponseIsReadUpToALimit(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	tests := []struct {
		name, response string
		want           *problem.Problem
		read           int // bytes, of which the client may have buffered 4 KiB
	}{
		{"header", "HTTP/1.1 200 OK\r\nX: " + long, problem.OutcomeUnknown, 128<<10 + 1},
		{"body", "HTTP/1.1 200 OK\r\n\r\n" + long, problem.IncodeInvalidResponse, 64<<10 + 4<<10},
		{"interim responses", strings.Repeat("HTTP/1.1 100 X\r\n\r\n", 1<<16), problem.OutcomeUnknown, 128<<10 + 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, m, _, err := exchange(t, tt.response)
			failure(t, s, err, tt.want)
			if read := len(tt.response) - m.response.Len(); read > tt.read {
				t.Errorf("%d bytes read, want at most %d", read, tt.read)
			}
		})
	}
}

func TestWaitEndsAtTheDeadline(t *testing.T) {
	readRequest := func(server net.Conn) { _, _ = http.ReadRequest(bufio.NewReader(server)) }
	for name, serve := range map[string]func(net.Conn){
		"the server does not read": func(net.Conn) {},
		"no response":              readRequest,
		"half a response": func(server net.Conn) {
			readRequest(server)
			_, _ = io.WriteString(server, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"token\":\"canary\"}")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // the clock moves only while every goroutine waits
				client, server := net.Pipe()
				defer server.Close()
				go serve(server)
				c := connected(t, pipeConn{client})
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				s, err := c.Start(ctx, key, fields)
				failure(t, s, err, problem.IncodeTimeout)
				if waited := time.Since(start); waited != 10*time.Second || len(c.idle) != 0 {
					t.Errorf("waited %v, %d idle connections", waited, len(c.idle))
				}
			})
		})
	}
}

// pipeConn is one end of a net.Pipe, on which nothing has arrived yet.
type pipeConn struct{ net.Conn }

func (pipeConn) SyscallConn() (syscall.RawConn, error) { return memorySocket{conn: &memoryConn{}}, nil }

func TestNothingIsSentWithTooLittleTimeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memoryConn{}
		m.response.Reset([]byte(response(200, `{"token":"t"}`)))
		c := connected(t, m)
		for _, left := range []time.Duration{-time.Second, 0, 100*time.Millisecond - 1} {
			ctx, cancel := context.WithTimeout(t.Context(), left)
			s, err := c.Start(ctx, key, fields)
			cancel()
			cause := failure(t, s, err, problem.IncodeUnavailable)
			if cause != "too little time is left for a response" || m.requests != 0 || len(c.idle) != 1 {
				t.Errorf("%v left: %v, %d requests, %d idle connections", left, err, m.requests, len(c.idle))
			}
		}
		s, err := c.Start(t.Context(), key, fields)
		if failure(t, s, err, problem.IncodeUnavailable); m.requests != 0 {
			t.Errorf("without a deadline: %d requests", m.requests)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if s, err := c.Start(ctx, key, fields); err != nil || s.Token != "t" {
			t.Errorf("100 ms left: %v, %v", s, err)
		}
	})
}

func TestTokenIsReadFromTheBody(t *testing.T) {
	const noToken, noObject = "the response has no usable token", "the response is not a JSON object"
	tests := []struct {
		name, body, token, interviewID, cause string
	}{
		{"token alone", `{"token":"t"}`, "t", "", ""},
		{"token and interview ID", `{"token":"t","interviewId":"6a1"}`, "t", "6a1", ""},
		{"unknown members of any type", `{"token":"t","x":{"y":[1]},"z":null}`, "t", "", ""},
		{"number beyond every type", `{"n":1e999,"token":"t"}`, "t", "", ""},
		{"interview ID of another type", `{"token":"t","interviewId":7}`, "t", "", ""},
		{"interview ID with a line feed", `{"token":"t","interviewId":"a\nb"}`, "t", "", ""},
		{"two tokens", `{"token":"a","token":"t"}`, "t", "", ""},
		{"first and last visible character", `{"token":"!~"}`, "!~", "", ""},
		{"64 KiB", `{"token":"t"}` + strings.Repeat(" ", maxBody-13), "t", "", ""},
		{"64 KiB and a byte", `{"token":"t","interviewId":"6a1"}` + strings.Repeat(" ", maxBody-32), "", "6a1",
			"the response is too long"},
		{"no token", `{"interviewId":"6a1"}`, "", "6a1", noToken},
		{"empty token", `{"token":"","interviewId":"6a1"}`, "", "6a1", noToken},
		{"token in another case", `{"Token":"t"}`, "", "", noToken},
		{"token of another type", `{"token":7}`, "", "", noToken},
		{"token with a space", `{"token":"a b"}`, "", "", noToken},
		{"token with DEL", `{"token":"a\u007f"}`, "", "", noToken},
		{"token with a C1 control", `{"token":"a\u0085"}`, "", "", noToken},
		{"token with a lone surrogate", `{"token":"a\ud83d"}`, "", "", noToken},
		{"token with broken UTF-8", "{\"token\":\"a\xff\"}", "", "", noToken},
		{"empty body", ``, "", "", noObject},
		{"null", `null`, "", "", noObject},
		{"array", `[{"token":"t"}]`, "", "", noObject},
		{"two objects", `{"token":"t"}{}`, "", "", noObject},
		{"HTML", `<title>canary</title>`, "", "", noObject},
		{"compressed", "\x1f\x8b\x08\x00canary", "", "", noObject}, // the request accepts no encoding
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, _, _, err := exchange(t, response(200, tt.body))
			if s.Token != tt.token || s.InterviewID != tt.interviewID {
				t.Errorf("token %q, interview ID %q", s.Token, s.InterviewID)
			}
			if tt.cause == "" {
				if err != nil {
					t.Error(err)
				}
			} else if cause := failure(t, s, err, problem.IncodeInvalidResponse); cause != tt.cause || s.Status != 200 {
				t.Errorf("HTTP %d, cause %q", s.Status, cause)
			}
		})
	}
}

func TestInterviewIDIsSafeToLog(t *testing.T) {
	const allowed = "-_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	accepts := func(id string) bool {
		s, _ := decode(Session{}, fmt.Appendf(nil, `{"interviewId":%q}`, id))
		return s.InterviewID != "" && s.InterviewID == id
	}
	for r := range rune(128) {
		if accepts(string(r)) != strings.ContainsRune(allowed, r) {
			t.Errorf("%q is accepted: %t", r, accepts(string(r)))
		}
	}
	if !accepts(allowed) || accepts(allowed+"x") || accepts("é") || accepts("") {
		t.Error("an ID has 1 to 64 ASCII characters")
	}
}
