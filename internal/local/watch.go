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

	"omnistart/internal/runtimeapi/runtimeapitest"
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
		err = errors.Join(err, filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			return watcher.Add(path)
		}))
	}
	if err != nil {
		return nil, errors.Join(err, watcher.Close())
	}
	changes := make(chan struct{})
	go func() {
		defer close(changes)
		defer watcher.Close()
		settled := time.NewTimer(0)
		<-settled.C
		for {
			select {
			case <-ctx.Done():
				return
			case event := <-watcher.Events:
				if strings.HasSuffix(event.Name, ".go") && !strings.HasSuffix(event.Name, "_test.go") && !event.Has(fsnotify.Chmod) {
					settled.Reset(quiet)
				}
			case <-watcher.Errors: //nolint:errcheck // one change less; the next one counts
			case <-settled.C:
				select {
				case changes <- struct{}{}:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return changes, nil
}

// rebuild runs the command that builds the function, and puts the new one in the
// place of the old one. The old one stays if that fails.
func (g *gateway) rebuild(ctx context.Context, build []string, start func() (*runtimeapitest.Function, error)) {
	began := time.Now()
	if out, err := exec.CommandContext(ctx, build[0], build[1:]...).CombinedOutput(); err != nil {
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
	g.print("built and started anew in %.0f ms", ms(time.Since(began)))
}
