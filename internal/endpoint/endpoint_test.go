package endpoint

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"omnistart/internal/apikey"
	"omnistart/internal/config"
	"omnistart/internal/incode"
)

const (
	flow        = "6245f1e0c8d4b2a39e7f1c05"
	interviewID = "6a0f3c9d1b2e4f5a6b7c8d9e"
)

// The canaries stand for what no log line and no error answer may hold.
var (
	token    = "canary-token.eyJ.sig"
	firstKey = apikey.NewKey("canary-key-1", "v1")
	nextKey  = apikey.NewKey("canary-key-2", "v2")
)

// keys is a KeyStore whose secret has two versions.
type keys struct {
	getErr, refreshErr error
	fresh              apikey.Key
	refreshes          int
}

func (k *keys) Get(context.Context) (apikey.Key, error) { return firstKey, k.getErr }

func (k *keys) Refresh(context.Context, apikey.Key) (apikey.Key, error) {
	k.refreshes++
	return k.fresh, k.refreshErr
}

// starter is a SessionStarter that gives its answers in turn, the last one again
// and again.
type starter struct {
	answers []func(context.Context) (incode.Session, error)
	keys    []apikey.Key
	got     []incode.StartRequest
}

func (s *starter) Start(ctx context.Context, key apikey.Key, r incode.StartRequest) (incode.Session, error) {
	s.keys, s.got = append(s.keys, key), append(s.got, r)
	return s.answers[min(len(s.got), len(s.answers))-1](ctx)
}

func succeed(context.Context) (incode.Session, error) {
	return incode.Session{Token: token, InterviewID: interviewID}, nil
}

func fail(e incode.Error) func(context.Context) (incode.Session, error) {
	return func(context.Context) (incode.Session, error) { return incode.Session{}, &e }
}

// rig is an endpoint with its surroundings.
type rig struct {
	*Endpoint
	keys    *keys
	starter *starter
	logged  bytes.Buffer
}

func newRig(t *testing.T, answers ...func(context.Context) (incode.Session, error)) *rig {
	t.Helper()
	env := map[string]string{
		"INCODE_API_KEY_SECRET_ID":  "incode/api-key",
		"INCODE_BASE_URL":           "https://incode.example.com",
		"ALLOWED_CONFIGURATION_IDS": flow,
		"ALLOWED_REDIRECT_HOSTS":    "app.example.com,localhost:8443",
	}
	c, err := config.FromEnv(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{keys: &keys{fresh: nextKey}, starter: &starter{answers: append(answers, succeed)}}
	if len(answers) > 0 {
		r.starter.answers = answers
	}
	r.Endpoint = New(c, r.keys, r.starter, slog.New(slog.NewJSONHandler(&r.logged, nil)))
	return r
}

// event reads a captured event and gives it another body.
func event(t *testing.T, name, body string) events.APIGatewayV2HTTPRequest {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var ev events.APIGatewayV2HTTPRequest
	if err := json.Unmarshal(data, &ev); err != nil {
		t.Fatal(err)
	}
	if body != "" {
		ev.Body = body
	}
	return ev
}

// send invokes the endpoint as Lambda does, checks what holds for every answer
// and every log line, and returns the answer with its decoded body.
func (r *rig) send(t *testing.T, ev any) (events.APIGatewayV2HTTPResponse, map[string]any) {
	t.Helper()
	payload, err := json.Marshal(ev)
	if err != nil {
		t.Fatal(err)
	}
	return r.invoke(t, payload)
}

func (r *rig) invoke(t *testing.T, payload []byte) (events.APIGatewayV2HTTPResponse, map[string]any) {
	t.Helper()
	r.logged.Reset()
	ctx := lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{AwsRequestID: "lambda-request-1"})
	out, err := r.Invoke(ctx, payload)
	if err != nil {
		t.Fatal(err)
	}
	var resp events.APIGatewayV2HTTPResponse
	if err := json.Unmarshal(out, &resp); err != nil {
		t.Fatal(err)
	}
	var body map[string]any
	if err := json.Unmarshal([]byte(resp.Body), &body); err != nil {
		t.Fatalf("body %q: %v", resp.Body, err)
	}
	if resp.Headers["Cache-Control"] != "no-store" {
		t.Error("the answer may be cached")
	}
	for name := range resp.Headers {
		if strings.HasPrefix(strings.ToLower(name), "access-control-") {
			t.Errorf("%s is API Gateway's business", name)
		}
	}
	if resp.StatusCode != 200 {
		checkProblem(t, resp, body)
	}
	if n := strings.Count(r.logged.String(), "\n"); n != 1 {
		t.Errorf("%d log lines, want 1: %s", n, r.logged.String())
	}
	if strings.Contains(r.logged.String(), "canary") {
		t.Errorf("the log holds a secret: %s", r.logged.String())
	}
	return resp, body
}

