//go:build unix

// Package runtimeapitest runs a compiled bootstrap as Lambda does: as a process of its own, with an environment of its
// own, behind a local Lambda Runtime API. It kills a process that takes too long (see [Function.Invoke]) and starts a
// new one when the process has ended. It needs Unix: SIGSTOP freezes a function.
package runtimeapitest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what to run, and how.
type Config struct {
	Bootstrap string   // path of the executable
	Env       []string // the whole environment, as "name=value"; only the two variables of the Runtime API are added
	// Concurrency is how many events the process asks for at the same time, as on Lambda Managed Instances. Zero means 1,
	// Lambda's default.
	Concurrency int
	// Timeout ends an invocation. Zero means 3 s, Lambda's own default.
	Timeout time.Duration
	// Grace is how long after Timeout an invocation is ended; in Lambda it is zero. It lets a test check what a function
	// does at its deadline on a busy machine.
	Grace          time.Duration
	Stdout, Stderr io.Writer // must not block, and are written to by other goroutines; nil discards the output
}

// Function is a Lambda function with at most one execution environment. Its methods are safe for concurrent use.
type Function struct {
	config      Config
	invocations atomic.Int64

	mu  sync.Mutex // held while a process is started, frozen or closed; guards env
	env *environment
}

// Result describes an invocation.
type Result struct {
	RequestID string // Lambda's, as the function sees it
	Payload   []byte // the function's response; nil if there is none
	// Duration runs from the delivery of the event to the response; InitDuration, of a first invocation only, from the
	// start of the process to its request for an event. Lambda's REPORT line has the same two.
	Duration, InitDuration time.Duration
}

// FunctionError is a failure of the function, as Lambda's Invoke reports it: an error that the function returned,
// Runtime.ExitError when the process ended, or Sandbox.Timedout when it took too long.
type FunctionError struct{ Type, Message string }

func (e *FunctionError) Error() string { return e.Type + ": " + e.Message }

var errEnded = errors.New("runtimeapitest: the process of the function has ended")

// Start starts the function and returns when it has asked for its first event. If the process ends before, the error is
// a *FunctionError with its exit status. (Lambda repeats a failed init once. This package reports the first failure.)
// ctx only bounds the start: Close ends the function.
func Start(ctx context.Context, config Config) (*Function, error) {
	bootstrap, err := filepath.Abs(config.Bootstrap)
	if err != nil {
		return nil, fmt.Errorf("runtimeapitest: %w", err)
	}
	config.Bootstrap = bootstrap
	config.Timeout = cmp.Or(config.Timeout, 3*time.Second)
	config.Concurrency = cmp.Or(config.Concurrency, 1)
	env, err := newEnvironment(ctx, config)
	return &Function{config: config, env: env}, err
}

// Invoke waits until the function asks for an event, delivers this one and waits for the response. It thaws a frozen
// function when the event has been delivered, and replaces a process that has ended. A failure is a *FunctionError;
// RequestID and the durations of the result are then set, too.
//
// When ctx or Config.Timeout ends before the response, Invoke kills the process. With Config.Concurrency above 1 that
// would end other invocations, so the function continues and its late response is dropped, as AWS documents it under
// "Understanding the Lambda Managed Instances execution environment".
func (f *Function) Invoke(ctx context.Context, payload []byte) (Result, error) {
	for {
		env, err := f.environment(ctx)
		if err != nil {
			return Result{}, err
		}
		id := fmt.Sprintf("00000000-0000-4000-8000-%012x", f.invocations.Add(1)) // a UUID, as in Lambda
		result, err := env.invoke(ctx, id, payload)
		if !errors.Is(err, errEnded) {
			return result, err
		}
	}
}

// environment returns the current environment, or a new one if its process has ended.
func (f *Function) environment(ctx context.Context) (*environment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.env.ended() {
		return f.env, nil
	}
	f.env.close()
	env, err := newEnvironment(ctx, f.config)
	if err == nil {
		f.env = env
	}
	return env, err
}

// Pid returns the process ID of the function, or 0 when no process runs.
func (f *Function) Pid() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.env.ended() {
		return 0
	}
	return f.env.cmd.Process.Pid
}

// Freeze waits until the process asks for its next event, and stops the process until the next Invoke, as Lambda does
// between invocations. Config.Concurrency must be 1: Lambda freezes no other process.
func (f *Function) Freeze(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.env.freeze(ctx)
}

// Close kills the process and its children and waits for its end. Invocations in flight fail. A later Invoke would
// start a new process.
func (f *Function) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.env.close()
}
