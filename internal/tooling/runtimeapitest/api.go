//go:build unix

package runtimeapitest

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// functionARN has the region and the account of AWS's documentation.
const functionARN = "arn:aws:lambda:us-east-1:123456789012:function:start"

// routes is the Runtime API as AWS documents it under "Using the Lambda runtime API for custom runtimes", without the
// report of a failed init: a function that cannot start logs the reason and exits.
func (e *environment) routes() http.Handler {
	const prefix = "/2018-06-01/runtime/invocation/"
	mux := http.NewServeMux()
	ready := sync.OnceFunc(func() { close(e.ready) })
	mux.HandleFunc("GET "+prefix+"next", func(w http.ResponseWriter, r *http.Request) {
		ready()
		for {
			select {
			case inv := <-e.events:
				if inv != nil {
					e.deliver(w, inv)
					return
				}
			case <-r.Context().Done():
				return
			}
		}
	})
	mux.HandleFunc("POST "+prefix+"{id}/response", func(w http.ResponseWriter, r *http.Request) {
		payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 6<<20)) // Lambda's limit
		if err != nil {
			err = &FunctionError{"Function.ResponseSizeTooLarge", err.Error()}
		}
		e.complete(w, r.PathValue("id"), outcome{payload, err})
	})
	mux.HandleFunc("POST "+prefix+"{id}/error", func(w http.ResponseWriter, r *http.Request) {
		var document struct{ ErrorType, ErrorMessage string }
		_ = json.NewDecoder(r.Body).Decode(&document) // what aws-lambda-go sends
		e.complete(w, r.PathValue("id"), outcome{err: &FunctionError{document.ErrorType, document.ErrorMessage}})
	})
	return mux
}

func (e *environment) deliver(w http.ResponseWriter, inv *invocation) {
	defer close(inv.delivered)
	inv.deadline = time.Now().Add(e.config.Timeout)
	e.mu.Lock()
	e.inFlight[inv.id] = inv
	e.mu.Unlock()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
	h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(inv.deadline.UnixMilli(), 10))
	h.Set("Lambda-Runtime-Invoked-Function-Arn", functionARN)
	h.Set("Content-Length", strconv.Itoa(len(inv.payload)))
	_, _ = w.Write(inv.payload) // fails only if the process has ended, which invoke notices
	_ = http.NewResponseController(w).Flush()
}

// complete ends an invocation. Each invocation ends once.
func (e *environment) complete(w http.ResponseWriter, id string, o outcome) {
	e.mu.Lock()
	inv, ok := e.inFlight[id]
	delete(e.inFlight, id)
	e.mu.Unlock()
	if !ok {
		http.Error(w, `{"errorType":"InvalidRequestID","errorMessage":"Invalid request ID"}`, http.StatusBadRequest)
		return
	}
	inv.outcome <- o
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"status":"OK"}`)
}
