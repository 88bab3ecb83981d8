//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"sync"
	"time"

	"omnistart/internal/tooling/apigateway"
	"omnistart/internal/tooling/runtimeapitest"
)

// route is the one that template.yaml defines.
const route = "POST /omni/start"

// localAPI passes requests to the function and prints a line for each. There is
// one execution environment, so requests wait for each other. (Lambda would start
// another environment.)
type localAPI struct {
	out    io.Writer // safe for concurrent use
	closed bool      // refuses requests without an authorizer, as a stack does

	mu       sync.Mutex // held during an invocation; guards function
	function *function
}

// handler returns the HTTP handler. ctx ends the invocations; a client that
// disconnects does not end its own, as on AWS.
func (a *localAPI) handler(ctx context.Context) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		event, err := apigateway.NewEvent(r, route)
		if err == nil && a.closed && event.RequestContext.Authorizer == nil {
			err = &apigateway.Error{Status: http.StatusUnauthorized, Message: "Unauthorized"}
		}
		if err != nil {
			status := apigateway.WriteError(w, err)
			if status == http.StatusNotFound {
				a.print("404 answered by API Gateway: send %s", route)
			} else {
				a.print("%d answered by API Gateway", status)
			}
			return
		}
		w.Header().Set("Apigw-Requestid", event.RequestContext.RequestID)
		payload, _ := json.Marshal(event) // cannot fail: it was decoded, or is strings and numbers
		result, line, err := a.invoke(ctx, payload)
		if ctx.Err() != nil {
			panic(http.ErrAbortHandler) // the server is closing
		}
		if err != nil {
			a.print("%d the function failed: %v", apigateway.WriteError(w, err), err)
			return
		}
		a.printResult(apigateway.WriteResponse(w, result.Payload), result, line)
	})
}

// invoke also returns the function's log line for the request.
func (a *localAPI) invoke(ctx context.Context, payload []byte) (result runtimeapitest.Result, line logLine, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if result, err = a.function.Invoke(ctx, payload); err == nil {
		line = a.function.log.line(result.RequestID)
	}
	return result, line, err
}

// replace closes the function after the current invocation and uses next from
// then on.
func (a *localAPI) replace(next *function) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.function.Close()
	a.function = next
}

// close closes the function.
func (a *localAPI) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.function.Close()
}

// rebuild runs the command that builds the function and replaces the running
// function by the new one. If that fails, the running one continues.
func (a *localAPI) rebuild(ctx context.Context, build []string, start func() (*function, error)) {
	began := time.Now()
	command := exec.CommandContext(ctx, build[0], build[1:]...)
	command.WaitDelay = time.Second // the compiler may outlive the go command
	if out, err := command.CombinedOutput(); err != nil {
		if ctx.Err() == nil {
			a.print("%s\nthe build failed, the previous function continues: %v", bytes.TrimSpace(out), err)
		}
		return
	}
	next, err := start()
	if err != nil {
		if ctx.Err() == nil {
			a.print("the new function cannot start, the previous one continues: %v", err)
		}
		return
	}
	a.replace(next)
	a.print("rebuilt in %.0f ms, restarted", ms(time.Since(began)))
}

// printResult prints the line for a request that the function answered. Its time
// is what a client of Lambda waits for: the invocation, and the init in a cold
// start.
func (a *localAPI) printResult(status int, result runtimeapitest.Result, line logLine) {
	outcome := line.Code
	switch line.Code {
	case "":
		outcome = "(no log line)"
	case "ok":
		outcome = "session started"
	}
	parts := "warm"
	if result.InitDuration > 0 {
		parts = fmt.Sprintf("cold start %.0f ms", ms(result.InitDuration))
	}
	if line.IncodeMs > 0 {
		parts = fmt.Sprintf("Incode %.0f ms, %s", line.IncodeMs, parts)
	}
	a.print("%d %s  %.0f ms  (%s)", status, outcome, ms(result.Duration+result.InitDuration), parts)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (a *localAPI) print(format string, args ...any) { fmt.Fprintf(a.out, format+"\n", args...) }

// logLine contains what is used of the line that the function logs for each
// request.
type logLine struct {
	Message   string  `json:"message"`
	RequestID string  `json:"requestId"`
	Code      string  `json:"code"`     // "ok" or the code of the problem
	IncodeMs  float64 `json:"incodeMs"` // zero when Incode was not called
}

// functionLog is the standard output of a function. It keeps the lines of
// requests and copies all others.
type functionLog struct {
	others  io.Writer
	lines   chan logLine
	partial []byte // of a line that has not ended
}

func newFunctionLog(others io.Writer) *functionLog {
	return &functionLog{others: others, lines: make(chan logLine, 16)}
}

// line returns the log line of the request with this Lambda request ID, or the
// zero logLine when there is none after a second.
func (l *functionLog) line(requestID string) logLine {
	timeout := time.After(time.Second)
	for {
		select {
		case line := <-l.lines:
			if line.RequestID == requestID {
				return line
			}
		case <-timeout:
			return logLine{}
		}
	}
}

func (l *functionLog) Write(p []byte) (int, error) {
	l.partial = append(l.partial, p...)
	for {
		text, rest, ok := bytes.Cut(l.partial, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		var line logLine
		if err := json.Unmarshal(text, &line); err != nil || line.Message != "request" {
			fmt.Fprintf(l.others, "%s\n", text)
		} else {
			select {
			case l.lines <- line:
			default: // nobody waits for so many
			}
		}
		l.partial = rest
	}
}
