//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"omnistart/internal/tooling/apigateway"
	"omnistart/internal/tooling/runtimeapitest"
)

// function is the function, and how it started.
type function struct {
	*runtimeapitest.Function
	started *coldStart
}

// gateway lets requests through to the function and prints a line for each.
// There is one execution environment, so requests wait for one another where
// Lambda would start a second one.
type gateway struct {
	log *functionLog
	out io.Writer
	jwt bool // whether it wants claims, like an API with a JWT authorizer

	serving  sync.RWMutex // held for reading while the function answers
	function *function

	printing sync.WaitGroup
	mu       sync.Mutex // held while a line is printed
}

// handler returns the HTTP side. ctx ends the invocations: a client that leaves
// does not, neither here nor in AWS.
func (g *gateway) handler(ctx context.Context) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		event, err := apigateway.NewEvent(r, "POST /omni/start")
		if err == nil && g.jwt && event.RequestContext.Authorizer == nil {
			err = &apigateway.Error{Status: http.StatusUnauthorized, Message: "Unauthorized"}
		}
		if err != nil {
			g.print("%d answered by API Gateway", apigateway.WriteError(w, err))
			return
		}
		w.Header().Set("Apigw-Requestid", event.RequestContext.RequestID)
		payload, err := json.Marshal(event)
		if err != nil {
			g.print("%d no event: %v", apigateway.WriteError(w, err), err)
			return
		}
		result, parts, err := g.invoke(ctx, payload)
		if ctx.Err() != nil {
			panic(http.ErrAbortHandler) // the server is closing
		}
		if err != nil {
			g.print("%d the function failed: %v", apigateway.WriteError(w, err), err)
			return
		}
		status := apigateway.WriteResponse(w, result.Payload)
		// The function's log line may be still under way. The client need not
		// wait for it.
		g.printing.Go(func() { g.report(status, result, parts) })
	})
}

// invoke returns the parts of a cold start, too, as text.
func (g *gateway) invoke(ctx context.Context, payload []byte) (result runtimeapitest.Result, parts string, err error) {
	g.serving.RLock()
	defer g.serving.RUnlock()
	result, err = g.function.Invoke(ctx, payload)
	if result.InitDuration > 0 {
		parts = g.function.started.tell()
	}
	return result, parts, err
}

// replace puts another function in the place of the present one, once that has
// answered what it has begun, and closes it.
func (g *gateway) replace(next *function) {
	g.serving.Lock()
	defer g.serving.Unlock()
	g.function.Close()
	g.function = next
}

// close closes the function.
func (g *gateway) close() {
	g.serving.Lock()
	defer g.serving.Unlock()
	g.function.Close()
}

// report prints the line for a request that the function answered. Its time is
// what a client of Lambda waits: a cold start comes on top of what the function
// took.
func (g *gateway) report(status int, result runtimeapitest.Result, parts string) {
	line, ok := g.log.line(result.RequestID)
	what := line.Code
	switch {
	case !ok:
		what = "(no log line)"
	case line.Code == "ok":
		what = "session started"
	}
	start := "warm"
	if result.InitDuration > 0 {
		start = fmt.Sprintf("cold start %.0f ms%s", ms(result.InitDuration), parts)
	}
	if line.IncodeMs > 0 {
		start = fmt.Sprintf("Incode %.0f ms, %s", line.IncodeMs, start)
	}
	g.print("%d %s  %.0f ms  (%s)", status, what, ms(result.Duration+result.InitDuration), start)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (g *gateway) print(format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fmt.Fprintf(g.out, format+"\n", args...)
}

// wait returns when the last line is printed.
func (g *gateway) wait() { g.printing.Wait() }

// logLine is what the gateway reads of the line that the function logs for each
// request.
type logLine struct {
	Message   string  `json:"message"`
	RequestID string  `json:"requestId"`
	Code      string  `json:"code"`     // "ok" or the code of the problem
	IncodeMs  float64 `json:"incodeMs"` // zero when Incode was not called
}

// functionLog takes what the function prints. It keeps the line of each request
// for the gateway and passes everything else on.
type functionLog struct {
	rest io.Writer // written to by each process

	mu    sync.Mutex // guards lines
	lines map[string]chan logLine
}

func newFunctionLog(rest io.Writer) *functionLog {
	return &functionLog{rest: rest, lines: map[string]chan logLine{}}
}

// line returns the log line of the request with this Lambda request ID, and
// forgets it. A line that does not come within a second never will.
func (l *functionLog) line(requestID string) (line logLine, ok bool) {
	select {
	case line = <-l.slot(requestID):
		ok = true
	case <-time.After(time.Second):
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.lines, requestID)
	return line, ok
}

// slot returns the place where the line of a request is handed over.
func (l *functionLog) slot(requestID string) chan logLine {
	l.mu.Lock()
	defer l.mu.Unlock()
	slot, ok := l.lines[requestID]
	if !ok {
		slot = make(chan logLine, 1)
		l.lines[requestID] = slot
	}
	return slot
}

// stdout returns the standard output of one process: while a new one starts, the
// old one may be printing still.
func (l *functionLog) stdout() io.Writer { return &processLog{log: l} }

type processLog struct {
	log     *functionLog
	partial []byte // of a line that has not ended yet
}

func (p *processLog) Write(b []byte) (int, error) {
	p.partial = append(p.partial, b...)
	for {
		text, rest, ok := bytes.Cut(p.partial, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		var line logLine
		if err := json.Unmarshal(text, &line); err != nil || line.Message != "request" {
			fmt.Fprintf(p.log.rest, "%s\n", text)
		} else {
			select {
			case p.log.slot(line.RequestID) <- line:
			default: // a second line for one request
			}
		}
		p.partial = rest
	}
}
