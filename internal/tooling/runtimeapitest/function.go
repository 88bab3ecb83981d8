//go:build unix

// Package runtimeapitest runs a compiled bootstrap as Lambda does: as a process
// of its own with an environment of its own, behind a local Lambda Runtime API,
// killed when it takes too long (see [Function.Invoke]) and started anew when it
// has ended.
//
// It needs a Unix: freezing a function is SIGSTOP, and process groups make sure
// that none outlives its test.
package runtimeapitest

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"
)

// Config says what to run, and how.
type Config struct {
	Bootstrap string   // path of the executable
	Env       []string // the whole environment, as "key=value"; only AWS_LAMBDA_RUNTIME_API is added
	// Concurrency is the most invocations that the process has at a time. Zero
	// means 1, as in Lambda by default. More is what Lambda Managed Instances
	// do: the process learns it from AWS_LAMBDA_MAX_CONCURRENCY, and asks for as
	// many events at once.
	Concurrency int
	// Timeout ends an invocation. Zero means 3 s, Lambda's own default.
	Timeout time.Duration
	// Stdout and Stderr get what the function prints. They must not block, and
	// are written from other goroutines. Nil discards.
	Stdout, Stderr io.Writer
}

// Function is a Lambda function with at most one execution environment. Its
// methods are safe for concurrent use.
type Function struct {
	config Config
	slots  chan struct{} // holds a token for each invocation, Config.Concurrency at most

	mu  sync.Mutex // held while a process is started, frozen or closed; guards env
	env *environment
}

// Result is an invocation that was answered.
type Result struct {
	RequestID string // Lambda's, as the function sees it
	Payload   []byte // what the function answered; nil when it did not
	// Duration runs from handing the event over to the answer. InitDuration is
	// how long the process took to ask for its first event; zero when the
	// environment was warm. Lambda's REPORT line has the same two.
	Duration, InitDuration time.Duration
}

// FunctionError is the failure of one invocation, as Lambda's Invoke reports
// it: an error that the function returned, or in Lambda's words
// Runtime.ExitError when the process ended and Sandbox.Timedout when it was
// killed.
type FunctionError struct {
	Type, Message string
}

func (e *FunctionError) Error() string { return e.Type + ": " + e.Message }

// InitError says why a process did not get so far as to ask for its first
// event. Type and Message are what it told the Runtime API, or else Lambda's
// own words as in FunctionError.
type InitError struct {
	Type, Message string
	Exit          string // how the process ended, such as "exit status 1"
}

func (e *InitError) Error() string { return e.Type + ": " + e.Message + " (" + e.Exit + ")" }

// Start launches the function and returns when it has asked for its first
// event. An *InitError tells that it failed to. (Lambda tries a failed init
// once more, in the first invocation. Here the first failure is reported.)
//
// ctx bounds the start alone: Close ends the function.
func Start(ctx context.Context, config Config) (*Function, error) {
	bootstrap, err := filepath.Abs(config.Bootstrap)
	if err != nil {
		return nil, fmt.Errorf("runtimeapitest: %w", err)
	}
	config.Bootstrap = bootstrap
	config.Timeout = cmp.Or(config.Timeout, 3*time.Second)
	config.Concurrency = cmp.Or(config.Concurrency, 1)
	env, err := newEnvironment(ctx, config)
	if err != nil {
		return nil, err
	}
	return &Function{config: config, slots: make(chan struct{}, config.Concurrency), env: env}, nil
}

// Invoke hands an event to the function and waits for the answer, after it has
// waited for one of Config.Concurrency places. A frozen function is thawed when
// the event is there. A function whose process has ended is started anew first,
// which may fail with an *InitError; a failed invocation is a *FunctionError.
// RequestID and the durations of the result hold in these cases, too.
//
// When ctx or Config.Timeout ends before the answer the process is killed:
// nothing else makes a function stop, and the next event must not meet a busy
// one. With Config.Concurrency above 1 that would end the others, too, so there
// the function goes on with what nobody waits for, as AWS documents it under
// "Understanding the Lambda Managed Instances execution environment". A call
// that still waits for its turn just ends.
func (f *Function) Invoke(ctx context.Context, payload []byte) (Result, error) {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return Result{}, fmt.Errorf("runtimeapitest: the function is busy: %w", context.Cause(ctx))
	}
	for {
		env, err := f.environment(ctx)
		if err != nil {
			return Result{}, err
		}
		p, err := env.poller(ctx)
		if errors.Is(err, errEnded) {
			continue
		}
		if err != nil {
			return Result{}, err
		}
		return env.invoke(ctx, p, requestID(), payload)
	}
}

// environment returns the present one, or a new one if its process has ended.
func (f *Function) environment(ctx context.Context) (*environment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.env != nil && !f.env.ended() {
		return f.env, nil
	}
	f.close()
	env, err := newEnvironment(ctx, f.config)
	if err != nil {
		return nil, err
	}
	f.env = env
	return env, nil
}

// Pid returns the process ID of the function, which leads a process group of
// the same ID, or 0 when no process runs. It waits for one that is being
// started.
func (f *Function) Pid() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.env == nil || f.env.ended() {
		return 0
	}
	return f.env.cmd.Process.Pid
}

// Freeze stops the process once it waits for its next event, as Lambda does
// between invocations, and keeps it stopped until Thaw or the next Invoke. With
// Config.Concurrency above 1 it waits for all the events at once, and Lambda
// does no such thing. It is an error when there is no process to freeze.
func (f *Function) Freeze(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.env == nil {
		return errEnded
	}
	return f.env.freeze(ctx)
}

// Thaw lets a frozen process go on without an event. On a process that runs it
// does nothing.
func (f *Function) Thaw() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.env == nil {
		return errEnded
	}
	return f.env.thaw()
}

// Close kills the process and everything that it started, as Lambda does with a
// function that has no extension, and waits for its end. Invocations in flight
// fail. A later Invoke would start the function anew.
func (f *Function) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.close()
}

func (f *Function) close() {
	if f.env != nil {
		f.env.close()
		f.env = nil
	}
}

// requestID returns a UUID of version 4, which is what Lambda's request IDs
// are.
func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, says its documentation
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
