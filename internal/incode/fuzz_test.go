package incode

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/big"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	visible     = regexp.MustCompile(`^[!-~]+$`)
	interviewID = regexp.MustCompile(`^[0-9A-Za-z_-]{0,64}$`)
)

// FuzzDecode wants the token of every reply that has a usable one, and of no
// other.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"token":"t","interviewId":"6a1"}`, `{"token":"\ud83d"}`, `{"token":"a","token":"b"}`, `{"Token":"a"}`, `{"token":null}`,
		`{"token":"a\r\nx: y"}`, `{"token":"","interviewId":"6a1"}`, `{"token":"t","interviewId":"a b"}`, `[{"token":"t"}]`, `{"token":"t"}{}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		got, err := decode(reply)
		var fields map[string]any
		valid := len(reply) <= maxReply && json.Unmarshal(reply, &fields) == nil
		token, _ := fields["token"].(string)
		if usable := valid && visible.MatchString(token); usable != (err == nil) || usable && got.Token != token || !usable && got.Token != "" {
			t.Fatalf("got %+v, %v", got, err)
		}
		id, _ := fields["interviewId"].(string)
		if !valid || !interviewID.MatchString(id) {
			id = ""
		}
		if got.InterviewID != id {
			t.Fatalf("got interview ID %q, want %q", got.InterviewID, id)
		}
	})
}

// FuzzReply sends a request to a peer that answers with any bytes and closes.
func FuzzReply(f *testing.F) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"token\":\"t\"}"
	for _, s := range []string{
		ok, ok + "x", ok + ok, "HTTP/1.1 100 \r\n\r\nHTTP/1.1 103 \r\nLink: x\r\n\r\n" + ok, "HTTP/1.0 200 OK\r\n\r\n{\"token\":\"t\"} \n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nd\r\n{\"token\":\"t\"}\r\n0\r\nA: b\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n5;x=y\r\n{\"tok\r\n8\r\nen\":\"t\"}\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 99\r\n\r\n{\"token\":\"t\"}", "HTTP/1.1 200 OK\r\nContent-Length: 13\r\nContent-Length: 14\r\n\r\n{\"token\":\"t\"}",
		"HTTP/1.1 429 \r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 204 No\r\n\r\nx", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
		"HTTP/1.1 302 Found\r\nLocation: https://x/%zz\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 000 \r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n{\"token\":\"t\"}",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 5000) + "\r\n\r\n{\"token\":\"t\"}", "\x15\x03\x03\x00\x02\x02\x28", "",
	} {
		f.Add([]byte(s), uint16(len(s)/2))
	}
	// Of the reply, an error tells the status and nothing else.
	told := regexp.MustCompile(`^(Incode|the outcome)[ 'a-zA-Z]*( \(HTTP [0-9]{1,3}\))?(: (EOF|unexpected EOF|the peer sent what cannot be read|` +
		`the reply (is too long|is not a JSON object|has no usable token)))?$`)
	f.Fuzz(func(t *testing.T, data []byte, cut uint16) {
		session, p, c := exchange(t, data)
		if p.sent != 1 {
			t.Fatalf("sent %d times", p.sent)
		}
		if read := len(data) - p.reply.Len(); read > maxHeader+maxReply+1 {
			t.Fatalf("read %d bytes", read)
		}
		if e := p.err; e != nil && (e.Outcome == NotSent || session.Token != "" || !told.MatchString(e.Error())) {
			t.Fatalf("outcome %q, token %q: %v", e.Outcome, session.Token, e)
		}
		if want := patientToken(data); session.Token != "" && session.Token != want {
			t.Fatalf("got token %q; without bounds it is %q", session.Token, want)
		}
		// A connection that serves on has nothing left for the next request.
		kept := len(c.pool.idle) == 1
		if kept == p.closed || kept && c.pool.idle[0].quiet() && p.reply.Len() > 0 {
			t.Fatalf("kept: %t, closed: %t, unread: %d", kept, p.closed, p.reply.Len())
		}
		if kept && len(afterReply(data)) > 0 {
			t.Fatalf("kept with %q in it", afterReply(data))
		}
		// A reply that is cut off never has another token.
		if part, _, _ := exchange(t, data[:min(int(cut), len(data))]); part.Token != "" && session.Token != "" && part.Token != session.Token {
			t.Fatalf("token %q after %d bytes, %q after all", part.Token, cut, session.Token)
		}
	})
}

