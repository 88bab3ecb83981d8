package incode

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/big"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"omnistart/internal/problem"
)

// FuzzDecode compares decode with a plain reading of the two members.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"token":"t","interviewId":"6a1"}`, `{"token":"\ud83d"}`, `{"token":"a","token":"b"}`, `{"Token":"a"}`,
		`{"token":null}`, `{"token":"a\r\nx: y"}`, `{"token":"","interviewId":"6a1"}`, `{"token":"t","interviewId":"a b"}`,
		`[{"token":"t"}]`, `{"token":"t"}{}`, `{"token":"t","n":1e999}`, `null`,
	} {
		f.Add([]byte(s))
	}
	visible, id := regexp.MustCompile(`^[!-~]+$`), regexp.MustCompile(`^[0-9A-Za-z_-]{1,64}$`)
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := decode(Session{}, body)
		token := member(body, "token")
		if len(body) > maxBody || !visible.MatchString(token) {
			token = ""
		}
		if s.Token != token || (err == nil) != (token != "") || err != nil && !errors.Is(err, problem.IncodeInvalidResponse) {
			t.Fatalf("got token %q, %v; want %q", s.Token, err, token)
		}
		interviewID := member(body, "interviewId")
		if !id.MatchString(interviewID) {
			interviewID = ""
		}
		if s.InterviewID != interviewID {
			t.Fatalf("got interview ID %q, want %q", s.InterviewID, interviewID)
		}
	})
}

// member returns a string of a JSON object, or "" if there is none.
func member(object []byte, name string) (value string) {
	var members map[string]json.RawMessage
	_ = json.Unmarshal(object, &members)
	_ = json.Unmarshal(members[name], &value)
	return value
}

// FuzzResponse sends a request to a server that sends any bytes and closes the connection.
func FuzzResponse(f *testing.F) {
	const body, ok = `{"token":"t"}`, "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"token\":\"t\"}"
	for _, s := range []string{
		ok, ok + "x", ok + ok, "HTTP/1.1 100 \r\n\r\nHTTP/1.1 103 \r\nLink: x\r\n\r\n" + ok, "HTTP/1.0 200 OK\r\n\r\n" + body,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nd\r\n" + body + "\r\n0\r\nA: b\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n" +
			"5;x=y\r\n{\"tok\r\n8\r\nen\":\"t\"}\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 99\r\n\r\n" + body,
		"HTTP/1.1 200 OK\r\nContent-Length: 13\r\nContent-Length: 14\r\n\r\n" + body,
		"HTTP/1.1 429 \r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 204 No\r\n\r\nx",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "HTTP/1.1 000 \r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n" + body,
		"HTTP/1.1 302 Found\r\nLocation: https://x/%zz\r\nContent-Length: 0\r\n\r\n", "\x15\x03\x03\x00\x02\x02\x28", "",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 5000) + "\r\n\r\n" + body,
	} {
		f.Add([]byte(s), uint16(len(s)/2))
	}
	// All that an error may say.
	reason := regexp.MustCompile(`^(Incode|Invalid|Outcome)[ A-Za-z]*: (HTTP [0-9]{1,3}|EOF|unexpected EOF|the server ` +
		`sent something that cannot be parsed|the response (is too long|is not a JSON object|has no usable token))$`)
	f.Fuzz(func(t *testing.T, data []byte, cut uint16) {
		s, m, c, err := exchange(t, string(data))
		if m.requests != 1 {
			t.Fatalf("%d requests", m.requests)
		}
		if read := len(data) - m.response.Len(); read > maxHeader+maxBody+1 {
			t.Fatalf("%d bytes read", read)
		}
		if (err == nil) != (s.Token != "") || errors.Is(err, problem.IncodeUnavailable) ||
			err != nil && !reason.MatchString(err.Error()) {
			t.Fatalf("token %q, %v", s.Token, err)
		}
		token, rest := readAll(data)
		if s.Token != "" && s.Token != token {
			t.Fatalf("got token %q, want %q", s.Token, token)
		}
		idle := len(c.idle) == 1
		if idle == m.closed {
			t.Fatalf("idle: %t, closed: %t", idle, m.closed)
		}
		if idle && m.response.Len() != rest { // a lost byte would hide an unsolicited response
			t.Fatalf("%d bytes after the response, of which %d can be read", rest, m.response.Len())
		}
		part, _, _, _ := exchange(t, string(data[:min(int(cut), len(data))]))
		if part.Token != "" && s.Token != "" && part.Token != s.Token {
			t.Fatalf("token %q after %d bytes, but %q in the end", part.Token, cut, s.Token)
		}
	})
}

// readAll reads the response as net/http does, without limits. It returns the token of a valid one, and the number of
// bytes after the response.
func readAll(data []byte) (token string, rest int) {
	in := bufio.NewReader(bytes.NewReader(data))
	for {
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			return "", 0
		}
		if r.StatusCode/100 == 1 && r.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		body, err := io.ReadAll(r.Body)
		after, _ := io.Copy(io.Discard, in)
		if err == nil && r.StatusCode == http.StatusOK {
			token = member(body, "token")
		}
		return token, int(after)
	}
}

// FuzzRetryAfter allows seconds of any length, and dates in the three formats of RFC 9110, section 5.6.7.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{
		"", "0", "7", "-7", "+7", "1.5", "1e3", "0x7", "7 ", "007", "4294967295", "4294967296", "99999999999999999999",
		"7000000000A", "soon", "Mon, 23 Nov 2026 12:00:09 GMT", "Monday, 23-Nov-26 12:00:09 GMT", "Mon Nov 23 12:00:09 2026",
		"Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT",
	} {
		f.Add(s)
	}
	digits := regexp.MustCompile(`^[0-9]+$`)
	f.Fuzz(func(t *testing.T, value string) {
		before := time.Now()
		got := retryAfter(value)
		after := time.Now()
		if digits.MatchString(value) {
			seconds, _ := new(big.Int).SetString(value, 10)
			if !seconds.IsInt64() || seconds.Int64() > math.MaxUint32 {
				seconds.SetInt64(math.MaxUint32)
			}
			if want := time.Duration(seconds.Int64()) * time.Second; got != want {
				t.Errorf("%q: got %v, want %v", value, got, want)
			}
			return
		}
		var date time.Time
		for _, layout := range []string{http.TimeFormat, time.RFC850, time.ANSIC} {
			if d, err := time.Parse(layout, value); err == nil {
				date = d
				break
			}
		}
		if got > date.Sub(before) || got < date.Sub(after) {
			t.Errorf("%q: got %v, want between %v and %v", value, got, date.Sub(after), date.Sub(before))
		}
	})
}
