//go:build unix

package main

import (
	"io"
	"net/http"
	"os"
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
	resp, err := http.DefaultClient.Do(r)
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

func TestTypeOfAProblemIsThePathOfItsEntry(t *testing.T) {
	p := start(t, nil)
	page, err := os.ReadFile(filepath.Join(project, "functions/start/docs/PROBLEMS.md"))
	if err != nil {
		t.Fatal(err)
	}
	entries := strings.Split(string(page), "\n## ")
	for _, entry := range entries[1:] {
		code, _, _ := strings.Cut(entry, "\n")
		resp, text := p.do(t, "GET", "/problems/"+code, "", nil)
		if resp.StatusCode != 200 || strings.TrimSpace(text) != strings.TrimSpace("# "+entry) {
			t.Errorf("%s: %d %s", code, resp.StatusCode, text)
		}
	}
	if len(entries) == 1 {
		t.Error("the catalogue has no entries")
	}
	if resp, text := p.do(t, "GET", "/problems/", "", nil); resp.StatusCode != 200 || text != string(page) {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	for _, path := range []string{"/problems/nonsense", "/problems/internal/more", "/problems/inter"} {
		if resp, text := p.do(t, "GET", path, "", nil); resp.StatusCode != 404 {
			t.Errorf("%s: %d %s", path, resp.StatusCode, text)
		}
	}
}
