package incode

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"omnistart/internal/problem"
	"omnistart/internal/tooling/incodetest"
)

func TestConnectionIsReusedAfterACompleteResponse(t *testing.T) {
	const success = `{"token":"t"}`
	ok := response(200, success)
	tests := []struct {
		name, response string
		reused         bool
	}{
		{"success", ok, true},
		{"interim responses before it", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\nLink: </x>\r\n\r\n" + ok, true},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"tok\r\n8\r\nen\":\"t\"}\r\n0\r\n\r\n", true},
		{"refusal", response(403, "{}"), true},
		{"64 KiB", response(200, success+strings.Repeat(" ", maxBody-len(success))), true},
		{"64 KiB and a byte", response(200, success+strings.Repeat(" ", maxBody-len(success)+1)), false},
		{"incomplete refusal", "HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\n{}", false},
		{"Connection: close", strings.Replace(ok, "\r\n", "\r\nConnection: close\r\n", 1), false},
		{"HTTP/1.0", strings.Replace(ok, "1.1", "1.0", 1), false},
		{"body without a length", "HTTP/1.1 200 OK\r\n\r\n" + success, false},
		{"switching protocols", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", false},
		{"status below 100", response(99, ""), false},
		{"a byte after it", ok + "H", false},
		{"499", response(499, "{}"), true},
		{"500", response(500, "{}"), false},
		{"503", response(503, "{}"), false},
		{"599", response(599, "{}"), false},
		{"408", response(408, "{}"), false},
		{"421", response(421, "{}"), false},
		{"429", response(429, "{}"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, m, c, err := exchange(t, tt.response)
			if reused := len(c.idle) == 1; reused != tt.reused || m.closed == tt.reused {
				t.Errorf("idle connections: %d, closed: %t, %v", len(c.idle), m.closed, err)
			}
			if tt.reused && !m.deadline.IsZero() {
				t.Error("the idle connection still has the deadline of the request")
			}
		})
	}
}

func TestServerMayAnnounceAShorterIdleTime(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"timeout=5":                    4 * time.Second,
		"timeout=5, max=100":           4 * time.Second,
		"max=100,timeout=20":           19 * time.Second,
		"timeout=1":                    0,
		"timeout=0":                    -time.Second,
		"timeout=51":                   maxIdle,
		"timeout=3600":                 maxIdle,
		"timeout=x":                    -time.Second,
		"timeout=-5":                   -6 * time.Second,
		"timeout=99999999999999999999": -2 * time.Second, // too great for an int
		"max=100":                      maxIdle,
		"":                             maxIdle,
		"Timeout is what it is":        maxIdle,
	} {
		text := strings.Replace(response(200, `{"token":"t"}`), "\r\n", "\r\nKeep-Alive: "+header+"\r\n", 1)
		_, _, c, err := exchange(t, text)
		if err != nil || len(c.idle) != 1 {
			t.Fatalf("%s: %v, %d idle connections", header, err, len(c.idle))
		}
		idle := <-c.idle
		if idle.maxIdle != want {
			t.Errorf("%s: %v, want %v", header, idle.maxIdle, want)
		}
		c.idle <- idle
	}
}

// TestSilenceEndsAllOlderConnections has requests that get no response until their deadline, each on one of several
// idle connections.
func TestSilenceEndsAllOlderConnections(t *testing.T) {
	for name, tt := range map[string]struct {
		sent  string // by the server, before it is silent
		reuse bool
	}{
		"nothing":              {"", false},
		"an interim response":  {"HTTP/1.1 100 Continue\r\n\r\n", false},
		"half of the body":     {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", true},
		"a refusal's headers":  {"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\n", true},
		"a whole error":        {response(500, "{}"), true},
		"the end of the conn.": {"close", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClient(t, "http://127.0.0.1:0")
				client, server := net.Pipe()
				defer server.Close()
				go func() {
					_, _ = http.ReadRequest(bufio.NewReader(server))
					if tt.sent == "close" {
						server.Close()
					}
					_, _ = io.WriteString(server, tt.sent)
				}()
				c.put(newConn(pipeConn{client}))
				other := &memoryConn{}
				other.response.Reset([]byte(response(200, `{"token":"t"}`)))
				c.put(newConn(other))
				time.Sleep(time.Second)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if s, err := c.Start(ctx, key, fields); err == nil || s.ConnectTime != 0 {
					t.Fatalf("got %v, connected after %v", s, s.ConnectTime)
				}
				_, err := c.Start(withDeadline(t), key, fields)
				if (err == nil) != tt.reuse || other.closed == tt.reuse {
					t.Errorf("the other connection is closed: %t, %v", other.closed, err)
				}
			})
		})
	}
}

// TestSilenceDoesNotEndANewerConnection opens one in the nanosecond of the silence, and one after it.
func TestSilenceDoesNotEndANewerConnection(t *testing.T) {
	for after, healthy := range map[time.Duration]bool{0: false, 1: true} {
		m := &memoryConn{}
		c := connected(t, m)
		idle := <-c.idle
		c.timedOut.Store(idle.opened.Add(-after).UnixNano())
		c.idle <- idle
		got, err := c.get(t.Context())
		if (got == idle) != healthy || (err == nil) != healthy || m.closed == healthy {
			t.Errorf("opened %v later: used %t, %v", after, got == idle, err)
		}
		if err == nil {
			got.Close()
		}
	}
}

