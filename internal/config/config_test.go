package config

import (
	"maps"
	"strings"
	"testing"
	"time"
)

const flow = "6245f1e0c8d4b2a39e7f1c05"

func env(overrides map[string]string) func(string) string {
	vars := map[string]string{
		"INCODE_API_KEY_SECRET_ID":  "incode/api-key",
		"INCODE_BASE_URL":           "https://demo-api.incodesmile.com",
		"ALLOWED_CONFIGURATION_IDS": flow,
	}
	maps.Copy(vars, overrides)
	return func(name string) string { return vars[name] }
}

func TestDefaults(t *testing.T) {
	c, err := FromEnv(env(nil))
	if err != nil {
		t.Fatal(err)
	}
	if c.CustomerIDClaim != "sub" || c.ReturnInterviewID || c.IncodeTimeout != 10*time.Second || len(c.RedirectHosts) != 0 {
		t.Errorf("defaults differ from the contract: %+v", c)
	}
	if !c.Configurations.Allows(flow) || c.Configurations.Allows("000000000000000000000001") {
		t.Error("the allow-list does not hold exactly the one flow")
	}
}

func TestEveryVariableIsRead(t *testing.T) {
	c, err := FromEnv(env(map[string]string{
		"INCODE_API_KEY_SECRET_ID":  "arn:aws:secretsmanager:eu-west-1:123456789012:secret:incode/api-key-AbCdEf",
		"INCODE_BASE_URL":           "https://saas-api.incodesmile.com",
		"ALLOWED_CONFIGURATION_IDS": " *, ",
		"ALLOWED_REDIRECT_HOSTS":    "App.Example.com, localhost:8443,",
		"CUSTOMER_ID_CLAIM":         "https://example.com/customer",
		"RETURN_INTERVIEW_ID":       "true",
		"INCODE_TIMEOUT":            "2500ms",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if c.SecretID != "arn:aws:secretsmanager:eu-west-1:123456789012:secret:incode/api-key-AbCdEf" ||
		c.IncodeBaseURL != "https://saas-api.incodesmile.com" ||
		!c.Configurations.Allows("000000000000000000000001") ||
		!c.RedirectHosts["app.example.com"] || !c.RedirectHosts["localhost:8443"] || len(c.RedirectHosts) != 2 ||
		c.CustomerIDClaim != "https://example.com/customer" || !c.ReturnInterviewID || c.IncodeTimeout != 2500*time.Millisecond {
		t.Errorf("not as set: %+v", c)
	}
}

func TestFaults(t *testing.T) {
	tests := []struct{ name, variable, value string }{
		{"secret missing", "INCODE_API_KEY_SECRET_ID", ""},
		{"secret with a space", "INCODE_API_KEY_SECRET_ID", "incode key"},
		{"base URL missing", "INCODE_BASE_URL", ""},
		{"trailing slash makes //omni/start", "INCODE_BASE_URL", "https://demo-api.incodesmile.com/"},
		{"path", "INCODE_BASE_URL", "https://demo-api.incodesmile.com/omni"},
		{"query", "INCODE_BASE_URL", "https://demo-api.incodesmile.com?x"},
		{"user info", "INCODE_BASE_URL", "https://me:pw@demo-api.incodesmile.com"},
		{"no scheme", "INCODE_BASE_URL", "demo-api.incodesmile.com"},
		{"port without a host", "INCODE_BASE_URL", "https://:443"},
		{"plain http would show the key", "INCODE_BASE_URL", "http://demo-api.incodesmile.com"},
		{"http to a host that only looks local", "INCODE_BASE_URL", "http://localhost.example.com"},
		{"no flow allowed", "ALLOWED_CONFIGURATION_IDS", ""},
		{"only commas", "ALLOWED_CONFIGURATION_IDS", " , "},
		{"upper-case flow", "ALLOWED_CONFIGURATION_IDS", strings.ToUpper(flow)},
		{"star beside a flow", "ALLOWED_CONFIGURATION_IDS", flow + ",*"},
		{"redirect host with a scheme", "ALLOWED_REDIRECT_HOSTS", "https://app.example.com"},
		{"redirect host with a wildcard", "ALLOWED_REDIRECT_HOSTS", "*.example.com"},
		{"claim with white space", "CUSTOMER_ID_CLAIM", "sub "},
		{"neither true nor false", "RETURN_INTERVIEW_ID", "yes"},
		{"timeout without a unit", "INCODE_TIMEOUT", "10"},
		{"timeout zero", "INCODE_TIMEOUT", "0s"},
		{"timeout beyond API Gateway's", "INCODE_TIMEOUT", "30s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := FromEnv(env(map[string]string{tt.variable: tt.value}))
			if err == nil {
				t.Fatal("no error")
			}
			if got := err.Error(); !strings.HasPrefix(got, tt.variable) || strings.Contains(got, "\n") {
				t.Errorf("want one fault that names %s, got %q", tt.variable, got)
			}
		})
	}
}

func TestPlainHTTPForStandIns(t *testing.T) {
	for _, u := range []string{"http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost:8080", "http://host.docker.internal:8080"} {
		if _, err := FromEnv(env(map[string]string{"INCODE_BASE_URL": u})); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
}

func TestAllFaultsAtOnceAndNoValueQuoted(t *testing.T) {
	const canary = "canary value"
	vars := map[string]string{}
	names := []string{"INCODE_API_KEY_SECRET_ID", "INCODE_BASE_URL", "ALLOWED_CONFIGURATION_IDS", "ALLOWED_REDIRECT_HOSTS", "CUSTOMER_ID_CLAIM", "RETURN_INTERVIEW_ID", "INCODE_TIMEOUT"}
	for _, n := range names {
		vars[n] = canary + " "
	}
	_, err := FromEnv(env(vars))
	if err == nil {
		t.Fatal("no error")
	}
	for _, n := range names {
		if strings.Count(err.Error(), n) != 1 {
			t.Errorf("want exactly one fault for %s in:\n%v", n, err)
		}
	}
	if strings.Contains(err.Error(), canary) {
		t.Errorf("a value is quoted: %v", err)
	}
}
