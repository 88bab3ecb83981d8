package endpoint

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"omnistart/internal/apikey"
	"omnistart/internal/incode"
)

func TestUpstreamFaults(t *testing.T) {
	cause := errors.New("dial tcp incode.example.com:443")
	refused := fail(incode.Error{Outcome: incode.Unauthorized, Status: 403})
	tests := []struct {
		name       string
		getErr     error
		refreshErr error
		fresh      apikey.Key
		answers    []func(context.Context) (incode.Session, error)
		status     int
		code       string
		retryAfter string
		calls      int
		incode     any // the status in the log; nil when Incode was not called
	}{
		{name: "secret missing", getErr: fmt.Errorf("%w: x", apikey.ErrMisconfigured), status: 500, code: "service-misconfigured"},
		{name: "secret slow", getErr: fmt.Errorf("%w: x", apikey.ErrUnavailable), status: 503, code: "secret-unavailable", retryAfter: "1"},
		{name: "not reached", answers: []func(context.Context) (incode.Session, error){fail(incode.Error{Outcome: incode.NotSent, Err: cause})},
			status: 503, code: "incode-unavailable", retryAfter: "1", calls: 1, incode: 0.0},
		{name: "throttled", answers: []func(context.Context) (incode.Session, error){fail(incode.Error{Outcome: incode.Throttled, Status: 429, RetryAfter: 6*time.Second + 1})},
			status: 503, code: "incode-throttled", retryAfter: "7", calls: 1, incode: 429.0},
		{name: "throttled for long", answers: []func(context.Context) (incode.Session, error){fail(incode.Error{Outcome: incode.Throttled, Status: 429, RetryAfter: time.Hour})},
			status: 503, code: "incode-throttled", retryAfter: "60", calls: 1, incode: 429.0},
		{name: "throttled until the year 9999", answers: []func(context.Context) (incode.Session, error){fail(incode.Error{Outcome: incode.Throttled, Status: 429, RetryAfter: math.MaxInt64})},
			status: 503, code: "incode-throttled", retryAfter: "60", calls: 1, incode: 429.0},
		{name: "throttled until a date that has passed", answers: []func(context.Context) (incode.Session, error){fail(incode.Error{Outcome: incode.Throttled, Status: 429, RetryAfter: -time.Hour})},
			status: 503, code: "incode-throttled", retryAfter: "1", calls: 1, incode: 429.0},
		{name: "rejected", answers: []func(context.Context) (incode.Session, error){fail(incode.Error{Outcome: incode.Rejected, Status: 400})}, status: 502, code: "incode-rejected", calls: 1, incode: 400.0},
		{name: "failed", answers: []func(context.Context) (incode.Session, error){fail(incode.Error{Outcome: incode.Failed, Status: 500})}, status: 502, code: "incode-failed", calls: 1, incode: 500.0},
		{name: "invalid reply", answers: []func(context.Context) (incode.Session, error){fail(incode.Error{Outcome: incode.InvalidReply, Status: 200})}, status: 502, code: "incode-invalid-response", calls: 1, incode: 200.0},
		{name: "broke off", answers: []func(context.Context) (incode.Session, error){fail(incode.Error{Outcome: incode.Unknown, Err: cause})}, status: 502, code: "outcome-unknown", calls: 1, incode: 0.0},
		{name: "an outcome that has no code yet", answers: []func(context.Context) (incode.Session, error){fail(incode.Error{})}, status: 500, code: "internal", calls: 1, incode: 0.0},
		{name: "timed out", answers: []func(context.Context) (incode.Session, error){fail(incode.Error{Outcome: incode.TimedOut, Err: cause})}, status: 504, code: "incode-timeout", calls: 1, incode: 0.0},

		{name: "key refused, no newer one", fresh: firstKey, answers: []func(context.Context) (incode.Session, error){refused}, status: 502, code: "incode-unauthorized", calls: 1, incode: 403.0},
		{name: "key refused, the newer one too", fresh: nextKey, answers: []func(context.Context) (incode.Session, error){refused}, status: 502, code: "incode-unauthorized", calls: 2, incode: 403.0},
		{name: "key refused, the newer one works", fresh: nextKey, answers: []func(context.Context) (incode.Session, error){refused, succeed}, status: 200, calls: 2, incode: 200.0},
		{name: "key refused, the newer one meets a failure", fresh: nextKey, answers: []func(context.Context) (incode.Session, error){refused, fail(incode.Error{Outcome: incode.Failed, Status: 500})}, status: 502, code: "incode-failed", calls: 2, incode: 500.0},
		{name: "key refused, secret slow", refreshErr: apikey.ErrUnavailable, answers: []func(context.Context) (incode.Session, error){refused}, status: 503, code: "secret-unavailable", retryAfter: "1", calls: 1, incode: 403.0},
		{name: "key refused, secret gone", refreshErr: apikey.ErrMisconfigured, answers: []func(context.Context) (incode.Session, error){refused}, status: 500, code: "service-misconfigured", calls: 1, incode: 403.0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.answers...)
			r.keys.getErr, r.keys.refreshErr, r.keys.fresh = tt.getErr, tt.refreshErr, tt.fresh
			resp, body := r.send(t, event(t, "iam", ""))
			if resp.StatusCode != tt.status || code(body) != tt.code || resp.Headers["Retry-After"] != tt.retryAfter {
				t.Errorf("got %d %s, Retry-After %q", resp.StatusCode, resp.Body, resp.Headers["Retry-After"])
			}
			if len(r.starter.got) != tt.calls {
				t.Errorf("%d calls to Incode, want %d", len(r.starter.got), tt.calls)
			}
			if tt.calls == 2 && (r.starter.keys[0] != firstKey || r.starter.keys[1] != nextKey) {
				t.Error("the second call does not carry the newer key")
			}
			if line := r.logLine(t); line["incodeStatus"] != tt.incode {
				t.Errorf("log: incodeStatus %v, want %v", line["incodeStatus"], tt.incode)
			}
		})
	}
}
