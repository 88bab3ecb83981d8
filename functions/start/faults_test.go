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
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"omnistart/internal/tooling/incodetest"
)

var together = flag.Int("together", 4, "calls that meet a fault at once in TestFaults/32 and TestDeadlines/32, at most 32")

// TestFaults is the fault matrix. Every row breaks one thing, once, and wants
// the documented answer before Lambda's deadline, no more requests than
// documented, no secret in any output, a bounded memory, and the next call
// answered 200 by the same process. It runs with one call at a time, and in a
// process that takes 32, where many meet the fault at once: each of them has to
// get what a single one gets.
func TestFaults(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("NOT CHECKED: the bound on memory, which needs Linux")
	}
	var wg sync.WaitGroup // rows wait more than they work, so go test's -parallel is too few
	for _, m := range []*matrix{{concurrency: 1, callers: 1}, {concurrency: 32, callers: *together}} {
		m.slots = make(chan struct{}, min(16, 64/m.callers))
		wg.Go(func() {
			t.Run(fmt.Sprint(m.concurrency), func(t *testing.T) {
				var wg sync.WaitGroup
				for name, group := range map[string]func(*testing.T, *matrix){
					"secret": secretFaults, "incode": incodeFaults, "network": networkFaults,
				} {
					wg.Go(func() { t.Run(name, func(t *testing.T) { group(t, m) }) })
				}
				wg.Wait()
				t.Logf("%d faults tried by %d at once, %d survived, %d lost", m.tried.Load(), m.callers, m.survived.Load(), m.tried.Load()-m.survived.Load())
			})
		})
	}
	wg.Wait()
}

type matrix struct {
	concurrency, callers int           // as in rig
	slots                chan struct{} // a handshake that took seconds, for too many at once, would be a fault of its own
	tried, survived      atomic.Int32
}

// rig returns one for a row.
func (m *matrix) rig(t *testing.T) *rig {
	r := newRig(t)
	r.concurrency, r.callers = m.concurrency, m.callers
	r.env["INCODE_TIMEOUT"] = "3s" // many processes start at once
	return r
}

// row runs and counts one row.
func (m *matrix) row(t *testing.T, name string, f func(*testing.T)) {
	m.tried.Add(1)
	if t.Run(name, f) {
		m.survived.Add(1)
	}
}

// rows runs rows that wait, all at once but for the slots.
func (m *matrix) rows(t *testing.T, names []string, f func(t *testing.T, i int)) {
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			m.slots <- struct{}{}
			defer func() { <-m.slots }()
			m.row(t, name, func(t *testing.T) { f(t, i) })
		})
	}
	wg.Wait()
}

// want is the answer to a call that meets a fault.
type want struct {
	status int
	code   string
	retry  string // Retry-After; 503 alone has it
}

var (
	ok              = want{200, "", ""}
	rejected        = want{502, "incode-rejected", ""}
	unauthorized    = want{502, "incode-unauthorized", ""}
	invalidResponse = want{502, "incode-invalid-response", ""}
	failed          = want{502, "incode-failed", ""}
	unknown         = want{502, "outcome-unknown", ""}
	timedOut        = want{504, "incode-timeout", ""}
	unreached       = want{503, "incode-unavailable", "1"}
	misconfigured   = want{500, "service-misconfigured", ""}
	noSecret        = want{503, "secret-unavailable", "1"}
)

func throttled(seconds string) want { return want{503, "incode-throttled", seconds} }

// perhaps lists the codes after which a session may exist.
var perhaps = []string{"internal", "incode-invalid-response", "incode-failed", "outcome-unknown", "incode-timeout"}

// The bounds of the memory of the process, the race detector's part included.
const (
	maxRSS     = 96 << 10 // KiB
	maxRSSEach = 3 << 10  // KiB more for each call that it takes at a time
)

// check compares an answer.
func (r *rig) check(t *testing.T, a answer, w want) {
	t.Helper()
	if a.status != w.status || a.code != w.code || a.header["Retry-After"] != w.retry {
		t.Errorf("got %d %s, Retry-After %q; want %d %s, %q", a.status, a.code, a.header["Retry-After"], w.status, w.code, w.retry)
	}
	if w.status != 200 && leaked(a.text) != "" {
		t.Errorf("the answer holds %s: %s", leaked(a.text), a.text)
	}
	if pid := r.Pid(); pid != r.pid {
		t.Errorf("process %d answers in place of %d", pid, r.pid)
	}
	if runtime.GOOS != "linux" {
		return // which TestFaults tells
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.pid))
	if err != nil {
		t.Error(err)
	}
	peak, limit := 0, maxRSS+maxRSSEach*max(1, r.concurrency)
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscan(after, &peak); err != nil || peak > limit {
		t.Errorf("the process took %d KiB, want at most %d (%v)", peak, limit, err)
	}
}

// leaked returns what a text holds of the things that nobody may see.
func leaked(text string) string {
	for _, secret := range []string{"canary", incodetest.Key, "eyJ"} { // JWTs begin with eyJ
		if strings.Contains(text, secret) {
			return secret
		}
	}
	return ""
}

// wire is an Incode that is not bound to HTTP, for what net/http is too polite
// to send. It answers every request with a session unless it was told otherwise.
type wire struct {
	ca          *authority
	certificate atomic.Pointer[tls.Certificate]

	requests, sessions atomic.Int32 // requests counts those that arrived whole

	accept  chan func(*net.TCPConn) // takes the next connection before TLS
	open    chan func(peer)         // takes the next connection after TLS
	request chan func(peer) bool    // takes the next request, and tells whether the connection goes on

	mu    sync.Mutex
	peers map[peer]bool // of all connections
}