func TestConnectionBeyondThePoolIsClosed(t *testing.T) {
	c := &Client{idle: make(chan *conn, 1)}
	kept, surplus := &memoryConn{}, &memoryConn{}
	for _, m := range []*memoryConn{kept, surplus} {
		c.put(&conn{socket: &socket{Conn: m}, reusable: true})
	}
	if kept.closed || !surplus.closed {
		t.Errorf("closed: %t, %t", kept.closed, surplus.closed)
	}
}

func TestOneConnectionServesAllRequests(t *testing.T) {
	connections := 0
	server := httptest.NewUnstartedServer(incodetest.New())
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections++ // read after Close, which waits for the server's goroutines
		}
	}
	server.StartTLS()
	c := newClient(t, server.URL)
	if err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		_, _ = c.Start(withDeadline(t), key, map[string]any{"configurationId": []string{incodetest.FlowID, "x"}[i%2]})
		if len(c.idle) != 1 {
			t.Fatalf("%d idle connections", len(c.idle))
		}
		idle := <-c.idle
		if strings.Contains(idle.lastUsed.String()+idle.opened.String(), " m=") {
			t.Fatal("a time has a monotonic reading")
		}
		idle.lastUsed = idle.lastUsed.Add(-maxIdle * 3 / 5) // which the next request sets again
		c.idle <- idle
	}
	server.Close()
	if connections != 1 {
		t.Errorf("%d connections for 20 requests", connections)
	}
}

// openIdle returns a client, its one idle connection, and the server's end of that.
func openIdle(t *testing.T) (*Client, *conn, *net.TCPConn) {
	t.Helper()
	l := listen(t)
	c := newClient(t, "http://"+l.Addr().String())
	if err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	idle := <-c.idle
	c.idle <- idle
	return c, idle, server.(*net.TCPConn)
}

func TestConnectionIsReusedWithin50SecondsAnd5Minutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the clock stands still
		for _, tt := range []struct {
			age, idle, maxIdle time.Duration
			healthy            bool
		}{
			{0, 0, maxIdle, true},
			{50 * time.Second, 50 * time.Second, maxIdle, true},
			{51 * time.Second, 50*time.Second + 1, maxIdle, false},
			{0, -1, maxIdle, false}, // the clock was set back
			{-1, 0, maxIdle, false},
			{5 * time.Minute, 0, maxIdle, true},
			{5*time.Minute + 1, 0, maxIdle, false},
			{5 * time.Second, 4 * time.Second, 4 * time.Second, true},
			{5 * time.Second, 4*time.Second + 1, 4 * time.Second, false},
			{0, 0, -time.Second, false},
		} {
			c := newConn(&memoryConn{})
			c.opened, c.lastUsed, c.maxIdle = c.opened.Add(-tt.age), c.lastUsed.Add(-tt.idle), tt.maxIdle
			if c.healthy() != tt.healthy {
				t.Errorf("%v: healthy is %t", tt, !tt.healthy)
			}
		}
	})
}

// TestUnhealthyConnectionIsReplaced is about what the kernel knows when a frozen process resumes.
func TestUnhealthyConnectionIsReplaced(t *testing.T) {
	for name, tt := range map[string]struct {
		happens func(idle *conn, server *net.TCPConn)
		healthy bool
	}{
		"nothing":               {func(*conn, *net.TCPConn) {}, true},
		"closed by the server":  {func(_ *conn, server *net.TCPConn) { server.Close() }, false},
		"half closed":           {func(_ *conn, server *net.TCPConn) { _ = server.CloseWrite() }, false},
		"reset":                 {func(_ *conn, server *net.TCPConn) { _ = server.SetLinger(0); server.Close() }, false},
		"unsolicited byte":      {func(_ *conn, server *net.TCPConn) { _, _ = io.WriteString(server, "H") }, false},
		"closed by this client": {func(idle *conn, _ *net.TCPConn) { idle.Close() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, idle, server := openIdle(t)
			tt.happens(idle, server)
			var got *conn
			await(t, func() bool {
				var err error
				if got, err = c.get(t.Context()); err != nil {
					t.Fatal(err)
				}
				if !tt.healthy && got == idle { // the kernel has not delivered it yet
					c.put(got)
					return false
				}
				return true
			})
			defer got.Close()
			closed := errors.Is(idle.SetDeadline(time.Time{}), net.ErrClosed)
			if (got == idle) != tt.healthy || closed == tt.healthy {
				t.Errorf("reused: %t, closed: %t", got == idle, closed)
			}
		})
	}
}

