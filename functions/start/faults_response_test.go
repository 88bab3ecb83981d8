//go:build unix

package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// responseFaults are responses of Incode, or of a proxy in front of it.
func responseFaults(t *testing.T, m *matrix) {
	elsewhere, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	go func() {
		for {
			c, err := elsewhere.Accept()
			if err != nil {
				return
			}
			c.Close()
			t.Error("the function followed a redirect")
		}
	}()

	// These rows share a process, so they run one after the other.
	h := m.harness(t)
	s := startRawServer(t, h)
	h.start(t)
	inOneProcess := func(f responseFault) row { return row{f.name, func(t *testing.T) { s.try(t, h, f) }} }
	for _, faults := range [][]responseFault{
		statusFaults(), redirectFaults(elsewhere.Addr().String()), bodyFaults(), framingFaults(),
	} {
		for _, r := range m.sample(rows(faults, inOneProcess)) {
			m.runRow(t, r)
		}
	}

	m.run(t, rows(slowFaults(), func(f responseFault) row {
		return row{f.name, func(t *testing.T) {
			h := m.harness(t)
			h.setenv("INCODE_TIMEOUT", shortTimeout)
			s := startRawServer(t, h)
			h.start(t)
			s.try(t, h, f)
		}}
	}))
}

// rows returns the row for each fault.
func rows[F any](faults []F, newRow func(F) row) []row {
	list := make([]row, len(faults))
	for i, f := range faults {
		list[i] = newRow(f)
	}
	return list
}

// open is a response after which the connection stays open.
func open(name, text string, want outcome) responseFault {
	return responseFault{name, func(_ *rawServer, c serverConn) bool { c.write(text); return true }, want}
}

// closed is a response after which the connection is closed.
func closed(name, text string, want outcome) responseFault {
	return responseFault{name, func(_ *rawServer, c serverConn) bool { c.write(text); return false }, want}
}

// statusFaults are documented and unknown statuses, with every kind of body.
func statusFaults() (faults []responseFault) {
	for _, s := range []struct {
		status string
		want   outcome
	}{
		{"400 Bad Request", rejected}, {"404 Not Found", rejected}, {"405 Method Not Allowed", rejected},
		{"407 Proxy Authentication Required", rejected}, {"409 Conflict", rejected},
		{"413 Content Too Large", rejected}, {"421 Misdirected Request", rejected}, {"422 Unprocessable", rejected},
		{"425 Too Early", rejected},
		{"401 Unauthorized", unauthorized}, {"403 Forbidden", unauthorized}, {"408 Request Timeout", timedOut},
		{"429 Too Many Requests", throttled("1")},
		{"500 Internal Server Error", incodeFailed}, {"502 Bad Gateway", incodeFailed},
		{"503 Service Unavailable", incodeFailed}, {"511 Network Authentication Required", incodeFailed},
		{"999 canary", invalidResponse},
		{"504 Gateway Timeout", timedOut},
		{"201 Created", invalidResponse}, {"202 Accepted", invalidResponse}, {"206 Partial Content", invalidResponse},
	} {
		code, noObject := s.status[:3], s.want // noObject is for a body that is no JSON object
		if code == "403" {
			noObject = forbidden
		}
		response := func(body string) string { return httpResponse(s.status, "", body) }
		faults = append(faults,
			open(code+" with JSON", response(`{"status":4009,"error":"canary","message":"eyJcanary"}`), s.want),
			open(code+" with a token", response(`{"token":"eyJcanary"}`), invalidResponse),
			open(code+" with a broken token", response(`{"token":"eyJ canary"`), invalidResponse),
			open(code+" with an empty token and ID",
				response(`{"token" : null,"interviewId":"","message":"no \"token\": canary"}`), s.want),
			open(code+" with an interview ID", response(`{"interviewId":"6a1"}`), invalidResponse),
			open(code+" with HTML", response("<title>canary</title>"), noObject),
			open(code+" without a body", response(""), noObject),
			closed(code+" with half a body", strings.TrimSuffix(response(`{"message":"canary"}`), `nary"}`), noObject),
		)
	}
	for value, seconds := range map[string]string{
		"7": "7", "0": "1", "-7": "1", "61": "60", "1e9": "1", "99999999999999999999": "60", "canary": "1",
		"Fri, 01 Jan 2100 00:00:00 GMT": "60",
	} {
		response := httpResponse("429 x", "Retry-After: "+value+"\r\n", "")
		faults = append(faults, open("429 with Retry-After "+value, response, throttled(seconds)))
	}
	return append(faults,
		open("000", httpResponse("000 canary", "", ""), invalidResponse),
		open("204", "HTTP/1.1 204 No Content\r\n\r\n", invalidResponse),
		open("304", "HTTP/1.1 304 Not Modified\r\n\r\n", invalidResponse),
		open("503 with Retry-After", httpResponse("503 x", "Retry-After: 7\r\n", ""), incodeFailed),
	)
}

