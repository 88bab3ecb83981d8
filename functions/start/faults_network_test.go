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

// networkFaults are faults of the connection to Incode. Each row has its own
// process, since the connection that the init opens is part of the fault.
func networkFaults(t *testing.T, m *matrix) {
	m.run(t,
		rows(handshakeFaults(), func(f connectionFault) row { return f.row(m) }),
		rows(requestFaults(), func(f connectionFault) row { return f.row(m) }),
		[]row{{"refused", func(t *testing.T) { refusedConnection(t, m) }}},
		lookupFaults(m),
		certificateFaults(m),
		idleFaults(m),
	)
}

// connectionFault is what a server does to a connection.
type connectionFault struct {
	name string
	// onAccept is for the connections of the init and of each call, both attempts
	// included. onConnect and onRequest are for one connection or request of each
	// call; before onConnect, the connection of the init is reset.
	onAccept             func(*net.TCPConn)
	onConnect, onRequest func(serverConn)
	want                 outcome
	requests             int // complete ones, of each call
}

func handshakeFaults() []connectionFault {
	writes := func(text string) func(*net.TCPConn) {
		return func(tcp *net.TCPConn) { _, _ = io.WriteString(tcp, text) }
	}
	fault := func(name string, onAccept func(*net.TCPConn)) connectionFault {
		return connectionFault{name: name, onAccept: onAccept, want: unavailable}
	}
	return []connectionFault{
		fault("no handshake", func(tcp *net.TCPConn) { _, _ = io.Copy(io.Discard, tcp) }),
		fault("reset before the handshake", resetTCP),
		fault("closed before the handshake", writes("")),
		fault("HTTP instead of TLS", writes("HTTP/1.1 400 canary\r\n\r\neyJcanary")),
		fault("a TLS alert", writes("\x15\x03\x03\x00\x02\x02\x28")),
	}
}

func requestFaults() []connectionFault {
	const half = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"token\":\"eyJcanary"
	before := func(name string, onConnect func(serverConn), want outcome) connectionFault {
		return connectionFault{name: name, onConnect: onConnect, want: want}
	}
	within := func(name string, act func(serverConn), want outcome) connectionFault {
		return before(name, func(c serverConn) {
			_, _ = io.ReadFull(c, make([]byte, 10))
			act(c)
		}, want)
	}
	after := func(name, response string, act func(serverConn)) connectionFault {
		onRequest := func(c serverConn) { c.write(response); act(c) }
		return connectionFault{name: name, onRequest: onRequest, want: unknown, requests: 1}
	}
	return []connectionFault{
		after("reset after the request", "", serverConn.reset),
		before("reset before the request", serverConn.reset, unknown),
		before("closed before the request", serverConn.close, unknown),
		within("reset within the request", serverConn.reset, unknown),
		within("closed within the request", serverConn.close, unknown),
		within("nothing more after a part of the request", serverConn.waitForClose, timedOut),
		within("a response before the end of the request", func(c serverConn) {
			c.write(httpResponse("413 x", "Connection: close\r\n", "canary"))
			c.waitForClose()
		}, rejected),
		after("closed after the request", "", serverConn.close),
		after("reset within the response", half, serverConn.reset),
		after("closed within the response", half, serverConn.close),
		after("closed within the response without close_notify", half, func(c serverConn) { _ = c.tcp.Close() }),
		after("garbage instead of a TLS record within the response", half, func(c serverConn) {
			_, _ = io.WriteString(c.tcp, "eyJcanary")
		}),
	}
}

func (f connectionFault) row(m *matrix) row {
	return row{f.name, func(t *testing.T) {
		h := m.harness(t)
		if f.want == timedOut {
			h.setenv("INCODE_TIMEOUT", shortTimeout)
		}
		s := startRawServer(t, h)
		if f.onAccept != nil {
			for range 1 + 2*h.callers {
				s.onAccept <- f.onAccept
			}
		}
		if f.onConnect != nil {
			s.onAccept <- resetTCP
			for range h.callers {
				s.onConnect <- f.onConnect
			}
		}
		if f.onRequest != nil {
			s.nextRequests(h.callers, func(c serverConn) bool { f.onRequest(c); return false })
		}
		h.start(t)
		h.startSessions(t, f.want)
		if n := int(s.requests.Load()); n != f.requests*h.callers {
			t.Errorf("%d requests arrived, want %d", n, f.requests*h.callers)
		}
		for range len(s.onAccept) { // for second attempts that were not made
			<-s.onAccept
		}
		s.checkSuccess(t, h)
	}}
}

func refusedConnection(t *testing.T, m *matrix) {
	fd, addr := bind(t)
	h := m.harness(t)
	s := newRawServer(t, h, addr)
	h.start(t)
	h.startSessions(t, unavailable)
	s.listen(t, listen(t, fd))
	s.checkSuccess(t, h)
}

