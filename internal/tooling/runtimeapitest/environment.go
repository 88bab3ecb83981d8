//go:build unix

package runtimeapitest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// initTimeout is Lambda's limit for the time before the first event.
const initTimeout = 10 * time.Second

var (
	errEnded    = errors.New("runtimeapitest: the function's process has ended")
	errTimedOut = errors.New("runtimeapitest: the function took too long")
)

// environment is one execution environment: a process, and a Runtime API of its
// own, so that no process can answer for its successor.
type environment struct {
	concurrency int
	timeout     time.Duration
	cmd         *exec.Cmd
	server      *http.Server
	exited      chan struct{}  // closed when the process has ended and its output has been copied
	pollers     chan poller    // unbuffered: one comes out only while the process waits for an event
	initFailed  chan InitError // what the process reported, Exit not yet known

	mu           sync.Mutex             // guards what follows
	inFlight     map[string]*invocation // handed over and not answered, by request ID
	initDuration time.Duration          // for the first invocation's result; then zero
	frozen       bool
}

// poller is a request of the process for its next event. It takes one, or is
// closed to let it wait on.
type poller chan<- *invocation

// invocation is an event on its way to the process and the answer on its way
// back.
type invocation struct {
	id        string
	payload   []byte
	deadline  time.Time
	delivered chan struct{} // closed when the process was sent the event
	answer    chan answer   // has room for one
}

type answer struct {
	payload []byte
	err     error // a *FunctionError
}

// newEnvironment starts a process and waits until it asks for an event.
func newEnvironment(ctx context.Context, config Config) (*environment, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("runtimeapitest: %w", err)
	}
	e := &environment{
		concurrency: config.Concurrency,
		timeout:     config.Timeout,
		cmd:         exec.Command(config.Bootstrap),
		exited:      make(chan struct{}),
		pollers:     make(chan poller),
		initFailed:  make(chan InitError, 1),
		inFlight:    map[string]*invocation{},
	}
	e.cmd.Dir = filepath.Dir(config.Bootstrap) // as in /var/task
	e.cmd.Env = append(slices.Clone(config.Env), "AWS_LAMBDA_RUNTIME_API="+listener.Addr().String())
	if config.Concurrency > 1 {
		e.cmd.Env = append(e.cmd.Env, fmt.Sprintf("AWS_LAMBDA_MAX_CONCURRENCY=%d", config.Concurrency))
	}
	e.cmd.Stdout, e.cmd.Stderr = config.Stdout, config.Stderr
	// A process group of its own: close ends all of it, and a Ctrl-C at the
	// terminal does not end it first.
	e.cmd.WaitDelay = time.Second // for output that a grandchild in another group keeps open
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}

	started := time.Now()
	if err := e.cmd.Start(); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("runtimeapitest: %w", err)
	}
	// A timeout that is as good as none: on a busy machine, seconds pass between a
	// function's opening a connection and its first request. When that meets a
	// closed one, aws-lambda-go ends the process.
	e.server = &http.Server{Handler: e.routes(), ReadHeaderTimeout: time.Hour}
	go func() { _ = e.server.Serve(listener) }() // ends with close
	go func() {
		_ = e.cmd.Wait() // ProcessState says the same
		close(e.exited)
	}()
	if err := e.waitForInit(ctx); err != nil {
		e.close()
		return nil, err
	}
	e.initDuration = time.Since(started)
	return e, nil
}

// waitForInit returns nil when the process has asked for its first event.
func (e *environment) waitForInit(ctx context.Context) error {
	limit := time.NewTimer(initTimeout)
	defer limit.Stop()
	var reported InitError
	select {
	case p := <-e.pollers:
		close(p)
		return nil
	case <-e.exited:
		reported = InitError{Type: "Runtime.ExitError", Message: "Runtime exited without providing a reason"}
		select {
		case reported = <-e.initFailed:
		default:
		}
	case reported = <-e.initFailed: // it exits next: wait for its exit status
		select {
		case <-e.exited:
		case <-limit.C:
		case <-ctx.Done():
		}
	case <-limit.C:
		reported = InitError{Type: "Sandbox.Timedout", Message: fmt.Sprintf("Init timed out after %v", initTimeout)}
	case <-ctx.Done():
		return fmt.Errorf("runtimeapitest: start: %w", context.Cause(ctx))
	}
	e.close()
	reported.Exit = e.cmd.ProcessState.String()
	return &reported
}