func redirectFaults(elsewhere string) (faults []responseFault) {
	for _, code := range []int{300, 301, 302, 303, 307, 308} {
		for _, scheme := range []string{"http", "https"} {
			response := httpResponse(fmt.Sprint(code), "Location: "+scheme+"://"+elsewhere+"/omni/start\r\n", "")
			faults = append(faults, open(fmt.Sprintf("%d to %s", code, scheme), response, invalidResponse))
		}
	}
	return append(faults, open("302 to an invalid URL",
		httpResponse("302 Found", "Location: https://x/%zz?token=eyJcanary\r\n", ""), invalidResponse))
}

// bodyFaults are bodies of a 200. A session exists in each case.
func bodyFaults() (faults []responseFault) {
	for _, b := range []struct {
		name, body string
		want       outcome
	}{
		{"an error object", `{"timestamp":1,"status":400,"error":"canary","message":"canary"}`, invalidResponse},
		{"no token", `{"interviewId":"6a1"}`, invalidResponse},
		{"a token of null", `{"token":null}`, invalidResponse},
		{"a number as token", `{"token":7}`, invalidResponse},
		{"an object as token", `{"token":{"token":"eyJcanary"}}`, invalidResponse},
		{"an empty token", `{"token":""}`, invalidResponse},
		{"CR and LF in the token", `{"token":"eyJcanary\r\nx: y"}`, invalidResponse},
		{"a NUL in the token", `{"token":"eyJcanary\u0000"}`, invalidResponse},
		{"a lone surrogate in the token", `{"token":"eyJcanary\ud83d"}`, invalidResponse},
		{"broken UTF-8 in the token", "{\"token\":\"eyJcanary\xff\"}", invalidResponse},
		{"a space in the token", `{"token":"eyJ canary"}`, invalidResponse},
		{"two tokens", `{"token":"eyJ1","token":"eyJ2"}`, success},
		{"a token of 60 KiB", `{"token":"eyJ` + strings.Repeat("x", 60<<10) + `"}`, success},
		{"a token and an invalid interview ID", `{"token":"eyJ","interviewId":"canary\n{}"}`, success},
		{"TOKEN instead of token", `{"TOKEN":"eyJcanary"}`, invalidResponse},
		{"two objects", `{"token":"eyJcanary"}{"token":"eyJcanary"}`, invalidResponse},
		{"half an object", `{"token":"eyJcanary"`, invalidResponse},
		{"an array", `[{"token":"eyJcanary"}]`, invalidResponse},
		{"a byte order mark", "\ufeff" + `{"token":"eyJcanary"}`, invalidResponse},
		{"UTF-16", "{\x00\"\x00}\x00", invalidResponse},
		{"HTML", "<title>canary</title>", invalidResponse},
		{"a deep nest", strings.Repeat("[", 60<<10), invalidResponse},
		{"nothing", "", invalidResponse},
		{"66 KiB", `{"token":"eyJcanary"}` + strings.Repeat(" ", 66<<10), invalidResponse},
		{"8 MiB", `{"token":"eyJcanary"}` + strings.Repeat(" ", 8<<20), invalidResponse},
	} {
		text := httpResponse("200 OK", "Content-Type: application/json\r\n", b.body)
		faults = append(faults, responseFault{"200 with " + b.name, func(s *rawServer, c serverConn) bool {
			s.sessions.Add(1)
			c.write(text)
			return true
		}, b.want})
	}
	return append(faults,
		open("gzip without having been asked",
			httpResponse("200 OK", "Content-Encoding: gzip\r\n", zip(`{"token":"eyJcanary"}`)), invalidResponse),
		open("a gzip bomb", httpResponse("200 OK", "Content-Encoding: gzip\r\n",
			strings.Repeat(zip(strings.Repeat(" ", 1<<20)), 128)), invalidResponse),
	)
}

// zip compresses a text. Several results can be joined.
func zip(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, text)
	_ = z.Close()
	return b.String()
}

