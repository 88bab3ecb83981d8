// Package apigateway stands in for an API Gateway HTTP API on a developer's machine: it converts an HTTP request to the
// event that a Lambda function gets (payload format 2.0), and the function's response to an HTTP response.
//
// The rules are those of "Create AWS Lambda proxy integrations for HTTP APIs" in the API Gateway developer guide. Where
// the guide says nothing, they are taken from captured events.
package apigateway

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
)

// maxBody is an HTTP API's limit for a request body.
const maxBody = 10 << 20

// Headers that replace an authorizer. They take precedence over a bearer token, and the function does not see them. The
// value of ClaimsHeader is a JSON object with the claims of an access token. That of ContextHeader is the context that
// the operator's own authorizer returns, in JSON: an object, or null.
const (
	ClaimsHeader  = "X-Local-Claims"
	ContextHeader = "X-Local-Authorizer"
)

// Event is an event of payload format 2.0, whose Authorizer may contain values of any JSON type. (That of aws-lambda-go
// takes only claims that are strings, and cannot contain a null cognitoIdentity.)
type Event struct {
	events.APIGatewayV2HTTPRequest
	RequestContext RequestContext `json:"requestContext"`
}

// RequestContext is the requestContext of an [Event].
type RequestContext struct {
	events.APIGatewayV2HTTPRequestContext
	Authorizer json.RawMessage `json:"authorizer,omitempty"`
}

// Error is the response to a request that API Gateway rejects without calling the function.
type Error struct {
	Status  int
	Message string
	Reason  string // for the developer; the response does not contain it
}

func (e *Error) Error() string { return fmt.Sprintf("%d %s: %s", e.Status, e.Message, e.Reason) }

// NewEvent returns the event for a request to an API whose only route is route, such as "POST /omni/start". It reads
// the body. Every error is an *Error.
//
// A bearer token in the Authorization header is handled as by a JWT authorizer, with one difference: the token is
// decoded and NOT verified, neither its signature nor issuer, audience, scopes or expiry. The headers [ClaimsHeader]
// and [ContextHeader] replace an authorizer. All are for trying out the function on one's own machine, and must never
// face the internet.
func NewEvent(r *http.Request, route string) (Event, error) {
	if r.Method+" "+r.URL.Path != route {
		return Event{}, &Error{http.StatusNotFound, "Not Found", "the only route is " + route}
	}
	authorizer, err := authorizer(r.Header)
	if err != nil {
		return Event{}, err
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return Event{}, &Error{http.StatusBadRequest, "Bad Request", "the body is incomplete"}
	}
	if len(raw) > maxBody {
		return Event{}, &Error{http.StatusRequestEntityTooLarge, "Request Entity Too Large", "the body has over 10 MiB"}
	}
	body, isBase64 := string(raw), false
	if !isText(r.Header, raw) {
		body, isBase64 = base64.StdEncoding.EncodeToString(raw), true
	}
	sourceIP, _, _ := net.SplitHostPort(r.RemoteAddr)
	domainName, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		domainName = r.Host
	}
	prefix, _, _ := strings.Cut(domainName, ".")
	now := time.Now().UTC()
	event := Event{APIGatewayV2HTTPRequest: events.APIGatewayV2HTTPRequest{
		Version:               "2.0",
		RouteKey:              route,
		RawPath:               r.URL.Path, // decoded, in spite of its name
		RawQueryString:        r.URL.RawQuery,
		Headers:               headers(r, sourceIP),
		QueryStringParameters: join(r.URL.Query()),
		Body:                  body,
		IsBase64Encoded:       isBase64,
	}}
	event.RequestContext.APIGatewayV2HTTPRequestContext = events.APIGatewayV2HTTPRequestContext{
		RouteKey:     route,
		AccountID:    "123456789012",
		Stage:        "$default",
		RequestID:    rand.Text()[:15] + "=", // looks like base64; Lambda's request IDs are UUIDs
		APIID:        "local",
		DomainName:   domainName,
		DomainPrefix: prefix,
		Time:         now.Format("02/Jan/2006:15:04:05 -0700"),
		TimeEpoch:    now.UnixMilli(),
		HTTP: events.APIGatewayV2HTTPRequestContextHTTPDescription{
			Method:    r.Method,
			Path:      r.URL.Path,
			Protocol:  r.Proto,
			SourceIP:  sourceIP,
			UserAgent: r.UserAgent(),
		},
	}
	event.RequestContext.Authorizer = authorizer
	for _, line := range r.Header.Values("Cookie") {
		event.Cookies = append(event.Cookies, strings.Split(line, "; ")...)
	}
	return event, nil
}

// isText reports whether API Gateway passes the body on unchanged. It encodes every other body in base64: a compressed
// one, and one of another media type or of none. A body that is not UTF-8 is encoded here too, since JSON cannot
// contain it.
func isText(h http.Header, body []byte) bool {
	if len(body) == 0 {
		return true
	}
	if h.Get("Content-Encoding") != "" || !utf8.Valid(body) {
		return false
	}
	mediaType, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return strings.HasPrefix(mediaType, "text/") ||
		slices.Contains([]string{"application/json", "application/javascript", "application/xml"}, mediaType)
}

// headers returns the headers as a function gets them, with lower-case names and with those that API Gateway adds.
// Cookies are another field of the event.
func headers(r *http.Request, sourceIP string) map[string]string {
	h := map[string]string{"host": r.Host, "x-forwarded-proto": "http", "x-forwarded-for": sourceIP}
	for name, value := range join(r.Header) {
		h[strings.ToLower(name)] = value
	}
	delete(h, "cookie")
	delete(h, strings.ToLower(ClaimsHeader))
	delete(h, strings.ToLower(ContextHeader))
	return h
}

// join joins the values of each name with commas.
func join(values map[string][]string) map[string]string {
	joined := make(map[string]string, len(values))
	for name, v := range values {
		joined[name] = strings.Join(v, ",")
	}
	return joined
}

// authorizer returns what an authorizer adds to the event, or nil when the request has neither of the two headers and
// no bearer token.
func authorizer(h http.Header) (json.RawMessage, error) {
	unauthorized := &Error{http.StatusUnauthorized, "Unauthorized", "the authorizer header is not JSON"}
	if context := h.Get(ContextHeader); context != "" {
		if !json.Valid([]byte(context)) {
			return nil, unauthorized
		}
		return json.RawMessage(`{"lambda":` + context + `}`), nil
	}
	unauthorized.Reason = "the claims header is not JSON"
	claims := []byte(h.Get(ClaimsHeader))
	isHeader := len(claims) > 0
	if !isHeader {
		scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return nil, nil
		}
		unauthorized.Reason = "the bearer token is not a JWT"
		parts := strings.Split(token, ".")
		if len(parts) != 3 {
			return nil, unauthorized
		}
		var err error
		if claims, err = base64.RawURLEncoding.DecodeString(parts[1]); err != nil {
			return nil, unauthorized
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(claims))
	decoder.UseNumber() // 1764000000 must not become 1.764e+09
	var values map[string]any
	if !json.Valid(claims) || decoder.Decode(&values) != nil || values == nil {
		return nil, unauthorized
	}
	if !isHeader {
		for name, value := range values {
			values[name] = fmt.Sprint(value) // as API Gateway does as a rule; it, too, writes a list as [a b]
		}
	}
	return json.Marshal(map[string]any{"jwt": map[string]any{"claims": values, "scopes": nil}})
}
