//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"omnistart/internal/tooling/incodetest"
)

// shortAge is the INCODE_API_KEY_MAX_AGE of tests in which the key becomes old.
// It is the shortest one that the function accepts.
const shortAge = time.Second

// waitUntil polls for a condition that nothing signals. It fails the test after a
// time that is long enough for a very slow machine.
func waitUntil(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !condition(); time.Sleep(50 * time.Millisecond) {
		if t.Failed() || time.Now().After(deadline) {
			t.Fatalf("waited for this until the deadline, or another failure: %s", what)
		}
	}
}

// startsSessionsWith reports whether the function has started a session with this
// version of the secret.
func (h *harness) startsSessionsWith(version string) bool {
	return strings.Contains(h.output.String(), `"keyVersion":"`+version+`"`)
}

// another starts one more process of the function, which calls the same services.
func (h *harness) another(t *testing.T) *harness {
	t.Helper()
	return (&harness{
		incode: h.incode, incodeServer: h.incodeServer, secrets: h.secrets, env: h.env, output: &output{},
		concurrency: h.concurrency, timeout: h.timeout, grace: h.grace,
	}).start(t)
}

// TestDocumentedRotationUnderLoad stores a new key, waits until every process uses
// it, and then revokes the old key. No request fails or is refused, and no process
// loads the secret more often than once in the maximum age of the key.
func TestDocumentedRotationUnderLoad(t *testing.T) {
	t.Parallel() // it waits
	const callers, rotations = 64, 2
	h := newHarness(t)
	h.setenv("INCODE_API_KEY_MAX_AGE", shortAge.String())
	h.incode.Latency = time.Second // so that the callers leave the machine time for the tests beside
	h.concurrency = callers / 4
	began := time.Now()
	processes := []*harness{h.start(t), h.another(t), h.another(t), h.another(t)}
	l := startLoad(t, callers, processes...)
	old := incodetest.Key
	for i := range rotations {
		l.waitForEachCaller()
		next := fmt.Sprintf("canary-key-%d", i)
		h.incode.SetKey(old, next)
		stored := time.Now()
		version := h.secrets.Put(secretID, next)
		for n, p := range processes {
			waitUntil(t, "a session with the new key", func() bool { return p.startsSessionsWith(version) })
			t.Logf("rotation %d, process %d: a session with the new key %v after it was stored", i, n, time.Since(stored))
		}
		l.waitForEachCaller() // their calls in flight may still have the old key
		h.incode.SetKey(next)
		old = next
	}
	l.waitForEachCaller()
	tokens := l.stop()
	if sessions, requests := h.incode.Sessions(), h.incode.Requests(); requests != sessions || tokens != sessions {
		t.Errorf("%d sessions, %d requests to Incode, %d tokens, want the same number",
			sessions, requests, tokens)
	}
	least, most := len(processes)*(1+rotations), len(processes)*(1+int(time.Since(began)/shortAge))
	if n := h.secrets.Requests(); n < least || n > most {
		t.Errorf("%d loads of the secret by %d processes, want %d to %d", n, len(processes), least, most)
	}
}

// lastKeyVersion waits for the log line of the n-th call, and returns the version of
// the secret in it.
func (h *harness) lastKeyVersion(t *testing.T, n int) (version any) {
	t.Helper()
	waitUntil(t, "a log line of each call", func() bool {
		lines := h.output.requestLines(t)
		if len(lines) == n {
			version = lines[n-1]["keyVersion"]
		}
		return len(lines) == n
	})
	return version
}

// TestThawedProcessStartsWithTheNewKey freezes a process for longer than twice the
// maximum age of the key. On a busy machine, a load can take longer than a call
// waits for it, so the test tries several times.
func TestThawedProcessStartsWithTheNewKey(t *testing.T) {
	t.Parallel() // it waits
	h := newHarness(t)
	h.setenv("INCODE_API_KEY_MAX_AGE", shortAge.String())
	h.start(t)
	h.check(t, h.startSession(t, incodetest.FlowID), success)
	var keys []string
	waitUntil(t, "a thawed process whose first session has the new key", func() bool {
		if err := h.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, fmt.Sprintf("canary-key-%d", len(keys)))
		h.incode.SetKey(incodetest.Key, keys...) // all of them, since the process may have any
		version := h.secrets.Put(secretID, keys[len(keys)-1])
		time.Sleep(2 * shortAge) // the time in which the key becomes old
		h.check(t, h.startSession(t, incodetest.FlowID), success)
		return h.lastKeyVersion(t, 1+len(keys)) == version
	})
	if calls := 1 + len(keys); h.incode.Requests() != calls || h.incode.Sessions() != calls {
		t.Errorf("%d requests and %d sessions, want %d of each", h.incode.Requests(), h.incode.Sessions(), calls)
	}
}

