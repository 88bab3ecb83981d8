//go:build unix

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"omnistart/internal/tooling/brokennet"
)

// halfBrokenFaults are networks and services of which one part is broken. The other
// part must suffice. The names are resolved by Go's own resolver, which asks the
// name servers in /etc/resolv.conf. Each row has its own process.
func halfBrokenFaults(t *testing.T, m *matrix) {
	var wg sync.WaitGroup
	if *all { // it takes 5 minutes, so it needs no slot
		wg.Go(func() { m.runRow(t, row{"another address", func(t *testing.T) { otherAddress(t, m) }}) })
	}
	m.run(t,
		[]row{deadAddresses(m, 2), deadAddresses(m, 4)},
		lostQueries(m),
		[]row{
			badBackend(m, "500 Internal Server Error", incodeFailed),
			badBackend(m, "503 Service Unavailable", incodeFailed),
			badBackend(m, "408 Request Timeout", timedOut),
			badBackend(m, "421 Misdirected Request", rejected),
			badBackend(m, "429 Too Many Requests", throttled("1")),
		},
		[]row{{"idle connections that are cut in silence", func(t *testing.T) { silentCut(t, m) }}},
		[]row{{"Keep-Alive with a timeout", func(t *testing.T) { announcedClose(t, m) }}},
		[]row{{"a server that compresses unless told otherwise", func(t *testing.T) { compression(t, m) }}},
		[]row{{"a firewall's 403 while Secrets Manager fails", func(t *testing.T) { firewallWithoutSecret(t, m) }}},
	)
	wg.Wait()
}

// crowd returns the harness for a row. When all rows run, it makes as many
// concurrent calls as the process takes.
func (m *matrix) crowd(t *testing.T) *harness {
	h := m.harness(t)
	if *all {
		h.callers = h.concurrency
	}
	return h
}

// isolated returns the harness and the server for a row in a network of its own,
// with these name servers. The function calls the server by its host name.
func (m *matrix) isolated(t *testing.T, nameServers ...string) (*harness, *rawServer) {
	t.Helper()
	if err := brokennet.Enter(nameServers...); err != nil {
		if os.Getenv("SKIP_NOTHING") != "" { // .ci/run sets it
			t.Fatal(err)
		}
		t.Skipf("NOT CHECKED: %v", err)
	}
	h := m.crowd(t)
	s := startRawServer(t, h)
	h.setenv("INCODE_BASE_URL", s.hostURL())
	return h, s
}

// checkConnections expects a session from each of two rounds of calls that each
// need a connection of their own. The first is that of the init.
func (s *rawServer) checkConnections(t *testing.T, h *harness) {
	t.Helper()
	h.start(t)
	if n := s.connections.Load(); n > 1 { // a busy machine may not open it in time
		t.Errorf("the init opened %d connections, want 1", n)
	}
	for range 2 {
		s.nextRequests(h.callers, func(c serverConn) bool { c.write(s.newSession("Connection: close\r\n")); return false })
		h.startSessions(t, success)
	}
	// On a busy machine, the handshakes may take so long that a call makes its second attempt.
	n, connections := int(s.requests.Load()), int(s.connections.Load())
	if n != 2*h.callers || connections < n || connections > 2*n {
		t.Errorf("%d requests on %d connections, want %d", n, connections, 2*h.callers)
	}
}

// deadAddresses is a host of whose addresses only the last one responds.
func deadAddresses(m *matrix, dead int) row {
	return row{fmt.Sprintf("%d of %d addresses are dead", dead, dead+1), func(t *testing.T) {
		h, s := m.isolated(t, "127.0.0.53")
		var ips [][4]byte
		for i := range dead {
			ips = append(ips, [4]byte{127, 0, 1, byte(i + 1)})
		}
		ips = append(ips, liveAddress)
		dns := &dnsServer{}
		dns.fail(func(m dnsmessage.Message) []byte { return brokennet.Answer(m, ips...) })
		dns.listen(t, "127.0.0.53:53")
		s.checkConnections(t, h)
		counters, err := exec.Command("iptables", "-nvxL", "INPUT").Output()
		lines := strings.Split(string(counters), "\n")
		if err != nil || len(lines) < 3 {
			t.Fatalf("%v: %s", err, counters)
		}
		var packets int
		_, _ = fmt.Sscan(lines[2], &packets)
		if attempts := dead * 2 * h.callers; packets < attempts {
			t.Errorf("%d packets were sent to the dead addresses, want %d or more", packets, attempts)
		}
	}}
}

