package incode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"omnistart/internal/tooling/incodetest"
)

func TestNotSent(t *testing.T) {
	refusing := listen(t)
	refusing.Close()
	for name, url := range map[string]string{
		"connection refused": "https://" + refusing.Addr().String(),
		"no such host":       "https://incode.invalid",
	} {
		t.Run(name, func(t *testing.T) {
			c := New(parsed(t, url))
			_, err := c.Start(t.Context(), key, StartRequest{})
			if e := failure(t, err); e.Outcome != NotSent {
				t.Errorf("got %v", e)
			}
			if c.Connect(t.Context()) == nil || len(c.pool.idle) != 0 {
				t.Errorf("connected, and %d connections rest", len(c.pool.idle))
			}
		})
	}
	t.Run("certificate of an unknown authority", func(t *testing.T) {
		s, server, _ := standIn(t)
		c := New(parsed(t, server.URL))
		_, err := c.Start(t.Context(), key, StartRequest{})
		if e := failure(t, err); e.Outcome != NotSent || s.Requests() != 0 {
			t.Errorf("got %v after %d requests", e, s.Requests())
		}
	})
	t.Run("handshake that never ends", func(t *testing.T) {
		c := New(parsed(t, "https://"+listen(t).Addr().String()))
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := c.Start(ctx, key, StartRequest{})
		if e := failure(t, err); e.Outcome != NotSent {
			t.Errorf("got %v", e)
		}
	})
}

// TestUnsentIsSentOnceMore closes the first connection in the TLS handshake,
// and then lets one pass, or none.
func TestUnsentIsSentOnceMore(t *testing.T) {
	for _, failing := range []int{1, 2} {
		s := incodetest.New()
		server := httptest.NewUnstartedServer(s)
		listener := &flaky{Listener: server.Listener, failing: failing}
		server.Listener = listener
		server.StartTLS()
		t.Cleanup(server.Close)
		t.Cleanup(s.Close)

		_, err := clientOf(t, server).Start(t.Context(), key, StartRequest{ConfigurationID: incodetest.FlowID})
		if failing == 1 && (err != nil || s.Sessions() != 1) {
			t.Errorf("after one failed handshake: %v, %d sessions", err, s.Sessions())
		}
		if failing == 2 {
			if e := failure(t, err); e.Outcome != NotSent || s.Requests() != 0 {
				t.Errorf("after two failed handshakes: %v, %d requests", e, s.Requests())
			}
		}
	}
}

// flaky closes its first connections at once.
type flaky struct {
	net.Listener
	failing int
}

func (l *flaky) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	for ; err == nil && l.failing > 0; l.failing-- {
		c.Close()
		c, err = l.Listener.Accept()
	}
	return c, err
}

// rest opens a connection, lets it rest in the pool and returns it with the
// peer's end.
func rest(t *testing.T) (c *conn, peer net.Conn, p *pool) {
	t.Helper()
	l := listen(t)
	p = newPool(parsed(t, "http://"+l.Addr().String()))
	c, err := p.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	peer, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	p.put(c)
	return c, peer, p
}

// TestRestingConnections stands for a freeze: nothing of the process but the
// request is awake when the kernel already has what the peer has done.
func TestRestingConnections(t *testing.T) {
	for name, tt := range map[string]struct {
		happens func(*conn, *net.TCPConn)
		fit     bool
	}{
		"nothing":             {func(*conn, *net.TCPConn) {}, true},
		"used a while ago":    {func(c *conn, _ *net.TCPConn) { c.used = c.used.Add(-maxIdle * 3 / 5) }, true},
		"silence for long":    {func(c *conn, _ *net.TCPConn) { c.used = c.used.Add(-maxIdle) }, false},
		"a clock set back":    {func(c *conn, _ *net.TCPConn) { c.used = c.used.Add(time.Hour) }, false},
		"closed":              {func(_ *conn, peer *net.TCPConn) { _ = peer.Close() }, false},
		"reset":               {func(_ *conn, peer *net.TCPConn) { _, _ = peer.SetLinger(0), peer.Close() }, false},
		"half closed":         {func(_ *conn, peer *net.TCPConn) { _ = peer.CloseWrite() }, false},
		"an unasked byte":     {func(_ *conn, peer *net.TCPConn) { _, _ = io.WriteString(peer, "H") }, false},
		"closed by ourselves": {func(c *conn, _ *net.TCPConn) { _ = c.Close() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, peer, p := rest(t)
			tt.happens(c, peer.(*net.TCPConn))
			if !tt.fit {
				await(t, func() bool { return !c.quiet() })
			}
			got, err := p.get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer got.Close()
			closed := errors.Is(c.SetDeadline(time.Time{}), net.ErrClosed)
			if (got == c) != tt.fit || closed == tt.fit {
				t.Errorf("used again: %t, closed: %t, want %t", got == c, closed, tt.fit)
			}
		})
	}
}

// TestRestIsTimedByTheWallClock looks for a monotonic reading, which stands still
// while Lambda has the process frozen.
func TestRestIsTimedByTheWallClock(t *testing.T) {
	c, _, _ := rest(t)
	opened := c.used
	_, _, client := standIn(t)
	if _, err := client.Start(t.Context(), key, StartRequest{ConfigurationID: incodetest.FlowID}); err != nil {
		t.Fatal(err)
	}
	for _, used := range []time.Time{opened, client.pool.idle[0].used} {
		if strings.Contains(used.String(), " m=") {
			t.Errorf("%v has a monotonic reading", used)
		}
	}
}

// await waits until it is so.
func await(t *testing.T, so func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for !so() {
		if ctx.Err() != nil {
			t.Fatal("it never came to be")
		}
		runtime.Gosched()
	}
}

