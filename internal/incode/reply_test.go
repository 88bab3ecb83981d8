package incode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
)

const plainReply = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"token\":\"t\"}"

// TestWhichConnectionsServeOn wants a handshake saved where it can be, and no
// connection used again that has more to come or is about to end.
func TestWhichConnectionsServeOn(t *testing.T) {
	// padded is a reply with a body of n bytes whose last one matters.
	padded := func(n int) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%*s", n, n, `{"token":"t"}`)
	}
	tests := []struct {
		name, reply string
		kept        bool
		token       string
	}{
		{"a reply", plainReply, true, "t"},
		{"interim replies before it", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + plainReply, true, "t"},
		{"64 KiB", padded(64 << 10), true, "t"},
		{"64 KiB and a byte", padded(64<<10 + 1), false, ""},
		{"announced as the last", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 13\r\n\r\n{\"token\":\"t\"}", false, "t"},
		{"ended by the connection's end", "HTTP/1.1 200 OK\r\n\r\n{\"token\":\"t\"}", false, "t"},
		{"another protocol", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", false, ""},
		{"a refusal", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}", true, ""},
		{"a refusal, cut off", "HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\n{}", false, ""},
		{"no HTTP", "SSH-2.0-x\r\n", false, ""},
		{"none", "", false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			session, p, c := exchange(t, []byte(tt.reply))
			if kept := len(c.pool.idle) == 1; session.Token != tt.token || kept != tt.kept || p.closed == tt.kept {
				t.Errorf("token %q, kept: %t, closed: %t, %v", session.Token, kept, p.closed, p.err)
			}
		})
	}
}

func TestEndlessHeaderIsCutOff(t *testing.T) {
	data := []byte("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20))
	_, p, _ := exchange(t, data)
	if read := len(data) - p.reply.Len(); read != 128<<10+1 || p.err.Outcome != Unknown {
		t.Errorf("%v after %d bytes", p.err, read)
	}
}

func TestBodyIsReadToOneByteTooMany(t *testing.T) {
	p := &peer{}
	p.reply.Reset([]byte("HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat(" ", 1<<20)))
	r, _, err := connected(t, "http://incode.invalid", p).pool.pop().roundTrip(t.Context(), nil)
	if len(r.body) != 64<<10+1 || err != nil {
		t.Errorf("read %d bytes, %v", len(r.body), err)
	}
}

func TestRequestThatCannotBeWritten(t *testing.T) {
	p := &peer{broken: &net.OpError{Op: "write", Err: syscall.EPIPE}}
	p.reply.Reset([]byte(plainReply))
	c := connected(t, "http://incode.invalid", p)
	_, err := c.Start(t.Context(), key, StartRequest{})
	if e := failure(t, err); e.Outcome != Unknown || !errors.Is(e, syscall.EPIPE) || len(c.pool.idle) != 0 {
		t.Errorf("got %v, %d connections kept", e, len(c.pool.idle))
	}
}

// TestHostThatNoHeaderMayHold has a base URL that net/url reads and IDNA does not.
func TestHostThatNoHeaderMayHold(t *testing.T) {
	p := &peer{}
	_, err := connected(t, "https://xn--0.é", p).Start(t.Context(), key, StartRequest{})
	if e := failure(t, err); e.Outcome != NotSent || p.sent != 0 {
		t.Errorf("sent %d times: %v", p.sent, e)
	}
}

func TestBaseURLs(t *testing.T) {
	for url, addr := range map[string]string{
		"http://incode.example":       "incode.example:80",
		"https://incode.example":      "incode.example:443",
		"https://incode.example:8443": "incode.example:8443",
		"https://[2001:db8::1]":       "[2001:db8::1]:443",
	} {
		if c := New(parsed(t, url)); c.pool.addr != addr || c.url != url+"/omni/start" {
			t.Errorf("%s leads to %+v", url, c)
		}
	}
}

// TestErrorsTellThemselvesApart wants the operator to see in the log what an
// answer's code sums up.
func TestErrorsTellThemselvesApart(t *testing.T) {
	why := errors.New("why")
	for want, e := range map[string]*Error{
		"the request was not sent: why":             {Outcome: NotSent, Err: why},
		"Incode refused the API key (HTTP 401)":     {Outcome: Unauthorized, Status: 401},
		"Incode throttled the request (HTTP 429)":   {Outcome: Throttled, Status: 429},
		"Incode rejected the request (HTTP 400)":    {Outcome: Rejected, Status: 400},
		"Incode failed (HTTP 500)":                  {Outcome: Failed, Status: 500},
		"Incode did not answer in time":             {Outcome: TimedOut},
		"Incode's reply is invalid (HTTP 200): why": {Outcome: InvalidReply, Status: 200, Err: why},
		"the outcome is unknown: why":               {Outcome: Unknown, Err: why},
		"":                                          {}, // the zero Outcome is none
	} {
		if got := e.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestCausesThatQuoteNothing keeps the causes that help, and no other.
func TestCausesThatQuoteNothing(t *testing.T) {
	for _, cause := range []error{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, io.EOF, io.ErrUnexpectedEOF, context.Canceled} {
		if e := broken(fmt.Errorf("reading: %w", cause)); e.Outcome != Unknown || !errors.Is(e, cause) {
			t.Errorf("%v became %v", cause, e)
		}
	}
	if e := broken(errors.New("canary")); e.Outcome != Unknown || strings.Contains(e.Error(), "canary") {
		t.Errorf("got %v", e)
	}
}

func TestInterviewIDsFitForALog(t *testing.T) {
	const fit = "-_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	for r := range rune(256) {
		if isID(string(r)) != strings.ContainsRune(fit, r) {
			t.Errorf("%q is fit: %t", r, isID(string(r)))
		}
	}
	if !isID(fit) || isID(fit+"x") {
		t.Error("64 characters are the limit")
	}
}

// TestCallerThatStopsWaiting wants the context's own error, and a cancellation
// told apart from a deadline.
func TestCallerThatStopsWaiting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	c := clientOf(t, server)
	_, err := c.Start(ctx, key, StartRequest{})
	if e := failure(t, err); e.Outcome != Unknown || !errors.Is(e, context.Canceled) || len(c.pool.idle) != 0 {
		t.Errorf("got %v", e)
	}
}
