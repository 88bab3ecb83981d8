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

// server delays its responses, and so those of invocations with the event "get".
type server struct {
	url     string
	arrived chan struct{} // receives one value for each request
	respond func()
}

func newServer(t *testing.T) server {
	t.Helper()
	arrived, respond := make(chan struct{}, 8), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		select {
		case <-respond:
		case <-r.Context().Done(): // the process has ended
		}
	}))
	t.Cleanup(s.Close)
	once := sync.OnceFunc(func() { close(respond) })
	t.Cleanup(once)
	return server{s.URL, arrived, once}
}

// result is the outcome of an invocation.
type result struct {
	response string
	err      error
}

// occupy invokes the function n times and returns when all n run at the same time.
func (s server) occupy(ctx context.Context, t *testing.T, f *runtimeapitest.Function, n int) <-chan result {
	t.Helper()
	results := make(chan result, n)
	for range n {
		go func() {
			response, _, err := invoke(ctx, f, "get "+s.url)
			results <- result{response, err}
		}()
	}
	for range n {
		select {
		case <-s.arrived:
		case r := <-results:
			t.Fatalf("an invocation ended: %+v", r)
		}
	}
	return results
}

// failure returns the type of a *FunctionError, and "" for any other error.
func failure(err error) string {
	if fe, ok := errors.AsType[*runtimeapitest.FunctionError](err); ok {
		return fe.Type
	}
	return ""
}

func TestConcurrencyIsReachedAndNotExceeded(t *testing.T) {
	for _, concurrency := range []int{1, 3} {
		t.Run(strconv.Itoa(concurrency), func(t *testing.T) {
			c := config(t, "function")
			c.Concurrency = concurrency
			f, s := start(t, c), newServer(t)
			running := s.occupy(t.Context(), t, f, concurrency)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if response, _, err := invoke(ctx, f, "echo too many"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("one more: %q, %v, want it to wait", response, err)
			}
			waiting := make(chan result)
			go func() {
				response, _, err := invoke(t.Context(), f, "pid")
				waiting <- result{response, err}
			}()
			s.respond()
			want := result{response: strconv.Itoa(f.Pid())}
			for range concurrency {
				if r := <-running; r != want {
					t.Errorf("got %+v, want %+v", r, want)
				}
			}
			if r := <-waiting; r != want {
				t.Errorf("the one that waited: %+v, want %+v", r, want)
			}
		})
	}
}

func TestEndOfTheProcessFailsAllInvocationsInFlight(t *testing.T) {
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
			f, s := start(t, c), newServer(t)
			before := f.Pid()
			running := s.occupy(t.Context(), t, f, 2)
			end(t, f)
			for range 2 {
				if r := <-running; failure(r.err) != "Runtime.ExitError" {
					t.Errorf("in flight: %+v", r)
				}
			}
			ended(t, before)
			var wg sync.WaitGroup
			ids := make([]int, 2*c.Concurrency)
			for n := range ids {
				wg.Go(func() {
					response, _, _ := invoke(t.Context(), f, "pid")
					ids[n], _ = strconv.Atoi(response)
				})
			}
			wg.Wait()
			if ids = slices.Compact(ids); len(ids) != 1 || ids[0] == before || ids[0] == 0 {
				t.Errorf("the next invocations ran in the processes %v, want a single one other than %d", ids, before)
			}
		})
	}
}

func TestAbandonedInvocationDoesNotEndTheOthers(t *testing.T) {
	for _, reason := range []string{"timeout", "cancelled"} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel() // it waits
			c := config(t, "function")
			ctx, cancel := t.Context(), func() {}
			if reason == "timeout" {
				c.Timeout = 5 * time.Second // enough for the other invocations
			} else {
				ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
			}
			defer cancel()
			c.Concurrency = 2
			f, s := start(t, c), newServer(t)
			before := pid(t, f)
			_, _, err := invoke(ctx, f, "get "+s.url)
			if err == nil || (failure(err) == "Sandbox.Timedout") != (reason == "timeout") {
				t.Errorf("got %v", err)
			}
			if id := pid(t, f); id != before {
				t.Errorf("the next invocation ran in process %d, want %d", id, before)
			}
			s.respond() // the late response must not confuse the process
			newServer(t).occupy(t.Context(), t, f, c.Concurrency)
			if id := f.Pid(); id != before {
				t.Errorf("process %d after the late response, want %d", id, before)
			}
		})
	}
}
