// Package incode calls Incode's Omni API.
package incode

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"omnistart/internal/apikey"
	"omnistart/internal/network"
	"omnistart/internal/problem"
)

// minWait is the least time in which we expect a response of Incode. A request sent with less time left would start a
// session that nobody receives.
const minWait = 100 * time.Millisecond

// Session is what Incode's response says. It is also valid when Start returns an error: Token is then empty, and the
// other fields hold what is known.
type Session struct {
	// Token authorizes every later call for this session. It lives 90 days by default and cannot be revoked, so it is
	// neither logged nor kept.
	Token string `json:"-"`
	// InterviewID is Incode's ID of the session, or "" when the response has none that may be logged.
	InterviewID string
	// Status is the HTTP status of the response, or 0 without a response. It is also 0 when a response with status 200 is
	// incomplete.
	Status int
	// RetryAfter is the time in the Retry-After header of an error. It is 0 or negative without one.
	RetryAfter time.Duration
	// ConnectTime is the time until there was a connection, or until Start gave up. It is nearly 0 for an idle connection.
	ConnectTime time.Duration
}

// Format hides the token from every verb of fmt, unless the Session is in an unexported field. A String method was
// rejected: %d prints the fields of a struct.
func (s Session) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "[session %s]", s.InterviewID) }

// Client calls one Incode environment. Use [New]. It is safe for concurrent use.
type Client struct {
	base *url.URL
	idle chan *conn
	// timedOut is when a request last got no response in time, in nanoseconds since 1970. Connections opened before may
	// have been cut without a FIN or RST, so none of them is used again.
	timedOut atomic.Int64
}

// New returns a client for a base URL, which is a scheme and a host.
func New(base *url.URL) *Client {
	// 1,000 is Lambda's default limit of concurrent executions. A smaller pool would close connections that later requests
	// then have to open again.
	return &Client{base: base, idle: make(chan *conn, 1000)}
}

// Connect opens a connection, which the next Start uses. It sends no request, which would cost another round trip.
// After an error, Start opens the connection itself.
func (c *Client) Connect(ctx context.Context) error {
	conn, err := open(ctx, c.base)
	if err == nil {
		c.put(conn)
	}
	return err
}

// Start starts a session with the fields of the request body, which the caller has validated; Incode publishes no
// limits for them. ctx must have a deadline.
//
// Every request that Incode accepts starts a session, and there is no idempotency key. So Start sends the request at
// most once. If it cannot open a connection, it tries again, once.
//
// An error wraps a [problem.Problem] and quotes nothing of the response body.
// https://developer.incode.com/docs/start-onboarding-session
func (c *Client) Start(ctx context.Context, key apikey.Key, fields map[string]any) (s Session, err error) {
	body, _ := json.Marshal(fields) // cannot fail: the fields come from JSON
	began := time.Now()
	conn, err := c.get(ctx)
	if err != nil && ctx.Err() == nil {
		conn, err = c.get(ctx)
	}
	s.ConnectTime = time.Since(began)
	if err != nil {
		return s, fmt.Errorf("%w: %w", problem.IncodeUnavailable, err)
	}
	defer c.put(conn)
	if deadline, _ := ctx.Deadline(); time.Until(deadline) < minWait {
		return s, fmt.Errorf("%w: too little time is left for a response", problem.IncodeUnavailable)
	}
	// Neither the host nor the key contains a line break: packages config and apikey have checked them.
	r, content, err := conn.roundTrip(ctx, fmt.Appendf(nil, "POST /omni/start HTTP/1.1\r\nHost: %s\r\n"+
		"Accept: application/json\r\nAccept-Encoding: identity\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\napi-version: 1.0\r\nx-api-key: %s\r\n\r\n%s", c.base.Host, len(body), key.Reveal(), body))
	if r == nil && errors.Is(err, os.ErrDeadlineExceeded) {
		c.timedOut.Store(time.Now().UnixNano())
	}
	return result(s, r, content, err)
}

// get returns a healthy idle connection, or opens one. The caller owns it until put.
func (c *Client) get(ctx context.Context) (*conn, error) {
	select {
	case conn := <-c.idle:
		if conn.opened.UnixNano() > c.timedOut.Load() && conn.healthy() {
			return conn, nil
		}
		conn.Close()
		return c.get(ctx)
	default:
		return open(ctx, c.base)
	}
}

