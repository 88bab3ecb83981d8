//go:build unix

package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"omnistart/internal/tooling/incodetest"
	"omnistart/internal/tooling/runtimeapitest"
)

func TestWhatTheFunctionIsMadeOf(t *testing.T) {
	for name, want := range map[string]bool{
		"internal/a.go": true, "a.go": true, "internal/a_test.go": false, "internal/a.txt": false, "internal/a.go~": false,
		"internal/.#a.go": false, "internal": false,
	} {
		if got := isSource(name); got != want {
			t.Errorf("%s: %t, want %t", name, got, want)
		}
	}
}

func TestChangesSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // its clock does not wait
		changes := make(chan struct{})
		last := settled(changes)
		burst := func() {
			for range 5 {
				changes <- struct{}{}
				time.Sleep(quiet - 1)
			}
		}
		burst()
		select {
		case <-last:
			t.Error("told before the last change was over")
		default:
		}
		for range 3 { // while nobody takes one
			burst()
			time.Sleep(quiet)
		}
		<-last
		select {
		case <-last:
			t.Error("told more than once")
		default:
		}
		close(changes)
		if _, ok := <-last; ok {
			t.Error("told something at the end")
		}
	})
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

func TestAChangedFileStartsTheFunctionAnew(t *testing.T) {
	for _, tt := range []struct {
		name  string
		build []string
		want  string
		next  string // how the one that answers then has started
	}{
		{"built", []string{"true"}, `^rebuilt in \d+ ms, restarted$`, "cold start"},
		{"not built", []string{"sh", "-c", "echo no; exit 1"}, `^no$`, "warm"},
		{"built, but broken", nil, `^the new function cannot start, so the old one goes on: `, "warm"},
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
			if !p.lines.Scan() || !regexp.MustCompile(tt.want).MatchString(p.lines.Text()) {
				t.Errorf("printed %q, want %s", p.lines.Text(), tt.want)
			}
			if p.lines.Text() == "no" && (!p.lines.Scan() || p.lines.Text() != "not built, so the old one goes on: exit status 1") {
				t.Errorf("printed %q", p.lines.Text())
			}
			if status, answer, line := p.post(t, good); status != 200 || !strings.Contains(line, tt.next) {
				t.Errorf("afterwards: %d %s, printed %q", status, answer, line)
			}
		})
	}
}

func TestTheOldFunctionAnswersWhatItHasBegun(t *testing.T) {
	incode := incodetest.New()
	defer incode.Close()
	arrived, released := make(chan struct{}, 2), make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-released
		incode.ServeHTTP(w, r)
	}))
	defer ts.Close()
	defer release()
	rig, err := newRig(func(name string) string {
		return map[string]string{"INCODE_API_KEY": incodetest.Key, "INCODE_BASE_URL": ts.URL}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	defer rig.close()
	log := newFunctionLog(io.Discard)
	start := func() *function {
		f, err := runtimeapitest.Start(t.Context(), runtimeapitest.Config{Bootstrap: bootstrap, Env: rig.env, Timeout: functionTimeout, Stdout: log.stdout()})
		if err != nil {
			t.Fatal(err)
		}
		return &function{f, &coldStart{}}
	}
	g := &gateway{function: start(), log: log, out: io.Discard}
	defer g.close()
	post := func() int {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/omni/start", strings.NewReader(good))
		r.Header.Set("Content-Type", "application/json")
		g.handler(t.Context()).ServeHTTP(w, r)
		return w.Code
	}
	status := make(chan int, 1)
	go func() { status <- post() }()
	<-arrived
	next, replaced := start(), make(chan struct{})
	go func() {
		g.replace(next)
		close(replaced)
	}()
	for g.serving.TryRLock() { // until the new one waits for its place
		g.serving.RUnlock()
		select {
		case <-replaced:
			t.Fatal("the old one was closed while it had to answer")
		default:
			runtime.Gosched()
		}
	}
	release()
	if got := <-status; got != http.StatusOK {
		t.Errorf("the old one answered %d", got)
	}
	<-replaced
	if got := post(); got != http.StatusOK {
		t.Errorf("the new one answered %d", got)
	}
	g.wait()
}
