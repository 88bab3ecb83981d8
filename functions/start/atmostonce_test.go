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
	"slices"
	"sync"
	"testing"
	"time"

	"omnistart/internal/tooling/incodetest"
)

var (
	seed  = flag.Uint64("seed", 0, "of TestAtMostOnce; 0 takes a new one")
	calls = flag.Int("calls", 300, "of TestAtMostOnce, each with a fault of its own")
)

// TestAtMostOnce makes calls with random faults and then asks Incode what it has
// done for each: a 200 has its one session, a session without a 200 belongs to an
// answer that says so, and no call has two. It does so with one call at a time,
// between which the process is frozen at times, and with 32.
func TestAtMostOnce(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-seed %d", *seed)
	for _, concurrency := range []int{1, 32} {
		t.Run(fmt.Sprint(concurrency), func(t *testing.T) {
			c := newChaos(t, concurrency)
			for i, f := range fates { // so that none is left to chance
				c.call(t, fmt.Sprintf("canary-fate-%d", i), incodetest.FlowID, f.name)
			}
			var wg sync.WaitGroup
			for i := range concurrency {
				wg.Go(func() { c.caller(t, i, *calls/2/concurrency+1) })
			}
			wg.Wait()
			c.account(t)
		})
	}
}

// A fate is what becomes of Incode's reply to a request that has had its effect.
// The call carries its fate's name through to Incode as a custom field.
type fate struct {
	name string
	// do gets the connection, the HTTP/1.1 reply and its body.
	do func(c net.Conn, reply, body []byte)
}

var fates = []fate{
	{"lost", func(net.Conn, []byte, []byte) {}},
	{"cut off", func(c net.Conn, reply, _ []byte) { _, _ = c.Write(reply[:len(reply)-20]) }},
	{"silent", func(c net.Conn, _, _ []byte) { _, _ = io.Copy(io.Discard, c) }}, // until the caller's time is up
	{"500", func(c net.Conn, _, _ []byte) { say(c, "500 Internal Server Error", nil) }},
	{"400 that names the session", func(c net.Conn, _, body []byte) { say(c, "400 Bad Request", body) }},
	{"403 that names the session", func(c net.Conn, _, body []byte) { say(c, "403 Forbidden", body) }},
	{"408", func(c net.Conn, _, _ []byte) { say(c, "408 Request Timeout", nil) }},
	{"201", func(c net.Conn, _, body []byte) { say(c, "201 Created", body) }},
	{"307", func(c net.Conn, _, body []byte) { say(c, "307 Temporary Redirect", body) }},
	{"interim", func(c net.Conn, reply, _ []byte) {
		_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n")
		_, _ = c.Write(reply)
	}},
	{"closed without a word", func(c net.Conn, reply, _ []byte) { _, _ = c.Write(reply) }},
	// In one write: an unasked reply that comes after the next request has left
	// is taken for its own, as by every client that keeps connections.
	{"another's beside it", func(c net.Conn, good, _ []byte) {
		_, _ = c.Write(append(good, reply("200 OK", "", `{"token":"eyJcanary"}`)...))
		_, _ = io.Copy(io.Discard, c) // stays open for as long as the client likes
	}},
}

func say(c net.Conn, status string, body []byte) {
	_, _ = io.WriteString(c, reply(status, "", string(body)))
}

// attempt is a call that was made.
type attempt struct {
	customer string
	answer   answer
}

// chaos is a rig whose Incode spoils replies, and what the callers saw.
type chaos struct {
	*rig
	server *httptest.Server

	mu       sync.Mutex // guards what follows
	attempts []attempt
	met      map[string]int // how often each fate came true
	key      string
}

func newChaos(t *testing.T, concurrency int) *chaos {
	t.Helper()
	c := &chaos{rig: newRig(t), key: incodetest.Key, met: map[string]int{}}
	c.server = httptest.NewUnstartedServer(http.HandlerFunc(c.serve))
	c.server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are broken off on purpose
	c.server.StartTLS()
	t.Cleanup(c.server.Close)
	t.Cleanup(c.incode.Close)
	c.env["INCODE_BASE_URL"], c.env["INCODE_TIMEOUT"] = c.server.URL, "1s"
	c.concurrency = concurrency
	c.start(t, 20*time.Second)
	return c
}

