//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"omnistart/internal/tooling/incodetest"
	"omnistart/internal/tooling/procfs"
)

var (
	seed  = flag.Uint64("seed", 0, "of the random faults in TestAtMostOnce; 0 takes a new one")
	calls = flag.Int("calls", 300, "number of calls in TestAtMostOnce")
)

// TestAtMostOnce makes calls with random faults and then compares the responses
// with the sessions that Incode has started: a 200 has exactly one session, a
// session without a 200 has a response that says so, and no call has two. It runs
// once with one call at a time, and then also freezes the process, and once with
// concurrent calls. At the end, the memory of the process must not have grown.
func TestAtMostOnce(t *testing.T) {
	t.Parallel() // it waits
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-seed %d", *seed)
	single := min(*calls/2, 2000) // these take longer
	for _, n := range []struct{ concurrency, callers, calls int }{{1, 1, single}, {32, *together, *calls - single}} {
		t.Run(fmt.Sprint(n.concurrency), func(t *testing.T) {
			s := newSoak(t, n.concurrency, n.calls)
			for _, m := range failureModes { // at least once
				for !s.seen(m) && s.unfinished() {
					s.call(t, incodetest.FlowID, m.name)
				}
			}
			var callers sync.WaitGroup
			for id := range n.callers {
				callers.Go(func() { s.runCaller(t, id) })
			}
			callers.Wait()
			s.compareWithIncode(t)
			s.checkResources(t)
		})
	}
}

// failureMode is what happens to the response to a request that has had its
// effect. The call passes the name on to Incode as a custom field.
type failureMode struct {
	name string
	act  func(c net.Conn, response, body []byte) // the response of HTTP/1.1, and its body
}

var failureModes = []failureMode{
	{"lost", func(net.Conn, []byte, []byte) {}},
	{"cut off", func(c net.Conn, response, _ []byte) { _, _ = c.Write(response[:len(response)-20]) }},
	{delayed, func(c net.Conn, _, _ []byte) { _, _ = io.Copy(io.Discard, c) }},
	{"replaced by 500", withStatus("500 Internal Server Error", false)},
	{"replaced by 408", withStatus("408 Request Timeout", false)},
	{"with status 400", withStatus("400 Bad Request", true)},
	{"with status 403", withStatus("403 Forbidden", true)},
	{"with status 201", withStatus("201 Created", true)},
	{"with status 307", withStatus("307 Temporary Redirect", true)},
	{"after interim responses", func(c net.Conn, response, _ []byte) {
		_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n")
		_, _ = c.Write(response)
	}},
	{"before an unannounced close", func(c net.Conn, response, _ []byte) { _, _ = c.Write(response) }},
	// Both responses are in one write. No client that keeps connections can recognize
	// an unsolicited response that arrives after its next request.
	{"before an unsolicited response", func(c net.Conn, response, _ []byte) {
		_, _ = c.Write(append(response, httpResponse("200 OK", "", `{"token":"eyJcanary"}`)...))
		_, _ = io.Copy(io.Discard, c) // until the client closes the connection
	}},
}

const delayed = "delayed until the timeout"

func withStatus(status string, keepBody bool) func(net.Conn, []byte, []byte) {
	return func(c net.Conn, _, body []byte) {
		if !keepBody {
			body = nil
		}
		_, _ = io.WriteString(c, httpResponse(status, "", string(body)))
	}
}

// soak is a harness whose Incode fails as the calls ask it to.
type soak struct {
	*harness
	server *httptest.Server
	codes  []string // of the response to each call; "" for a session
	next   atomic.Int64

	mu      sync.Mutex // guards the fields below
	failed  map[string]int
	key     string
	samples []sample
}

// sample is the state of the process after some calls.
type sample struct {
	memory      int64 // bytes
	descriptors int
}

// samples is the number of samples of a run.
const samples = 100

func newSoak(t *testing.T, concurrency, calls int) *soak {
	t.Helper()
	s := &soak{
		harness: newHarness(t), codes: make([]string, max(calls, len(failureModes))),
		failed: map[string]int{}, key: incodetest.Key,
	}
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.server.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshakes that these tests break
	s.server.StartTLS()
	t.Cleanup(s.server.Close)
	t.Cleanup(s.incode.Close)
	s.setenv("INCODE_BASE_URL", s.server.URL)
	s.setenv("INCODE_TIMEOUT", shortTimeout)
	s.setenv("INCODE_API_KEY_MAX_AGE", "1s")
	s.concurrency = concurrency
	s.output.dropLog = true
	s.start(t)
	return s
}

