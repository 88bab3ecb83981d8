package incode

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
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
// goroutines of its own. When Lambda thaws the process, the next request may
// overtake them, and what they then find is taken for its reply: a caller would
// get the token of another.
type pool struct {
	addr string
	tls  *tls.Config // nil for http

	mu   sync.Mutex
	idle []*conn // the one used last is at the end
}

func newPool(base *url.URL) *pool {
	p, port := &pool{}, "80"
	if base.Scheme == "https" {
		port = "443"
		p.tls = &tls.Config{ServerName: base.Hostname(), MinVersion: tls.VersionTLS12}
	}
	p.addr = net.JoinHostPort(base.Hostname(), cmp.Or(base.Port(), port))
	return p
}

// get returns a connection that is fit for a request, which is opened if none
// is at rest. It is the caller's until put or Close.
func (p *pool) get(ctx context.Context) (*conn, error) {
	for c := p.pop(); c != nil; c = p.pop() {
		if c.quiet() {
			return c, nil
		}
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
	w := &wire{Conn: tcp, raw: raw, tls: p.tls != nil}
	c := &conn{Conn: w, wire: w}
	if p.tls != nil {
		client := tls.Client(w, p.tls)
		if err := client.HandshakeContext(ctx); err != nil {
			tcp.Close()
			return nil, outbound.Redact(err)
		}
		c.Conn = client
	}
	c.used = time.Now().Round(0)
	return c, nil
}

// conn is a connection that serves one request at a time. It belongs to one
// goroutine at a time, and nobody reads it while it rests.
type conn struct {
	net.Conn           // TLS or the wire itself
	wire     *wire     // beneath TLS
	used     time.Time // by the wall clock, as the other stands still while Lambda freezes the process
}

// Close ends the connection without TLS's farewell, which RFC 9112, 9.8, asks for:
// crypto/tls would wait up to 5 s for a peer that takes nothing, beyond any
// deadline. The peer needs none to know where a request ends: that has a length.
func (c *conn) Close() error { return c.wire.Close() }

// quiet reports whether the connection may serve a request: it is young, and
// the peer has neither closed nor reset it nor sent anything unasked. Whatever
// has been received by now answers no request that is yet to come. A connection
// that is not fit is closed.
func (c *conn) quiet() bool {
	age := time.Since(c.used) // below 0, the clock was set back
	// TLS hands out first what it holds. Read this way, a whole ticket is no data,
	// and the alert before a close is an end.
	c.wire.nowait = true
	_, err := c.Read(make([]byte, 1))
	c.wire.nowait = false
	fit := 0 <= age && age <= maxIdle && errors.Is(err, os.ErrDeadlineExceeded) && !c.wire.partial()
	if !fit {
		c.Close()
	}
	return fit
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
	in := bufio.NewReader(io.LimitReader(c, maxHeader+maxReply+1))
	for {
		resp, err := http.ReadResponse(in, nil) //nolint:bodyclose // Close would read on to the end
		if err != nil {
			return reply{}, false, err
		}
		if resp.StatusCode/100 == 1 && resp.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
		again := err == nil && len(body) <= maxReply && !resp.Close && resp.StatusCode >= 200 && in.Buffered() == 0
		return reply{resp.StatusCode, resp.Header, body}, again, err
	}
}

// wire is a TCP connection that can be read without waiting. It follows the TLS
// records that arrive (RFC 8446, 5.1), since crypto/tls keeps one that has arrived
// in part to itself. What such a record begins would else be taken for the reply
// to a request that is sent before it ends.
type wire struct {
	net.Conn
	raw    syscall.RawConn
	nowait bool   // Read returns os.ErrDeadlineExceeded instead of waiting
	tls    bool   // what arrives are TLS records
	header []byte // what has arrived of a record's header, five bytes
	body   int    // bytes of its body that have not arrived
}

func (w *wire) Read(p []byte) (n int, err error) {
	if w.nowait {
		n, err = readNow(w.raw, p)
	} else {
		n, err = w.Conn.Read(p)
	}
	for _, b := range p[:n] {
		if w.body > 0 {
			w.body--
		} else if w.header = append(w.header, b); len(w.header) == 5 {
			w.body, w.header = int(binary.BigEndian.Uint16(w.header[3:])), w.header[:0]
		}
	}
	return n, err
}

// partial reports whether a TLS record has not arrived whole.
func (w *wire) partial() bool { return w.tls && (w.body > 0 || len(w.header) > 0) }
