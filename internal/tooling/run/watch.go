//go:build unix

package main

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settleTime is how long no file must change before the function is rebuilt.
// Editors write a file in several steps, and git writes many files.
const settleTime = 100 * time.Millisecond

// watch reports until ctx ends that a Go file below one of the folders has
// changed, other than a test. Changes within settleTime are reported once, and so
// are those that nobody has received yet.
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
	changes := make(chan struct{}, 1)
	go func() {
		defer close(changes)
		defer watcher.Close()
		settled := time.NewTimer(settleTime)
		settled.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case event := <-watcher.Events:
				changed := isSource(event.Name) && !event.Has(fsnotify.Chmod)
				if event.Has(fsnotify.Create) { // perhaps a folder; if it is gone already, it needs no watching
					found, _ := add(watcher, event.Name)
					changed = changed || found
				}
				if changed {
					settled.Reset(settleTime)
				}
			case <-settled.C:
				select {
				case changes <- struct{}{}:
				default:
				}
			case <-watcher.Errors: //nolint:errcheck // one change is lost; the next one is seen
			}
		}
	}()
	return changes, nil
}

// add watches a folder and all folders below it, and reports whether they contain
// a Go file already. A name that is a file is only checked for that.
func add(watcher *fsnotify.Watcher, name string) (found bool, err error) {
	err = filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return watcher.Add(path) // before the folder is read, so that no file is missed
		}
		found = found || isSource(path)
		return err
	})
	return found, err
}

// isSource reports whether a file may be part of the function. The go command
// ignores names that begin with a dot; Emacs creates such files while it edits.
func isSource(name string) bool {
	name = filepath.Base(name)
	return strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && !strings.HasPrefix(name, ".")
}
