package endpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"testing"

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

func newRig(t testing.TB, answers ...func(context.Context) (incode.Session, error)) *rig {
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
func event(t testing.TB, name, body string) events.APIGatewayV2HTTPRequest {
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
