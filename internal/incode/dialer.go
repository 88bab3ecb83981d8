package incode

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"sync"
	"syscall"
	"time"
)

const (
	// ConnectTimeout bounds one TCP and TLS handshake with Incode.
	ConnectTimeout = 3 * time.Second

	// maxIdle is how long a connection may rest before it counts as dead. Load
	// balancers commonly drop an idle one after 60 seconds, some in silence.
	maxIdle = 50 * time.Second
)

// errStale is the error of writing to a connection that died while it rested.
var errStale = errors.New("the connection is stale")

// dialer connects to one Incode host, over TLS unless it is a local stand-in.
type dialer struct {
	addr string
	tls  *tls.Config // nil for http

	mu    sync.Mutex
	spare *conn // opened ahead of the first request, or nil
}

func newDialer(baseURL string) (*dialer, error) {
	u, err := url.Parse(baseURL)
	if err != nil {
		return nil, err
	}
	d := &dialer{}
	port := "80"
	if u.Scheme == "https" {
		port = "443"
		d.tls = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	}
	if u.Port() != "" {
		port = u.Port()
	}
	d.addr = net.JoinHostPort(u.Hostname(), port)
	return d, nil
}

// connect opens the spare connection.
func (d *dialer) connect(ctx context.Context) error {
	c, err := d.open(ctx)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spare = c
	return nil
}

// dial has the form that net/http wants for DialContext and DialTLSContext. It
// returns the spare connection first; if that has died, its first write says so.
func (d *dialer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	d.mu.Lock()
	c := d.spare
	d.spare = nil
	d.mu.Unlock()
	if c != nil {
		return c, nil
	}
	return d.open(ctx)
}

func (d *dialer) open(ctx context.Context) (*conn, error) {
	// net/http lets a dial outlive the request that wanted it, and its deadline.
	ctx, cancel := context.WithTimeout(ctx, ConnectTimeout)
	defer cancel()
	tcp, err := new(net.Dialer).DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return nil, err
	}
	raw, err := tcp.(syscall.Conn).SyscallConn()
	if err != nil {
		tcp.Close()
		return nil, err
	}
	c := &conn{Conn: tcp, raw: raw, used: time.Now().Round(0)}
	if d.tls != nil {
		client := tls.Client(tcp, d.tls)
		if err := client.HandshakeContext(ctx); err != nil {
			tcp.Close()
			return nil, err
		}
		c.Conn = client
	}
	return c, nil
}

// conn is a connection that serves one request at a time, knows whether
// anything of the present one was written, and refuses to begin one on a
// connection that died while Lambda had the process frozen. net/http cannot
// tell: it would write the request first and see the end of the connection
// after.
type conn struct {
	net.Conn
	raw syscall.RawConn

	mu      sync.Mutex // guards what follows
	used    time.Time  // last read; by the wall clock, as the other stands still in a freeze
	written bool       // whether this request has begun to leave
	closed  bool
}

// begin marks the start of a request.
func (c *conn) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written = false
}

// wrote reports whether the request has begun to leave, or may have. It is
// final once net/http has returned an error, because it closes the connection
// before. A nil conn has written nothing.
func (c *conn) wrote() bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.written
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.depart(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// depart marks the request as sent, unless nothing of it may be sent any more.
func (c *conn) depart() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	if !c.written {
		if idle := time.Since(c.used); idle > maxIdle || !established(c.raw) {
			return errStale
		}
		c.written = true
	}
	return nil
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used = time.Now().Round(0)
	return n, err
}

func (c *conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	return c.Conn.Close()
}
