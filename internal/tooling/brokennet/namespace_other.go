//go:build !linux

package brokennet

import "errors"

// Enter needs Linux.
func Enter(...string) error { return errors.New("no network of its own: it needs Linux") }