// TestLoadThatWasFrozenIsRepeated freezes a process during a load, for longer than
// the 3 seconds that a load may take.
func TestLoadThatWasFrozenIsRepeated(t *testing.T) {
	t.Parallel() // it waits
	h := newHarness(t)
	h.setenv("INCODE_API_KEY_MAX_AGE", shortAge.String())
	h.start(t)
	release := h.secrets.Hold()
	t.Cleanup(release)
	waitUntil(t, "a load", func() bool {
		h.check(t, h.startSession(t, incodetest.FlowID), success)
		return h.secrets.Requests() > 1
	})
	if err := h.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	loads := h.secrets.Requests()
	time.Sleep(3 * time.Second) // the time that a load may take
	h.incode.SetKey(incodetest.Key, "canary-key")
	version := h.secrets.Put(secretID, "canary-key")
	release()
	waitUntil(t, "a session with the new key", func() bool {
		h.check(t, h.startSession(t, incodetest.FlowID), success)
		return h.startsSessionsWith(version)
	})
	if h.secrets.Requests() == loads || h.incode.Requests() != h.incode.Sessions() {
		t.Errorf("%d loads, %d of them before the process was frozen; %d requests to Incode and %d sessions",
			h.secrets.Requests(), loads, h.incode.Requests(), h.incode.Sessions())
	}
}

// TestOldKeyStaysInUse makes calls while the key is old and cannot be replaced, or
// only slowly, and then ends the fault.
func TestOldKeyStaysInUse(t *testing.T) {
	t.Parallel() // it waits
	fail := func(code string) func(*harness) func() {
		return func(h *harness) func() {
			h.secrets.Fail(code, http.StatusBadRequest)
			return h.secrets.Recover
		}
	}
	put := func(value string) func(*harness) func() {
		return func(h *harness) func() {
			h.secrets.Put(secretID, value)
			return func() {}
		}
	}
	binary := func(h *harness) func() {
		h.secrets.PutBinary(secretID, []byte("canary"))
		return func() {}
	}
	silent := func(h *harness) func() { return h.secrets.Hold() }
	var wg sync.WaitGroup // rows wait more than they work
	for name, begin := range map[string]func(*harness) (end func()){
		"silent": silent, "denied": fail("AccessDeniedException"), "throttled": fail("ThrottlingException"), "slow": nil,
		"empty value": put(""), "binary value": binary, "JSON without a key": put(`{"a":"canary","b":"canary"}`),
	} {
		wg.Go(func() { t.Run(name, func(t *testing.T) { testOldKeyStaysInUse(t, begin) }) })
	}
	wg.Wait()
}

func testOldKeyStaysInUse(t *testing.T, begin func(*harness) (end func())) {
	h := newHarness(t)
	var slow atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slow.Load() {
			time.Sleep(time.Second) // longer than a call waits for a load
		}
		h.secrets.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	h.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", server.URL)
	h.setenv("INCODE_API_KEY_MAX_AGE", shortAge.String())
	h.concurrency, h.callers = 4, 4
	h.start(t)
	end := func() { slow.Store(false) }
	if begin == nil {
		slow.Store(true)
	} else {
		end = begin(h)
	}
	t.Cleanup(end)
	waitUntil(t, "three more requests to Secrets Manager, and two failures unless it is only slow", func() bool {
		h.startSessions(t, success)
		failures := strings.Count(h.output.String(), "the API key was not loaded")
		return h.secrets.Requests() > 3 && (failures >= 2 || begin == nil)
	})
	end()
	h.incode.SetKey(incodetest.Key, "canary-key")
	version := h.secrets.Put(secretID, "canary-key")
	waitUntil(t, "a session with the new key", func() bool {
		h.startSessions(t, success)
		return h.startsSessionsWith(version)
	})
	h.Close() // completes the output
	var loads, failures float64
	lines := h.output.requestLines(t)
	for _, line := range lines {
		loads += line["KeyLoads"].(float64)
		failures += line["KeyLoadFailures"].(float64)
	}
	if loads < 3 || failures > loads-2 || failures < 2 && begin != nil {
		t.Errorf("counted %v loads, %v of them failed", loads, failures)
	}
	if n := len(lines); h.incode.Requests() != n || h.incode.Sessions() != n {
		t.Errorf("%d calls, %d requests to Incode, %d sessions", n, h.incode.Requests(), h.incode.Sessions())
	}
}

// TestSecretsAsOperatorsWriteThem tries values of the secret. key is what Incode has
// to be sent, or null if the function must refuse the secret.
func TestSecretsAsOperatorsWriteThem(t *testing.T) {
	var cases []struct {
		Name, Secret string
		Key          *string
	}
	if err := json.Unmarshal([]byte(read(t, "testdata/secrets.json")), &cases); err != nil || len(cases) == 0 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, tt := range cases {
		t.Run(tt.Name, func(t *testing.T) {
			h := newHarness(t)
			h.secrets.Put(secretID, tt.Secret)
			want := misconfigured
			if tt.Key != nil {
				h.incode.SetKey(*tt.Key)
				want = success
			}
			h.start(t)
			h.check(t, h.startSession(t, incodetest.FlowID), want)
		})
	}
}
