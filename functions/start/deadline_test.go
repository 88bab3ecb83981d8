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

// TestDeadlines lets each step hang for longer than Lambda waits. The timeouts
// of the steps themselves are longer, too. An answer that came too late would
// be an error of the rig, which kills the process then. One call meets it alone,
// and several at once.
func TestDeadlines(t *testing.T) {
	t.Parallel() // it waits
	hang := func(r *rig, w *wire, before string) {
		w.next(r.callers, func(p peer) bool { p.say(before); p.wait(); return false })
	}
	refuse := func(p peer) bool { p.say(reply("401 Unauthorized", "", "")); return true }
	rows := map[string]struct {
		hangs    func(*testing.T, *rig, *wire)
		want     want
		requests int // of each call
	}{
		"secret": {func(t *testing.T, r *rig, _ *wire) { t.Cleanup(r.secrets.Hold()) }, noSecret, 0},
		"secret after a refusal": {func(t *testing.T, r *rig, w *wire) {
			w.next(r.callers, func(p peer) bool { t.Cleanup(r.secrets.Hold()); return refuse(p) })
		}, noSecret, 1},
		"DNS": {func(t *testing.T, r *rig, w *wire) { w.resolve(t, r).meets(lookups["a mute resolver"]) }, unreached, 0},
		"TCP": {func(t *testing.T, r *rig, _ *wire) { r.env["INCODE_BASE_URL"] = "https://" + full(t) }, unreached, 0},
		"TLS": {func(_ *testing.T, r *rig, w *wire) {
			for range 1 + r.callers { // the init's
				w.accept <- func(tcp *net.TCPConn) { _, _ = io.Copy(io.Discard, tcp) }
			}
		}, unreached, 0},
		"reply":   {func(_ *testing.T, r *rig, w *wire) { hang(r, w, "") }, timedOut, 1},
		"headers": {func(_ *testing.T, r *rig, w *wire) { hang(r, w, "HTTP/1.1 200 OK\r\nA: ") }, timedOut, 1},
		"body":    {func(_ *testing.T, r *rig, w *wire) { hang(r, w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{") }, timedOut, 1},
		"second reply": {func(_ *testing.T, r *rig, w *wire) {
			w.next(r.callers, func(p peer) bool { r.secrets.Put(secretID, "canary-key"); return refuse(p) })
			hang(r, w, "")
		}, timedOut, 2},
	}
	for _, n := range []struct{ concurrency, callers int }{{1, 1}, {32, *together}} {
		var wg sync.WaitGroup
		for name, tt := range rows {
			wg.Go(func() {
				t.Run(fmt.Sprintf("%d/%s", n.concurrency, name), func(t *testing.T) {
					r := newRig(t)
					r.concurrency, r.callers = n.concurrency, n.callers
					w := listenWire(t, r)
					r.env["INCODE_TIMEOUT"] = "20s"
					tt.hangs(t, r, w)
					r.start(t, 2*time.Second)
					r.meet(t, tt.want)
					if got := int(w.requests.Load()); got != tt.requests*n.callers {
						t.Errorf("%d requests, want %d", got, tt.requests*n.callers)
					}
				})
			})
		}
		wg.Wait()
	}
}

// full returns an address whose backlog is full: nobody answers a SYN there.
func full(t *testing.T) string {
	t.Helper()
	fd, addr := bound(t)
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

// TestDeadlineTooCloseToSend gives less than what is reserved for the answer, and
// a little more.
func TestDeadlineTooCloseToSend(t *testing.T) {
	for _, timeout := range []time.Duration{450 * time.Millisecond, 580 * time.Millisecond} {
		r := newRig(t)
		w := listenWire(t, r)
		r.start(t, timeout)
		r.check(t, r.session(t, incodetest.FlowID), unreached)
		if w.requests.Load() != 0 {
			t.Errorf("with %v to go a request was sent", timeout)
		}
	}
}
