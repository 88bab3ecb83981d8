//go:build unix

package main

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// coldStart measures the parts of a start from outside, since the function
// itself has better to do: the stand-ins see when each thing has happened. It is
// safe for concurrent use.
type coldStart struct {
	mu             sync.Mutex
	began          time.Time // zero once the start has been told
	loaded, dialed time.Duration
}

// begin is called before a process starts.
func (c *coldStart) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.began, c.loaded, c.dialed = time.Now(), 0, 0
}

func (c *coldStart) secret() { c.mark(&c.loaded) }

// dialled is a hook for http.Server.
func (c *coldStart) dialled(_ net.Conn, state http.ConnState) {
	if state == http.StateNew {
		c.mark(&c.dialed)
	}
}

func (c *coldStart) mark(part *time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *part == 0 && !c.began.IsZero() {
		*part = time.Since(c.began)
	}
}

// String tells the parts of the last start, once. Each is a time since the
// process was started, since they run side by side.
func (c *coldStart) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.began.IsZero() {
		return ""
	}
	c.began = time.Time{}
	text := ""
	if c.dialed > 0 {
		text += fmt.Sprintf(", Incode dialled after %.0f ms", ms(c.dialed))
	}
	if c.loaded > 0 {
		text += fmt.Sprintf(", secret there after %.0f ms", ms(c.loaded))
	}
	return text
}
