//go:build unix

package runtimeapitest

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
)

// ResolverEnv is a variable for the environment of a function that [Main] has compiled: the address of the DNS server
// that it asks, in place of those in /etc/resolv.conf, which only root could change.
const ResolverEnv = "RUNTIMEAPITEST_RESOLVER"

//go:embed testdata/resolver.go
var resolver []byte

// Main is for a TestMain: it compiles the function in a package, runs the tests and returns their exit code. Meanwhile
// *bootstrap is the path of the executable. It is built as for the deployment, with two differences: it reads
// [ResolverEnv], and it has the race detector if the test has it.
func Main(m interface{ Run() int }, pkg string, bootstrap *string) int {
	dir, err := os.MkdirTemp("", "bootstrap")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	*bootstrap = filepath.Join(dir, "bootstrap")
	if err := build(dir, pkg, *bootstrap); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// build adds a file to the package by an overlay, so that the source tree of the deployed function has no such file.
func build(dir, pkg, output string) error {
	file, err := exec.Command("go", "list", "-f", "{{.Dir}}/resolver.go", pkg).Output()
	added, overlay := filepath.Join(dir, "resolver.go"), filepath.Join(dir, "overlay.json")
	text := fmt.Appendf(nil, `{"Replace": {%q: %q}}`, strings.TrimSpace(string(file)), added)
	if err := errors.Join(err, os.WriteFile(added, resolver, 0o600), os.WriteFile(overlay, text, 0o600)); err != nil {
		return err
	}
	// The flags of the Makefile, and netgo: with cgo, which the race detector needs, Go would use the resolver of the C
	// library.
	args := []string{"build", "-tags", "lambda.norpc,nethttpomithttp2,netgo", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w", "-overlay", overlay, "-o", output}
	cgo, race := "CGO_ENABLED=0", debug.BuildSetting{Key: "-race", Value: "true"}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, race) {
		args, cgo = append(args, "-race"), "CGO_ENABLED=1"
	}
	cmd := exec.Command("go", append(args, pkg)...)
	cmd.Env = append(os.Environ(), cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s%w", out, err)
	}
	return nil
}

// Output keeps what a function prints. The zero value is ready to use. It is safe for concurrent use.
type Output struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.Write(p)
}

// String returns everything written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.String()
}
