//go:build unix

package incode

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// readNow reads what the kernel has received. If that is nothing, the error is
// os.ErrDeadlineExceeded, which a TLS connection survives. (With a deadline in
// the past, package net would not even ask the kernel.)
func readNow(raw syscall.RawConn, p []byte) (n int, err error) {
	if e := raw.Read(func(fd uintptr) bool {
		n, err = syscall.Read(int(fd), p)
		return true
	}); e != nil {
		return 0, e
	}
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return 0, os.ErrDeadlineExceeded
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}
