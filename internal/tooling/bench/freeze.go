//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"omnistart/internal/tooling/runtimeapitest"
)

const (
	// frozenProcesses is how many processes meet each break. Half of them have
	// answered a request before. The others have only opened a connection.
	frozenProcesses = 50

	// maxIdle is longer than the product keeps an idle connection.
	maxIdle = 51 * time.Second
)

// The ways in which an idle connection breaks.
func closed(c *conn) { _ = c.Close() }                    // the server sends FIN
func reset(c *conn)  { _, _ = c.SetLinger(0), c.Close() } // the server sends RST
func silent(c *conn) { c.silent.Store(true) }             // a router drops all packets

// freeze stops processes as Lambda does between two events, breaks their
// connections to Incode, and gives each an event before it continues. It returns
// how many processes failed that request, and how many requests arrived at Incode
// beyond those that were made.
func (b *bench) freeze(ctx context.Context) (failed, duplicates int, err error) {
	env, err := newEnvironment(b.dir, scenario{distance: distance{incodeRTT: time.Millisecond}})
	if err != nil {
		return 0, 0, err
	}
	defer env.close()
	breaks := []func(*conn){closed, reset, silent}
	fmt.Fprintf(b.out, "freezing %d processes\n", len(breaks)*frozenProcesses)
	var functions []*runtimeapitest.Function
	requests := 0
	for i := range len(breaks) * frozenProcesses {
		f, err := b.variants[0].start(ctx, env)
		if err != nil {
			return 0, 0, err
		}
		defer f.Close()
		functions = append(functions, f)
		if i%2 == 0 {
			requests++
			if _, err := invoke(ctx, f, b.event); err != nil {
				return 0, 0, err
			}
		}
		if err := f.Freeze(ctx); err != nil {
			return 0, 0, err
		}
	}
	conns := env.incodeLink.accepted()
	if len(conns) != len(functions) {
		return 0, 0, fmt.Errorf("%d processes opened %d connections to Incode", len(functions), len(conns))
	}
	for i, c := range conns {
		breaks[i/frozenProcesses](c)
	}
	for i, f := range functions {
		if i == 2*frozenProcesses { // the silent connections follow
			time.Sleep(maxIdle)
		}
		requests++
		if _, err := invoke(ctx, f, b.event); err != nil {
			failed++
			fmt.Fprintf(b.out, "frozen process %d: %v\n", i, err)
		}
	}
	return failed, env.incode.Requests() - requests, ctx.Err()
}