// serve lets the stand-in answer, and the fate act on the answer.
func (c *chaos) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var call struct{ CustomFields struct{ Fate string } }
	_ = json.Unmarshal(body, &call)
	i := slices.IndexFunc(fates, func(f fate) bool { return f.name == call.CustomFields.Fate })
	if i < 0 {
		c.incode.ServeHTTP(w, r)
		return
	}
	recorded := httptest.NewRecorder()
	c.incode.ServeHTTP(recorded, r)
	if recorded.Code != http.StatusOK { // a refused key has no fate
		w.WriteHeader(recorded.Code)
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	c.mu.Lock()
	c.met[fates[i].name]++
	c.mu.Unlock()
	text := recorded.Body.Bytes()
	fates[i].do(conn, []byte(reply("200 OK", "", string(text))), text)
}

// caller makes n calls. What it does is a function of the seed alone.
func (c *chaos) caller(t *testing.T, id, n int) {
	random := rand.New(rand.NewPCG(*seed, uint64(id))) //nolint:gosec // to be repeated
	for i := range n {
		flow, name := incodetest.FlowID, ""
		switch f := random.IntN(len(fates) + 6); {
		case f < len(fates):
			if name = fates[f].name; name == "silent" && random.IntN(10) > 0 { // it takes long
				name = ""
			}
		case f < len(fates)+2:
			// Not those that refuse a key which is good. They begin a cool-down,
			// and a rotation within it would make all that follow fail.
			flow = incodetest.Flows[random.IntN(len(incodetest.Flows))].ID
			if flow[20:] == "0401" || flow[20:] == "0403" || flow[20:] == "0408" && random.IntN(10) > 0 {
				flow = incodetest.FlowID
			}
		case c.concurrency > 1 && random.IntN(8) > 0: // what follows befalls all calls in flight
		case f == len(fates)+2:
			c.server.CloseClientConnections()
		case f == len(fates)+3:
			c.rotate()
		case f == len(fates)+4: // one that is not tried again, which takes seconds
			c.secrets.Fail("AccessDeniedException", http.StatusBadRequest)
			c.rotate()
		case f == len(fates)+5 && c.concurrency == 1:
			if err := c.Freeze(t.Context()); err != nil {
				t.Error(err)
			}
			if random.IntN(2) == 0 {
				c.server.CloseClientConnections()
			}
		}
		c.call(t, fmt.Sprintf("canary-customer-%d-%d", id, i), flow, name)
		c.secrets.Recover()
	}
}

// call makes one call.
func (c *chaos) call(t *testing.T, customer, flow, fate string) {
	a := c.post(t, fmt.Sprintf(`{"configurationId":%q,"externalCustomerId":%q,"customFields":{"fate":%q}}`, flow, customer, fate))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts = append(c.attempts, attempt{customer, a})
}

// rotate kills the old key as soon as the new one is stored.
func (c *chaos) rotate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := fmt.Sprintf("canary-key-%x", rand.Uint64())
	c.incode.SetKey(c.key, next)
	c.secrets.Put(secretID, next)
	c.incode.SetKey(next)
	c.key = next
}

// account compares what callers were told with what Incode did.
func (c *chaos) account(t *testing.T) {
	codes, behind, sessions := map[string]int{}, map[string]int{}, 0
	for _, a := range c.attempts {
		tokens := c.incode.SessionsOf(a.customer)
		codes[a.answer.code]++
		behind[a.answer.code] += len(tokens)
		sessions += len(tokens)
		switch {
		case len(tokens) > 1:
			t.Errorf("%d sessions for one call: %+v", len(tokens), a.answer)
		case a.answer.status == 200 && (len(tokens) == 0 || tokens[0] != a.answer.token):
			t.Errorf("a token of no session of its own: %+v", a.answer)
		case a.answer.status != 200 && len(tokens) == 1 && !slices.Contains(perhaps, a.answer.code):
			t.Errorf("%s denies a session that exists", a.answer.code)
		}
	}
	if c.incode.Sessions() != sessions || sessions > len(c.attempts) {
		t.Errorf("%d sessions for %d calls, %d of them for nobody", c.incode.Sessions(), len(c.attempts), c.incode.Sessions()-sessions)
	}
	if codes["internal"] > 0 || codes[""] < len(c.attempts)/5 {
		t.Errorf("the answers are not those of a function that works among faults: %v", codes)
	}
	for _, f := range fates {
		if c.met[f.name] == 0 {
			t.Errorf("no reply was %s", f.name)
		}
	}
	for _, code := range []string{"incode-invalid-response", "incode-failed", "outcome-unknown", "incode-timeout"} {
		if behind[code] == 0 {
			t.Errorf("behind no %s there is a session", code)
		}
	}
	t.Logf("%d calls, %d sessions, answers by code: %v, replies by fate: %v", len(c.attempts), sessions, codes, c.met)
}
