package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestThreatModelNamesTests wants every test that THREATS.md names to exist, and
// every control and every risk of OWASP's to name one.
func TestThreatModelNamesTests(t *testing.T) {
	page, err := os.ReadFile("docs/THREATS.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("\\[`(\\w+)`\\]\\(([^)]+)\\)")
	controls, rest, _ := strings.Cut(string(page), "\n## OWASP")
	_, controls, _ = strings.Cut(controls, "\n## Controls\n")
	for row := range strings.Lines(controls + rest) {
		if strings.HasPrefix(row, "| ") && !strings.HasPrefix(row, "| threat ") && !strings.HasPrefix(row, "| risk ") && !named.MatchString(row) {
			t.Errorf("no test shows it: %s", row)
		}
	}
	tests := named.FindAllStringSubmatch(controls+rest, -1)
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
