//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"omnistart/internal/incode/incodetest"
	"omnistart/internal/runtimeapi/runtimeapitest"
	"omnistart/internal/secretsmanagertest"
)

// bootstrap is the compiled function. These tests run it as Lambda does: as a
// process that knows its environment and the Runtime API and nothing else.
var bootstrap string

func TestMain(m *testing.M) { os.Exit(runtimeapitest.Main(m, ".", &bootstrap)) }

const (
	secretID = "incode/api-key"
	customer = "canary-customer-42"
)

// rig is the function and the two services that it meets. Incode is TLS, as it
// is in the world.
type rig struct {
	*runtimeapitest.Function
	incode  *incodetest.Server
	server  *httptest.Server
	secrets *secretsmanagertest.Server
	env     map[string]string
	output  *runtimeapitest.Output // all that the process prints

	connections atomic.Int32 // that Incode has seen
}

// newRig prepares the services and the environment; start runs the function.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{incode: incodetest.New(), secrets: secretsmanagertest.New(), output: &runtimeapitest.Output{}}
	r.server = httptest.NewUnstartedServer(r.incode)
	r.server.EnableHTTP2 = true // offered, and to be declined
	r.server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			r.connections.Add(1)
		}
	}
	r.server.StartTLS()
	t.Cleanup(r.server.Close)
	t.Cleanup(r.incode.Close)
	secrets := httptest.NewServer(r.secrets)
	t.Cleanup(secrets.Close)
	r.secrets.Put(secretID, incodetest.Key)

	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	r.env = map[string]string{
		"INCODE_API_KEY_SECRET_ID":         secretID,
		"INCODE_BASE_URL":                  r.server.URL,
		"ALLOWED_CONFIGURATION_IDS":        "*",
		"INCODE_TIMEOUT":                   "500ms",
		"AWS_REGION":                       "eu-west-1",
		"AWS_ACCESS_KEY_ID":                "AKIAEXAMPLE",
		"AWS_SECRET_ACCESS_KEY":            "canary-aws-secret",
		"AWS_SESSION_TOKEN":                "canary-aws-session",
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": secrets.URL,
		"AWS_LAMBDA_LOG_FORMAT":            "JSON",
		"AWS_LAMBDA_FUNCTION_NAME":         "start",
		"SSL_CERT_FILE":                    roots,
		"SSL_CERT_DIR":                     t.TempDir(),
	}
	return r
}

func (r *rig) config(timeout time.Duration) runtimeapitest.Config {
	c := runtimeapitest.Config{Bootstrap: bootstrap, Timeout: timeout, Stdout: r.output, Stderr: r.output}
	for name, value := range r.env {
		c.Env = append(c.Env, name+"="+value)
	}
	return c
}

// start runs the function. When the test ends, nothing that it printed may hold
// a key, a token or a customer's ID.
func (r *rig) start(t *testing.T, timeout time.Duration) *rig {
	t.Helper()
	f, err := runtimeapitest.Start(t.Context(), r.config(timeout))
	if err != nil {
		t.Fatalf("%v\n%s", err, r.output)
	}
	r.Function = f
	t.Cleanup(func() {
		f.Close()
		printed := r.output.String()
		for _, secret := range []string{"canary", incodetest.Key, "eyJ"} { // JWTs begin with eyJ
			if strings.Contains(printed, secret) {
				t.Errorf("the process printed %s:\n%s", secret, printed)
			}
		}
		if strings.Contains(printed, "DATA RACE") {
			t.Errorf("%s", printed)
		}
	})
	return r
}

// answer is what the caller sees.
type answer struct {
	status int
	code   string // "" on success
	token  string
	header map[string]string
}

// post sends a body as a back end does, through API Gateway with SigV4.
func (r *rig) post(t *testing.T, body string) answer {
	t.Helper()
	data, err := os.ReadFile("../../internal/endpoint/testdata/iam.json")
	if err != nil {
		t.Fatal(err)
	}
	var ev events.APIGatewayV2HTTPRequest
	if err := json.Unmarshal(data, &ev); err != nil {
		t.Fatal(err)
	}
	ev.Body = body
	payload, err := json.Marshal(ev)
	if err != nil {
		t.Fatal(err)
	}
	return r.invoke(t, payload)
}

