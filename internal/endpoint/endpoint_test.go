package endpoint

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"omnistart/internal/incode"
	"omnistart/internal/tooling/leaktest"
)

func TestSessionStarts(t *testing.T) {
	r := newRig(t)
	resp, body := r.send(t, event(t, "iam", ""))
	if resp.StatusCode != 200 || resp.Headers["Content-Type"] != "application/json" || !reflect.DeepEqual(body, map[string]any{"token": token}) {
		t.Errorf("got %d %v %s", resp.StatusCode, resp.Headers, resp.Body)
	}
	want := incode.StartRequest{ConfigurationID: flow, ExternalCustomerID: "canary-customer-43", CountryCode: "ALL"}
	if !reflect.DeepEqual(r.starter.got, []incode.StartRequest{want}) {
		t.Errorf("sent %+v", r.starter.got)
	}
	line := r.logLine(t)
	for key, want := range map[string]any{
		"msg": "request", "level": "INFO", "apiRequestId": "Up3kIjQ1joEEJxw=", "status": 200.0, "code": "ok",
		"incodeStatus": 200.0, "coldStart": true, "interviewId": interviewID,
	} {
		if line[key] != want {
			t.Errorf("log: %s is %v, want %v", key, line[key], want)
		}
	}
	r.send(t, event(t, "iam", ""))
	if r.logLine(t)["coldStart"] != false {
		t.Error("the second request is not cold")
	}
}

func TestInterviewIDOnlyOnDemand(t *testing.T) {
	r := newRig(t)
	r.config.ReturnInterviewID = true
	if _, body := r.send(t, event(t, "iam", "")); body["interviewId"] != interviewID || len(body) != 2 {
		t.Errorf("got %v", body)
	}
	r = newRig(t, func(context.Context) (incode.Session, error) { return incode.Session{Token: token}, nil })
	r.config.ReturnInterviewID = true
	if _, body := r.send(t, event(t, "iam", "")); len(body) != 1 {
		t.Errorf("Incode gave none: got %v", body)
	}
}

func TestCallerIsTheCustomer(t *testing.T) {
	const sub = "auth0|canary-customer-42"
	body := func(id string) string {
		return fmt.Sprintf(`{"configurationId":"%s","externalCustomerId":"%s"}`, flow, id)
	}
	tests := []struct {
		name   string
		claims map[string]string
		body   string
		want   string // the customer; "" is 403
	}{
		{"left out", map[string]string{"sub": sub}, "", sub},
		{"the same", map[string]string{"sub": sub}, body(sub), sub},
		{"somebody else", map[string]string{"sub": sub}, body("canary-victim"), ""},
		{"the same in another case", map[string]string{"sub": sub}, body(strings.ToUpper(sub)), ""},
		{"claim missing", map[string]string{"iss": "x"}, "", ""},
		{"claim missing, named in the body", map[string]string{"iss": "x"}, body(sub), ""},
		{"no claims at all", nil, body(sub), ""},
		{"claim empty", map[string]string{"sub": ""}, body(sub), ""},
		{"claim in another case", map[string]string{"Sub": sub}, body(sub), ""},
		{"claim is a list, as API Gateway writes it", map[string]string{"sub": "[a b]"}, "", ""},
		{"claim with a space", map[string]string{"sub": "a b"}, "", ""},
		{"claim too long", map[string]string{"sub": strings.Repeat("a", 129)}, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			ev := event(t, "jwt", tt.body)
			ev.RequestContext.Authorizer.JWT.Claims = tt.claims
			resp, body := r.send(t, ev)
			if tt.want == "" {
				if resp.StatusCode != 403 || code(body) != "customer-mismatch" || len(r.starter.got) != 0 {
					t.Errorf("got %d %s, %d calls", resp.StatusCode, resp.Body, len(r.starter.got))
				}
				return
			}
			if resp.StatusCode != 200 || r.starter.got[0].ExternalCustomerID != tt.want {
				t.Errorf("got %d, sent %+v", resp.StatusCode, r.starter.got)
			}
		})
	}
	t.Run("a route that has lost its authorizer", func(t *testing.T) {
		for source, want := range map[string]int{"sam-local": 500, "iam": 200, "jwt": 200} {
			r := newRig(t)
			r.config.RequireAuthorizer = true
			resp, got := r.send(t, event(t, source, ""))
			if resp.StatusCode != want || (len(r.starter.got) == 1) != (want == 200) {
				t.Errorf("%s: got %d %s, %d calls", source, resp.StatusCode, resp.Body, len(r.starter.got))
			}
			told, _ := r.logLine(t)["error"].(string)
			if want == 500 && (code(got) != "internal" || !strings.Contains(told, "REQUIRE_AUTHORIZER")) {
				t.Errorf("%s: %s; the log tells the operator %q", source, resp.Body, told)
			}
		}
	})
	t.Run("another claim", func(t *testing.T) {
		r := newRig(t)
		r.config.CustomerIDClaim = "custom:id"
		ev := event(t, "jwt", "")
		ev.RequestContext.Authorizer.JWT.Claims["custom:id"] = "c-7"
		if r.send(t, ev); r.starter.got[0].ExternalCustomerID != "c-7" {
			t.Errorf("sent %+v", r.starter.got)
		}
	})
}

