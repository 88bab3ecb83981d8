//go:build unix

// Command run runs the function on a developer's machine as it runs in AWS, without AWS and without an account at
// Incode. The compiled bootstrap is a process of its own behind a Lambda Runtime API. Requests to localhost reach it as
// API Gateway events. It calls stand-ins for Secrets Manager and Incode.
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
	fmt.Fprint(os.Stderr, warnings(os.Environ()))
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves until ctx ends, which is not an error. Messages for the user go to stdout, the function's own output to
// stderr.
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
	listener, err := listen(getenv)
	if err != nil {
		return err
	}
	defer listener.Close()
	cors, err := templateCORS(filepath.Join(project, "template.yaml"), getenv("CORS"))
	if err != nil {
		return err
	}
	// On this machine a page may choose its customer; on AWS it may not.
	cors.AllowHeaders = append(cors.AllowHeaders,
		strings.ToLower(apigateway.ClaimsHeader), strings.ToLower(apigateway.ContextHeader))
	env, err := environment(ctx, getenv)
	if err != nil {
		return err
	}
	start := func() (*function, error) {
		if err := compile(ctx, build, stdout); err != nil {
			return nil, fmt.Errorf("the build failed: %w", err)
		}
		return startFunction(ctx, bootstrap, env, stderr)
	}
	first, err := start()
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the function cannot start: %w", err)
	}
	api := &localAPI{function: first, out: stdout, cors: cors, calls: newCalls()}
	api.closed = getenv("ALLOW_UNAUTHENTICATED") == "false"
	defer api.close()
	if len(build) > 0 {
		changes := watch(ctx, filepath.Join(project, "functions"), filepath.Join(project, "internal"))
		var rebuilding sync.WaitGroup
		defer rebuilding.Wait() // before api.close, so that no function starts after it
		defer stop()
		rebuilding.Go(func() {
			for range changes {
				api.rebuild(ctx, start)
			}
		})
	}
	p := page{
		URL: fmt.Sprintf("http://localhost:%d", listener.Addr().(*net.TCPAddr).Port), Origins: cors.AllowOrigins,
		Claim: cmp.Or(getenv("CUSTOMER_ID_CLAIM"), "sub"), Closed: api.closed,
		Own: list(strings.ReplaceAll(getenv("ALLOWED_CONFIGURATION_IDS"), "*", "")), Flows: incodetest.Flows,
	}
	if getenv("INCODE_API_KEY") != "" {
		p.Incode, p.Flows = cmp.Or(getenv("INCODE_BASE_URL"), demoURL), nil
	}
	pages := http.NewServeMux()
	p.register(pages, api.calls, filepath.Join(project, "functions/start/docs/PROBLEMS.md"))
	handler := api.handler(ctx)
	all := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := pages.Handler(r); pattern != "" {
			pages.ServeHTTP(w, r)
			return
		}
		handler.ServeHTTP(w, r) // not as a pattern of pages, which would redirect //omni/start
	})
	_ = terminal.ExecuteTemplate(stdout, "banner", p) // fails only when stdout does
	serve(ctx, listener, api.checkHost(all, append(list(getenv("HOSTS")), "localhost", "127.0.0.1", "::1")...))
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

// environment starts the stand-ins, which end with ctx, and returns the environment of the function. With
// INCODE_API_KEY set, Incode is the real one, and the stand-in for Secrets Manager is the only place that gets the key.
// Otherwise the flows of the stand-in are allowed beside those of the user.
func environment(ctx context.Context, getenv func(string) string) ([]string, error) {
	key, allowed := getenv("INCODE_API_KEY"), getenv("ALLOWED_CONFIGURATION_IDS")
	url := cmp.Or(getenv("INCODE_BASE_URL"), demoURL)
	if key == "" {
		var err error
		if url, err = startIncode(ctx, "127.0.0.1:0", incodetest.Key, incodeLatency); err != nil {
			return nil, err
		}
		if key = incodetest.Key; allowed != "*" {
			for _, flow := range incodetest.Flows {
				allowed += "," + flow.ID
			}
		}
	}
	secretsURL, err := startSecretsManager(ctx, "127.0.0.1:0", key)
	if err != nil {
		return nil, err
	}
	return lambdaenv.Variables(secretsURL, url, settings(getenv, cmp.Or(allowed, "*"))...), nil
}

// settings returns the function's settings: those of the user's shell, or the defaults of make run.
func settings(getenv func(string) string, allowed string) []string {
	env := []string{"ALLOWED_CONFIGURATION_IDS=" + allowed}
	for name, value := range map[string]string{
		"ALLOWED_REDIRECT_HOSTS": "app.example.com", // of the contract's example
		"ALLOWED_CUSTOM_FIELDS":  "",
		"CUSTOMER_ID_CLAIM":      "",
		"ALLOW_UNAUTHENTICATED":  "true",
		"RETURN_INTERVIEW_ID":    "",
		"INCODE_API_KEY_MAX_AGE": "",
		"INCODE_TIMEOUT":         "",
	} {
		if value = cmp.Or(getenv(name), value); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}
