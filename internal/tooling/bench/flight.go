//go:build linux

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"omnistart/internal/tooling/runtimeapitest"
)

// requestsEach is how many requests every caller makes, one after the other.
const requestsEach = 25

// flightResult is one process with many requests in flight, as Lambda has it on
// managed instances.
type flightResult struct {
	InFlight    int
	PerSecond   float64 // requests
	Median, P99 float64 // ms
	CPU         float64 // ms a request
	Connections int64   // to Incode
}

// flight measures one process with ever more requests in flight.
func flight(ctx context.Context, v variant, t *trust, event []byte) ([]flightResult, error) {
	var results []flightResult
	for n := 1; n <= 64; n *= 2 {
		r, err := fly(ctx, v, t, event, n)
		if err != nil {
			return nil, fmt.Errorf("%d in flight: %w", n, err)
		}
		results = append(results, r)
	}
	return results, nil
}

func fly(ctx context.Context, v variant, t *trust, event []byte, n int) (flightResult, error) {
	s, err := newSurroundings(t, far, nil)
	if err != nil {
		return flightResult{}, err
	}
	defer s.close()
	f, err := runtimeapitest.Start(ctx, runtimeapitest.Config{
		Bootstrap: v.bootstrap, Env: s.env(append(v.tuned, "SSL_CERT_DIR=/nonexistent")...), Timeout: 30 * time.Second, Concurrency: n,
	})
	if err != nil {
		return flightResult{}, err
	}
	defer f.Close()

	var mu sync.Mutex // guards times and failure
	var times []float64
	var failure error
	volley := func(requests int) {
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				for range requests {
					result, err := invoke(ctx, f, event)
					mu.Lock()
					if err != nil {
						failure = err
					}
					times = append(times, milliseconds(result.Duration))
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	volley(1) // opens the connections
	times = nil
	before, err := cpuTime(f.Pid())
	if err != nil {
		return flightResult{}, err
	}
	began := time.Now()
	volley(requestsEach)
	took := time.Since(began)
	after, err := cpuTime(f.Pid())
	if err != nil {
		return flightResult{}, err
	}
	total := float64(n * requestsEach)
	return flightResult{
		InFlight: n, PerSecond: total / took.Seconds(), Median: median(times), P99: quantile(times, 0.99),
		CPU: milliseconds(after-before) / total, Connections: s.incodeLink.accepted.Load(),
	}, failure
}
