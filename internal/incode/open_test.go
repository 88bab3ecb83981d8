package incode

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"omnistart/internal/problem"
	"omnistart/internal/tooling/incodetest"
)

func TestDefaultPortOfAScheme(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the error contains the address, and nothing is sent
	for baseURL, address := range map[string]string{
		"http://127.0.0.1": "127.0.0.1:80", "https://127.0.0.1": "127.0.0.1:443", "https://127.0.0.1:8443": "127.0.0.1:8443",
	} {
		if err := New(parseURL(t, baseURL)).Connect(ctx); err == nil || !strings.Contains(err.Error(), " "+address+":") {
			t.Errorf("%s: %v", baseURL, err)
		}
	}
}

func TestUnavailableWithoutAConnection(t *testing.T) {
	incode := incodetest.New()
	start := func(serve func(*httptest.Server)) string {
		server := httptest.NewUnstartedServer(incode)
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		serve(server)
		t.Cleanup(server.Close)
		return server.URL
	}
	for name, tt := range map[string]struct{ baseURL, cause string }{
		"refused": {"https://127.0.0.1:1", "connection refused"}, // nothing listens there
		"no TLS": {strings.Replace(start((*httptest.Server).Start), "http:", "https:", 1),
			"the server sent something that cannot be parsed"},
		"certificate of another host": {strings.Replace(start((*httptest.Server).StartTLS), "127.0.0.1", "localhost", 1),
			"the server's certificate is not trusted: x509.HostnameError"},
		"TLS 1.1": {start(func(server *httptest.Server) {
			server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11} //nolint:gosec // on purpose
			server.StartTLS()
		}), "tls: protocol version not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, tt.baseURL)
			s, err := c.Start(withDeadline(t), key, fields)
			if cause := failure(t, s, err, problem.IncodeUnavailable); !strings.HasSuffix(cause, tt.cause) {
				t.Errorf("cause %q, want %q", cause, tt.cause)
			}
			if err := c.Connect(t.Context()); err == nil || len(c.idle) != 0 || incode.Requests() != 0 {
				t.Errorf("Connect: %v; %d idle connections, %d requests", err, len(c.idle), incode.Requests())
			}
		})
	}
}

// TestConnectionIsOpenedWithinALimit takes the 3 seconds of network.ConnectTimeout.
func TestConnectionIsOpenedWithinALimit(t *testing.T) {
	t.Parallel()
	c := newClient(t, "https://"+listen(t).Addr().String()) // the kernel accepts, and nobody answers the handshake
	if err := c.Connect(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestConnectTimeIsReportedWithoutAConnection(t *testing.T) {
	t.Parallel()
	c := newClient(t, "https://"+listen(t).Addr().String())
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	s, err := c.Start(ctx, key, fields)
	failure(t, s, err, problem.IncodeUnavailable)
	if took := time.Since(began); s.ConnectTime < took/2 || s.ConnectTime > took {
		t.Errorf("%v of %v", s.ConnectTime, took)
	}
}

func TestFailedHandshakeClosesTheConnection(t *testing.T) {
	for name, tt := range map[string]struct {
		fail func(server net.Conn, cancel func())
		want string
	}{
		"no TLS": {func(server net.Conn, _ func()) { _, _ = io.WriteString(server, "HTTP/1.1 400 Bad Request\r\n\r\n") },
			"the server sent something that cannot be parsed"},
		"the request ends": {func(_ net.Conn, cancel func()) { cancel() }, "context canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			l := listen(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			result := make(chan error)
			go func() { result <- New(parseURL(t, "https://"+l.Addr().String())).Connect(ctx) }()
			server, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			_, _ = server.Read(make([]byte, 1)) // the handshake has begun
			tt.fail(server, cancel)
			if err := <-result; err == nil || err.Error() != tt.want {
				t.Errorf("got %v", err)
			}
			_ = server.SetDeadline(time.Now().Add(30 * time.Second))
			if _, err := io.Copy(io.Discard, server); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection is still open")
			}
		})
	}
}

// failingListener closes its first connections.
type failingListener struct {
	net.Listener
	failures int
}

func (l *failingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	for ; err == nil && l.failures > 0; l.failures-- {
		c.Close()
		c, err = l.Listener.Accept()
	}
	return c, err
}

func TestConnectionIsTriedTwice(t *testing.T) {
	for failures := range 3 {
		incode := incodetest.New()
		server := httptest.NewUnstartedServer(incode)
		server.Listener = &failingListener{server.Listener, failures}
		server.StartTLS()
		t.Cleanup(server.Close)
		s, err := newClient(t, server.URL).Start(withDeadline(t), key, fields)
		if failures < 2 && (err != nil || incode.Requests() != 1) {
			t.Errorf("after %d failures: %v, %d requests", failures, err, incode.Requests())
		}
		if failures == 2 {
			if failure(t, s, err, problem.IncodeUnavailable); incode.Requests() != 0 {
				t.Errorf("after two failures: %d requests", incode.Requests())
			}
		}
	}
}
