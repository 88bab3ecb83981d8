//go:build unix

package main

import (
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"omnistart/internal/tooling/runtimeapitest"
)

// incodeHost is the name of Incode's host in the tests of DNS lookups.
const incodeHost = "incode.example"

// dnsServer resolves every name to 127.0.0.1, unless a test has set a fault.
type dnsServer struct {
	fault atomic.Pointer[func(dnsmessage.Message) []byte]
}

// dnsFault replaces the correct response to a query. No bytes are no response.
type dnsFault struct {
	name    string
	respond func(dnsmessage.Message) []byte
}

var dnsFaults = []dnsFault{
	{"no response to the DNS query", noDNSResponse},
	{"no such host", failWith(dnsmessage.RCodeNameError)},
	{"SERVFAIL", failWith(dnsmessage.RCodeServerFailure)},
	{"REFUSED", failWith(dnsmessage.RCodeRefused)},
	{"garbage instead of a DNS response", func(dnsmessage.Message) []byte { return []byte("canary eyJcanary") }},
	{"an address that refuses connections", refusingAddress},
	{"a name without an address", func(m dnsmessage.Message) []byte {
		q := m.Questions[0]
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class},
			Body:   &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("canary.example.")},
		}}
		return pack(m)
	}},
}

func noDNSResponse(dnsmessage.Message) []byte { return nil }

func refusingAddress(m dnsmessage.Message) []byte {
	return pack(answerWith(m, [4]byte{127, 0, 0, 2})) // where no test listens
}

func failWith(code dnsmessage.RCode) func(dnsmessage.Message) []byte {
	return func(m dnsmessage.Message) []byte {
		m.RCode, m.Answers = code, nil
		return pack(m)
	}
}

func pack(m dnsmessage.Message) []byte {
	data, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return data
}

// answerWith answers a question for an IPv4 address; other questions have no
// answer.
func answerWith(m dnsmessage.Message, ips ...[4]byte) dnsmessage.Message {
	m.Answers = nil
	if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
		for _, ip := range ips {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &dnsmessage.AResource{A: ip},
			})
		}
	}
	return m
}

// startDNSServer returns a DNS server that the function of h uses.
func startDNSServer(t *testing.T, h *harness) *dnsServer {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s := &dnsServer{}
	go func() {
		for buffer := make([]byte, 1500); ; {
			n, from, err := c.ReadFrom(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			var m dnsmessage.Message
			if err != nil || m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
			m = answerWith(m, [4]byte{127, 0, 0, 1})
			response := pack(m)
			if respond := s.fault.Load(); respond != nil {
				response = (*respond)(m)
			}
			if response != nil {
				_, _ = c.WriteTo(response, from)
			}
		}
	}()
	h.setenv(runtimeapitest.ResolverEnv, c.LocalAddr().String())
	return s
}

// fail makes all lookups meet a fault, or none if respond is nil.
func (s *dnsServer) fail(respond func(dnsmessage.Message) []byte) {
	if respond == nil {
		s.fault.Store(nil)
		return
	}
	s.fault.Store(&respond)
}

// useHostName makes h call s by a host name. Its certificate is valid for it.
func (s *rawServer) useHostName(t *testing.T, h *harness) *dnsServer {
	t.Helper()
	h.setenv("INCODE_BASE_URL", "https://"+strings.Replace(s.addr, "127.0.0.1", incodeHost, 1))
	return startDNSServer(t, h)
}
