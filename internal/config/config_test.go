package config

import (
	"maps"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const flow = "6245f1e0c8d4b2a39e7f1c05"

// names are those of all variables.
var names = []string{
	"INCODE_API_KEY_SECRET_ID", "INCODE_BASE_URL", "ALLOWED_CONFIGURATION_IDS", "ALLOWED_REDIRECT_HOSTS",
	"ALLOWED_CUSTOM_FIELDS", "CUSTOMER_ID_CLAIM", "ALLOW_UNAUTHENTICATED", "RETURN_INTERVIEW_ID", "INCODE_TIMEOUT",
	"INCODE_API_KEY_MAX_AGE",
}

// env returns the environment with the required variables and these.
func env(variables map[string]string) func(string) string {
	all := map[string]string{
		"INCODE_API_KEY_SECRET_ID":  "incode/api-key",
		"INCODE_BASE_URL":           "https://demo-api.incodesmile.com",
		"ALLOWED_CONFIGURATION_IDS": flow,
	}
	maps.Copy(all, variables)
	return func(name string) string { return all[name] }
}

// TestDocumentsListTheVariables compares the code with the table. test_template.py compares the table with the
// template.
func TestDocumentsListTheVariables(t *testing.T) {
	text, err := os.ReadFile("../../functions/start/docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	documented, read := map[string]bool{}, map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		documented[row[1]] = true
	}
	_, _ = FromEnv(func(name string) string { read[name] = true; return "" })
	if !maps.Equal(documented, read) {
		t.Errorf("the documents list %v, want %v", documented, read)
	}
}

func TestSettings(t *testing.T) {
	defaults := Config{
		SecretID:         "incode/api-key",
		KeyMaxAge:        5 * time.Minute,
		IncodeBaseURL:    &url.URL{Scheme: "https", Host: "demo-api.incodesmile.com"},
		ConfigurationIDs: map[string]bool{flow: true},
		RedirectHosts:    map[string]bool{},
		CustomFields:     map[string]bool{},
		CustomerIDClaim:  "sub",
		IncodeTimeout:    10 * time.Second,
	}
	for name, tt := range map[string]struct {
		variables map[string]string
		want      Config
	}{
		"defaults": {nil, defaults},
		"false, as the template sets it": {
			map[string]string{"ALLOW_UNAUTHENTICATED": "false", "RETURN_INTERVIEW_ID": "false"}, defaults},
		"every variable": {
			map[string]string{
				"INCODE_API_KEY_SECRET_ID":  "arn:aws:secretsmanager:eu-west-1:123456789012:secret:incode/api-key-AbCdEf",
				"INCODE_API_KEY_MAX_AGE":    "1h30m",
				"INCODE_BASE_URL":           "http://localhost:8080",
				"ALLOWED_CONFIGURATION_IDS": " *, ",
				"ALLOWED_REDIRECT_HOSTS":    "app.example.com, localhost:8443,",
				"ALLOWED_CUSTOM_FIELDS":     "plan, Straße 1 ,a\"b,",
				"CUSTOMER_ID_CLAIM":         "https://example.com/customer id",
				"ALLOW_UNAUTHENTICATED":     "true",
				"RETURN_INTERVIEW_ID":       "true",
				"INCODE_TIMEOUT":            "2500ms",
			},
			Config{
				SecretID:             "arn:aws:secretsmanager:eu-west-1:123456789012:secret:incode/api-key-AbCdEf",
				KeyMaxAge:            90 * time.Minute,
				IncodeBaseURL:        &url.URL{Scheme: "http", Host: "localhost:8080"},
				ConfigurationIDs:     map[string]bool{"*": true},
				RedirectHosts:        map[string]bool{"app.example.com": true, "localhost:8443": true},
				CustomFields:         map[string]bool{"plan": true, "Straße 1": true, `a"b`: true},
				CustomerIDClaim:      "https://example.com/customer id",
				AllowUnauthenticated: true,
				ReturnInterviewID:    true,
				IncodeTimeout:        2500 * time.Millisecond,
			}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := FromEnv(env(tt.variables)); err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestValidAndInvalidValues(t *testing.T) {
	const (
		base = "must be https:// and a host in lower case, without a path or a slash at the end (http:// for localhost only)"
		ids  = "must list the configuration IDs that callers may use, or be a single *"
		host = " must be a host name in lower case, without scheme or path"
		id   = " must be 24 lower-case hex digits, or *"
		name = " must be a name of 1 to 64 characters"
	)
	for _, tt := range []struct {
		variable, rule string
		valid, invalid []string
	}{
		{"INCODE_API_KEY_SECRET_ID", "must be the name or the ARN of the secret with the API key",
			[]string{"a", "AZaz09/_+=.@:-"}, []string{"", "incode key", "a\n", "a,b"}},
		{"INCODE_BASE_URL", base,
			[]string{"https://saas-api.incodesmile.com", "https://127.0.0.1:8443", "http://localhost", "http://127.0.0.1:1",
				"http://host.docker.internal:8080"},
			[]string{"", "https://demo-api.incodesmile.com/", "https://demo-api.incodesmile.com/omni", "https://a.example?x",
				"https://me:pw@a.example", "a.example", "https://", "https://:443", "https://a.example:", "https://A.example",
				"https://-a.example", "https://[abc]", "http://a.example", "http://localhost.example.com", "http://127001",
				"http://192.0.2.1", "http://[::1]:8080", "ftp://a.example", "xhttps://a.example"}},
		{"ALLOWED_CONFIGURATION_IDS", ids, []string{"*", flow, flow + ",000000000000000000000001"},
			[]string{"", " , ", flow + ",*"}},
		{"ALLOWED_CONFIGURATION_IDS", "entry 2" + id, nil,
			[]string{flow + "," + strings.ToUpper(flow), "," + flow[1:], "," + flow + "0", flow + ",x" + flow, flow + ",**"}},
		{"ALLOWED_REDIRECT_HOSTS", "entry 1" + host, []string{"a", "app.example.com:8443", "xn--a-b.example"},
			[]string{"https://app.example.com", "App.example.com", "-a", "a-", "a:", "a:b", "a/", "a b"}},
		{"ALLOWED_REDIRECT_HOSTS", "entry 3" + host, nil, []string{"app.example.com, , *.example.com"}},
		{"CUSTOMER_ID_CLAIM", "must be a name without white space around it", []string{"x", "a b"},
			[]string{"sub ", " sub", " ", "sub\n"}},
		{"ALLOWED_CUSTOM_FIELDS", "entry 1" + name, []string{"", " , ", "a b", strings.Repeat("é", 64), "*"},
			[]string{strings.Repeat("a", 65), "a\nb", "a\x00", "a\u0085b", "\ufffd", "a\xff"}},
		{"ALLOWED_CUSTOM_FIELDS", "entry 3" + name, nil, []string{"plan,,a\tb"}},
		{"ALLOW_UNAUTHENTICATED", "must be true or false", []string{"", "true", "false"}, []string{"True", "yes", "true "}},
		{"RETURN_INTERVIEW_ID", "must be true or false", []string{"", "true", "false"}, []string{"True", "1", "xfalse"}},
		{"INCODE_API_KEY_MAX_AGE", "must be a duration from 1s to 24h0m0s, such as 5m", []string{"", "1s", "24h"},
			[]string{"300", "0s", "999ms", "24h0m0.000000001s", "-5m", "1d"}},
		{"INCODE_TIMEOUT", "must be a duration from 1s to 28s, such as 10s", []string{"1s", "28s"},
			[]string{"10", "999999999ns", "28.000000001s", "-5s", "soon"}},
	} {
		for _, value := range tt.valid {
			if _, err := FromEnv(env(map[string]string{tt.variable: value})); err != nil {
				t.Errorf("%s=%q: %v", tt.variable, value, err)
			}
		}
		for _, value := range tt.invalid {
			_, err := FromEnv(env(map[string]string{tt.variable: value}))
			if want := tt.variable + " " + tt.rule; err == nil || err.Error() != want {
				t.Errorf("%s=%q: got %v, want %s", tt.variable, value, err, want)
			}
		}
	}
}

func TestErrorReportsEveryVariableAndQuotesNoValue(t *testing.T) {
	_, err := FromEnv(func(string) string { return "canary\tvalue " })
	if err == nil {
		t.Fatal("no error")
	}
	for _, name := range names {
		if strings.Count(err.Error(), name) != 1 {
			t.Errorf("want one problem of %s in:\n%v", name, err)
		}
	}
	if strings.Contains(err.Error(), "canary") {
		t.Errorf("a value is quoted: %v", err)
	}
}

// FuzzFromEnv checks what the function relies on when the settings are valid.
func FuzzFromEnv(f *testing.F) {
	f.Add("incode/api-key", "https://demo-api.incodesmile.com", flow+",", "a.example:8443", "plan",
		"sub", "true", "28s", "24h")
	f.Add("s", "http://[::1]:8080", "*", "", "", "", "", "", "1s")
	f.Add("s", "https://[:::]", "*", "", "a\x00,b", "", "", "", "")
	f.Fuzz(func(t *testing.T, secretID, baseURL, ids, hosts, customFields, claim, flag, timeout, age string) {
		values := []string{secretID, baseURL, ids, hosts, customFields, claim, flag, flag, timeout, age}
		c, err := FromEnv(func(name string) string { return values[slices.Index(names, name)] })
		if err != nil {
			return
		}
		switch {
		case c.SecretID == "" || c.CustomerIDClaim == "":
			t.Errorf("an empty name: %+v", c)
		case c.IncodeBaseURL == nil || c.IncodeBaseURL.String() != baseURL || c.IncodeBaseURL.Hostname() == "":
			t.Errorf("base URL %v", c.IncodeBaseURL)
		case strings.ContainsAny(c.IncodeBaseURL.Host, " \r\n"):
			t.Errorf("the Host header is not safe: %q", c.IncodeBaseURL.Host)
		case len(c.ConfigurationIDs) == 0 || c.ConfigurationIDs["*"] && len(c.ConfigurationIDs) > 1:
			t.Errorf("configuration IDs %v", c.ConfigurationIDs)
		case c.AllowUnauthenticated != (flag == "true") || c.ReturnInterviewID != (flag == "true"):
			t.Errorf("%q became %t, %t", flag, c.AllowUnauthenticated, c.ReturnInterviewID)
		case c.IncodeTimeout < time.Second || c.IncodeTimeout > 28*time.Second:
			t.Errorf("timeout %v", c.IncodeTimeout)
		case c.KeyMaxAge < time.Second || c.KeyMaxAge > 24*time.Hour:
			t.Errorf("maximum age %v", c.KeyMaxAge)
		}
		for id := range c.ConfigurationIDs {
			if id != "*" && !ConfigurationID.MatchString(id) {
				t.Errorf("configuration ID %q", id)
			}
		}
		for host := range c.RedirectHosts {
			if host == "" || host != strings.ToLower(host) || strings.ContainsAny(host, "/@?#* ") {
				t.Errorf("redirect host %q", host)
			}
		}
		for name := range c.CustomFields {
			if name == "" || name != strings.TrimSpace(name) || strings.ContainsAny(name, ",\x00\n\ufffd") {
				t.Errorf("custom field %q", name)
			}
		}
	})
}
