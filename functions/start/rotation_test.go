//go:build unix

package main

import (
	"flag"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"omnistart/internal/tooling/incodetest"
)

// callers call without pause, each as soon as it has its answer.
type callers struct {
	running sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond // done or stop
	done    []int      // calls, by caller
	all     int        // calls
	stop    bool
	tokens  map[string]bool
}

// call lets n callers loose on a function. Whatever they get but a session is a
// failure of the test.
func call(t *testing.T, r *rig, n int) *callers {
	t.Helper()
	c := &callers{done: make([]int, n), tokens: map[string]bool{}}
	c.changed = sync.NewCond(&c.mu)
	for i := range n {
		c.running.Go(func() {
			defer c.tell(func() { c.done[i] = math.MaxInt }) // nobody waits for one who has left
			for stop := false; !stop; {
				a := r.session(t, incodetest.FlowID)
				if a.status != 200 {
					t.Errorf("got %+v", a)
				}
				c.tell(func() { c.done[i]++; c.all++; c.tokens[a.token] = true; stop = c.stop })
			}
		})
	}
	return c
}

func (c *callers) tell(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	c.changed.Broadcast()
}

// lap waits until every caller has made two more calls. The second has begun
// after lap has, and so has all that is in flight when lap returns begun with
// what the function learned from the second.
func (c *callers) lap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, before := range slices.Clone(c.done) {
		for c.done[i]-before < 2 {
			c.changed.Wait()
		}
	}
}

// wait waits for n more calls of anybody.
func (c *callers) wait(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for before := c.all; c.all-before < n; {
		c.changed.Wait()
	}
}

// end stops the callers, waits for them and returns how many different tokens
// they got.
func (c *callers) end() int {
	c.tell(func() { c.stop = true })
	c.running.Wait()
	return len(c.tokens)
}

var rotations = flag.Int("rotations", 20, "rotations of the key under load")

// TestRotationUnderLoad rotates the key as the README says, the secret first.
// Every other time the old key dies at once, else it lives on for a while. Two
// rotations lie further apart than a call takes: a call tries two keys, no more.
func TestRotationUnderLoad(t *testing.T) {
	const inFlight = 64
	r := newRig(t)
	r.concurrency = inFlight
	r.env["INCODE_TIMEOUT"] = "20s" // a busy machine is no fault
	r.start(t, time.Minute)
	c := call(t, r, inFlight)
	old := incodetest.Key
	for i := range *rotations {
		c.lap()
		next := fmt.Sprintf("canary-key-%d", i)
		r.incode.SetKey(old, next)
		r.secrets.Put(secretID, next)
		if i%2 == 1 {
			c.wait(inFlight)
		}
		r.incode.SetKey(next)
		old = next
	}
	c.lap()
	tokens := c.end()
	sessions, requests := r.incode.Sessions(), r.incode.Requests()
	r.Close() // so that all output is here
	if calls := len(r.lines(t)); calls != sessions || calls != tokens {
		t.Errorf("%d calls, %d sessions, %d tokens", calls, sessions, tokens)
	}
	if n := r.secrets.Requests(); n != 1+*rotations {
		t.Errorf("%d loads of the secret, want one at the start and %d", n, *rotations)
	}
	if refused := requests - sessions; refused < *rotations {
		t.Errorf("%d requests were refused: the rotations met no load", refused)
	}
	t.Logf("%d calls, %d of them refused and sent once more", sessions, requests-sessions)
}

// TestRevokedKeyWithoutSuccessor revokes the key under many callers. A successor
// that is stored too late is found when the cool-down has ended, which package
// apikey tests, since it takes ten seconds.
func TestRevokedKeyWithoutSuccessor(t *testing.T) {
	const inFlight, each = 64, 10
	r := newRig(t)
	r.concurrency = inFlight
	r.env["INCODE_TIMEOUT"] = "20s"
	r.start(t, time.Minute)
	r.incode.SetKey("another")
	began := time.Now()
	var wg sync.WaitGroup
	for range inFlight {
		wg.Go(func() {
			for range each {
				r.check(t, r.session(t, incodetest.FlowID), unauthorized)
			}
		})
	}
	wg.Wait()
	coolDowns := 1 + int(time.Since(began)/(10*time.Second))
	if n := r.secrets.Requests(); n < 2 || n > 1+coolDowns {
		t.Errorf("%d loads of the secret, want one at the start and one per cool-down", n)
	}
	if r.incode.Requests() != inFlight*each || r.incode.Sessions() != 0 {
		t.Errorf("%d requests and %d sessions, want %d and none", r.incode.Requests(), r.incode.Sessions(), inFlight*each)
	}
}