func (r *rig) invoke(t *testing.T, payload []byte) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // a defect that hangs is to fail
	defer cancel()
	result, err := r.Invoke(ctx, payload)
	if err != nil {
		t.Fatalf("%v\n%s", err, r.output)
	}
	var resp events.APIGatewayV2HTTPResponse
	var decoded struct{ Type, Token string }
	if err := errors.Join(json.Unmarshal(result.Payload, &resp), json.Unmarshal([]byte(resp.Body), &decoded)); err != nil {
		t.Fatalf("%v: %s", err, result.Payload)
	}
	return answer{resp.StatusCode, strings.TrimPrefix(decoded.Type, "/problems/"), decoded.Token, resp.Headers}
}

// session asks for a session of a flow.
func (r *rig) session(t *testing.T, flow string) answer {
	t.Helper()
	return r.post(t, fmt.Sprintf(`{"configurationId":%q,"externalCustomerId":%q}`, flow, customer))
}

// lines returns the log lines of requests.
func (r *rig) lines(t *testing.T) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for text := range strings.Lines(r.output.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Errorf("not a JSON line: %s", text)
		}
		if line["message"] == "request" {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestSession(t *testing.T) {
	r := newRig(t).start(t, 5*time.Second)
	first, second := r.session(t, incodetest.FlowID), r.session(t, incodetest.FlowID)
	if first.status != 200 || second.status != 200 || first.token == "" || first.token == second.token {
		t.Errorf("got %+v and %+v", first, second)
	}
	if got := r.incode.Last().Fields; got["externalCustomerId"] != customer || got["countryCode"] != "ALL" {
		t.Errorf("Incode got %v", got)
	}
	if r.incode.Sessions() != 2 || r.secrets.Requests() != 1 {
		t.Errorf("%d sessions and %d loads of the secret, want 2 and 1", r.incode.Sessions(), r.secrets.Requests())
	}
	r.Close() // so that all output is here
	lines := r.lines(t)
	if len(lines) != 2 || lines[0]["coldStart"] != true || lines[1]["coldStart"] != false {
		t.Fatalf("log: %v", lines)
	}
	for _, key := range []string{"timestamp", "level", "requestId", "apiRequestId", "status", "code", "incodeStatus", "durationMs", "incodeMs", "secretMs", "interviewId"} {
		if lines[0][key] == nil {
			t.Errorf("the log line has no %s: %v", key, lines[0])
		}
	}
}

func TestColdStartPreparesTheFirstRequest(t *testing.T) {
	r := newRig(t).start(t, 5*time.Second)
	if r.secrets.Requests() != 1 || r.connections.Load() != 1 || r.incode.Requests() != 0 {
		t.Errorf("after the init: %d loads, %d connections, %d requests; want 1, 1, 0", r.secrets.Requests(), r.connections.Load(), r.incode.Requests())
	}
	for range 5 {
		r.session(t, incodetest.FlowID)
	}
	if r.secrets.Requests() != 1 || r.connections.Load() != 1 || r.incode.Requests() != 5 {
		t.Errorf("after five requests: %d loads, %d connections, %d requests; want 1, 1, 5", r.secrets.Requests(), r.connections.Load(), r.incode.Requests())
	}
	if proto := r.incode.Last().Proto; proto != "HTTP/1.1" {
		t.Errorf("%s resends requests by itself", proto)
	}
}

func TestJWTCallerIsTheCustomer(t *testing.T) {
	r := newRig(t).start(t, 5*time.Second)
	payload, err := os.ReadFile("../../internal/endpoint/testdata/jwt.json")
	if err != nil {
		t.Fatal(err)
	}
	if a := r.invoke(t, payload); a.status != 200 || r.incode.Last().Fields["externalCustomerId"] != "auth0|canary-customer-42" {
		t.Errorf("got %+v, Incode got %v", a, r.incode.Last().Fields)
	}
	stranger := bytes.Replace(payload, []byte(`7f1c05\"}`), []byte(`7f1c05\",\"externalCustomerId\":\"canary-victim\"}`), 1)
	if a := r.invoke(t, stranger); a.status != 403 || a.code != "customer-mismatch" || r.incode.Requests() != 1 {
		t.Errorf("got %+v after %d requests", a, r.incode.Requests())
	}
}

func TestEveryFault(t *testing.T) {
	r := newRig(t).start(t, 5*time.Second)
	const zeros = "00000000000000000000"
	tests := []struct {
		flow   string
		status int
		code   string
	}{
		{zeros + "0400", 502, "incode-rejected"},
		{zeros + "ffff", 502, "incode-rejected"},
		{zeros + "0401", 502, "incode-unauthorized"},
		{zeros + "0403", 502, "incode-unauthorized"},
		{zeros + "0429", 503, "incode-throttled"},
		{zeros + "0500", 502, "incode-failed"},
		{zeros + "0504", 504, "incode-timeout"},
		{zeros + "0201", 502, "incode-invalid-response"},
		{zeros + "0204", 502, "incode-invalid-response"},
		{zeros + "0302", 502, "incode-invalid-response"},
		{zeros + "0307", 502, "incode-invalid-response"},
		{zeros + "bad0", 502, "incode-invalid-response"},
		{zeros + "bad1", 502, "incode-invalid-response"},
		{zeros + "bad2", 502, "incode-invalid-response"},
		{zeros + "bad3", 502, "incode-invalid-response"},
		{zeros + "0b19", 502, "incode-invalid-response"},
		{zeros + "0c07", 502, "outcome-unknown"},
		{zeros + "dead", 502, "outcome-unknown"},
		{zeros + "0408", 504, "incode-timeout"},
		{"not-a-flow", 422, "validation-failed"},
	}
	seen := map[string]bool{}
	for _, tt := range tests {
		seen[tt.flow] = true
		before := r.incode.Requests()
		a := r.session(t, tt.flow)
		if a.status != tt.status || a.code != tt.code {
			t.Errorf("%s: got %+v, want %d %s", tt.flow, a, tt.status, tt.code)
		}
		if n := r.incode.Requests() - before; n > 1 {
			t.Errorf("%s: Incode got %d requests", tt.flow, n)
		}
		if tt.code == "incode-throttled" && a.header["Retry-After"] != "7" {
			t.Errorf("Retry-After %q, Incode said 7", a.header["Retry-After"])
		}
		if a := r.session(t, incodetest.FlowID); a.status != 200 {
			t.Errorf("%s: the next call fails: %+v", tt.flow, a)
		}
	}
	for _, flow := range incodetest.Flows {
		if !seen[flow.ID] && flow.ID != incodetest.FlowID {
			t.Errorf("%s (%s) is not tested", flow.ID, flow.Does)
		}
	}
	r.Close()
	if n := len(r.lines(t)); n != 2*len(tests) {
		t.Errorf("%d log lines for %d requests", n, 2*len(tests))
	}
}

func TestIncodeOutOfReach(t *testing.T) {
	r := newRig(t)
	r.env["INCODE_BASE_URL"] = "https://127.0.0.1:1"
	r.start(t, 5*time.Second)
	if a := r.session(t, incodetest.FlowID); a.status != 503 || a.code != "incode-unavailable" || a.header["Retry-After"] == "" {
		t.Errorf("got %+v", a)
	}
}

func TestUnknownAuthority(t *testing.T) {
	r := newRig(t)
	r.env["SSL_CERT_FILE"] = filepath.Join(t.TempDir(), "none")
	r.start(t, 5*time.Second)
	if a := r.session(t, incodetest.FlowID); a.code != "incode-unavailable" || r.incode.Requests() != 0 {
		t.Errorf("got %+v, the key went to %d strangers", a, r.incode.Requests())
	}
}

func TestKeyRotatesWithoutAFailedRequest(t *testing.T) {
	r := newRig(t).start(t, 5*time.Second)
	for i := range 3 {
		if a := r.session(t, incodetest.FlowID); a.status != 200 {
			t.Fatalf("round %d: %+v", i, a)
		}
		next := fmt.Sprintf("canary-key-%d", i)
		r.secrets.Put(secretID, `{"apiKey":"`+next+`"}`)
		r.incode.SetKey(next)
	}
	if a := r.session(t, incodetest.FlowID); a.status != 200 {
		t.Errorf("after the last rotation: %+v", a)
	}
	if r.incode.Sessions() != 4 || r.incode.Requests() != 7 || r.secrets.Requests() != 4 {
		t.Errorf("%d sessions, %d requests, %d loads; want 4, 7 (three refused), 4", r.incode.Sessions(), r.incode.Requests(), r.secrets.Requests())
	}
}

func TestRefusedKeyDoesNotFloodSecretsManager(t *testing.T) {
	r := newRig(t).start(t, 5*time.Second)
	r.incode.SetKey("another")
	for range 10 {
		if a := r.session(t, incodetest.FlowID); a.code != "incode-unauthorized" {
			t.Fatalf("got %+v", a)
		}
	}
	if r.secrets.Requests() != 2 || r.incode.Requests() != 10 {
		t.Errorf("%d loads and %d requests, want 2 and 10", r.secrets.Requests(), r.incode.Requests())
	}
}

func TestSecretThatCannotBeRead(t *testing.T) {
	r := newRig(t)
	r.secrets.Fail("ResourceNotFoundException", 400)
	r.start(t, 5*time.Second) // the init succeeds all the same
	if a := r.session(t, incodetest.FlowID); a.status != 500 || a.code != "service-misconfigured" {
		t.Errorf("missing: %+v", a)
	}
	r.secrets.Fail("ThrottlingException", 400)
	if a := r.session(t, incodetest.FlowID); a.status != 503 || a.code != "secret-unavailable" || a.header["Retry-After"] == "" {
		t.Errorf("throttled: %+v", a)
	}
	r.secrets.Recover()
	if a := r.session(t, incodetest.FlowID); a.status != 200 {
		t.Errorf("recovered: %+v", a)
	}
}

// Left to itself, the SDK would wait for a mute endpoint beyond the ten seconds
// after which Lambda ends an init.
func TestMuteSecretsManagerDoesNotHoldTheInit(t *testing.T) {
	r := newRig(t)
	release := r.secrets.Hold()
	t.Cleanup(release)
	r.start(t, 5*time.Second)
	if a := r.session(t, incodetest.FlowID); a.code != "secret-unavailable" {
		t.Errorf("mute: %+v", a)
	}
	release()
	if a := r.session(t, incodetest.FlowID); a.status != 200 {
		t.Errorf("recovered: %+v", a)
	}
}

func TestLambdasDeadlineCutsIncodesTimeout(t *testing.T) {
	r := newRig(t)
	r.env["INCODE_TIMEOUT"] = "20s"
	r.start(t, 2*time.Second)
	if a := r.session(t, "000000000000000000000408"); a.status != 504 || a.code != "incode-timeout" {
		t.Errorf("got %+v", a)
	}
}

func TestConnectionsThatDieInAFreeze(t *testing.T) {
	r := newRig(t).start(t, 5*time.Second)
	for i := range 20 { // the first time it is the connection that the init has opened
		if err := r.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.server.CloseClientConnections()
		if a := r.session(t, incodetest.FlowID); a.status != 200 {
			t.Fatalf("freeze %d: %+v\n%s", i, a, r.output)
		}
	}
	if r.incode.Requests() != 20 || r.incode.Sessions() != 20 {
		t.Errorf("%d requests and %d sessions, want 20 of each", r.incode.Requests(), r.incode.Sessions())
	}
}

func TestBadEnvironmentIsReportedWhole(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"INCODE_API_KEY_SECRET_ID", "ALLOWED_CONFIGURATION_IDS"} {
		delete(r.env, name)
	}
	r.env["INCODE_BASE_URL"], r.env["INCODE_TIMEOUT"] = "http://canary.example.com", "canary"
	_, err := runtimeapitest.Start(t.Context(), r.config(5*time.Second))
	var initErr *runtimeapitest.InitError
	if !errors.As(err, &initErr) {
		t.Fatalf("got %v", err)
	}
	if initErr.Type != "Configuration.Invalid" || initErr.Exit != "exit status 1" {
		t.Errorf("got %+v", initErr)
	}
	for _, name := range []string{"INCODE_API_KEY_SECRET_ID", "INCODE_BASE_URL", "ALLOWED_CONFIGURATION_IDS", "INCODE_TIMEOUT"} {
		if !strings.Contains(initErr.Message, name) || !strings.Contains(r.output.String(), name) {
			t.Errorf("%s is missing in %q, or in the log %s", name, initErr.Message, r.output)
		}
	}
	if strings.Contains(initErr.Message+r.output.String(), "canary") {
		t.Error("a value is quoted")
	}
}

func TestRunWithoutARuntimeAPIReturnsBothErrors(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := run(ctx, func(string) string { return "" }, nil)
	if err == nil || !strings.Contains(err.Error(), "INCODE_BASE_URL") || !strings.Contains(err.Error(), "reporting the init error") {
		t.Errorf("got %v", err)
	}
}
