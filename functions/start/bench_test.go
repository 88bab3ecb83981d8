//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"omnistart/internal/runtimeapi/runtimeapitest"
)

// incodeLatency is what the benchmarks' Incode takes to answer: about what the
// real one does.
const incodeLatency = 120 * time.Millisecond

// prepareBench returns the function as it is deployed, its services with
// Incode's latency, and an event.
func prepareBench(b *testing.B) (runtimeapitest.Config, []byte) {
	b.Helper()
	r := newRig(b)
	r.incode.Latency = incodeLatency
	r.env["SSL_CERT_DIR"], r.env["GOMAXPROCS"] = "/nonexistent", "1" // as in template.yaml
	c := r.config(5 * time.Second)
	c.Bootstrap = filepath.Join(b.TempDir(), "bootstrap")
	build := exec.Command("go", "build", "-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w", "-o", c.Bootstrap, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	event, err := os.ReadFile("../../internal/endpoint/testdata/iam.json")
	if err != nil {
		b.Fatal(err)
	}
	return c, event
}

// report turns the time that the requests took into multiples of Incode's own.
func report(b *testing.B, total time.Duration) {
	b.ReportMetric(float64(total)/float64(b.N)/float64(incodeLatency), "×Incode")
}

// BenchmarkWarm measures a request to a running process.
func BenchmarkWarm(b *testing.B) {
	c, event := prepareBench(b)
	f, err := runtimeapitest.Start(b.Context(), c)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(f.Close)
	var total time.Duration
	for b.Loop() {
		result, err := f.Invoke(b.Context(), event)
		if err != nil {
			b.Fatal(err)
		}
		total += result.Duration
	}
	report(b, total)
}

// BenchmarkCold measures from the start of a process to its first answer.
func BenchmarkCold(b *testing.B) {
	c, event := prepareBench(b)
	var total time.Duration
	for b.Loop() {
		f, err := runtimeapitest.Start(b.Context(), c)
		if err != nil {
			b.Fatal(err)
		}
		result, err := f.Invoke(b.Context(), event)
		if err != nil {
			b.Fatal(err)
		}
		total += result.InitDuration + result.Duration
		f.Close()
	}
	report(b, total)
}
