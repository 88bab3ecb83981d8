//go:build unix

package runtimeapitest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"omnistart/internal/tooling/runtimeapitest"
)

// role is an environment variable. With it, the test binary is the function under
// test, and does what the value says.
const role = "FUNCTION_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "function":
		lambda.Start(function)
	case "exit at init":
		os.Exit(3)
	case "hang at init":
		select {}
	}
}

// function does what its event says.
func function(ctx context.Context, event string) (string, error) {
	verb, arg, _ := strings.Cut(event, " ")
	switch verb {
	case "echo":
		return arg, nil
	case "fail":
		return "", errors.New(arg)
	case "panic":
		panic(arg)
	case "exit":
		os.Exit(5)
	case "env":
		return strings.Join(os.Environ(), "\n"), nil
	case "pid":
		return strconv.Itoa(os.Getpid()), nil
	case "print":
		fmt.Println(arg)
		fmt.Fprintln(os.Stderr, arg)
		return "", nil
	case "context":
		lc, _ := lambdacontext.FromContext(ctx)
		deadline, _ := ctx.Deadline()
		return fmt.Sprint(lc.AwsRequestID, " ", lc.InvokedFunctionArn != "", " ", time.Until(deadline) > 0), nil
	case "big":
		return strings.Repeat("x", 7<<20), nil
	case "hang":
		select {}
	case "wait":
		<-ctx.Done()
		return "late", nil
	case "get": // respond when a server has responded
		resp, err := http.Get(arg)
		if err != nil {
			return "", err
		}
		resp.Body.Close()
		return strconv.Itoa(os.Getpid()), nil
	}
	return "", nil
}

func config(t *testing.T, roleIs string, env ...string) runtimeapitest.Config {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Long enough for any machine. Only the tests of the timeout shorten it.
	return runtimeapitest.Config{Bootstrap: binary, Env: append(env, role+"="+roleIs), Timeout: time.Minute}
}

func start(t *testing.T, c runtimeapitest.Config) *runtimeapitest.Function {
	t.Helper()
	f, err := runtimeapitest.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// invoke returns the function's response to an event, both as plain strings.
func invoke(ctx context.Context, f *runtimeapitest.Function, event string) (string, runtimeapitest.Result, error) {
	result, err := f.Invoke(ctx, []byte(strconv.Quote(event)))
	response, _ := strconv.Unquote(string(result.Payload))
	return response, result, err
}

// pid returns the function's process, starting it if need be.
func pid(t *testing.T, f *runtimeapitest.Function) int {
	t.Helper()
	response, _, err := invoke(t.Context(), f, "pid")
	if err != nil {
		t.Fatal(err)
	}
	id, err := strconv.Atoi(response)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Pid(); got != id {
		t.Errorf("Pid says %d, and the process %d", got, id)
	}
	return id
}

func TestInvoke(t *testing.T) {
	f := start(t, config(t, "function"))
	var first int
	for n, want := range []string{"one", "two"} {
		response, result, err := invoke(t.Context(), f, "echo "+want)
		if err != nil || response != want {
			t.Fatalf("got %q, %v", response, err)
		}
		if cold := result.InitDuration > 0; cold != (n == 0) || result.Duration <= 0 || result.RequestID == "" {
			t.Errorf("invocation %d: %+v", n, result)
		}
		id := pid(t, f)
		if n == 0 {
			first = id
		} else if id != first {
			t.Error("a warm invocation met another process")
		}
	}
}

func TestFunctionSeesRequestIDAndDeadline(t *testing.T) {
	response, result, err := invoke(t.Context(), start(t, config(t, "function")), "context")
	if want := result.RequestID + " true true"; err != nil || response != want {
		t.Errorf("got %q, %v, want %q", response, err, want)
	}
}

func TestEnvironmentContainsOnlyTheGivenVariables(t *testing.T) {
	t.Setenv("FROM_THE_TEST", "1")
	response, _, err := invoke(t.Context(), start(t, config(t, "function", "GIVEN=1")), "env")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(response) {
		name, _, _ := strings.Cut(line, "=")
		names = append(names, name)
	}
	if got, want := strings.Join(names, " "), "GIVEN "+role+" AWS_LAMBDA_RUNTIME_API _X_AMZN_TRACE_ID"; got != want {
		t.Errorf("the function's environment has %s, want %s", got, want)
	}
}

func TestFailedInvocations(t *testing.T) {
	tests := []struct {
		name, event   string
		errorType     string
		message       string
		leavesProcess bool
	}{
		{"returned error", "fail no luck", "errorString", "no luck", true},
		{"panic", "panic no luck", "string", "no luck", false},
		{"exit", "exit", "Runtime.ExitError", "exit status 5", false},
		{"response beyond 6 MiB", "big", "Function.ResponseSizeTooLarge", "too large", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := start(t, config(t, "function"))
			before := pid(t, f)
			_, result, err := invoke(t.Context(), f, tt.event)
			if failure(err) != tt.errorType || !strings.Contains(err.Error(), tt.message) || result.RequestID == "" {
				t.Fatalf("got %+v, %v", result, err)
			}
			response, result, err := invoke(t.Context(), f, "echo again")
			if err != nil || response != "again" {
				t.Fatalf("the next invocation: %q, %v", response, err)
			}
			if warm := result.InitDuration == 0; warm != tt.leavesProcess {
				t.Errorf("the next invocation is warm: %t, want %t", warm, tt.leavesProcess)
			}
			if same := pid(t, f) == before; same != tt.leavesProcess {
				t.Errorf("the next invocation meets the same process: %t, want %t", same, tt.leavesProcess)
			}
		})
	}
}

