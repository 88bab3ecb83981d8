package endpoint

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"omnistart/internal/config"
	"omnistart/internal/incode"
	"omnistart/internal/problem"
	"omnistart/internal/tooling/apigateway"
)

// failing returns the ID of a flow of the stand-in that fails.
func failing(mnemonic string) string { return strings.Repeat("0", 20) + mnemonic }

func start(flow string) string { return `{"configurationId":"` + flow + `"}` }

func TestStartsASession(t *testing.T) {
	h := newHarness(t)
	r := h.send(t, event(t, "iam", ""))
	if token := h.incode.SessionsOf("canary-customer-43")[0]; !reflect.DeepEqual(r.body, map[string]any{"token": token}) {
		t.Errorf("got %d %s", r.status, r.text)
	}
	want := map[string]any{"configurationId": flow, "externalCustomerId": "canary-customer-43", "countryCode": "ALL"}
	if got := h.incode.Last(); !reflect.DeepEqual(got.Fields, want) || got.Header.Get("X-Api-Key") != firstKey {
		t.Errorf("sent %v", got)
	}
	for name, want := range map[string]any{
		"msg": "request", "level": "INFO", "apiRequestId": "Up3kIjQ1joEEJxw=", "status": 200.0, "code": "ok",
		"authorizer": "iam", "callerArn": "arn:aws:iam::123456789012:user/backend",
		"incodeStatus": 200.0, "coldStart": true, "interviewId": "68e3a1b0c4d5e6f700000001",
	} {
		if r.line[name] != want {
			t.Errorf("log: %s is %v, want %v", name, r.line[name], want)
		}
	}
	if r := h.send(t, event(t, "iam", "")); r.line["coldStart"] != false {
		t.Error("the second request counts as a cold start")
	}
}

func TestInterviewIDIsReturnedOnlyIfConfigured(t *testing.T) {
	for _, tt := range []struct {
		configured bool
		id, want   string
	}{
		{true, "6a0f3c9d", `{"token":"t","interviewId":"6a0f3c9d"}`},
		{true, "", `{"token":"t"}`},
		{false, "6a0f3c9d", `{"token":"t"}`},
	} {
		e := &Endpoint{Config: config.Config{ReturnInterviewID: tt.configured}}
		got := e.response(&exchange{Session: incode.Session{Token: "t", InterviewID: tt.id}})
		if got.Body != tt.want {
			t.Errorf("configured: %t, ID %q: got %s", tt.configured, tt.id, got.Body)
		}
	}
}

func TestOnlyAllowedConfigurationsAreStarted(t *testing.T) {
	for _, tt := range []struct {
		allowed map[string]bool
		status  int
	}{
		{map[string]bool{flow: true, failing("0500"): true}, 200}, {map[string]bool{"*": true}, 200},
		{map[string]bool{failing("0500"): true}, 403}, {nil, 403},
	} {
		h := newHarness(t)
		h.Config.ConfigurationIDs = tt.allowed
		r := h.send(t, event(t, "iam", ""))
		if r.status != tt.status || r.status == 403 && (r.code != "configuration-not-allowed" || h.incode.Requests() > 0) {
			t.Errorf("%v: got %d %s", tt.allowed, r.status, r.text)
		}
	}
}

