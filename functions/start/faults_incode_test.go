//go:build unix

package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// incodeFaults are replies that Incode, or a proxy before it, could give.
func incodeFaults(t *testing.T, m *matrix) {
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
			t.Error("a redirect was followed")
		}
	}()
	r := m.rig(t)
	w := listenWire(t, r)
	r.start(t, 5*time.Second)
	for _, f := range slices.Concat(statusFaults(), redirectFaults(elsewhere.Addr().String()), bodyFaults(), framingFaults()) {
		m.row(t, f.name, func(t *testing.T) { w.try(t, r, f) })
	}

	slow := slowFaults()
	names := make([]string, len(slow))
	for i := range slow {
		names[i] = slow[i].name
	}
	m.rows(t, names, func(t *testing.T, i int) {
		r := m.rig(t)
		w := listenWire(t, r)
		r.start(t, 5*time.Second)
		w.try(t, r, slow[i])
	})
}

// text makes a fault of a reply after which the connection stays open.
func text(name, reply string, w want) fault {
	return fault{name, func(_ *wire, p peer) bool { p.say(reply); return true }, w}
}

// last makes a fault of a reply after which the connection is closed.
func last(name, reply string, w want) fault {
	return fault{name, func(_ *wire, p peer) bool { p.say(reply); return false }, w}
}

// statusFaults are the statuses of the README's table, and strange ones, with
// every kind of body.
func statusFaults() (faults []fault) {
	for _, s := range []struct {
		status string
		want   want
	}{
		{"400 Bad Request", rejected}, {"404 Not Found", rejected}, {"405 Method Not Allowed", rejected}, {"408 Request Timeout", timedOut},
		{"409 Conflict", rejected}, {"413 Content Too Large", rejected}, {"421 Misdirected Request", rejected}, {"422 Unprocessable", rejected}, {"425 Too Early", rejected},
		{"401 Unauthorized", unauthorized}, {"403 Forbidden", unauthorized}, {"407 Proxy Authentication Required", rejected},
		{"429 Too Many Requests", throttled("1")},
		{"500 Internal Server Error", failed}, {"502 Bad Gateway", failed}, {"503 Service Unavailable", failed}, {"511 Network Authentication Required", failed}, {"999 canary", failed},
		{"504 Gateway Timeout", timedOut},
		{"201 Created", invalidResponse}, {"202 Accepted", invalidResponse}, {"206 Partial Content", invalidResponse},
	} {
		code := s.status[:3]
		faults = append(faults,
			text(code+" with JSON", reply(s.status, "", `{"timestamp":1,"status":4009,"error":"canary","message":"eyJcanary"}`), s.want),
			text(code+" with a token", reply(s.status, "", `{"token":"eyJcanary"}`), invalidResponse),
			text(code+" with a broken token", reply(s.status, "", `{"token":"eyJ canary"`), invalidResponse),
			text(code+" with neither", reply(s.status, "", `{"token" : null,"interviewId":"","message":"no \"token\": canary"}`), s.want),
			text(code+" with an interview ID", reply(s.status, "", `{"interviewId":"6a1"}`), invalidResponse),
			text(code+" with HTML", reply(s.status, "Content-Type: text/html\r\n", "<title>canary</title>"), s.want),
			text(code+" without a body", reply(s.status, "", ""), s.want),
			last(code+" with half a body", strings.TrimSuffix(reply(s.status, "", `{"message":"canary"}`), `nary"}`), s.want),
		)
	}
	for value, seconds := range map[string]string{
		"7": "7", "0": "1", "-7": "1", "61": "60", "1e9": "1", "99999999999999999999": "60", "canary": "1", "Fri, 01 Jan 2100 00:00:00 GMT": "60",
	} {
		faults = append(faults, text("429 with Retry-After "+value, reply("429 x", "Retry-After: "+value+"\r\n", ""), throttled(seconds)))
	}
	return append(faults,
		text("000", reply("000 canary", "", ""), invalidResponse),
		text("204", "HTTP/1.1 204 No Content\r\n\r\n", invalidResponse),
		text("304", "HTTP/1.1 304 Not Modified\r\n\r\n", invalidResponse),
		text("503 with Retry-After", reply("503 x", "Retry-After: 7\r\n", ""), failed),
	)
}

