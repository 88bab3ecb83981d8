//go:build unix

package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"omnistart/internal/tooling/apigateway"
	"omnistart/internal/tooling/incodetest"
	"omnistart/internal/tooling/lambdaenv"
	"omnistart/internal/tooling/procfs"
	"omnistart/internal/tooling/runtimeapitest"
	"omnistart/internal/tooling/secretsmanagertest"
)

const (
	secretID = lambdaenv.SecretID
	customer = "canary-customer-42"
	// shortTimeout is the INCODE_TIMEOUT of tests that wait for its end. All others
	// have longTimeout, so that they do not depend on the speed of the machine.
	shortTimeout, longTimeout = "3s", "20s"
)

// harness runs the function and the two services that it calls. Change the fields
// before start.
type harness struct {
	*runtimeapitest.Function
	incode       *incodetest.Server
	incodeServer *httptest.Server // has TLS, as Incode has
	secrets      *secretsmanagertest.Server
	env          []string // of variables with the same name, the last one counts
	concurrency  int      // of the process; 0 means 1
	callers      int      // number of concurrent calls that startSessions makes; 0 means 1
	// timeout is Lambda's. The process is killed when the grace after it ends, too.
	timeout, grace time.Duration
	output         *output
	pid            int // of the process that start has started

	connections, secretsConnections atomic.Int32 // accepted by Incode and Secrets Manager
}

// count returns a hook that counts a server's connections.
func count(n *atomic.Int32) func(net.Conn, http.ConnState) {
	return func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			n.Add(1)
		}
	}
}

// newHarness starts the services and prepares the environment; start starts the
// function.
func newHarness(t *testing.T) *harness {
	t.Helper()
	h := &harness{
		incode: incodetest.New(), secrets: secretsmanagertest.New(), output: &output{},
		timeout: time.Minute, grace: time.Minute,
	}
	h.incodeServer = httptest.NewUnstartedServer(h.incode)
	h.incodeServer.EnableHTTP2 = true // the function must not use it
	h.incodeServer.Config.ConnState = count(&h.connections)
	h.incodeServer.StartTLS()
	t.Cleanup(h.incodeServer.Close)
	t.Cleanup(h.incode.Close)
	secrets := httptest.NewUnstartedServer(h.secrets)
	secrets.Config.ConnState = count(&h.secretsConnections)
	secrets.Start()
	t.Cleanup(secrets.Close)
	h.secrets.Put(secretID, incodetest.Key)

	h.env = lambdaenv.Variables(secrets.URL, h.incodeServer.URL)
	h.setenv("ALLOWED_CONFIGURATION_IDS", "*")
	h.setenv("INCODE_TIMEOUT", longTimeout)
	h.setenv("INCODE_API_KEY_MAX_AGE", "24h") // only the tests that shorten it wait for the end of it
	h.setenv("AWS_SECRET_ACCESS_KEY", "canary-aws-secret")
	h.setenv("AWS_SESSION_TOKEN", "canary-aws-session")
	h.trust(t, &h.incodeServer.TLS.Certificates[0])
	return h
}

func (h *harness) setenv(name, value string) { h.env = append(h.env, name+"="+value) }

// trust makes a certificate the only root that the function trusts.
func (h *harness) trust(t *testing.T, root *tls.Certificate) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "roots.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate[0]})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	h.setenv("SSL_CERT_FILE", file)
	h.setenv("SSL_CERT_DIR", "/nonexistent")
}

func (h *harness) config() runtimeapitest.Config {
	return runtimeapitest.Config{
		Bootstrap: bootstrap, Env: h.env, Concurrency: h.concurrency, Timeout: h.timeout, Grace: h.grace,
		Stdout: h.output, Stderr: h.output,
	}
}

// start starts the function. At the end of the test, it checks that the function
// has printed nothing that must not be printed.
func (h *harness) start(t *testing.T) *harness {
	t.Helper()
	f, err := runtimeapitest.Start(t.Context(), h.config())
	if err != nil {
		t.Fatalf("%v\n%s", err, h.output)
	}
	h.Function, h.pid = f, f.Pid()
	t.Cleanup(func() {
		f.Close()
		for _, line := range h.output.forbidden {
			t.Errorf("the function printed %s", line)
		}
	})
	return h
}

// response is what the caller gets.
type response struct {
	status  int
	code    string // of the problem; "" for a session
	token   string
	header  map[string]string
	payload string // the whole response of the function
}

// post sends a body as a back end does that authenticates with SigV4.
func (h *harness) post(t *testing.T, body string) response {
	t.Helper()
	return h.invoke(t, event(t, "iam.json", func(ev *apigateway.Event) { ev.Body = body }))
}