func TestCallerIsTheCustomer(t *testing.T) {
	const sub = "auth0|canary-customer-42"
	const claims = `{"sub":"` + sub + `","custom:id":"c-7","level":12,"groups":["canary"],"nickname":null,"beta":true}`
	for _, tt := range []struct {
		name   string
		claim  string // the configured one
		claims string // of a JWT, or members of the context of an own authorizer
		inBody string
		want   string // the customer, or the code of a 403
	}{
		{"left out of the body", "sub", claims, "", sub},
		{"the same in the body", "sub", claims, sub, sub},
		{"another claim", "custom:id", claims, "", "c-7"},
		{"an integer", "level", claims, "", "12"},
		{"an integer, the same in the body", "level", claims, "12", "12"},
		{"another customer in the body", "sub", claims, "canary-victim", "customer-mismatch"},
		{"an empty customer in the body", "sub", claims, "", sub},
		{"the same in upper case in the body", "sub", claims, strings.ToUpper(sub), "customer-mismatch"},
		{"an integer with a zero before it in the body", "level", claims, "012", "customer-mismatch"},
		{"equal after normalization only", "sub", `{"sub":"J\u00fcrgen"}`, `Ju\u0308rgen`, "customer-mismatch"},
		{"no claim", "email", claims, "", "customer-unusable"},
		{"no claim, but in the body", "email", claims, sub, "customer-unusable"},
		{"no claims", "sub", `{}`, sub, "customer-unusable"},
		{"null instead of claims", "sub", `null`, sub, "customer-unusable"},
		{"claim in another case", "Sub", claims, sub, "customer-unusable"},
		{"a boolean", "beta", claims, "true", "customer-unusable"},
		{"a list", "groups", claims, "canary", "customer-unusable"},
		{"null", "nickname", claims, "", "customer-unusable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for kind, authorizer := range map[string]string{
				"jwt": `{"jwt":{"claims":` + tt.claims + `,"scopes":null}}`, "lambda": `{"lambda":` + tt.claims + `}`,
			} {
				h := newHarness(t)
				h.Config.CustomerIDClaim = tt.claim
				body := start(flow)
				if tt.inBody != "" {
					body = fmt.Sprintf(`{"configurationId":"%s","externalCustomerId":"%s"}`, flow, tt.inBody)
				}
				r := h.send(t, eventOf(t, authorizer, body))
				got := r.code
				if r.status == 200 {
					got, _ = h.incode.Last().Fields["externalCustomerId"].(string)
				}
				if got != tt.want || (r.status == 200) != (h.incode.Requests() == 1) || r.status != 200 && r.status != 403 {
					t.Errorf("%s: got %d %s for %q", kind, r.status, r.text, got)
				}
				if r.line["authorizer"] != kind || r.line["callerArn"] != "" {
					t.Errorf("%s: log %v", kind, r.line)
				}
			}
		})
	}
}

func TestLogSaysWhyACustomerIsUnusable(t *testing.T) {
	const noText, characters, tooLong = "is empty, or neither a string nor an integer",
		"has a character that is not allowed, or a space at an end", "is too long"
	for claims, want := range map[string]string{
		``: "is absent", `"other":"canary"`: "is absent",
		`"sub":""`: noText, `"sub":null`: noText, `"sub":true`: noText, `"sub":["canary"]`: noText,
		`"sub":{"canary":"canary"}`: noText, `"sub":1.0`: noText, `"sub":-1`: noText, `"sub":1e3`: noText,
		`"sub":"` + strings.Repeat("é", 256) + `"`: tooLong, `"sub":1` + strings.Repeat("0", 255): tooLong,
		`"sub":"canary "`: characters, `"sub":" canary"`: characters, `"sub":"canary\u202e"`: characters,
		`"sub":"canary\ud800"`: characters, `"sub":"canary\u0000"`: characters,
	} {
		h := newHarness(t) // which looks for canaries
		r := h.send(t, eventOf(t, `{"jwt":{"claims":{`+claims+`}}}`, ""))
		if r.code != "customer-unusable" || r.logged != `Customer unusable: the claim "sub" `+want {
			t.Errorf("%s: got %d %s, log %q", claims, r.status, r.text, r.logged)
		}
	}
}

func TestIntegersAreReadDigitForDigit(t *testing.T) {
	for _, digits := range []string{
		"0", "4711", "9007199254740993", "18446744073709551616", strings.Repeat("9", 255), // 9007199254740993 is no float64
	} {
		h := newHarness(t)
		r := h.send(t, eventOf(t, ofCustomer(digits), start(flow)))
		if got := h.incode.Last().Fields["externalCustomerId"]; r.status != 200 || got != digits {
			t.Errorf("%s: got %d %s, sent %v", digits, r.status, r.text, got)
		}
	}
}