func TestTimeoutKillsTheProcess(t *testing.T) {
	c := config(t, "function")
	c.Timeout, c.Grace = 10*time.Millisecond, 0
	f := start(t, c)
	before := f.Pid()
	if _, _, err := invoke(t.Context(), f, "hang"); failure(err) != "Sandbox.Timedout" {
		t.Fatalf("got %v", err)
	}
	ended(t, before)
	if id := f.Pid(); id != 0 {
		t.Errorf("Pid is %d, and the process has ended", id)
	}
	if _, result, err := invoke(t.Context(), f, "hang"); result.InitDuration == 0 {
		t.Errorf("the next invocation: %+v, %v, want that of a new process", result, err)
	}
}

func TestGraceDelaysTheTimeout(t *testing.T) {
	c := config(t, "function")
	c.Timeout, c.Grace = 10*time.Millisecond, time.Minute
	// The response comes after the deadline, and counts.
	if response, _, err := invoke(t.Context(), start(t, c), "wait for the deadline"); err != nil || response != "late" {
		t.Errorf("got %q, %v", response, err)
	}
}

func TestCancelledInvocationKillsTheProcess(t *testing.T) {
	f := start(t, config(t, "function"))
	before := f.Pid()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := invoke(ctx, f, "hang"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	ended(t, before)
}

// ended fails the test when the process still exists, as a zombie or otherwise.
func ended(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d: %v, want none", pid, err)
	}
}

// waitUntil polls for a change of a process, which nothing signals.
func waitUntil(t *testing.T, done func() bool) {
	t.Helper()
	for !done() {
		if t.Context().Err() != nil {
			t.Fatal("the test ends")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestProcessThatEndsWhileIdleIsReplaced(t *testing.T) {
	f := start(t, config(t, "function"))
	before := pid(t, f)
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { return f.Pid() == 0 })
	if after := pid(t, f); after == before {
		t.Error("the process that ended has responded")
	}
}

func TestFailedStart(t *testing.T) {
	t.Run("exit", func(t *testing.T) {
		_, err := runtimeapitest.Start(t.Context(), config(t, "exit at init"))
		if failure(err) != "Runtime.ExitError" || !strings.Contains(err.Error(), "exit status 3") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("hang", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := runtimeapitest.Start(ctx, config(t, "hang at init")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no such file", func(t *testing.T) {
		_, err := runtimeapitest.Start(t.Context(), runtimeapitest.Config{Bootstrap: "testdata/none"})
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	})
}

func TestOutput(t *testing.T) {
	var stdout, stderr bytes.Buffer
	c := config(t, "function")
	c.Stdout, c.Stderr = &stdout, &stderr
	f := start(t, c)
	if _, _, err := invoke(t.Context(), f, "print hello"); err != nil {
		t.Fatal(err)
	}
	f.Close() // waits for the output
	if stdout.String() != "hello\n" || stderr.String() != "hello\n" {
		t.Errorf("stdout %q, stderr %q", stdout.String(), stderr.String())
	}
}

// state returns the state of a process on Linux; "T" is a stopped one.
func state(t *testing.T, pid int) string {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the state of a process is only visible with /proc")
	}
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return after[:1]
}

func TestFreezeStopsTheProcessUntilTheNextInvoke(t *testing.T) {
	f := start(t, config(t, "function"))
	id := pid(t, f)
	freeze := func() {
		t.Helper()
		if err := f.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, func() bool { return state(t, id) == "T" })
	}
	freeze()
	response, result, err := invoke(t.Context(), f, "echo awake")
	if err != nil || response != "awake" || result.InitDuration != 0 {
		t.Errorf("got %q, %+v, %v, want a response of the warm process", response, result, err)
	}
	freeze()
	f.Close()
	ended(t, id)
	if err := f.Freeze(t.Context()); err == nil {
		t.Error("Freeze succeeds for a closed function")
	}
}

func TestFreezeWaitsForTheResponse(t *testing.T) {
	f, server := start(t, config(t, "function")), newServer(t)
	held := server.occupy(t.Context(), t, f, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := f.Freeze(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("during an invocation: %v, want Freeze to wait", err)
	}
	server.respond()
	<-held
	if err := f.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestOneInvocationAtATime(t *testing.T) {
	f := start(t, config(t, "function"))
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			want := strconv.Itoa(n)
			if response, _, err := invoke(t.Context(), f, "echo "+want); err != nil || response != want {
				t.Errorf("got %q, %v, want %q", response, err, want)
			}
		})
	}
	wg.Wait()
}

func TestResponseToUnknownRequestIsRefused(t *testing.T) {
	f := start(t, config(t, "function"))
	env, _, err := invoke(t.Context(), f, "env")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(env, "AWS_LAMBDA_RUNTIME_API=")
	addr, _, _ := strings.Cut(after, "\n")
	url := "http://" + addr + "/2018-06-01/runtime/invocation/other/response"
	resp, err := http.Post(url, "application/json", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}
