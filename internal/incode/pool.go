package incode

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"syscall"
	"time"

	"omnistart/internal/outbound"
)

// maxIdle is how long a connection may rest before it counts as dead. Load
// balancers commonly drop an idle one after 60 seconds, some in silence.
const maxIdle = 50 * time.Second

// pool keeps connections to one Incode host, over TLS unless it is a local
// stand-in.
//
// It is here in place of http.Transport, which reads idle connections in
// goroutines of its own and takes what they find for the reply to the next
// request, if that one is quicker than they are, as it is when Lambda thaws the
// process: a caller would get the token of another. It also sends some requests
// twice.
type pool struct {
	addr string
	tls  *tls.Config // nil for http

	mu   sync.Mutex
	idle []*conn // the one used last is at the end
}

func newPool(baseURL string) (*pool, error) {
	u, err := url.Parse(baseURL)
	if err != nil {
		return nil, err
	}
	p := &pool{}
	port := "80"
	if u.Scheme == "https" {
		port = "443"
		p.tls = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	}
	if u.Port() != "" {
		port = u.Port()
	}
	p.addr = net.JoinHostPort(u.Hostname(), port)
	return p, nil
}

// get returns a connection that is fit for a request, which is opened if none
// is at rest. It is the caller's until put or Close.
func (p *pool) get(ctx context.Context) (*conn, error) {
	for c := p.pop(); c != nil; c = p.pop() {
		if c.quiet() {
			return c, nil
		}
		c.Close()
	}
	return p.open(ctx)
}

func (p *pool) pop() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.idle) - 1
	if last < 0 {
		return nil
	}
	c := p.idle[last]
	p.idle = p.idle[:last]
	return c
}

// put lets a connection rest whose last exchange is complete. Lambda bounds the
// requests at once, and so the connections: one that was closed for being too
// many would cost a later request a handshake.
func (p *pool) put(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, c)
}

func (p *pool) open(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, outbound.ConnectTimeout)
	defer cancel()
	tcp, err := outbound.Dial(ctx, "tcp", p.addr)
	if err != nil {
		return nil, err
	}
	raw, err := tcp.(syscall.Conn).SyscallConn()
	if err != nil {
		tcp.Close()
		return nil, err
	}
	wire := &wire{Conn: tcp, raw: raw}
	c := &conn{Conn: wire, wire: wire}
	if p.tls != nil {
		client := tls.Client(wire, p.tls)
		if err := client.HandshakeContext(ctx); err != nil {
			tcp.Close()
			return nil, outbound.Redact(err)
		}
		c.Conn = client
	}
	c.limit = &io.LimitedReader{R: c.Conn, N: 1}
	c.reader = bufio.NewReader(c.limit)
	c.used = time.Now().Round(0)
	return c, nil
}

// conn is a connection that serves one request at a time. It belongs to one
// goroutine at a time, and nobody reads it while it rests.
type conn struct {
	net.Conn       // TLS or the wire itself
	wire     *wire // beneath TLS
	limit    *io.LimitedReader
	reader   *bufio.Reader // of limit
	used     time.Time     // by the wall clock, as the other stands still while Lambda freezes the process
}

// quiet reports whether the connection may serve a request: it is young, and
// the peer has neither closed nor reset it nor sent anything unasked. Whatever
// has been received by now answers no request that is yet to come.
func (c *conn) quiet() bool {
	if time.Since(c.used) > maxIdle {
		return false
	}
	c.wire.nowait = true
	defer func() { c.wire.nowait = false }()
	// TLS and the buffer hand out first what they hold. Read this way, a TLS
	// ticket is no data, and the alert before a close is an end.
	_, err := c.reader.Peek(1)
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// reply is the final reply to a request.
type reply struct {
	status int // 0 if there is none
	header http.Header
	body   []byte // up to one byte more than maxReply, or what came of it before an error
}

// Format keeps the token out of what is printed.
func (r reply) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "[reply %d]", r.status) }

// roundTrip writes a request and reads the reply. again reports whether the
// connection can serve another request.
func (c *conn) roundTrip(ctx context.Context, request []byte) (r reply, again bool, err error) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		c.used = time.Now().Round(0)
		again = stop() && again
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = context.Cause(ctx)
		}
	}()
	if _, err := c.Write(request); err != nil {
		return reply{}, false, err
	}
	c.limit.N = maxHeader + maxReply + 1
	for {
		resp, err := http.ReadResponse(c.reader, nil) //nolint:bodyclose // Close would read on to the end
		if err != nil {
			return reply{}, false, err
		}
		if resp.StatusCode/100 == 1 && resp.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
		again := err == nil && len(body) <= maxReply && !resp.Close && resp.StatusCode >= 200
		return reply{resp.StatusCode, resp.Header, body}, again, err
	}
}

// wire is a TCP connection that can be read without waiting.
type wire struct {
	net.Conn
	raw    syscall.RawConn
	nowait bool // Read returns os.ErrDeadlineExceeded instead of waiting
}

func (w *wire) Read(p []byte) (int, error) {
	if w.nowait {
		return readNow(w.raw, p)
	}
	return w.Conn.Read(p)
}
