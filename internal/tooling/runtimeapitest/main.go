//go:build unix

package runtimeapitest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// Main is for a TestMain: it compiles the function of a package as it is
// deployed, but with the race detector, runs the tests and returns their exit
// code. Meanwhile *bootstrap is the path of the executable.
func Main(m interface{ Run() int }, pkg string, bootstrap *string) int {
	dir, err := os.MkdirTemp("", "bootstrap")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	*bootstrap = filepath.Join(dir, "bootstrap")
	if out, err := exec.Command("go", "build", "-race", "-tags", "lambda.norpc", "-o", *bootstrap, pkg).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
		return 1
	}
	return m.Run()
}

// Output keeps what a function prints, for [Config]'s Stdout and Stderr. The
// zero value is empty and ready. It is safe for concurrent use.
type Output struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.Write(p)
}

// String returns all that was written until now.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.String()
}