// event returns an event of API Gateway with a change.
func event(t *testing.T, name string, change func(*apigateway.Event)) []byte {
	t.Helper()
	data, err := os.ReadFile("../../internal/endpoint/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var ev apigateway.Event
	if err := json.Unmarshal(data, &ev); err != nil {
		t.Fatal(err)
	}
	change(&ev)
	payload, err := json.Marshal(ev)
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

func (h *harness) invoke(t *testing.T, payload []byte) response {
	t.Helper()
	result, err := h.Invoke(t.Context(), payload)
	if err != nil {
		t.Errorf("%v\n%s", err, h.output)
		return response{}
	}
	var resp events.APIGatewayV2HTTPResponse
	var body struct{ Type, Token string }
	if err := errors.Join(json.Unmarshal(result.Payload, &resp), json.Unmarshal([]byte(resp.Body), &body)); err != nil {
		t.Errorf("%v: %s", err, result.Payload)
	}
	return response{
		status: resp.StatusCode, code: strings.TrimPrefix(body.Type, "/problems/"), token: body.Token,
		header: resp.Headers, payload: string(result.Payload),
	}
}

// startSession makes a call with a configuration ID.
func (h *harness) startSession(t *testing.T, flow string) response {
	t.Helper()
	return h.post(t, fmt.Sprintf(`{"configurationId":%q,"externalCustomerId":%q}`, flow, customer))
}

// startSessions makes as many concurrent calls as there are callers, checks the
// responses and returns them.
func (h *harness) startSessions(t *testing.T, want outcome) []response {
	t.Helper()
	responses := make([]response, max(1, h.callers))
	var wg sync.WaitGroup
	for i := range responses {
		wg.Go(func() { responses[i] = h.startSession(t, incodetest.FlowID) })
	}
	wg.Wait()
	for _, resp := range responses {
		h.check(t, resp, want)
	}
	return responses
}

// outcome is what a caller is to get.
type outcome struct {
	status     int
	code       string
	retryAfter string // only responses with status 503 have it
}

var (
	success         = outcome{200, "", ""}
	rejected        = outcome{502, "incode-rejected", ""}
	forbidden       = outcome{502, "incode-forbidden", ""}
	unauthorized    = outcome{502, "incode-unauthorized", ""}
	invalidResponse = outcome{502, "incode-invalid-response", ""}
	incodeFailed    = outcome{502, "incode-failed", ""}
	unknown         = outcome{502, "outcome-unknown", ""}
	timedOut        = outcome{504, "incode-timeout", ""}
	unavailable     = outcome{503, "incode-unavailable", "1"}
	misconfigured   = outcome{500, "service-misconfigured", ""}
	noSecret        = outcome{503, "secret-unavailable", "1"}
)

func throttled(seconds string) outcome { return outcome{503, "incode-throttled", seconds} }

// sessionPossible lists the codes after which a session may exist.
var sessionPossible = []string{
	"internal", "incode-invalid-response", "incode-failed", "outcome-unknown", "incode-timeout",
}

// The limits of the memory of the process, with the race detector.
const (
	maxMemory        = 96 << 20 // bytes
	maxMemoryPerCall = 3 << 20  // bytes more for each concurrent call
)

// check compares a response with the expected one. It also checks that the same
// process still runs, and that its memory is bounded.
func (h *harness) check(t *testing.T, got response, want outcome) {
	t.Helper()
	if got.status != want.status || got.code != want.code || got.header["Retry-After"] != want.retryAfter {
		t.Errorf("got %d %s, Retry-After %q; want %d %s, %q",
			got.status, got.code, got.header["Retry-After"], want.status, want.code, want.retryAfter)
	}
	if text := forbiddenText(got.payload); want.status != 200 && text != "" {
		t.Errorf("the response contains %s: %s", text, got.payload)
	}
	if pid := h.Pid(); pid != h.pid {
		t.Errorf("process %d has replaced process %d", pid, h.pid)
	}
	h.checkMemory(t)
}

func (h *harness) checkMemory(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return // TestFaults logs it
	}
	limit := int64(maxMemory + maxMemoryPerCall*max(1, h.concurrency))
	if peak, err := procfs.Status(h.pid, "VmHWM"); err != nil || peak > limit {
		t.Errorf("the process needed %d bytes, want at most %d (%v)", peak, limit, err)
	}
}

// forbiddenText returns a part of the text that nobody may see, or "".
func forbiddenText(text string) string {
	for _, secret := range []string{"canary", canaryNumber, incodetest.Key, "eyJ"} { // tokens begin with eyJ
		if strings.Contains(text, secret) {
			return secret
		}
	}
	return ""
}

// maxLogLine is the greatest length of a line of the log in bytes, unless it
// reports a panic.
const maxLogLine = 4 << 10

// output keeps what the function prints, and the lines with what it must not
// print. It is safe for concurrent use.
type output struct {
	dropLog bool // keep only what is not a JSON line, for tests with many calls

	mu         sync.Mutex
	text       bytes.Buffer
	incomplete []byte // the last line
	forbidden  []string
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.incomplete = append(o.incomplete, p...)
	for {
		line, rest, ok := bytes.Cut(o.incomplete, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		if text := string(line); forbiddenText(text) != "" || strings.Contains(text, "DATA RACE") {
			o.forbidden = append(o.forbidden, text)
		} else if len(line) > maxLogLine {
			o.forbidden = append(o.forbidden, fmt.Sprintf("a line of %d bytes: %.99s", len(line), line))
		}
		if !o.dropLog || !bytes.HasPrefix(line, []byte("{")) {
			o.text.Write(line)
			o.text.WriteByte('\n')
		}
		o.incomplete = rest
	}
}

// String returns the complete lines printed so far.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// requestLines returns the log lines of requests.
func (o *output) requestLines(t *testing.T) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for text := range strings.Lines(o.String()) {
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
