package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestThreatModelNamesTests wants every test that THREATS.md names to exist, and
// every row of its tables to name one, or to say that it is AWS's word.
func TestThreatModelNamesTests(t *testing.T) {
	page, err := os.ReadFile("docs/THREATS.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("\\[`(\\w+)`\\]\\(([^)]+)\\)")
	_, rows, _ := strings.Cut(string(page), "\n**Who may do what**\n")
	heads := regexp.MustCompile(`^\| (who|threat|risk) \|`)
	for row := range strings.Lines(rows) {
		if strings.HasPrefix(row, "| ") && !heads.MatchString(row) && !named.MatchString(row) && !strings.Contains(row, "| AWS's word |") {
			t.Errorf("no test shows it: %s", row)
		}
	}
	tests := named.FindAllStringSubmatch(rows, -1)
	if len(tests) < 20 {
		t.Errorf("only %d tests are named", len(tests))
	}
	for _, m := range tests {
		name, path := m[1], m[2]
		source, err := os.ReadFile(filepath.Join("docs", filepath.FromSlash(path)))
		if err != nil {
			t.Error(err)
		}
		if !regexp.MustCompile(`(?m)^(func|def) ` + name + `\(`).Match(source) {
			t.Errorf("%s has no %s", path, name)
		}
	}
}
