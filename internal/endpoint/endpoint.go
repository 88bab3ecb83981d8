// Package endpoint is the product's HTTP contract: it turns an API Gateway HTTP
// API event into a call to Incode, and the outcome into an answer.
package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"omnistart/internal/apikey"
	"omnistart/internal/config"
	"omnistart/internal/incode"
)

// answerReserve is the part of Lambda's deadline that is kept for writing the
// answer and the log line.
const answerReserve = 500 * time.Millisecond

// KeyStore holds the API key; see [apikey.Store] for the contract.
type KeyStore interface {
	Get(context.Context) (apikey.Key, error)
	Refresh(ctx context.Context, refused apikey.Key) (apikey.Key, error)
}

// SessionStarter starts a session; see [incode.Client] for the contract.
type SessionStarter interface {
	Start(context.Context, apikey.Key, incode.StartRequest) (incode.Session, error)
}

// Endpoint answers requests. Use [New]. It is safe for concurrent use.
type Endpoint struct {
	config   config.Config
	keys     KeyStore
	sessions SessionStarter
	log      *slog.Logger
	warm     atomic.Bool // set by the first request
}

// New returns an endpoint.
func New(c config.Config, keys KeyStore, sessions SessionStarter, log *slog.Logger) *Endpoint {
	return &Endpoint{config: c, keys: keys, sessions: sessions, log: log}
}

// Invoke answers one API Gateway HTTP API event, payload format 2.0. It never
// returns an error and never panics: every fault is an answer. It is a
// lambda.Handler, not a function of typed events, since aws-lambda-go logs what
// it cannot decode, a customer's ID among it.
func (e *Endpoint) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	began := time.Now()
	x := exchange{cold: !e.warm.Swap(true)}
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		x.requestID = lc.AwsRequestID
	}
	resp := e.answer(ctx, payload, &x)
	out, err := json.Marshal(resp)
	x.duration = time.Since(began)
	e.logExchange(ctx, resp.StatusCode, &x)
	return out, err
}

// exchange is what is logged about one request.
type exchange struct {
	requestID    string // Lambda's
	apiRequestID string // API Gateway's
	cold         bool
	duration     time.Duration
	secret       time.Duration // spent waiting for the key
	incode       time.Duration // spent waiting for Incode, or 0 when not called
	refreshed    bool          // whether a newer key was found after a refusal
	interviewID  string
	err          error
}

func (e *Endpoint) answer(ctx context.Context, payload []byte, x *exchange) (resp response) {
	defer func() {
		if v := recover(); v != nil {
			x.err = panicked(v)
			resp = problemResponse(x.err, x.requestID)
		}
	}()
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-answerReserve))
		defer cancel()
	}
	session, err := e.serve(ctx, payload, x)
	x.interviewID, x.err = session.InterviewID, err
	if err != nil {
		return problemResponse(err, x.requestID)
	}
	body := struct {
		Token       string `json:"token"`
		InterviewID string `json:"interviewId,omitempty"`
	}{Token: session.Token}
	if e.config.ReturnInterviewID {
		body.InterviewID = session.InterviewID
	}
	return newResponse(200, "application/json", body)
}

func (e *Endpoint) serve(ctx context.Context, payload []byte, x *exchange) (incode.Session, error) {
	ev, err := decodeEvent(payload)
	x.apiRequestID = ev.RequestContext.RequestID
	if err != nil {
		return incode.Session{}, err
	}
	r, err := e.startRequest(ev)
	if err != nil {
		return incode.Session{}, err
	}
	return e.startSession(ctx, r, x)
}

// startSession starts a session with the current key, and once more if Incode
// refuses that key and the secret has a newer one: a refused request has
// started nothing.
func (e *Endpoint) startSession(ctx context.Context, r incode.StartRequest, x *exchange) (incode.Session, error) {
	key, err := timed(&x.secret, func() (apikey.Key, error) { return e.keys.Get(ctx) })
	if err != nil {
		return incode.Session{}, err
	}
	start := func(key apikey.Key) (incode.Session, error) {
		ctx, cancel := context.WithTimeout(ctx, e.config.IncodeTimeout)
		defer cancel()
		return timed(&x.incode, func() (incode.Session, error) { return e.sessions.Start(ctx, key, r) })
	}
	session, err := start(key)
	if refused, ok := errors.AsType[*incode.Error](err); !ok || refused.Outcome != incode.Unauthorized {
		return session, err
	}
	fresh, refreshErr := timed(&x.secret, func() (apikey.Key, error) { return e.keys.Refresh(ctx, key) })
	if refreshErr != nil {
		return incode.Session{}, fmt.Errorf("%w, after %w", refreshErr, err)
	}
	if fresh.Version() == key.Version() {
		return incode.Session{}, err
	}
	x.refreshed = true
	return start(fresh)
}

// timed adds the time that f takes to total.
func timed[T any](total *time.Duration, f func() (T, error)) (T, error) {
	began := time.Now()
	defer func() { *total += time.Since(began) }()
	return f()
}

// panicError is a recovered panic. It tells where and of which kind, never the
// value, which may hold anything.
type panicError struct{ text, stack string }

func (p *panicError) Error() string { return p.text }

func panicked(v any) error {
	text := fmt.Sprintf("panic: a value of type %T", v)
	if err, ok := v.(runtime.Error); ok {
		text = "panic: " + err.Error()
	}
	return &panicError{text, string(debug.Stack())}
}

// logExchange writes the one line that a request leaves: no key, no token, no
// customer ID and no body, nor any text of Incode's.
func (e *Endpoint) logExchange(ctx context.Context, status int, x *exchange) {
	level, code := slog.LevelInfo, "ok"
	if x.err != nil {
		code = kindOf(x.err).code
	}
	if status >= 500 {
		level = slog.LevelError
	}
	attrs := append(make([]slog.Attr, 0, 20), // as many as there can be
		slog.String("apiRequestId", x.apiRequestID),
		slog.Int("status", status),
		slog.String("code", code),
		slog.Float64("durationMs", milliseconds(x.duration)),
		slog.Float64("secretMs", milliseconds(x.secret)),
		slog.Bool("coldStart", x.cold),
	)
	if x.incode > 0 {
		attrs = append(attrs, slog.Float64("incodeMs", milliseconds(x.incode)), slog.Int("incodeStatus", incodeStatus(x.err)))
	}
	if x.interviewID != "" {
		attrs = append(attrs, slog.String("interviewId", x.interviewID))
	}
	if status >= 500 {
		attrs = append(attrs, slog.String("error", x.err.Error()))
	}
	if p, ok := errors.AsType[*panicError](x.err); ok {
		attrs = append(attrs, slog.String("stack", p.stack))
	}
	if lambdacontext.FunctionName != "" { // a dimension must not be empty
		attrs = appendMetrics(attrs, time.Now(), code, x)
	}
	e.log.LogAttrs(ctx, level, "request", attrs...)
}

// incodeStatus returns the HTTP status of Incode's last answer, or 0 without
// one.
func incodeStatus(err error) int {
	if err == nil {
		return 200
	}
	if upstream, ok := errors.AsType[*incode.Error](err); ok {
		return upstream.Status
	}
	return 0
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}
