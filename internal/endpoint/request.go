package endpoint

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"omnistart/internal/config"
	"omnistart/internal/incode"
	"omnistart/internal/strictjson"
)

const (
	path    = "/omni/start" // Incode's own, so that a client only changes its base URL
	maxBody = 8 << 10

	maxCustomerID   = 128
	maxURL          = 2048
	maxCustomFields = 20
	maxCustomKey    = 64
	maxCustomValue  = 256
)

var (
	// Without upper bounds: one of 128 takes a third of a millisecond to compile.
	customerID  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:@+|~=/-]*$`)
	countryCode = regexp.MustCompile(`^[A-Z]{2,3}$`) // ALL among them
	language    = regexp.MustCompile(`^[a-z]{2,3}-[A-Z]{2}$`)
	plainKey    = regexp.MustCompile(`^[A-Za-z0-9_]+$`)
	// Not mime.ParseMediaType, which drops parameters that it cannot put together.
	jsonInUTF8 = regexp.MustCompile(`^application/json[ \t]*(;[ \t]*(charset=(utf-8|"utf-8"))?[ \t]*)*$`)
)

func isCustomerID(s string) bool { return len(s) <= maxCustomerID && customerID.MatchString(s) }

var (
	errEvent        = errors.New("the event is not of an API Gateway HTTP API")
	errEventVersion = errors.New("the event's payload format is not 2.0")
	errUnauthorized = errors.New("no authorizer of API Gateway has let the event in, as REQUIRE_AUTHORIZER asks")
)

// httpEvent is what the contract needs of an API Gateway HTTP API event: the
// whole, events.APIGatewayV2HTTPRequest, takes some 50 allocations more.
// encoding/json matches names in any case, as it must: API Gateway sends headers
// in lower case, sam local as they came.
type httpEvent struct {
	Version, RouteKey, RawPath string
	Headers                    struct {
		ContentType     string `json:"content-type"`
		ContentEncoding string `json:"content-encoding"`
	}
	RequestContext struct {
		RequestID, Stage string
		HTTP             struct{ Method string }
		Authorizer       struct {
			JWT *struct{ Claims map[string]string }
			IAM *struct{}
		}
	}
	Body            text
	IsBase64Encoded bool
}

// Format keeps claims and body out of what is printed.
func (httpEvent) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[event]") }

// text refuses broken characters, which encoding/json would turn into U+FFFD
// unseen.
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	if err := strictjson.CheckUnicode(data); err != nil {
		return &refusal{kind: invalidJSON, reason: err.Error()}
	}
	return json.Unmarshal(data, (*string)(t))
}

// decodeEvent returns what there is of an event beside an error, too.
func decodeEvent(payload []byte) (*httpEvent, error) {
	ev := &httpEvent{}
	err := json.Unmarshal(payload, ev)
	if _, ok := errors.AsType[*refusal](err); err != nil && !ok {
		err = errEvent // the cause may quote the event
	}
	return ev, err
}

// startRequest reads the call that an event stands for. Its errors are *refusal,
// or those of an event that API Gateway does not send as it is deployed.
func (e *Endpoint) startRequest(ev *httpEvent) (incode.StartRequest, error) {
	if err := checkRoute(ev); err != nil {
		return incode.StartRequest{}, err
	}
	body, err := readBody(ev)
	if err != nil {
		return incode.StartRequest{}, err
	}
	r, err := parse(body, e.config.RedirectHosts)
	if err != nil {
		return incode.StartRequest{}, err
	}
	if !e.config.Configurations.Allows(r.ConfigurationID) {
		return incode.StartRequest{}, &refusal{kind: configurationNotAllowed}
	}
	// The caller of a JWT-authorized request is the customer. Without a JWT the
	// caller is a back end, known by its AWS identity, which speaks for many.
	switch by := ev.RequestContext.Authorizer; {
	case by.JWT != nil:
		id := by.JWT.Claims[e.config.CustomerIDClaim]
		if !isCustomerID(id) || r.ExternalCustomerID != "" && r.ExternalCustomerID != id {
			return incode.StartRequest{}, &refusal{kind: customerMismatch}
		}
		r.ExternalCustomerID = id
	case by.IAM == nil && e.config.RequireAuthorizer: // the route has lost its own
		return incode.StartRequest{}, errUnauthorized
	}
	return r, nil
}

func checkRoute(ev *httpEvent) error {
	// An event of another version has its claims elsewhere: a caller would pass
	// without them.
	if ev.Version != "2.0" {
		return errEventVersion
	}
	// Behind a custom domain the path begins with the mapping's, which only API
	// Gateway knows; what it has matched needs no second look.
	if ev.RouteKey == "POST "+path {
		return nil
	}
	// A $default route hands over everything. Its path begins with the stage,
	// unless that is $default as well.
	if ev.RawPath != path && ev.RawPath != "/"+ev.RequestContext.Stage+path {
		return &refusal{kind: notFound}
	}
	if ev.RequestContext.HTTP.Method != "POST" {
		return &refusal{kind: methodNotAllowed}
	}
	return nil
}

// readBody returns the body of a JSON request, decoded and within bounds.
func readBody(ev *httpEvent) ([]byte, error) {
	if !jsonInUTF8.MatchString(strings.ToLower(ev.Headers.ContentType)) || ev.Headers.ContentEncoding != "" {
		return nil, &refusal{kind: unsupportedMediaType}
	}
	body := []byte(ev.Body)
	if ev.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(string(ev.Body)); err != nil {
			return nil, &refusal{kind: invalidJSON, reason: "the body is not valid base64"}
		}
	}
	if len(body) > maxBody {
		return nil, &refusal{kind: bodyTooLarge}
	}
	return body, nil
}

// violation is one entry of a problem's errors: a JSON Pointer (RFC 6901) into
// the body, and what is wrong there.
type violation struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

// violations collects everything that is wrong with one body.
type violations []violation

func (v *violations) add(detail string, keys ...string) {
	var pointer strings.Builder
	for _, k := range keys {
		pointer.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(k))
	}
	*v = append(*v, violation{pointer.String(), detail})
}

// text returns the value of a field if it is a string that passes.
func (v *violations) text(key string, value any, pass func(string) bool, detail string) string {
	s, ok := value.(string)
	if !ok || !pass(s) {
		v.add(detail, key)
	}
	return s
}

// parse reads a body against the contract and reports all its violations
// together.
func parse(body []byte, redirectHosts map[string]bool) (incode.StartRequest, error) {
	object, err := strictjson.Object(body)
	if err != nil {
		return incode.StartRequest{}, &refusal{kind: invalidJSON, reason: err.Error()}
	}
	r := incode.StartRequest{CountryCode: "ALL"}
	var faults violations
	if _, ok := object["configurationId"]; !ok {
		faults.add("Required.", "configurationId")
	}
	for _, key := range sortedKeys(object) {
		value := object[key]
		switch key {
		case "configurationId":
			r.ConfigurationID = faults.text(key, value, config.ConfigurationID.MatchString,
				"Must be a string of 24 lower-case hex digits.")
		case "externalCustomerId":
			r.ExternalCustomerID = faults.text(key, value, isCustomerID,
				"Must be a string of 1 to 128 letters, digits and . _ : @ + | ~ = / - that starts with a letter or digit.")
		case "countryCode":
			r.CountryCode = faults.text(key, value, countryCode.MatchString,
				"Must be ALL or a country code of 2 or 3 upper-case letters.")
		case "language":
			r.Language = faults.text(key, value, language.MatchString,
				"Must be a language of 2 or 3 lower-case letters and a country of 2 upper-case letters, like en-US.")
		case "redirectionUrl":
			r.RedirectionURL = faults.text(key, value, func(s string) bool { return redirectable(s, redirectHosts) },
				"Must be an absolute https URL whose host the operator of this endpoint has allowed.")
		case "customFields":
			r.CustomFields = faults.customFields(key, value)
		case "interviewId", "uuid":
			faults.add("Not accepted: every call starts a new session.", key)
		case "externalId":
			faults.add("Not accepted: use externalCustomerId.", key)
		default:
			if len(key) > maxCustomKey || !plainKey.MatchString(key) {
				faults.add("A field with a name that is not in the contract.")
				continue
			}
			faults.add("Not a field of the contract. Names are case-sensitive.", key)
		}
	}
	if len(faults) > 0 {
		return incode.StartRequest{}, &refusal{kind: validationFailed, violations: faults}
	}
	return r, nil
}

func sortedKeys(object map[string]any) []string {
	keys := slices.AppendSeq(make([]string, 0, len(object)), maps.Keys(object))
	slices.Sort(keys)
	return keys
}

func (v *violations) customFields(key string, value any) map[string]string {
	object, ok := value.(map[string]any)
	if !ok || len(object) > maxCustomFields {
		v.add("Must be an object of at most 20 fields.", key)
		return nil
	}
	fields := make(map[string]string, len(object))
	for _, name := range sortedKeys(object) {
		if name == "" || utf8.RuneCountInString(name) > maxCustomKey || strings.ContainsFunc(name, unicode.IsControl) {
			v.add("A name must be 1 to 64 characters without control characters.", key)
			continue
		}
		s, ok := object[name].(string)
		if !ok || utf8.RuneCountInString(s) > maxCustomValue || strings.ContainsFunc(s, unicode.IsControl) {
			v.add("Must be a string of at most 256 characters without control characters.", key, name)
			continue
		}
		fields[name] = s
	}
	return fields
}

// redirectable reports whether a session may send its person to this URL. It is
// visible ASCII without backslashes, so that no browser reads another host out
// of it than Go does.
func redirectable(s string, hosts map[string]bool) bool {
	u, err := url.Parse(s)
	return err == nil && len(s) <= maxURL && strings.HasPrefix(s, "https://") && u.User == nil && hosts[strings.ToLower(u.Host)] &&
		!strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' })
}
