//go:build unix

package main

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// coldStart is one start of a process, measured from outside, since the function
// itself has better to do: the stand-ins see when each thing has happened. It is
// safe for concurrent use.
type coldStart struct {
	began time.Time

	mu             sync.Mutex
	loaded, dialed time.Duration // since then; zero until it has happened
	told           bool
}

func (c *coldStart) mark(part *time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *part == 0 {
		*part = time.Since(c.began)
	}
}

// tell returns the parts, each as a time since the process was started, for they
// run side by side. It does so once: a process that has ended is started anew
// without a word, and nobody has measured that.
func (c *coldStart) tell() (text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told {
		return ""
	}
	c.told = true
	if c.dialed > 0 {
		text += fmt.Sprintf(", Incode dialled after %.0f ms", ms(c.dialed))
	}
	if c.loaded > 0 {
		text += fmt.Sprintf(", secret there after %.0f ms", ms(c.loaded))
	}
	return text
}

// stopwatch hands what the stand-ins see to the last start. It is safe for
// concurrent use.
type stopwatch struct{ last atomic.Pointer[coldStart] }

// start is called before a process starts. The one before keeps its times, and
// gets no further ones.
func (s *stopwatch) start() *coldStart {
	c := &coldStart{began: time.Now()}
	s.last.Store(c)
	return c
}

// secret is called when Secrets Manager has answered.
func (s *stopwatch) secret() {
	if c := s.last.Load(); c != nil {
		c.mark(&c.loaded)
	}
}

// dialled is a hook for Incode's http.Server.
func (s *stopwatch) dialled(_ net.Conn, state http.ConnState) {
	if c := s.last.Load(); c != nil && state == http.StateNew {
		c.mark(&c.dialed)
	}
}
