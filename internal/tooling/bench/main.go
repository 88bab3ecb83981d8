//go:build linux

// Command bench measures how much the function adds to Incode's own time, cold
// and warm, beside other ways to build it. It plays Lambda's Runtime API, Secrets
// Manager and Incode, over TLS and at a distance. It ends with an error when a
// figure misses its gate.
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
	"strings"
	"syscall"
	"time"
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
	rounds := flags.Int("rounds", 21, "rounds that count; one more comes before")
	binaries := flags.String("binaries", ".build/bench", "directory of what is measured")
	event := flags.String("event", "internal/endpoint/testdata/iam.json", "event to send")
	results := flags.String("results", "internal/tooling/bench", "directory for results.json and chart.svg")
	only := flags.String("only", "", "measure one part: trials, freeze, flight or storm; nothing is saved then")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := filepath.Abs(*binaries) // the functions run elsewhere
	if err != nil {
		return err
	}
	b := &bench{dir: dir, rounds: *rounds, out: out, only: *only}
	if b.event, err = os.ReadFile(*event); err != nil {
		return err
	}
	if b.trust, err = newTrust(b.dir); err != nil {
		return err
	}
	r, err := b.measure(ctx)
	if err != nil {
		return err
	}
	r.write(out)
	if *only == "" {
		if err := r.save(*results); err != nil {
			return err
		}
	}
	var failures []error
	for _, g := range r.Goals {
		if g.failed() {
			failures = append(failures, fmt.Errorf("%s is %.3f, more than %.4g", g.Figure, g.Value.Value, *g.Gate))
		}
	}
	return errors.Join(failures...)
}

// bench is one run.
type bench struct {
	dir    string
	rounds int
	only   string // the one part to measure, or ""
	out    io.Writer
	event  []byte
	trust  *trust
}

// skips tells whether a part is left out, and announces it otherwise.
func (b *bench) skips(part string) bool {
	if b.only != "" && b.only != part {
		return true
	}
	fmt.Fprintf(b.out, "== %s\n", part)
	return false
}

func (b *bench) measure(ctx context.Context) (*report, error) {
	r := &report{Machine: machine(), Go: runtime.Version(), Date: time.Now().UTC().Format(time.DateOnly), Rounds: b.rounds, LeftOut: []string{}}
	_, err := os.Stat(filepath.Join(b.dir, "node", "node_modules"))
	if err != nil {
		r.LeftOut = append(r.LeftOut, "node, which npm would have installed")
	}
	vs := variants(b.dir, err == nil)
	var s samples
	if !b.skips("trials") {
		if s, err = b.trials(ctx, vs, r); err != nil {
			return nil, err
		}
		r.Scenarios = s.summary(vs)
	}
	if !b.skips("freeze") {
		for _, v := range vs[:2] { // the product, and naive beside it
			freezes, err := freeze(ctx, v, b.trust, b.event)
			if err != nil {
				return nil, err
			}
			r.Freezes = append(r.Freezes, freezes...)
		}
	}
	if !b.skips("flight") {
		if r.Flight, err = flight(ctx, vs[0], b.trust, b.event); err != nil {
			return nil, err
		}
	}
	if !b.skips("storm") {
		if r.Storm, err = storm(ctx, vs[0], b.trust, b.event); err != nil {
			return nil, err
		}
	}
	size, zipped, err := sizes(b.dir)
	if err != nil {
		return nil, err
	}
	r.Goals = goals(s, size, zipped, r.Freezes, r.Storm)
	return r, nil
}

// trials runs all variants in all scenarios, round by round, so that a slow
// moment of the machine meets all alike. Who comes first rotates. The first
// round warms the machine's caches and does not count.
func (b *bench) trials(ctx context.Context, vs []variant, r *report) (samples, error) {
	all := samples{}
	quotas := map[int]*quota{}
	around := map[distance]*surroundings{}
	for _, sc := range scenarios {
		all[sc.name] = map[string][]trial{}
		if sc.memory > 0 {
			q, err := newQuota(sc.memory)
			if err != nil {
				r.LeftOut = append(r.LeftOut, fmt.Sprintf("%s, since control groups need root: %v", sc.name, err))
				continue
			}
			defer q.close()
			quotas[sc.memory] = q
		}
		if around[sc.distance] != nil {
			continue
		}
		s, err := newSurroundings(b.trust, sc.distance, nil)
		if err != nil {
			return nil, err
		}
		defer s.close()
		around[sc.distance] = s
	}
	for round := range b.rounds + 1 {
		fmt.Fprintf(b.out, "round %d of %d\n", round, b.rounds)
		for _, sc := range scenarios {
			if sc.memory > 0 && quotas[sc.memory] == nil {
				continue
			}
			for i := range vs {
				v := vs[(i+round)%len(vs)]
				t, err := v.run(ctx, sc, around[sc.distance], quotas[sc.memory], b.event)
				if err != nil {
					return nil, err
				}
				if round > 0 {
					all[sc.name][v.name] = append(all[sc.name][v.name], t)
				}
			}
		}
	}
	return all, nil
}

// machine names the processors and the system.
func machine() string {
	model := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(text), "model name\t: "); ok {
			model, _, _ = strings.Cut(rest, "\n")
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%d × %s, Linux %s", runtime.NumCPU(), model, strings.TrimSpace(string(kernel)))
}
