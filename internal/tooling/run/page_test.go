//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"omnistart/internal/problem"
	"omnistart/internal/tooling/apigateway"
	"omnistart/internal/tooling/incodetest"
)

var jsonType = map[string]string{"Content-Type": "application/json"}

func TestOnlyListedHostsAreServed(t *testing.T) {
	p := start(t, map[string]string{"HOSTS": "10.0.2.2, dev.example"})
	for _, path := range []string{"/", "/page.js", "/problems/", "/omni/start", "/other"} {
		for host, allowed := range map[string]bool{
			"localhost": true, "localhost:3000": true, "127.0.0.1": true, "[::1]:3000": true, "10.0.2.2:80": true,
			"dev.example":  true,
			"evil.example": false, "localhost.evil.example": false, "evil-localhost": false, "10.0.2.3": false, "[::2]": false,
			"user@localhost": false, "localhost:3000.evil.example": false,
		} {
			resp, text := p.do(t, "GET", path, "", map[string]string{"Host": host})
			if refused := strings.Contains(text, "HOSTS"); refused == allowed || refused != (resp.StatusCode == 403) {
				t.Errorf("%s at %s: %d %s", path, host, resp.StatusCode, text)
			}
		}
	}
	if resp, _ := p.do(t, "POST", "/omni/start", good, map[string]string{"Host": "evil.example"}); resp.StatusCode != 403 {
		t.Errorf("POST: %d", resp.StatusCode)
	}
	p.stop()
	lines := 0
	for line := range p.lines {
		if strings.HasPrefix(line, "403 host refused  ") {
			lines++
		}
	}
	if lines != 36 {
		t.Errorf("%d lines about refused hosts, want 36", lines)
	}
}

func TestPagesOfOtherOriginsMayNotReadThePage(t *testing.T) {
	p := start(t, map[string]string{"CORS": "http://localhost:5173"})
	self := strings.TrimSuffix(regexp.MustCompile(`http://\S+`).FindString(p.curl), "/omni/start")
	for _, path := range []string{"/", "/page.js", "/page.css", "/problems/", "/problems/internal", "/calls"} {
		for origin, allowed := range map[string]bool{
			"": true, self: true, "http://localhost:5173": false, "https://evil.example": false, "null": false,
			"http://localhost": false,
		} {
			if path == "/calls" && allowed {
				continue // the response does not end
			}
			header := map[string]string{}
			if origin != "" {
				header["Origin"] = origin
			}
			resp, _ := p.do(t, "GET", path, "", header)
			if (resp.StatusCode == 403) == allowed || resp.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s for %q: %d", path, origin, resp.StatusCode)
			}
		}
	}
}

func TestPageLoadsAndLinksNothingElse(t *testing.T) {
	p := start(t, nil)
	link := regexp.MustCompile(`(?:src|href|action)="([^"]*)"`)
	allowed := regexp.MustCompile(`^(/[a-z.]*/?|data:,|https://(developer\.incode\.com|www\.rfc-editor\.org)/.*)$`)
	for _, path := range []string{"/", "/problems/"} {
		resp, text := p.do(t, "GET", path, "", nil)
		if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") ||
			!strings.HasPrefix(resp.Header.Get("Content-Security-Policy"), "default-src 'none'; ") {
			t.Errorf("%s: %d %v", path, resp.StatusCode, resp.Header)
		}
		for _, found := range link.FindAllStringSubmatch(text, -1) {
			if !allowed.MatchString(found[1]) {
				t.Errorf("%s links to %s", path, found[1])
			}
		}
	}
}

func TestTypeOfAProblemLeadsToItsEntry(t *testing.T) {
	p := start(t, nil)
	_, page := p.do(t, "GET", "/problems/", "", nil)
	for _, problem := range problem.All {
		resp, _ := p.do(t, "GET", "/problems/"+problem.Code, "", nil)
		if got := resp.Header.Get("Location"); resp.StatusCode != 302 || got != "/problems/#"+problem.Code {
			t.Errorf("%s: %d, Location %q", problem.Code, resp.StatusCode, got)
		}
		if !strings.Contains(page, `<h2 id="`+problem.Code+`">`+problem.Code+"</h2>\n<p><strong>") {
			t.Errorf("%s has no entry", problem.Code)
		}
	}
	text, err := os.ReadFile(filepath.Join(project, "functions/start/docs/PROBLEMS.md"))
	if err != nil || strings.Count(page, "<li>") != strings.Count(string(text), "\n- ") {
		t.Errorf("the page has other entries than the document, %v", err)
	}
}

// follow returns the calls that the page is sent from now on.
func (p *program) follow(t *testing.T) <-chan call {
	t.Helper()
	url := strings.TrimSuffix(regexp.MustCompile(`http://\S+`).FindString(p.curl), "/omni/start") + "/calls"
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("content type %q", got)
	}
	calls := make(chan call, 100)
	go func() {
		defer close(calls)
		for scanner := bufio.NewScanner(resp.Body); scanner.Scan(); {
			if data, ok := strings.CutPrefix(scanner.Text(), "data: "); ok {
				var c call
				if err := json.Unmarshal([]byte(data), &c); err != nil {
					t.Error(err)
				}
				calls <- c
			}
		}
	}()
	return calls
}

func TestPageIsSentTheLast20CallsAndEachNewOne(t *testing.T) {
	p := start(t, nil)
	early := p.follow(t)
	var ids []string
	request := func() {
		resp, _ := p.do(t, "POST", "/omni/start", "{", jsonType)
		ids = append(ids, resp.Header.Get("Apigw-Requestid"))
		<-p.lines
	}
	for range 25 {
		request()
	}
	late := p.follow(t)
	next := func(calls <-chan call, want string) {
		t.Helper()
		if c := <-calls; c.ID != want || c.Outcome != "invalid-json" {
			t.Errorf("got %+v, want the ID %s", c, want)
		}
	}
	for i := range 25 {
		next(early, ids[i])
		if i >= 5 {
			next(late, ids[i])
		}
	}
	request()
	next(early, ids[25])
	next(late, ids[25])
}

