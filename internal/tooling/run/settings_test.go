//go:build unix

package main

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"omnistart/internal/tooling/apigateway"
	"omnistart/internal/tooling/incodetest"
)

// do sends a request to a path of the program and returns the response and its
// body.
func (p *program) do(t *testing.T, method, path, body string, header map[string]string) (*http.Response, string) {
	t.Helper()
	url := strings.TrimSuffix(regexp.MustCompile(`http://\S+`).FindString(p.curl), "/omni/start") + path
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	r.Host = r.Header.Get("Host")                   // "" stands for that of the URL
	resp, err := http.DefaultTransport.RoundTrip(r) // follows no redirect
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

const good = `{"configurationId":"` + incodetest.FlowID + `","externalCustomerId":"customer-42"}`

func TestPagesOfListedOriginsMayCall(t *testing.T) {
	const page = "http://localhost:5173"
	p := start(t, map[string]string{"CORS": page + ",https://app.example.com"})
	preflight := map[string]string{"Origin": page, "Access-Control-Request-Method": "POST"}
	resp, _ := p.do(t, "OPTIONS", "/omni/start", "", preflight)
	// The rules of the template, and the header that sets the claims.
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin":  page,
		"Access-Control-Allow-Methods": "POST",
		"Access-Control-Allow-Headers": "authorization,content-type,x-local-claims,x-local-authorizer",
		"Access-Control-Max-Age":       "3600",
	} {
		if got := resp.Header.Get(name); resp.StatusCode != http.StatusNoContent || got != want {
			t.Errorf("preflight: %d, %s: %q, want %q", resp.StatusCode, name, got, want)
		}
	}
	tests := []struct {
		name, method, body, claims string
		status                     int
	}{
		{"a token", "POST", good, "", 200},
		{"a problem", "POST", "{", "", 400},
		{"another route", "GET", "", "", 404},
		{"an error of API Gateway", "POST", good, "nonsense", 401},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for origin, want := range map[string][2]string{
				page: {page, "retry-after,apigw-requestid"}, "http://localhost:8080": {},
			} {
				resp, text := p.do(t, tt.method, "/omni/start", tt.body,
					map[string]string{"Origin": origin, "Content-Type": "application/json", apigateway.ClaimsHeader: tt.claims})
				got := [2]string{resp.Header.Get("Access-Control-Allow-Origin"), resp.Header.Get("Access-Control-Expose-Headers")}
				if resp.StatusCode != tt.status || got != want {
					t.Errorf("%s: %d %s, allows and exposes %q, want %d, %q", origin, resp.StatusCode, text, got, tt.status, want)
				}
			}
		})
	}
}

func TestTemplateWithoutCORSRulesIsAnError(t *testing.T) {
	for _, text := range []string{
		"", "Resources: {Api: {Properties: {CorsConfiguration: !If [a]}}}",
		"Resources: {Api: {Properties: {CorsConfiguration: !If [a, [b], c]}}}",
		"Resources: {Api: {Properties: {CorsConfiguration: !If [a, {AllowHeaders: [b]}, c]}}}",
		"Resources: {Api: {Properties: {CorsConfiguration: !If [a, {AllowHeaders: !If [b, [], d]}, c]}}}", "%",
	} {
		name := filepath.Join(t.TempDir(), "template.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := templateCORS(name, ""); err == nil {
			t.Errorf("no error for %q", text)
		}
	}
	if _, err := templateCORS("testdata/none", ""); err == nil {
		t.Error("no error for a missing template")
	}
}

func TestHeadersSetTheCustomer(t *testing.T) {
	p := start(t, nil)
	for name, statuses := range map[string]map[string]int{
		"": {"": 200}, // a back end
		apigateway.ClaimsHeader: {
			`{"sub":"customer-42","groups":["a"]}`: 200, `{"sub":"customer-7"}`: 403, `{"email":"x"}`: 403, "nonsense": 401},
		apigateway.ContextHeader: {
			`{"sub":"customer-42","plan":{"a":1}}`: 200, `{"sub":"customer-7"}`: 403, `null`: 403, "nonsense": 401},
	} {
		for value, want := range statuses {
			header := map[string]string{"Content-Type": "application/json"}
			if name != "" {
				header[name] = value
			}
			if resp, text := p.do(t, "POST", "/omni/start", good, header); resp.StatusCode != want {
				t.Errorf("%s: %s: %d %s, want %d", name, value, resp.StatusCode, text, want)
			}
		}
	}
}

