package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"omnistart/internal/incode"
)

var redirectHosts = map[string]bool{"app.example.com": true, "localhost:8443": true}

// pointers returns what a body violates, or the code of another refusal.
func pointers(t *testing.T, body string) (incode.StartRequest, []string) {
	t.Helper()
	r, err := parse([]byte(body), redirectHosts)
	if err == nil {
		return r, nil
	}
	var refused *refusal
	if !errors.As(err, &refused) {
		t.Fatalf("not a refusal: %v", err)
	}
	if !reflect.DeepEqual(r, incode.StartRequest{}) {
		t.Errorf("a refusal and a request: %+v", r)
	}
	if refused.kind != validationFailed {
		return r, []string{refused.kind.code}
	}
	var p []string
	for _, v := range refused.violations {
		if v.Detail == "" {
			t.Errorf("%s has no detail", v.Pointer)
		}
		p = append(p, v.Pointer)
	}
	return r, p
}

func TestFields(t *testing.T) {
	many := func(n int) string {
		fields := map[string]string{}
		for i := range n {
			fields[fmt.Sprintf("k%02d", i)] = "v"
		}
		b, _ := json.Marshal(fields)
		return string(b)
	}
	tests := []struct {
		name, field, value string // value is JSON
		ok                 bool
	}{
		{"upper-case hex", "configurationId", `"6245F1E0C8D4B2A39E7F1C05"`, false},
		{"23 digits", "configurationId", `"6245f1e0c8d4b2a39e7f1c0"`, false},
		{"line feed at the end", "configurationId", `"6245f1e0c8d4b2a39e7f1c05\n"`, false},
		{"null", "configurationId", `null`, false},
		{"number", "configurationId", `624500000000000000000000`, false},
		{"list", "configurationId", `["6245f1e0c8d4b2a39e7f1c05"]`, false},

		{"one letter", "externalCustomerId", `"a"`, true},
		{"every character allowed", "externalCustomerId", `"9a._:@+|~=/-Z"`, true},
		{"an identity provider's", "externalCustomerId", `"auth0|5f7c8ec7c33c6c004bbafe82"`, true},
		{"128", "externalCustomerId", `"` + strings.Repeat("a", 128) + `"`, true},
		{"129", "externalCustomerId", `"` + strings.Repeat("a", 129) + `"`, false},
		{"empty", "externalCustomerId", `""`, false},
		{"null", "externalCustomerId", `null`, false},
		{"number", "externalCustomerId", `42`, false},
		{"starts with a sign", "externalCustomerId", `"-a"`, false},
		{"space", "externalCustomerId", `"a b"`, false},
		{"line feed", "externalCustomerId", `"a\n"`, false},
		{"beyond ASCII", "externalCustomerId", `"ä"`, false},
		{"script", "externalCustomerId", `"a<script>"`, false},

		{"all", "countryCode", `"ALL"`, true},
		{"two letters", "countryCode", `"MX"`, true},
		{"three letters", "countryCode", `"MEX"`, true},
		{"lower case", "countryCode", `"mx"`, false},
		{"four letters", "countryCode", `"MEXI"`, false},
		{"empty", "countryCode", `""`, false},

		{"documented", "language", `"pt-BR"`, true},
		{"without country", "language", `"en"`, false},
		{"underscore", "language", `"en_US"`, false},

		{"https on a listed host", "redirectionUrl", `"https://app.example.com/done?x=1#y"`, true},
		{"host alone", "redirectionUrl", `"https://app.example.com"`, true},
		{"host in another case", "redirectionUrl", `"https://APP.example.com/"`, true},
		{"listed with its port", "redirectionUrl", `"https://localhost:8443/"`, true},
		{"port not listed", "redirectionUrl", `"https://app.example.com:8443/"`, false},
		{"http", "redirectionUrl", `"http://app.example.com/"`, false},
		{"scheme-relative", "redirectionUrl", `"//app.example.com/"`, false},
		{"relative", "redirectionUrl", `"/done"`, false},
		{"javascript", "redirectionUrl", `"javascript://app.example.com/%0aalert(1)"`, false},
		{"unlisted host", "redirectionUrl", `"https://evil.example.net/"`, false},
		{"subdomain of a listed host", "redirectionUrl", `"https://x.app.example.com/"`, false},
		{"listed host as a prefix", "redirectionUrl", `"https://app.example.com.evil.net/"`, false},
		{"listed host as user", "redirectionUrl", `"https://app.example.com@evil.net/"`, false},
		{"user on a listed host", "redirectionUrl", `"https://me@app.example.com/"`, false},
		{"backslash, which browsers take for a slash", "redirectionUrl", `"https://app.example.com\\@evil.net/"`, false},
		{"tab, which browsers drop", "redirectionUrl", `"https://app.example.com/\ta"`, false},
		{"line feed", "redirectionUrl", `"https://app.example.com/\n"`, false},
		{"percent in the host", "redirectionUrl", `"https://app%2eexample.com/"`, false},
		{"listed host as user of itself", "redirectionUrl", `"https://app.example.com@app.example.com/"`, false},
		{"backslash in the path", "redirectionUrl", `"https://app.example.com/\\evil.net"`, false},
		{"space in the path", "redirectionUrl", `"https://app.example.com/a b"`, false},
		{"beyond ASCII in the path", "redirectionUrl", `"https://app.example.com/é"`, false},
		{"opaque", "redirectionUrl", `"https:app.example.com"`, false},
		{"first and last of visible ASCII", "redirectionUrl", `"https://app.example.com/!~"`, true},
		{"2048", "redirectionUrl", `"https://app.example.com/` + strings.Repeat("a", 2024) + `"`, true},
		{"2049", "redirectionUrl", `"https://app.example.com/` + strings.Repeat("a", 2025) + `"`, false},
		{"empty", "redirectionUrl", `""`, false},
		{"null", "redirectionUrl", `null`, false},

		{"empty object", "customFields", `{}`, true},
		{"20", "customFields", many(20), true},
		{"21", "customFields", many(21), false},
		{"longest", "customFields", `{"` + strings.Repeat("k", 64) + `":"` + strings.Repeat("v", 256) + `"}`, true},
		{"21, none of them good", "customFields", strings.ReplaceAll(many(21), `"v"`, "1"), false},
		{"neither name nor value good", "customFields", `{"":1}`, false},
		{"key too long", "customFields", `{"` + strings.Repeat("k", 65) + `":"v"}`, false},
		{"key of 64 two-byte letters", "customFields", `{"` + strings.Repeat("é", 64) + `":"v"}`, true},
		{"key of 65 two-byte letters", "customFields", `{"` + strings.Repeat("é", 65) + `":"v"}`, false},
		{"value of 257 two-byte letters", "customFields", `{"k":"` + strings.Repeat("é", 257) + `"}`, false},
		{"value too long", "customFields", `{"k":"` + strings.Repeat("v", 257) + `"}`, false},
		{"empty key", "customFields", `{"":"v"}`, false},
		{"control in a key", "customFields", `{"a\u0000":"v"}`, false},
		{"control in a value", "customFields", `{"k":"a\u009fb"}`, false},
		{"number", "customFields", `{"k":1}`, false},
		{"null value", "customFields", `{"k":null}`, false},
		{"object value", "customFields", `{"k":{}}`, false},
		{"array", "customFields", `[]`, false},
		{"null", "customFields", `null`, false},

		{"takes over a session", "interviewId", `"6a0f3c9d1b2e4f5a6b7c8d9e"`, false},
		{"takes over a session, older name", "uuid", `"6a0f3c9d1b2e4f5a6b7c8d9e"`, false},
		{"deprecated", "externalId", `"a"`, false},
		{"configurationId in another case", "configurationID", `"` + flow + `"`, false},
		{"unknown", "apiKey", `"a"`, false},
	}
	for _, tt := range tests {
		t.Run(tt.field+"/"+tt.name, func(t *testing.T) {
			body := fmt.Sprintf(`{"configurationId":"%s",%q:%s}`, flow, tt.field, tt.value)
			if tt.field == "configurationId" {
				body = fmt.Sprintf(`{"configurationId":%s}`, tt.value)
			}
			_, got := pointers(t, body)
			if tt.ok && got != nil {
				t.Errorf("refused: %v", got)
			}
			if !tt.ok && (len(got) != 1 || !strings.HasPrefix(got[0], "/"+tt.field)) {
				t.Errorf("got %v, want one violation at /%s", got, tt.field)
			}
		})
	}
}

