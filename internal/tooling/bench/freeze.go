//go:build linux

package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"omnistart/internal/tooling/runtimeapitest"
)

const (
	// freezeTrials is how many processes meet each ending. Every second one has
	// answered a request before, the others have only connected ahead.
	freezeTrials = 200

	// silence is longer than the product trusts an idle connection.
	silence = 51 * time.Second
)

// freezeResult counts what became of processes that were frozen while their
// connections to Incode ended.
type freezeResult struct {
	Variant, Ending string
	Trials, Failed  int64
	Duplicates      int // requests that reached Incode beyond those that were made
}

// freeze stops processes as Lambda does between two events, ends their
// connections, and hands each an event before it goes on.
func freeze(ctx context.Context, v variant, t *trust, event []byte) ([]freezeResult, error) {
	var results []freezeResult
	for _, ending := range endings {
		r := freezeResult{Variant: v.name, Ending: ending.name, Trials: freezeTrials}
		s, err := newSurroundings(t, distance{}, nil)
		if err != nil {
			return nil, err
		}
		functions, err := frozen(ctx, v, s, event)
		if err == nil {
			s.incodeLink.breakAll(ending.end)
			if ending.name == silentEnding {
				time.Sleep(silence)
			}
			var failed atomic.Int64
			err = each(functions, func(f *runtimeapitest.Function) error {
				if _, err := invoke(ctx, f, event); err != nil {
					failed.Add(1)
				}
				return ctx.Err()
			})
			r.Failed = failed.Load()
			r.Duplicates = max(0, s.incode.Requests()-freezeTrials-freezeTrials/2)
		}
		_ = each(functions, func(f *runtimeapitest.Function) error { f.Close(); return nil })
		s.close()
		if err != nil {
			return nil, fmt.Errorf("freezing %s, %s: %w", v.name, ending.name, err)
		}
		results = append(results, r)
	}
	return results, nil
}

// frozen starts the processes of one ending and stops them.
func frozen(ctx context.Context, v variant, s *surroundings, event []byte) ([]*runtimeapitest.Function, error) {
	var functions []*runtimeapitest.Function
	env := s.env(append(v.tuned, "SSL_CERT_DIR=/nonexistent")...)
	for i := range freezeTrials {
		f, err := runtimeapitest.Start(ctx, runtimeapitest.Config{Bootstrap: v.bootstrap, Env: env, Timeout: 30 * time.Second})
		if err != nil {
			return functions, err
		}
		functions = append(functions, f)
		if i%2 == 0 {
			if _, err := invoke(ctx, f, event); err != nil {
				return functions, err
			}
		}
		if err := f.Freeze(ctx); err != nil {
			return functions, err
		}
	}
	return functions, nil
}

// each calls do for all functions at once and returns the first error.
func each(functions []*runtimeapitest.Function, do func(*runtimeapitest.Function) error) error {
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	for _, f := range functions {
		wg.Go(func() {
			if err := do(f); err != nil {
				once.Do(func() { first = err })
			}
		})
	}
	wg.Wait()
	return first
}
