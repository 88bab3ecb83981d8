// Package apigateway stands in for an API Gateway HTTP API on a developer's
// machine: it converts an HTTP request to the event that a Lambda function gets
// (payload format 2.0), and the function's response to an HTTP response.
//
// The rules are those of "Create AWS Lambda proxy integrations for HTTP APIs"
// in the API Gateway developer guide. Where the guide says nothing, they are
// taken from captured events.
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

// ClaimsHeader is a header whose value, a JSON object, replaces the claims of an
// access token. It takes precedence over a bearer token. The function does not
// see the header.
const ClaimsHeader = "X-Local-Claims"

// Error is the response to a request that API Gateway rejects without calling
// the function.
type Error struct {
	Status  int
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("%d %s", e.Status, e.Message) }

// NewEvent returns the event for a request to an API whose only route is route,
// such as "POST /omni/start". It reads the body. Every error is an *Error.
//
// A bearer token in the Authorization header is handled as by a JWT authorizer,
// with one difference: the token is decoded and NOT verified, neither its
// signature nor issuer, audience, scopes or expiry. The header [ClaimsHeader]
// sets claims without a token. Both are for trying out the function on one's own
// machine, and must never face the internet.
func NewEvent(r *http.Request, route string) (events.APIGatewayV2HTTPRequest, error) {
	if r.Method+" "+r.URL.Path != route {
		return events.APIGatewayV2HTTPRequest{}, &Error{http.StatusNotFound, "Not Found"}
	}
	claims, err := claims(r.Header)
	if err != nil {
		return events.APIGatewayV2HTTPRequest{}, err
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return events.APIGatewayV2HTTPRequest{}, &Error{http.StatusBadRequest, "Bad Request"}
	}
	if len(raw) > maxBody {
		return events.APIGatewayV2HTTPRequest{}, &Error{http.StatusRequestEntityTooLarge, "Request Entity Too Large"}
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
	event := events.APIGatewayV2HTTPRequest{
		Version:               "2.0",
		RouteKey:              route,
		RawPath:               r.URL.Path, // decoded, in spite of its name
		RawQueryString:        r.URL.RawQuery,
		Headers:               headers(r, sourceIP),
		QueryStringParameters: join(r.URL.Query()),
		RequestContext: events.APIGatewayV2HTTPRequestContext{
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
		},
		Body:            body,
		IsBase64Encoded: isBase64,
	}
	for _, line := range r.Header.Values("Cookie") {
		event.Cookies = append(event.Cookies, strings.Split(line, "; ")...)
	}
	if claims != nil {
		event.RequestContext.Authorizer = &events.APIGatewayV2HTTPRequestContextAuthorizerDescription{
			JWT: &events.APIGatewayV2HTTPRequestContextAuthorizerJWTDescription{Claims: claims},
		}
	}
	return event, nil
}

// isText reports whether API Gateway passes the body on unchanged. It encodes
// every other body in base64: a compressed one, and one of another media type or
// of none. A body that is not UTF-8 is encoded here too, since JSON cannot
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

// headers returns the headers as a function gets them, with lower-case names and
// with those that API Gateway adds. Cookies are another field of the event.
func headers(r *http.Request, sourceIP string) map[string]string {
	h := map[string]string{"host": r.Host, "x-forwarded-proto": "http", "x-forwarded-for": sourceIP}
	for name, value := range join(r.Header) {
		h[strings.ToLower(name)] = value
	}
	delete(h, "cookie")
	delete(h, strings.ToLower(ClaimsHeader))
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

// claims returns the claims of [ClaimsHeader] or of a bearer token, each as the
// string to which API Gateway converts it, or nil when there is neither.
func claims(h http.Header) (map[string]string, error) {
	unauthorized := &Error{http.StatusUnauthorized, "Unauthorized"}
	payload := []byte(h.Get(ClaimsHeader))
	if len(payload) == 0 {
		scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return nil, nil
		}
		parts := strings.Split(token, ".")
		if len(parts) != 3 {
			return nil, unauthorized
		}
		var err error
		if payload, err = base64.RawURLEncoding.DecodeString(parts[1]); err != nil {
			return nil, unauthorized
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber() // 1764000000 must not become 1.764e+09
	var values map[string]any
	if !json.Valid(payload) || decoder.Decode(&values) != nil || values == nil {
		return nil, unauthorized
	}
	claims := make(map[string]string, len(values))
	for name, value := range values {
		claims[name] = fmt.Sprint(value) // API Gateway, too, writes a list as [a b]
	}
	return claims, nil
}