// TestNothingBesideAnError counts what readNow has read when the peer is gone, or
// the connection: a byte would be taken for data.
func TestNothingBesideAnError(t *testing.T) {
	for want, linger := range map[error]int{io.EOF: 1, syscall.ECONNRESET: 0} {
		c, peer, _ := rest(t)
		if err := peer.(*net.TCPConn).SetLinger(linger); err != nil {
			t.Fatal(err)
		}
		peer.Close()
		var n int
		var err error
		await(t, func() bool {
			n, err = readNow(c.wire.raw, make([]byte, 1))
			return !errors.Is(err, os.ErrDeadlineExceeded)
		})
		if n != 0 || !errors.Is(err, want) {
			t.Errorf("got %d, %v; want 0, %v", n, err, want)
		}
	}
	c, _, _ := rest(t)
	c.Close()
	if n, err := readNow(c.wire.raw, make([]byte, 1)); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("of a connection that is closed: %d, %v", n, err)
	}
}

// TestFailedHandshakeLeavesNothingOpen talks plain text to a client of TLS.
func TestFailedHandshakeLeavesNothingOpen(t *testing.T) {
	l := listen(t)
	p := newPool(parsed(t, "https://"+l.Addr().String()))
	ended := make(chan error)
	go func() {
		c, err := l.Accept()
		if err == nil {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_, err = io.Copy(io.Discard, c)
		}
		ended <- err
	}()
	if _, err := p.open(t.Context()); err == nil {
		t.Error("connected")
	}
	if err := <-ended; err != nil {
		t.Errorf("the connection stays open: %v", err)
	}
}

// TestUnaskedReplyIsNobodys sends two replies to the first of two requests: in
// one TLS record or two, and so long that no single buffer holds both.
func TestUnaskedReplyIsNobodys(t *testing.T) {
	reply := func(token string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n{\"token\":%q}", len(token)+12, token)
	}
	long := reply(strings.Repeat("x", 10_000))
	for name, writes := range map[string][]string{
		"in one record":        {reply("mine") + reply("another's")},
		"in two records":       {reply("mine"), reply("another's")},
		"half in each record":  {reply("mine") + long[:9000], long[9000:]},
		"longer than a buffer": {reply("mine") + long},
		"without an end":       {reply("mine") + "HTTP/1.1 200"},
		"after an empty reply": {"HTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n" + reply("another's")},
		"after interim ones":   {"HTTP/1.1 100 \r\n\r\nHTTP/1.1 103 \r\n\r\n" + reply("mine") + reply("another's")},
	} {
		t.Run(name, func(t *testing.T) {
			var connections atomic.Int32
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				c, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				if connections.Add(1) > 1 {
					_, _ = io.WriteString(c, reply("fresh"))
					return
				}
				for _, data := range writes {
					_, _ = io.WriteString(c, data)
				}
				_, _ = io.Copy(io.Discard, c) // stays open for as long as the client likes
			}))
			t.Cleanup(server.Close)
			c := clientOf(t, server)
			first, _ := c.Start(t.Context(), key, StartRequest{})
			await(t, func() bool { return len(c.pool.idle) == 0 || !c.pool.idle[0].quiet() })
			second, err := c.Start(t.Context(), key, StartRequest{})
			if first.Token != "mine" && first.Token != "" || second.Token != "fresh" {
				t.Errorf("got %q and %q, %v", first.Token, second.Token, err)
			}
		})
	}
}

// TestAllConnectionsDiedAtRest leaves several in the pool: after the first has
// proven dead, the request must not meet another.
func TestAllConnectionsDiedAtRest(t *testing.T) {
	s, server, c := standIn(t)
	const several = 9
	for range several {
		if err := c.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.pool.idle) != several {
		t.Errorf("%d connections rest, want %d", len(c.pool.idle), several)
	}
	server.CloseClientConnections()
	for _, dead := range c.pool.idle {
		await(t, func() bool { return !dead.quiet() })
	}
	if _, err := c.Start(t.Context(), key, StartRequest{ConfigurationID: incodetest.FlowID}); err != nil || s.Sessions() != 1 {
		t.Errorf("%v, %d sessions", err, s.Sessions())
	}
}

// TestTooLittleTimeIsLeft wants nothing sent, and the connection kept.
func TestTooLittleTimeIsLeft(t *testing.T) {
	s, _, c := standIn(t)
	if err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, left := range []time.Duration{-time.Second, 99 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), left)
		_, err := c.Start(ctx, key, StartRequest{ConfigurationID: incodetest.FlowID})
		cancel()
		if e := failure(t, err); e.Outcome != NotSent || e.Err.Error() != "too little time is left for a reply" || s.Requests() != 0 || len(c.pool.idle) != 1 {
			t.Errorf("%v left: %v, %d requests, %d connections", left, e, s.Requests(), len(c.pool.idle))
		}
	}
}

func TestOneConnectionServesAll(t *testing.T) {
	connections := 0
	server := httptest.NewUnstartedServer(incodetest.New())
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections++ // read after Close, which waits for the server's goroutines
		}
	}
	server.StartTLS()
	c := clientOf(t, server)
	if err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		flow := incodetest.FlowID
		if i%2 == 1 {
			flow = "000000000000000000000500" // an error's body is read to the end, too
		}
		_, _ = c.Start(t.Context(), key, StartRequest{ConfigurationID: flow})
		for _, idle := range c.pool.idle {
			idle.used = idle.used.Add(-maxIdle * 3 / 5) // which each request must begin anew
		}
	}
	server.Close()
	if connections != 1 {
		t.Errorf("%d connections for 20 requests", connections)
	}
}
