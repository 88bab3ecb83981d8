//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"omnistart/internal/tooling/incodetest"
	"omnistart/internal/tooling/runtimeapitest"
)

// bootstrap is the path of the compiled function. These tests run it as Lambda
// does: as a process that only has its environment and the Runtime API.
var bootstrap string

func TestMain(m *testing.M) { os.Exit(runtimeapitest.Main(m, ".", &bootstrap)) }

func TestSession(t *testing.T) {
	h := newHarness(t).start(t)
	first, second := h.startSession(t, incodetest.FlowID), h.startSession(t, incodetest.FlowID)
	if first.status != 200 || second.status != 200 || first.token == "" || first.token == second.token {
		t.Errorf("got %+v and %+v", first, second)
	}
	if got := h.incode.Last().Fields; got["externalCustomerId"] != customer || got["countryCode"] != "ALL" {
		t.Errorf("Incode got %v", got)
	}
	if h.incode.Sessions() != 2 || h.secrets.Requests() != 1 {
		t.Errorf("%d sessions and %d loads of the secret, want 2 and 1", h.incode.Sessions(), h.secrets.Requests())
	}
	h.Close() // completes the output
	lines := h.output.requestLines(t)
	if len(lines) != 2 || lines[0]["coldStart"] != true || lines[1]["coldStart"] != false {
		t.Fatalf("log: %v", lines)
	}
	for _, key := range []string{"timestamp", "level", "requestId", "apiRequestId", "status", "code", "incodeStatus",
		"durationMs", "incodeMs", "connectMs", "secretMs", "interviewId"} {
		if lines[0][key] == nil {
			t.Errorf("the log line has no %s: %v", key, lines[0])
		}
	}
}

func TestInitLoadsTheKeyAndConnectsToIncode(t *testing.T) {
	h := newHarness(t).start(t)
	if h.secrets.Requests() != 1 || h.connections.Load() != 1 || h.incode.Requests() != 0 {
		t.Errorf("after the init: %d loads, %d connections, %d requests; want 1, 1, 0",
			h.secrets.Requests(), h.connections.Load(), h.incode.Requests())
	}
	for range 5 {
		h.startSession(t, incodetest.FlowID)
	}
	if h.secrets.Requests() != 1 || h.connections.Load() != 1 || h.incode.Requests() != 5 {
		t.Errorf("after five requests: %d loads, %d connections, %d requests; want 1, 1, 5",
			h.secrets.Requests(), h.connections.Load(), h.incode.Requests())
	}
	if proto := h.incode.Last().Proto; proto != "HTTP/1.1" {
		t.Errorf("%s, whose clients repeat requests", proto)
	}
}

// TestConcurrentCalls has more callers than the process takes calls at a time, as
// on Lambda Managed Instances.
func TestConcurrentCalls(t *testing.T) {
	const concurrency, callers, calls = 16, 32, 5
	h := newHarness(t)
	// The first calls wait for each other at Incode. They need a connection each, and
	// all others need no more.
	all := make(chan struct{})
	var arrivals atomic.Int32
	incode := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if arrivals.Add(1) == concurrency {
			close(all)
		}
		select {
		case <-all:
		case <-req.Context().Done(): // the function gave up, as too few calls are concurrent
		}
		h.incode.ServeHTTP(w, req)
	}))
	incode.Config.ConnState = count(&h.connections)
	incode.StartTLS()
	t.Cleanup(incode.Close)
	h.setenv("INCODE_BASE_URL", incode.URL)
	h.concurrency = concurrency
	h.start(t)
	tokens := make(chan string, callers*calls)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range calls {
				resp := h.startSession(t, incodetest.FlowID)
				h.check(t, resp, success)
				tokens <- resp.token
			}
		})
	}
	wg.Wait()
	close(tokens)
	distinct := map[string]bool{}
	for token := range tokens {
		distinct[token] = true
	}
	if len(distinct) != callers*calls || h.incode.Sessions() != callers*calls || h.incode.Requests() != callers*calls {
		t.Errorf("%d tokens, %d sessions, %d requests; want %d of each",
			len(distinct), h.incode.Sessions(), h.incode.Requests(), callers*calls)
	}
	if n := h.connections.Load(); n < concurrency || n > 2*concurrency { // a call may make a second attempt
		t.Errorf("%d connections to Incode, want %d", n, concurrency)
	}
	if n := h.secrets.Requests(); n != 1 {
		t.Errorf("%d loads of the secret, want 1", n)
	}
}