// framingFaults violate HTTP, or use its rarer parts.
func framingFaults() []responseFault {
	const good = `{"token":"eyJ"}`
	whole := httpResponse("200 OK", "", good)
	another := httpResponse("200 OK", "", `{"token":"eyJcanary"}`)
	chunked := func(chunks string) string { return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks }
	return []responseFault{
		open("100 before the response", "HTTP/1.1 100 Continue\r\n\r\n"+whole, success),
		open("103 before the response", "HTTP/1.1 103 Early Hints\r\nLink: </canary>\r\n\r\n"+whole, success),
		open("a dozen interim responses", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 12)+whole, success),
		endless("endless interim responses", "", "HTTP/1.1 103 Early Hints\r\nLink: </canary>\r\n\r\n", unknown),
		open("101", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: canary\r\n\r\n",
			invalidResponse),
		open("199", "HTTP/1.1 199 canary\r\n\r\n"+whole, success),
		closed("Connection: close", httpResponse("200 OK", "Connection: close\r\n", good), success),
		closed("HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n"+good, success),
		open("HTTP/1.0 with keep-alive",
			"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 15\r\n\r\n"+good, success),
		closed("HTTP/0.9", `{"token":"eyJcanary"}`, unknown),
		closed("HTTP/2", "\x00\x00\x12\x04\x00\x00\x00\x00\x00canary", unknown),
		closed("ICY", "ICY 200 OK\r\n\r\n"+good, unknown),
		closed("a status of two digits", "HTTP/1.1 20 eyJcanary\r\n\r\n", unknown),
		closed("only a status line", "HTTP/1.1 200 eyJcanary\r\n", unknown),
		closed("a header without a colon", "HTTP/1.1 200 OK\r\neyJcanary\r\n\r\n", unknown),
		closed("an empty header name", "HTTP/1.1 200 OK\r\n: eyJcanary\r\n\r\n", unknown),
		closed("a length that is not a number", "HTTP/1.1 200 OK\r\nContent-Length: eyJcanary\r\n\r\n", unknown),
		closed("a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"+good, unknown),
		closed("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 15\r\nContent-Length: 16\r\n\r\n"+good, unknown),
		closed("a length that is too great", "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n"+good, unknown),
		open("a length that is too small", "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n"+good, invalidResponse),
		closed("no length", "HTTP/1.1 200 OK\r\n\r\n"+good, success),
		open("chunks", chunked("f\r\n"+good+"\r\n0\r\n\r\n"), success),
		open("chunks and a trailer", chunked("f\r\n"+good+"\r\n0\r\nToken: canary\r\n\r\n"), success),
		closed("an incomplete chunk", chunked("f\r\n"+good), unknown),
		closed("garbage instead of a chunk", chunked("eyJcanary\r\n"), unknown),
		closed("a chunk size that is too great", chunked("fffffffffffffffff\r\n"), unknown),
		endless("an endless chunk size", chunked(""), "0", unknown),
		open("chunks and a length", strings.Replace(chunked("f\r\n"+good+"\r\n0\r\n\r\n"),
			"\r\n", "\r\nContent-Length: 3\r\n", 1), success),
		closed("an unknown transfer encoding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: eyJcanary\r\n\r\n", unknown),
		closed("too many headers", "HTTP/1.1 200 OK\r\n"+strings.Repeat("a: canary\r\n", 100_000)+"\r\n", unknown),
		closed("a header that is too long", "HTTP/1.1 200 OK\r\na: "+strings.Repeat("x", 1<<20)+"\r\n\r\n", unknown),
		endless("endless headers", "HTTP/1.1 200 OK\r\n", "a: canary\r\n", unknown),
		endless("an endless header", "HTTP/1.1 200 OK\r\na: ", "canary", unknown),
		endless("an endless body", "HTTP/1.1 200 OK\r\n\r\n", "canary", invalidResponse),
		endless("endless chunks", chunked(""), "6\r\ncanary\r\n", invalidResponse),
		endless("an endless 403", "HTTP/1.1 403 Forbidden\r\n\r\n", "canary", forbidden),
		open("two responses", whole+another, success),
		open("a response and half of another", whole+"HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n", success),
		open("a 400 and the session of another caller", httpResponse("400 Bad Request", "", "")+another, rejected),
		open("a response and a long second one",
			whole+httpResponse("200 OK", "", strings.Repeat(" ", 30_000)+`{"token":"eyJcanary"}`), success),
	}
}

// endless is a response that goes on until the client closes the connection.
func endless(name, head, more string, want outcome) responseFault {
	return responseFault{name, func(_ *rawServer, c serverConn) bool {
		writeForever(c, head, more, 0)
		return false
	}, want}
}

// slowFaults last until the end of INCODE_TIMEOUT.
func slowFaults() []responseFault {
	silent := func(name, before string, want outcome) responseFault {
		return responseFault{name, func(_ *rawServer, c serverConn) bool {
			c.write(before)
			c.waitForClose()
			return false
		}, want}
	}
	slow := func(name, head, more string) responseFault {
		return responseFault{name, func(_ *rawServer, c serverConn) bool {
			writeForever(c, head, more, 5*time.Millisecond)
			return false
		}, timedOut}
	}
	return []responseFault{
		silent("no response", "", timedOut),
		silent("nothing after an interim response", "HTTP/1.1 100 Continue\r\n\r\n", timedOut),
		silent("nothing after half of the headers", "HTTP/1.1 200 OK\r\nA: ", timedOut),
		silent("nothing after half of the body",
			"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"token\":\"eyJcanary", timedOut),
		silent("nothing after the headers of a 400",
			"HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\n", rejected),
		silent("nothing before the last chunk",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", timedOut),
		slow("endless slow headers", "HTTP/1.1 200 OK\r\n", "a: b\r\n"),
		slow("an endless slow header", "HTTP/1.1 200 OK\r\na: ", "b"),
		slow("an endless slow body", "HTTP/1.1 200 OK\r\n\r\n", " "),
		slow("endless slow chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"),
		slow("endless slow interim responses", "", "HTTP/1.1 102 Processing\r\n\r\n"),
	}
}