func TestEveryUnhealthyConnectionIsClosed(t *testing.T) {
	c := newClient(t, "http://127.0.0.1:0") // to which no connection can be opened
	var connections []*memoryConn
	for range 9 {
		m := &memoryConn{requests: 1}
		m.response.Reset([]byte("unsolicited"))
		connections = append(connections, m)
		c.put(newConn(m))
	}
	if _, err := c.Start(withDeadline(t), key, fields); !errors.Is(err, problem.IncodeUnavailable) {
		t.Errorf("got %v", err)
	}
	for _, m := range connections {
		if m.requests != 1 || !m.closed {
			t.Errorf("%d requests, closed: %t", m.requests-1, m.closed)
		}
	}
}

// TestUnsolicitedResponseIsNeverUsed sends more than one response to the first of two requests.
func TestUnsolicitedResponseIsNeverUsed(t *testing.T) {
	session := func(token string) string { return response(200, fmt.Sprintf(`{"token":%q}`, token)) }
	mine, another := session("mine"), session(strings.Repeat("another", 1500)) // longer than any buffer
	for name, records := range map[string][]string{
		"in one TLS record":       {mine + session("another")},
		"in two TLS records":      {mine, session("another")},
		"half in each record":     {mine + another[:9000], another[9000:]},
		"longer than a buffer":    {mine + another},
		"without an end":          {mine + "HTTP/1.1 200"},
		"after an empty response": {response(500, "") + session("another")},
		"after interim responses": {"HTTP/1.1 100 X\r\n\r\nHTTP/1.1 103 X\r\n\r\n" + mine + session("another")},
	} {
		t.Run(name, func(t *testing.T) {
			var connections atomic.Int32
			_, c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				server, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer server.Close()
				if connections.Add(1) > 1 {
					_, _ = io.WriteString(server, session("new"))
					return
				}
				for _, record := range records {
					_, _ = io.WriteString(server, record)
				}
				_, _ = io.Copy(io.Discard, server) // until the client closes the connection
			}))
			first, _ := c.Start(withDeadline(t), key, fields)
			if len(c.idle) == 1 {
				idle := <-c.idle
				await(t, func() bool { return !idle.healthy() })
				c.put(idle)
			}
			second, err := c.Start(withDeadline(t), key, fields)
			if first.Token != "mine" && first.Token != "" || second.Token != "new" {
				t.Errorf("got tokens %.9q and %.9q, %v", first.Token, second.Token, err)
			}
		})
	}
}

// handshake opens a TLS connection, over which the server has sent a session ticket. It also returns the server's end,
// without TLS.
func handshake(t *testing.T) (*conn, net.Conn) {
	t.Helper()
	l := listen(t)
	tcp, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	// Package tls sends a ticket only to a client that can use it, and after the handshake only if the server asks for a
	// certificate.
	tickets := tls.NewLRUClientSessionCache(1)
	s := &socket{Conn: tcp, tls: true}
	client := tls.Client(s, &tls.Config{ServerName: "127.0.0.1", ClientSessionCache: tickets})
	c := newConn(nil)
	c.Conn, c.socket = client, s
	t.Cleanup(func() { c.Close() })
	done := make(chan error)
	go func() {
		done <- tls.Server(server, &tls.Config{
			Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS13,
		}).Handshake()
	}()
	if err := errors.Join(client.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool {
		if !c.healthy() {
			t.Fatal("the session ticket counts as a response")
		}
		_, arrived := tickets.Get("127.0.0.1")
		return arrived
	})
	return c, server
}

func TestSessionTicketIsNoResponse(t *testing.T) { handshake(t) }

func TestPartOfATLSRecordIsUnsolicited(t *testing.T) {
	for name, part := range map[string]string{"header": "\x17", "body": "\x17\x03\x03\x00\x40eyJ"} {
		t.Run(name, func(t *testing.T) {
			c, server := handshake(t)
			if _, err := io.WriteString(server, part); err != nil {
				t.Fatal(err)
			}
			await(t, func() bool { return !c.healthy() })
		})
	}
}

func TestTLSRecordsAreFollowedInPiecesOfAnySize(t *testing.T) {
	var stream []byte
	ends := map[int]bool{0: true}
	for _, size := range []int{0, 1, 5, 300, 0, 0, 70} {
		stream = append(stream, 0x17, 3, 3, byte(size>>8), byte(size))
		stream = append(stream, make([]byte, size)...)
		ends[len(stream)] = true
	}
	for size := 1; size <= len(stream); size++ {
		m := &memoryConn{}
		m.response.Reset(stream)
		s := &socket{Conn: m, tls: true}
		for at, piece := 0, make([]byte, size); at < len(stream); {
			n, err := s.Read(piece)
			if at += n; err != nil || s.hasPartialRecord() == ends[at] {
				t.Fatalf("pieces of %d bytes, byte %d: partial record: %t, %v", size, at, s.hasPartialRecord(), err)
			}
		}
	}
}

// TestCloseSendsNoCloseNotify checks that Close sends no byte, so that a server that reads nothing cannot delay it.
func TestCloseSendsNoCloseNotify(t *testing.T) {
	c, server := handshake(t)
	c.Close()
	if sent, err := io.ReadAll(server); len(sent) > 0 || err != nil {
		t.Errorf("sent %x, %v", sent, err)
	}
}