// lostQueries are name servers of which some answer, or some of the time.
func lostQueries(m *matrix) []row {
	const slow = 800 * time.Millisecond // longer than the function waits for the first response
	answer := func(m dnsmessage.Message) []byte { return brokennet.Answer(m, liveAddress) }
	return rows([]struct {
		name    string
		servers map[string]func(dnsmessage.Message) []byte
	}{
		{"the first DNS query of each lookup is lost", map[string]func(dnsmessage.Message) []byte{
			"127.0.0.53": loseFirst(answer),
		}},
		{"a silent first name server", map[string]func(dnsmessage.Message) []byte{
			"127.0.0.53": noDNSResponse, "127.0.0.54": answer,
		}},
		{"no answer about IPv6", map[string]func(dnsmessage.Message) []byte{
			"127.0.0.53": func(m dnsmessage.Message) []byte {
				if m.Questions[0].Type != dnsmessage.TypeA {
					return nil
				}
				return answer(m)
			},
		}},
		{"a slow name server", map[string]func(dnsmessage.Message) []byte{
			"127.0.0.53": func(m dnsmessage.Message) []byte { time.Sleep(slow); return answer(m) },
		}},
	}, func(f struct {
		name    string
		servers map[string]func(dnsmessage.Message) []byte
	}) row {
		return row{f.name, func(t *testing.T) {
			nameServers := []string{"127.0.0.53", "127.0.0.54"}[:len(f.servers)]
			h, s := m.isolated(t, nameServers...)
			var queries atomic.Int32
			for ip, respond := range f.servers {
				dns := &dnsServer{}
				dns.fail(func(m dnsmessage.Message) []byte { queries.Add(1); return respond(m) })
				dns.listen(t, ip+":53")
			}
			s.checkConnections(t, h)
			if n, lookups := int(queries.Load()), int(s.connections.Load()); n < 2*h.callers || n > 4*lookups {
				t.Errorf("%d queries for %d connections", n, lookups)
			}
		}}
	})
}

// loseFirst loses a query unless another was lost half a second before or earlier,
// which it then repeats.
func loseFirst(answer func(dnsmessage.Message) []byte) func(dnsmessage.Message) []byte {
	var mu sync.Mutex
	var lost []time.Time
	return func(m dnsmessage.Message) []byte {
		mu.Lock()
		defer mu.Unlock()
		for i, when := range lost {
			if time.Since(when) > 500*time.Millisecond {
				lost = append(lost[:i], lost[i+1:]...)
				return answer(m)
			}
		}
		lost = append(lost, time.Now())
		return nil
	}
}

// badBackend gives each caller a connection to a backend that always responds with
// the same error and keeps the connection open. No later call may use it.
func badBackend(m *matrix, status string, want outcome) row {
	return row{"a connection whose backend always responds " + status, func(t *testing.T) {
		h := m.crowd(t)
		s := startRawServer(t, h)
		for range h.callers {
			s.onConnect <- func(c serverConn) {
				for in := bufio.NewReader(c); ; {
					request, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, request.Body)
					s.requests.Add(1)
					c.write(httpResponse(status, "", "{}"))
				}
			}
		}
		h.start(t)
		h.startSessions(t, want)
		s.checkSuccess(t, h)
		if n := int(s.requests.Load()); n != 2*h.callers {
			t.Errorf("%d requests, want %d", n, 2*h.callers)
		}
	}}
}

// silentCut cuts all idle connections without a FIN or RST. One caller waits for a
// response in vain. No later caller may meet the same fault.
func silentCut(t *testing.T, m *matrix) {
	h := m.crowd(t)
	callers, connections := h.callers, max(8, h.callers)
	h.concurrency = connections
	h.setenv("INCODE_TIMEOUT", "8s") // enough for as many handshakes
	s := startRawServer(t, h)
	h.start(t)
	h.callers = connections
	s.checkSuccess(t, h)
	if n := int(s.connections.Load()); n < connections {
		t.Fatalf("%d connections, want %d", n, connections)
	}
	s.cuts.Add(1)
	h.callers = 1
	h.startSessions(t, timedOut)
	h.callers = callers
	for range connections / callers {
		s.checkSuccess(t, h)
	}
}

