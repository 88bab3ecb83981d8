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

// incodeHost is Incode's name for a resolver.
const incodeHost = "incode.example"

// resolver is a DNS server. It answers each name with 127.0.0.1 unless it was
// told otherwise.
type resolver struct{ fault atomic.Pointer[lookup] }

// lookup turns an answer into a faulty one; nil is none at all.
type lookup func(answer dnsmessage.Message) []byte

// lookups are the faults of a resolver.
var lookups = map[string]lookup{
	"no such host":            failing(dnsmessage.RCodeNameError),
	"SERVFAIL":                failing(dnsmessage.RCodeServerFailure),
	"REFUSED":                 failing(dnsmessage.RCodeRefused),
	"a mute resolver":         func(dnsmessage.Message) []byte { return nil },
	"garbage of a resolver":   func(dnsmessage.Message) []byte { return []byte("canary eyJcanary") },
	"an address without port": func(m dnsmessage.Message) []byte { return pack(address(m, [4]byte{127, 0, 0, 2})) },
	"a name without address": func(m dnsmessage.Message) []byte {
		q := m.Questions[0]
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class},
			Body:   &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("canary.example.")},
		}}
		return pack(m)
	},
}

func failing(code dnsmessage.RCode) lookup {
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

// address answers a question for an IPv4 address; other questions have no
// answer.
func address(m dnsmessage.Message, ip [4]byte) dnsmessage.Message {
	m.Answers = nil
	if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
		m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &dnsmessage.AResource{A: ip}}}
	}
	return m
}

// newResolver returns one that the function of r asks.
func newResolver(t *testing.T, r *rig) *resolver {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	d := &resolver{}
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
			m = address(m, [4]byte{127, 0, 0, 1})
			answer := pack(m)
			if fault := d.fault.Load(); fault != nil {
				answer = (*fault)(m)
			}
			if answer != nil {
				_, _ = c.WriteTo(answer, from)
			}
		}
	}()
	r.env[runtimeapitest.ResolverEnv] = c.LocalAddr().String()
	return d
}

// meets lets all lookups from now on meet a fault, or nil for none.
func (d *resolver) meets(fault lookup) {
	if fault == nil {
		d.fault.Store(nil)
		return
	}
	d.fault.Store(&fault)
}

// resolve makes r call w by a name.
func (w *wire) resolve(t *testing.T, r *rig) *resolver {
	t.Helper()
	r.env["INCODE_BASE_URL"] = named(r.env["INCODE_BASE_URL"], incodeHost)
	return newResolver(t, r)
}

// named puts a name in place of the address in a URL.
func named(url, host string) string { return strings.Replace(url, "127.0.0.1", host, 1) }
