//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// sample is the state of the process after so many calls.
type sample struct {
	calls, rss           float64 // rss in bytes
	threads, descriptors int
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
func slope(all []sample) float64 {
	var x, y, xy, xx float64
	n := float64(len(all))
	for _, s := range all {
		x += s.calls / n
		y += s.rss / n
	}
	for _, s := range all {
		xy += (s.calls - x) * (s.rss - y)
		xx += (s.calls - x) * (s.calls - x)
	}
	if xx == 0 {
		return 0
	}
	return xy / xx
}

// mean returns the mean of the memory, in bytes.
func mean(all []sample) float64 {
	var sum float64
	for _, s := range all {
		sum += s.rss
	}
	return sum / float64(len(all))
}

// most returns the greatest number of descriptors.
func most(all []sample) int {
	n := 0
	for _, s := range all {
		n = max(n, s.descriptors)
	}
	return n
}
