package apigateway_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"omnistart/internal/tooling/apigateway"
)

const route = "POST /omni/start"

func TestEventEqualsACapturedOne(t *testing.T) {
	file, err := os.ReadFile("testdata/post.json")
	if err != nil {
		t.Fatal(err)
	}
	var want apigateway.Event
	if err := json.Unmarshal(file, &want); err != nil {
		t.Fatal(err)
	}
	const url = "http://localhost:3000/omni/start?a=1&a=2&b=%20"
	r := httptest.NewRequest(http.MethodPost, url, strings.NewReader(want.Body))
	r.Header.Set("CONTENT-TYPE", "application/json")
	r.Header.Set("Content-Length", "31")
	r.Header.Set("User-Agent", "curl/8.14.1")
	r.Header.Add("X-Twice", "1")
	r.Header.Add("X-Twice", "2")
	r.Header.Set("Cookie", "one=1; two=2")
	before := time.Now().Truncate(time.Second)
	got, err := apigateway.NewEvent(r, route)
	if err != nil {
		t.Fatal(err)
	}

	// Three values differ in each event: check their form, then copy them.
	c := got.RequestContext
	if !regexp.MustCompile(`^[\w+/-]{15}=$`).MatchString(c.RequestID) {
		t.Errorf("requestId %q", c.RequestID)
	}
	at, err := time.Parse("02/Jan/2006:15:04:05 -0700", c.Time)
	if err != nil || at.Before(before) || at.Unix() != c.TimeEpoch/1000 {
		t.Errorf("time %q, timeEpoch %d, %v", c.Time, c.TimeEpoch, err)
	}
	w := &want.RequestContext
	w.RequestID, w.Time, w.TimeEpoch = c.RequestID, c.Time, c.TimeEpoch
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestOtherRoutesAreNotFound(t *testing.T) {
	for target, want := range map[string]int{
		"POST /omni/start":   0,
		"POST /omni/start?a": 0,
		"GET /omni/start":    404,
		"POST /omni/start/":  404,
		"POST //omni/start":  404,
	} {
		method, path, _ := strings.Cut(target, " ")
		_, err := apigateway.NewEvent(httptest.NewRequest(method, "http://localhost"+path, nil), route)
		if got := statusOf(err); got != want {
			t.Errorf("%s: status %d, want %d", target, got, want)
		}
	}
}

func TestTextIsPassedOnAndOtherBodiesAreBase64(t *testing.T) {
	tests := []struct {
		name, contentType, contentEncoding, body string
		isBase64                                 bool
	}{
		{"JSON", "application/json", "", "{}", false},
		{"JSON with a charset", "application/json; charset=utf-8", "", "{}", false},
		{"text", "text/plain", "", "{}", false},
		{"curl's form data", "application/x-www-form-urlencoded", "", "{}", true},
		{"no content type", "", "", "{}", true},
		{"broken content type", "application/json; charset", "", "{}", false},
		{"compressed JSON", "application/json", "gzip", "\x1f\x8b", true},
		{"JSON that is not UTF-8", "application/json", "", "{\"\xff\"}", true},
		{"empty", "", "", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/omni/start", strings.NewReader(tt.body))
			if tt.contentType != "" {
				r.Header.Set("Content-Type", tt.contentType)
			}
			if tt.contentEncoding != "" {
				r.Header.Set("Content-Encoding", tt.contentEncoding)
			}
			event, err := apigateway.NewEvent(r, route)
			if err != nil || event.IsBase64Encoded != tt.isBase64 {
				t.Fatalf("isBase64Encoded %t, %v", event.IsBase64Encoded, err)
			}
			got := event.Body
			if event.IsBase64Encoded {
				decoded, err := base64.StdEncoding.DecodeString(event.Body)
				if err != nil {
					t.Fatal(err)
				}
				got = string(decoded)
			}
			if got != tt.body {
				t.Errorf("body %q, want %q", got, tt.body)
			}
		})
	}
}

func TestBodyOver10MiBIsRejected(t *testing.T) {
	for size, want := range map[int]int{10 << 20: 0, 10<<20 + 1: http.StatusRequestEntityTooLarge} {
		r := httptest.NewRequest(http.MethodPost, "/omni/start", strings.NewReader(strings.Repeat("x", size)))
		_, err := apigateway.NewEvent(r, route)
		if status := statusOf(err); status != want {
			t.Errorf("%d bytes: status %d, want %d", size, status, want)
		}
	}
}

// statusOf returns the status of an *apigateway.Error, 0 for nil.
func statusOf(err error) int {
	if e, ok := errors.AsType[*apigateway.Error](err); ok {
		return e.Status
	}
	return 0
}

