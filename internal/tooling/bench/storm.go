//go:build linux

package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"omnistart/internal/tooling/runtimeapitest"
)

const (
	stormProcesses = 500
	stormAtOnce    = 100 // so many exist together
	stormRate      = 50  // requests a second that Secrets Manager lets pass
	stormAttempts  = 20  // a caller gives up after so many
)

// stormResult is what became of a storm of cold starts.
type stormResult struct {
	Processes, Recovered int64
	Throttled            int64 // requests that Secrets Manager refused
	Refused              int64 // answers other than 200, each tried again after its Retry-After
	MostAttempts         int64 // of one caller
	Seconds              float64
}

// limiter lets rate requests a second pass and throttles the others as AWS does.
type limiter struct {
	next      http.Handler
	throttled atomic.Int64

	mu     sync.Mutex // guards what follows
	tokens float64
	filled time.Time
}

func (l *limiter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if l.pass() {
		l.next.ServeHTTP(w, r)
		return
	}
	l.throttled.Add(1)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-ErrorType", "ThrottlingException")
	w.WriteHeader(http.StatusBadRequest)
	fmt.Fprint(w, `{"__type":"ThrottlingException","message":"Rate exceeded"}`)
}

func (l *limiter) pass() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.tokens = min(stormRate, l.tokens+stormRate*now.Sub(l.filled).Seconds())
	l.filled = now
	if l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}

// storm starts processes against a Secrets Manager that throttles. Each gets one
// caller, who tries again when told so.
func storm(ctx context.Context, v variant, t *trust, event []byte) (*stormResult, error) {
	var limit limiter
	s, err := newSurroundings(t, distance{}, func(next http.Handler) http.Handler {
		limit.next = next
		return &limit
	})
	if err != nil {
		return nil, err
	}
	defer s.close()
	env := s.env(append(v.tuned, "SSL_CERT_DIR=/nonexistent")...)
	r := &stormResult{Processes: stormProcesses}
	var mu sync.Mutex // guards r and failure
	var failure error
	var wg sync.WaitGroup
	slots := make(chan struct{}, stormAtOnce)
	began := time.Now()
	for range stormProcesses {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			attempts, err := survive(ctx, runtimeapitest.Config{Bootstrap: v.bootstrap, Env: env, Timeout: 15 * time.Second}, event)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failure = err
				return
			}
			r.Recovered++
			r.Refused += attempts - 1
			r.MostAttempts = max(r.MostAttempts, attempts)
		})
	}
	wg.Wait()
	r.Seconds = time.Since(began).Seconds()
	r.Throttled = limit.throttled.Load()
	return r, failure
}

// survive starts one process and calls it until it answers 200; it returns the
// number of attempts.
func survive(ctx context.Context, c runtimeapitest.Config, event []byte) (int64, error) {
	f, err := runtimeapitest.Start(ctx, c)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for attempt := int64(1); ; attempt++ {
		result, status, err := call(ctx, f, event)
		if err != nil || status == http.StatusOK {
			return attempt, err
		}
		if status != http.StatusServiceUnavailable || attempt == stormAttempts {
			return attempt, fmt.Errorf("attempt %d was answered %s", attempt, result.Payload)
		}
		time.Sleep(time.Second) // its Retry-After
	}
}