func TestCallContainsNoSecretAndNoCustomer(t *testing.T) {
	p := start(t, map[string]string{"RETURN_INTERVIEW_ID": "true", "ALLOWED_CUSTOM_FIELDS": "a"})
	calls := p.follow(t)
	const jwt = "e30.eyJzdWIiOiJjYW5hcnktNDIifQ.canary" // its sub is canary-42
	_, text := p.do(t, "POST", "/omni/start?canary=canary",
		`{"configurationId":"`+incodetest.FlowID+`","customFields":{"a":"canary"}}`,
		map[string]string{"Content-Type": "application/json", "Authorization": "Bearer " + jwt, "Cookie": "canary=canary",
			"X-Other": "canary", "User-Agent": "canary"})
	var response struct{ Token string }
	if err := json.Unmarshal([]byte(text), &response); err != nil || response.Token == "" {
		t.Fatalf("%s, %v", text, err)
	}
	p.do(t, "POST", "/omni/start", `{"configurationId":"`+jwt+`","externalCustomerId":"canary"}`, jsonType)
	for _, name := range []string{"Authorization", apigateway.ClaimsHeader} {
		p.do(t, "POST", "/omni/start", good, map[string]string{"Content-Type": "application/json", name: "Bearer canary"})
	}
	for range 4 {
		c, line := <-calls, <-p.lines
		shown, _ := json.Marshal(c)
		for _, secret := range []string{"canary", jwt, response.Token} {
			if strings.Contains(string(shown)+line, secret) {
				t.Errorf("%s is in %s or in %s", secret, shown, line)
			}
		}
	}
}

func TestLineExplainsARefusal(t *testing.T) {
	p := start(t, map[string]string{"CORS": "http://localhost:5173", "ALLOW_UNAUTHENTICATED": "false"})
	with := func(more ...string) map[string]string {
		header := map[string]string{"Content-Type": "application/json"}
		for i := 0; i < len(more); i += 2 {
			header[more[i]] = more[i+1]
		}
		return header
	}
	preflight := func(origin, method, headers string) map[string]string {
		return with("Origin", origin, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", headers)
	}
	const page, claims = "http://localhost:5173", `{"sub":"customer-42"}`
	for _, tt := range []struct {
		name, method, path, body string
		header                   map[string]string
		want                     string // a regular expression
	}{
		{"claims that are not JSON", "POST", "/omni/start", good, with(apigateway.ClaimsHeader, "nonsense"),
			`401 answered by API Gateway  POST /omni/start  the claims header is not JSON`},
		{"context that is not JSON", "POST", "/omni/start", good, with(apigateway.ContextHeader, "nonsense"),
			`401 answered by API Gateway  POST /omni/start  the authorizer header is not JSON`},
		{"bearer token that is no JWT", "POST", "/omni/start", good, with("Authorization", "Bearer x"),
			`401 answered by API Gateway  POST /omni/start  the bearer token is not a JWT`},
		{"no authorizer", "POST", "/omni/start", good, with(),
			`401 answered by API Gateway  POST /omni/start  there is no authorizer: send a bearer token .*X-Local-Claims`},
		{"another path", "POST", "/start%1B%5B2J", good, with(),
			`404 answered by API Gateway  POST /start%1B%5B2J  the only route is POST /omni/start`},
		{"a slash too many", "POST", "//omni/start", good, with(),
			`404 answered by API Gateway  POST //omni/start  the only route is POST /omni/start`},
		{"origin", "OPTIONS", "/omni/start", "", preflight("http://127.0.0.1:5173", "POST", "content-type"),
			`204 preflight refused  OPTIONS /omni/start  Origin "http://127.0.0.1:5173" is not allowed`},
		{"header", "OPTIONS", "/omni/start", "", preflight(page, "POST", "content-type, traceparent"),
			`204 preflight refused  OPTIONS /omni/start  Access-Control-Request-Headers "traceparent" is not allowed`},
		{"method", "OPTIONS", "/omni/start", "", preflight(page, "PUT", ""),
			`204 preflight refused  OPTIONS /omni/start  Access-Control-Request-Method "PUT" is not allowed`},
		{"fields", "POST", "/omni/start", `{"configurationId":1,"uuid":"x","a\u001b[2J":1}`,
			with(apigateway.ClaimsHeader, claims), `422 validation-failed  POST /omni/start  "/configurationId"  "/uuid"  ` +
				`"/a\\x1b\[2J"  jwt  \d+ ms \(.*\)  requestId .*`},
		{"customer", "POST", "/omni/start", `{"configurationId":"` + incodetest.FlowID + `","externalCustomerId":"other"}`,
			with(apigateway.ContextHeader, claims),
			`403 customer-mismatch  POST /omni/start  (.+  )?flow ` + incodetest.FlowID + `  lambda  \d+ ms \(warm\)  ` +
				`requestId .*`},
	} {
		p.do(t, tt.method, tt.path, tt.body, tt.header)
		if line := <-p.lines; !regexp.MustCompile("^" + tt.want + "$").MatchString(line) {
			t.Errorf("%s: printed %q, want %s", tt.name, line, tt.want)
		}
	}
	// An allowed preflight needs no line.
	p.do(t, "OPTIONS", "/omni/start", "", preflight(page, "POST", "content-type,authorization"))
	if rest := p.close(t); rest != "" {
		t.Errorf("printed %q", rest)
	}
}