func TestWhatAPIGatewayHandsOver(t *testing.T) {
	type change func(*events.APIGatewayV2HTTPRequest)
	tests := []struct {
		name   string
		change change
		status int
		code   string
	}{
		{"as it is", func(*events.APIGatewayV2HTTPRequest) {}, 200, ""},
		{"base64", func(ev *events.APIGatewayV2HTTPRequest) {
			ev.Body, ev.IsBase64Encoded = base64.StdEncoding.EncodeToString([]byte(ev.Body)), true
		}, 200, ""},
		{"broken base64", func(ev *events.APIGatewayV2HTTPRequest) { ev.Body, ev.IsBase64Encoded = "%%%", true }, 400, "invalid-json"},
		{"no body", func(ev *events.APIGatewayV2HTTPRequest) { ev.Body = "" }, 400, "invalid-json"},
		{"8 KiB", func(ev *events.APIGatewayV2HTTPRequest) { ev.Body += strings.Repeat(" ", 8<<10-len(ev.Body)) }, 200, ""},
		{"8 KiB and a byte", func(ev *events.APIGatewayV2HTTPRequest) { ev.Body += strings.Repeat(" ", 8<<10+1-len(ev.Body)) }, 413, "body-too-large"},
		{"8 KiB in base64", func(ev *events.APIGatewayV2HTTPRequest) {
			ev.Body, ev.IsBase64Encoded = base64.StdEncoding.EncodeToString([]byte(ev.Body+strings.Repeat(" ", 8<<10-len(ev.Body)))), true
		}, 200, ""},
		{"8 KiB and a byte in base64", func(ev *events.APIGatewayV2HTTPRequest) {
			ev.Body, ev.IsBase64Encoded = base64.StdEncoding.EncodeToString([]byte(ev.Body+strings.Repeat(" ", 8<<10+1-len(ev.Body)))), true
		}, 413, "body-too-large"},
		{"a megabyte in base64", func(ev *events.APIGatewayV2HTTPRequest) {
			ev.Body, ev.IsBase64Encoded = strings.Repeat("AAAA", 1<<18), true
		}, 413, "body-too-large"},
		{"charset=utf-8", func(ev *events.APIGatewayV2HTTPRequest) {
			ev.Headers["content-type"] = "Application/JSON; charset=UTF-8"
		}, 200, ""},
		{"another charset", func(ev *events.APIGatewayV2HTTPRequest) {
			ev.Headers["content-type"] = "application/json; charset=utf-16"
		}, 415, "unsupported-media-type"},
		{"another parameter", func(ev *events.APIGatewayV2HTTPRequest) { ev.Headers["content-type"] = "application/json; v=1" }, 415, "unsupported-media-type"},
		{"a form, which needs no preflight", func(ev *events.APIGatewayV2HTTPRequest) { ev.Headers["content-type"] = "text/plain" }, 415, "unsupported-media-type"},
		{"two types", func(ev *events.APIGatewayV2HTTPRequest) {
			ev.Headers["content-type"] = "text/plain,application/json"
		}, 415, "unsupported-media-type"},
		{"no type", func(ev *events.APIGatewayV2HTTPRequest) { delete(ev.Headers, "content-type") }, 415, "unsupported-media-type"},
		{"gzip", func(ev *events.APIGatewayV2HTTPRequest) { ev.Headers["content-encoding"] = "gzip" }, 415, "unsupported-media-type"},
		{"identity", func(ev *events.APIGatewayV2HTTPRequest) { ev.Headers["Content-Encoding"] = "identity" }, 415, "unsupported-media-type"},
		{"$default route, right path", func(ev *events.APIGatewayV2HTTPRequest) { ev.RouteKey = "$default" }, 200, ""},
		{"$default route behind a stage", func(ev *events.APIGatewayV2HTTPRequest) {
			ev.RouteKey, ev.RawPath, ev.RequestContext.Stage = "$default", "/prod/omni/start", "prod"
		}, 200, ""},
		{"custom domain's base path", func(ev *events.APIGatewayV2HTTPRequest) { ev.RawPath = "/verify/omni/start" }, 200, ""},
		{"another path", func(ev *events.APIGatewayV2HTTPRequest) { ev.RouteKey, ev.RawPath = "$default", "/omni/start/" }, 404, "not-found"},
		{"another stage's path", func(ev *events.APIGatewayV2HTTPRequest) { ev.RouteKey, ev.RawPath = "$default", "/prod/omni/start" }, 404, "not-found"},
		{"another path and method", func(ev *events.APIGatewayV2HTTPRequest) {
			ev.RouteKey, ev.RawPath, ev.RequestContext.HTTP.Method = "$default", "/", "GET"
		}, 404, "not-found"},
		{"GET, as Incode's samples do", func(ev *events.APIGatewayV2HTTPRequest) {
			ev.RouteKey, ev.RequestContext.HTTP.Method = "$default", "GET"
		}, 405, "method-not-allowed"},
		{"OPTIONS, as Incode's Python sample does", func(ev *events.APIGatewayV2HTTPRequest) {
			ev.RouteKey, ev.RequestContext.HTTP.Method = "$default", "OPTIONS"
		}, 405, "method-not-allowed"},
		{"payload format 1.0 hides the claims", func(ev *events.APIGatewayV2HTTPRequest) { ev.Version = "1.0" }, 500, "internal"},
	}
	for _, tt := range tests {
		for _, source := range []string{"iam", "sam-local"} {
			t.Run(tt.name+"/"+source, func(t *testing.T) {
				r := newRig(t)
				ev := event(t, source, "")
				headers := ev.Headers
				ev.Headers = map[string]string{}
				for name, v := range headers {
					ev.Headers[strings.ToLower(name)] = v
				}
				tt.change(&ev)
				if source == "sam-local" { // hands names over as the client wrote them
					headers, ev.Headers = ev.Headers, map[string]string{}
					for name, v := range headers {
						ev.Headers[http.CanonicalHeaderKey(name)] = v
					}
				}
				resp, body := r.send(t, ev)
				if resp.StatusCode != tt.status || code(body) != tt.code {
					t.Errorf("got %d %s, want %d %s", resp.StatusCode, resp.Body, tt.status, tt.code)
				}
				if (resp.Headers["Allow"] == "POST") != (tt.status == 405) {
					t.Errorf("Allow: %q", resp.Headers["Allow"])
				}
				if (len(r.starter.got) == 1) != (tt.status == 200) {
					t.Errorf("%d calls to Incode", len(r.starter.got))
				}
			})
		}
	}
}

