//go:build unix

package main

import (
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"omnistart/internal/tooling/brokennet"
	"omnistart/internal/tooling/runtimeapitest"
)

// incodeHost is the name of Incode's host in the tests of DNS lookups.
const incodeHost = "incode.example"

// liveAddress is where the servers of the tests listen.
var liveAddress = [4]byte{127, 0, 0, 1}

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
		return brokennet.Pack(m)
	}},
}

func noDNSResponse(dnsmessage.Message) []byte { return nil }

func refusingAddress(m dnsmessage.Message) []byte {
	return brokennet.Answer(m, [4]byte{127, 0, 0, 2}) // where no test listens
}

func failWith(code dnsmessage.RCode) func(dnsmessage.Message) []byte {
	return func(m dnsmessage.Message) []byte {
		m.RCode = code
		return brokennet.Pack(m)
	}
}

// startDNSServer returns a DNS server that the function of h uses.
func startDNSServer(t *testing.T, h *harness) *dnsServer {
	t.Helper()
	s := &dnsServer{}
	h.setenv(runtimeapitest.ResolverEnv, s.listen(t, "127.0.0.1:0"))
	return s
}

// listen serves DNS at an address and returns it with its port.
func (s *dnsServer) listen(t *testing.T, addr string) string {
	t.Helper()
	c, err := brokennet.ServeDNS(addr, func(m dnsmessage.Message) []byte {
		if respond := s.fault.Load(); respond != nil {
			return (*respond)(m)
		}
		return brokennet.Answer(m, liveAddress)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
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
	h.setenv("INCODE_BASE_URL", s.hostURL())
	return startDNSServer(t, h)
}

// hostURL returns the URL of s with the host name.
func (s *rawServer) hostURL() string {
	return "https://" + strings.Replace(s.addr, "127.0.0.1", incodeHost, 1)
}