func TestBackEndMayNameAnyCustomerAndAPersonMayNot(t *testing.T) {
	const arn = "arn:aws:sts::123456789012:assumed-role/backend/i-1"
	iam := func(identity string) string {
		return `{"iam":{"cognitoIdentity":` + identity + `,"userArn":"` + arn + `"}}`
	}
	for authorizer, code := range map[string]string{
		iam(`null`): "",
		iam(`{"amr":["unauthenticated"],"identityId":"canary"}`): "caller-not-allowed",
		iam(`{"amr":["authenticated"],"identityId":"canary"}`):   "caller-not-allowed",
		iam(`{}`): "caller-not-allowed", iam(`"canary"`): "caller-not-allowed", iam(`false`): "caller-not-allowed",
	} {
		h := newHarness(t)
		r := h.send(t, eventOf(t, authorizer, `{"configurationId":"`+flow+`","externalCustomerId":"canary-any"}`))
		if r.code != code || len(h.incode.SessionsOf("canary-any")) == 1 != (code == "") ||
			r.line["authorizer"] != "iam" || r.line["callerArn"] != arn {
			t.Errorf("%s: got %d %s; log %v", authorizer, r.status, r.text, r.line)
		}
	}
}

func TestEventWithoutAuthorizerIsRefusedUnlessAllowed(t *testing.T) {
	for authorizer, refused := range map[string]bool{
		``: true, `null`: true, `{}`: true, `{"jwt":null,"iam":null}`: true, `{"other":{"sub":"c"}}`: true,
		`{"iam":{}}`: false, ofCustomer(`"c"`): false, `{"lambda":{"sub":"c"}}`: false,
	} {
		for _, allowed := range []bool{false, true} {
			h := newHarness(t)
			h.Config.AllowUnauthenticated = allowed
			r := h.send(t, eventOf(t, authorizer, start(flow)))
			if want := refused && !allowed; (r.status == 200) == want || (r.code == "internal") != want ||
				(r.logged == "the event has no authorizer context") != want || (h.incode.Requests() == 0) != want ||
				(r.line["authorizer"] == "") != refused {
				t.Errorf("%s, allowed %t: got %d %s, log %v", authorizer, allowed, r.status, r.text, r.line)
			}
		}
	}
}

// TestForgedCrossSiteRequestIsRefused is about an authorizer that takes a cookie. The browser sends the person's cookie
// with a request of any page, so the page must not be able to make one that is served. Without a CORS preflight, which
// only listed origins pass, a page can send these types: https://fetch.spec.whatwg.org/#cors-safelisted-request-header
func TestForgedCrossSiteRequestIsRefused(t *testing.T) {
	for _, contentType := range []string{
		"", "text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
		"text/plain; application/json", "text/plain;a=application/json", "multipart/form-data;boundary=application/json",
	} {
		h := newHarness(t)
		e := eventOf(t, `{"lambda":{"sub":"c"}}`, start(flow))
		e.Cookies = []string{"session=canary"}
		if e.Headers["content-type"] = contentType; contentType == "" {
			delete(e.Headers, "content-type")
		}
		if r := h.send(t, e); r.code != "unsupported-media-type" || h.incode.Requests() > 0 {
			t.Errorf("%q: got %d %s", contentType, r.status, r.text)
		}
	}
}