// poller returns a poller once there is one, and errEnded when the process is
// gone.
func (e *environment) poller(ctx context.Context) (poller, error) {
	select {
	case p := <-e.pollers:
		if !e.ended() {
			return p, nil
		}
		close(p)
		return nil, errEnded
	case <-e.exited:
		return nil, errEnded
	case <-ctx.Done():
		return nil, fmt.Errorf("runtimeapitest: the function is busy: %w", context.Cause(ctx))
	}
}

// invoke hands one event to the process and waits for what becomes of it.
func (e *environment) invoke(ctx context.Context, p poller, id string, payload []byte) (Result, error) {
	started := time.Now()
	inv := &invocation{id, payload, started.Add(e.timeout), make(chan struct{}), make(chan answer, 1)}
	ctx, cancel := context.WithDeadlineCause(ctx, inv.deadline, errTimedOut)
	defer cancel()
	e.mu.Lock()
	result := Result{RequestID: id, InitDuration: e.initDuration}
	e.initDuration = 0
	e.inFlight[id] = inv
	e.mu.Unlock()
	p <- inv
	// A function comes back from the freezer when its event is there, beside
	// whatever else has reached its connections meanwhile: that is the order in
	// which Lambda does it, and the hard one.
	select {
	case <-inv.delivered:
	case <-e.exited:
	case <-ctx.Done():
	}
	if err := e.thaw(); err != nil {
		return result, err
	}

	var err error
	select {
	case a := <-inv.answer:
		result.Payload, err = a.payload, a.err
	case <-e.exited:
		select {
		case a := <-inv.answer: // a last word, such as a panic's
			result.Payload, err = a.payload, a.err
		default:
			err = e.exitError(id)
		}
	case <-ctx.Done():
		err = e.abandon(ctx, id)
	}
	result.Duration = time.Since(started)
	return result, err
}

// exitError returns Lambda's words for a process that has ended during an
// invocation.
func (e *environment) exitError(id string) error {
	return &FunctionError{"Runtime.ExitError", fmt.Sprintf("RequestId: %s Error: Runtime exited with error: %v", id, e.cmd.ProcessState)}
}

// abandon gives an invocation up when ctx has ended, and returns the reason. Its
// late answer, if the process lives to give one, is taken and dropped.
func (e *environment) abandon(ctx context.Context, id string) error {
	if e.concurrency == 1 {
		e.kill()
	}
	if err := context.Cause(ctx); !errors.Is(err, errTimedOut) {
		return fmt.Errorf("runtimeapitest: invoke: %w", err)
	}
	return &FunctionError{"Sandbox.Timedout", fmt.Sprintf("RequestId: %s Error: Task timed out after %.2f seconds", id, e.timeout.Seconds())}
}

// freeze stops the process once all its pollers are idle.
func (e *environment) freeze(ctx context.Context) error {
	for range e.concurrency {
		p, err := e.poller(ctx)
		if err != nil {
			return err
		}
		defer close(p)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := syscall.Kill(-e.cmd.Process.Pid, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("runtimeapitest: freeze: %w", err)
	}
	e.frozen = true
	return nil
}

func (e *environment) thaw() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.frozen || e.ended() {
		return nil
	}
	e.frozen = false
	if err := syscall.Kill(-e.cmd.Process.Pid, syscall.SIGCONT); err != nil {
		return fmt.Errorf("runtimeapitest: thaw: %w", err)
	}
	return nil
}

func (e *environment) ended() bool {
	select {
	case <-e.exited:
		return true
	default:
		return false
	}
}

// kill ends the process, frozen or not, with its children, and returns when it
// is gone.
func (e *environment) kill() {
	if !e.ended() {
		_ = syscall.Kill(-e.cmd.Process.Pid, syscall.SIGKILL) // fails only when it has just ended
	}
	<-e.exited
}

func (e *environment) close() {
	e.kill()
	_ = e.server.Close()
}
