//go:build unix

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"omnistart/internal/tooling/incodetest"
	"omnistart/internal/tooling/lambdaenv"
	"omnistart/internal/tooling/secretsmanagertest"
)

const (
	// demoURL is Incode's demo environment, the default when a key is given.
	demoURL = "https://demo-api.incodesmile.com"
	// incodeLatency is about as long as the real Incode takes.
	incodeLatency = 120 * time.Millisecond
)

// serveStandIns serves only the stand-ins until ctx ends. sam local needs them at fixed addresses that its container
// can reach.
func serveStandIns(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("run standins", flag.ContinueOnError)
	address := flags.String("addr", "127.0.0.1", "`address` to listen on; containers can reach only 0.0.0.0")
	incodePort := flags.String("incode", "9081", "`port` of Incode")
	secretsPort := flags.String("secrets", "9082", "`port` of Secrets Manager")
	key := flags.String("key", incodetest.Key, "API `key` that Incode accepts and the secret contains")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	incodeURL, err := startIncode(ctx, net.JoinHostPort(*address, *incodePort), *key, 0)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, "Incode listens on", incodeURL)
	secretsURL, err := startSecretsManager(ctx, net.JoinHostPort(*address, *secretsPort), *key)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, "Secrets Manager listens on", secretsURL)
	<-ctx.Done()
	return nil
}

// startIncode serves the stand-in for Incode until ctx ends and returns its URL.
func startIncode(ctx context.Context, address, key string, latency time.Duration) (url string, err error) {
	incode := incodetest.New()
	incode.Latency, incode.AnyFlow = latency, true // the function refuses what the user does not allow
	incode.SetKey(key)
	context.AfterFunc(ctx, incode.Close)
	return listenAndServe(ctx, "Incode", address, incode)
}

// startSecretsManager serves the stand-in for Secrets Manager until ctx ends and returns its URL.
func startSecretsManager(ctx context.Context, address, key string) (url string, err error) {
	secrets := secretsmanagertest.New()
	secrets.Put(lambdaenv.SecretID, key)
	return listenAndServe(ctx, "Secrets Manager", address, secrets)
}

func listenAndServe(ctx context.Context, name, address string, handler http.Handler) (url string, err error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	serve(ctx, listener, handler)
	return "http://" + listener.Addr().String(), nil
}

// serve serves in the background until ctx ends.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		MaxHeaderBytes:    10 << 10, // API Gateway's limit
	}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }()
}
