package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestAllPackagesButToolingAreDeployed checks that no part of internal/tooling is
// deployed, and that every other folder of internal is.
func TestAllPackagesButToolingAreDeployed(t *testing.T) {
	const ours, root = "omnistart/internal/", "../../internal"
	list, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	var deployed, folders []string
	for name := range strings.Lines(string(list)) {
		if folder, ok := strings.CutPrefix(strings.TrimSpace(name), ours); ok {
			deployed = append(deployed, folder)
		}
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.Name() != "tooling" {
			folders = append(folders, entry.Name())
		}
	}
	slices.Sort(deployed)
	if !slices.Equal(deployed, folders) {
		t.Errorf("the deployed packages are %q, the folders %q", deployed, folders)
	}
}
