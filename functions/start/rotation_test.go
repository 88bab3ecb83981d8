//go:build unix

package main

import (
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"omnistart/internal/tooling/incodetest"
)

// load is a number of callers that call without pause.
type load struct {
	running sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	changed *sync.Cond // signals a change of them
	done    []int      // calls of each caller
	total   int        // calls of all
	stopped bool
	tokens  map[string]bool
}

// startLoad starts n callers, each of which calls one of the processes. Any
// response without a session fails the test.
func startLoad(t *testing.T, n int, processes ...*harness) *load {
	t.Helper()
	l := &load{done: make([]int, n), tokens: map[string]bool{}}
	l.changed = sync.NewCond(&l.mu)
	t.Cleanup(func() { l.stop() })  // a test that fails early stops no caller
	first := make(chan struct{}, 8) // the first calls, since the timeout for connections must suffice for the handshakes
	for i := range n {
		l.running.Go(func() {
			first <- struct{}{}
			connected := sync.OnceFunc(func() { <-first })
			for stopped := false; !stopped; {
				resp := processes[i%len(processes)].startSession(t, incodetest.FlowID)
				connected()
				if resp.status != 200 {
					t.Errorf("got %+v", resp)
				}
				l.mu.Lock()
				l.done[i]++
				l.total++
				l.tokens[resp.token] = true
				stopped = l.stopped
				l.mu.Unlock()
				l.changed.Broadcast()
			}
		})
	}
	return l
}

// waitForEachCaller waits until every caller has made two more calls. The second
// one has begun after this method, so all calls in flight when it returns began
// after the function had seen the result of the second.
func (l *load) waitForEachCaller() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, before := range slices.Clone(l.done) {
		for l.done[i]-before < 2 {
			l.changed.Wait()
		}
	}
}

// waitForCalls waits for n more calls.
func (l *load) waitForCalls(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for before := l.total; l.total-before < n; {
		l.changed.Wait()
	}
}

// stop stops the callers, waits for them and returns the number of different
// tokens.
func (l *load) stop() int {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	l.running.Wait()
	return len(l.tokens)
}

var rotations = flag.Int("rotations", 5, "number of rotations of the key under load")

// callersUnderLoad returns the number of callers in the tests of rotation. With
// many callers on a busy machine, a load of the secret would take longer than the
// function waits for it.
func callersUnderLoad() int {
	if *all {
		return 64
	}
	return 8
}

// TestRotationUnderLoadFailsNoRequest stores a new key before the old one is
// revoked. Every other time, the old key is revoked at once, otherwise a while
// later. Between two rotations is more time than a call takes, since a call tries
// two keys at most.
func TestRotationUnderLoadFailsNoRequest(t *testing.T) {
	h := newHarness(t)
	h.concurrency = callersUnderLoad()
	h.start(t)
	l := startLoad(t, h.concurrency, h)
	old := incodetest.Key
	for i := range *rotations {
		l.waitForEachCaller()
		next := fmt.Sprintf("canary-key-%d", i)
		h.incode.SetKey(old, next)
		h.secrets.Put(secretID, next)
		if i%2 == 1 {
			l.waitForCalls(h.concurrency)
		}
		h.incode.SetKey(next)
		old = next
	}
	l.waitForEachCaller()
	tokens := l.stop()
	sessions, requests := h.incode.Sessions(), h.incode.Requests()
	h.Close() // completes the output
	if calls := len(h.output.requestLines(t)); calls != sessions || calls != tokens {
		t.Errorf("%d calls, %d sessions, %d tokens", calls, sessions, tokens)
	}
	if n := h.secrets.Requests(); n != 1+*rotations {
		t.Errorf("%d loads of the secret, want one at the start and %d", n, *rotations)
	}
	if refused := requests - sessions; refused < *rotations {
		t.Errorf("%d requests were refused, fewer than rotations: there was no load", refused)
	}
	t.Logf("%d calls, %d of them refused and sent once more", sessions, requests-sessions)
}

// TestRevokedKeyWithoutNewKey revokes the key under load. The tests of package
// apikey show that a key which is stored later is found after the cool-down of 10 s.
func TestRevokedKeyWithoutNewKey(t *testing.T) {
	const calls = 10 // of each caller
	h := newHarness(t)
	h.concurrency = callersUnderLoad()
	h.start(t)
	h.incode.SetKey("another")
	began := time.Now()
	var wg sync.WaitGroup
	for range h.concurrency {
		wg.Go(func() {
			for range calls {
				h.check(t, h.startSession(t, incodetest.FlowID), unauthorized)
			}
		})
	}
	wg.Wait()
	checkLoads(t, h, began)
	if h.incode.Requests() != h.concurrency*calls || h.incode.Sessions() != 0 {
		t.Errorf("%d requests and %d sessions, want %d and none",
			h.incode.Requests(), h.incode.Sessions(), h.concurrency*calls)
	}
}

// checkLoads checks that the secret was loaded once in the init, and once in each
// cool-down since the key was refused.
func checkLoads(t *testing.T, h *harness, refused time.Time) {
	t.Helper()
	coolDowns := 1 + int(time.Since(refused)/(10*time.Second))
	if n := h.secrets.Requests(); n < 2 || n > 1+coolDowns {
		t.Errorf("%d loads of the secret, want one in the init and one in each of %d cool-downs", n, coolDowns)
	}
}
