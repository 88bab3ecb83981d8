//go:build unix

package runtimeapitest_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"omnistart/internal/runtimeapi/runtimeapitest"
)

// gate is where the events "hold" report that they are in the function, and
// stay until open.
type gate struct {
	url     string
	entered chan struct{}
	open    func()
}

func newGate(t *testing.T) gate {
	t.Helper()
	entered, opened := make(chan struct{}, 8), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		select {
		case <-opened:
		case <-r.Context().Done(): // the process has ended
		}
	}))
	t.Cleanup(server.Close)
	open := sync.OnceFunc(func() { close(opened) })
	t.Cleanup(open)
	return gate{server.URL, entered, open}
}

// outcome is what became of an invocation.
type outcome struct {
	answer string
	err    error
}

// hold invokes the function n times and returns when all n are in it at once.
func (g gate) hold(ctx context.Context, t *testing.T, f *runtimeapitest.Function, n int) <-chan outcome {
	t.Helper()
	outcomes := make(chan outcome, n)
	for range n {
		go func() {
			answer, _, err := invoke(ctx, f, "hold "+g.url)
			outcomes <- outcome{answer, err}
		}()
	}
	for range n {
		select {
		case <-g.entered:
		case o := <-outcomes:
			t.Fatalf("one came back: %+v", o)
		}
	}
	return outcomes
}

// failure returns the type of a *FunctionError and "" of any other error.
func failure(err error) string {
	if fe, ok := errors.AsType[*runtimeapitest.FunctionError](err); ok {
		return fe.Type
	}
	return ""
}

func TestConcurrencyIsReachedAndNotExceeded(t *testing.T) {
	tests := []struct {
		name        string
		concurrency int
		env         []string
	}{
		{"one, though the process asks for two", 1, []string{"AWS_LAMBDA_MAX_CONCURRENCY=2"}},
		{"three", 3, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config(t, "function", tt.env...)
			c.Concurrency = tt.concurrency
			f, g := start(t, c), newGate(t)
			held := g.hold(t.Context(), t, f, tt.concurrency)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if answer, _, err := invoke(ctx, f, "echo too many"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("one more: %q, %v, want it to wait", answer, err)
			}
			waiting := make(chan outcome)
			go func() {
				answer, _, err := invoke(t.Context(), f, "pid")
				waiting <- outcome{answer, err}
			}()
			g.open()
			want := outcome{answer: strconv.Itoa(f.Pid())}
			for range tt.concurrency {
				if o := <-held; o != want {
					t.Errorf("held: %+v, want %+v", o, want)
				}
			}
			if o := <-waiting; o != want {
				t.Errorf("after it has waited: %+v, want %+v", o, want)
			}
		})
	}
}

func TestProcessThatEndsFailsAllInFlight(t *testing.T) {
	killed := []string{"Runtime.ExitError", "Runtime.ExitError"}
	tests := []struct {
		name    string
		timeout time.Duration
		end     func(t *testing.T, f *runtimeapitest.Function)
		want    []string // types of error of the two in flight
	}{
		{"exit", time.Minute, func(t *testing.T, f *runtimeapitest.Function) {
			if _, _, err := invoke(t.Context(), f, "exit"); failure(err) != "Runtime.ExitError" {
				t.Errorf("exit: %v", err)
			}
		}, killed},
		{"one is cancelled", time.Minute, func(t *testing.T, f *runtimeapitest.Function) {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if _, _, err := invoke(ctx, f, "hang"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("cancelled: %v", err)
			}
		}, killed},
		{"Close", time.Minute, func(_ *testing.T, f *runtimeapitest.Function) { f.Close() }, killed},
		// Whether the second one dies with the first or of its own timeout is a
		// matter of microseconds.
		{"timeout", time.Second, func(*testing.T, *runtimeapitest.Function) {}, []string{"Sandbox.Timedout"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config(t, "function")
			c.Concurrency, c.Timeout = 3, tt.timeout
			f, g := start(t, c), newGate(t)
			before := f.Pid()
			held := g.hold(t.Context(), t, f, 2)
			tt.end(t, f)
			got := []string{failure((<-held).err), failure((<-held).err)}
			if slices.Contains(got, "") || !strings.Contains(strings.Join(got, " "), strings.Join(tt.want, " ")) {
				t.Errorf("in flight: %q, want %q", got, tt.want)
			}
			gone(t, before)
			var again sync.WaitGroup
			ids := make([]int, 2*c.Concurrency)
			for n := range ids {
				again.Go(func() {
					answer, _, _ := invoke(t.Context(), f, "pid")
					ids[n], _ = strconv.Atoi(answer)
				})
			}
			again.Wait()
			if ids = slices.Compact(ids); len(ids) != 1 || ids[0] == before || ids[0] == 0 {
				t.Errorf("the next ones met the processes %v, want a single one other than %d", ids, before)
			}
		})
	}
}

func TestFreezeWaitsForAllInFlight(t *testing.T) {
	c := config(t, "function")
	c.Concurrency = 3
	f, g := start(t, c), newGate(t)
	held := g.hold(t.Context(), t, f, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := f.Freeze(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with one in flight: %v, want it to wait", err)
	}
	g.open()
	<-held
	if err := f.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return state(t, f.Pid()) == "T" })
	newGate(t).hold(t.Context(), t, f, c.Concurrency) // thawed, and all pollers are still there
}
