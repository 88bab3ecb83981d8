package endpoint

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"omnistart/internal/config"
	"omnistart/internal/problem"
)

const maxBody = 8 << 10

// jsonInUTF8 matches the Content-Type. It has [sS] where (?i) would also match ſ. mime.ParseMediaType was rejected,
// because it ignores a parameter that it cannot parse, but another reader of the request may use that parameter.
var jsonInUTF8 = regexp.MustCompile(
	`^(?i:application/j)[sS](?i:on)[ \t]*(;[ \t]*((?i:char)[sS](?i:et=(utf-8|"utf-8")))?[ \t]*)*$`)

// httpEvent is the part of an API Gateway HTTP API event that the contract needs. The whole type,
// events.APIGatewayV2HTTPRequest, costs about 50 more allocations. encoding/json matches names in any case, which is
// needed here: API Gateway sends headers in lower case, sam local as they came.
type httpEvent struct {
	Version, RouteKey string
	Headers           struct {
		ContentType     string `json:"content-type"`
		ContentEncoding string `json:"content-encoding"`
	}
	RequestContext struct {
		RequestID  string
		Authorizer struct {
			JWT *struct{ Claims map[string]string }
			IAM *struct{}
		}
	}
	Body            string
	IsBase64Encoded bool
}

// requestFields returns the fields to send to Incode.
func (e *Endpoint) requestFields(event *httpEvent) (map[string]any, error) {
	// An event of format 1.0 has its claims in another place, so they would not be found.
	if event.Version != "2.0" {
		return nil, errors.New("the event's payload format is not 2.0")
	}
	// The path is Incode's own, so a client only changes its base URL.
	if event.RouteKey != "POST /omni/start" {
		return nil, problem.NotFound
	}
	if !jsonInUTF8.MatchString(event.Headers.ContentType) || event.Headers.ContentEncoding != "" {
		return nil, problem.UnsupportedMediaType
	}
	body, err := []byte(event.Body), error(nil)
	if event.IsBase64Encoded {
		body, err = base64.StdEncoding.DecodeString(event.Body)
	}
	if err != nil {
		return nil, problem.InvalidJSON
	}
	if len(body) > maxBody {
		return nil, problem.BodyTooLarge
	}
	fields, err := readFields(e.Config, body)
	if err != nil {
		return nil, err
	}
	if ids := e.Config.ConfigurationIDs; !ids["*"] && !ids[fields["configurationId"].(string)] {
		return nil, problem.ConfigurationNotAllowed
	}
	return fields, e.bindCustomer(event, fields)
}

// bindCustomer makes the caller with a JWT the customer. A caller without one is a back end with an AWS identity, which
// acts for many customers.
func (e *Endpoint) bindCustomer(event *httpEvent, fields map[string]any) error {
	caller := event.RequestContext.Authorizer
	if caller.JWT == nil && caller.IAM == nil && e.Config.RequireAuthorizer {
		return errors.New("the event has no authorizer context, which REQUIRE_AUTHORIZER demands")
	}
	if caller.JWT == nil {
		return nil
	}
	id := caller.JWT.Claims[e.Config.CustomerIDClaim]
	named, present := fields["externalCustomerId"]
	if !externalCustomerID.accepts(e.Config, id) || present && named != id {
		return problem.CustomerMismatch
	}
	fields["externalCustomerId"] = id
	return nil
}

// field is one member of the request body. The code and the OpenAPI document are made from these rows.
type field struct {
	name      string
	required  bool
	pattern   *regexp.Regexp                   // of a text; nil for a field that is always refused
	maxLength int                              // of a text, in characters; 0 where the pattern bounds it
	check     func(config.Config, string) bool // what a pattern cannot express, or nil
	rule      string                           // the detail of a violation, which never quotes the value
	// For the OpenAPI document.
	description, example string
}

// contract holds every field, and the names of Incode and its samples that get an answer of their own.
var contract = []field{
	{name: "configurationId", required: true, pattern: config.ConfigurationID, example: "6245f1e0c8d4b2a39e7f1c05",
		rule:        "Must be a string of 24 lower-case hex digits.",
		description: "ID of an Incode flow or workflow that the operator allows."},
	externalCustomerID,
	{name: "countryCode", pattern: regexp.MustCompile(`^[A-Z]{2,3}$`), example: "DE",
		rule:        "Must be ALL or a country code of 2 or 3 upper-case letters.",
		description: "Country of the documents. ALL when left out."},
	{name: "language", pattern: regexp.MustCompile(`^[a-z]{2,3}-[A-Z]{2}$`), example: "en-US",
		rule:        "Must be a language of 2 or 3 lower-case letters and a country of 2 upper-case letters, like en-US.",
		description: "Language of the flow. Incode decides when it is left out."},
	// Visible ASCII without backslashes, so that no browser finds another host in the URL than Go does.
	{name: "redirectionUrl", pattern: regexp.MustCompile(`^https://[!-\[\]-~]+$`), maxLength: 2048, check: mayRedirect,
		rule:        "Must be an absolute https URL whose host the operator of this endpoint has allowed.",
		description: "Where the session sends its person at the end. No user before the host, no % without two hex digits.",
		example:     "https://app.example.com/done"},
	{name: "customFields", description: "Your own data.", example: `{"plan":"premium"}`,
		rule: "Must be an object of at most 20 strings of at most 256 characters. A name has 1 to 64 characters. " +
			"Control characters and U+FFFD are not allowed."},
	{name: "interviewId", rule: "Not accepted: every call starts a new session."},
	{name: "uuid", rule: "Not accepted: every call starts a new session."},
	{name: "externalId", rule: "Not accepted: use externalCustomerId."},
}

