// Package incodetest is a stand-in for Incode: a real HTTP server for POST /omni/start that enforces what Incode
// enforces, responds as Incode does, and fails on request.
package incodetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Key is the API key that a new Server accepts. It has the form of a real one and opens nothing.
const Key = "fa4efa4efa4efa4efa4efa4efa4efa4efa4efa4e"

// path is the only path of the stand-in. Incode's errors repeat it.
const path = "/omni/start"

// Server is the stand-in. Create it with New and hand it to net/http or net/http/httptest. All methods are safe for
// concurrent use.
type Server struct {
	Latency time.Duration // of every well-formed call; set it before the first request
	AnyFlow bool          // flows that are not in Flows start a session, too; likewise

	closing            context.Context
	close              context.CancelFunc
	requests, sessions atomic.Int64

	mu         sync.Mutex // guards the fields below
	keys       []string
	byCustomer map[string][]int // the numbers of a customer's sessions
	last       Request
}

// Request is one request as it arrived, valid or not.
type Request struct {
	Proto  string // such as HTTP/1.1
	Header http.Header
	Fields map[string]any // the decoded JSON body; nil when it was not a JSON object
}

// New returns a server that accepts Key.
func New() *Server {
	s := &Server{keys: []string{Key}, byCustomer: map[string][]int{}}
	s.closing, s.close = context.WithCancel(context.Background())
	return s
}

// Close ends every request that waits for a response. Call it before closing the HTTP server, which waits for its
// requests.
func (s *Server) Close() { s.close() }

// SetKey replaces the accepted keys, from the next request on.
func (s *Server) SetKey(key string, also ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append([]string{key}, also...)
}

// Requests returns how many requests have arrived, valid or not.
func (s *Server) Requests() int { return int(s.requests.Load()) }

// Sessions returns how many sessions were created, including those whose token never reached the caller: Incode would
// count and bill them all.
func (s *Server) Sessions() int { return int(s.sessions.Load()) }

// SessionsOf returns the tokens of the sessions that were created for an externalCustomerId, including those that never
// reached the caller.
func (s *Server) SessionsOf(customer string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var tokens []string
	for _, n := range s.byCustomer[customer] {
		tokens = append(tokens, token(interviewID(n)))
	}
	return tokens
}

// Last returns the latest request, or the zero Request before the first. The caller must not change its maps.
func (s *Server) Last() Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// ServeHTTP responds as Incode does. Of several faults in a request it reports the first in this order: gateway, path,
// method, headers, key, body, flow.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, readErr := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	var fields map[string]any
	jsonErr := json.Unmarshal(body, &fields)
	s.requests.Add(1)
	s.mu.Lock()
	s.last = Request{Proto: r.Proto, Header: r.Header.Clone(), Fields: fields}
	keys := s.keys
	s.mu.Unlock()

	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case strings.HasPrefix(r.URL.Path, "//"):
		// The gateway in front of Incode responds, in another format.
		writeJSON(w, http.StatusNotFound, map[string]string{"message": "no Route matched with those values"})
	case r.URL.Path != path:
		writeError(w, http.StatusNotFound, http.StatusNotFound, "No handler found")
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		writeError(w, http.StatusMethodNotAllowed, http.StatusMethodNotAllowed, "Request method is not supported")
	case mediaType != "application/json":
		writeError(w, http.StatusUnsupportedMediaType, http.StatusUnsupportedMediaType, "Content type is not supported")
	case r.Header.Get("Api-Version") != "1.0":
		writeError(w, http.StatusBadRequest, http.StatusBadRequest, "Header api-version must be 1.0")
	case !slices.Contains(keys, r.Header.Get("X-Api-Key")):
		writeError(w, http.StatusForbidden, http.StatusForbidden, "API key is missing or invalid")
	case readErr != nil || jsonErr != nil || fields == nil:
		writeError(w, http.StatusBadRequest, http.StatusBadRequest, "Malformed JSON request")
	case checkFields(fields) != nil:
		writeError(w, http.StatusBadRequest, http.StatusBadRequest, checkFields(fields).Error())
	default:
		s.start(w, r, fields)
	}
}

// start responds to a well-formed, authorized call.
func (s *Server) start(w http.ResponseWriter, r *http.Request, fields map[string]any) {
	s.wait(r.Context(), time.After(s.Latency))
	for _, f := range Flows {
		if f.ID == fields["configurationId"] {
			f.serve(s, w, r, fields)
			return
		}
	}
	if s.AnyFlow {
		writeJSON(w, http.StatusOK, s.newSession(fields))
		return
	}
	// The status in the body may be a code of Incode's own.
	writeError(w, http.StatusBadRequest, 4009, "Configuration does not exist")
}

// wait returns when done is ready. If the client leaves or the server closes before, it closes the connection instead.
func (s *Server) wait(ctx context.Context, done <-chan time.Time) {
	select {
	case <-done:
		return
	case <-ctx.Done():
	case <-s.closing.Done():
	}
	panic(http.ErrAbortHandler) // a return would send an empty 200
}

// textFields are the fields of the documented request that are strings.
var textFields = []string{
	"configurationId", "externalCustomerId", "externalId", "countryCode", "language", "redirectionUrl", "interviewId",
	"uuid",
}

// checkFields refuses whatever the documented request does not have. Incode itself may be more lenient, but a lenient
// stand-in would hide a misspelled field.
func checkFields(fields map[string]any) error {
	custom, hasCustom := fields["customFields"].(map[string]any)
	for name, value := range fields {
		_, isText := value.(string)
		known := isText && slices.Contains(textFields, name) || hasCustom && name == "customFields"
		if !known {
			return fmt.Errorf("%s is unknown, or of another type", name)
		}
	}
	for _, value := range custom {
		switch value.(type) {
		case string, bool, float64:
		default:
			return errors.New("customFields must contain strings, booleans and numbers")
		}
	}
	if fields["configurationId"] == nil {
		return errors.New("configurationId is required")
	}
	return nil
}

// writeError responds in the format of Incode's errors. code is the status in the body, which may differ from the HTTP
// status.
func writeError(w http.ResponseWriter, status, code int, message string) {
	writeJSON(w, status, map[string]any{
		"timestamp": time.Now().UnixMilli(),
		"status":    code,
		"error":     http.StatusText(status),
		"message":   message,
		"path":      path,
	})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // fails only when the client has left
}