func TestEventsOfAPIGateway(t *testing.T) {
	type httpEvent = apigateway.Event
	header := func(name, value string) func(*httpEvent) { return func(e *httpEvent) { e.Headers[name] = value } }
	route := func(key string) func(*httpEvent) { return func(e *httpEvent) { e.RouteKey = key } }
	body := func(size int, inBase64 bool) func(*httpEvent) {
		return func(e *httpEvent) {
			e.Body += strings.Repeat(" ", size-len(e.Body))
			if e.IsBase64Encoded = inBase64; inBase64 {
				e.Body = base64.StdEncoding.EncodeToString([]byte(e.Body))
			}
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*httpEvent)
		status int
		code   string
	}{
		{"unchanged", func(*httpEvent) {}, 200, ""},
		{"headers of sam local", func(e *httpEvent) { e.Headers = event(t, "sam-local", "").Headers }, 200, ""},
		{"no body", func(e *httpEvent) { e.Body = "" }, 400, "invalid-json"},
		{"broken base64", func(e *httpEvent) { e.Body, e.IsBase64Encoded = "%%%", true }, 400, "invalid-json"},
		{"8 KiB", body(8<<10, false), 200, ""},
		{"8 KiB in base64", body(8<<10, true), 200, ""},
		{"8 KiB and a byte", body(8<<10+1, false), 413, "body-too-large"},
		{"8 KiB and a byte in base64", body(8<<10+1, true), 413, "body-too-large"},
		{"charset", header("content-type", "Application/JSON; charset=UTF-8"), 200, ""},
		{"another charset", header("content-type", "application/json; charset=utf-16"), 415, "unsupported-media-type"},
		{"another parameter", header("content-type", "application/json; v=1"), 415, "unsupported-media-type"},
		{"a type without CORS preflight", header("content-type", "text/plain"), 415, "unsupported-media-type"},
		{"two types", header("content-type", "text/plain,application/json"), 415, "unsupported-media-type"},
		{"no type", func(e *httpEvent) { delete(e.Headers, "content-type") }, 415, "unsupported-media-type"},
		{"gzip", header("content-encoding", "gzip"), 415, "unsupported-media-type"},
		{"identity under sam local", header("Content-Encoding", "identity"), 415, "unsupported-media-type"},
		{"path of a custom domain", func(e *httpEvent) { e.RawPath = "/verify/omni/start" }, 200, ""},
		{"route of every request", route("$default"), 404, "not-found"},
		{"another method", route("GET /omni/start"), 404, "not-found"},
		{"another path", route("POST /start"), 404, "not-found"},
		// It has the claims in another place, so the caller would not be the customer.
		{"payload format 1.0", func(e *httpEvent) { e.Version = "1.0" }, 500, "internal"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t)
			e := event(t, "iam", "")
			tt.change(&e)
			r := h.send(t, e)
			if r.status != tt.status || r.code != tt.code || h.incode.Sessions() == 1 != (r.status == 200) {
				t.Errorf("got %d %s, %d sessions", r.status, r.text, h.incode.Sessions())
			}
		})
	}
}

func TestOtherEventsAreInternalErrors(t *testing.T) {
	for _, payload := range []string{
		``, `{}`, `[]`, `null`, `"canary"`, `{"version":"2.0","body":7}`, `{"version":"2.0","isBase64Encoded":"canary"}`,
		`{"version":"2.0","requestContext":{"authorizer":{"jwt":{"claims":"canary 12345678"}}}}`,
	} {
		h := newHarness(t)
		r := h.invoke(t, []byte(payload))
		if r.status != 500 || r.code != "internal" || strings.Contains(h.logged.String(), "12345678") {
			t.Errorf("%s: got %d %s; log %s", payload, r.status, r.text, h.logged.String())
		}
	}
}

