//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"omnistart/internal/tooling/incodetest"
	"omnistart/internal/tooling/runtimeapitest"
)

// bootstrap is the compiled function.
var bootstrap string

func TestMain(m *testing.M) {
	os.Exit(runtimeapitest.Main(m, "omnistart/functions/start", &bootstrap))
}

// project is the folder with the template.
const project = "../../.."

// program is a running program under test.
type program struct {
	curl   string      // the command that it tells the user to try
	lines  chan string // what it prints after that
	stderr runtimeapitest.Output
	done   chan error
	stop   context.CancelFunc
}

// start runs the program on a free port with these variables in the user's
// shell, and returns when it is ready.
func start(t *testing.T, shell map[string]string, args ...string) *program {
	t.Helper()
	if len(args) == 0 {
		args = []string{project, bootstrap}
	}
	p := launch(t, shell, args...)
	for line := range p.lines {
		if command, ok := strings.CutPrefix(line, "  curl "); ok {
			p.curl = command
		}
		if p.curl != "" && line == "" {
			return p
		}
	}
	t.Fatalf("the program ended: %v\n%s", <-p.done, p.stderr.String())
	return nil
}

// launch starts the program.
func launch(t *testing.T, shell map[string]string, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, stdout := io.Pipe()
	p := &program{lines: make(chan string, 1000), done: make(chan error, 1), stop: cancel}
	getenv := func(name string) string {
		if name == "PORT" {
			return "0"
		}
		return shell[name]
	}
	go func() {
		err := run(ctx, args, getenv, stdout, &p.stderr)
		_ = stdout.Close()
		p.done <- err
	}()
	go func() {
		defer close(p.lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			p.lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		cancel()
		for range p.lines { // until it ends
		}
	})
	return p
}

// post sends a body to the URL of the program's curl line and returns the
// status, the answer and the line that the program prints about it.
func (p *program) post(t *testing.T, body string) (status int, answer, line string) {
	t.Helper()
	url := regexp.MustCompile(`http://\S+`).FindString(p.curl)
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	line, ok := <-p.lines
	if !ok {
		t.Fatal("the program ended")
	}
	return resp.StatusCode, string(raw), line
}

// close ends the program as Ctrl-C does and returns what it printed meanwhile.
func (p *program) close(t *testing.T) (rest string) {
	t.Helper()
	p.stop()
	for line := range p.lines {
		rest += line + "\n"
	}
	if err := <-p.done; err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
	return rest
}

func TestPrintedCurlCommandStartsASession(t *testing.T) {
	p := start(t, nil)
	_, body, ok := strings.Cut(p.curl, "-d '")
	if !ok {
		t.Fatalf("curl line %q", p.curl)
	}
	body = strings.TrimSuffix(body, "'")
	for _, start := range []string{`cold start \d+ ms`, "warm"} {
		status, answer, line := p.post(t, body)
		if status != http.StatusOK || !strings.HasPrefix(answer, `{"token":"ey`) {
			t.Fatalf("%d %s", status, answer)
		}
		want := `^200 session started  POST /omni/start  flow ` + incodetest.FlowID + `  back end  \d+ ms ` +
			`\(Incode 200 in \d+ ms, ` + start + `\)  requestId [0-9a-f-]{36}$`
		if !regexp.MustCompile(want).MatchString(line) {
			t.Errorf("printed %q, want %s", line, want)
		}
	}
	if rest := p.close(t); rest != "" {
		t.Errorf("printed at the end: %q", rest)
	}
	if p.stderr.String() != "" {
		t.Errorf("the function printed:\n%s", &p.stderr)
	}
}

