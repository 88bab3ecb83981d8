package incode

import (
	"bufio"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Rest lets a connection rest in the pool that is no socket.
func (c *Client) Rest(memory net.Conn) {
	w := &wire{Conn: memory, raw: quiet{}}
	limit := &io.LimitedReader{R: w, N: 1}
	c.pool.put(&conn{Conn: w, wire: w, limit: limit, reader: bufio.NewReader(limit), used: time.Now()})
}

// quiet is a socket on which nothing has arrived.
type quiet struct{ syscall.RawConn }

func (quiet) Read(func(uintptr) bool) error { return os.ErrDeadlineExceeded }
