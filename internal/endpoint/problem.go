package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"omnistart/internal/apikey"
	"omnistart/internal/incode"
)

// kind is one of the documented faults. Its code is stable: clients and alarms
// depend on it.
type kind struct {
	status int
	code   string
	title  string
	detail string // what the caller can do; fixed, so that nothing leaks through it
}

var (
	invalidJSON             = kind{status: 400, code: "invalid-json", title: "Invalid JSON", detail: "Send one JSON object in UTF-8."}
	configurationNotAllowed = kind{status: 403, code: "configuration-not-allowed", title: "Configuration not allowed", detail: "Use a configuration ID that the operator of this endpoint has allowed."}
	customerMismatch        = kind{status: 403, code: "customer-mismatch", title: "Customer mismatch", detail: "Leave externalCustomerId out: it is taken from your access token, which must name a valid customer."}
	notFound                = kind{status: 404, code: "not-found", title: "Not found", detail: "Send a POST request to /omni/start, with a JSON object that has a configurationId."}
	methodNotAllowed        = kind{status: 405, code: "method-not-allowed", title: "Method not allowed", detail: "Send a POST request, with a JSON object that has a configurationId."}
	bodyTooLarge            = kind{status: 413, code: "body-too-large", title: "Body too large", detail: "Send at most 8 KiB."}
	unsupportedMediaType    = kind{status: 415, code: "unsupported-media-type", title: "Unsupported media type", detail: "Send application/json in UTF-8, without a content encoding."}
	validationFailed        = kind{status: 422, code: "validation-failed", title: "Validation failed", detail: "Correct the fields that errors lists."}
	internal                = kind{status: 500, code: "internal", title: "Internal error", detail: "Report the requestId to the operator of this endpoint."}
	serviceMisconfigured    = kind{status: 500, code: "service-misconfigured", title: "Service misconfigured", detail: "No session was started. The operator of this endpoint has to correct its API key secret."}
	incodeRejected          = kind{status: 502, code: "incode-rejected", title: "Incode rejected the request", detail: "No session was started. Check that the configuration ID exists in Incode and belongs to this environment."}
	incodeUnauthorized      = kind{status: 502, code: "incode-unauthorized", title: "Incode refused the API key", detail: "No session was started. The operator of this endpoint has to store a valid API key."}
	incodeInvalidResponse   = kind{status: 502, code: "incode-invalid-response", title: "Invalid response from Incode", detail: "A session may have been started, but Incode returned no usable token. Start another only if a second one does no harm."}
	incodeFailed            = kind{status: 502, code: "incode-failed", title: "Incode failed", detail: "Incode reported an error of its own. A session may have been started. Start another only if a second one does no harm."}
	outcomeUnknown          = kind{status: 502, code: "outcome-unknown", title: "Outcome unknown", detail: "The connection to Incode broke. A session may have been started. Start another only if a second one does no harm."}
	secretUnavailable       = kind{status: 503, code: "secret-unavailable", title: "Secret unavailable", detail: "No session was started. Try again."}
	incodeUnavailable       = kind{status: 503, code: "incode-unavailable", title: "Incode unavailable", detail: "Incode was not reached and no session was started. Try again."}
	incodeThrottled         = kind{status: 503, code: "incode-throttled", title: "Incode throttled the request", detail: "No session was started. Try again after the time in Retry-After."}
	incodeTimeout           = kind{status: 504, code: "incode-timeout", title: "Incode timed out", detail: "A session may have been started. Start another only if a second one does no harm."}
)

var byOutcome = map[incode.Outcome]kind{
	incode.NotSent:      incodeUnavailable,
	incode.Unauthorized: incodeUnauthorized,
	incode.Throttled:    incodeThrottled,
	incode.Rejected:     incodeRejected,
	incode.Failed:       incodeFailed,
	incode.TimedOut:     incodeTimeout,
	incode.InvalidReply: incodeInvalidResponse,
	incode.Unknown:      outcomeUnknown,
}

// kindOf is the one place where errors become answers.
func kindOf(err error) kind {
	if refused, ok := errors.AsType[*refusal](err); ok {
		return refused.kind
	}
	switch upstream, _ := errors.AsType[*incode.Error](err); {
	// Before Incode's: a refused key whose successor cannot be read is the
	// secret's trouble, and passes when that does.
	case errors.Is(err, apikey.ErrMisconfigured):
		return serviceMisconfigured
	case errors.Is(err, apikey.ErrUnavailable):
		return secretUnavailable
	case upstream != nil:
		if k, ok := byOutcome[upstream.Outcome]; ok {
			return k
		}
	}
	return internal
}

// refusal is a request that breaks the contract.
type refusal struct {
	kind       kind
	reason     string // added to the detail; holds nothing of the request
	violations violations
}

func (r *refusal) Error() string { return r.kind.code }

// problem is the body of an error answer (RFC 9457).
type problem struct {
	Type      string     `json:"type"`
	Title     string     `json:"title"`
	Status    int        `json:"status"`
	Detail    string     `json:"detail"`
	RequestID string     `json:"requestId"`
	Errors    violations `json:"errors,omitempty"`
}

func problemResponse(err error, requestID string) response {
	k := kindOf(err)
	p := problem{
		Type:      "/problems/" + k.code,
		Title:     k.title,
		Status:    k.status,
		Detail:    k.detail,
		RequestID: requestID,
	}
	if refused, ok := errors.AsType[*refusal](err); ok {
		p.Errors = refused.violations
		if refused.reason != "" {
			p.Detail += " What is wrong: " + refused.reason + "."
		}
	}
	resp := newResponse(k.status, "application/problem+json", p)
	switch k.status {
	case 405:
		resp.Headers.Allow = "POST"
	case 503:
		resp.Headers.RetryAfter = strconv.Itoa(retryAfter(err))
	}
	return resp
}

// retryAfter returns the seconds to wait, 1 to 60: Incode's wish where it has
// one.
func retryAfter(err error) int {
	upstream, ok := errors.AsType[*incode.Error](err)
	if !ok {
		return 1
	}
	wish := min(max(upstream.RetryAfter, time.Second), time.Minute)
	return int((wish + time.Second - 1) / time.Second)
}

// response is an answer in API Gateway's payload format 2.0. CORS headers are
// API Gateway's business: it would ignore them.
type response struct {
	StatusCode int     `json:"statusCode"`
	Headers    headers `json:"headers"`
	Body       string  `json:"body"`
}

// Format keeps the token out of what is printed.
func (r response) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "[response %d]", r.StatusCode) }

type headers struct {
	ContentType  string `json:"Content-Type"`
	CacheControl string `json:"Cache-Control"`
	Allow        string `json:"Allow,omitempty"`
	RetryAfter   string `json:"Retry-After,omitempty"`
}

// newResponse makes an answer that no cache keeps.
func newResponse(status int, contentType string, body any) response {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return response{status, headers{ContentType: contentType, CacheControl: "no-store"}, string(text)}
}
