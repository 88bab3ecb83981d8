//go:build linux

package main

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// link is a server's listener seen over a network: it delays what passes, counts
// its connections, and can break all of them. The zero rtt delays nothing.
type link struct {
	net.Listener
	rtt time.Duration

	accepted atomic.Int64

	mu    sync.Mutex // guards conns
	conns []*wire
}

func newLink(rtt time.Duration) (*link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	return &link{Listener: l, rtt: rtt}, err
}

// Accept returns a connection on which everything takes half of rtt each way,
// and the first bytes a whole rtt more: the kernel of the loopback interface has
// made the TCP handshake in no time.
func (l *link) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.accepted.Add(1)
	w := &wire{Conn: raw}
	l.mu.Lock()
	l.conns = append(l.conns, w)
	l.mu.Unlock()
	if l.rtt == 0 {
		return w, nil
	}
	// A pipe, since net/http needs deadlines that work.
	server, network := net.Pipe()
	go carry(network, w, time.Now().Add(l.rtt), l.rtt/2)
	go carry(w, network, time.Time{}, l.rtt/2)
	return server, nil
}

// carry moves bytes until either side ends. What arrives before opening counts
// as arriving then.
func carry(to, from net.Conn, opening time.Time, delay time.Duration) {
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
	for c := range chunks {
		pause(time.Until(c.due))
		if _, err := to.Write(c.data); err != nil {
			_ = from.Close()
		}
	}
	_ = to.Close()
}

// pause sleeps by the kernel's clock: time.Sleep wakes up to a millisecond late,
// and a cold start crosses the network often.
func pause(d time.Duration) {
	if d <= 0 {
		return
	}
	left := syscall.NsecToTimespec(int64(d))
	for syscall.Nanosleep(&left, &left) == syscall.EINTR {
	}
}

// wire is one accepted connection.
type wire struct {
	net.Conn
	silent atomic.Bool
}

// Read never returns what arrives after the line went silent.
func (w *wire) Read(p []byte) (int, error) {
	for {
		n, err := w.Conn.Read(p)
		if err != nil || !w.silent.Load() {
			return n, err
		}
	}
}

func (w *wire) Write(p []byte) (int, error) {
	if w.silent.Load() {
		return len(p), nil
	}
	return w.Conn.Write(p)
}

const silentEnding = "the line goes silent"

// endings are the ways in which an idle connection dies.
var endings = []struct {
	name string
	end  func(*wire)
}{
	{"the peer closes (FIN)", func(w *wire) { _ = w.Close() }},
	{"the peer resets (RST)", func(w *wire) {
		_ = w.Conn.(*net.TCPConn).SetLinger(0)
		_ = w.Close()
	}},
	{silentEnding, func(w *wire) { w.silent.Store(true) }},
}

// breakAll ends every connection so far.
func (l *link) breakAll(end func(*wire)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.conns {
		end(w)
	}
	l.conns = nil
}
