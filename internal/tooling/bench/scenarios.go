//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"omnistart/internal/tooling/procfs"
	"omnistart/internal/tooling/runtimeapitest"
)

// scenario is the conditions under which the variants are measured.
type scenario struct {
	name     string
	distance distance
	memory   int // in MB; Lambda limits the CPU in proportion. 0 means no limit
	requests int // after the first one, to measure warm requests and the memory
}

const noNetwork, inL, inL128 = "no network", "L", "L, 128 MB"

var (
	// distanceL was the design target: Secrets Manager in the same region, Incode across the internet.
	distanceL = distance{
		secretsRTT: 2 * time.Millisecond, secretsLatency: 10 * time.Millisecond,
		incodeRTT: 40 * time.Millisecond, incodeLatency: 120 * time.Millisecond,
	}
	scenarios = []scenario{
		{name: noNetwork, requests: 200},
		{name: inL, distance: distanceL},
		{name: inL128, distance: distanceL, memory: 128},
	}
)

// variant is one implementation of the function.
type variant struct {
	name       string
	executable string
	env        []string // as template.yaml sets it; the others run without such tuning
}

const product, bare, naive, node = "this function", "bare", "naive Go", "Node.js"

var variantNames = []string{product, bare, naive, node}

// installed returns the implementations in dir. Node.js is the last one, if npm has installed its packages.
func installed(dir string) []variant {
	all := []variant{
		{product, filepath.Join(dir, "start"), []string{"SSL_CERT_DIR=/nonexistent", "GOMAXPROCS=1"}},
		{bare, filepath.Join(dir, "bare"), nil},
		{naive, filepath.Join(dir, "naive"), nil},
		{node, filepath.Join(dir, "node", "index.mjs"), nil},
	}
	if _, err := os.Stat(filepath.Join(dir, "node", "node_modules")); err != nil {
		return all[:3]
	}
	return all
}

func (v variant) start(ctx context.Context, env *environment) (*runtimeapitest.Function, error) {
	return runtimeapitest.Start(ctx, runtimeapitest.Config{
		Bootstrap: v.executable, Env: append(env.variables, v.env...), Timeout: 30 * time.Second,
	})
}

// What is measured in each process: times in ms, memory in MB. The warm ones are of a request after the first, without
// the time that Incode takes.
const (
	firstToken, initCPU, peakMemory = "first token", "init CPU", "peak memory"
	warmMedian, warmP99, warmCPU    = "warm median", "warm p99", "warm CPU"
)

// measure runs one process from its start to its end.
func (v variant) measure(ctx context.Context, env *environment, event []byte) (map[string]float64, error) {
	f, err := v.start(ctx, env)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	atInit, err := procfs.CPUTime(f.Pid())
	if err != nil {
		return nil, err
	}
	if env.memory > 0 { // after the init, which Lambda does not limit
		if err := os.WriteFile(filepath.Join(env.controlGroup, "cgroup.procs"), fmt.Append(nil, f.Pid()), 0o600); err != nil {
			return nil, err
		}
	}
	first, err := invoke(ctx, f, event)
	if err != nil {
		return nil, err
	}
	values := map[string]float64{initCPU: ms(atInit), firstToken: ms(first.InitDuration + first.Duration)}
	if env.requests == 0 {
		return values, nil
	}
	before, err := procfs.CPUTime(f.Pid())
	if err != nil {
		return nil, err
	}
	var times []float64
	for range env.requests {
		incode := env.incodeTime.Load()
		result, err := invoke(ctx, f, event)
		if err != nil {
			return nil, err
		}
		times = append(times, ms(result.Duration-time.Duration(env.incodeTime.Load()-incode)))
	}
	after, cpuErr := procfs.CPUTime(f.Pid())
	memory, memoryErr := procfs.Status(f.Pid(), "VmHWM")
	values[warmMedian], values[warmP99] = median(times), quantile(times, 0.99)
	values[warmCPU], values[peakMemory] = ms(after-before)/float64(env.requests), float64(memory)/1e6
	return values, errors.Join(cpuErr, memoryErr)
}

// invoke makes a request that must succeed.
func invoke(ctx context.Context, f *runtimeapitest.Function, event []byte) (runtimeapitest.Result, error) {
	result, err := f.Invoke(ctx, event)
	if err != nil {
		return result, err
	}
	var response struct{ StatusCode int }
	if err := json.Unmarshal(result.Payload, &response); err != nil || response.StatusCode != 200 {
		return result, fmt.Errorf("the response is %s", result.Payload)
	}
	return result, nil
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

const (
	// frozenProcesses is how many processes meet each break. Half of them have answered a request before. The others have
	// only opened a connection.
	frozenProcesses = 50

	// maxIdle is longer than the product keeps an idle connection.
	maxIdle = 51 * time.Second
)

// The ways in which an idle connection breaks.
func closed(c *conn) { _ = c.Close() }                    // the server sends FIN
func reset(c *conn)  { _, _ = c.SetLinger(0), c.Close() } // the server sends RST
func silent(c *conn) { c.silent.Store(true) }             // a router drops all packets

// freeze stops processes as Lambda does between two events, breaks their connections to Incode, and gives each an event
// before it continues. It returns how many processes failed that request, and how many requests arrived at Incode
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
