//go:build unix

package runtimeapitest_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"omnistart/internal/tooling/runtimeapitest"
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
		case <-time.After(10 * time.Second):
			t.Fatal("they are not all let in")
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
	tests := map[string]func(t *testing.T, f *runtimeapitest.Function){
		"exit": func(t *testing.T, f *runtimeapitest.Function) {
			if _, _, err := invoke(t.Context(), f, "exit"); failure(err) != "Runtime.ExitError" {
				t.Errorf("exit: %v", err)
			}
		},
		"Close": func(_ *testing.T, f *runtimeapitest.Function) { f.Close() },
	}
	for name, end := range tests {
		t.Run(name, func(t *testing.T) {
			c := config(t, "function")
			c.Concurrency = 3
			f, g := start(t, c), newGate(t)
			before := f.Pid()
			held := g.hold(t.Context(), t, f, 2)
			end(t, f)
			for range 2 {
				if o := <-held; failure(o.err) != "Runtime.ExitError" {
					t.Errorf("in flight: %+v", o)
				}
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

func TestOneThatIsGivenUpFailsAlone(t *testing.T) {
	tests := []struct {
		name     string
		timeout  time.Duration // Lambda's
		patience time.Duration // the caller's
		want     string        // type of error
	}{
		{"timeout", time.Second, time.Minute, "Sandbox.Timedout"},
		{"cancelled", time.Minute, 100 * time.Millisecond, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config(t, "function")
			c.Concurrency, c.Timeout = 2, tt.timeout
			f, g := start(t, c), newGate(t)
			before := pid(t, f)
			ctx, cancel := context.WithTimeout(t.Context(), tt.patience)
			defer cancel()
			if _, _, err := invoke(ctx, f, "hold "+g.url); err == nil || failure(err) != tt.want {
				t.Errorf("got %v", err)
			}
			if id := pid(t, f); id != before {
				t.Errorf("the one beside it met process %d, want %d", id, before)
			}
			g.open() // its late answer must not upset the process
			newGate(t).hold(t.Context(), t, f, c.Concurrency)
			if id := f.Pid(); id != before {
				t.Errorf("process %d after the late answer, want %d", id, before)
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
