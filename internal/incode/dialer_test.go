package incode

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"omnistart/internal/incode/incodetest"
)

func TestNotSent(t *testing.T) {
	refusing := listen(t)
	refusing.Close()
	for name, url := range map[string]string{
		"connection refused": "https://" + refusing.Addr().String(),
		"no such host":       "https://incode.invalid",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := New(url)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Start(t.Context(), key, StartRequest{})
			if e := failure(t, err); e.Outcome != NotSent {
				t.Errorf("got %v", e)
			}
		})
	}
	t.Run("certificate of an unknown authority", func(t *testing.T) {
		s, server, _ := standIn(t)
		c, err := New(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Start(t.Context(), key, StartRequest{})
		if e := failure(t, err); e.Outcome != NotSent || s.Requests() != 0 {
			t.Errorf("got %v after %d requests", e, s.Requests())
		}
	})
	t.Run("handshake that never ends", func(t *testing.T) {
		c, err := New("https://" + listen(t).Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err = c.Start(ctx, key, StartRequest{})
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

// TestConnectionThatDiedAtRest stands for a freeze: the peer has closed, and
// the process begins to write before its own goroutines have seen that. The
// kernel knows; the test waits for it and not for net/http.
func TestConnectionThatDiedAtRest(t *testing.T) {
	l := listen(t)
	c, err := New("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	spare := c.dialer.spare
	if !established(spare.raw) {
		t.Error("dead before its time")
	}
	peer.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for established(spare.raw) {
		if ctx.Err() != nil {
			t.Fatal("the kernel has not seen the end")
		}
	}
	if _, err := spare.Write([]byte("x")); !errors.Is(err, errStale) || spare.wrote() {
		t.Errorf("err %v, wrote %t", err, spare.wrote())
	}
}

// TestAllConnectionsDiedAtRest leaves several in the pool: after the first has
// proven dead, the second try must not meet another.
func TestAllConnectionsDiedAtRest(t *testing.T) {
	s, _, c := standIn(t)
	var mu sync.Mutex
	var pool []*conn
	dial := c.dialer.dial
	c.transport.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := dial(ctx, network, addr)
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			pool = append(pool, nc.(*conn))
		}
		return nc, err
	}
	s.Latency = 200 * time.Millisecond // so that they overlap and need a connection each
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { _, _ = c.Start(t.Context(), key, StartRequest{ConfigurationID: incodetest.FlowID}) })
	}
	wg.Wait()
	if len(pool) < 2 {
		t.Fatalf("%d connections in the pool", len(pool))
	}
	for _, pooled := range pool {
		pooled.age(maxIdle)
	}
	if _, err := c.Start(t.Context(), key, StartRequest{ConfigurationID: incodetest.FlowID}); err != nil || s.Sessions() != 5 {
		t.Errorf("%v, %d sessions", err, s.Sessions())
	}
}

// age makes the connection rest for longer.
func (c *conn) age(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used = c.used.Add(-d)
}

// TestConnectionInUseStaysYoung ages a connection and uses it, twice.
func TestConnectionInUseStaysYoung(t *testing.T) {
	_, _, c := standIn(t)
	if err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	spare := c.dialer.spare
	for range 2 {
		spare.begin()
		spare.age(maxIdle * 3 / 5) // twice that is too much
		if _, err := c.Start(t.Context(), key, StartRequest{ConfigurationID: incodetest.FlowID}); err != nil {
			t.Fatal(err)
		}
		if !spare.wrote() {
			t.Error("a fresh connection was not used again")
		}
	}
}

// TestConnectionTooLongAtRest stands for a load balancer that forgets an idle
// connection and tells nobody.
func TestConnectionTooLongAtRest(t *testing.T) {
	s, _, c := standIn(t)
	if err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	spare := c.dialer.spare
	for _, wants := range []bool{true, false} {
		if _, err := c.Start(t.Context(), key, StartRequest{ConfigurationID: incodetest.FlowID}); err != nil {
			t.Fatal(err)
		}
		if spare.wrote() != wants {
			t.Errorf("wrote to the first connection: %t, want %t", spare.wrote(), wants)
		}
		spare.age(maxIdle)
	}
	if s.Sessions() != 2 {
		t.Errorf("%d sessions, want 2", s.Sessions())
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
	}
	server.Close()
	if connections != 1 {
		t.Errorf("%d connections for 20 requests", connections)
	}
}

func TestWriteAfterCloseLeavesNothing(t *testing.T) {
	_, _, c := standIn(t)
	if err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	spare := c.dialer.spare
	spare.Close()
	if _, err := spare.Write([]byte("x")); !errors.Is(err, net.ErrClosed) || spare.wrote() {
		t.Errorf("err %v, wrote %t", err, spare.wrote())
	}
}
