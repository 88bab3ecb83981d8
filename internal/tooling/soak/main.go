//go:build linux

// Command soak calls the function as it is deployed a million times, with faults
// among the calls, and ends with an error when an answer is not the documented
// one, or when the process has grown.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"omnistart/internal/tooling/runtimeapitest"
)

const (
	// maxGrowth bounds what the memory and the live heap grow by after the warm-up,
	// by the line through all samples: two bytes a call in a million, a quarter of
	// the least that Go allocates. That is 140 bytes a fault: no goroutine and no
	// connection. The memory alone would not tell, since Go goes on touching pages
	// that it has mapped long ago.
	maxGrowth = 1 << 20
	// maxThreads bounds what the threads grow by. Go keeps those that it has had to
	// start.
	maxThreads = 8
	samples    = 200 // of a run; the first half is the warm-up
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	n := flags.Int("n", 1_000_000, "invocations")
	concurrency := flags.Int("concurrency", 32, "invocations at a time")
	bootstrap := flags.String("bootstrap", ".build/bootstrap", "the function")
	if err := flags.Parse(args); err != nil {
		return err
	}
	w, err := newWorld()
	if err != nil {
		return err
	}
	defer w.close()
	heap := &heap{}
	f, err := runtimeapitest.Start(ctx, runtimeapitest.Config{Bootstrap: *bootstrap, Env: w.env(), Concurrency: *concurrency, Timeout: 30 * time.Second, Stderr: heap})
	if err != nil {
		return err
	}
	defer f.Close()
	s := &soak{function: f, world: w, heap: heap, n: *n, codes: map[string]int{}, wrong: map[string]int{}}
	if err := s.run(ctx, *concurrency); err != nil {
		return err
	}
	s.report(out)
	return errors.Join(s.failures(*concurrency)...)
}

// soak is one run.
type soak struct {
	function *runtimeapitest.Function
	world    *world
	heap     *heap
	n        int
	took     time.Duration

	next atomic.Int64 // calls begun

	mu      sync.Mutex     // guards what follows
	codes   map[string]int // answers
	wrong   map[string]int // those that the call does not explain
	samples []sample
	failure error
}

// run makes the calls. Meanwhile the key rotates.
func (s *soak) run(ctx context.Context, concurrency int) error {
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	var rotations, callers sync.WaitGroup
	rotations.Go(func() { s.world.rotate(ctx) })
	pid := s.function.Pid()
	for range concurrency {
		callers.Go(func() {
			for ctx.Err() == nil {
				i := int(s.next.Add(1)) - 1
				if i >= s.n {
					return
				}
				if err := s.step(ctx, i, pid); err != nil {
					s.mu.Lock()
					s.failure = cmp.Or(s.failure, err) // the first is the cause of the others
					s.mu.Unlock()
					cancel()
				}
			}
		})
	}
	callers.Wait()
	cancel()
	rotations.Wait()
	s.took = time.Since(began)
	if s.failure == nil && s.function.Pid() != pid {
		return errors.New("the process has ended")
	}
	return cmp.Or(s.failure, s.quit(pid))
}

// quit ends the process in the way that makes Go print all goroutines.
func (s *soak) quit(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		return err
	}
	for tick := time.Tick(10 * time.Millisecond); s.function.Pid() == pid; {
		<-tick
	}
	return nil
}

// step makes the i-th call, and looks at the process when it is time.
func (s *soak) step(ctx context.Context, i, pid int) error {
	c := s.world.call(i)
	code, err := c.make(ctx, s.function)
	if err != nil {
		return fmt.Errorf("call %d: %w", i, err)
	}
	every := max(s.n/samples, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes[code]++
	if !slices.Contains(c.codes, code) {
		s.wrong[fmt.Sprintf("%s, not %v", code, c.codes)]++
	}
	if i%every != 0 {
		return nil
	}
	now, err := look(pid)
	now.calls, now.live = float64(i), s.heap.live()
	s.samples = append(s.samples, now)
	return err
}

// settled returns the samples after the warm-up.
func (s *soak) settled() []sample { return s.samples[len(s.samples)/2:] }

func (s *soak) report(out io.Writer) {
	w := s.world
	fmt.Fprintf(out, "%d calls in %v, %.0f a second; %d sessions, %d requests at Incode; %d rotations, %d loads of the secret\n",
		s.n, s.took.Round(time.Second), float64(s.n)/s.took.Seconds(), w.incode.Sessions(), w.incode.Requests(), w.rotations.Load(), w.secrets.Requests())
	for _, code := range slices.Sorted(maps.Keys(s.codes)) {
		fmt.Fprintf(out, "%9d %s\n", s.codes[code], code)
	}
	settled := s.settled()
	first, last := settled[0], settled[len(settled)-1]
	fmt.Fprintf(out, "from half of the calls on: memory %.1f MiB, at the end %.1f MiB, %+.1f KiB per 100,000 calls; live heap %.1f MiB on average, %+.1f KiB\n",
		first.rss/(1<<20), last.rss/(1<<20), slope(settled, rss)*100_000/1024, mean(settled, live)/(1<<20), slope(settled, live)*100_000/1024)
	fmt.Fprintf(out, "%d and %d threads; %d and %d descriptors, %d at most; %d goroutines at the end\n",
		first.threads, last.threads, first.descriptors, last.descriptors, most(s.samples), s.heap.stacks())
}

// failures returns what is not as it should be.
func (s *soak) failures(concurrency int) []error {
	var all []error
	fail := func(bad bool, format string, args ...any) {
		if bad {
			all = append(all, fmt.Errorf(format, args...))
		}
	}
	sum := 0
	for _, n := range s.codes {
		sum += n
	}
	fail(sum != s.n, "%d answers for %d calls", sum, s.n)
	for what, n := range s.wrong {
		fail(true, "%d answers were %s", n, what)
	}
	sessions := s.world.incode.Sessions()
	fail(sessions > s.n || sessions < s.codes["200"], "%d sessions for %d calls, %d of which got one", sessions, s.n, s.codes["200"])
	// A call is sent once more when its key has been revoked meanwhile.
	limit := s.n + concurrency*int(s.world.rotations.Load())
	fail(s.world.incode.Requests() > limit, "%d requests at Incode, more than %d", s.world.incode.Requests(), limit)
	settled := s.settled()
	first, last := settled[0], settled[len(settled)-1]
	for name, of := range map[string]func(sample) float64{"memory": rss, "live heap": live} {
		growth := slope(settled, of) * (last.calls - first.calls)
		fail(growth > maxGrowth, "the %s has grown by %.0f bytes, more than %d", name, growth, maxGrowth)
	}
	fail(mean(settled, live) == 0, "the function did not tell its live heap")
	fail(last.threads > first.threads+maxThreads, "%d threads have become %d", first.threads, last.threads)
	// One to Incode and two to the Runtime API, for the event and the answer, for
	// each call at a time, one to Secrets Manager, and what Go itself has open.
	limit = 3*concurrency + 16
	fail(most(s.samples) > limit, "%d descriptors, more than %d", most(s.samples), limit)
	// For each call at a time its loop and up to three connections, of which
	// net/http's have two. A goroutine for each fault would make thousands.
	few := 6*concurrency + 16
	fail(s.heap.stacks() == 0 || s.heap.stacks() > few, "%d goroutines, want 1 to %d", s.heap.stacks(), few)
	// A cool-down is ten seconds.
	loads := 2 + int(s.took/(10*time.Second)) + int(s.world.rotations.Load())
	fail(s.world.secrets.Requests() > loads, "%d loads of the secret, more than %d", s.world.secrets.Requests(), loads)
	return all
}