func TestClosedStackRefusesRequestsWithoutAnAuthorizer(t *testing.T) {
	p := start(t, map[string]string{"ALLOW_UNAUTHENTICATED": "false"})
	for name, want := range map[string]int{"X-Other": 401, apigateway.ClaimsHeader: 200, apigateway.ContextHeader: 200} {
		header := map[string]string{"Content-Type": "application/json", name: `{"sub":"customer-42"}`}
		if resp, text := p.do(t, "POST", "/omni/start", good, header); resp.StatusCode != want {
			t.Errorf("%s: %d %s, want %d", name, resp.StatusCode, text, want)
		}
	}
}

func TestPrintedCurlCommandFitsTheSettings(t *testing.T) {
	const own = "68e3a1b0c4d5e6f708192a3b"
	for _, shell := range []map[string]string{
		{},
		{"ALLOW_UNAUTHENTICATED": "false"},
		{"ALLOW_UNAUTHENTICATED": "false", "CUSTOMER_ID_CLAIM": "email"},
		{"ALLOWED_CONFIGURATION_IDS": own},
		{"ALLOWED_CONFIGURATION_IDS": "*"},
	} {
		p := start(t, shell)
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "curl "+p.curl).Output()
		if line := <-p.lines; err != nil || !strings.HasPrefix(string(out), `{"token":"ey`) {
			t.Errorf("%v: %s %v, printed %q", shell, out, err, line)
		}
		p.close(t)
	}
}

func TestOwnFlowsStartASessionBesideThoseThatFail(t *testing.T) {
	const own, other, failing = "68e3a1b0c4d5e6f708192a3b", "68e3a1b0c4d5e6f708192a3c", "000000000000000000000500"
	for allowed, statuses := range map[string]map[string]int{
		own:       {own: 200, other: 403, failing: 502},
		own + ",": {own: 200, other: 403, failing: 502},
		"*":       {own: 200, other: 200, failing: 502},
	} {
		p := start(t, map[string]string{"ALLOWED_CONFIGURATION_IDS": allowed})
		for flow, want := range statuses {
			if status, answer, _ := p.post(t, `{"configurationId":"`+flow+`"}`); status != want {
				t.Errorf("%s: %s: %d %s, want %d", allowed, flow, status, answer, want)
			}
		}
		p.close(t)
	}
}

func TestMalformedSettingsAreErrorsBeforeTheBuild(t *testing.T) {
	for _, tt := range []struct{ name, value, want string }{
		{"CORS", "localhost:5173", `CORS: "localhost:5173" is not an origin`},
		{"CORS", "https://a.example.com, http://localhost:5173/", `CORS: "http://localhost:5173/" is not an origin`},
		{"CORS", "*", `CORS: "*" is not an origin`},
		{"HOSTS", "http://10.0.2.2", `HOSTS: "http://10.0.2.2" is not a host`},
		{"HOSTS", "10.0.2.2:3000", `HOSTS: "10.0.2.2:3000" is not a host`},
		{"PORT", "http", `PORT: "http" is not a port`},
		{"PORT", "70000", "invalid port"},
	} {
		shell := map[string]string{"PORT": "0"}
		shell[tt.name] = tt.value
		getenv := func(name string) string { return shell[name] }
		built := filepath.Join(t.TempDir(), "built")
		err := run(t.Context(), []string{project, bootstrap, "touch", built}, getenv, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s=%s: %v, want %s", tt.name, tt.value, err, tt.want)
		}
		if _, err := os.Stat(built); err == nil {
			t.Errorf("%s=%s: the function was built", tt.name, tt.value)
		}
	}
}

func TestMisspelledVariableGetsOneLine(t *testing.T) {
	for name, warned := range map[string]bool{
		"CORS": false, "HOSTS": false, "PORT": false, "ALLOWED_CONFIGURATION_IDS": false, "INCODE_API_KEY": false,
		"PATH": false, "HOME": false, "HOSTNAME": false, "AWS_REGION": false,
		"HOST": true, "PORTS": true, "cors": true, "CUSTOMER_ID_CLAIMS": true, "RETURN_INTERVIEWID": true,
		"INCODE_URL": true, "ALLOWED_FLOWS": true, "CORS_ORIGINS": true, "REQUIRE_AUTHORIZER": true,
	} {
		got := warnings([]string{name + "=canary"})
		if (strings.Count(got, "\n") == 1 && strings.HasPrefix(got, "Warning: "+name+" has no effect.")) != warned ||
			!warned && got != "" || strings.Contains(got, "canary") {
			t.Errorf("%s: %q", name, got)
		}
	}
}
