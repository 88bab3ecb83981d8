//go:build unix

// Command run runs the function on a developer's machine as it runs in AWS,
// without AWS and without an account at Incode. The compiled bootstrap is a
// process of its own behind a Lambda Runtime API. Requests to localhost reach it
// as API Gateway events. It calls stand-ins for Secrets Manager and Incode.
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
	"omnistart/internal/tooling/lambdaenv"
	"omnistart/internal/tooling/runtimeapitest"
)

// functionTimeout is the one that template.yaml gives the function.
const functionTimeout = 15 * time.Second

const usage = `usage: run PROJECT BOOTSTRAP [COMMAND THAT BUILDS IT]
       run standins [FLAGS]`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves until ctx ends, which is not an error. Messages for the user go to
// stdout, the function's own output to stderr.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "standins" {
		return serveStandIns(ctx, args[1:], stdout)
	}
	if len(args) < 2 {
		return errors.New(usage)
	}
	project, bootstrap, build := args[0], args[1], args[2:]
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	cors, err := templateCORS(filepath.Join(project, "template.yaml"), getenv("CORS"))
	if err != nil {
		return err
	}
	// On this machine a page may choose its customer; on AWS it may not.
	cors.AllowHeaders = append(cors.AllowHeaders,
		strings.ToLower(apigateway.ClaimsHeader), strings.ToLower(apigateway.ContextHeader))
	port := cmp.Or(getenv("PORT"), "3000")
	listener, err := net.Listen("tcp", net.JoinHostPort("localhost", port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %s is in use: choose another one, as in PORT=3001 make run", port)
	}
	if err != nil {
		return fmt.Errorf("PORT: %w", err)
	}
	defer listener.Close()

	env, err := environment(ctx, getenv)
	if err != nil {
		return err
	}
	start := func() (*function, error) { return startFunction(ctx, bootstrap, env, stderr) }
	first, err := start()
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the function cannot start: %w", err)
	}
	api := &localAPI{function: first, out: stdout, closed: getenv("ALLOW_UNAUTHENTICATED") == "false"}
	defer api.close()
	if len(build) > 0 {
		changes := watch(ctx, filepath.Join(project, "functions"), filepath.Join(project, "internal"))
		var rebuilding sync.WaitGroup
		defer rebuilding.Wait() // before api.close, so that no function starts after it
		defer stop()
		rebuilding.Go(func() {
			for range changes {
				api.rebuild(ctx, build, start)
			}
		})
	}
	mux := http.NewServeMux()
	mux.Handle("/", api.handler(ctx))
	catalogue := problems(filepath.Join(project, "functions/start/docs/PROBLEMS.md"))
	mux.Handle("GET /problems/{$}", catalogue)
	mux.Handle("GET /problems/{code}", catalogue)
	introduce(stdout, listener.Addr().(*net.TCPAddr).Port, getenv)
	serve(ctx, listener, cors.Handler(mux))
	<-ctx.Done()
	return nil
}

// function is a process of the function, and its log.
type function struct {
	*runtimeapitest.Function
	log *functionLog
}

func startFunction(ctx context.Context, bootstrap string, env []string, stderr io.Writer) (*function, error) {
	log := newFunctionLog(stderr)
	f, err := runtimeapitest.Start(ctx, runtimeapitest.Config{
		Bootstrap: bootstrap,
		Env:       env,
		Timeout:   functionTimeout,
		Stdout:    log,
		Stderr:    stderr,
	})
	return &function{f, log}, err
}

// environment starts the stand-ins, which end with ctx, and returns the
// environment of the function. With INCODE_API_KEY set, Incode is the real one,
// and the stand-in for Secrets Manager is the only place that gets the key.
func environment(ctx context.Context, getenv func(string) string) ([]string, error) {
	key, incodeURL, allowed := getenv("INCODE_API_KEY"), cmp.Or(getenv("INCODE_BASE_URL"), demoURL), "*"
	if key == "" {
		var err error
		if incodeURL, err = startIncode(ctx, "127.0.0.1:0", incodetest.Key, incodeLatency); err != nil {
			return nil, err
		}
		key, allowed = incodetest.Key, allFlows()
	}
	secretsURL, err := startSecretsManager(ctx, "127.0.0.1:0", key)
	if err != nil {
		return nil, err
	}
	return lambdaenv.Variables(secretsURL, incodeURL, settings(getenv, allowed)...), nil
}

// settings returns the function's settings: those of the user's shell, or the
// defaults of make run.
func settings(getenv func(string) string, allowed string) (env []string) {
	for name, value := range map[string]string{
		"ALLOWED_CONFIGURATION_IDS": allowed,
		"ALLOWED_REDIRECT_HOSTS":    "app.example.com", // of the contract's example
		"ALLOWED_CUSTOM_FIELDS":     "",
		"CUSTOMER_ID_CLAIM":         "",
		"ALLOW_UNAUTHENTICATED":     "true",
		"RETURN_INTERVIEW_ID":       "",
		"INCODE_API_KEY_MAX_AGE":    "",
		"INCODE_TIMEOUT":            "",
	} {
		if value = cmp.Or(getenv(name), value); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// introduce prints what the user needs to know before the first request.
func introduce(w io.Writer, port int, getenv func(string) string) {
	id := incodetest.FlowID
	if getenv("INCODE_API_KEY") != "" {
		id = "YOUR_CONFIGURATION_ID"
		fmt.Fprintln(w, "The function runs and calls the real Incode. Every session counts.")
	} else {
		fmt.Fprintln(w, "The function runs, with stand-ins for Secrets Manager and Incode. These IDs make Incode fail:")
		for _, flow := range incodetest.Flows {
			if flow.ID != incodetest.FlowID {
				fmt.Fprintf(w, "  %s  %s\n", flow.ID, flow.Does)
			}
		}
	}
	fmt.Fprintf(w, "All problems are described at http://localhost:%d/problems/. Pages of these origins may call: %s. "+
		"The header %s sets the caller's claims, %s the context of an authorizer of your own.\n",
		port, cmp.Or(getenv("CORS"), "none"), apigateway.ClaimsHeader, apigateway.ContextHeader)
	fmt.Fprintf(w, "Press Ctrl-C to stop. Try:\n\n  curl -s http://localhost:%d/omni/start "+
		"-H 'Content-Type: application/json' -d '{\"configurationId\":\"%s\",\"externalCustomerId\":\"customer-42\"}'\n\n",
		port, id)
}
