//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// sample is the state of the process after so many calls.
type sample struct {
	calls, rss, live     float64 // the last two in bytes
	threads, descriptors int
}

func rss(s sample) float64  { return s.rss }
func live(s sample) float64 { return s.live }

// heap reads a function's standard error for what GODEBUG=gctrace=1 makes Go
// print after each collection, such as
//
//	gc 7 @0.1s 2%: 0.02+1.1+0.01 ms clock, …, 4->5->2 MB, 5 MB goal, …
//
// where the third size is what is in use, and for the stacks that it prints when
// SIGQUIT ends it. It is safe for concurrent use.
type heap struct {
	mu         sync.Mutex
	line       []byte // the last, not yet ended
	size       float64
	goroutines int
}

func (h *heap) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.line = append(h.line, p...)
	for {
		line, rest, ok := bytes.Cut(h.line, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		if m := inUse.FindSubmatch(line); m != nil {
			size, _ := strconv.Atoi(string(m[1]))
			h.size = float64(size << 20)
		}
		if stack.Match(line) {
			h.goroutines++
		}
		h.line = rest
	}
}

var (
	inUse = regexp.MustCompile(`^gc .*->([0-9]+) MB,`)
	stack = regexp.MustCompile(`^goroutine [1-9][0-9]* `)
)

// live returns the heap in use after the last collection, in bytes, rounded down
// to MiB.
func (h *heap) live() float64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.size
}

// stacks returns how many goroutines have been printed.
func (h *heap) stacks() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.goroutines
}

// look reads the state of a process.
func look(pid int) (sample, error) {
	dir := fmt.Sprintf("/proc/%d", pid)
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return sample{}, err
	}
	descriptors, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return sample{}, err
	}
	s := sample{descriptors: len(descriptors)}
	for name, to := range map[string]any{"VmRSS:": &s.rss, "Threads:": &s.threads} {
		_, rest, _ := strings.Cut(string(status), name)
		if _, err := fmt.Sscan(rest, to); err != nil {
			return sample{}, fmt.Errorf("%s of process %d: %w", name, pid, err)
		}
	}
	s.rss *= 1024
	return s, nil
}

// slope fits a line by least squares and returns the bytes that each call adds.
func slope(all []sample, of func(sample) float64) float64 {
	var xy, xx float64
	x, y := mean(all, func(s sample) float64 { return s.calls }), mean(all, of)
	for _, s := range all {
		xy += (s.calls - x) * (of(s) - y)
		xx += (s.calls - x) * (s.calls - x)
	}
	if xx == 0 {
		return 0
	}
	return xy / xx
}

func mean(all []sample, of func(sample) float64) (m float64) {
	for _, s := range all {
		m += of(s) / float64(len(all))
	}
	return m
}

// most returns the greatest number of descriptors.
func most(all []sample) int {
	n := 0
	for _, s := range all {
		n = max(n, s.descriptors)
	}
	return n
}