func TestFailuresBecomeProblems(t *testing.T) {
	secretFails := func(code string, status int) func(*harness) {
		return func(h *harness) { h.secrets.Fail(code, status) }
	}
	noSecret, secretDown := secretFails("ResourceNotFoundException", 400), secretFails("InternalServiceError", 500)
	incodeDown := func(h *harness) { h.Sessions = incode.New(&url.URL{Scheme: "http", Host: "127.0.0.1:1"}) }
	littleTime := func(h *harness) { h.timeout = responseReserve + 90*time.Millisecond }
	// A request to the flow that never responds ends only because of these two limits.
	shortIncodeTimeout := func(h *harness) { h.Config.IncodeTimeout = 2 * time.Second }
	shortDeadline := func(h *harness) { h.Config.IncodeTimeout, h.timeout = time.Hour, responseReserve+2*time.Second }
	for _, tt := range []struct {
		name    string
		prepare func(*harness)
		flow    string
		want    *problem.Problem
		status  any    // of Incode in the log, or nil when Incode was not called
		cause   string // in the log after the problem's title
	}{
		{"secret missing", noSecret, flow, problem.ServiceMisconfigured, nil, "operation error"},
		{"Secrets Manager fails", secretDown, flow, problem.SecretUnavailable, nil, "operation error"},
		{"Incode not reached", incodeDown, flow, problem.IncodeUnavailable, 0.0, "dial tcp"},
		{"too little time for a response", littleTime, flow, problem.IncodeUnavailable, 0.0, ""},
		{"throttled", nil, failing("0429"), problem.IncodeThrottled, 429.0, "HTTP 429"},
		{"rejected", nil, failing("0400"), problem.IncodeRejected, 400.0, "HTTP 400"},
		{"failed", nil, failing("0500"), problem.IncodeFailed, 500.0, "HTTP 500"},
		{"no token", nil, failing("bad1"), problem.IncodeInvalidResponse, 200.0, "the response has no usable token"},
		{"connection closed", nil, failing("dead"), problem.OutcomeUnknown, 0.0, ""},
		{"no response in INCODE_TIMEOUT", shortIncodeTimeout, failing("0408"), problem.IncodeTimeout, 0.0, ""},
		{"no response before Lambda's deadline", shortDeadline, failing("0408"), problem.IncodeTimeout, 0.0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // some wait
			h := newHarness(t)
			if tt.status != nil {
				h.loadKey(t) // so that the time for it does not count
			}
			if tt.prepare != nil {
				tt.prepare(h)
			}
			r := h.send(t, event(t, "iam", start(tt.flow)))
			if r.status != tt.want.Status || r.code != tt.want.Code || r.line["incodeStatus"] != tt.status ||
				!strings.HasPrefix(r.logged, tt.want.Title+": "+tt.cause) {
				t.Errorf("got %d %s, log %v", r.status, r.text, r.line)
			}
		})
	}
}

func TestRefusedKeyIsReplacedOnce(t *testing.T) {
	newKey := func(h *harness) { h.secrets.Put(secretID, nextKey) }
	rotate := func(h *harness) { newKey(h); h.incode.SetKey(nextKey) }
	sameKey := func(h *harness) { h.secrets.Put(secretID, `{"apiKey":"`+firstKey+`"}`) }
	secretDownOnly := func(h *harness) { h.secrets.Fail("InternalServiceError", 500) }
	unusable := func(h *harness) { h.incode.SetKey(nextKey); h.secrets.Put(secretID, "two words") }
	bothKeys := func(h *harness) { newKey(h); h.incode.SetKey(firstKey, nextKey) }
	secretFails := func(code string, status int) func(*harness) {
		return func(h *harness) { h.incode.SetKey(nextKey); h.secrets.Fail(code, status) }
	}
	noSecret, secretDown := secretFails("ResourceNotFoundException", 400), secretFails("InternalServiceError", 500)
	for _, tt := range []struct {
		name      string
		prepare   func(*harness)
		flow      string
		code      string
		requests  int     // to Incode
		status    float64 // of Incode in the log
		refreshes float64
	}{
		{"no newer key", func(*harness) {}, failing("0403"), "incode-unauthorized", 1, 403, 0},
		{"same key under a new version", sameKey, failing("0403"), "incode-unauthorized", 1, 403, 0},
		{"firewall, no newer key", func(*harness) {}, failing("f403"), "incode-forbidden", 1, 403, 0},
		{"firewall, newer key", bothKeys, failing("f403"), "incode-forbidden", 2, 403, 1},
		{"newer key works", rotate, flow, "", 2, 200, 1},
		{"newer key is refused too", bothKeys, failing("0401"), "incode-unauthorized", 2, 401, 1},
		{"request with the newer key fails", rotate, failing("0500"), "incode-failed", 2, 500, 1},
		{"Secrets Manager fails", secretDown, flow, "incode-unauthorized", 1, 403, 0},
		{"firewall, Secrets Manager fails", secretDownOnly, failing("f403"), "incode-forbidden", 1, 403, 0},
		{"secret was deleted", noSecret, flow, "incode-unauthorized", 1, 403, 0},
		{"newer value is no key", unusable, flow, "incode-unauthorized", 1, 403, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t)
			h.loadKey(t)
			tt.prepare(h)
			r := h.send(t, event(t, "iam", start(tt.flow)))
			if r.code != tt.code || h.incode.Requests() != tt.requests || h.secrets.Requests() != 2 {
				t.Errorf("got %d %s, %d requests to Incode, %d loads of the secret, want %d and 2",
					r.status, r.text, h.incode.Requests(), h.secrets.Requests(), tt.requests)
			}
			if used := h.incode.Last().Header.Get("X-Api-Key"); (used == nextKey) != (tt.requests == 2) {
				t.Errorf("the last request had the key %s", used)
			}
			if r.line["incodeStatus"] != tt.status || r.line["KeyRefreshes"] != tt.refreshes ||
				tt.code != "" && !strings.Contains(r.logged, fmt.Sprintf("HTTP %v", tt.status)) {
				t.Errorf("log %v", r.line)
			}
		})
	}
}

