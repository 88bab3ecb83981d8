//go:build unix

package main

import (
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
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"omnistart/internal/tooling/incodetest"
	"omnistart/internal/tooling/runtimeapitest"
	"omnistart/internal/tooling/secretsmanagertest"
)

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
	// concurrency is how many requests the process has at a time, and callers how
	// many of them meet makes at once; 0 means 1.
	concurrency, callers int
	output               *runtimeapitest.Output // all that the process prints
	pid                  int                    // of the process that start has begun

	connections, secretsConnections atomic.Int32 // that Incode and Secrets Manager have seen
}

// count returns a hook that counts a server's connections.
func count(n *atomic.Int32) func(net.Conn, http.ConnState) {
	return func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			n.Add(1)
		}
	}
}

// newRig prepares the services and the environment; start runs the function.
func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{incode: incodetest.New(), secrets: secretsmanagertest.New(), output: &runtimeapitest.Output{}}
	r.server = httptest.NewUnstartedServer(r.incode)
	r.server.EnableHTTP2 = true // offered, and to be declined
	r.server.Config.ConnState = count(&r.connections)
	r.server.StartTLS()
	t.Cleanup(r.server.Close)
	t.Cleanup(r.incode.Close)
	secrets := httptest.NewUnstartedServer(r.secrets)
	secrets.Config.ConnState = count(&r.secretsConnections)
	secrets.Start()
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
		"INCODE_TIMEOUT":                   "1s",
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
	c := runtimeapitest.Config{Bootstrap: bootstrap, Concurrency: r.concurrency, Timeout: timeout, Stdout: r.output, Stderr: r.output}
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
	r.Function, r.pid = f, f.Pid()
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
	text   string // all of it
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
	return answer{resp.StatusCode, strings.TrimPrefix(decoded.Type, "/problems/"), decoded.Token, resp.Headers, string(result.Payload)}
}

// session asks for a session of a flow.
func (r *rig) session(t *testing.T, flow string) answer {
	t.Helper()
	return r.post(t, fmt.Sprintf(`{"configurationId":%q,"externalCustomerId":%q}`, flow, customer))
}

// meet makes the calls of all callers at once, checks and returns the answers.
func (r *rig) meet(t *testing.T, w want) []answer {
	t.Helper()
	answers := make([]answer, max(1, r.callers))
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = r.session(t, incodetest.FlowID) })
	}
	wg.Wait()
	for _, a := range answers {
		r.check(t, a, w)
	}
	return answers
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