func TestJWTCallerIsTheCustomer(t *testing.T) {
	h := newHarness(t).start(t)
	payload, err := os.ReadFile("../../internal/endpoint/testdata/jwt.json")
	if err != nil {
		t.Fatal(err)
	}
	h.check(t, h.invoke(t, payload), success)
	if got := h.incode.Last().Fields["externalCustomerId"]; got != "auth0|canary-customer-42" {
		t.Errorf("Incode got the customer %v", got)
	}
	other := bytes.Replace(payload, []byte(`7f1c05\"}`),
		[]byte(`7f1c05\",\"externalCustomerId\":\"canary-victim\"}`), 1)
	if resp := h.invoke(t, other); resp.status != 403 || resp.code != "customer-mismatch" || h.incode.Requests() != 1 {
		t.Errorf("got %+v after %d requests", resp, h.incode.Requests())
	}
}

func TestEveryFlowGetsItsDocumentedResponse(t *testing.T) {
	t.Parallel() // it waits
	h := newHarness(t)
	h.setenv("INCODE_TIMEOUT", "10s") // enough for two attempts to connect
	h.start(t)
	for _, flow := range incodetest.Flows {
		want := outcome{flow.Status, flow.Code, ""}
		if flow.Code == "incode-throttled" {
			want.retryAfter = "7" // as Incode said
		}
		before := h.incode.Requests()
		t.Log(flow.ID, flow.Does)
		h.check(t, h.startSession(t, flow.ID), want)
		if n := h.incode.Requests() - before; n != 1 {
			t.Errorf("Incode got %d requests", n)
		}
		h.check(t, h.startSession(t, incodetest.FlowID), success)
	}
	if resp := h.startSession(t, "not-a-flow"); resp.status != 422 || resp.code != "validation-failed" {
		t.Errorf("got %+v for an invalid configuration ID", resp)
	}
	h.Close() // completes the output
	if n, calls := len(h.output.requestLines(t)), 2*len(incodetest.Flows)+1; n != calls {
		t.Errorf("%d log lines for %d requests", n, calls)
	}
}

func TestKeyRotatesWithoutAFailedRequest(t *testing.T) {
	h := newHarness(t).start(t)
	for i := range 3 {
		h.check(t, h.startSession(t, incodetest.FlowID), success)
		next := fmt.Sprintf("canary-key-%d", i)
		h.secrets.Put(secretID, `{"apiKey":"`+next+`"}`)
		h.incode.SetKey(next)
	}
	h.check(t, h.startSession(t, incodetest.FlowID), success)
	if h.incode.Sessions() != 4 || h.incode.Requests() != 7 || h.secrets.Requests() != 4 {
		t.Errorf("%d sessions, %d requests, %d loads; want 4, 7 (three refused), 4",
			h.incode.Sessions(), h.incode.Requests(), h.secrets.Requests())
	}
}

func TestNoConnectionToSecretsManagerIsKept(t *testing.T) {
	h := newHarness(t).start(t)
	h.secrets.Put(secretID, "canary-key")
	h.incode.SetKey("canary-key")
	h.check(t, h.startSession(t, incodetest.FlowID), success)
	if h.secrets.Requests() != 2 || h.secretsConnections.Load() != 2 {
		t.Errorf("%d loads over %d connections, want 2 over 2", h.secrets.Requests(), h.secretsConnections.Load())
	}
}

func TestRefusedKeyDoesNotFloodSecretsManager(t *testing.T) {
	h := newHarness(t).start(t)
	h.incode.SetKey("another")
	began := time.Now()
	for range 10 {
		h.check(t, h.startSession(t, incodetest.FlowID), unauthorized)
	}
	checkLoads(t, h, began)
	if n := h.incode.Requests(); n != 10 {
		t.Errorf("%d requests, want 10", n)
	}
}

func TestEveryProblemOfTheEnvironmentIsReported(t *testing.T) {
	h := newHarness(t)
	h.setenv("INCODE_API_KEY_SECRET_ID", "")
	h.setenv("ALLOWED_CONFIGURATION_IDS", "")
	h.setenv("INCODE_BASE_URL", "http://canary.example.com")
	h.setenv("INCODE_TIMEOUT", "canary")
	_, err := runtimeapitest.Start(t.Context(), h.config())
	failure, ok := errors.AsType[*runtimeapitest.FunctionError](err)
	if !ok || failure.Type != "Runtime.ExitError" || !strings.Contains(failure.Message, "exit status 1") {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{
		"INCODE_API_KEY_SECRET_ID", "INCODE_BASE_URL", "ALLOWED_CONFIGURATION_IDS", "INCODE_TIMEOUT",
	} {
		if !strings.Contains(h.output.String(), name) {
			t.Errorf("the log does not mention %s: %s", name, h.output)
		}
	}
	h.setenv("ALLOWED_REDIRECT_HOSTS", strings.Repeat("-,", 2000)) // one problem each
	_, _ = runtimeapitest.Start(t.Context(), h.config())
	for _, line := range h.output.forbidden { // a value, or too long
		t.Errorf("the log contains %s", line)
	}
}
