//go:build unix

package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"omnistart/internal/tooling/incodetest"
)

func TestOnlyGoFilesThatAreNotTestsAreSource(t *testing.T) {
	for name, want := range map[string]bool{
		"internal/a.go": true, "a.go": true, "internal/a_test.go": false, "internal/a.txt": false, "internal/a.go~": false,
		"internal/.#a.go": false, "internal": false,
	} {
		if got := isSource(name); got != want {
			t.Errorf("%s: %t, want %t", name, got, want)
		}
	}
}

func TestWatchSeesNewFolders(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(elsewhere, "package", "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name string) {
		t.Helper()
		if err := os.WriteFile(name, []byte("package deep\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(elsewhere, "package", "deep", "a.go"))
	changes, err := watch(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		name string
		do   func() error
	}{
		{"a folder with a file", func() error {
			return os.Rename(filepath.Join(elsewhere, "package"), filepath.Join(dir, "package"))
		}},
		{"a file in it", func() error { write(filepath.Join(dir, "package", "deep", "b.go")); return nil }},
		{"its removal", func() error { return os.Remove(filepath.Join(dir, "package", "deep", "b.go")) }},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-changes:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: not told", step.name)
		}
	}
	if _, err := watch(t.Context(), filepath.Join(dir, "none")); err == nil {
		t.Error("watches a folder that is not there")
	}
}

func TestChangedFileRebuildsAndRestartsTheFunction(t *testing.T) {
	for _, tt := range []struct {
		name  string
		build []string
		want  string
		next  string // in the line of the next request
	}{
		{"built", []string{"true"}, `^rebuilt in \d+ ms, restarted$`, "cold start"},
		{"build fails", []string{"sh", "-c", "echo no; exit 1"}, `^no$`, "warm"},
		{"cannot start", nil, `^the new function cannot start, the previous one continues: `, "warm"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			own := filepath.Join(dir, "bootstrap")
			if err := os.Link(bootstrap, own); err != nil {
				t.Fatal(err)
			}
			if tt.build == nil {
				tt.build = []string{"rm", own}
			}
			for _, folder := range []string{"functions", "internal/deep"} {
				if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			template, err := filepath.Abs(filepath.Join(project, "template.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(template, filepath.Join(dir, "template.yaml")); err != nil {
				t.Fatal(err)
			}
			p := start(t, nil, append([]string{dir, own}, tt.build...)...)
			if status, answer, line := p.post(t, good); status != 200 || !strings.Contains(line, "cold start") {
				t.Errorf("before: %d %s, printed %q", status, answer, line)
			}
			for _, file := range []string{"functions/a_test.go", "functions/a.txt", "internal/deep/a.go"} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte("package a\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			line := <-p.lines
			if !regexp.MustCompile(tt.want).MatchString(line) {
				t.Errorf("printed %q, want %s", line, tt.want)
			}
			if line == "no" {
				if line = <-p.lines; line != "the build failed, the previous function continues: exit status 1" {
					t.Errorf("printed %q", line)
				}
			}
			if status, answer, line := p.post(t, good); status != 200 || !strings.Contains(line, tt.next) {
				t.Errorf("afterwards: %d %s, printed %q", status, answer, line)
			}
		})
	}
}

func TestReplacedFunctionFinishesItsInvocation(t *testing.T) {
	incode := incodetest.New()
	defer incode.Close()
	arrived, released := make(chan struct{}, 2), make(chan struct{})
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-released
		incode.ServeHTTP(w, r)
	}))
	defer ts.Close()
	release := sync.OnceFunc(func() { close(released) })
	defer release()
	env, err := environment(t.Context(), func(name string) string {
		return map[string]string{"INCODE_API_KEY": incodetest.Key, "INCODE_BASE_URL": ts.URL}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	start := func() *function {
		f, err := startFunction(t.Context(), bootstrap, env, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	a := &localAPI{function: start(), out: io.Discard}
	defer a.close()
	post := func() int {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/omni/start", strings.NewReader(good))
		r.Header.Set("Content-Type", "application/json")
		a.handler(t.Context()).ServeHTTP(w, r)
		return w.Code
	}
	status := make(chan int, 1)
	go func() { status <- post() }()
	<-arrived
	next, replaced := start(), make(chan struct{})
	go func() {
		a.replace(next) // would end the invocation if it did not wait
		close(replaced)
	}()
	release()
	if got := <-status; got != http.StatusOK {
		t.Errorf("the replaced function answered %d", got)
	}
	<-replaced
	if got := post(); got != http.StatusOK {
		t.Errorf("the new function answered %d", got)
	}
}