// bind returns a TCP socket that has an address and refuses connections.
func bind(t *testing.T) (fd int, addr string) {
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

// listen makes a socket of bind accept connections.
func listen(t *testing.T, fd int) net.Listener {
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

// lookupFaults are faults of the DNS lookup of Incode's host.
func lookupFaults(m *matrix) []row {
	return rows(dnsFaults, func(f dnsFault) row {
		return row{f.name, func(t *testing.T) {
			h := m.harness(t)
			s := startRawServer(t, h)
			dns := s.useHostName(t, h)
			dns.fail(f.respond)
			h.start(t)
			h.startSessions(t, unavailable)
			if s.requests.Load() != 0 {
				t.Error("a request arrived")
			}
			dns.fail(nil)
			s.checkSuccess(t, h)
		}}
	})
}

// certificateFaults are certificates of a server that is not Incode. The function
// must not send it the key, nor print its names.
func certificateFaults(m *matrix) []row {
	const other = "canary.example"
	tomorrow, yesterday := time.Now().Add(24*time.Hour), time.Now().Add(-24*time.Hour)
	type fault struct {
		name        string
		certificate func(*testing.T, *rawServer) *tls.Certificate
	}
	return rows([]fault{
		{"certificate of another host", func(t *testing.T, s *rawServer) *tls.Certificate {
			return issue(t, s.root, tomorrow, other)
		}},
		{"expired certificate", func(t *testing.T, s *rawServer) *tls.Certificate {
			return issue(t, s.root, yesterday, incodeHost, other)
		}},
		{"certificate of an unknown authority", func(t *testing.T, _ *rawServer) *tls.Certificate {
			return issue(t, newRoot(t), tomorrow, incodeHost, other)
		}},
		{"certificate that cannot be parsed", func(t *testing.T, s *rawServer) *tls.Certificate {
			return issue(t, s.root, tomorrow, incodeHost, "https://canary:eyJ") // an invalid port
		}},
	}, func(f fault) row {
		return row{f.name, func(t *testing.T) {
			h := m.harness(t)
			s := startRawServer(t, h)
			s.useHostName(t, h)
			good := s.certificate.Swap(f.certificate(t, s))
			h.start(t)
			h.startSessions(t, unavailable)
			if s.requests.Load() != 0 {
				t.Error("the server got a request, and with it the key")
			}
			s.certificate.Store(good)
			s.checkSuccess(t, h)
		}}
	})
}

// idleFaults happen to all idle connections while Lambda has frozen the process.
// A process with concurrent calls is never frozen, so it only waits. The first
// connection is that of the init. No caller may notice the fault.
func idleFaults(m *matrix) []row {
	unsolicited := httpResponse("200 OK", "", `{"token":"eyJcanary"}`)
	timeout := httpResponse("408 Request Timeout", "Connection: close\r\n", "")
	writesToTCP := func(text string) func(serverConn) {
		return func(c serverConn) { _, _ = io.WriteString(c.tcp, text) }
	}
	type fault struct {
		name string
		act  func(serverConn)
		// delayed: nothing is sent before the last copy of the socket is closed. A process
		// that another row is starting has a copy for a moment.
		delayed bool
	}
	faults := []fault{
		{"idle, unsolicited response", func(c serverConn) { c.write(unsolicited) }, false},
		{"idle, closed", serverConn.close, false},
		{"idle, closed without close_notify", func(c serverConn) { _ = c.tcp.Close() }, true},
		{"idle, half closed", func(c serverConn) { _ = c.CloseWrite() }, false},
		{"idle, reset", serverConn.reset, true},
		{"idle, half of an unsolicited response", func(c serverConn) { c.write(unsolicited[:20]) }, false},
		{"idle, 408", func(c serverConn) { c.write(timeout); c.close() }, false},
		{"idle, garbage instead of a TLS record", writesToTCP("eyJcanary"), false},
		{"idle, half of a TLS record", writesToTCP("\x17\x03\x03\x00\x40eyJ"), false},
		{"idle, half of a TLS header", writesToTCP("\x17"), false},
	}
	repetitions := 5
	if *all {
		repetitions = 20
	}
	return rows(faults, func(f fault) row {
		return row{f.name, func(t *testing.T) {
			h := m.harness(t)
			s := startRawServer(t, h)
			h.start(t)
			for range repetitions {
				if h.concurrency == 1 {
					if err := h.Freeze(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				var idle []string
				s.forEachConn(func(c serverConn) { idle = append(idle, c.idleEntry()); f.act(c) })
				if f.delayed {
					waitUntilNotIdle(t, idle)
				}
				s.checkSuccess(t, h)
			}
		}}
	})
}

// idleEntry returns how Linux lists the client's end of an established connection
// without unread data.
func (c serverConn) idleEntry() string {
	hex := func(a net.Addr) string { return fmt.Sprintf("0100007F:%04X", a.(*net.TCPAddr).Port) }
	return fmt.Sprintf(" %s %s 01 00000000:00000000 ", hex(c.tcp.RemoteAddr()), hex(c.tcp.LocalAddr()))
}

// waitUntilNotIdle waits until Linux lists none of these connections as idle.
func waitUntilNotIdle(t *testing.T, entries []string) {
	t.Helper()
	for t.Context().Err() == nil {
		sockets, err := os.ReadFile("/proc/thread-self/net/tcp") // another thread may have a network of its own
		if os.IsNotExist(err) && runtime.GOOS != "linux" {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(entries, func(entry string) bool { return strings.Contains(string(sockets), entry) }) {
			return
		}
		runtime.Gosched()
	}
}