// announcedClose has a server that announces when it closes an idle connection, and
// does so when the next request arrives.
func announcedClose(t *testing.T, m *matrix) {
	h := m.crowd(t)
	s := startRawServer(t, h)
	h.start(t)
	for range 5 {
		s.nextRequests(h.callers, func(c serverConn) bool {
			c.write(s.newSession("Keep-Alive: timeout=1, max=100\r\n"))
			if _, err := io.ReadFull(c, make([]byte, 1)); err == nil {
				c.reset()
			}
			return false
		})
		h.startSessions(t, success)
	}
	if n := int(s.connections.Load()); n < 5*h.callers {
		t.Errorf("%d connections, want %d", n, 5*h.callers)
	}
	s.nextRequests(h.callers, func(c serverConn) bool { c.write(s.newSession("Keep-Alive: timeout=60\r\n")); return true })
	h.startSessions(t, success)
	before := s.connections.Load()
	s.checkSuccess(t, h)
	if n := s.connections.Load() - before; n != 0 {
		t.Errorf("%d new connections, although those of the last calls may be used again", n)
	}
}

func compression(t *testing.T, m *matrix) {
	h := m.crowd(t)
	s := startRawServer(t, h)
	h.start(t)
	s.nextRequests(h.callers, func(c serverConn) bool {
		if s.lastHeader.Load().Get("Accept-Encoding") == "identity" {
			c.write(s.newSession())
		} else {
			c.write(httpResponse("200 OK", "Content-Encoding: gzip\r\n", zip(`{"token":"eyJ"}`)))
		}
		return true
	})
	h.startSessions(t, success)
}

// firewallWithoutSecret refuses requests with a 403, which could mean a refused key.
// The function loads the key again, which fails. The response must still be that of
// the firewall: secret-unavailable would make the caller try again in vain.
func firewallWithoutSecret(t *testing.T, m *matrix) {
	h := m.crowd(t)
	s := startRawServer(t, h)
	h.start(t)
	h.secrets.Fail("InternalServiceError", 500)
	s.nextRequests(h.callers, func(c serverConn) bool {
		c.write(httpResponse("403 Forbidden", "", "<title>canary</title>"))
		return true
	})
	h.startSessions(t, outcome{502, "incode-forbidden", ""})
	if n := int(s.requests.Load()); n != h.callers || h.secrets.Requests() < 2 {
		t.Errorf("%d requests and %d loads of the secret, want %d and 2 or more", n, h.secrets.Requests(), h.callers)
	}
	h.secrets.Recover()
	s.checkSuccess(t, h)
}

// otherAddress gives Incode's host another address, while the old one still works.
// The connections to the old one must end.
func otherAddress(t *testing.T, m *matrix) {
	const interval, longest = 10 * time.Second, 6 * time.Minute
	other := [4]byte{127, 0, 0, 3}
	h := m.crowd(t)
	s := startRawServer(t, h)
	_, port, _ := strings.Cut(s.addr, ":")
	l, err := net.Listen("tcp", "127.0.0.3:"+port)
	if err != nil {
		t.Skipf("NOT CHECKED: %v", err)
	}
	s.listen(t, l)
	dns := s.useHostName(t, h)
	h.start(t)
	s.checkSuccess(t, h)
	dns.fail(func(m dnsmessage.Message) []byte { return brokennet.Answer(m, other) })
	for range longest / interval {
		var moved atomic.Int32
		s.nextRequests(h.callers, func(c serverConn) bool {
			if strings.HasPrefix(c.LocalAddr().String(), "127.0.0.3:") {
				moved.Add(1)
			}
			c.write(s.newSession())
			return true
		})
		h.startSessions(t, success)
		if int(moved.Load()) == h.callers {
			if n := int(s.connections.Load()); n > 4*h.callers { // a call may make a second attempt
				t.Errorf("%d connections, want %d", n, 2*h.callers)
			}
			return
		}
		time.Sleep(interval) // less than a connection may be idle
	}
	t.Error("calls still go to the old address")
}
