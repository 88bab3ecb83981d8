//go:build unix

package main

import (
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"omnistart/internal/tooling/incodetest"
)

// TestDeadlines makes each step hang until the function's own limit for the step,
// and expects a response at Lambda's deadline, which is earlier. A response that
// comes near that limit is an error: the harness kills the process then.
func TestDeadlines(t *testing.T) {
	t.Parallel() // it waits
	hang := func(h *harness, s *rawServer, before string) {
		s.nextRequests(h.callers, func(c serverConn) bool { c.write(before); c.waitForClose(); return false })
	}
	refuseKey := func(c serverConn) bool { c.write(httpResponse("401 Unauthorized", "", "")); return true }
	tests := []struct {
		step     string
		limit    time.Duration // of the function for this step
		hang     func(*testing.T, *harness, *rawServer)
		want     outcome
		requests int // of each call
	}{
		{"secret", 3 * time.Second, func(t *testing.T, h *harness, _ *rawServer) {
			t.Cleanup(h.secrets.Hold())
		}, noSecret, 0},
		{"secret after the key was refused", 3 * time.Second, func(t *testing.T, h *harness, s *rawServer) {
			s.nextRequests(h.callers, func(c serverConn) bool { t.Cleanup(h.secrets.Hold()); return refuseKey(c) })
		}, unauthorized, 1},
		{"DNS", 3 * time.Second, func(t *testing.T, h *harness, s *rawServer) {
			s.useHostName(t, h).fail(noDNSResponse)
		}, unavailable, 0},
		{"TCP", 3 * time.Second, func(t *testing.T, h *harness, _ *rawServer) {
			h.setenv("INCODE_BASE_URL", "https://"+addressWithFullBacklog(t))
		}, unavailable, 0},
		{"TLS", 3 * time.Second, func(_ *testing.T, h *harness, s *rawServer) {
			for range 1 + h.callers { // one for the init
				s.onAccept <- func(tcp *net.TCPConn) { _, _ = io.Copy(io.Discard, tcp) }
			}
		}, unavailable, 0},
		{"response", 20 * time.Second, func(_ *testing.T, h *harness, s *rawServer) {
			hang(h, s, "")
		}, timedOut, 1},
		{"headers", 20 * time.Second, func(_ *testing.T, h *harness, s *rawServer) {
			hang(h, s, "HTTP/1.1 200 OK\r\nA: ")
		}, timedOut, 1},
		{"body", 20 * time.Second, func(_ *testing.T, h *harness, s *rawServer) {
			hang(h, s, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
		}, timedOut, 1},
		{"response after the key was refused", 20 * time.Second, func(_ *testing.T, h *harness, s *rawServer) {
			s.nextRequests(h.callers, func(c serverConn) bool {
				h.secrets.Put(secretID, "canary-key")
				return refuseKey(c)
			})
			hang(h, s, "")
		}, timedOut, 2},
	}
	slots := make(chan struct{}, 4)
	for _, n := range []struct{ concurrency, callers int }{{1, 1}, {32, *together}} {
		var wg sync.WaitGroup
		for i, tt := range tests {
			if n.concurrency > 1 && !*all && i%4 != 0 {
				continue // a sample: secret, TLS and the last one
			}
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				t.Run(fmt.Sprintf("%d/%s", n.concurrency, tt.step), func(t *testing.T) {
					h := newHarness(t)
					h.concurrency, h.callers = n.concurrency, n.callers
					// The function keeps 500 ms of Lambda's time for its response.
					h.timeout = min(tt.limit*2/3, 4*time.Second)
					h.grace = tt.limit - h.timeout - 100*time.Millisecond
					s := startRawServer(t, h)
					tt.hang(t, h, s)
					h.start(t)
					h.startSessions(t, tt.want)
					if got := int(s.requests.Load()); got != tt.requests*n.callers {
						t.Errorf("%d requests, want %d", got, tt.requests*n.callers)
					}
				})
			})
		}
		wg.Wait()
	}
}

// addressWithFullBacklog returns an address where nothing responds to a SYN.
func addressWithFullBacklog(t *testing.T) string {
	t.Helper()
	fd, addr := bind(t)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for {
		c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { c.Close() })
	}
}

// TestNoRequestIsSentShortlyBeforeTheDeadline leaves less time than the function
// keeps for its own response, and a little more.
func TestNoRequestIsSentShortlyBeforeTheDeadline(t *testing.T) {
	for _, timeout := range []time.Duration{450 * time.Millisecond, 580 * time.Millisecond} {
		h := newHarness(t)
		h.timeout = timeout
		s := startRawServer(t, h)
		h.start(t)
		h.check(t, h.startSession(t, incodetest.FlowID), unavailable)
		if s.requests.Load() != 0 {
			t.Errorf("a request was sent with %v left", timeout)
		}
	}
}
