//go:build unix

package runtimeapitest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// initTimeout is 10 s in Lambda. A busy machine may exceed that without any defect.
const initTimeout = time.Minute

// environment is one execution environment: a process and its own Runtime API, so that no process can respond for its
// successor.
type environment struct {
	config Config
	cmd    *exec.Cmd
	server *http.Server
	ready  chan struct{} // closed when the process asks for its first event
	exited chan struct{} // closed when the process has ended and its output has been copied
	// events is unbuffered, so a send succeeds only while the process waits for an event. nil is no event: the process
	// continues to wait.
	events       chan *invocation
	initDuration atomic.Int64 // for the result of the first invocation; then zero
	frozen       atomic.Bool
	mu           sync.Mutex
	inFlight     map[string]*invocation // without a response yet, by request ID; guarded by mu
}

// invocation is an event and its outcome.
type invocation struct {
	id        string
	payload   []byte
	deadline  time.Time     // set before delivered is closed
	delivered chan struct{} // closed when the event was sent to the process
	outcome   chan outcome  // has room for one
}

type outcome struct {
	payload []byte
	err     error
}

// newEnvironment starts a process and waits until it asks for an event.
func newEnvironment(ctx context.Context, config Config) (*environment, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("runtimeapitest: %w", err)
	}
	e := &environment{
		config: config, cmd: exec.Command(config.Bootstrap), ready: make(chan struct{}), exited: make(chan struct{}),
		events: make(chan *invocation), inFlight: map[string]*invocation{},
	}
	e.cmd.Dir = filepath.Dir(config.Bootstrap) // as in /var/task
	e.cmd.Env = append(slices.Clone(config.Env), "AWS_LAMBDA_RUNTIME_API="+listener.Addr().String())
	if config.Concurrency > 1 {
		e.cmd.Env = append(e.cmd.Env, fmt.Sprintf("AWS_LAMBDA_MAX_CONCURRENCY=%d", config.Concurrency))
	}
	e.cmd.Stdout, e.cmd.Stderr = config.Stdout, config.Stderr
	// A process group of its own: close ends all of it, and Ctrl-C at the terminal does not end it before its parent.
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}

	started := time.Now()
	if err := e.cmd.Start(); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("runtimeapitest: %w", err)
	}
	// Without a timeout: aws-lambda-go ends the process when its request meets a closed connection, which it may have
	// opened seconds ago on a busy machine.
	e.server = &http.Server{Handler: e.routes()}
	go func() { _ = e.server.Serve(listener) }() // ends with close
	go func() {
		_ = e.cmd.Wait() // ProcessState has the same information
		close(e.exited)
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, initTimeout, &FunctionError{"Sandbox.Timedout", "Init timed out"})
	defer cancel()
	select {
	case <-e.ready:
		e.initDuration.Store(int64(time.Since(started)))
		return e, nil
	case <-e.exited:
		err = e.exitError()
	case <-ctx.Done():
		err = fmt.Errorf("runtimeapitest: start: %w", context.Cause(ctx))
	}
	e.close()
	return nil, err
}

// invoke delivers an event to the process and waits for the outcome. The error is errEnded when the process ended
// before it took the event.
func (e *environment) invoke(ctx context.Context, id string, payload []byte) (Result, error) {
	inv := &invocation{id: id, payload: payload, delivered: make(chan struct{}), outcome: make(chan outcome, 1)}
	if err := e.send(ctx, inv); err != nil {
		return Result{}, err
	}
	// When Lambda thaws a function, the event is already there, and so is everything else that has arrived on its
	// connections. No other order is harder for it.
	<-inv.delivered
	result := Result{RequestID: id, InitDuration: time.Duration(e.initDuration.Swap(0))}
	if e.frozen.Swap(false) {
		e.signal(syscall.SIGCONT)
	}
	ctx, cancel := context.WithDeadlineCause(ctx, inv.deadline.Add(e.config.Grace),
		&FunctionError{"Sandbox.Timedout", fmt.Sprintf("Task timed out after %v", e.config.Timeout)})
	defer cancel()
	var o outcome
	select {
	case o = <-inv.outcome:
	case <-e.exited:
		o.err = e.exitError()
		select {
		case o = <-inv.outcome: // sent before the end, as for a panic
		default:
		}
	case <-ctx.Done():
		o.err = fmt.Errorf("runtimeapitest: invoke: %w", context.Cause(ctx))
		if e.config.Concurrency == 1 {
			e.close()
		}
	}
	result.Payload, result.Duration = o.payload, time.Since(inv.deadline.Add(-e.config.Timeout))
	return result, o.err
}

// send waits until the process asks for an event, and passes it this one.
func (e *environment) send(ctx context.Context, inv *invocation) error {
	select {
	case e.events <- inv:
		return nil
	case <-e.exited:
		return errEnded
	case <-ctx.Done():
		return fmt.Errorf("runtimeapitest: the function is busy: %w", context.Cause(ctx))
	}
}

// freeze stops the process once it waits for an event.
func (e *environment) freeze(ctx context.Context) error {
	if err := e.send(ctx, nil); err != nil {
		return err
	}
	e.frozen.Store(true)
	e.signal(syscall.SIGSTOP)
	return nil
}

// signal sends a signal to the process and its children.
func (e *environment) signal(s syscall.Signal) {
	_ = syscall.Kill(-e.cmd.Process.Pid, s) // fails only if the process has ended
}

func (e *environment) exitError() error {
	return &FunctionError{"Runtime.ExitError", "Runtime exited with error: " + e.cmd.ProcessState.String()}
}

func (e *environment) ended() bool {
	select {
	case <-e.exited:
		return true
	default:
		return false
	}
}

// close ends the process and its children, frozen or not, and waits for its end.
func (e *environment) close() {
	if !e.ended() {
		e.signal(syscall.SIGKILL)
	}
	<-e.exited
	_ = e.server.Close()
}