// serve responds as the stand-in does, or as the failure mode of the call says.
func (s *soak) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var call struct {
		CustomFields struct {
			FailureMode string `json:"failureMode"`
		}
	}
	_ = json.Unmarshal(body, &call)
	i := slices.IndexFunc(failureModes, func(m failureMode) bool { return m.name == call.CustomFields.FailureMode })
	if i < 0 {
		s.incode.ServeHTTP(w, r)
		return
	}
	recorded := httptest.NewRecorder()
	s.incode.ServeHTTP(recorded, r)
	if recorded.Code != http.StatusOK { // the key is refused
		w.WriteHeader(recorded.Code)
		_, _ = w.Write(recorded.Body.Bytes())
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	s.mu.Lock()
	s.failed[failureModes[i].name]++
	s.mu.Unlock()
	text := recorded.Body.Bytes()
	failureModes[i].act(conn, []byte(httpResponse("200 OK", "", string(text))), text)
}

func (s *soak) unfinished() bool { return int(s.next.Load()) < len(s.codes) }

// seen reports whether a response had the failure mode. A call may not get that
// far: its request may meet a connection that the server closes after the response
// before.
func (s *soak) seen(m failureMode) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed[m.name] > 0
}

// runCaller makes calls until all are made. What happens is a function of the seed
// and the order of the calls.
func (s *soak) runCaller(t *testing.T, id int) {
	random := rand.New(rand.NewPCG(*seed, uint64(id))) //nolint:gosec // to be repeated
	oneOf := func(n int) bool { return random.IntN(n) == 0 }
	for s.unfinished() && !t.Failed() {
		flow, mode := incodetest.FlowID, ""
		switch n := random.IntN(100); {
		case n < 15:
			if m := failureModes[random.IntN(len(failureModes))].name; m != delayed || oneOf(100) {
				mode = m
			}
		case n < 20:
			// Not the flows that refuse a valid key: after a rotation in the cool-down that
			// they start, all calls would fail.
			f := incodetest.Flows[random.IntN(len(incodetest.Flows))]
			hangs := strings.HasSuffix(f.ID, "0408")
			if f.Code != "incode-unauthorized" && f.Code != "incode-forbidden" && (!hangs || oneOf(100)) {
				flow = f.ID
			}
		case n < 25 && (s.concurrency == 1 || oneOf(20)): // faults for all calls in flight
			s.disturb(t, random.IntN(4))
		}
		s.call(t, flow, mode)
		s.secrets.Recover()
	}
}

// disturb causes a fault that is not limited to one call.
func (s *soak) disturb(t *testing.T, kind int) {
	switch {
	case kind == 0:
		s.server.CloseClientConnections()
	case kind == 1:
		s.rotate()
	case kind == 2: // with an error that is not retried, which would take seconds
		s.secrets.Fail("AccessDeniedException", http.StatusBadRequest)
		s.rotate()
	case s.concurrency == 1:
		if err := s.Freeze(t.Context()); err != nil {
			t.Error(err)
		}
		s.server.CloseClientConnections()
	}
}

// rotate stores a new key and revokes the old one at once.
func (s *soak) rotate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := fmt.Sprintf("canary-key-%x", rand.Uint64())
	s.incode.SetKey(s.key, next)
	s.secrets.Put(secretID, next)
	s.incode.SetKey(next)
	s.key = next
}

func customerOf(call int) string { return fmt.Sprintf("canary-customer-%d", call) }