func checkProblem(t *testing.T, resp events.APIGatewayV2HTTPResponse, body map[string]any) {
	t.Helper()
	typ, _ := body["type"].(string)
	if resp.Headers["Content-Type"] != "application/problem+json" || !strings.HasPrefix(typ, "/problems/") ||
		body["status"] != float64(resp.StatusCode) || body["title"] == "" || body["detail"] == "" || body["requestId"] != "lambda-request-1" {
		t.Errorf("not a problem: %v %s", resp.Headers, resp.Body)
	}
	if strings.Contains(resp.Body, "canary") || strings.Contains(resp.Body, "example.com") {
		t.Errorf("the answer tells too much: %s", resp.Body)
	}
}

func (r *rig) logLine(t *testing.T) map[string]any {
	t.Helper()
	var line map[string]any
	if err := json.Unmarshal(r.logged.Bytes(), &line); err != nil {
		t.Fatalf("log %q: %v", r.logged.String(), err)
	}
	return line
}

func code(body map[string]any) string {
	typ, _ := body["type"].(string)
	return strings.TrimPrefix(typ, "/problems/")
}

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
		{"8 KiB", func(ev *events.APIGatewayV2HTTPRequest) { ev.Body += strings.Repeat(" ", maxBody-len(ev.Body)) }, 200, ""},
		{"8 KiB and a byte", func(ev *events.APIGatewayV2HTTPRequest) { ev.Body += strings.Repeat(" ", maxBody+1-len(ev.Body)) }, 413, "body-too-large"},
		{"8 KiB in base64", func(ev *events.APIGatewayV2HTTPRequest) {
			ev.Body, ev.IsBase64Encoded = base64.StdEncoding.EncodeToString([]byte(ev.Body+strings.Repeat(" ", maxBody-len(ev.Body)))), true
		}, 200, ""},
		{"8 KiB and a byte in base64", func(ev *events.APIGatewayV2HTTPRequest) {
			ev.Body, ev.IsBase64Encoded = base64.StdEncoding.EncodeToString([]byte(ev.Body+strings.Repeat(" ", maxBody+1-len(ev.Body)))), true
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
	} {
		r := newRig(t)
		resp, body := r.invoke(t, []byte(payload))
		if resp.StatusCode != 500 || code(body) != "internal" || strings.Contains(r.logged.String(), "12345678") {
			t.Errorf("%s: got %d %s; log %s", payload, resp.StatusCode, resp.Body, r.logged.String())
		}
	}
}

