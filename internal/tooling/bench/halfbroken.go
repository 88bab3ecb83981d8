//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"

	"golang.org/x/net/dns/dnsmessage"

	"omnistart/internal/tooling/brokennet"
)

// halfBroken is scenario L with one fault each. Only the product is measured: the others may wait for minutes.
var halfBroken = []struct {
	name      string
	addresses [][4]byte // of Incode's host
	lost      int32     // number of DNS queries of each process that get no response
	limit     float64   // of the first token, in ms over the floor
}{
	{deadAddress, [][4]byte{{127, 0, 1, 1}, {127, 0, 0, 1}}, 0, 1100}, // nothing responds at the first one
	{lostQuery, [][4]byte{{127, 0, 0, 1}}, 1, 800},
}

const deadAddress, lostQuery = "a dead address", "a lost DNS packet"

// measureHalfBroken adds the samples of a half-broken scenario to s. It needs a goroutine of its own.
func (b *bench) measureHalfBroken(ctx context.Context, i int, s samples) error {
	const nameServer = "127.0.0.53"
	fault := halfBroken[i]
	if err := brokennet.Enter(nameServer); err != nil {
		b.notMeasured = append(b.notMeasured, fmt.Sprintf("%s: %v", fault.name, err))
		return nil
	}
	env, err := newEnvironment(b.dir, scenario{name: fault.name, distance: distanceL, requests: 5})
	if err != nil {
		return err
	}
	defer env.close()
	_, port, _ := net.SplitHostPort(env.incodeLink.Addr().String())
	// The certificate of net/http/httptest is also valid for this host.
	env.variables = append(env.variables, "INCODE_BASE_URL=https://example.com:"+port)
	var queries atomic.Int32
	dns, err := brokennet.ServeDNS(nameServer+":53", func(m dnsmessage.Message) []byte {
		if queries.Add(1) <= fault.lost {
			return nil
		}
		return brokennet.Answer(m, fault.addresses...)
	})
	if err != nil {
		return err
	}
	defer dns.Close()
	for range b.rounds {
		queries.Store(0)
		values, err := b.variants[0].measure(ctx, env, b.event)
		if err != nil {
			return fmt.Errorf("%s: %w", fault.name, err)
		}
		s.add(fault.name, product, values)
	}
	return nil
}