// call makes the next call and keeps the code of its response.
func (s *soak) call(t *testing.T, flow, mode string) {
	i := int(s.next.Add(1)) - 1
	if i >= len(s.codes) {
		return
	}
	const body = `{"configurationId":%q,"externalCustomerId":%q,"customFields":{"failureMode":%q}}`
	resp := s.post(t, fmt.Sprintf(body, flow, customerOf(i), mode))
	s.codes[i] = resp.code
	tokens := s.incode.SessionsOf(customerOf(i))
	if resp.status == 200 && (len(tokens) != 1 || tokens[0] != resp.token) {
		t.Errorf("got %+v, and the sessions are %v", resp, tokens)
	}
	if runtime.GOOS != "linux" || i%max(1, len(s.codes)/samples) != 0 {
		return
	}
	memory, err := procfs.Status(s.pid, "VmRSS")
	if err != nil {
		t.Fatal(err)
	}
	descriptors, err := procfs.Descriptors(s.pid)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples = append(s.samples, sample{memory, descriptors})
}

// compareWithIncode compares the responses with the sessions that Incode started.
func (s *soak) compareWithIncode(t *testing.T) {
	responses, behind, sessions := map[string]int{}, map[string]int{}, 0
	for i, code := range s.codes {
		n := len(s.incode.SessionsOf(customerOf(i)))
		responses[code]++
		behind[code] += n
		sessions += n
		switch {
		case n > 1:
			t.Errorf("call %d: %d sessions", i, n)
		case code == "" && n == 0:
			t.Errorf("call %d: a token without a session", i)
		case code != "" && n == 1 && !slices.Contains(sessionPossible, code):
			t.Errorf("call %d: a session exists, and %s says that there is none", i, code)
		}
	}
	if s.incode.Sessions() != sessions {
		t.Errorf("%d sessions, %d of them belong to no call", s.incode.Sessions(), s.incode.Sessions()-sessions)
	}
	if responses["internal"] > 0 || responses[""] < len(s.codes)/5 {
		t.Errorf("too few calls succeeded, or one had an internal error: %v", responses)
	}
	for _, m := range failureModes {
		if !s.seen(m) {
			t.Errorf("no response was %s", m.name)
		}
	}
	for _, code := range []string{"incode-invalid-response", "incode-failed", "outcome-unknown", "incode-timeout"} {
		if behind[code] == 0 {
			t.Errorf("no call with %s has a session", code)
		}
	}
	t.Logf("%d calls, %d sessions, responses by code: %v, by failure mode: %v",
		len(s.codes), sessions, responses, s.failed)
}

// checkResources checks that the process has leaked nothing, and ends it.
func (s *soak) checkResources(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("NOT CHECKED: memory, descriptors and goroutines, which needs Linux")
		return
	}
	s.checkMemory(t)
	// For each concurrent call one connection to Incode and two to the Runtime API,
	// one connection to Secrets Manager, and those of the Go runtime.
	limit := 3*s.concurrency + 16
	for _, sample := range s.samples {
		if sample.descriptors > limit {
			t.Errorf("%d descriptors, want at most %d", sample.descriptors, limit)
		}
	}
	s.checkGrowth(t)

	// SIGQUIT makes Go print all goroutines. For each concurrent call there are its
	// loop and the connections, some with two goroutines.
	if err := syscall.Kill(s.pid, syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	for s.Pid() == s.pid {
		time.Sleep(time.Millisecond)
	}
	limit = 6*s.concurrency + 16
	n := strings.Count(s.output.String(), "\ngoroutine ") - strings.Count(s.output.String(), "\ngoroutine 0 ")
	if n < 1 || n > limit {
		t.Errorf("%d goroutines, want 1 to %d", n, limit)
	}
	t.Logf("%d goroutines at the end", n)
}

// checkGrowth compares the memory in the third and the last quarter of the calls.
func (s *soak) checkGrowth(t *testing.T) {
	const (
		maxGrowth = 1 << 20 // bytes
		enough    = 20_000  // calls after which the memory only grows by a leak
	)
	if len(s.samples) < samples || len(s.codes) < enough {
		t.Logf("NOT CHECKED: growth of the memory, which needs %d calls", enough)
		return
	}
	median := func(part []sample) int64 {
		slices.SortFunc(part, func(a, b sample) int { return int(a.memory - b.memory) })
		return part[len(part)/2].memory
	}
	before, after := median(s.samples[samples/2:samples*3/4]), median(s.samples[samples*3/4:])
	t.Logf("memory in the third and the last quarter: %d and %d bytes", before, after)
	if after-before > maxGrowth {
		t.Errorf("the memory has grown by %d bytes", after-before)
	}
}
