//go:build unix

package main

import (
	"flag"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

var (
	all      = flag.Bool("all", false, "run all rows of TestFaults and TestDeadlines, with all callers")
	together = flag.Int("together", 4, "number of concurrent calls, at most 32, in the tests that have them")
)

// TestFaults is the fault matrix. Each row makes one thing fail, once, and expects
// the documented response, no more requests than documented, no secret in any
// output, bounded memory, and that the same process responds to the next call with a
// session. It runs with one call at a time, and with concurrent calls that all
// meet the fault: each of them must get what a single call gets.
func TestFaults(t *testing.T) {
	t.Parallel() // it waits
	if runtime.GOOS != "linux" {
		t.Log("NOT CHECKED: the limit of the memory, which needs Linux")
	}
	single := &matrix{concurrency: 1, callers: 1, step: 8, slots: make(chan struct{}, 4)}
	// Fewer rows at a time: the 3 seconds for a connection must suffice for as many
	// handshakes.
	concurrent := &matrix{concurrency: 32, callers: *together, step: 100, slots: make(chan struct{}, 2)}
	if *all {
		single.step, concurrent.step = 1, 1
	}
	var wg sync.WaitGroup // go test's -parallel allows too few tests, since most rows wait
	for _, m := range []*matrix{single, concurrent} {
		wg.Go(func() {
			t.Run(fmt.Sprint(m.concurrency), func(t *testing.T) {
				var wg sync.WaitGroup
				for name, group := range map[string]func(*testing.T, *matrix){
					"secret": secretFaults, "incode": responseFaults, "network": networkFaults, "half broken": halfBrokenFaults,
				} {
					wg.Go(func() { t.Run(name, func(t *testing.T) { group(t, m) }) })
				}
				wg.Wait()
				t.Logf("%d faults, each met by %d concurrent calls: %d passed, %d failed, %d not checked", m.tried.Load(),
					m.callers, m.tried.Load()-m.failed.Load()-m.skipped.Load(), m.failed.Load(), m.skipped.Load())
			})
		})
	}
	wg.Wait()
}

// matrix runs the rows with a number of concurrent calls.
type matrix struct {
	concurrency, callers int // as in harness
	step                 int // of each kind of fault, one row of so many runs
	// slots limits how many rows run at the same time. On a busy machine, too many
	// processes would exceed the timeouts of the function.
	slots                  chan struct{}
	tried, failed, skipped atomic.Int32
}

// harness returns the harness for a row.
func (m *matrix) harness(t *testing.T) *harness {
	h := newHarness(t)
	h.concurrency, h.callers = m.concurrency, m.callers
	return h
}

// row is one fault.
type row struct {
	name string
	run  func(*testing.T)
}

// sample returns the first of every step rows. Rows of the same kind are passed
// together, so at least one of each kind runs.
func (m *matrix) sample(rows []row) []row {
	var sampled []row
	for i := 0; i < len(rows); i += m.step {
		sampled = append(sampled, rows[i])
	}
	return sampled
}

// run runs a sample of each kind, several rows at the same time.
func (m *matrix) run(t *testing.T, kinds ...[]row) {
	var wg sync.WaitGroup
	for _, rows := range kinds {
		for _, r := range m.sample(rows) {
			wg.Go(func() {
				m.slots <- struct{}{}
				defer func() { <-m.slots }()
				m.runRow(t, r)
			})
		}
	}
	wg.Wait()
}

func (m *matrix) runRow(t *testing.T, r row) {
	m.tried.Add(1)
	passed := t.Run(r.name, func(t *testing.T) {
		defer func() {
			if t.Skipped() {
				m.skipped.Add(1)
			}
		}()
		r.run(t)
	})
	if !passed {
		m.failed.Add(1)
	}
}

// responseFault is a faulty response of Incode.
type responseFault struct {
	name string
	act  func(*rawServer, serverConn) (keepOpen bool)
	want outcome
}

// try makes calls that meet a fault, and then successful ones.
func (s *rawServer) try(t *testing.T, h *harness, f responseFault) {
	t.Helper()
	requests, sessions := s.requests.Load(), s.sessions.Load()
	s.nextRequests(h.callers, func(c serverConn) bool { return f.act(s, c) })
	for _, resp := range h.startSessions(t, f.want) {
		if strings.Contains(resp.token, "canary") {
			t.Errorf("got the token %q, which belongs to another caller", resp.token)
		}
	}
	if n := s.requests.Load() - requests; int(n) != h.callers {
		t.Errorf("%d requests arrived, want %d", n, h.callers)
	}
	if f.want.status != 200 && s.sessions.Load() > sessions && !slices.Contains(sessionPossible, f.want.code) {
		t.Errorf("a session exists, and %s says that there is none", f.want.code)
	}
	s.checkSuccess(t, h)
}

// checkSuccess expects that each of the next calls starts a session of its own.
func (s *rawServer) checkSuccess(t *testing.T, h *harness) {
	t.Helper()
	requests, sessions := s.requests.Load(), s.sessions.Load()
	s.nextRequests(h.callers, func(c serverConn) bool { c.write(s.newSession()); return true })
	tokens := map[string]bool{}
	for _, resp := range h.startSessions(t, success) {
		tokens[resp.token] = true
	}
	for i := range int32(h.callers) {
		if token := fmt.Sprintf("eyJ%d", sessions+1+i); !tokens[token] {
			t.Errorf("none of the next calls got the token %q", token)
		}
	}
	if n := s.requests.Load() - requests; int(n) != h.callers {
		t.Errorf("the next calls sent %d requests, want %d", n, h.callers)
	}
}
