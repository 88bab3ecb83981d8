//go:build unix

package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// rawServer plays Incode on the level of TCP and TLS, for responses that net/http
// would not send. It responds to each request with a new session, unless a test
// has set another action.
type rawServer struct {
	addr        string
	root        *tls.Certificate
	certificate atomic.Pointer[tls.Certificate]

	connections, requests, sessions atomic.Int32 // requests only counts complete ones

	// lastHeader is the header of the last request.
	lastHeader atomic.Pointer[http.Header]

	// cuts is how often all connections have been cut in silence: nothing responds on
	// those that were open before.
	cuts atomic.Int32

	// Each value replaces the default action once: for the next connection before
	// the TLS handshake, the next one after it, and the next request. The action for
	// a request reports whether the connection stays open.
	onAccept  chan func(*net.TCPConn)
	onConnect chan func(serverConn)
	onRequest chan func(serverConn) (keepOpen bool)

	mu    sync.Mutex
	conns map[serverConn]bool // the open ones
}

// newRawServer returns a server for an address, and makes h call it. The server
// does not listen yet.
func newRawServer(t *testing.T, h *harness, addr string) *rawServer {
	t.Helper()
	const room = 99
	s := &rawServer{
		addr: addr, root: newRoot(t), conns: map[serverConn]bool{},
		onAccept:  make(chan func(*net.TCPConn), room),
		onConnect: make(chan func(serverConn), room),
		onRequest: make(chan func(serverConn) bool, room),
	}
	s.certificate.Store(issue(t, s.root, time.Now().Add(time.Hour), "127.0.0.1", incodeHost))
	h.trust(t, s.root)
	h.setenv("INCODE_BASE_URL", "https://"+addr)
	return s
}

// startRawServer returns a server that listens.
func startRawServer(t *testing.T, h *harness) *rawServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newRawServer(t, h, l.Addr().String())
	s.listen(t, l)
	return s
}

func (s *rawServer) listen(t *testing.T, l net.Listener) {
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c.(*net.TCPConn))
		}
	}()
}

func (s *rawServer) serve(tcp *net.TCPConn) {
	defer tcp.Close()
	s.connections.Add(1)
	cuts := s.cuts.Load()
	select {
	case act := <-s.onAccept:
		act(tcp)
		return
	default:
	}
	conn := serverConn{tls.Server(tcp, &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.certificate.Load(), nil },
	}), tcp}
	s.mu.Lock()
	s.conns[conn] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, conn)
	}()
	if conn.Handshake() != nil {
		return
	}
	select {
	case act := <-s.onConnect:
		act(conn)
		return
	default:
	}
	for in := bufio.NewReader(conn); ; {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		if s.cuts.Load() != cuts {
			conn.waitForClose()
			return
		}
		s.requests.Add(1)
		s.lastHeader.Store(&req.Header)
		select {
		case act := <-s.onRequest:
			if !act(conn) {
				return
			}
		default:
			conn.write(s.newSession())
		}
	}
}

// nextRequests sets the action for each of the next n requests. It starts when all
// n have arrived.
func (s *rawServer) nextRequests(n int, act func(serverConn) (keepOpen bool)) {
	var arrived sync.WaitGroup
	arrived.Add(n)
	for range n {
		s.onRequest <- func(c serverConn) bool { arrived.Done(); arrived.Wait(); return act(c) }
	}
}

// forEachConn calls a function for every open connection.
func (s *rawServer) forEachConn(do func(serverConn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		do(c)
	}
}

// newSession starts a session and returns the response; each line of header ends in
// CRLF.
func (s *rawServer) newSession(header ...string) string {
	body := fmt.Sprintf(`{"token":"eyJ%d","interviewId":"6a1"}`, s.sessions.Add(1))
	return httpResponse("200 OK", strings.Join(header, ""), body)
}

// httpResponse returns a response of HTTP/1.1; each line of header ends in CRLF.
func httpResponse(status, header, body string) string {
	return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s", status, len(body), header, body)
}

// serverConn is the server's end of a connection.
type serverConn struct {
	*tls.Conn
	tcp *net.TCPConn
}

func (c serverConn) close() { _ = c.Close() } // with close_notify

func (c serverConn) reset() { resetTCP(c.tcp) }

func resetTCP(c *net.TCPConn) { _, _ = c.SetLinger(0), c.Close() }

// waitForClose returns when the client has closed the connection.
func (c serverConn) waitForClose() { _, _ = io.Copy(io.Discard, c.Conn) }

func (c serverConn) write(text string) { _, _ = io.WriteString(c.Conn, text) }

// writeForever writes until the client closes the connection, each time after the
// pause.
func writeForever(c net.Conn, head, more string, pause time.Duration) {
	if pause == 0 {
		more = strings.Repeat(more, 1000)
	}
	for _, err := io.WriteString(c, head); err == nil; time.Sleep(pause) {
		_, err = io.WriteString(c, more)
	}
}

// newRoot returns a certificate authority.
func newRoot(t *testing.T) *tls.Certificate {
	t.Helper()
	return issueCertificate(t, nil, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
}

// issue returns a certificate for IP addresses, hosts and URIs. The name of its
// owner must not be printed.
func issue(t *testing.T, root *tls.Certificate, notAfter time.Time, names ...string) *tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "canary", Organization: []string{"canary"}},
		NotAfter: notAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if scheme, rest, ok := strings.Cut(name, ":"); ok {
			template.URIs = append(template.URIs, &url.URL{Scheme: scheme, Opaque: rest})
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return issueCertificate(t, root, template)
}

// issueCertificate signs a certificate by the root, or by its own key without one.
func issueCertificate(t *testing.T, root *tls.Certificate, template *x509.Certificate) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate, parent, signer := &tls.Certificate{PrivateKey: key}, template, key
	if root == nil {
		certificate.Leaf = template
	} else {
		parent, signer = root.Leaf, root.PrivateKey.(*ecdsa.PrivateKey)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate.Certificate = [][]byte{der}
	return certificate
}
