// Package procfs reads the state of a process from Linux's /proc.
package procfs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// CPUTime returns the CPU time that the process has used in user and kernel mode: the sum over its threads, none of
// which must have ended. (Neither Go nor Node.js ends threads here.) Unlike /proc/PID/stat it is exact to nanoseconds.
func CPUTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	if len(files) == 0 {
		return 0, fmt.Errorf("process %d does not run", pid)
	}
	var total time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		var running time.Duration
		if _, err := fmt.Sscan(string(text), &running); err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		total += running
	}
	return total, nil
}

// Status returns a number from /proc/PID/status: of Threads, or in bytes of VmRSS (physical memory in use) and VmHWM
// (its peak).
func Status(pid int, name string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "\n"+name+":")
	line, _, _ := strings.Cut(rest, "\n")
	var value int64
	if _, err := fmt.Sscan(line, &value); err != nil {
		return 0, fmt.Errorf("%s of process %d: %w", name, pid, err)
	}
	if strings.HasSuffix(line, " kB") {
		value *= 1024
	}
	return value, nil
}

// Descriptors returns the number of file descriptors that the process has open.
func Descriptors(pid int) (int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(entries), err
}
