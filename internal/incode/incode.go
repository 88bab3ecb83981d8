// Package incode calls Incode's Omni API.
package incode

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"omnistart/internal/apikey"
	"omnistart/internal/outbound"
)

// The bounds of a reply's body, and of what comes with it: header, interim replies
// and the framing of chunks. Those of Incode's published examples are about 1 KiB.
const (
	maxHeader = 64 << 10
	maxReply  = 64 << 10
)

// leastWait is less than we assume that Incode takes for any reply. A request
// sent with less time left would start a session for nobody.
const leastWait = 100 * time.Millisecond

var errTooLate = errors.New("too little time is left for a reply")

// tellsOfSession matches the body of an error that tells of a session, which is then no
// refusal, whatever its status says. The body may be broken or cut off. null and
// "" tell of none: taken for one, they would keep a new key from being tried.
var tellsOfSession = regexp.MustCompile(`"(token|interviewId)"\s*:\s*("[^"]|[^"n\s])`)

// StartRequest is the body of POST /omni/start. Incode publishes no limits for
// the fields; the caller validates them.
// https://developer.incode.com/docs/start-onboarding-session
type StartRequest struct {
	ConfigurationID    string            `json:"configurationId"`
	ExternalCustomerID string            `json:"externalCustomerId,omitempty"`
	CountryCode        string            `json:"countryCode,omitempty"`
	Language           string            `json:"language,omitempty"`
	RedirectionURL     string            `json:"redirectionUrl,omitempty"`
	CustomFields       map[string]string `json:"customFields,omitempty"`
}

// Format and LogValue keep the customer out of what is printed and logged.
func (StartRequest) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[start request]") }

// LogValue is for slog, which would marshal the request.
func (StartRequest) LogValue() slog.Value { return slog.StringValue("[start request]") }

// Session is a session that Incode has started.
type Session struct {
	// Token authorizes every later call for this session. Integrators report that
	// it lives about 90 days, and no way to revoke it is documented, so it is
	// neither logged nor kept.
	Token string `json:"-"`
	// InterviewID is Incode's name for the session, or "" when the reply has none.
	InterviewID string
}

// Format keeps the token out of every fmt verb. A String method would not do:
// %d prints a struct's fields.
func (s Session) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "[session %s]", s.InterviewID) }

// Client calls one Incode environment. Use [New]. It is safe for concurrent use.
type Client struct {
	url  string
	pool *pool
}

// New returns a client for a base URL, a scheme and a host.
func New(base *url.URL) *Client {
	return &Client{url: base.String() + "/omni/start", pool: newPool(base)}
}

// Connect opens a connection, TCP and TLS only, for the first Start to use. A
// request would be a better proof that Incode answers, but would cost another
// round trip. An error does no harm: Start connects for itself.
func (c *Client) Connect(ctx context.Context) error {
	conn, err := c.pool.open(ctx)
	if err != nil {
		return err
	}
	c.pool.put(conn)
	return nil
}

// Start starts a session. Every call that Incode accepts creates one, and there
// is no idempotency key, so Start sends the request once; only a connection
// that could not be opened is tried again, and then once. An error is an
// [*Error], which says whether a session may exist; the session beside it has
// no token, but the interview ID if the reply told one.
func (c *Client) Start(ctx context.Context, key apikey.Key, r StartRequest) (Session, error) {
	request, err := c.request(ctx, key, r)
	if err != nil {
		return Session{}, &Error{Outcome: NotSent, Err: err}
	}
	conn, err := c.pool.get(ctx)
	if err != nil && ctx.Err() == nil {
		conn, err = c.pool.get(ctx)
	}
	if err != nil {
		return Session{}, &Error{Outcome: NotSent, Err: err}
	}
	if deadline, ok := ctx.Deadline(); ctx.Err() != nil || ok && time.Until(deadline) < leastWait {
		c.pool.put(conn)
		return Session{}, &Error{Outcome: NotSent, Err: errTooLate}
	}
	reply, again, err := conn.roundTrip(ctx, request)
	if again {
		c.pool.put(conn)
	} else {
		conn.Close()
	}
	switch {
	case reply.status == http.StatusOK && err == nil:
		return decode(reply.body)
	case err != nil && (reply.status == 0 || reply.status == http.StatusOK):
		return Session{}, broken(err)
	}
	if tellsOfSession.Match(reply.body) {
		s, _ := decode(reply.body)
		return Session{InterviewID: s.InterviewID}, &Error{Outcome: InvalidReply, Status: reply.status}
	}
	return Session{}, refused(reply, time.Now())
}

// request returns the request as it goes over the wire.
func (c *Client) request(ctx context.Context, key apikey.Key, r StartRequest) ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("api-version", "1.0")
	req.Header.Set("x-api-key", key.Reveal())
	var wire bytes.Buffer
	err = req.Write(&wire)
	return wire.Bytes(), err
}

