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
	if c.CustomerIDClaim != "sub" || c.RequireAuthorizer || c.ReturnInterviewID || c.IncodeTimeout != 10*time.Second || len(c.RedirectHosts) != 0 {
		t.Errorf("defaults differ from the contract: %+v", c)
	}
	if !c.Configurations.Allows(flow) || c.Configurations.Allows("000000000000000000000001") {
		t.Error("the allow-list does not hold exactly the one flow")
	}
}

// TestFalseIsNoFault stands for the template, which says false where nothing is on.
func TestFalseIsNoFault(t *testing.T) {
	c, err := FromEnv(env(map[string]string{"REQUIRE_AUTHORIZER": "false", "RETURN_INTERVIEW_ID": "false"}))
	if err != nil || c.RequireAuthorizer || c.ReturnInterviewID {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestEveryVariableIsRead(t *testing.T) {
	c, err := FromEnv(env(map[string]string{
		"INCODE_API_KEY_SECRET_ID":  "arn:aws:secretsmanager:eu-west-1:123456789012:secret:incode/api-key-AbCdEf",
		"INCODE_BASE_URL":           "https://saas-api.incodesmile.com",
		"ALLOWED_CONFIGURATION_IDS": " *, ",
		"ALLOWED_REDIRECT_HOSTS":    "App.Example.com, localhost:8443,",
		"CUSTOMER_ID_CLAIM":         "https://example.com/customer",
		"REQUIRE_AUTHORIZER":        "true",
		"RETURN_INTERVIEW_ID":       "true",
		"INCODE_TIMEOUT":            "2500ms",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if c.SecretID != "arn:aws:secretsmanager:eu-west-1:123456789012:secret:incode/api-key-AbCdEf" ||
		c.IncodeBaseURL.String() != "https://saas-api.incodesmile.com" ||
		!c.Configurations.Allows("000000000000000000000001") ||
		!c.RedirectHosts["app.example.com"] || !c.RedirectHosts["localhost:8443"] || len(c.RedirectHosts) != 2 ||
		c.CustomerIDClaim != "https://example.com/customer" || !c.RequireAuthorizer || !c.ReturnInterviewID || c.IncodeTimeout != 2500*time.Millisecond {
		t.Errorf("not as set: %+v", c)
	}
}

func TestFaults(t *testing.T) {
	const (
		secret   = "must be the name or the ARN of the secret that holds the API key"
		base     = "must be a scheme and a host such as https://demo-api.incodesmile.com, without a path or a trailing slash"
		plain    = "must be https; http is for a stand-in on loopback or host.docker.internal only"
		flows    = "must list the configuration IDs that callers may use, or be * to allow every one"
		duration = "must be a duration from 1s to 28s, such as 10s"
	)
	tests := []struct{ name, variable, value, want string }{
		{"secret missing", "INCODE_API_KEY_SECRET_ID", "", secret},
		{"secret with a space", "INCODE_API_KEY_SECRET_ID", "incode key", secret},
		{"base URL missing", "INCODE_BASE_URL", "", base},
		{"trailing slash makes //omni/start", "INCODE_BASE_URL", "https://demo-api.incodesmile.com/", base},
		{"path", "INCODE_BASE_URL", "https://demo-api.incodesmile.com/omni", base},
		{"query", "INCODE_BASE_URL", "https://demo-api.incodesmile.com?x", base},
		{"user info", "INCODE_BASE_URL", "https://me:pw@demo-api.incodesmile.com", base},
		{"no scheme", "INCODE_BASE_URL", "demo-api.incodesmile.com", base},
		{"port without a host", "INCODE_BASE_URL", "https://:443", base},
		{"plain http would show the key", "INCODE_BASE_URL", "http://demo-api.incodesmile.com", plain},
		{"http to a host that only looks local", "INCODE_BASE_URL", "http://localhost.example.com", plain},
		{"no flow allowed", "ALLOWED_CONFIGURATION_IDS", "", flows},
		{"only commas", "ALLOWED_CONFIGURATION_IDS", " , ", flows},
		{"upper-case flow", "ALLOWED_CONFIGURATION_IDS", flow + "," + strings.ToUpper(flow), "entry 2 must be 24 lower-case hex digits (or the list * alone)"},
		{"star beside a flow", "ALLOWED_CONFIGURATION_IDS", flow + ",*", "entry 2 must be 24 lower-case hex digits (or the list * alone)"},
		{"redirect host with a scheme", "ALLOWED_REDIRECT_HOSTS", "https://app.example.com", "entry 1 must be a host name without scheme or path"},
		{"redirect host with a wildcard", "ALLOWED_REDIRECT_HOSTS", "app.example.com, *.example.com", "entry 2 must be a host name without scheme or path"},
		{"claim with white space", "CUSTOMER_ID_CLAIM", "sub ", "must not begin or end with white space"},
		{"neither true nor false", "RETURN_INTERVIEW_ID", "yes", "must be true or false"},
		{"True, as Python writes it", "REQUIRE_AUTHORIZER", "True", "must be true or false"},
		{"timeout without a unit", "INCODE_TIMEOUT", "10", duration},
		{"timeout too short for a handshake and a reply", "INCODE_TIMEOUT", "999ms", duration},
		{"timeout beyond API Gateway's", "INCODE_TIMEOUT", "28.000000001s", duration},
		{"plain http to an address of the network", "INCODE_BASE_URL", "http://192.0.2.1", plain},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := FromEnv(env(map[string]string{tt.variable: tt.value}))
			if err == nil {
				t.Fatal("no error")
			}
			if got, want := err.Error(), tt.variable+" "+tt.want; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestTimeoutsAtTheirLimits(t *testing.T) {
	for _, timeout := range []string{"1s", "28s"} {
		if _, err := FromEnv(env(map[string]string{"INCODE_TIMEOUT": timeout})); err != nil {
			t.Errorf("%s: %v", timeout, err)
		}
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
	names := []string{"INCODE_API_KEY_SECRET_ID", "INCODE_BASE_URL", "ALLOWED_CONFIGURATION_IDS", "ALLOWED_REDIRECT_HOSTS", "CUSTOMER_ID_CLAIM", "REQUIRE_AUTHORIZER", "RETURN_INTERVIEW_ID", "INCODE_TIMEOUT"}
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
