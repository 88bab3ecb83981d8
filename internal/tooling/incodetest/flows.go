package incodetest

import (
	"io"
	"net"
	"net/http"
	"strings"
)

// FlowID is the configuration ID of the flow that works.
const FlowID = "6245f1e0c8d4b2a39e7f1c05"

// Flow is a configuration ID that the stand-in knows.
type Flow struct {
	ID   string // 24 hex digits
	Does string // what a call with this ID leads to, as a phrase

	serve serveFunc
}

// serveFunc answers a well-formed, authorized call with the given fields.
type serveFunc func(s *Server, w http.ResponseWriter, r *http.Request, fields map[string]any)

// zeros fills up the mnemonic at the end of a misbehaving flow's ID.
const zeros = "00000000000000000000"

// Flows lists every flow of the stand-in: the one that works, and one for each
// way in which Incode, or what lies between, can fail. Any other ID is answered
// with Incode's 400 for an unknown configuration.
var Flows = []Flow{
	{FlowID, "starts a session", (*Server).succeed},
	{zeros + "0400", "400: Incode rejects the request", fail(http.StatusBadRequest, "Bad parameter")},
	{zeros + "0401", "401: Incode refuses the key", fail(http.StatusUnauthorized, "Unauthorized")},
	{zeros + "0403", "403: Incode refuses the key", fail(http.StatusForbidden, "API key is missing or invalid")},
	{zeros + "0429", "429 with Retry-After: 7", throttle},
	{zeros + "0500", "500: Incode fails", fail(http.StatusInternalServerError, "Unexpected error")},
	{zeros + "0504", "504: a gateway in front of Incode gives up", fail(http.StatusGatewayTimeout, "Gateway timeout")},
	{zeros + "0201", "201 with a token", with(http.StatusCreated, func(*session) {})},
	{zeros + "0204", "204 with no body", noContent},
	{zeros + "0302", "302 to another host", redirect(http.StatusFound)},
	{zeros + "0307", "307 to another host: a client that follows sends key and body there", redirect(http.StatusTemporaryRedirect)},
	{zeros + "bad0", "200 with HTML instead of JSON", garbage},
	{zeros + "bad1", `200 with "token": null`, with(http.StatusOK, func(r *session) { r.Token = nil })},
	{zeros + "bad2", "200 with an empty token", with(http.StatusOK, func(r *session) { r.Token = "" })},
	{zeros + "bad3", "200 with a line feed in the token", with(http.StatusOK, func(r *session) { r.Token = "a\nb" })},
	{zeros + "0b19", "200 with a reply of more than 64 KiB", with(http.StatusOK, func(r *session) { r.EndScreenText = strings.Repeat("x", 64<<10) })},
	{zeros + "0c07", "200, cut off in the middle of the reply", cutOff},
	{zeros + "dead", "closes the connection without an answer", hangUp},
	{zeros + "0408", "never answers", (*Server).hang},
}

func (s *Server) succeed(w http.ResponseWriter, _ *http.Request, fields map[string]any) {
	writeJSON(w, http.StatusOK, s.newSession(fields))
}

// with starts a session and answers with a reply that is spoiled in one way.
func with(status int, spoil func(*session)) serveFunc {
	return func(s *Server, w http.ResponseWriter, _ *http.Request, fields map[string]any) {
		reply := s.newSession(fields)
		spoil(&reply)
		writeJSON(w, status, reply)
	}
}

func fail(status int, message string) serveFunc {
	return func(_ *Server, w http.ResponseWriter, _ *http.Request, _ map[string]any) {
		writeError(w, status, status, message)
	}
}

func throttle(_ *Server, w http.ResponseWriter, _ *http.Request, _ map[string]any) {
	w.Header().Set("Retry-After", "7")
	writeError(w, http.StatusTooManyRequests, http.StatusTooManyRequests, "Too many requests")
}

func noContent(_ *Server, w http.ResponseWriter, _ *http.Request, _ map[string]any) {
	w.WriteHeader(http.StatusNoContent)
}

// redirect points at this same server under another name of the loopback
// interface, so that a client that follows shows up in Requests.
func redirect(status int) serveFunc {
	return func(_ *Server, w http.ResponseWriter, r *http.Request, _ map[string]any) {
		scheme := "http://"
		if r.TLS != nil {
			scheme = "https://"
		}
		other := "localhost"
		host, port, err := net.SplitHostPort(r.Host)
		if err != nil {
			host, port = r.Host, "80"
		}
		if host == other {
			other = "127.0.0.1"
		}
		w.Header().Set("Location", scheme+net.JoinHostPort(other, port)+path)
		w.WriteHeader(status)
	}
}

func garbage(_ *Server, w http.ResponseWriter, _ *http.Request, _ map[string]any) {
	w.Header().Set("Content-Type", "text/html")
	_, _ = io.WriteString(w, "<!doctype html><title>Down for maintenance</title>\n")
}

// cutOff creates a session whose token gets lost: it announces more than it
// sends.
func cutOff(s *Server, w http.ResponseWriter, _ *http.Request, fields map[string]any) {
	s.newSession(fields)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", "700")
	_, _ = io.WriteString(w, `{"token":"eyJhbGciOi`)
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// hangUp has read the whole request: whether a session was created, no client
// can know. Here, none was.
func hangUp(*Server, http.ResponseWriter, *http.Request, map[string]any) {
	panic(http.ErrAbortHandler) // net/http closes the connection and logs nothing
}

// hang holds the request until the client gives up or the server closes.
func (s *Server) hang(_ http.ResponseWriter, r *http.Request, _ map[string]any) {
	s.wait(r.Context(), nil)
}
