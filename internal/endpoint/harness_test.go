package endpoint

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"omnistart/internal/apikey"
	"omnistart/internal/config"
	"omnistart/internal/incode"
	"omnistart/internal/problem"
	"omnistart/internal/tooling/apigateway"
	"omnistart/internal/tooling/incodetest"
	"omnistart/internal/tooling/secretsmanagertest"
)

const (
	flow     = incodetest.FlowID // starts a session
	secretID = "incode/api-key"

	// A text with "canary" must appear in no log line and in no response.
	firstKey, nextKey = "canary-key-1", "canary-key-2"

	lambdaRequestID = "0195429e-be7f-454f-a379-f9921dfca4a9"
)

// harness is an endpoint that uses local stand-ins for Secrets Manager and Incode.
type harness struct {
	*Endpoint
	secrets      *secretsmanagertest.Server
	incode       *incodetest.Server
	incodeServer *httptest.Server
	timeout      time.Duration // of Lambda
	logged       bytes.Buffer
}

func newHarness(t testing.TB) *harness {
	t.Helper()
	h := &harness{secrets: secretsmanagertest.New(), incode: incodetest.New(), timeout: time.Hour}
	h.secrets.Put(secretID, firstKey)
	h.incode.SetKey(firstKey)
	secretsServer := httptest.NewServer(h.secrets)
	t.Cleanup(secretsServer.Close)
	h.incodeServer = httptest.NewServer(h.incode)
	t.Cleanup(h.incodeServer.Close)
	t.Cleanup(h.incode.Close) // runs first, and ends the requests that hang

	env := map[string]string{
		"INCODE_API_KEY_SECRET_ID":  secretID,
		"INCODE_BASE_URL":           h.incodeServer.URL,
		"ALLOWED_CONFIGURATION_IDS": "*",
		"ALLOWED_REDIRECT_HOSTS":    "app.example.com,localhost:8443",
		"INCODE_TIMEOUT":            "28s", // so that no test depends on how fast the machine is
	}
	c, err := config.FromEnv(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	secrets := secretsmanager.New(secretsmanager.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String(secretsServer.URL), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("AKID", "canary-aws-credential", ""),
	})
	h.Endpoint = &Endpoint{
		Config: c,
		Keys: &apikey.Store{
			Secrets: secrets, SecretID: secretID, MaxAge: c.KeyMaxAge, Log: slog.New(slog.DiscardHandler),
		},
		Sessions: incode.New(c.IncodeBaseURL),
		Log:      slog.New(slog.NewJSONHandler(&h.logged, nil)),
	}
	return h
}

func (h *harness) loadKey(t testing.TB) {
	t.Helper()
	if _, err := h.Keys.Get(t.Context(), apikey.Key{}); err != nil {
		t.Fatal(err)
	}
}

// lambdaContext returns a context like those of aws-lambda-go.
func lambdaContext(t testing.TB, timeout time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	return lambdacontext.NewContext(ctx, &lambdacontext.LambdaContext{AwsRequestID: lambdaRequestID})
}

// event reads a captured event, and replaces its body unless body is empty.
func event(t testing.TB, name, body string) apigateway.Event {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var e apigateway.Event
	decode(t, data, &e)
	if body != "" {
		e.Body = body
	}
	return e
}

// eventOf returns an event with an authorizer context in JSON, and a body unless body is empty.
func eventOf(t testing.TB, authorizer, body string) apigateway.Event {
	t.Helper()
	e := event(t, "iam", body)
	e.RequestContext.Authorizer = json.RawMessage(authorizer)
	return e
}

// ofCustomer returns the authorizer context of a JWT with this claim sub in JSON.
func ofCustomer(sub string) string { return `{"jwt":{"claims":{"sub":` + sub + `},"scopes":null}}` }

func decode(t testing.TB, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// result is a response with its log line.
type result struct {
	status int
	code   string // of the problem, or "" for a session
	header map[string]string
	text   string // the body
	body   map[string]any
	line   map[string]any // in the log
	logged string         // the error in the log line
}

// send invokes the endpoint with an event, and checks what holds for every response.
func (h *harness) send(t testing.TB, event any) result {
	t.Helper()
	return h.invoke(t, encode(t, event))
}

func (h *harness) invoke(t testing.TB, payload []byte) result {
	t.Helper()
	h.logged.Reset()
	out, err := h.Invoke(lambdaContext(t, h.timeout), payload)
	if err != nil {
		t.Fatal(err)
	}
	var response events.APIGatewayV2HTTPResponse
	decode(t, out, &response)
	r := result{status: response.StatusCode, header: response.Headers, text: response.Body}
	decode(t, []byte(r.text), &r.body)
	decode(t, h.logged.Bytes(), &r.line) // fails unless there is exactly one line

	wantHeader := map[string]string{"Cache-Control": "no-store", "Content-Type": "application/json"}
	if token, _ := r.body["token"].(string); r.status == 200 {
		if token == "" || strings.Contains(h.logged.String(), token) || r.line["code"] != "ok" {
			t.Errorf("not a session: %s %v", r.text, r.line)
		}
	} else {
		h.checkProblem(t, &r)
		wantHeader["Content-Type"] = "application/problem+json"
	}
	if r.status == 503 {
		wantHeader["Retry-After"] = cmp.Or(r.header["Retry-After"], "missing")
	}
	if !maps.Equal(r.header, wantHeader) {
		t.Errorf("status %d has the header %v", r.status, r.header)
	}
	if strings.Contains(h.logged.String(), "canary") {
		t.Errorf("the log line contains a secret: %s", h.logged.String())
	}
	r.logged, _ = r.line["error"].(string)
	if (r.logged != "") != (r.status != 200) || (r.line["level"] == "ERROR") != (r.status >= 500) {
		t.Errorf("status %d has the log line %v", r.status, r.line)
	}
	return r
}

// checkProblem checks the body of a response with a problem, and sets the code.
func (h *harness) checkProblem(t testing.TB, r *result) {
	t.Helper()
	kind, _ := r.body["type"].(string)
	r.code = strings.TrimPrefix(kind, "/problems/")
	i := slices.IndexFunc(problem.All, func(p *problem.Problem) bool { return p.Code == r.code })
	if i < 0 || r.line["code"] != r.code || r.body["status"] != float64(r.status) || r.body["title"] == "" ||
		r.body["detail"] == "" || r.body["requestId"] != lambdaRequestID ||
		r.body["sessionStarted"] != problem.All[i].SessionStarted {
		t.Errorf("not a problem: %s %v", r.text, r.line)
	}
	if strings.Contains(r.text, "canary") || strings.Contains(r.text, h.incodeServer.Listener.Addr().String()) {
		t.Errorf("the response says too much: %s", r.text)
	}
}
