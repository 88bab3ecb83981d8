// Package apigateway stands in for an API Gateway HTTP API on a developer's
// machine: it turns an HTTP request into the event that a Lambda function gets
// (payload format 2.0), and what the function returns into an HTTP response.
//
// The rules are those of "Create AWS Lambda proxy integrations for HTTP APIs"
// in the API Gateway developer guide, and where that is silent, of captured
// events.
package apigateway

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
)

// maxBody is an HTTP API's limit for a request body.
const maxBody = 10 << 20

// ClaimsHeader is a header whose value, a JSON object, stands for the claims of
// an access token, and goes before those of a bearer token. The function does
// not get it.
const ClaimsHeader = "X-Local-Claims"

// Error is a request that API Gateway answers by itself: the function never
// sees it.
type Error struct {
	Status  int
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("%d %s", e.Status, e.Message) }

// NewEvent returns the event for a request to an API whose routes are route,
// such as "POST /omni/start", and $default. It reads the body. Every error is
// an *Error.
//
// An Authorization header of the form "Bearer JWT" takes the way of a JWT
// authorizer, with one difference: the token is decoded and NOT verified,
// neither signature nor issuer, audience, scopes or expiry. The header
// [ClaimsHeader] names claims without a token. Both serve to try out what the
// function makes of claims, and must never stand between the internet and
// anything.
func NewEvent(r *http.Request, route string) (events.APIGatewayV2HTTPRequest, error) {
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
	routeKey := "$default"
	if r.Method+" "+r.URL.Path == route {
		routeKey = route
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
		RouteKey:              routeKey,
		RawPath:               r.URL.Path, // decoded, whatever its name says
		RawQueryString:        r.URL.RawQuery,
		Cookies:               cookies(r.Header),
		Headers:               headers(r),
		QueryStringParameters: join(r.URL.Query()),
		RequestContext: events.APIGatewayV2HTTPRequestContext{
			RouteKey:     routeKey,
			AccountID:    "123456789012",
			Stage:        "$default",
			RequestID:    requestID(),
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
	if claims != nil {
		event.RequestContext.Authorizer = &events.APIGatewayV2HTTPRequestContextAuthorizerDescription{
			JWT: &events.APIGatewayV2HTTPRequestContextAuthorizerJWTDescription{Claims: claims},
		}
	}
	return event, nil
}

// isText reports whether API Gateway hands the body over as it is. Everything
// else is base64: a body that is encoded, of another media type or of none
// (curl's form data, for one). A text that is not UTF-8 could not be carried in
// JSON; base64 brings it to the function unchanged.
func isText(h http.Header, body []byte) bool {
	if len(body) == 0 {
		return true
	}
	mediaType, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	switch mediaType {
	case "application/json", "application/javascript", "application/xml":
	default:
		if !strings.HasPrefix(mediaType, "text/") {
			return false
		}
	}
	return h.Get("Content-Encoding") == "" && utf8.Valid(body)
}

// headers returns the headers with lower-case names, which is how a function
// gets them however they were sent, and those that API Gateway adds. Cookies
// have a place of their own.
func headers(r *http.Request) map[string]string {
	h := map[string]string{"host": r.Host, "x-forwarded-proto": "http"}
	for name, value := range join(r.Header) {
		h[strings.ToLower(name)] = value
	}
	delete(h, "cookie")
	delete(h, strings.ToLower(ClaimsHeader))
	if ip, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		h["x-forwarded-for"] = ip
	}
	return h
}

// join makes one value of many, separated by commas.
func join(values map[string][]string) map[string]string {
	if len(values) == 0 {
		return nil
	}
	joined := make(map[string]string, len(values))
	for name, v := range values {
		joined[name] = strings.Join(v, ",")
	}
	return joined
}

func cookies(h http.Header) []string {
	var cookies []string
	for _, line := range h.Values("Cookie") {
		for cookie := range strings.SplitSeq(line, ";") {
			cookies = append(cookies, strings.TrimSpace(cookie))
		}
	}
	return cookies
}

// claims returns the claims of [ClaimsHeader] or of a bearer token, each as the
// string that API Gateway makes of it, or nil when there is neither.
func claims(h http.Header) (map[string]string, error) {
	unauthorized := &Error{http.StatusUnauthorized, "Unauthorized"}
	payload := h.Get(ClaimsHeader)
	if payload == "" {
		scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return nil, nil
		}
		parts := strings.Split(token, ".")
		if len(parts) != 3 {
			return nil, unauthorized
		}
		decoded, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err != nil {
			return nil, unauthorized
		}
		payload = string(decoded)
	}
	decoder := json.NewDecoder(strings.NewReader(payload))
	decoder.UseNumber() // 1764000000 must not become 1.764e+09
	var values map[string]any
	if err := decoder.Decode(&values); err != nil || values == nil {
		return nil, unauthorized
	}
	if _, err := decoder.Token(); err != io.EOF { // something follows
		return nil, unauthorized
	}
	claims := make(map[string]string, len(values))
	for name, value := range values {
		claims[name] = fmt.Sprint(value) // API Gateway writes a list as [a b], too
	}
	return claims, nil
}

// requestID returns an ID in the form of API Gateway's, which are not Lambda's.
func requestID() string {
	var b [11]byte
	_, _ = rand.Read(b[:]) // never fails, says its documentation
	return base64.StdEncoding.EncodeToString(b[:])
}
