package incodetest

import (
	"io"
	"net"
	"net/http"
	"strings"
)

// FlowID is the configuration ID of the flow that starts a session.
const FlowID = "6245f1e0c8d4b2a39e7f1c05"

// Flow is a configuration ID that the stand-in knows.
type Flow struct {
	ID   string // 24 hex digits
	Does string // what Incode does, as a phrase
	// Status and Code are the response of our endpoint to its caller: the HTTP status and the code of the problem, which
	// is "" for a session.
	Status int
	Code   string

	serve serveFunc
}

// serveFunc responds to a well-formed, authorized call with the given fields.
type serveFunc func(s *Server, w http.ResponseWriter, r *http.Request, fields map[string]any)

const (
	zeros   = "00000000000000000000" // begin the ID of every flow that fails; the rest is a mnemonic
	invalid = "incode-invalid-response"
)

// Flows lists every flow of the stand-in: the one that works, and one for each way in which Incode, or a proxy in front
// of it, can fail. Incode responds to any other ID with the 400 for an unknown configuration.
var Flows = []Flow{
	{FlowID, "starts a session", 200, "", with(200, func(session) {})},
	{zeros + "0400", "400: Incode rejects the request", 502, "incode-rejected", fail(400, "Bad parameter")},
	{zeros + "0401", "401: Incode refuses the key", 502, "incode-unauthorized", fail(401, "Unauthorized")},
	{zeros + "0403", "403: Incode refuses the key", 502, "incode-unauthorized", fail(403, "API key is invalid")},
	{zeros + "f403", "403: a firewall in front of Incode", 502, "incode-forbidden", html(403, "<title>Forbidden</title>")},
	{zeros + "0429", "429 with Retry-After: 7", 503, "incode-throttled", fail(429, "Too many requests")},
	{zeros + "0500", "500: Incode fails", 502, "incode-failed", fail(500, "Unexpected error")},
	{zeros + "0504", "504: a gateway in front of Incode gives up", 504, "incode-timeout", fail(504, "Gateway timeout")},
	{zeros + "0201", "201 with a token", 502, invalid, with(201, func(session) {})},
	{zeros + "0204", "204 with no body", 502, invalid, html(204, "")},
	{zeros + "0302", "302 to another host", 502, invalid, redirect(302)},
	{zeros + "0307", "307 to another host, which gets the key if the client follows", 502, invalid, redirect(307)},
	{zeros + "bad0", "200 with HTML instead of JSON", 502, invalid, html(200, "<title>Down for maintenance</title>")},
	{zeros + "bad1", `200 with "token": null`, 502, invalid, with(200, func(s session) { s["token"] = nil })},
	{zeros + "bad2", "200 with an empty token", 502, invalid, with(200, func(s session) { s["token"] = "" })},
	{zeros + "bad3", "200 with LF in the token", 502, invalid, with(200, func(s session) { s["token"] = "a\nb" })},
	{zeros + "0b19", "200 with a response of more than 64 KiB", 502, invalid,
		with(200, func(s session) { s["endScreenText"] = strings.Repeat("x", 64<<10) })},
	{zeros + "0c07", "200, cut off in the middle of the body", 502, "outcome-unknown", cutOff},
	{zeros + "dead", "closes the connection without a response", 502, "outcome-unknown", hangUp},
	{zeros + "0408", "never responds", 504, "incode-timeout", hang},
}

// with starts a session and changes the response.
func with(status int, change func(session)) serveFunc {
	return func(s *Server, w http.ResponseWriter, _ *http.Request, fields map[string]any) {
		reply := s.newSession(fields)
		change(reply)
		writeJSON(w, status, reply)
	}
}

func fail(status int, message string) serveFunc {
	return func(_ *Server, w http.ResponseWriter, _ *http.Request, _ map[string]any) {
		if status == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "7")
		}
		writeError(w, status, status, message)
	}
}

func html(status int, body string) serveFunc {
	return func(_ *Server, w http.ResponseWriter, _ *http.Request, _ map[string]any) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// redirect points to this server by the name localhost, so that Requests counts the request of a client that follows.
func redirect(status int) serveFunc {
	return func(_ *Server, w http.ResponseWriter, r *http.Request, _ map[string]any) {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		_, port, _ := net.SplitHostPort(r.Host) // a stand-in has a port
		w.Header().Set("Location", scheme+"://localhost:"+port+path)
		w.WriteHeader(status)
	}
}

// cutOff creates a session and closes the connection before the end of the token.
func cutOff(s *Server, w http.ResponseWriter, _ *http.Request, fields map[string]any) {
	s.newSession(fields)
	w.Header().Set("Content-Length", "700")
	_, _ = io.WriteString(w, `{"token":"eyJhbGciOi`)
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// hangUp closes the connection after the request. The client cannot know whether it has started a session. Here it has
// not.
func hangUp(*Server, http.ResponseWriter, *http.Request, map[string]any) {
	panic(http.ErrAbortHandler)
}

// hang keeps the request until the client gives up or the server closes.
func hang(s *Server, _ http.ResponseWriter, r *http.Request, _ map[string]any) {
	s.wait(r.Context(), nil)
}
