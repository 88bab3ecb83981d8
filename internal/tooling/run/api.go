//go:build unix

package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"time"

	"omnistart/internal/config"
	"omnistart/internal/tooling/apigateway"
	"omnistart/internal/tooling/runtimeapitest"
)

// route is the one that template.yaml defines.
const route = "POST /omni/start"

// localAPI passes requests to the function and prints a line for each. There is one execution environment, so requests
// wait for each other. (Lambda would start another environment.)
type localAPI struct {
	out    io.Writer // safe for concurrent use
	closed bool      // refuses requests without an authorizer, as a stack does
	cors   apigateway.CORS
	calls  *calls

	mu       sync.Mutex // held during an invocation; guards function
	function *function
}

// handler returns the HTTP handler. ctx ends the invocations; a client that disconnects does not end its own, as on
// AWS.
func (a *localAPI) handler(ctx context.Context) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := call{At: time.Now(), Method: r.Method, Path: r.URL.EscapedPath()}
		if c.Reason = a.cors.Refusal(r); c.Reason != "" {
			c.Status, c.Outcome = http.StatusNoContent, "preflight refused"
			a.record(c)
		}
		a.cors.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a.serve(ctx, w, r, &c)
			a.record(c)
		})).ServeHTTP(w, r)
	})
}

// serve responds to a request and completes the description of the call.
func (a *localAPI) serve(ctx context.Context, w http.ResponseWriter, r *http.Request, c *call) {
	event, err := apigateway.NewEvent(r, route)
	if err == nil && a.closed && event.RequestContext.Authorizer == nil {
		err = &apigateway.Error{Status: http.StatusUnauthorized, Message: "Unauthorized",
			Reason: "there is no authorizer: send a bearer token or the header " + apigateway.ClaimsHeader}
	}
	c.ID = cmp.Or(event.RequestContext.RequestID, rand.Text()[:15]+"=")
	w.Header().Set("Apigw-Requestid", c.ID)
	if refusal, ok := errors.AsType[*apigateway.Error](err); ok {
		c.Status, c.Outcome, c.Reason = apigateway.WriteError(w, err), "answered by API Gateway", refusal.Reason
		return
	}
	var fields struct{ ConfigurationID string }
	_ = json.Unmarshal([]byte(event.Body), &fields)
	c.Flow = config.ConfigurationID.FindString(fields.ConfigurationID)
	payload, _ := json.Marshal(event) // cannot fail: it was decoded, or is strings and numbers
	result, line, err := a.invoke(ctx, payload)
	if ctx.Err() != nil {
		panic(http.ErrAbortHandler) // the server is closing
	}
	c.TotalMs, c.ColdStartMs = ms(result.Duration+result.InitDuration), ms(result.InitDuration)
	c.Log, c.Line = line.text, line
	if err != nil {
		c.Status, c.Outcome, c.Reason = apigateway.WriteError(w, err), "the function failed", err.Error()
		return
	}
	c.Caller = cmp.Or(line.Authorizer, "back end")
	c.Status = apigateway.WriteResponse(w, result.Payload)
	var response struct{ Body string }
	_ = json.Unmarshal(result.Payload, &response)
	_ = json.Unmarshal([]byte(response.Body), &c.Problem)
	c.Outcome = cmp.Or(line.Code, "(no log line)")
	if line.Code == "ok" {
		c.Outcome = "session started"
	} else if !strings.EqualFold(line.Code, strings.ReplaceAll(line.Error, " ", "-")) { // it says more than the code
		c.Reason = line.Error
	}
}

// record prints a call's line and adds the call to the page.
func (a *localAPI) record(c call) {
	var line bytes.Buffer // so that it is written at once
	_ = terminal.ExecuteTemplate(&line, "call", c)
	_, _ = line.WriteTo(a.out)
	a.calls.add(c)
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

// replace closes the function after the current invocation and uses next from then on.
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

// compile runs the command that builds the function, if there is one. Its output goes to out.
func compile(ctx context.Context, build []string, out io.Writer) error {
	if len(build) == 0 {
		return nil
	}
	command := exec.CommandContext(ctx, build[0], build[1:]...)
	command.Stdout, command.Stderr = out, out
	command.WaitDelay = time.Second // the compiler may outlive the go command
	return command.Run()
}

// rebuild replaces the running function by one that start compiles and starts. If that fails, the running one
// continues.
func (a *localAPI) rebuild(ctx context.Context, start func() (*function, error)) {
	began := time.Now()
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

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (a *localAPI) print(format string, args ...any) { fmt.Fprintf(a.out, format+"\n", args...) }

// logLine is the line that the function logs for each request.
type logLine struct {
	Message      string
	RequestID    string
	Authorizer   string  // the kind of authorizer, or "" without one
	Code         string  // "ok" or the code of the problem
	Error        string  // the cause of a failure
	IncodeMs     float64 // zero when Incode was not called
	IncodeStatus int     // zero without a response

	text string // the whole line
}

// functionLog is the standard output of a function. It keeps the lines of requests and copies all others.
type functionLog struct {
	others  io.Writer
	lines   chan logLine
	partial []byte // of a line that has not ended
}

func newFunctionLog(others io.Writer) *functionLog {
	return &functionLog{others: others, lines: make(chan logLine, 16)}
}

// line returns the log line of the request with this Lambda request ID, or the zero logLine when there is none after a
// second.
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
		line := logLine{text: string(text)}
		if err := json.Unmarshal(text, &line); err != nil || line.Message != "request" {
			fmt.Fprintf(l.others, "%s\n", text)
		} else {
			select {
			case l.lines <- line:
			default: // drop the line: nobody waits for it
			}
		}
		l.partial = rest
	}
}