func TestUpstreamFaults(t *testing.T) {
	cause := errors.New("dial tcp incode.example.com:443")
	refused := fail(incode.Error{Outcome: incode.Unauthorized, Status: 403})
	tests := []struct {
		name       string
		getErr     error
		refreshErr error
		fresh      apikey.Key
		answers    []func(context.Context) (incode.Session, error)
		status     int
		code       string
		retryAfter string
		calls      int
		incode     any // the status in the log; nil when Incode was not called
	}{
		{name: "secret missing", getErr: fmt.Errorf("%w: x", apikey.ErrMisconfigured), status: 500, code: "service-misconfigured"},
		{name: "secret slow", getErr: fmt.Errorf("%w: x", apikey.ErrUnavailable), status: 503, code: "secret-unavailable", retryAfter: "1"},
		{name: "not reached", answers: []func(context.Context) (incode.Session, error){fail(incode.Error{Outcome: incode.NotSent, Err: cause})},
			status: 503, code: "incode-unavailable", retryAfter: "1", calls: 1, incode: 0.0},
		{name: "throttled", answers: []func(context.Context) (incode.Session, error){fail(incode.Error{Outcome: incode.Throttled, Status: 429, RetryAfter: 6100 * time.Millisecond})},
			status: 503, code: "incode-throttled", retryAfter: "7", calls: 1, incode: 429.0},
		{name: "throttled for long", answers: []func(context.Context) (incode.Session, error){fail(incode.Error{Outcome: incode.Throttled, Status: 429, RetryAfter: time.Hour})},
			status: 503, code: "incode-throttled", retryAfter: "60", calls: 1, incode: 429.0},
		{name: "throttled until a date that has passed", answers: []func(context.Context) (incode.Session, error){fail(incode.Error{Outcome: incode.Throttled, Status: 429, RetryAfter: -time.Hour})},
			status: 503, code: "incode-throttled", retryAfter: "1", calls: 1, incode: 429.0},
		{name: "rejected", answers: []func(context.Context) (incode.Session, error){fail(incode.Error{Outcome: incode.Rejected, Status: 400})}, status: 502, code: "incode-rejected", calls: 1, incode: 400.0},
		{name: "failed", answers: []func(context.Context) (incode.Session, error){fail(incode.Error{Outcome: incode.Failed, Status: 500})}, status: 502, code: "incode-failed", calls: 1, incode: 500.0},
		{name: "invalid reply", answers: []func(context.Context) (incode.Session, error){fail(incode.Error{Outcome: incode.InvalidReply, Status: 200})}, status: 502, code: "incode-invalid-response", calls: 1, incode: 200.0},
		{name: "broke off", answers: []func(context.Context) (incode.Session, error){fail(incode.Error{Outcome: incode.Unknown, Err: cause})}, status: 502, code: "outcome-unknown", calls: 1, incode: 0.0},
		{name: "timed out", answers: []func(context.Context) (incode.Session, error){fail(incode.Error{Outcome: incode.TimedOut, Err: cause})}, status: 504, code: "incode-timeout", calls: 1, incode: 0.0},

		{name: "key refused, no newer one", fresh: firstKey, answers: []func(context.Context) (incode.Session, error){refused}, status: 502, code: "incode-unauthorized", calls: 1, incode: 403.0},
		{name: "key refused, the newer one too", fresh: nextKey, answers: []func(context.Context) (incode.Session, error){refused}, status: 502, code: "incode-unauthorized", calls: 2, incode: 403.0},
		{name: "key refused, the newer one works", fresh: nextKey, answers: []func(context.Context) (incode.Session, error){refused, succeed}, status: 200, calls: 2, incode: 200.0},
		{name: "key refused, the newer one meets a failure", fresh: nextKey, answers: []func(context.Context) (incode.Session, error){refused, fail(incode.Error{Outcome: incode.Failed, Status: 500})}, status: 502, code: "incode-failed", calls: 2, incode: 500.0},
		{name: "key refused, secret slow", refreshErr: apikey.ErrUnavailable, answers: []func(context.Context) (incode.Session, error){refused}, status: 503, code: "secret-unavailable", retryAfter: "1", calls: 1, incode: 403.0},
		{name: "key refused, secret gone", refreshErr: apikey.ErrMisconfigured, answers: []func(context.Context) (incode.Session, error){refused}, status: 500, code: "service-misconfigured", calls: 1, incode: 403.0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.answers...)
			r.keys.getErr, r.keys.refreshErr, r.keys.fresh = tt.getErr, tt.refreshErr, tt.fresh
			resp, body := r.send(t, event(t, "iam", ""))
			if resp.StatusCode != tt.status || code(body) != tt.code || resp.Headers["Retry-After"] != tt.retryAfter {
				t.Errorf("got %d %s, Retry-After %q", resp.StatusCode, resp.Body, resp.Headers["Retry-After"])
			}
			if len(r.starter.got) != tt.calls {
				t.Errorf("%d calls to Incode, want %d", len(r.starter.got), tt.calls)
			}
			if tt.calls == 2 && (r.starter.keys[0] != firstKey || r.starter.keys[1] != nextKey) {
				t.Error("the second call does not carry the newer key")
			}
			if line := r.logLine(t); line["incodeStatus"] != tt.incode {
				t.Errorf("log: incodeStatus %v, want %v", line["incodeStatus"], tt.incode)
			}
		})
	}
}

func TestPanicIsAnAnswer(t *testing.T) {
	for name, value := range map[string]any{
		"a string": "canary", "an error": errors.New("canary"), "a map": map[string]string{"token": "canary"},
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
	if d := left(time.Hour, 2*time.Hour); d > time.Hour-answerReserve || d < time.Hour-time.Minute {
		t.Errorf("Lambda's deadline leaves no room for the answer: %v", d)
	}
}

// FuzzInvoke hands over events that API Gateway would never send.
func FuzzInvoke(f *testing.F) {
	for _, name := range []string{"iam", "jwt", "sam-local"} {
		data, err := os.ReadFile("testdata/" + name + ".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"version":"2.0","routeKey":"POST /omni/start","headers":{"content-type":"application/json"},"body":"e30=","isBase64Encoded":true}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		starter := &starter{answers: []func(context.Context) (incode.Session, error){succeed}}
		var logged bytes.Buffer
		e := New(config.Config{CustomerIDClaim: "sub"}, &keys{}, starter, slog.New(slog.NewJSONHandler(&logged, nil)))
		out, err := e.Invoke(t.Context(), payload)
		var resp events.APIGatewayV2HTTPResponse
		if err != nil || json.Unmarshal(out, &resp) != nil || !json.Valid([]byte(resp.Body)) {
			t.Fatalf("answer %s, %v", out, err)
		}
		if resp.StatusCode < 400 || len(starter.got) > 0 { // nothing is on the allow-list
			t.Fatalf("started a session: %s", out)
		}
		if strings.Contains(logged.String(), `"stack":`) {
			t.Fatalf("panicked: %s", logged.String())
		}
	})
}
