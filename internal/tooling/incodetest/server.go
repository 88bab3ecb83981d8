// Package incodetest is a stand-in for Incode: a real HTTP server for POST
// /omni/start that enforces what Incode enforces, answers as Incode answers,
// and misbehaves on request.
package incodetest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Key is the API key that a new Server accepts. It has the form of a real one
// and opens nothing.
const Key = "fa4efa4efa4efa4efa4efa4efa4efa4efa4efa4e"

// path is the one path that exists here, and what Incode repeats in its errors.
const path = "/omni/start"

// maxBody bounds what is read of a request, and with it what Last keeps.
const maxBody = 1 << 20

// Server is the stand-in. Create it with New and hand it to net/http or
// net/http/httptest. All methods are safe for concurrent use.
type Server struct {
	// Latency is how long Incode thinks before it answers a well-formed call.
	// Set it before the first request.
	Latency time.Duration

	closing context.Context
	close   context.CancelFunc

	mu       sync.Mutex // guards everything below
	keys     []string
	requests int
	sessions int
	byName   map[string][]int // the numbers of a customer's sessions
	last     Request
}

// Request is one request as it arrived, right or wrong.
type Request struct {
	Method string
	Path   string
	Proto  string // such as HTTP/1.1
	Header http.Header
	Fields map[string]any // the decoded JSON body; nil when it was not a JSON object
}

// New returns a server that accepts Key.
func New() *Server {
	s := &Server{keys: []string{Key}, byName: map[string][]int{}}
	s.closing, s.close = context.WithCancel(context.Background())
	return s
}

// Close lets go of every request that hangs. Call it before closing the HTTP
// server, which waits for them.
func (s *Server) Close() { s.close() }

// SetKey makes key, and also those beside it, the only ones that are accepted,
// from the next request on, as a rotation at Incode does.
func (s *Server) SetKey(key string, also ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append([]string{key}, also...)
}

// Requests returns how many requests have arrived, whatever became of them.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// Sessions returns how many sessions were created: each one would count in the
// integrator's dashboard at Incode, also when its token never reached the
// caller.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

// SessionsOf returns the tokens of the sessions that were created for a customer,
// by externalCustomerId: also of those whose token never reached the caller.
func (s *Server) SessionsOf(customer string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var tokens []string
	for _, n := range s.byName[customer] {
		tokens = append(tokens, token(interviewID(n)))
	}
	return tokens
}

// Last returns the latest request, the zero Request before the first. The
// caller must not change its maps.
func (s *Server) Last() Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// ServeHTTP answers as Incode does. Of two faults in one request the one that
// Incode's layers meet first is reported: gateway, path, method, headers, key,
// body, flow.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, readErr := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var fields map[string]any
	jsonErr := json.Unmarshal(body, &fields)
	keys := s.record(Request{Method: r.Method, Path: r.URL.Path, Proto: r.Proto, Header: r.Header.Clone(), Fields: fields})

	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case strings.HasPrefix(r.URL.Path, "//"):
		// The gateway in front of Incode answers these, in its own words.
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
	default:
		if err := checkFields(fields); err != nil {
			writeError(w, http.StatusBadRequest, http.StatusBadRequest, err.Error())
			return
		}
		s.start(w, r, fields)
	}
}

// record keeps the request for Last and returns the keys of which it must carry
// one.
func (s *Server) record(r Request) (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	s.last = r
	return s.keys
}

// start answers a well-formed, authorized call as the flow wants it.
func (s *Server) start(w http.ResponseWriter, r *http.Request, fields map[string]any) {
	s.wait(r.Context(), time.After(s.Latency))
	for _, f := range Flows {
		if f.ID == fields["configurationId"] {
			f.serve(s, w, r, fields)
			return
		}
	}
	// Incode's own codes appear in the body's status: only the HTTP status
	// counts.
	writeError(w, http.StatusBadRequest, 4009, "Configuration does not exist")
}

// wait returns at done. When the client leaves or the server closes before, it
// drops the connection instead.
func (s *Server) wait(ctx context.Context, done <-chan time.Time) {
	select {
	case <-done:
	case <-ctx.Done():
		panic(http.ErrAbortHandler)
	case <-s.closing.Done():
		panic(http.ErrAbortHandler) // a plain return would send an empty 200
	}
}

// checkFields refuses whatever the documented request does not have. Incode
// itself may be more lenient; a stand-in that is would hide a misspelled field.
func checkFields(fields map[string]any) error {
	if _, ok := fields["configurationId"]; !ok {
		return fmt.Errorf("configurationId is required")
	}
	for name, value := range fields {
		switch name {
		case "configurationId", "externalCustomerId", "externalId", "countryCode", "language", "redirectionUrl",
			"interviewId", "uuid":
			if _, ok := value.(string); !ok {
				return fmt.Errorf("%s must be a string", name)
			}
		case "customFields":
			custom, ok := value.(map[string]any)
			if !ok {
				return fmt.Errorf("customFields must be an object")
			}
			for _, v := range custom {
				if _, ok := v.(string); !ok {
					return fmt.Errorf("customFields must hold strings")
				}
			}
		default:
			return fmt.Errorf("unknown field %q", name)
		}
	}
	return nil
}

// writeError answers in the shape of Incode's errors. code is the status inside
// the body, which may differ from the HTTP status.
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
