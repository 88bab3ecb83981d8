// Package brokennet gives a test a network of its own, in which name servers and addresses do not answer.
package brokennet

import (
	"errors"
	"net"

	"golang.org/x/net/dns/dnsmessage"
)

// ServeDNS serves DNS over UDP at addr until the connection is closed. respond gets a response without an answer, and
// returns the bytes to send, or nil for no response. It must be safe for concurrent use and may wait.
func ServeDNS(addr string, respond func(dnsmessage.Message) []byte) (net.PacketConn, error) {
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		return nil, err
	}
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
			go func() {
				if response := respond(m); response != nil {
					_, _ = c.WriteTo(response, from)
				}
			}()
		}
	}()
	return c, nil
}

// Answer returns m with these addresses as the answer to a question for IPv4 addresses. Other questions get none.
func Answer(m dnsmessage.Message, ips ...[4]byte) []byte {
	q := m.Questions[0]
	header := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}
	for _, ip := range ips {
		if q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: ip}})
		}
	}
	return Pack(m)
}

// Pack returns the bytes of m, which must be valid.
func Pack(m dnsmessage.Message) []byte {
	data, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return data
}