func TestFieldsArriveAsSent(t *testing.T) {
	got, refused := pointers(t, `{"configurationId":"`+flow+`","externalCustomerId":"c-1","countryCode":"MX","language":"es-MX",
		"redirectionUrl":"https://app.example.com/x","customFields":{"plan":"gold","emoji":"\ud83d\ude00"}}`)
	want := incode.StartRequest{ConfigurationID: flow, ExternalCustomerID: "c-1", CountryCode: "MX", Language: "es-MX",
		RedirectionURL: "https://app.example.com/x", CustomFields: map[string]string{"plan": "gold", "emoji": "😀"}}
	if refused != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, refused)
	}
}

func TestRedirectIsRefusedWithoutAList(t *testing.T) {
	_, err := parse([]byte(`{"configurationId":"`+flow+`","redirectionUrl":"https://app.example.com/"}`), nil)
	if err == nil {
		t.Error("accepted")
	}
}

func TestAllViolationsTogether(t *testing.T) {
	_, got := pointers(t, `{"externalCustomerId":"","countryCode":"x","language":1,"redirectionUrl":"x",
		"customFields":{"a/b~c":1,"ok":"v","":""},"interviewId":"x","uuid":"x","externalId":"x","nope":1,"no pe":1}`)
	want := []string{"/configurationId", "/countryCode", "/customFields", "/customFields/a~1b~0c", "/externalCustomerId", "/externalId",
		"/interviewId", "/language", "", "/nope", "/redirectionUrl", "/uuid"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// The reader itself has its own tests; these show that it is the one in use.
func TestStrictJSON(t *testing.T) {
	for name, body := range map[string]string{
		"duplicate":           `{"configurationId":"` + flow + `","configurationId":"` + flow + `"}`,
		"duplicate, escaped":  `{"configurationId":"` + flow + `","\u0063onfigurationId":"` + flow + `"}`,
		"text after":          `{"configurationId":"` + flow + `"}{}`,
		"byte order mark":     "\ufeff" + `{"configurationId":"` + flow + `"}`,
		"not an object":       `["` + flow + `"]`,
		"invalid UTF-8":       `{"configurationId":"` + flow + "\xff\"}",
		"half of a surrogate": `{"configurationId":"` + flow + `\ud800"}`,
	} {
		if _, got := pointers(t, body); !slices.Equal(got, []string{"invalid-json"}) {
			t.Errorf("%s: got %v", name, got)
		}
	}
	// Keys that only encoding/json would take for the field.
	for _, key := range []string{"CONFIGURATIONID", "configurationid", "configurationId "} {
		if _, got := pointers(t, fmt.Sprintf(`{%q:"%s"}`, key, flow)); len(got) != 2 {
			t.Errorf("%s: got %v, want a missing field and an unknown one", key, got)
		}
	}
	if _, got := pointers(t, `{"configurationId":"`+flow+`","cuſtomFields":{}}`); !slices.Equal(got, []string{""}) {
		t.Errorf("long s: got %v", got)
	}
}

func TestNothingOfTheRequestInTheDetails(t *testing.T) {
	body := `{"configurationId":"canary","externalCustomerId":"canary canary","countryCode":"canary","language":"canary",
		"redirectionUrl":"canary","customFields":{"k":7},"canary canary":1}`
	_, err := parse([]byte(body), redirectHosts)
	resp := problemResponse(err, "id")
	if resp.StatusCode != 422 || strings.Contains(resp.Body, "canary") {
		t.Errorf("got %d %s", resp.StatusCode, resp.Body)
	}
}
