//go:build unix

package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// networkFaults are those of the way to Incode. Each has a process of its own,
// since what the init connects to is part of it.
func networkFaults(t *testing.T, m *matrix) {
	reset := func(tcp *net.TCPConn) { _, _ = tcp.SetLinger(0), tcp.Close() }
	silent := func(tcp *net.TCPConn) { _, _ = io.Copy(io.Discard, tcp) }
	says := func(text string) func(*net.TCPConn) {
		return func(tcp *net.TCPConn) { _, _ = io.WriteString(tcp, text) }
	}
	part := func(then func(peer)) func(peer) { // of the request is read
		return func(p peer) {
			_, _ = io.ReadFull(p, make([]byte, 10))
			then(p)
		}
	}
	closes := func(p peer) { _ = p.Close() }
	const half = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"token\":\"eyJcanary"

	rows := []struct {
		name     string
		accept   func(*net.TCPConn) // by the init, each request, and its second try
		open     func(peer)         // once for each request, after the init's connection has been reset
		request  func(peer)
		want     want
		requests int // of each call
	}{
		{"reset before TLS", reset, nil, nil, unreached, 0},
		{"closed before TLS", says(""), nil, nil, unreached, 0},
		{"HTTP in place of TLS", says("HTTP/1.1 400 canary\r\n\r\neyJcanary"), nil, nil, unreached, 0},
		{"a TLS alert", says("\x15\x03\x03\x00\x02\x02\x28"), nil, nil, unreached, 0},
		{"a mute handshake", silent, nil, nil, unreached, 0},
		{"reset before the request", nil, peer.reset, nil, unknown, 0},
		{"closed before the request", nil, closes, nil, unknown, 0},
		{"reset within the request", nil, part(peer.reset), nil, unknown, 0},
		{"closed within the request", nil, part(closes), nil, unknown, 0},
		{"silence within the request", nil, part(peer.wait), nil, timedOut, 0},
		{"a reply before the end of the request", nil, part(func(p peer) { p.say(reply("413 x", "Connection: close\r\n", "canary")); p.wait() }), nil, rejected, 0},
		{"reset after the request", nil, nil, peer.reset, unknown, 1},
		{"closed after the request", nil, nil, closes, unknown, 1},
		{"reset within the reply", nil, nil, func(p peer) { p.say(half); p.reset() }, unknown, 1},
		{"closed within the reply", nil, nil, func(p peer) { p.say(half); closes(p) }, unknown, 1},
		{"TCP closed within the reply", nil, nil, func(p peer) { p.say(half); _ = p.tcp.Close() }, unknown, 1},
		{"garbage for TLS within the reply", nil, nil, func(p peer) { p.say(half); _, _ = io.WriteString(p.tcp, "eyJcanary") }, unknown, 1},
	}
	names := make([]string, len(rows))
	for i := range rows {
		names[i] = rows[i].name
	}
	m.rows(t, names, func(t *testing.T, i int) {
		row := rows[i]
		r := m.rig(t)
		w := listenWire(t, r)
		for range 1 + 2*r.callers {
			if row.accept != nil {
				w.accept <- row.accept
			}
		}
		if row.open != nil {
			w.accept <- reset
			for range r.callers {
				w.open <- row.open
			}
		}
		if row.request != nil {
			w.next(r.callers, func(p peer) bool { row.request(p); return false })
		}
		r.start(t, 5*time.Second)
		r.meet(t, row.want)
		if n := int(w.requests.Load()); n != row.requests*r.callers {
			t.Errorf("%d requests arrived, want %d", n, row.requests*r.callers)
		}
		for range len(w.accept) { // those of a second try that there was no time for
			<-w.accept
		}
		w.good(t, r)
	})

	m.row(t, "refused", func(t *testing.T) {
		fd, addr := bound(t)
		r := m.rig(t)
		w := newWire(t, r, addr)
		r.start(t, 5*time.Second)
		r.meet(t, unreached)
		w.listen(t, listenOn(t, fd))
		w.good(t, r)
	})
	resolverFaults(t, m)
	certificateFaults(t, m)
	restFaults(t, m)
}

// bound returns a TCP socket that has an address and refuses connections.
func bound(t *testing.T) (fd int, addr string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
}

