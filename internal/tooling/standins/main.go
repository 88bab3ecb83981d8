// Command standins serves the stand-ins of Incode and of Secrets Manager, for a
// function that runs where it cannot start them itself: in a container of sam
// local.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"omnistart/internal/tooling/incodetest"
	"omnistart/internal/tooling/secretsmanagertest"
)

// secretName is what internal/tooling/deploy/local.json gives the function for a name.
const secretName = "omnistart/incode-api-key"

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "standins:", err)
		os.Exit(1)
	}
}

// run serves until an interrupt.
func run(args []string) error {
	flags := flag.NewFlagSet("standins", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1", "`address` to listen on; a container reaches 0.0.0.0 alone")
	incodePort := flags.String("incode", "9081", "`port` of Incode")
	secretsPort := flags.String("secrets", "9082", "`port` of Secrets Manager")
	key := flags.String("key", incodetest.Key, "API `key` that Incode accepts and the secret holds")
	if err := flags.Parse(args); err != nil {
		return err
	}

	incode := incodetest.New()
	defer incode.Close()
	incode.SetKey(*key)
	secrets := secretsmanagertest.New()
	secrets.Put(secretName, *key)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	failed := make(chan error, 2)
	for _, s := range []struct {
		name, port string
		handler    http.Handler
	}{
		{"Incode", *incodePort, incode},
		{"Secrets Manager", *secretsPort, secrets},
	} {
		l, err := net.Listen("tcp", net.JoinHostPort(*addr, s.port))
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		server := &http.Server{Handler: s.handler, ReadHeaderTimeout: 5 * time.Second}
		defer server.Close()
		fmt.Printf("%s listens on %s\n", s.name, l.Addr())
		go func() { failed <- server.Serve(l) }()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}