func TestAuthorizerComesFromTheTokenOrTheHeaders(t *testing.T) {
	token := func(payload string) string {
		return "Bearer e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".not-a-signature"
	}
	jwt := func(claims string) string { return `{"jwt":{"claims":` + claims + `,"scopes":null}}` }
	const ofEveryType = `{"admin":true,"exp":17640000000000000000,"groups":["a","b"],"nickname":null,"sub":"customer-42"}`
	tests := []struct {
		name, authorization, claims, context string
		want                                 string // "": the event has no authorizer context
		status                               int
	}{
		{"none", "", "", "", "", 0},
		{"SigV4", "AWS4-HMAC-SHA256 Credential=x", "", "", "", 0},
		{"token with claims of every type", token(`{"admin":true,"exp":17640000000000000000,"groups":["a","b"]}`), "", "",
			jwt(`{"admin":"true","exp":"17640000000000000000","groups":"[a b]"}`), 0}, // as strings
		{"scheme in lower case", "b" + token(`{"sub":"x"}`)[1:], "", "", jwt(`{"sub":"x"}`), 0},
		{"no claims", token(`{}`), "", "", jwt(`{}`), 0},
		{"no token", "Bearer", "", "", "", 401},
		{"two parts", "Bearer a.b", "", "", "", 401},
		{"not base64", "Bearer e30.*.x", "", "", "", 401},
		{"not JSON", token(`sub`), "", "", "", 401},
		{"JSON null", token(`null`), "", "", "", 401},
		{"header with claims of every type", "", ofEveryType, "", jwt(ofEveryType), 0}, // unchanged
		{"header beside a token", token(`{"sub":"x"}`), `{"sub":"customer-7"}`, "", jwt(`{"sub":"customer-7"}`), 0},
		{"header beside a bad token", "Bearer", `{"sub":"customer-7"}`, "", jwt(`{"sub":"customer-7"}`), 0},
		{"header that is not JSON", "", `sub`, "", "", 401},
		{"bad header beside a token", token(`{"sub":"x"}`), `{"sub":`, "", "", 401},
		{"header with a list", "", `["customer-7"]`, "", "", 401},
		{"header with two objects", "", `{"sub":"customer-7"}{"sub":"customer-42"}`, "", "", 401},
		{"header with a brace too many", "", `{"sub":"customer-7"}}`, "", "", 401},
		{"context", "", "", ofEveryType, `{"lambda":` + ofEveryType + `}`, 0},
		{"empty context beside a token", token(`{"sub":"x"}`), "", `null`, `{"lambda":null}`, 0},
		{"context that is not JSON", "", "", `sub`, "", 401},
		{"context with a brace too many", "", "", `{"sub":"customer-7"}}`, "", 401},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/omni/start", nil)
			for name, value := range map[string]string{
				"Authorization": tt.authorization, apigateway.ClaimsHeader: tt.claims, apigateway.ContextHeader: tt.context,
			} {
				if value != "" {
					r.Header.Set(name, value)
				}
			}
			event, err := apigateway.NewEvent(r, route)
			if statusOf(err) != tt.status {
				t.Fatalf("got %v, want status %d", err, tt.status)
			}
			if got := string(event.RequestContext.Authorizer); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			for name := range event.Headers {
				if strings.HasPrefix(name, "x-local-") {
					t.Errorf("the function gets the header %s", name)
				}
			}
		})
	}
}

func TestWriteResponse(t *testing.T) {
	const serverError = `{"message":"Internal Server Error"}`
	tests := []struct {
		name, payload string
		status        int
		contentType   string
		body          string
	}{
		{"a full response", `{"statusCode":422,"headers":{"content-type":"application/problem+json"},"body":"{}"}`,
			422, "application/problem+json", "{}"},
		{"no content type", `{"statusCode":200,"body":"hello"}`, 200, "text/plain;charset=UTF-8", "hello"},
		{"base64", `{"statusCode":200,"body":"/wA=","isBase64Encoded":true}`, 200, "text/plain;charset=UTF-8", "\xff\x00"},
		{"no status", `{"token":"t"}`, 500, "application/json", serverError},
		{"not JSON", `token`, 500, "application/json", serverError},
		{"broken base64", `{"statusCode":200,"body":"*","isBase64Encoded":true}`, 500, "application/json", serverError},
		{"impossible status", `{"statusCode":99}`, 500, "application/json", serverError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			if status := apigateway.WriteResponse(w, []byte(tt.payload)); status != tt.status || w.Code != tt.status {
				t.Errorf("status %d, sent as %d, want %d", status, w.Code, tt.status)
			}
			if got := w.Header().Get("Content-Type"); got != tt.contentType {
				t.Errorf("content type %q, want %q", got, tt.contentType)
			}
			if w.Body.String() != tt.body {
				t.Errorf("body %q, want %q", w.Body, tt.body)
			}
		})
	}
}

func TestWriteResponseSendsHeadersAndCookies(t *testing.T) {
	w := httptest.NewRecorder()
	const payload = `{"statusCode":204,"headers":{"cache-control":"no-store"},"cookies":["a=1","b=2"]}`
	apigateway.WriteResponse(w, []byte(payload))
	if got := w.Header(); got.Get("Cache-Control") != "no-store" || len(got["Set-Cookie"]) != 2 {
		t.Errorf("headers %v", got)
	}
}

func TestWriteError(t *testing.T) {
	tests := []struct {
		err    error
		status int
		body   string
	}{
		{&apigateway.Error{Status: 401, Message: "Unauthorized"}, 401, `{"message":"Unauthorized"}`},
		{errors.New("the function failed: canary"), 500, `{"message":"Internal Server Error"}`},
	}
	for _, tt := range tests {
		w := httptest.NewRecorder()
		status := apigateway.WriteError(w, tt.err)
		if status != tt.status || w.Code != tt.status || w.Body.String() != tt.body {
			t.Errorf("%v: status %d, sent as %d with %s", tt.err, status, w.Code, w.Body)
		}
	}
}
