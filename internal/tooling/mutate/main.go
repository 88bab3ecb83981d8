// Command mutate tests the tests: it breaks the contract's packages in every
// small way it knows, one at a time, and runs each package's own tests against
// it. A mutant that they let pass has either shown a missing test or stands in
// survivors.txt with the reason why it does no harm.
//
// The source tree is left alone: mutants reach the compiler as an overlay.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// survivors holds one accepted mutant after the other: its file, function and
// the line as mutated, and below it, after a tab, the reason.
//
//go:embed survivors.txt
var survivors string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	parallel := flag.Int("parallel", 2, "mutants to test at once")
	flag.Parse()
	packages := flag.Args()
	if len(packages) == 0 {
		packages = []string{"./internal/endpoint", "./internal/strictjson", "./internal/apikey", "./internal/incode", "./internal/outbound", "./internal/config"}
	}
	temp, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)

	explained := map[string]int{} // how often, as equal lines make mutants of one name
	for line := range strings.Lines(survivors) {
		if !strings.HasPrefix(line, "\t") {
			explained[strings.TrimSpace(line)]++
		}
	}
	missed := 0
	for _, name := range packages {
		n, err := test(ctx, name, temp, *parallel, explained)
		if err != nil {
			return err
		}
		missed += n
	}
	for line, left := range explained {
		if left > 0 && flag.NArg() == 0 {
			fmt.Printf("no longer survives: %s\n", line)
		}
	}
	if missed > 0 {
		return fmt.Errorf("%d mutants survived without an explanation", missed)
	}
	return nil
}

// test runs the tests of one package against all its mutants, prints the score
// and returns how many survived unexplained.
func test(ctx context.Context, name, temp string, parallel int, explained map[string]int) (missed int, err error) {
	files, err := sources(ctx, name)
	if err != nil {
		return 0, err
	}
	var mutants []mutant
	for _, f := range files {
		m, err := mutantsOf(f)
		if err != nil {
			return 0, err
		}
		mutants = append(mutants, m...)
	}
	began := time.Now()
	if out, err := goTest(ctx, name, "", time.Minute); err != nil {
		return 0, fmt.Errorf("%s fails unbroken: %w\n%s", name, err, out)
	}
	limit := 10*time.Second + 3*time.Since(began) // for a mutant that never ends

	verdicts := make([]verdict, len(mutants))
	var wg sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for i, m := range mutants {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			verdicts[i] = m.try(ctx, name, filepath.Join(temp, fmt.Sprint(i)), limit)
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}

	count := map[verdict]int{}
	accepted := 0
	for i, m := range mutants {
		if verdicts[i] == survived {
			if explained[m.id] > 0 {
				explained[m.id]--
				accepted++
			} else {
				missed++
				fmt.Printf("SURVIVED at line %d\n%s\n", m.number, m.id)
			}
		}
		count[verdicts[i]]++
	}
	total := len(mutants) - count[notViable]
	fmt.Printf("%s: %d of %d mutants killed, %d survive as explained, %d unexplained; %d more do not compile (%v)\n",
		name, count[killed], total, accepted, missed, count[notViable], time.Since(began).Round(time.Second))
	return missed, nil
}

// sources returns the package's files that are compiled on this machine.
func sources(ctx context.Context, name string) ([]string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-json=Dir,GoFiles", name).Output()
	if err != nil {
		return nil, err
	}
	var p struct {
		Dir     string
		GoFiles []string
	}
	if err := json.Unmarshal(out, &p); err != nil {
		return nil, err
	}
	for i, f := range p.GoFiles {
		p.GoFiles[i] = filepath.Join(p.Dir, f)
	}
	return p.GoFiles, nil
}

type verdict int

const (
	survived verdict = iota
	killed
	notViable // it does not compile
)

// try tests one mutant, whose files are named with the prefix.
func (m mutant) try(ctx context.Context, name, prefix string, limit time.Duration) verdict {
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{m.file: prefix + ".go"}})
	if err != nil {
		panic(err) // strings only
	}
	if err := errors.Join(os.WriteFile(prefix+".go", m.source, 0o600), os.WriteFile(prefix+".json", overlay, 0o600)); err != nil {
		panic(err) // nothing to test
	}
	defer os.Remove(prefix + ".go")
	out, err := goTest(ctx, name, prefix+".json", limit)
	switch {
	case err == nil:
		return survived
	case strings.Contains(out, "[build failed]"):
		return notViable
	}
	return killed
}

// goTest runs a package's tests.
func goTest(ctx context.Context, name, overlay string, limit time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit+time.Minute) // compiling, and tests that resist
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-failfast", "-vet=off", "-ldflags=-s -w", "-timeout="+limit.String(), "-overlay="+overlay, name)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}
