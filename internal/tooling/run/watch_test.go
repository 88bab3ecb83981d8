//go:build unix

package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"omnistart/internal/tooling/incodetest"
)

func TestWatchReportsChangesOfGoFilesThatAreNotTests(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("a.go", "package a\n")
	synctest.Test(t, func(t *testing.T) { // its clock does not wait
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		changes := watch(ctx, dir, filepath.Join(dir, "none"))
		for _, tt := range []struct {
			name   string
			change func()
			want   bool
		}{
			{"nothing", func() {}, false},
			{"a longer file", func() { write("a.go", "package a // longer\n") }, true},
			{"a file in a new folder", func() { write("new/folder/b.go", "package b\n") }, true},
			{"two files at the same time", func() { write("c.go", ""); write("d.go", "") }, true},
			{"a removed file", func() { _ = os.Remove(filepath.Join(dir, "c.go")) }, true},
			{"other files", func() {
				for _, name := range []string{"a_test.go", "a.txt", "a.go~", ".#a.go"} {
					write(name, "")
				}
			}, false},
		} {
			tt.change()
			reports := 0
			for deadline := time.After(10 * watchInterval); deadline != nil; {
				select {
				case <-changes:
					reports++
				case <-deadline:
					deadline = nil
				}
			}
			if got := reports == 1; got != tt.want || reports > 1 {
				t.Errorf("%s: %d reports, want %t", tt.name, reports, tt.want)
			}
		}
		stop()
		if _, ok := <-changes; ok {
			t.Error("a report after the end")
		}
	})
}

func TestChangedFileRebuildsAndRestartsTheFunction(t *testing.T) {
	for _, tt := range []struct {
		name  string
		build []string
		want  string
		next  string // in the line of the next request
	}{
		{"built", []string{"true"}, `^rebuilt in \d+ ms, restarted$`, "cold start"},
		{"build fails", []string{"sh", "-c", "[ ! -e $0 ] && touch $0 || { echo no; exit 1; }"}, `^no$`, "warm"},
		{"cannot start", []string{"sh", "-c", "[ ! -e $0 ] && touch $0 || rm $1"},
			`^the new function cannot start, the previous one continues: `, "warm"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			own := filepath.Join(dir, "bootstrap")
			if err := os.Link(bootstrap, own); err != nil {
				t.Fatal(err)
			}
			tt.build = append(tt.build, filepath.Join(dir, "built"), own)
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
				if line = <-p.lines; !strings.HasSuffix(line, ", the previous one continues: the build failed: exit status 1") {
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
		return map[string]string{"INCODE_API_KEY": incodetest.Key, "INCODE_BASE_URL": ts.URL, "INCODE_TIMEOUT": "28s"}[name]
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
	a := &localAPI{function: start(), out: io.Discard, calls: newCalls()}
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
