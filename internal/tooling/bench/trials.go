//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"omnistart/internal/tooling/runtimeapitest"
)

// warmCalls is how many requests follow the first one where warm requests are
// measured.
const warmCalls = 200

// variant is one way to build the function.
type variant struct {
	name      string
	bootstrap string   // path of the executable
	tuned     []string // environment that template.yaml gives the product; the others have none
}

const product = "product"

// variants returns what is measured, as built in dir. Node is among them where
// it has been installed.
func variants(dir string, node bool) []variant {
	vs := []variant{
		{product, filepath.Join(dir, "start"), []string{"SSL_CERT_DIR=/nonexistent", "GOMAXPROCS=1"}},
		{"naive", filepath.Join(dir, "naive"), nil},
		{"bare", filepath.Join(dir, "bare"), nil},
		{"hello", filepath.Join(dir, "hello"), nil},
	}
	if node {
		vs = append(vs, variant{"node", filepath.Join(dir, "node", "index.mjs"), nil})
	}
	return vs
}

// scenario is what surrounds the variants in a trial.
type scenario struct {
	name     string
	distance distance
	al2023   bool // Amazon Linux 2023's certificates, not a single bundle
	memory   int  // in MB, which sets the share of a processor; 0 is all of one
	warm     bool // measure warm requests, too
}

var scenarios = []scenario{
	{name: "zero", al2023: true, warm: true},
	{name: "zero, one bundle"},
	{name: "L", distance: far, al2023: true},
	{name: "L, 128 MB", distance: far, al2023: true, memory: 128},
	{name: "L, 256 MB", distance: far, al2023: true, memory: 256},
	{name: "L, 512 MB", distance: far, al2023: true, memory: 512},
	{name: "L, 1024 MB", distance: far, al2023: true, memory: 1024},
}

// trial is what one process did. Times are in milliseconds, memory is in bytes.
type trial struct {
	Init, FirstToken, InitCPU                      float64
	WarmMedian, WarmP99, WarmCPU                   float64 // a request; less the time that Incode took
	Memory                                         float64
	SecretsConnections, Connections, WarmConnected float64 // the last: new connections in the warm requests
}

// measures names the fields of a trial for the report.
var measures = []struct {
	name string
	of   func(trial) float64
}{
	{"init ms", func(t trial) float64 { return t.Init }},
	{"first token ms", func(t trial) float64 { return t.FirstToken }},
	{"init CPU ms", func(t trial) float64 { return t.InitCPU }},
	{"warm ms", func(t trial) float64 { return t.WarmMedian }},
	{"warm p99 ms", func(t trial) float64 { return t.WarmP99 }},
	{"warm CPU ms", func(t trial) float64 { return t.WarmCPU }},
	{"memory MB", func(t trial) float64 { return t.Memory / 1e6 }},
}

func milliseconds(d time.Duration) float64 { return float64(d) / 1e6 }

// run makes one trial: a process from its start to its end.
func (v variant) run(ctx context.Context, sc scenario, s *surroundings, q *quota, event []byte) (t trial, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s in scenario %s: %w", v.name, sc.name, err)
		}
	}()
	env := v.tuned
	if len(env) == 0 && sc.al2023 {
		env = []string{"SSL_CERT_DIR=" + s.trust.al2023}
	} else if len(env) == 0 {
		env = []string{"SSL_CERT_DIR=/nonexistent"}
	}
	secrets, incode := s.secretsLink.accepted.Load(), s.incodeLink.accepted.Load()
	f, err := runtimeapitest.Start(ctx, runtimeapitest.Config{Bootstrap: v.bootstrap, Env: s.env(env...), Timeout: 30 * time.Second})
	if err != nil {
		return t, err
	}
	defer f.Close()
	cpu, err := cpuTime(f.Pid())
	if err != nil {
		return t, err
	}
	t.InitCPU = milliseconds(cpu)
	if q != nil {
		if err := q.hold(f.Pid()); err != nil {
			return t, err
		}
	}
	first, err := invoke(ctx, f, event)
	if err != nil {
		return t, err
	}
	t.Init, t.FirstToken = milliseconds(first.InitDuration), milliseconds(first.InitDuration+first.Duration)
	t.SecretsConnections = float64(s.secretsLink.accepted.Load() - secrets)
	t.Connections = float64(s.incodeLink.accepted.Load() - incode)
	if sc.warm {
		if err := t.warm(ctx, f, s, event); err != nil {
			return t, err
		}
	}
	t.Memory, err = peakMemory(f.Pid())
	return t, err
}

// warm measures the requests after the first.
func (t *trial) warm(ctx context.Context, f *runtimeapitest.Function, s *surroundings, event []byte) error {
	connected := s.incodeLink.accepted.Load()
	before, err := cpuTime(f.Pid())
	if err != nil {
		return err
	}
	var overheads []float64
	for range warmCalls {
		busy := s.incodeBusy.Load()
		result, err := invoke(ctx, f, event)
		if err != nil {
			return err
		}
		overheads = append(overheads, milliseconds(result.Duration-time.Duration(s.incodeBusy.Load()-busy)))
	}
	after, err := cpuTime(f.Pid())
	if err != nil {
		return err
	}
	t.WarmMedian, t.WarmP99 = median(overheads), quantile(overheads, 0.99)
	t.WarmCPU = milliseconds(after-before) / warmCalls
	t.WarmConnected = float64(s.incodeLink.accepted.Load() - connected)
	return nil
}

// invoke makes a request that has to succeed.
func invoke(ctx context.Context, f *runtimeapitest.Function, event []byte) (runtimeapitest.Result, error) {
	result, status, err := call(ctx, f, event)
	if err == nil && status != 200 {
		err = fmt.Errorf("answered %s", result.Payload)
	}
	return result, err
}

// call makes a request and returns the answer's status.
func call(ctx context.Context, f *runtimeapitest.Function, event []byte) (runtimeapitest.Result, int, error) {
	result, err := f.Invoke(ctx, event)
	if err != nil {
		return result, 0, err
	}
	var answer struct{ StatusCode int }
	err = json.Unmarshal(result.Payload, &answer)
	return result, answer.StatusCode, err
}