// decode reads the reply to an accepted request. Success is a usable token and
// nothing else: Incode calls its replies dynamic, so unknown fields, and known
// ones of another type, are fine.
func decode(reply []byte) (Session, error) {
	invalid := func(s Session, reason string) (Session, error) {
		s.Token = ""
		return s, &Error{Outcome: InvalidReply, Status: http.StatusOK, Err: errors.New(reason)}
	}
	if len(reply) > maxReply {
		return invalid(Session{}, "the reply is too long")
	}
	// A map, since a struct would take "Token" for "token".
	var fields map[string]json.RawMessage
	if json.Unmarshal(reply, &fields) != nil {
		return invalid(Session{}, "the reply is not a JSON object")
	}
	text := func(name string) (s string) {
		_ = json.Unmarshal(fields[name], &s) // what is no string leaves it empty
		return s
	}
	s := Session{Token: text("token"), InterviewID: text("interviewId")}
	if !isID(s.InterviewID) {
		s.InterviewID = ""
	}
	// The caller's SDK sends the token in a header. What else than visible ASCII
	// there is has been broken on the way.
	if s.Token == "" || strings.ContainsFunc(s.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return invalid(s, "the reply has no usable token")
	}
	return s, nil
}

// isID reports whether an interview ID is fit for a log line. Those of Incode's
// published examples are 24 characters.
func isID(s string) bool {
	return len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_'
	})
}

// An Outcome is how a call to Incode failed, as the log tells it.
type Outcome string

// The outcomes. Only after Unknown, TimedOut, Failed and InvalidReply may a
// session exist that nobody holds the token of.
const (
	// NotSent is proven: no byte was written.
	NotSent Outcome = "the request was not sent"
	// Unauthorized is a 401 or 403.
	Unauthorized Outcome = "Incode refused the API key"
	// Throttled is a 429.
	Throttled Outcome = "Incode throttled the request"
	// Rejected is any other 4xx, 408 apart.
	Rejected Outcome = "Incode rejected the request"
	// Failed is a 5xx other than 504.
	Failed Outcome = "Incode failed"
	// TimedOut is no full answer in time, or a 408 or 504.
	TimedOut Outcome = "Incode did not answer in time"
	// InvalidReply is a 200 without a usable token, another status below 400, or an
	// error that tells of a session.
	InvalidReply Outcome = "Incode's reply is invalid"
	// Unknown is what broke off after the request had begun to leave.
	Unknown Outcome = "the outcome is unknown"
)

// Error is a failed call to Incode. It holds nothing of the reply's body.
type Error struct {
	Outcome Outcome
	// Status is Incode's HTTP status, or 0 without an answer.
	Status int
	// RetryAfter is what Incode asks for with a 429, or 0.
	RetryAfter time.Duration
	// Err is the cause, or nil. Its text names hosts and addresses, which belong
	// in a log and not in an answer, and holds nothing of what Incode has sent.
	Err error
}

func (e *Error) Error() string {
	s := string(e.Outcome)
	if e.Status != 0 {
		s = fmt.Sprintf("%s (HTTP %d)", s, e.Status)
	}
	if e.Err != nil {
		s = fmt.Sprintf("%s: %v", s, e.Err)
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// broken makes the error of a request that was sent and not fully answered.
func broken(err error) *Error {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return &Error{Outcome: TimedOut, Err: err}
	}
	return &Error{Outcome: Unknown, Err: outbound.Redact(err)}
}

// refused makes the error of an answer other than 200. Only the HTTP status
// counts: the one in Incode's error bodies may be a code of its own.
func refused(r reply, now time.Time) *Error {
	e := &Error{Status: r.status}
	switch code := r.status; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		e.Outcome = Unauthorized
	case code == http.StatusTooManyRequests:
		e.Outcome = Throttled
		e.RetryAfter = retryAfter(r.header.Get("Retry-After"), now)
	// Proxies send a 408, too, when what is behind them does not answer in time.
	case code == http.StatusRequestTimeout || code == http.StatusGatewayTimeout:
		e.Outcome = TimedOut
	case code >= 400 && code < 500:
		e.Outcome = Rejected
	case code >= 500:
		e.Outcome = Failed
	default:
		e.Outcome = InvalidReply
	}
	return e
}

// retryAfter reads a Retry-After header: seconds or a date (RFC 9110, 10.2.3).
func retryAfter(v string, now time.Time) time.Duration {
	if strings.Trim(v, "0123456789") == "" {
		s, _ := strconv.ParseUint(v, 10, 32) // the greatest value if out of range
		return time.Duration(s) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return t.Sub(now)
	}
	return 0
}