// exchange starts a session over a connection that answers with data.
func exchange(t *testing.T, data []byte) (Session, *peer, *Client) {
	t.Helper()
	p := &peer{}
	p.reply.Reset(data)
	c := connected(t, "http://incode.invalid", p)
	session, err := c.Start(t.Context(), key, StartRequest{})
	if err != nil {
		p.err = failure(t, err)
	}
	return session, p, c
}

// connected returns a client that has a connection to the peer.
func connected(t *testing.T, baseURL string, p *peer) *Client {
	t.Helper()
	c := New(parsed(t, baseURL))
	w := &wire{Conn: p, raw: socket{peer: p}}
	c.pool.put(&conn{Conn: w, wire: w, used: time.Now()})
	return c
}

// peer is the other end of a connection, and the connection. Its reply arrives
// once it has been sent a request.
type peer struct {
	net.Conn
	reply  bytes.Reader
	sent   int
	broken error // what a write meets
	closed bool
	err    *Error // of the session that it was asked for
}

func (p *peer) Write(b []byte) (int, error) { p.sent++; return len(b), p.broken }
func (p *peer) Read(b []byte) (int, error)  { return p.reply.Read(b) }
func (p *peer) Close() error                { p.closed = true; return nil }
func (p *peer) SetDeadline(time.Time) error { return nil }

// socket is what the kernel has of a peer.
type socket struct {
	syscall.RawConn
	peer *peer
}

func (s socket) Read(func(uintptr) bool) error {
	if s.peer.sent > 0 && s.peer.reply.Len() > 0 {
		return errors.New("something has arrived")
	}
	return os.ErrDeadlineExceeded
}

// afterReply returns what follows the first final reply.
func afterReply(data []byte) []byte {
	r := bufio.NewReader(bytes.NewReader(data))
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return nil
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode/100 != 1 {
			rest, _ := io.ReadAll(r)
			return rest
		}
	}
}

// patientToken returns the token of a well-formed reply as net/http alone reads
// it, or "".
func patientToken(data []byte) string {
	r := bufio.NewReader(bytes.NewReader(data))
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return ""
		}
		if resp.StatusCode/100 == 1 && resp.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		var fields map[string]any
		if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(body, &fields) != nil {
			return ""
		}
		token, _ := fields["token"].(string)
		return token
	}
}

// FuzzRetryAfter reads seconds of any length, and dates in the three formats of
// RFC 9110, 5.6.7. Nothing else is a wish.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "0", "7", "-7", "+7", "1.5", "1e3", "0x7", "7 ", "007", "4294967295", "4294967296", "99999999999999999999", "7000000000A", "soon",
		"Mon, 23 Nov 2026 12:00:09 GMT", "Monday, 23-Nov-26 12:00:09 GMT", "Mon Nov 23 12:00:09 2026", "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT"} {
		f.Add(s)
	}
	digits := regexp.MustCompile(`^[0-9]+$`)
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, v string) {
		var want time.Duration
		if digits.MatchString(v) {
			n, _ := new(big.Int).SetString(v, 10)
			if !n.IsInt64() || n.Int64() > math.MaxUint32 {
				n.SetInt64(math.MaxUint32)
			}
			want = time.Duration(n.Int64()) * time.Second
		} else {
			for _, layout := range []string{http.TimeFormat, time.RFC850, time.ANSIC} {
				if at, err := time.Parse(layout, v); err == nil {
					want = at.Sub(now)
					break
				}
			}
		}
		if got := retryAfter(v, now); got != want {
			t.Errorf("%q: got %v, want %v", v, got, want)
		}
	})
}