func TestEachFailingFlowPrintsItsProblem(t *testing.T) {
	p := start(t, map[string]string{"INCODE_TIMEOUT": "5s"}) // more than the stand-in takes
	for _, flow := range incodetest.Flows {
		if flow.ID == incodetest.FlowID {
			continue
		}
		status, answer, line := p.post(t, `{"configurationId":"`+flow.ID+`"}`)
		if status < 500 || !strings.Contains(answer, `"type":"`) {
			t.Errorf("%s: %d %s", flow.Does, status, answer)
		}
		want := fmt.Sprintf(`^%d %s  POST /omni/start  .+  flow %s  back end  \d+ ms \(Incode (\d{3}|sent no response) `+
			`in \d+ ms, (warm|cold start [^)]+)\)  requestId `, flow.Status, flow.Code, flow.ID)
		if !regexp.MustCompile(want).MatchString(line) {
			t.Errorf("%s: printed %q, want %s", flow.Does, line, want)
		}
	}
	if status, answer, _ := p.post(t, `{"configurationId":"`+incodetest.FlowID+`"}`); status != http.StatusOK {
		t.Errorf("afterwards: %d %s", status, answer)
	}
	p.close(t)
}

func TestRequestThatIsRejectedBeforeIncodePrintsNoIncodeTime(t *testing.T) {
	p := start(t, nil)
	status, _, line := p.post(t, `{`)
	want := `^400 invalid-json  POST /omni/start  back end  \d+ ms \((warm|cold start [^)]+)\)  requestId `
	if status != http.StatusBadRequest || !regexp.MustCompile(want).MatchString(line) {
		t.Errorf("%d, printed %q, want %s", status, line, want)
	}
	p.close(t)
}

func TestCtrlCEndsAnInvocation(t *testing.T) {
	incode := incodetest.New()
	defer incode.Close()
	arrived := make(chan struct{}, 1)
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		incode.ServeHTTP(w, r)
	}))
	defer ts.Close()
	p := start(t, map[string]string{"INCODE_API_KEY": incodetest.Key, "INCODE_BASE_URL": ts.URL})
	url := regexp.MustCompile(`http://\S+`).FindString(p.curl)
	failed := make(chan error, 1)
	go func() {
		resp, err := http.Post(url, "application/json", strings.NewReader(`{"configurationId":"000000000000000000000408"}`))
		if err == nil {
			resp.Body.Close()
		}
		failed <- err
	}()
	select {
	case <-arrived:
	case err := <-failed:
		t.Fatalf("Incode was not called: %v", err)
	}
	p.close(t)
	if err := <-failed; err == nil {
		t.Error("got an answer")
	}
}

func TestKeyOfTheShellGoesOnlyIntoTheSecret(t *testing.T) {
	const key = "canary0000000000000000000000000000000000"
	incode := incodetest.New()
	incode.SetKey(key)
	ts := httptest.NewServer(incode)
	defer ts.Close()
	shell := map[string]string{"INCODE_API_KEY": key, "INCODE_BASE_URL": ts.URL}
	p := start(t, shell)
	status, answer, line := p.post(t, `{"configurationId":"`+incodetest.FlowID+`"}`)
	if status != http.StatusOK || incode.Sessions() != 1 {
		t.Errorf("%d %s, %d sessions", status, answer, incode.Sessions())
	}
	if rest := p.close(t); strings.Contains(p.curl+line+rest+p.stderr.String(), key) {
		t.Error("the key was printed")
	}

	variables, err := environment(t.Context(), func(name string) string { return shell[name] })
	if err != nil {
		t.Fatal(err)
	}
	env := strings.Join(variables, "\n")
	if strings.Contains(env, key) {
		t.Error("the key is in the function's environment")
	}
	for _, want := range []string{"\nALLOWED_CONFIGURATION_IDS=*", "\nINCODE_BASE_URL=" + ts.URL} {
		if !strings.Contains(env, want) {
			t.Errorf("no %q in the function's environment", want)
		}
	}
}