func TestRetryAfterIsOneSecondToOneMinute(t *testing.T) {
	for wait, want := range map[time.Duration]string{
		-time.Hour: "1", 0: "1", time.Second: "1", time.Second + 1: "2", time.Minute: "60", math.MaxInt64: "60",
	} {
		r := new(Endpoint).response(&exchange{err: problem.IncodeThrottled, Session: incode.Session{RetryAfter: wait}})
		if r.Headers.RetryAfter != want {
			t.Errorf("%v: got %s, want %s", wait, r.Headers.RetryAfter, want)
		}
	}
	r := new(Endpoint).response(&exchange{err: problem.IncodeFailed, Session: incode.Session{RetryAfter: time.Hour}})
	if r.Headers.RetryAfter != "" {
		t.Errorf("a failure that may have started a session has Retry-After: %s", r.Headers.RetryAfter)
	}
}

func TestSessionWithoutTokenIsNamedInTheLogOnly(t *testing.T) {
	h := newHarness(t)
	h.Config.ReturnInterviewID = true
	r := h.send(t, event(t, "iam", start(failing("bad1"))))
	if id, _ := r.line["interviewId"].(string); h.incode.Sessions() != 1 || id == "" || strings.Contains(r.text, id) {
		t.Errorf("got %s; log %v", r.text, r.line)
	}
}

func TestPanicBecomesAResponse(t *testing.T) {
	for _, value := range []any{"canary", errors.New("canary"), incode.Session{Token: "canary"}} {
		h := newHarness(t)
		customer := fieldOf("externalCustomerId")
		check := customer.check
		var deep func(wide [8]int) bool // so that the stack is long
		deep = func(wide [8]int) bool {
			if wide[7]--; wide[7] < 0 {
				panic(value)
			}
			return deep(wide) || wide[0] > 0
		}
		customer.check = func(config.Config, string) bool { return deep([8]int{-1, -2, -3, -4, -5, -6, -7, 1000}) }
		r := h.send(t, event(t, "iam", ""))
		customer.check = check
		if r.code != "internal" || !strings.HasPrefix(r.logged, fmt.Sprintf("panic: a value of type %T\n", value)) ||
			!strings.Contains(r.logged, "endpoint_test.go") || len(strconv.Quote(r.logged)) > 14<<10 {
			t.Errorf("%T: got %d %s, log of %d bytes: %s", value, r.status, r.text, len(r.logged), r.logged)
		}
		if r := h.send(t, event(t, "iam", "")); r.status != 200 {
			t.Errorf("%T: the next request fails: %s", value, r.text)
		}
	}
}
