//go:build unix

// Command run runs the function on a developer's machine as it runs in AWS,
// without AWS and without an account at Incode: the compiled bootstrap is a
// process of its own behind a Lambda Runtime API, requests to localhost reach
// it as API Gateway events, and Secrets Manager and Incode are stand-ins.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"omnistart/internal/tooling/apigateway"
	"omnistart/internal/tooling/incodetest"
	"omnistart/internal/tooling/runtimeapitest"
	"omnistart/internal/tooling/secretsmanagertest"
)

const (
	// incodeLatency makes the stand-in about as slow as Incode, so that the
	// times on the screen mean something.
	incodeLatency = 120 * time.Millisecond
	// functionTimeout is the one that template.yaml gives the function.
	functionTimeout = 15 * time.Second
	// secretID is a name that exists in the stand-in for Secrets Manager alone.
	secretID = "incode-api-key"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves until ctx ends, which is no error. What the user is to see goes to
// stdout, what the function prints to stderr.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	if len(args) < 2 {
		return errors.New("usage: run PROJECT BOOTSTRAP [COMMAND THAT BUILDS IT]")
	}
	project, bootstrap, build := args[0], args[1], args[2:]
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	cors, err := templateCORS(filepath.Join(project, "template.yaml"), getenv("CORS"))
	if err != nil {
		return err
	}
	// Here a page may play any customer; on AWS it may not.
	cors.AllowHeaders = append(cors.AllowHeaders, strings.ToLower(apigateway.ClaimsHeader))
	port := cmp.Or(getenv("PORT"), "3000")
	listener, err := net.Listen("tcp", net.JoinHostPort("localhost", port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %s is taken: choose another one, as in PORT=3001 make run", port)
	}
	if err != nil {
		return fmt.Errorf("PORT: %w", err)
	}
	defer listener.Close()

	rig, err := newRig(getenv)
	if err != nil {
		return err
	}
	defer rig.close()
	log := newFunctionLog(stderr)
	start := func() (*function, error) {
		started := rig.watch.start()
		f, err := runtimeapitest.Start(ctx, runtimeapitest.Config{
			Bootstrap: bootstrap,
			Env:       rig.env,
			Timeout:   functionTimeout,
			Stdout:    log.stdout(),
			Stderr:    stderr,
		})
		return &function{f, started}, err
	}
	first, err := start()
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the function cannot start: %w", err)
	}
	gateway := &gateway{function: first, log: log, out: stdout, jwt: getenv("REQUIRE_AUTHORIZER") == "true"}
	defer gateway.close()
	if len(build) > 0 {
		changes, err := watch(ctx, filepath.Join(project, "functions"), filepath.Join(project, "internal"))
		if err != nil {
			return err
		}
		var rebuilding sync.WaitGroup
		defer rebuilding.Wait() // before the function is closed, so that no new one comes after
		defer stop()
		rebuilding.Go(func() {
			for range changes {
				gateway.rebuild(ctx, build, start)
			}
		})
	}
	mux := http.NewServeMux()
	mux.Handle("/", gateway.handler(ctx))
	catalogue := problems(filepath.Join(project, "functions/start/docs/PROBLEMS.md"))
	mux.Handle("GET /problems/{$}", catalogue)
	mux.Handle("GET /problems/{code}", catalogue)
	server := &http.Server{
		Handler:           cors.Handler(mux),
		ReadHeaderTimeout: 5 * time.Second,
		MaxHeaderBytes:    10 << 10, // an HTTP API's limit
	}
	rig.introduce(stdout, listener.Addr().(*net.TCPAddr).Port, getenv("CORS"))
	serving := make(chan error, 1)
	go func() { serving <- server.Serve(listener) }()
	select {
	case err := <-serving:
		return err
	case <-ctx.Done():
	}
	// ctx has ended the invocations; what is left is a client that has not
	// finished its request.
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := server.Shutdown(shutdown); err != nil {
		_ = server.Close()
	}
	gateway.wait()
	return nil
}

// rig is what the function meets: its environment, and the servers named in it.
type rig struct {
	env     []string
	realURL string // of the real Incode; empty with the stand-in
	watch   stopwatch
	closers []func()
}

// newRig starts the stand-ins. With INCODE_API_KEY set there is none for
// Incode: the key goes into the stand-in for Secrets Manager, and nowhere else.
func newRig(getenv func(string) string) (*rig, error) {
	r := &rig{}
	secrets := secretsmanagertest.New()
	secretsURL, err := r.serve(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		secrets.ServeHTTP(w, req)
		r.watch.secret()
	}), nil)
	if err != nil {
		return nil, err
	}
	key := getenv("INCODE_API_KEY")
	var incodeURL, allowed string
	if key != "" {
		r.realURL = cmp.Or(getenv("INCODE_BASE_URL"), "https://demo-api.incodesmile.com")
		incodeURL, allowed = r.realURL, "*"
	} else {
		incode := incodetest.New()
		incode.Latency = incodeLatency
		if incodeURL, err = r.serve(incode, r.watch.dialled); err != nil {
			r.close()
			return nil, err
		}
		key, allowed = incodetest.Key, flowIDs()
	}
	secrets.Put(secretID, key)
	r.env = functionEnv(getenv, secretsURL, incodeURL, allowed)
	return r, nil
}

// serve starts a server on a free port of the loopback interface and returns
// its base URL.
func (r *rig) serve(handler http.Handler, state func(net.Conn, http.ConnState)) (url string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("starting a stand-in: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ConnState: state}
	go func() { _ = server.Serve(listener) }() // ends with close
	r.closers = append(r.closers, func() { _ = server.Close() })
	return "http://" + listener.Addr().String(), nil
}

func (r *rig) close() {
	for _, close := range r.closers {
		close()
	}
}

// introduce prints what there is to know before the first request.
func (r *rig) introduce(w io.Writer, port int, origins string) {
	id := incodetest.FlowID
	if r.realURL != "" {
		id = "YOUR_CONFIGURATION_ID"
		fmt.Fprintf(w, "The function runs, and Incode is the real one at %s: every session counts.\n", r.realURL)
	} else {
		fmt.Fprintln(w, "The function runs, with stand-ins for Secrets Manager and Incode. These configuration IDs make Incode's fail:")
		for _, flow := range incodetest.Flows {
			if flow.ID != incodetest.FlowID {
				fmt.Fprintf(w, "  %s  %s\n", flow.ID, flow.Does)
			}
		}
	}
	fmt.Fprintf(w, "Problems are explained at http://localhost:%d/problems/. Pages of these origins may call: %s. The header %s sets the caller's claims.\n",
		port, cmp.Or(origins, "none"), apigateway.ClaimsHeader)
	fmt.Fprintf(w, "Ctrl-C ends it. Try:\n\n  curl -s http://localhost:%d/omni/start -H 'Content-Type: application/json' "+
		"-d '{\"configurationId\":\"%s\",\"externalCustomerId\":\"customer-42\"}'\n\n", port, id)
}
