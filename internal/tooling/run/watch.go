//go:build unix

package main

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"
)

// watchInterval is how often watch looks at the files.
const watchInterval = 200 * time.Millisecond

// watch reports until ctx ends that a Go file below one of the folders has changed, other than a test. It waits until
// nothing has changed for one interval, because editors write a file in several steps, and git writes many files.
// (Notifications of the kernel would take more code: they do not cover new folders.)
func watch(ctx context.Context, folders ...string) <-chan struct{} {
	changes := make(chan struct{})
	reported := sources(folders)
	go func() {
		defer close(changes)
		last := reported
		for tick := time.Tick(watchInterval); ; {
			select {
			case <-tick:
			case <-ctx.Done():
				return
			}
			now := sources(folders)
			if now == last && now != reported {
				select {
				case changes <- struct{}{}:
					reported = now
				case <-ctx.Done():
					return
				}
			}
			last = now
		}
	}()
	return changes
}

// sources returns the names, sizes and times of the Go files that may be part of the function. The go command ignores
// names that begin with a dot; Emacs creates such files while it edits.
func sources(folders []string) string {
	var files strings.Builder
	for _, folder := range folders {
		_ = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err != nil { // it has just been removed
				return nil
			}
			name := entry.Name()
			if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && !strings.HasPrefix(name, ".") {
				if info, err := entry.Info(); err == nil {
					fmt.Fprintln(&files, path, info.Size(), info.ModTime().UnixNano())
				}
			}
			return nil
		})
	}
	return files.String()
}
