//go:debug x509usefallbackroots=1
package incode

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"omnistart/internal/apikey"
	"omnistart/internal/tooling/incodetest"
)

var (
	key = apikey.NewKey(incodetest.Key, "v1")

	// fields start a session.
	fields = map[string]any{"configurationId": incodetest.FlowID}

	// certificate is the one of net/http/httptest, for 127.0.0.1. The tests trust it.
	certificate tls.Certificate
)

func init() {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	certificate = server.TLS.Certificates[0]
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	x509.SetFallbackRoots(roots) // in place of the system's, because of the go:debug line above
}

// withDeadline returns a context with a deadline that no test reaches.
func withDeadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	t.Cleanup(cancel)
	return ctx
}

func parseURL(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// newClient returns a client whose idle connections are closed at the end of the test.
func newClient(t testing.TB, baseURL string) *Client {
	t.Helper()
	c := New(parseURL(t, baseURL))
	t.Cleanup(func() {
		for len(c.idle) > 0 {
			(<-c.idle).Close()
		}
	})
	return c
}

// serve starts an HTTPS server and returns a client for it.
func serve(t *testing.T, handler http.Handler) (*httptest.Server, *Client) {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	return server, newClient(t, server.URL)
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// await polls until the kernel has delivered what makes the condition true.
func await(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the condition did not become true within 30 seconds")
		}
	}
}

// response returns an HTTP response with this status and body.
func response(status int, body string) string {
	return fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
}

// memoryConn is a connection in memory. The server sends the response after the first request, and then closes the
// connection.
type memoryConn struct {
	net.Conn // nil: the client calls no other method
	response bytes.Reader
	requests int   // how often the client has written
	writeErr error // the result of the next write
	deadline time.Time
	closed   bool
}

func (m *memoryConn) Write(p []byte) (int, error)           { m.requests++; return len(p), m.writeErr }
func (m *memoryConn) Read(p []byte) (int, error)            { return m.response.Read(p) }
func (m *memoryConn) SetDeadline(deadline time.Time) error  { m.deadline = deadline; return nil }
func (m *memoryConn) Close() error                          { m.closed = true; return nil }
func (m *memoryConn) SyscallConn() (syscall.RawConn, error) { return memorySocket{conn: m}, nil }

// memorySocket is what readAvailable sees of a memoryConn.
type memorySocket struct {
	syscall.RawConn
	conn *memoryConn
}

func (s memorySocket) Read(func(uintptr) bool) error {
	if s.conn.requests > 0 && s.conn.response.Len() > 0 {
		return errors.New("bytes have arrived")
	}
	return os.ErrDeadlineExceeded
}

// connected returns a client with one idle connection. A second one cannot be opened.
func connected(t testing.TB, idle net.Conn) *Client {
	c := newClient(t, "http://127.0.0.1:0")
	c.put(newConn(idle))
	return c
}

// newConn returns a reusable connection without TLS.
func newConn(tcp net.Conn) *conn {
	s, now := &socket{Conn: tcp}, time.Now()
	return &conn{Conn: s, socket: s, opened: now, lastUsed: now, maxIdle: maxIdle, reusable: true}
}

// exchange starts a session over a memoryConn with this response.
func exchange(t testing.TB, response string) (Session, *memoryConn, *Client, error) {
	m := &memoryConn{}
	m.response.Reset([]byte(response))
	c := connected(t, m)
	session, err := c.Start(withDeadline(t), key, fields)
	return session, m, c, err
}