// put makes a reusable connection idle, and closes any other.
func (c *Client) put(conn *conn) {
	if conn.reusable {
		select {
		case c.idle <- conn:
			return
		default: // the pool is full
		}
	}
	conn.Close()
}

var (
	byStatus = map[int]*problem.Problem{
		401: problem.IncodeUnauthorized, 403: problem.IncodeUnauthorized, 429: problem.IncodeThrottled,
		// Proxies also send 408 when the server behind them does not respond in time.
		408: problem.IncodeTimeout, 504: problem.IncodeTimeout,
	}
	byClass = map[int]*problem.Problem{4: problem.IncodeRejected, 5: problem.IncodeFailed}
)

// result adds to s what the response says to a request that was sent, in whole or in part. r is nil without a response.
// err is the reason why there is none, or why the body is incomplete. Only the HTTP status counts: the one in the body
// may be a code of Incode's own.
func result(s Session, r *http.Response, body []byte, err error) (Session, error) {
	switch {
	case r != nil && r.StatusCode != http.StatusOK: // a refusal, even when its body is incomplete
	case err == nil:
		return decode(s, body)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return s, fmt.Errorf("%w: %w", problem.IncodeTimeout, err)
	default:
		return s, fmt.Errorf("%w: %w", problem.OutcomeUnknown, network.Redact(err))
	}
	s.Status, s.RetryAfter = r.StatusCode, retryAfter(r.Header.Get("Retry-After"))
	p := cmp.Or(byStatus[r.StatusCode], byClass[r.StatusCode/100], problem.IncodeInvalidResponse)
	// Incode answers with a JSON object. A 403 of another form is a firewall's, and says nothing about the key.
	var object map[string]any
	if _ = json.Unmarshal(body, &object); r.StatusCode == http.StatusForbidden && object == nil {
		p = problem.IncodeForbidden
	}
	if containsSession.Match(body) {
		found, _ := decode(s, body)
		s.InterviewID, p = found.InterviewID, problem.IncodeInvalidResponse
	}
	return s, fmt.Errorf("%w: HTTP %d", p, r.StatusCode)
}

// containsSession matches the body of an error response that contains a session. Such a response is no refusal,
// whatever its status says. The body may be broken or cut off. The values null and "" do not count: a refusal may have
// them, and a newer key must be tried after it.
var containsSession = regexp.MustCompile(`"(token|interviewId)"\s*:\s*("[^"]|[^"n\s])`)

// interviewID matches what may be logged. The IDs of Incode's published examples have 24 characters.
var interviewID = regexp.MustCompile(`^[0-9A-Za-z_-]+$`)

// decode adds to s what the body of a response with status 200 says. A usable token is success, and nothing else is:
// Incode calls its responses dynamic, so other members may be missing, new, or of another type.
func decode(s Session, body []byte) (Session, error) {
	s.Status = http.StatusOK
	var members map[string]any         // not a struct, because that would also take "Token" for "token"
	_ = json.Unmarshal(body, &members) // leaves the map nil unless the body is a JSON object
	if id, _ := members["interviewId"].(string); len(id) <= 64 && interviewID.MatchString(id) {
		s.InterviewID = id
	}
	token, _ := members["token"].(string)
	reason := "the response has no usable token"
	switch {
	case len(body) > maxBody:
		reason = "the response is too long"
	case members == nil:
		reason = "the response is not a JSON object"
	// The caller's SDK sends the token in a header, so a token that is not visible ASCII was damaged on the way.
	case token != "" && !strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		s.Token = token
		return s, nil
	}
	return s, fmt.Errorf("%w: %s", problem.IncodeInvalidResponse, reason)
}

// retryAfter reads a Retry-After header, which holds seconds or a date (RFC 9110, section 10.2.3). The result is
// negative when there is neither.
func retryAfter(value string) time.Duration {
	if value != "" && strings.Trim(value, "0123456789") == "" {
		seconds, _ := strconv.ParseUint(value, 10, 32) // the greatest number if the value is out of range
		return time.Duration(seconds) * time.Second
	}
	date, _ := http.ParseTime(value) // the year 1 if it is no date
	return time.Until(date)
}