// listenOn lets the socket accept connections.
func listenOn(t *testing.T, fd int) net.Listener {
	t.Helper()
	if err := syscall.Listen(fd, 16); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// resolverFaults befall the lookup of Incode's address, until they are mended.
func resolverFaults(t *testing.T, m *matrix) {
	var names []string
	for name := range lookups {
		names = append(names, name)
	}
	m.rows(t, names, func(t *testing.T, i int) {
		r := m.rig(t)
		r.env["INCODE_TIMEOUT"] = "1500ms" // so that two calls end before a mute lookup is tried again
		w := listenWire(t, r)
		dns := w.resolve(t, r)
		dns.meets(lookups[names[i]])
		r.start(t, 5*time.Second)
		r.meet(t, unreached)
		if w.requests.Load() != 0 {
			t.Error("a request arrived")
		}
		dns.meets(nil)
		w.good(t, r)
	})
}

// certificateFaults are a server that is not Incode: it must not get the key,
// and what it calls itself is not for the log.
func certificateFaults(t *testing.T, m *matrix) {
	const another = "canary.example"
	tomorrow, yesterday := time.Now().Add(24*time.Hour), time.Now().Add(-24*time.Hour)
	for name, certificate := range map[string]func(*testing.T, *wire) *tls.Certificate{
		"expired certificate":    func(t *testing.T, w *wire) *tls.Certificate { return w.ca.issue(t, yesterday, incodeHost, another) },
		"certificate of another": func(t *testing.T, w *wire) *tls.Certificate { return w.ca.issue(t, tomorrow, another) },
		"unknown authority": func(t *testing.T, _ *wire) *tls.Certificate {
			return newAuthority(t).issue(t, tomorrow, incodeHost, another)
		},
		"unreadable certificate": func(t *testing.T, w *wire) *tls.Certificate {
			return w.ca.issue(t, tomorrow, incodeHost, "https://canary:eyJ")
		},
	} {
		m.row(t, name, func(t *testing.T) {
			r := m.rig(t)
			w := listenWire(t, r)
			w.resolve(t, r)
			good := w.certificate.Swap(certificate(t, w))
			r.start(t, 5*time.Second)
			r.meet(t, unreached)
			if w.requests.Load() != 0 {
				t.Error("the key went to a stranger")
			}
			w.certificate.Store(good)
			w.good(t, r)
		})
	}
}

// restFaults befall all connections while Lambda has the process frozen, or, as
// it freezes none that takes many calls, while that waits. The first is the one
// that the init has opened. No caller may notice.
func restFaults(t *testing.T, m *matrix) {
	stolen := reply("200 OK", "", `{"token":"eyJcanary"}`)
	// Nothing is sent before the last copy of a socket is closed, and another row
	// may be starting a process, which has one for a moment.
	late := map[string]bool{"closed at rest without TLS": true, "reset at rest": true}
	for name, happens := range map[string]func(peer){
		"closed at rest":             func(p peer) { _ = p.Close() },
		"closed at rest without TLS": func(p peer) { _ = p.tcp.Close() },
		"half closed at rest":        func(p peer) { _ = p.Conn.(*tls.Conn).CloseWrite() },
		"reset at rest":              peer.reset,
		"another's reply at rest":    func(p peer) { p.say(stolen) },
		"half a reply at rest":       func(p peer) { p.say(stolen[:20]) },
		"408 at rest":                func(p peer) { p.say(reply("408 Request Timeout", "Connection: close\r\n", "")); _ = p.Close() },
		"half a TLS record at rest":  func(p peer) { _, _ = io.WriteString(p.tcp, "\x17\x03\x03\x00\x40eyJ") },
		"half a TLS header at rest":  func(p peer) { _, _ = io.WriteString(p.tcp, "\x17") },
		"garbage for TLS at rest":    func(p peer) { _, _ = io.WriteString(p.tcp, "eyJcanary") },
	} {
		m.row(t, name, func(t *testing.T) {
			r := m.rig(t)
			w := listenWire(t, r)
			r.start(t, 5*time.Second)
			for range 20 {
				if r.concurrency == 1 {
					if err := r.Freeze(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				var rests []string
				w.each(func(p peer) { rests = append(rests, p.atRest()); happens(p) })
				if late[name] {
					arrived(t, rests)
				}
				w.good(t, r)
			}
		})
	}
}

// atRest is how Linux lists the client's end of a connection that is established
// and has nothing to read.
func (p peer) atRest() string {
	hex := func(a net.Addr) string { return fmt.Sprintf("0100007F:%04X", a.(*net.TCPAddr).Port) }
	return fmt.Sprintf(" %s %s 01 00000000:00000000 ", hex(p.tcp.RemoteAddr()), hex(p.tcp.LocalAddr()))
}

// arrived waits until none of these connections is at rest any more.
func arrived(t *testing.T, rests []string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		sockets, err := os.ReadFile("/proc/net/tcp")
		if os.IsNotExist(err) && runtime.GOOS != "linux" {
			return
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("it never arrived (%v)", err)
		}
		if !slices.ContainsFunc(rests, func(rest string) bool { return strings.Contains(string(sockets), rest) }) {
			return
		}
	}
}