func redirectFaults(elsewhere string) (faults []fault) {
	for _, code := range []int{300, 301, 302, 303, 307, 308} {
		for _, scheme := range []string{"http", "https"} {
			faults = append(faults, text(fmt.Sprintf("%d to %s", code, scheme), reply(fmt.Sprint(code), "Location: "+scheme+"://"+elsewhere+"/omni/start\r\n", ""), invalidResponse))
		}
	}
	return append(faults, text("302 to nowhere", reply("302 Found", "Location: https://x/%zz?token=eyJcanary\r\n", ""), invalidResponse))
}

// bodyFaults are bodies of a 200. The session behind each exists.
func bodyFaults() (faults []fault) {
	for _, b := range []struct {
		name, body string
		want       want
	}{
		{"an error envelope", `{"timestamp":1,"status":400,"error":"canary","message":"canary"}`, invalidResponse},
		{"no token", `{"interviewId":"6a1"}`, invalidResponse},
		{"a token of null", `{"token":null}`, invalidResponse},
		{"a number for a token", `{"token":7}`, invalidResponse},
		{"an object for a token", `{"token":{"token":"eyJcanary"}}`, invalidResponse},
		{"an empty token", `{"token":""}`, invalidResponse},
		{"CR and LF in the token", `{"token":"eyJcanary\r\nx: y"}`, invalidResponse},
		{"a NUL in the token", `{"token":"eyJcanary\u0000"}`, invalidResponse},
		{"half a surrogate in the token", `{"token":"eyJcanary\ud83d"}`, invalidResponse},
		{"broken UTF-8 in the token", "{\"token\":\"eyJcanary\xff\"}", invalidResponse},
		{"a space in the token", `{"token":"eyJ canary"}`, invalidResponse},
		{"a token beside another", `{"token":"eyJ1","token":"eyJ2"}`, ok},
		{"a token of 60 KiB", `{"token":"eyJ` + strings.Repeat("x", 60<<10) + `"}`, ok},
		{"a token and text for an interview ID", `{"token":"eyJ","interviewId":"canary\n{}"}`, ok},
		{"TOKEN for token", `{"TOKEN":"eyJcanary"}`, invalidResponse},
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
		text := reply("200 OK", "Content-Type: application/json\r\n", b.body)
		faults = append(faults, fault{"200 with " + b.name, func(w *wire, p peer) bool {
			w.sessions.Add(1)
			p.say(text)
			return true
		}, b.want})
	}
	return append(faults,
		text("gzip that nobody asked for", reply("200 OK", "Content-Encoding: gzip\r\n", zip(`{"token":"eyJcanary"}`)), invalidResponse),
		text("a gzip bomb", reply("200 OK", "Content-Encoding: gzip\r\n", strings.Repeat(zip(strings.Repeat(" ", 1<<20)), 128)), invalidResponse),
	)
}

// zip compresses a text. Members of gzip may follow one another.
func zip(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, text)
	_ = z.Close()
	return b.String()
}

