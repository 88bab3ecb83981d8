//go:build unix

package main

import (
	"bytes"
	"context"
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

// bootstrap is the compiled function. These tests run it as Lambda does: as a
// process that knows its environment and the Runtime API and nothing else.
var bootstrap string

func TestMain(m *testing.M) { os.Exit(runtimeapitest.Main(m, ".", &bootstrap)) }

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

// TestManyInFlight has the function as on Lambda Managed Instances, with more
// callers than it takes at a time.
func TestManyInFlight(t *testing.T) {
	const concurrency, callers, each = 32, 64, 5
	r := newRig(t)
	// The first ones wait for one another at Incode. That takes a connection for
	// each, which are all that the others need.
	all := make(chan struct{})
	var arrivals atomic.Int32
	incode := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if arrivals.Add(1) == concurrency {
			close(all)
		}
		select {
		case <-all:
		case <-req.Context().Done(): // too few at once: the function gave up
		}
		r.incode.ServeHTTP(w, req)
	}))
	incode.Config.ConnState = count(&r.connections)
	incode.StartTLS()
	t.Cleanup(incode.Close)
	r.env["INCODE_BASE_URL"], r.env["INCODE_TIMEOUT"] = incode.URL, "20s" // a busy machine is no fault
	r.concurrency = concurrency
	r.start(t, time.Minute)
	tokens := make(chan string, callers*each)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				a := r.session(t, incodetest.FlowID)
				if a.status != 200 {
					t.Errorf("got %+v", a)
				}
				tokens <- a.token
			}
		})
	}
	wg.Wait()
	close(tokens)
	distinct := map[string]bool{}
	for token := range tokens {
		distinct[token] = true
	}
	if len(distinct) != callers*each || r.incode.Sessions() != callers*each || r.incode.Requests() != callers*each {
		t.Errorf("%d tokens, %d sessions, %d requests; want %d of each", len(distinct), r.incode.Sessions(), r.incode.Requests(), callers*each)
	}
	if n := r.connections.Load(); n != concurrency {
		t.Errorf("%d connections to Incode, want %d", n, concurrency)
	}
	if n := r.secrets.Requests(); n != 1 {
		t.Errorf("%d loads of the secret, want 1", n)
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

func TestNoConnectionToSecretsManagerIsKept(t *testing.T) {
	r := newRig(t).start(t, 5*time.Second)
	r.secrets.Put(secretID, "canary-key")
	r.incode.SetKey("canary-key")
	if a := r.session(t, incodetest.FlowID); a.status != 200 || r.secrets.Requests() != 2 || r.secretsConnections.Load() != 2 {
		t.Errorf("got %+v; %d loads over %d connections, want 2 over 2", a, r.secrets.Requests(), r.secretsConnections.Load())
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

func TestBadEnvironmentIsReportedWhole(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"INCODE_API_KEY_SECRET_ID", "ALLOWED_CONFIGURATION_IDS"} {
		delete(r.env, name)
	}
	r.env["INCODE_BASE_URL"], r.env["INCODE_TIMEOUT"] = "http://canary.example.com", "canary"
	_, err := runtimeapitest.Start(t.Context(), r.config(5*time.Second))
	failure, ok := errors.AsType[*runtimeapitest.FunctionError](err)
	if !ok || failure.Type != "Runtime.ExitError" || !strings.Contains(failure.Message, "exit status 1") {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"INCODE_API_KEY_SECRET_ID", "INCODE_BASE_URL", "ALLOWED_CONFIGURATION_IDS", "INCODE_TIMEOUT"} {
		if !strings.Contains(r.output.String(), name) {
			t.Errorf("the log does not mention %s: %s", name, r.output)
		}
	}
	if strings.Contains(r.output.String(), "canary") {
		t.Errorf("the log contains a value: %s", r.output)
	}
}

func TestRunTellsWhyItCannotReport(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	env := map[string]string{"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1"}
	err := run(ctx, func(name string) string { return env[name] }, nil)
	if err == nil || !strings.Contains(err.Error(), "INCODE_BASE_URL") || !strings.Contains(err.Error(), "reporting the init error") {
		t.Errorf("got %v", err)
	}
	if err := run(ctx, func(string) string { return "" }, nil); err == nil || !strings.Contains(err.Error(), "make run") {
		t.Errorf("started by hand: %v", err)
	}
}