func TestEventThatIsNone(t *testing.T) {
	for _, payload := range []string{
		`{}`, `[]`, `null`, `"canary"`, `{"version":"2.0","body":7}`,
		`{"version":"2.0","requestContext":{"authorizer":{"jwt":{"claims":{"sub":12345678}}}}}`,
		`{"version":"2.0","isBase64Encoded":12345678.5}`,
	} {
		r := newRig(t)
		resp, body := r.invoke(t, []byte(payload))
		if resp.StatusCode != 500 || code(body) != "internal" || strings.Contains(r.logged.String(), "12345678") {
			t.Errorf("%s: got %d %s; log %s", payload, resp.StatusCode, resp.Body, r.logged.String())
		}
	}
}

// encoding/json would hand these on as U+FFFD.
func TestBrokenTextInTheEventItself(t *testing.T) {
	good, err := json.Marshal(event(t, "iam", `{"configurationId":"`+flow+`","customFields":{"k":"HERE"}}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"invalid UTF-8": "\xff", "UTF-8 of a surrogate": "\xed\xa0\x80", "half of a surrogate pair": `\ud800`} {
		r := newRig(t)
		if resp, body := r.invoke(t, bytes.Replace(good, []byte("HERE"), []byte(text), 1)); resp.StatusCode != 400 || code(body) != "invalid-json" {
			t.Errorf("%s: got %d %s", name, resp.StatusCode, resp.Body)
		}
		if line := r.logLine(t); line["apiRequestId"] == "" {
			t.Errorf("%s: nothing finds the log line: %v", name, line)
		}
	}
	r := newRig(t)
	if resp, _ := r.invoke(t, bytes.Replace(good, []byte("HERE"), []byte(`\ud83d\ude00`), 1)); resp.StatusCode != 200 || r.starter.got[0].CustomFields["k"] != "😀" {
		t.Errorf("a whole pair: got %d %s", resp.StatusCode, resp.Body)
	}
}

func TestSessionStartedInVainIsNamedInTheLog(t *testing.T) {
	r := newRig(t, func(context.Context) (incode.Session, error) {
		return incode.Session{InterviewID: interviewID}, &incode.Error{Outcome: incode.InvalidReply, Status: 200}
	})
	r.config.ReturnInterviewID = true
	resp, body := r.send(t, event(t, "iam", ""))
	if code(body) != "incode-invalid-response" || strings.Contains(resp.Body, interviewID) || r.logLine(t)["interviewId"] != interviewID {
		t.Errorf("got %d %s; log %s", resp.StatusCode, resp.Body, r.logged.String())
	}
}

func TestTokenClaimsAndBodyAreNotPrinted(t *testing.T) {
	payload, err := json.Marshal(event(t, "jwt", `{"configurationId":"canary"}`))
	if err != nil {
		t.Fatal(err)
	}
	ev, err := decodeEvent(payload)
	if err != nil {
		t.Fatal(err)
	}
	resp := newResponse(200, "application/json", map[string]string{"token": token})
	for _, v := range []any{ev, *ev, resp, &resp, []response{resp}, struct{ R response }{resp}} {
		leaktest.Printed(t, v, "canary")
	}
	if got := fmt.Sprint(ev, resp); got != "[event] [response 200]" {
		t.Errorf("they print as %s", got)
	}
	r := newRig(t)
	leaktest.Check(t, r.Endpoint, "canary")
	leaktest.Check(t, exchange{err: &refusal{kind: customerMismatch}}, "canary")
}

func TestPanicIsAnAnswer(t *testing.T) {
	for name, value := range map[string]any{
		"a string": "canary", "an error": errors.New("canary"), "a map": map[string]string{"token": "canary"},
		"a session": incode.Session{Token: token}, "a request": &incode.StartRequest{ExternalCustomerID: "canary"},
	} {
		r := newRig(t, func(context.Context) (incode.Session, error) { panic(value) }, succeed)
		if resp, body := r.send(t, event(t, "iam", "")); resp.StatusCode != 500 || code(body) != "internal" {
			t.Errorf("%s: got %d %s", name, resp.StatusCode, resp.Body)
		}
		if line := r.logLine(t); !strings.Contains(line["stack"].(string), "endpoint_test.go") {
			t.Errorf("%s: the log does not tell where: %v", name, line)
		}
		if resp, _ := r.send(t, event(t, "iam", "")); resp.StatusCode != 200 {
			t.Errorf("%s: the next call fails: %s", name, resp.Body)
		}
	}
}

func TestDeadlines(t *testing.T) {
	left := func(lambda time.Duration, timeout time.Duration) (d time.Duration) {
		r := newRig(t, func(ctx context.Context) (incode.Session, error) {
			deadline, _ := ctx.Deadline()
			d = time.Until(deadline)
			return succeed(ctx)
		})
		r.config.IncodeTimeout = timeout
		ctx, cancel := context.WithTimeout(t.Context(), lambda)
		defer cancel()
		payload, _ := json.Marshal(event(t, "iam", ""))
		if _, err := r.Invoke(ctx, payload); err != nil {
			t.Fatal(err)
		}
		return d
	}
	if d := left(time.Hour, 10*time.Second); d > 10*time.Second || d < 5*time.Second {
		t.Errorf("INCODE_TIMEOUT is not kept: %v", d)
	}
	if d := left(time.Hour, 2*time.Hour); d > time.Hour-500*time.Millisecond || d < time.Hour-time.Minute {
		t.Errorf("Lambda's deadline leaves no room for the answer: %v", d)
	}
}