// next lets each of the next n requests meet what act does, once all of them
// are there.
func (w *wire) next(n int, act func(peer) (goesOn bool)) {
	var all sync.WaitGroup
	all.Add(n)
	for range n {
		w.request <- func(p peer) bool { all.Done(); all.Wait(); return act(p) }
	}
}

// peer is the server's end of a connection.
type peer struct {
	net.Conn // TLS
	tcp      *net.TCPConn
}

// reset makes the peer forget the connection and say so.
func (p peer) reset() { _, _ = p.tcp.SetLinger(0), p.tcp.Close() }

// wait returns when the client has left.
func (p peer) wait() { _, _ = io.Copy(io.Discard, p.Conn) }

// say writes as fast as the client takes it.
func (p peer) say(text string) { _, _ = io.WriteString(p.Conn, text) }

// newWire returns a server whose certificate is good, and lets r call it. It
// serves no listener yet.
func newWire(t *testing.T, r *rig, addr string) *wire {
	t.Helper()
	const room = 99
	w := &wire{
		ca: newAuthority(t), accept: make(chan func(*net.TCPConn), room), open: make(chan func(peer), room),
		request: make(chan func(peer) bool, room), peers: map[peer]bool{},
	}
	w.certificate.Store(w.ca.issue(t, time.Now().Add(time.Hour), "127.0.0.1", incodeHost))
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.ca.der}), 0o600); err != nil {
		t.Fatal(err)
	}
	r.env["SSL_CERT_FILE"], r.env["INCODE_BASE_URL"] = roots, "https://"+addr
	return w
}

// listenWire returns a server that listens.
func listenWire(t *testing.T, r *rig) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, r, l.Addr().String())
	w.listen(t, l)
	return w
}

func (w *wire) listen(t *testing.T, l net.Listener) {
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go w.serve(c.(*net.TCPConn))
		}
	}()
}

// each does something to every connection.
func (w *wire) each(do func(peer)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.peers {
		do(p)
	}
}

func (w *wire) serve(tcp *net.TCPConn) {
	defer tcp.Close()
	select {
	case f := <-w.accept:
		f(tcp)
		return
	default:
	}
	server := tls.Server(tcp, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return w.certificate.Load(), nil }})
	p := peer{server, tcp}
	w.mu.Lock()
	w.peers[p] = true
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.peers, p)
	}()
	if server.Handshake() != nil {
		return
	}
	select {
	case f := <-w.open:
		f(p)
		return
	default:
	}
	for r := bufio.NewReader(p); ; {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		w.requests.Add(1)
		select {
		case f := <-w.request:
			if !f(p) {
				return
			}
		default:
			p.say(w.session())
		}
	}
}

// session starts a session and returns the reply.
func (w *wire) session() string {
	return reply("200 OK", "", fmt.Sprintf(`{"token":"eyJ%d","interviewId":"6a1"}`, w.sessions.Add(1)))
}

// reply returns a reply of HTTP/1.1; each line of header ends in CRLF.
func reply(status, header, body string) string {
	return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s", status, len(body), header, body)
}

// authority is a certificate authority.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	der  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key, cert, der}
}

// issue returns a certificate for IP addresses, hosts and URIs. Its owner has a
// name that nobody may see.
func (a *authority) issue(t *testing.T, until time.Time, names ...string) *tls.Certificate {
	t.Helper()
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "canary", Organization: []string{"canary"}}, NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			cert.IPAddresses = append(cert.IPAddresses, ip)
		} else if scheme, rest, ok := strings.Cut(name, ":"); ok {
			cert.URIs = append(cert.URIs, &url.URL{Scheme: scheme, Opaque: rest})
		} else {
			cert.DNSNames = append(cert.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
}

// fault is a reply of Incode that breaks something.
type fault struct {
	name string
	act  func(*wire, peer) bool // whether the connection goes on
	want want
}

// try meets a fault, and then a good call.
func (w *wire) try(t *testing.T, r *rig, f fault) {
	t.Helper()
	requests, sessions := w.requests.Load(), w.sessions.Load()
	w.next(r.callers, func(p peer) bool { return f.act(w, p) })
	for _, a := range r.meet(t, f.want) {
		if strings.Contains(a.token, "canary") {
			t.Errorf("got the token %q of another", a.token)
		}
	}
	if n := w.requests.Load() - requests; int(n) != r.callers {
		t.Errorf("%d requests arrived, want %d", n, r.callers)
	}
	if f.want.status != 200 && w.sessions.Load() > sessions && !slices.Contains(perhaps, f.want.code) {
		t.Errorf("%s denies a session that exists", f.want.code)
	}
	w.good(t, r)
}

// good wants each of the next calls to start a session of its own.
func (w *wire) good(t *testing.T, r *rig) {
	t.Helper()
	requests, sessions := w.requests.Load(), w.sessions.Load()
	w.next(r.callers, func(p peer) bool { p.say(w.session()); return true })
	tokens := map[string]bool{}
	for _, a := range r.meet(t, ok) {
		tokens[a.token] = true
	}
	for i := range int32(r.callers) {
		if mine := fmt.Sprintf("eyJ%d", sessions+1+i); !tokens[mine] {
			t.Errorf("of the next calls, none got the token %q", mine)
		}
	}
	if n := w.requests.Load() - requests; int(n) != r.callers {
		t.Errorf("the next calls sent %d requests, want %d", n, r.callers)
	}
}
