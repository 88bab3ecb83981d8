package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestDeployedIsAllButTheTooling holds the tree to what it shows at a glance: internal/tooling is never deployed, and
// every other folder of internal is.
func TestDeployedIsAllButTheTooling(t *testing.T) {
	const ours, root = "omnistart/internal/", "../../internal"
	list, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	var deployed, shown []string
	for name := range strings.Lines(string(list)) {
		if folder, ok := strings.CutPrefix(strings.TrimSpace(name), ours); ok {
			deployed = append(deployed, folder)
		}
	}
	folders, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		if folder.Name() != "tooling" {
			shown = append(shown, folder.Name())
		}
	}
	slices.Sort(deployed)
	if !slices.Equal(deployed, shown) {
		t.Errorf("deployed are %q, the tree shows %q", deployed, shown)
	}
}
