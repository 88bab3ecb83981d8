//go:build linux

package main

import (
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// link is a server's listener at a distance: it delays all data, and can break its connections. With an rtt of zero it
// does neither.
type link struct {
	net.Listener
	rtt time.Duration

	mu    sync.Mutex // guards conns
	conns []*conn
}

// conn is an accepted connection.
type conn struct {
	*net.TCPConn
	silent atomic.Bool // all data is lost
}

func newLink(rtt time.Duration) (*link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	return &link{Listener: l, rtt: rtt}, err
}

// Accept returns a connection that delays all data by half of rtt in each direction. The first data arrives one rtt
// later, which stands for the TCP handshake.
func (l *link) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil || l.rtt == 0 {
		return raw, err
	}
	c := &conn{TCPConn: raw.(*net.TCPConn)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	server, network := net.Pipe() // has deadlines, which net/http needs
	go c.copy(network, c, time.Now().Add(l.rtt), l.rtt/2)
	go c.copy(c, network, time.Time{}, l.rtt/2)
	return server, nil
}

// accepted returns the connections so far, in order.
func (l *link) accepted() []*conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.conns)
}

// copy copies until one side ends. Data that arrives before opening is treated as if it arrived then.
func (c *conn) copy(to, from net.Conn, opening time.Time, delay time.Duration) {
	type chunk struct {
		data []byte
		due  time.Time
	}
	chunks := make(chan chunk, 1024)
	go func() {
		defer close(chunks)
		for {
			buffer := make([]byte, 32<<10)
			n, err := from.Read(buffer)
			if n > 0 {
				arrival := time.Now()
				if arrival.Before(opening) {
					arrival = opening
				}
				chunks <- chunk{buffer[:n], arrival.Add(delay)}
			}
			if err != nil {
				return
			}
		}
	}()
	for chunk := range chunks {
		sleep(time.Until(chunk.due))
		if c.silent.Load() {
			continue
		}
		if _, err := to.Write(chunk.data); err != nil {
			_ = from.Close()
		}
	}
	_ = to.Close()
}

// sleep is more exact than time.Sleep, which may return a millisecond late. A cold start crosses the network many
// times.
func sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	left := syscall.NsecToTimespec(int64(d))
	for syscall.Nanosleep(&left, &left) == syscall.EINTR {
	}
}
