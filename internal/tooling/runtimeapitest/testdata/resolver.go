package main

import (
	"context"
	"net"
	"os"
)

func init() {
	if addr := os.Getenv("RUNTIMEAPITEST_RESOLVER"); addr != "" {
		dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
		net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: dial}
	}
}
