//go:build unix

package runtimeapitest

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// ResolverEnv is a variable for the environment of a function that [Main] has
// compiled: the address of the DNS server that it asks, in place of those in
// /etc/resolv.conf, which only root could change.
const ResolverEnv = "RUNTIMEAPITEST_RESOLVER"

//go:embed testdata/resolver.go
var resolver []byte

// Main is for a TestMain: it compiles the function of a package, runs the tests
// and returns their exit code. Meanwhile *bootstrap is the path of the
// executable. Three things differ from the one that is deployed: the race
// detector, cgo, which that needs, and what reads [ResolverEnv].
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

// build adds a file to the package by an overlay, so that there is no such thing
// in the tree of what is deployed. Without cgo's resolver, as deployed.
func build(dir, pkg, output string) error {
	folder, err := exec.Command("go", "list", "-f", "{{.Dir}}", pkg).Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	added, overlay := filepath.Join(dir, "resolver.go"), filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(strings.TrimSpace(string(folder)), "resolver.go"): added,
	}})
	if err := errors.Join(err, os.WriteFile(added, resolver, 0o600), os.WriteFile(overlay, text, 0o600)); err != nil {
		return err
	}
	const tags = "lambda.norpc,nethttpomithttp2,netgo"
	if out, err := exec.Command("go", "build", "-race", "-tags", tags, "-overlay", overlay, "-o", output, pkg).CombinedOutput(); err != nil {
		return fmt.Errorf("%s%w", out, err)
	}
	return nil
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
