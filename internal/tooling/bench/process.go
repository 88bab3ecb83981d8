//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cpuTime returns what a process has computed so far, in its kernel mode too:
// the sum over its threads, of which Go and Node end none. Unlike
// /proc/PID/stat it counts in nanoseconds.
func cpuTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("process %d has no threads to read the CPU time of: %w", pid, err)
	}
	var total time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		running, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(running, 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(n)
	}
	return total, nil
}

// peakMemory returns the most physical memory that a process has had, in bytes.
func peakMemory(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := bytes.Cut(text, []byte("VmHWM:"))
	fields := bytes.Fields(rest)
	if !ok || len(fields) == 0 {
		return 0, fmt.Errorf("process %d tells no peak of its memory", pid)
	}
	kib, err := strconv.ParseFloat(string(fields[0]), 64)
	return kib * 1024, err
}

// quota is a control group that holds processes to a share of one processor.
type quota struct{ dir string }

// period is the one of Lambda's own scheduler, as others have measured it.
const period = 20 * time.Millisecond

// newQuota makes the share of a Lambda function with this memory: 1,769 MB are
// one processor.
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
func newQuota(megabytes int) (*quota, error) {
	us := period.Microseconds()
	share := us * int64(megabytes) / 1769
	v1, v2 := "/sys/fs/cgroup/cpu", "/sys/fs/cgroup"
	root, files := v2, map[string]string{"cpu.max": fmt.Sprintf("%d %d", share, us)}
	if _, err := os.Stat(filepath.Join(v1, "cpu.cfs_quota_us")); err == nil {
		root, files = v1, map[string]string{"cpu.cfs_period_us": strconv.FormatInt(us, 10), "cpu.cfs_quota_us": strconv.FormatInt(share, 10)}
	}
	q := &quota{filepath.Join(root, fmt.Sprintf("omnistart-bench-%d-%d", os.Getpid(), megabytes))}
	if err := os.Mkdir(q.dir, 0o750); err != nil {
		return nil, err
	}
	for name, value := range files {
		if err := os.WriteFile(filepath.Join(q.dir, name), []byte(value), 0o600); err != nil {
			q.close()
			return nil, err
		}
	}
	return q, nil
}

// hold puts a process under the quota for the rest of its life. Lambda starts
// functions at full speed, so this comes after the init.
func (q *quota) hold(pid int) error {
	return os.WriteFile(filepath.Join(q.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o600)
}

// close removes the group, which must be empty.
func (q *quota) close() { _ = os.Remove(q.dir) }
