package incode

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"omnistart/internal/network"
)

// maxIdle is how long a connection may be idle. Load balancers commonly close an idle connection after 60 seconds, and
// some send no FIN.
const maxIdle = 50 * time.Second

// maxLifetime is how long a connection may exist. A new one looks up the address again, which may have changed.
const maxLifetime = 5 * time.Minute

// maxBody bounds a response's body. maxHeader and maxBody together bound everything that is read: body, header, interim
// responses and the framing of chunks. The bodies of Incode's published examples have about 1 KiB.
const maxHeader, maxBody = 64 << 10, 64 << 10

// conn is a connection that serves one request at a time. One goroutine owns it at a time, and nothing reads it while
// it is idle.
//
// http.Transport was rejected: it reads idle connections in goroutines. When Lambda resumes a frozen process, the next
// request may be written before those goroutines run, and net/http then takes what they read for its response. A
// caller could receive the token of another caller.
type conn struct {
	net.Conn // TLS, or the socket itself for a stand-in on the developer's machine
	socket   *socket
	opened   time.Time     // without the monotonic reading, which stops while Lambda freezes the process
	lastUsed time.Time     // likewise
	maxIdle  time.Duration // shorter than the constant if the server asks for that
	reusable bool          // whether it can serve another request
}

// open opens a connection, with TLS unless the scheme of base is http.
func open(ctx context.Context, base *url.URL) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, network.ConnectTimeout)
	defer cancel()
	// A number, because package net looks up a name in /etc/services, which is long on Amazon Linux.
	port := cmp.Or(base.Port(), map[string]string{"http": "80", "https": "443"}[base.Scheme])
	tcp, err := network.Dial(ctx, "tcp", net.JoinHostPort(base.Hostname(), port))
	if err != nil {
		return nil, err
	}
	s := &socket{Conn: tcp, tls: base.Scheme == "https"}
	now := time.Now().Round(0)
	c := &conn{Conn: s, socket: s, opened: now, lastUsed: now, maxIdle: maxIdle, reusable: true}
	if s.tls {
		client := tls.Client(s, &tls.Config{ServerName: base.Hostname(), MinVersion: tls.VersionTLS12})
		if err := client.HandshakeContext(ctx); err != nil {
			s.Close()
			return nil, network.Redact(err)
		}
		c.Conn = client
	}
	return c, nil
}

// Close closes the connection without the close_notify that RFC 9112, section 9.8, requires: to send it, crypto/tls
// would wait up to 5 seconds for a server that reads nothing, beyond every deadline. The server does not need it,
// because a request has a Content-Length.
func (c *conn) Close() error { return c.socket.Close() }

// healthy reports whether an idle connection can serve a request: it is young and was used recently, the server has not
// closed it, and no byte has arrived. A byte that has arrived by now belongs to an unsolicited response, which could be
// read as the response to the next request.
func (c *conn) healthy() bool {
	age, idle := time.Since(c.opened), time.Since(c.lastUsed) // negative when the clock was set back
	// The read goes through TLS, which first returns what it has buffered, skips a session ticket, and reports a
	// close_notify as io.EOF.
	c.socket.poll = true
	_, err := c.Read(make([]byte, 1))
	c.socket.poll = false
	return 0 <= age && age <= maxLifetime && 0 <= idle && idle <= c.maxIdle &&
		errors.Is(err, os.ErrDeadlineExceeded) && !c.socket.hasPartialRecord()
}

// roundTrip writes a request and reads the response until the deadline of ctx. The response is nil if none arrived. An
// error beside a response means that the body is incomplete. The body has at most maxBody+1 bytes.
func (c *conn) roundTrip(ctx context.Context, request []byte) (*http.Response, []byte, error) {
	c.reusable = false
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline) // fails on a closed connection only, and then Write fails
	if _, err := c.Write(request); err != nil {
		return nil, nil, err
	}
	in := bufio.NewReader(io.LimitReader(c, maxHeader+maxBody+1))
	for {
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			return nil, nil, err
		}
		if r.StatusCode/100 == 1 && r.StatusCode != http.StatusSwitchingProtocols {
			continue // an interim response
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1)) // Close would read the rest
		c.lastUsed = time.Now().Round(0)
		// Some servers announce when they close an idle connection. Stop using it a second earlier, because the next
		// request needs time to arrive.
		if _, timeout, ok := strings.Cut(r.Header.Get("Keep-Alive"), "timeout="); ok {
			timeout, _, _ = strings.Cut(timeout, ",")
			seconds, _ := strconv.Atoi(timeout) // 0 if it is no number, and then the connection is not used again
			c.maxIdle = min(maxIdle, time.Duration(seconds-1)*time.Second)
		}
		// A load balancer may bind a connection to a backend that has failed or is overloaded.
		c.reusable = err == nil && len(body) <= maxBody && !r.Close && 200 <= r.StatusCode && r.StatusCode < 500 &&
			!slices.Contains([]int{408, 421, 429}, r.StatusCode) && in.Buffered() == 0
		_ = c.SetDeadline(time.Time{}) // after a deadline, healthy could not read
		return r, body, err
	}
}

// socket is a TCP connection that can be read without waiting. It follows the TLS records that arrive (RFC 8446,
// section 5.1), because crypto/tls does not report that it has buffered a part of a record. When the rest arrives, the
// record could be read as the response to the next request.
type socket struct {
	net.Conn
	poll   bool   // Read returns os.ErrDeadlineExceeded instead of waiting
	tls    bool   // TLS records arrive
	header []byte // the part of a record's header that has arrived, of 5 bytes
	body   int    // the number of bytes of a record's body that have not arrived
}

func (s *socket) Read(p []byte) (n int, err error) {
	if s.poll {
		n, err = readAvailable(s.Conn.(syscall.Conn), p)
	} else {
		n, err = s.Conn.Read(p)
	}
	for _, b := range p[:n] {
		if s.body > 0 {
			s.body--
		} else if s.header = append(s.header, b); len(s.header) == 5 {
			s.body, s.header = int(binary.BigEndian.Uint16(s.header[3:])), s.header[:0]
		}
	}
	return n, err
}

func (s *socket) hasPartialRecord() bool { return s.tls && (s.body > 0 || len(s.header) > 0) }

// readAvailable reads the bytes that the kernel has received. Without any, it returns os.ErrDeadlineExceeded, which a
// TLS connection survives. A read deadline in the past was rejected: package net then does not ask the kernel.
func readAvailable(tcp syscall.Conn, p []byte) (n int, err error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, err
	}
	readErr := raw.Read(func(fd uintptr) bool {
		n, err = syscall.Read(int(fd), p)
		return true // do not wait
	})
	switch {
	case readErr != nil:
		return 0, readErr
	case errors.Is(err, syscall.EAGAIN):
		return 0, os.ErrDeadlineExceeded
	case n == 0 && err == nil:
		return 0, io.EOF
	}
	return max(n, 0), err
}
