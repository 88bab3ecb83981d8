// Package problem defines every error that the endpoint can answer with.
package problem

// Problem is one documented error. The code, the OpenAPI document and the catalogue share these values, and the JSON
// members are those of the response (RFC 9457).
//
// A Problem is an error. Return it with its cause as fmt.Errorf("%w: %w", problem.IncodeFailed, cause): the caller
// receives the problem, and the log receives both. Problems never change, so they may be shared between goroutines.
type Problem struct {
	Status int    `json:"status"` // the HTTP status
	Code   string `json:"-"`      // stable, since clients and alarms depend on it
	Title  string `json:"title"`
	// Detail says what the caller can do. It is fixed, so that no value of a request or a response leaks through it.
	Detail string `json:"detail"`
	// SessionStarted says whether Incode may have started a session: No or Perhaps.
	SessionStarted string `json:"sessionStarted"`
}

// Error returns the title.
func (p *Problem) Error() string { return p.Title }

// No means that Incode has certainly started no session.
const No = "no"

// Perhaps means that Incode may have started a session. Nobody has its token.
const Perhaps = "perhaps"

// All holds every problem, in the order of the declarations below.
var All []*Problem

func define(status int, code, title, sessionStarted, detail string) *Problem {
	p := &Problem{Status: status, Code: code, Title: title, SessionStarted: sessionStarted, Detail: detail}
	All = append(All, p)
	return p
}

const (
	tryAgain   = "No session was started. Try again after the time in Retry-After."
	mayExist   = "A session may have been started. Try again only if a second session does no harm."
	byOperator = "No session was started. The operator of this endpoint has to correct its settings."
)

// Errors of the caller.
var (
	InvalidJSON = define(400, "invalid-json", "Invalid JSON", No, "Send one JSON object in UTF-8, and nothing after it.")

	ConfigurationNotAllowed = define(403, "configuration-not-allowed", "Configuration not allowed", No,
		"Use a configuration ID that the operator of this endpoint has allowed.")
	CallerNotAllowed = define(403, "caller-not-allowed", "Caller not allowed", No,
		"Call as a back end. Credentials of a Cognito identity pool belong to a person.")
	CustomerMismatch = define(403, "customer-mismatch", "Customer mismatch", No,
		"Leave externalCustomerId out: it is taken from your access token or cookie.")
	CustomerUnusable = define(403, "customer-unusable", "Customer unusable", No,
		"Your access token or cookie names no usable customer. The operator of this endpoint has to correct that.")
	NotFound     = define(404, "not-found", "Not found", No, "Send a POST request to /omni/start.")
	BodyTooLarge = define(413, "body-too-large", "Body too large", No, "Send at most 8 KiB.")

	UnsupportedMediaType = define(415, "unsupported-media-type", "Unsupported media type", No,
		"Send application/json in UTF-8, without a content encoding.")
	ValidationFailed = define(422, "validation-failed", "Validation failed", No, "Correct the fields that errors lists.")
)

// Errors of this service, of Incode, and of the network between.
var (
	Internal = define(500, "internal", "Internal error", Perhaps, "Report the requestId to the operator of this endpoint.")

	ServiceMisconfigured  = define(500, "service-misconfigured", "Service misconfigured", No, byOperator)
	IncodeUnauthorized    = define(502, "incode-unauthorized", "Incode refused the API key", No, byOperator)
	IncodeInvalidResponse = define(502, "incode-invalid-response", "Invalid response from Incode", Perhaps, mayExist)
	IncodeFailed          = define(502, "incode-failed", "Incode failed", Perhaps, mayExist)
	OutcomeUnknown        = define(502, "outcome-unknown", "Outcome unknown", Perhaps, mayExist)
	IncodeTimeout         = define(504, "incode-timeout", "Incode timed out", Perhaps, mayExist)
	SecretUnavailable     = define(503, "secret-unavailable", "Secret unavailable", No, tryAgain)
	IncodeUnavailable     = define(503, "incode-unavailable", "Incode unavailable", No, tryAgain)
	IncodeThrottled       = define(503, "incode-throttled", "Incode throttled the request", No, tryAgain)

	IncodeForbidden = define(502, "incode-forbidden", "Incode's firewall refused the request", No,
		"No session was started. The API key is not the cause. The operator of this endpoint has to ask Incode.")
	IncodeRejected = define(502, "incode-rejected", "Incode rejected the request", No,
		"No session was started. Check that the configuration ID exists in Incode and belongs to this environment.")
)