// framingFaults break HTTP itself.
func framingFaults() []fault {
	const good = `{"token":"eyJ"}`
	whole := reply("200 OK", "", good)
	chunked := func(chunks string) string { return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks }
	return []fault{
		text("100 before the reply", "HTTP/1.1 100 Continue\r\n\r\n"+whole, ok),
		text("103 before the reply", "HTTP/1.1 103 Early Hints\r\nLink: </canary>\r\n\r\n"+whole, ok),
		text("a dozen interim replies", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 12)+whole, ok),
		endless("interim replies without end", "", "HTTP/1.1 103 Early Hints\r\nLink: </canary>\r\n\r\n", unknown),
		text("101", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: canary\r\n\r\n", invalidResponse),
		text("199", "HTTP/1.1 199 canary\r\n\r\n"+whole, ok),
		last("Connection: close", reply("200 OK", "Connection: close\r\n", good), ok),
		last("HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n"+good, ok),
		last("HTTP/1.0 keeping alive", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 15\r\n\r\n"+good, ok),
		last("HTTP/0.9", `{"token":"eyJcanary"}`, unknown),
		last("HTTP/2", "\x00\x00\x12\x04\x00\x00\x00\x00\x00canary", unknown),
		last("ICE", "ICY 200 OK\r\n\r\n"+good, unknown),
		last("a status of two digits", "HTTP/1.1 20 eyJcanary\r\n\r\n", unknown),
		last("a status line alone", "HTTP/1.1 200 eyJcanary\r\n", unknown),
		last("a header without a colon", "HTTP/1.1 200 OK\r\neyJcanary\r\n\r\n", unknown),
		last("an empty header name", "HTTP/1.1 200 OK\r\n: eyJcanary\r\n\r\n", unknown),
		last("a length that is no number", "HTTP/1.1 200 OK\r\nContent-Length: eyJcanary\r\n\r\n", unknown),
		last("a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"+good, unknown),
		last("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 15\r\nContent-Length: 16\r\n\r\n"+good, unknown),
		last("too great a length", "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n"+good, unknown),
		text("too small a length", "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n"+good, invalidResponse),
		last("no length", "HTTP/1.1 200 OK\r\n\r\n"+good, ok),
		text("chunks", chunked("f\r\n"+good+"\r\n0\r\n\r\n"), ok),
		text("chunks and a trailer", chunked("f\r\n"+good+"\r\n0\r\nToken: canary\r\n\r\n"), ok),
		last("a chunk without its end", chunked("f\r\n"+good), unknown),
		last("garbage for a chunk", chunked("eyJcanary\r\n"), unknown),
		last("too great a chunk", chunked("fffffffffffffffff\r\n"), unknown),
		endless("a chunk size without end", chunked(""), "0", unknown),
		text("chunks and a length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n"+good+"\r\n0\r\n\r\n", ok),
		last("an unknown transfer encoding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: eyJcanary\r\n\r\n", unknown),
		last("too many headers", "HTTP/1.1 200 OK\r\n"+strings.Repeat("a: canary\r\n", 100_000)+"\r\n", unknown),
		last("too great a header", "HTTP/1.1 200 OK\r\na: "+strings.Repeat("x", 1<<20)+"\r\n\r\n", unknown),
		endless("headers without end", "HTTP/1.1 200 OK\r\n", "a: canary\r\n", unknown),
		endless("a header without end", "HTTP/1.1 200 OK\r\na: ", "canary", unknown),
		endless("a body without end", "HTTP/1.1 200 OK\r\n\r\n", "canary", invalidResponse),
		endless("chunks without end", chunked(""), "6\r\ncanary\r\n", invalidResponse),
		endless("a refusal without end", "HTTP/1.1 403 Forbidden\r\n\r\n", "canary", unauthorized),
		text("two replies", whole+reply("200 OK", "", `{"token":"eyJcanary"}`), ok),
		text("a reply and half of another", whole+"HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n", ok),
		text("a refusal and another's session", reply("400 Bad Request", "", "")+reply("200 OK", "", `{"token":"eyJcanary"}`), rejected),
		text("a long reply in tow", whole+reply("200 OK", "", `{"token":"eyJcanary"}`+strings.Repeat(" ", 30_000)), ok),
	}
}

// endless makes a fault of text that goes on until the client has had enough.
func endless(name, head, more string, w want) fault {
	return fault{name, func(_ *wire, p peer) bool {
		more := strings.Repeat(more, 1000)
		for _, err := io.WriteString(p, head); err == nil; {
			_, err = io.WriteString(p, more)
		}
		return false
	}, w}
}

// slowFaults run into INCODE_TIMEOUT.
func slowFaults() []fault {
	silent := func(name, before string, w want) fault {
		return fault{name, func(_ *wire, p peer) bool { p.say(before); p.wait(); return false }, w}
	}
	drip := func(name, head, drop string) fault {
		return fault{name, func(_ *wire, p peer) bool {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for _, err := io.WriteString(p, head); err == nil; <-tick.C {
				_, err = io.WriteString(p, drop)
			}
			return false
		}, timedOut}
	}
	return []fault{
		silent("silence", "", timedOut),
		silent("silence after an interim reply", "HTTP/1.1 100 Continue\r\n\r\n", timedOut),
		silent("silence within the headers", "HTTP/1.1 200 OK\r\nA: ", timedOut),
		silent("silence within the body", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"token\":\"eyJcanary", timedOut),
		silent("silence within a refusal", "HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\n", rejected),
		silent("silence before the last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", timedOut),
		drip("slow headers", "HTTP/1.1 200 OK\r\n", "a: b\r\n"),
		drip("a slow header", "HTTP/1.1 200 OK\r\na: ", "b"),
		drip("a dripping body", "HTTP/1.1 200 OK\r\n\r\n", " "),
		drip("dripping chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"),
		drip("interim replies for ever", "", "HTTP/1.1 102 Processing\r\n\r\n"),
	}
}
