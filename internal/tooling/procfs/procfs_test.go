//go:build linux

package procfs_test

import (
	"os"
	"testing"
	"time"

	"omnistart/internal/tooling/procfs"
)

func TestStatusOfThisProcess(t *testing.T) {
	pid := os.Getpid()
	for name, least := range map[string]int64{"Threads": 1, "VmRSS": 1 << 20, "VmHWM": 1 << 20} {
		if got, err := procfs.Status(pid, name); err != nil || got < least {
			t.Errorf("%s: %d, %v, want at least %d", name, got, err, least)
		}
	}
	if got, err := procfs.Status(pid, "Nothing"); err == nil {
		t.Errorf("a line that does not exist: %d", got)
	}
}

func TestDescriptorsCountsAnOpenFile(t *testing.T) {
	before, err := procfs.Descriptors(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if after, err := procfs.Descriptors(os.Getpid()); err != nil || after != before+1 {
		t.Errorf("%d descriptors, then %d, %v", before, after, err)
	}
}

func TestCPUTimeGrowsWithWork(t *testing.T) {
	before, err := procfs.CPUTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for after := before; after < before+10*time.Millisecond; { // until the work is counted
		if after, err = procfs.CPUTime(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := procfs.CPUTime(-1); err == nil {
		t.Error("got the CPU time of a process that does not exist")
	}
}
