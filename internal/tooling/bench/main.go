//go:build linux

// Command bench measures how much time the function adds to Incode's own, cold and warm, and compares it with other
// implementations. It serves Lambda's Runtime API, Secrets Manager and Incode, the last two over TLS and with the
// delays of a network. It fails when a figure exceeds its limit.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	rounds := flags.Int("rounds", 21, "rounds to measure, after one that warms the machine's caches")
	chartFile := flags.String("chart", "internal/tooling/bench/chart.svg", "file for the chart")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := filepath.Abs(".build/bench") // the implementations run in other directories
	if err != nil {
		return err
	}
	event, err := os.ReadFile("internal/endpoint/testdata/iam.json")
	if err != nil {
		return err
	}
	b := &bench{dir: dir, event: event, rounds: *rounds, out: out}
	if b.variants = installed(dir); len(b.variants) < 4 {
		b.notMeasured = append(b.notMeasured, "Node.js, because npm has not installed its packages")
	}
	samples, err := b.measure(ctx)
	if err != nil {
		return err
	}
	failed, duplicates, err := b.freeze(ctx)
	if err != nil {
		return err
	}
	binary, err := os.Stat(filepath.Join(dir, "start-arm64"))
	if err != nil {
		return err
	}
	rows, figures := samples.rows(), samples.figures(binary.Size(), failed, duplicates)
	b.print(rows, figures)
	if err := os.WriteFile(*chartFile, chart(rows), 0o600); err != nil {
		return err
	}
	if slices.ContainsFunc(figures, figure.exceeded) {
		return errors.New("a figure exceeds its limit")
	}
	return nil
}

// bench is one run.
type bench struct {
	dir         string // of the compiled implementations
	event       []byte
	variants    []variant // the product first
	rounds      int
	out         io.Writer
	notMeasured []string // what this machine does not support
}

// measure runs all variants in all scenarios, round by round, so that a slow moment of the machine affects all of them.
// The order rotates.
func (b *bench) measure(ctx context.Context) (samples, error) {
	var environments []*environment
	for _, sc := range scenarios {
		env, err := newEnvironment(b.dir, sc)
		if err != nil {
			return nil, err
		}
		defer env.close()
		if sc.memory > 0 {
			if env.controlGroup, err = newCPULimit(sc.memory); err != nil {
				b.notMeasured = append(b.notMeasured, fmt.Sprintf("%s, because control groups need root: %v", sc.name, err))
				continue
			}
		}
		environments = append(environments, env)
	}
	s := samples{}
	for round := range b.rounds + 1 {
		fmt.Fprintf(b.out, "round %d of %d\n", round, b.rounds)
		for _, env := range environments {
			for i := range b.variants {
				v := b.variants[(i+round)%len(b.variants)]
				values, err := v.measure(ctx, env, b.event)
				if err != nil {
					return nil, fmt.Errorf("%s, scenario %s: %w", v.name, env.name, err)
				}
				if round > 0 {
					s.add(env.name, v.name, values)
				}
			}
		}
	}
	result := make(chan error)
	for i := range halfBroken {
		go func() { result <- b.measureHalfBroken(ctx, i, s) }()
		if err := <-result; err != nil {
			return nil, err
		}
	}
	return s, nil
}

// machine names the processors.
func machine() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	_, rest, _ := strings.Cut(string(info), "model name\t: ") // absent on arm64
	model, _, _ := strings.Cut(rest, "\n")
	return fmt.Sprintf("%d × %s %s", runtime.NumCPU(), runtime.GOARCH, model)
}
