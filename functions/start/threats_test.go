package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestThreatModelNamesTests checks that every test that THREATS.md names exists,
// and that every row of its tables names one, or says that AWS is responsible.
func TestThreatModelNamesTests(t *testing.T) {
	page, err := os.ReadFile("docs/THREATS.md")
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile("\\[`(\\w+)`\\]\\(([^)]+)\\)")
	_, rows, _ := strings.Cut(string(page), "\n**Who may do what**\n")
	heads := regexp.MustCompile(`^\| (who|threat|risk) \|`)
	for row := range strings.Lines(rows) {
		shown := link.MatchString(row) || strings.Contains(row, "| AWS's word |")
		if strings.HasPrefix(row, "| ") && !heads.MatchString(row) && !shown {
			t.Errorf("no test shows it: %s", row)
		}
	}
	links := link.FindAllStringSubmatch(rows, -1)
	if len(links) < 20 {
		t.Errorf("only %d tests are named", len(links))
	}
	for _, l := range links {
		name, file := l[1], filepath.Join("docs", filepath.FromSlash(l[2]))
		if !hasTest(t, file, name) {
			t.Errorf("%s has no %s", file, name)
		}
	}
}

// hasTest reports whether a file of Go or Python has a test with this name.
func hasTest(t *testing.T, file, name string) bool {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
		return false
	}
	if filepath.Ext(file) != ".go" {
		return strings.Contains(string(source), "\ndef "+name+"(")
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), file, source, parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return false
	}
	for _, declaration := range parsed.Decls {
		if function, ok := declaration.(*ast.FuncDecl); ok && function.Name.Name == name {
			return true
		}
	}
	return false
}
