package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocumentsLinkToWhatExists checks that every file, heading and test exists
// to which a document links.
func TestDocumentsLinkToWhatExists(t *testing.T) {
	documents, err := filepath.Glob("docs/*.md")
	onGitHub, _ := filepath.Glob("../../.github/*.md")
	if documents = append(documents, onGitHub...); err != nil || len(documents) < 15 {
		t.Fatalf("documents %q, %v", documents, err)
	}
	link := regexp.MustCompile("\\[`?([^]`]+)`?\\]\\(([^)]+)\\)")
	test := regexp.MustCompile(`^(Test[A-Z]|test_)\w+$`)
	for _, document := range append(documents, "../../README.md") {
		for _, l := range link.FindAllStringSubmatch(read(t, document), -1) {
			text, target := l[1], l[2]
			if strings.HasPrefix(target, "https://") {
				continue
			}
			path, anchor, _ := strings.Cut(target, "#")
			file := document
			if path != "" {
				file = filepath.Join(filepath.Dir(document), filepath.FromSlash(path))
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: %v", document, err)
				continue
			}
			if anchor != "" && !slices.Contains(anchors(read(t, file)), anchor) {
				t.Errorf("%s: %s has no heading #%s", document, file, anchor)
			}
			if test.MatchString(text) && !hasTest(t, file, text) {
				t.Errorf("%s: %s has no %s", document, file, text)
			}
		}
	}
}

// TestThreatModelNamesTests checks that every row of THREATS.md links to a test, or
// says that AWS documents it.
func TestThreatModelNamesTests(t *testing.T) {
	_, rows, _ := strings.Cut(read(t, "docs/THREATS.md"), "\n**Who may do what**\n")
	heads := regexp.MustCompile(`^\| (who|threat|risk) \|`)
	shown := regexp.MustCompile("\\[`(Test|test_)|\\| documented by AWS \\|")
	found := 0
	for row := range strings.Lines(rows) {
		if !strings.HasPrefix(row, "| ") || heads.MatchString(row) {
			continue
		}
		found++
		if !shown.MatchString(row) {
			t.Errorf("no test shows it: %s", row)
		}
	}
	if found < 30 {
		t.Errorf("only %d rows", found)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// anchors returns the anchors that GitHub gives to the headings of a document.
func anchors(text string) (all []string) {
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		anchor := regexp.MustCompile(`[^\w -]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		all = append(all, strings.ReplaceAll(anchor, " ", "-"))
	}
	return all
}

// hasTest reports whether a file of Go or Python has a test with this name.
func hasTest(t *testing.T, file, name string) bool {
	t.Helper()
	source := read(t, file)
	if filepath.Ext(file) != ".go" {
		return strings.Contains(source, "\ndef "+name+"(")
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), file, source, parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return false
	}
	return slices.ContainsFunc(parsed.Decls, func(declaration ast.Decl) bool {
		function, ok := declaration.(*ast.FuncDecl)
		return ok && function.Name.Name == name
	})
}
