//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// quiet is how long nothing must change before it counts: editors write a file
// in several steps, and git many files.
const quiet = 100 * time.Millisecond

// watch tells, until ctx ends, that a Go file below one of the folders has
// changed, tests apart.
func watch(ctx context.Context, folders ...string) (<-chan struct{}, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	for _, folder := range folders {
		if _, err := add(watcher, folder); err != nil {
			return nil, errors.Join(err, watcher.Close())
		}
	}
	changes := make(chan struct{})
	go func() {
		defer close(changes)
		defer watcher.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case event := <-watcher.Events:
				changed := isSource(event.Name) && !event.Has(fsnotify.Chmod)
				if event.Has(fsnotify.Create) { // perhaps a folder; what is gone again needs no watching
					found, _ := add(watcher, event.Name)
					changed = changed || found
				}
				if changed {
					changes <- struct{}{}
				}
			case <-watcher.Errors: //nolint:errcheck // one change less; the next one counts
			}
		}
	}()
	return settled(changes), nil
}

// add watches a folder and those below it, and reports whether they hold a Go
// file already. Of a file it only reports that.
func add(watcher *fsnotify.Watcher, name string) (found bool, err error) {
	err = filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return watcher.Add(path) // before it is read, so that no file slips through
		}
		found = found || isSource(path)
		return err
	})
	return found, err
}

// isSource reports whether the function may be made of a file. What begins with
// a dot the go command ignores, too; Emacs marks a file so while it is edited.
func isSource(name string) bool {
	return strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && !strings.HasPrefix(filepath.Base(name), ".")
}

// settled makes one change of those that come with less than quiet between them,
// and of those that come while nobody takes the last one. It ends with changes.
func settled(changes <-chan struct{}) <-chan struct{} {
	last := make(chan struct{}, 1)
	go func() {
		defer close(last)
		timer := time.NewTimer(quiet)
		timer.Stop()
		for {
			select {
			case _, ok := <-changes:
				if !ok {
					return
				}
				timer.Reset(quiet)
			case <-timer.C:
				select {
				case last <- struct{}{}:
				default:
				}
			}
		}
	}()
	return last
}

// rebuild runs the command that builds the function, and puts the new one in the
// place of the old one. The old one stays if that fails.
func (g *gateway) rebuild(ctx context.Context, build []string, start func() (*function, error)) {
	began := time.Now()
	command := exec.CommandContext(ctx, build[0], build[1:]...)
	command.WaitDelay = time.Second // for a compiler that outlives the go command
	if out, err := command.CombinedOutput(); err != nil {
		if ctx.Err() == nil {
			g.print("%s\nnot built, so the old one goes on: %v", bytes.TrimSpace(out), err)
		}
		return
	}
	next, err := start()
	if err != nil {
		if ctx.Err() == nil {
			g.print("the new function cannot start, so the old one goes on: %v", err)
		}
		return
	}
	g.replace(next)
	g.print("rebuilt in %.0f ms, restarted", ms(time.Since(began)))
}
