//go:build unix

package runtimeapitest

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
)

// maxAnswer is Lambda's limit for what a function returns.
const maxAnswer = 6 << 20

// functionARN is what the function is told its name is: account and region are
// those of AWS's documentation.
const functionARN = "arn:aws:lambda:us-east-1:123456789012:function:start"

// routes is the Runtime API as AWS documents it under "Using the Lambda runtime
// API".
func (e *environment) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", e.next)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", e.response)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", e.error)
	mux.HandleFunc("POST /2018-06-01/runtime/init/error", e.initError)
	return mux
}

// next holds the process until there is an event for it.
func (e *environment) next(w http.ResponseWriter, r *http.Request) {
	for {
		p := make(chan *invocation, 1)
		select {
		case e.pollers <- p:
		case <-r.Context().Done():
			return
		}
		inv, ok := <-p
		if !ok {
			continue
		}
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
		h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(inv.deadline.UnixMilli(), 10))
		h.Set("Lambda-Runtime-Invoked-Function-Arn", functionARN)
		h.Set("Content-Length", strconv.Itoa(len(inv.payload)))
		_, _ = w.Write(inv.payload) // fails only when the process has ended, which invoke sees
		_ = http.NewResponseController(w).Flush()
		close(inv.delivered)
		return
	}
}

func (e *environment) response(w http.ResponseWriter, r *http.Request) {
	payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAnswer))
	if err != nil {
		e.answer(w, r, http.StatusRequestEntityTooLarge, answer{
			err: &FunctionError{"Function.ResponseSizeTooLarge", "Response payload size exceeded maximum allowed payload size (6291556 bytes)."},
		})
		return
	}
	e.answer(w, r, http.StatusAccepted, answer{payload: payload})
}

func (e *environment) error(w http.ResponseWriter, r *http.Request) {
	errorType, message := readError(w, r)
	e.answer(w, r, http.StatusAccepted, answer{err: &FunctionError{errorType, message}})
}

func (e *environment) initError(w http.ResponseWriter, r *http.Request) {
	errorType, message := readError(w, r)
	select {
	case e.initFailed <- InitError{Type: errorType, Message: message}:
		reply(w, http.StatusAccepted, `{"status":"OK"}`)
	default:
		reply(w, http.StatusForbidden, `{"errorType":"InvalidStateTransition","errorMessage":"init has failed before"}`)
	}
}

// answer completes an invocation, once.
func (e *environment) answer(w http.ResponseWriter, r *http.Request, status int, a answer) {
	e.mu.Lock()
	inv, ok := e.inFlight[r.PathValue("id")]
	delete(e.inFlight, r.PathValue("id"))
	e.mu.Unlock()
	if !ok {
		reply(w, http.StatusBadRequest, `{"errorType":"InvalidRequestID","errorMessage":"Invalid request ID"}`)
		return
	}
	inv.answer <- a
	reply(w, status, `{"status":"OK"}`)
}

// readError returns the type and message of an error document, or of what comes
// closest to them.
func readError(w http.ResponseWriter, r *http.Request) (errorType, message string) {
	body, _ := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAnswer))
	var document struct{ ErrorType, ErrorMessage string }
	if err := json.Unmarshal(body, &document); err != nil {
		document.ErrorMessage = string(body)
	}
	if document.ErrorType == "" {
		document.ErrorType = r.Header.Get("Lambda-Runtime-Function-Error-Type")
	}
	return document.ErrorType, document.ErrorMessage
}

func reply(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}