func TestSettingsOfTheShellReachTheFunction(t *testing.T) {
	want := map[string]string{
		"ALLOWED_CONFIGURATION_IDS": "6245f1e0c8d4b2a39e7f1c05",
		"ALLOWED_REDIRECT_HOSTS":    "example.com",
		"ALLOWED_CUSTOM_FIELDS":     "plan",
		"ALLOW_UNAUTHENTICATED":     "false",
		"CUSTOMER_ID_CLAIM":         "email",
		"RETURN_INTERVIEW_ID":       "true",
		"INCODE_API_KEY_MAX_AGE":    "1m",
		"INCODE_TIMEOUT":            "3s",
	}
	env := settings(func(name string) string { return want[name] }, want["ALLOWED_CONFIGURATION_IDS"])
	for name, value := range want {
		if !strings.Contains("\n"+strings.Join(env, "\n")+"\n", "\n"+name+"="+value+"\n") {
			t.Errorf("%s is not %s in %q", name, value, env)
		}
	}
}

func TestEveryProblemOfTheEnvironmentIsShown(t *testing.T) {
	shell := map[string]string{"PORT": "0", "INCODE_TIMEOUT": "soon", "RETURN_INTERVIEW_ID": "perhaps"}
	var stderr runtimeapitest.Output
	getenv := func(name string) string { return shell[name] }
	err := run(t.Context(), []string{project, bootstrap}, getenv, io.Discard, &stderr)
	for _, want := range []string{"the function cannot start", "INCODE_TIMEOUT", "RETURN_INTERVIEW_ID", "exit status 1"} {
		if err == nil || !strings.Contains(err.Error()+stderr.String(), want) {
			t.Errorf("%v\n%s does not mention %s", err, &stderr, want)
		}
	}
}

func TestPortInUse(t *testing.T) {
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	getenv := func(name string) string { return map[string]string{"PORT": port}[name] }
	err = run(t.Context(), []string{project, bootstrap}, getenv, io.Discard, io.Discard)
	if err == nil || !strings.HasPrefix(err.Error(), "port "+port+" is in use") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}

func TestUsage(t *testing.T) {
	err := run(t.Context(), nil, os.Getenv, io.Discard, io.Discard)
	if err == nil || !strings.HasPrefix(err.Error(), "usage: ") {
		t.Errorf("got %v", err)
	}
	getenv := func(name string) string { return map[string]string{"PORT": "0"}[name] }
	err = run(t.Context(), []string{project, "testdata/none"}, getenv, io.Discard, io.Discard)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestFunctionLogSeparatesRequestsFromOtherLines(t *testing.T) {
	var others bytes.Buffer
	log := newFunctionLog(&others)
	// A write may end in the middle of a line.
	for _, part := range []string{
		"not JSON\n{\"message\":\"requ",
		"est\",\"requestId\":\"stale\"}\n{\"message\":\"request\",\"requestId\":\"a\",\"code\":\"ok\"," +
			"\"authorizer\":\"jwt\",\"incodeMs\":1.5}\n",
		"{\"message\":\"other\"}\n",
	} {
		if _, err := io.WriteString(log, part); err != nil {
			t.Fatal(err)
		}
	}
	if line := log.line("a"); line.Code != "ok" || line.Authorizer != "jwt" || line.IncodeMs != 1.5 {
		t.Errorf("got %+v", line)
	}
	if others.String() != "not JSON\n{\"message\":\"other\"}\n" {
		t.Errorf("copied %q", others.String())
	}
	if line := log.line("none"); line != (logLine{}) {
		t.Errorf("got %+v for a request without a line", line)
	}
}

func TestStandInsServeUntilInterrupted(t *testing.T) {
	p := launch(t, nil, "standins", "-incode", "0", "-secrets", "0")
	for _, name := range []string{"Incode", "Secrets Manager"} {
		line := <-p.lines
		url, ok := strings.CutPrefix(line, name+" listens on ")
		if !ok {
			t.Fatalf("printed %q", line)
		}
		resp, err := http.Post(url+"/omni/start", "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
	if rest := p.close(t); rest != "" {
		t.Errorf("printed %q", rest)
	}
}