var externalCustomerID = field{
	name: "externalCustomerId", pattern: regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:@+|~=/-]*$`), maxLength: 128,
	rule:        "Must be a string of 1 to 128 letters, digits and . _ : @ + | ~ = / - and start with a letter or digit.",
	description: "Your ID of the customer. With a JWT, leave it out: it is taken from the token.", example: "customer-42"}

// accepts reports whether a value follows the contract.
func (f field) accepts(c config.Config, value any) bool {
	text, ok := value.(string)
	return ok && f.pattern != nil && f.pattern.MatchString(text) &&
		(f.maxLength == 0 || utf8.RuneCountInString(text) <= f.maxLength) && (f.check == nil || f.check(c, text))
}

// mayRedirect reports whether a session may send its person to this URL.
func mayRedirect(c config.Config, text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.User == nil && c.RedirectHosts[strings.ToLower(u.Host)]
}

// The limits of customFields. Incode publishes none.
const maxCustomFields, maxCustomName, maxCustomText = 20, 64, 256

// violations is everything that is wrong with one body.
type violations []violation

// violation has a JSON Pointer (RFC 6901) into the body, and what is wrong there.
type violation struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

func (violations) Error() string { return problem.ValidationFailed.Error() }
func (violations) Unwrap() error { return problem.ValidationFailed }

var pointerEscaper = strings.NewReplacer("~", "~0", "/", "~1")

// readFields returns the fields of a body that follows the contract, or all its violations together. The result is
// what Incode is sent, so that two readers of one request cannot differ: of equal names encoding/json takes the last
// one, and it replaces what is not valid Unicode by U+FFFD, which every field refuses.
func readFields(c config.Config, body []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var fields map[string]any // not a struct, because encoding/json matches the names of a struct in any case
	err := decoder.Decode(&fields)
	if _, end := decoder.Token(); err != nil || fields == nil || !errors.Is(end, io.EOF) {
		return nil, problem.InvalidJSON
	}
	var found violations
	for _, f := range contract {
		value, present := fields[f.name]
		switch {
		case !present && f.required:
			found = append(found, violation{"/" + f.name, "Required."})
		case present && f.name == "customFields":
			found = append(found, checkCustomFields(value, f.rule)...)
		case present && !f.accepts(c, value):
			found = append(found, violation{"/" + f.name, f.rule})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.ContainsFunc(contract, func(f field) bool { return f.name == name }) {
			found = append(found, violation{"/" + pointerEscaper.Replace(name),
				"Not a field of the contract. Names are case-sensitive."})
		}
	}
	if len(found) > 0 {
		return nil, found
	}
	if fields["countryCode"] == nil {
		fields["countryCode"] = "ALL"
	}
	return fields, nil
}

func checkCustomFields(value any, rule string) (found violations) {
	object, ok := value.(map[string]any)
	if !ok || len(object) > maxCustomFields {
		return violations{{"/customFields", rule}}
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		text, ok := object[name].(string)
		if !ok || name == "" || !isPrintable(name, maxCustomName) || !isPrintable(text, maxCustomText) {
			found = append(found, violation{"/customFields/" + pointerEscaper.Replace(name), rule})
		}
	}
	return found
}

// isPrintable also refuses U+FFFD, which encoding/json writes in place of what is not valid Unicode.
func isPrintable(text string, maxLength int) bool {
	return utf8.RuneCountInString(text) <= maxLength &&
		!strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError })
}

// response is a response in API Gateway's payload format 2.0. API Gateway adds the CORS headers, and would ignore ours.
type response struct {
	StatusCode int `json:"statusCode"`
	Headers    struct {
		ContentType  string `json:"Content-Type"`
		CacheControl string `json:"Cache-Control"`
		RetryAfter   string `json:"Retry-After,omitempty"`
	} `json:"headers"`
	Body string `json:"body"`
}

// success is the body of a response with a session.
type success struct {
	Token       string `json:"token"`
	InterviewID string `json:"interviewId,omitempty"`
}

// failure is the body of a response with a problem (RFC 9457).
type failure struct {
	Type string `json:"type"`
	*problem.Problem
	RequestID string     `json:"requestId"`
	Errors    violations `json:"errors,omitempty"`
}

// response returns the response to a request that was served. No cache may keep it.
func (e *Endpoint) response(x *exchange) response {
	r := response{StatusCode: 200}
	r.Headers.ContentType, r.Headers.CacheControl = "application/json", "no-store"
	body := any(success{x.session.Token, ""})
	if e.Config.ReturnInterviewID {
		body = success{x.session.Token, x.session.InterviewID}
	}
	if p := problemOf(x.err); p != nil {
		found, _ := errors.AsType[violations](x.err)
		body = failure{"/problems/" + p.Code, p, x.requestID, found}
		r.StatusCode, r.Headers.ContentType = p.Status, "application/problem+json"
		if p.Status == 503 {
			wait := min(max(x.session.RetryAfter, time.Second), time.Minute)
			r.Headers.RetryAfter = strconv.Itoa(int(math.Ceil(wait.Seconds())))
		}
	}
	encoded, _ := json.Marshal(body) // cannot fail: body holds strings and numbers
	r.Body = string(encoded)
	return r
}

// problemOf returns nil for no error. It is the only place where an error becomes a problem, and so a status.
func problemOf(err error) *problem.Problem {
	if p, ok := errors.AsType[*problem.Problem](err); ok || err == nil {
		return p
	}
	return problem.Internal
}
