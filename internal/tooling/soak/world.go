//go:build linux

package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"omnistart/internal/tooling/incodetest"
	"omnistart/internal/tooling/runtimeapitest"
	"omnistart/internal/tooling/secretsmanagertest"
)

const (
	secretID = "incode/api-key"
	zeros    = "00000000000000000000"

	// The old key dies this long after the new one is stored: a cool-down that
	// began before, which refusals of single calls keep beginning, has ended.
	overlap     = 15 * time.Second
	rotateEvery = 30 * time.Second

	dropEvery = 5000 // calls
)

// world is the two services that the function meets.
type world struct {
	dir       string
	incode    *incodetest.Server
	secrets   *secretsmanagertest.Server
	servers   [2]*httptest.Server // of these two
	rotations atomic.Int64
}

func newWorld() (*world, error) {
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir, incode: incodetest.New(), secrets: secretsmanagertest.New()}
	w.secrets.Put(secretID, incodetest.Key)
	incode := httptest.NewUnstartedServer(w.incode)
	incode.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that are dropped on purpose
	incode.StartTLS()
	w.servers = [2]*httptest.Server{incode, httptest.NewServer(w.secrets)}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: incode.Certificate().Raw})
	return w, os.WriteFile(filepath.Join(dir, "roots.pem"), root, 0o600)
}

func (w *world) close() {
	w.incode.Close()
	for _, s := range w.servers {
		s.Close()
	}
	_ = os.RemoveAll(w.dir)
}

func (w *world) env() []string {
	return []string{
		"AWS_LAMBDA_FUNCTION_NAME=start",
		"AWS_LAMBDA_LOG_FORMAT=JSON",
		"AWS_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=soak",
		"AWS_SECRET_ACCESS_KEY=soak",
		"AWS_ENDPOINT_URL_SECRETS_MANAGER=" + w.servers[1].URL,
		"INCODE_API_KEY_SECRET_ID=" + secretID,
		"INCODE_BASE_URL=" + w.servers[0].URL,
		"INCODE_TIMEOUT=1s",
		"GODEBUG=gctrace=1", // for heap
		"ALLOWED_CONFIGURATION_IDS=*",
		"SSL_CERT_FILE=" + filepath.Join(w.dir, "roots.pem"),
		"SSL_CERT_DIR=/nonexistent",
	}
}

// rotate rotates the key until ctx ends.
func (w *world) rotate(ctx context.Context) {
	old := incodetest.Key
	for sleep(ctx, rotateEvery-overlap) {
		next := fmt.Sprintf("key-%d", w.rotations.Add(1))
		w.incode.SetKey(old, next)
		w.secrets.Put(secretID, next)
		if !sleep(ctx, overlap) {
			return
		}
		w.incode.SetKey(next)
		old = next
	}
}

// sleep reports whether the time has passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// call is an event, and the codes of the answers that explain themselves by it.
type call struct {
	body  string
	codes []string
}

// faults are the calls that do not end with a session.
var faults = []struct {
	every int // turns; one turn is a thousand calls
	at    int // the call within the turn
	body  string
	code  string
}{
	{1, 10, flow(zeros + "0400"), "incode-rejected"},
	{1, 20, flow(zeros + "0401"), "incode-unauthorized"},
	{1, 30, flow(zeros + "0429"), "incode-throttled"},
	{1, 40, flow(zeros + "0500"), "incode-failed"},
	{1, 50, flow(zeros + "0504"), "incode-timeout"},
	{1, 60, flow(zeros + "0204"), "incode-invalid-response"},
	{1, 70, flow(zeros + "0307"), "incode-invalid-response"},
	{1, 80, flow(zeros + "bad0"), "incode-invalid-response"},
	{1, 90, flow(zeros + "bad1"), "incode-invalid-response"},
	{1, 100, flow(zeros + "0b19"), "incode-invalid-response"},
	{1, 110, flow(zeros + "0c07"), "outcome-unknown"},
	{1, 120, flow(zeros + "dead"), "outcome-unknown"},
	{1, 130, "{", "invalid-json"},
	{1, 140, `{"configurationId":1,"uuid":""}`, "validation-failed"},
	{1, 150, strings.Repeat("x", 9<<10), "body-too-large"},
	{100, 160, flow(zeros + "0408"), "incode-timeout"}, // each takes the whole timeout, which ends before the next drop
}

func flow(id string) string { return fmt.Sprintf(`{"configurationId":%q}`, id) }

// call returns the i-th call. Before some of them all connections break: then
// this one and those in flight may not know what became of them.
func (w *world) call(i int) call {
	c := call{flow(incodetest.FlowID), []string{"200"}}
	for _, f := range faults {
		if i%1000 == f.at && i/1000%f.every == f.every-1 {
			c = call{f.body, []string{f.code}}
		}
	}
	if i%dropEvery == dropEvery/2 {
		w.servers[0].CloseClientConnections()
	}
	near := i%dropEvery - dropEvery/2
	if -slack < near && near < slack || c.codes[0] == "incode-timeout" { // which waits for long
		c.codes = append(c.codes, "outcome-unknown", "incode-unavailable")
	}
	return c
}

// slack is how many calls before and after a drop it may have met. One that
// waits for Incode's answer in vain is overtaken by many.
const slack = 200

// make makes the call and returns the code of the answer, "200" for a session.
func (c call) make(ctx context.Context, f *runtimeapitest.Function) (code string, err error) {
	event, err := json.Marshal(map[string]any{
		"version": "2.0", "routeKey": "POST /omni/start", "rawPath": "/omni/start",
		"headers":        map[string]string{"content-type": "application/json"},
		"requestContext": map[string]any{"requestId": "soak", "stage": "$default", "http": map[string]string{"method": "POST"}},
		"body":           c.body,
	})
	if err != nil {
		return "", err
	}
	result, err := f.Invoke(ctx, event)
	if err != nil {
		return "", err
	}
	var answer struct {
		StatusCode int
		Body       string
	}
	var body struct{ Type, Token string }
	if err := json.Unmarshal(result.Payload, &answer); err != nil {
		return "", err
	}
	if err := json.Unmarshal([]byte(answer.Body), &body); err != nil {
		return "", err
	}
	if answer.StatusCode == 200 && body.Token != "" {
		return "200", nil
	}
	return strings.TrimPrefix(body.Type, "/problems/"), nil
}
