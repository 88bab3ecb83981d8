package endpoint

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"unicode/utf8"

	"omnistart/internal/problem"
)

const maxBody = 8 << 10

// jsonInUTF8 matches the Content-Type. It has [sS] where (?i) would also match ſ. mime.ParseMediaType was rejected,
// because it ignores a parameter that it cannot parse, but another reader of the request may use that parameter.
var jsonInUTF8 = regexp.MustCompile(
	`^(?i:application/j)[sS](?i:on)[ \t]*(;[ \t]*((?i:char)[sS](?i:et=(utf-8|"utf-8")))?[ \t]*)*$`)

// httpEvent is the part of an API Gateway HTTP API event that the contract needs. The whole type,
// events.APIGatewayV2HTTPRequest, costs about 50 more allocations. encoding/json matches names in any case, which is
// needed here: API Gateway sends the names of headers in lower case, and sam local as it received them.
type httpEvent struct {
	Version, RouteKey string
	Headers           struct {
		ContentType     string `json:"content-type"`
		ContentEncoding string `json:"content-encoding"`
	}
	RequestContext struct {
		RequestID  string
		Authorizer struct {
			JWT *struct{ Claims map[string]json.RawMessage }
			IAM *struct{ CognitoIdentity, UserARN any }
			// Lambda is the context that the operator's own authorizer returned, or null if it returned none.
			Lambda json.RawMessage
		}
	}
	Body            string
	IsBase64Encoded bool
}

// requestFields returns the fields to send to Incode.
func (e *Endpoint) requestFields(event *httpEvent, x *exchange) (map[string]any, error) {
	// An event of format 1.0 has its authorizer context in another place, so it would not be found.
	if event.Version != "2.0" {
		return nil, errors.New("the event's payload format is not 2.0")
	}
	// The path is Incode's own, so a client only changes its base URL.
	if event.RouteKey != "POST /omni/start" {
		return nil, problem.NotFound
	}
	customer, err := e.customer(event, x)
	if err != nil {
		return nil, err
	}
	// This also stops forged cross-site requests. A page of another site can make the browser send the person's cookies,
	// but only with a Content-Type that needs no CORS preflight, such as text/plain.
	if !jsonInUTF8.MatchString(event.Headers.ContentType) || event.Headers.ContentEncoding != "" {
		return nil, problem.UnsupportedMediaType
	}
	body := []byte(event.Body)
	if event.IsBase64Encoded {
		if body, err = base64.StdEncoding.DecodeString(event.Body); err != nil {
			return nil, problem.InvalidJSON
		}
	}
	if len(body) > maxBody {
		return nil, problem.BodyTooLarge
	}
	fields, err := readFields(e.Config, body, customer != "")
	if err != nil {
		return nil, err
	}
	if ids := e.Config.ConfigurationIDs; !ids["*"] && !ids[fields["configurationId"].(string)] {
		return nil, problem.ConfigurationNotAllowed
	}
	if customer != "" {
		if named, present := fields["externalCustomerId"]; present && named != customer {
			return nil, problem.CustomerMismatch
		}
		fields["externalCustomerId"] = customer
	}
	return fields, nil
}

// customer returns the customer that the caller is, according to a JWT or the operator's own authorizer. It returns
// "" for a back end, which acts for many customers.
func (e *Endpoint) customer(event *httpEvent, x *exchange) (string, error) {
	var claims map[string]json.RawMessage
	switch caller := event.RequestContext.Authorizer; {
	case caller.JWT != nil:
		x.authorizer, claims = "jwt", caller.JWT.Claims
	case caller.Lambda != nil:
		x.authorizer = "lambda"
		_ = json.Unmarshal(caller.Lambda, &claims) // leaves the map nil unless the context is a JSON object
	case caller.IAM != nil:
		x.authorizer = "iam"
		x.callerARN, _ = caller.IAM.UserARN.(string)
		// Credentials of a Cognito identity pool belong to a person, perhaps an anonymous one, and not to a back end.
		if caller.IAM.CognitoIdentity != nil {
			return "", problem.CallerNotAllowed
		}
		return "", nil
	case e.Config.AllowUnauthenticated:
		return "", nil
	default:
		return "", errors.New("the event has no authorizer context")
	}
	id, fault := customerID(claims[e.Config.CustomerIDClaim])
	if fault != "" {
		return "", fmt.Errorf("%w: the claim %q %s", problem.CustomerUnusable, e.Config.CustomerIDClaim, fault)
	}
	return id, nil
}

var integer = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)

// customerID returns the customer ID in a claim, which is a string, or an integer that is taken digit for digit. If the
// claim is unusable, fault says why, without its value. Otherwise fault is "".
func customerID(claim json.RawMessage) (id, fault string) {
	_ = json.Unmarshal(claim, &id) // leaves id empty unless the claim is a string
	if integer.Match(claim) {
		id = string(claim)
	}
	switch {
	case claim == nil:
		fault = "is absent"
	case id == "":
		fault = "is empty, or neither a string nor an integer"
	case utf8.RuneCountInString(id) > maxCustomerID:
		fault = "is too long"
	case !isCustomerID(id):
		fault = "has a character that is not allowed, or a space at an end"
	}
	return id, fault
}
