package endpoint

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"omnistart/internal/config"
	"omnistart/internal/problem"
)

var withRedirects = config.Config{RedirectHosts: map[string]bool{
	"app.example.com": true, "ki.example.com": true, "localhost:8443": true,
}}

// pointersOf returns the pointers to what is wrong with a body, or the code of another problem.
func pointersOf(t *testing.T, body string) []string {
	t.Helper()
	fields, err := readFields(withRedirects, []byte(body), false)
	if err == nil {
		return nil
	}
	if fields != nil {
		t.Errorf("an error and fields: %v", fields)
	}
	found, ok := errors.AsType[violations](err)
	if !ok {
		return []string{problemOf(err).Code}
	}
	var pointers []string
	for _, v := range found {
		pointers = append(pointers, v.Pointer)
	}
	return pointers
}

// members returns a JSON object with n members.
func members(n int, value string) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`"k%d":%s`, i, value))
	}
	return "{" + strings.Join(all, ",") + "}"
}

func TestFieldRules(t *testing.T) {
	repeat := func(text string, n int) string { return `"` + strings.Repeat(text, n) + `"` }
	url := func(n int) string {
		return `"https://app.example.com/` + strings.Repeat("a", n-len("https://app.example.com/")) + `"`
	}
	for _, tt := range []struct {
		field   string
		valid   []string // in JSON
		invalid []string
	}{
		{"configurationId", []string{`"` + flow + `"`},
			[]string{
				`"6245F1E0C8D4B2A39E7F1C05"`, `"6245f1e0c8d4b2a39e7f1c0"`, `"6245f1e0c8d4b2a39e7f1c055"`, `"` + flow + `\n"`,
				`"*"`, `""`, `null`, `624500000000000000000000`, `1e999`, `["` + flow + `"]`,
			}},
		{"externalCustomerId",
			[]string{`"a"`, `"9a._:@+|~=/-Z"`, `"auth0|5f7c8ec7c33c6c004bbafe82"`, `"o'brien@example.com"`, `"_Qp8"`, `"-a"`,
				`"{6F9619FF-8B86-D011-B42D-00C04FC964FF}"`, `"CN=Jane Doe, OU=x"`, `"Jürgen"`, `"名前"`, `"a<script>"`,
				`"[a b]"`, `"\ud83d\ude00"`, repeat("a", 255), repeat("é", 255), repeat("😀", 255), `null`},
			[]string{repeat("a", 256), repeat("é", 256), `""`, `42`, `true`, `["a"]`, `{}`, `" a"`, `"a "`, `" "`,
				`"a\n"`, `"a\tb"`, `"a\u0000"`, `"a\u007f"`, `"a\u0085"`, `"a\u00a0b"`, `"a\u00adb"`, `"a\u200bb"`,
				`"a\u2028b"`, `"a\u202eb"`, `"\ufeffa"`, `"a\ue000"`, `"a\ufffd"`, `"a\uffff"`, `"a\u3000b"`}},
		{"countryCode", []string{`"ALL"`, `"MX"`, `"MEX"`, `null`}, []string{`"mx"`, `"M"`, `"MEXI"`, `""`, `1`, `false`}},
		{"language", []string{`"pt-BR"`, `"kab-DZ"`, `"es"`, `"kab"`, `"es-419"`, `null`},
			[]string{`"en_US"`, `"en-us"`, `"abcd-US"`, `"en-USA"`, `"en-"`, `"e"`, `"en-41"`, `"en-4199"`, `"en-U1"`, `""`}},
		{"redirectionUrl",
			[]string{
				`"https://app.example.com/done?x=1#y"`, `"https://app.example.com"`, `"https://APP.example.com/"`,
				`"https://localhost:8443/"`, `"https://app.example.com/!~"`, url(2048), `null`,
				`"https://app.example.com/-._~:/?#[]@!$&'()*+,;=%2F%e9"`,
			},
			[]string{
				url(2049), `""`, `1`, `"http://app.example.com/"`, `"HTTPS://app.example.com/"`,
				`"//app.example.com/"`, `"/done"`, `"https:app.example.com"`, `"javascript://app.example.com/%0aalert(1)"`,
				`"https://evil.example.net/"`, `"https://x.app.example.com/"`, `"https://app.example.com.evil.net/"`,
				`"https://app.example.com:8443/"`, `"https://localhost/"`, `"https://app%2eexample.com/"`,
				// U+0130 and U+212A become i and k in lower case.
				`"https://k%C4%B0.example.com/"`, `"https://%E2%84%AAi.example.com/"`, `"https://k\u0130.example.com/"`,
				`"https://app.example.com@evil.net/"`, `"https://me@app.example.com/"`,
				// Browsers read a backslash as a slash, and drop tabs and line feeds.
				`"https://app.example.com\\@evil.net/"`, `"https://app.example.com/\\evil.net"`, `"https://app.example.com/\ta"`,
				`"https://app.example.com/\n"`, `"https://app.example.com/a b"`, `"https://app.example.com/é"`,
				`"https://app.example.com/%zz"`, `"https://app.example.com/%"`, `"https://app.example.com/%2"`,
				`"https://app.example.com/\""`, `"https://app.example.com/<"`, `"https://app.example.com/>"`,
				`"https://app.example.com/^"`, "\"https://app.example.com/`\"", `"https://app.example.com/{"`,
				`"https://app.example.com/|"`, `"https://app.example.com/}"`, `"https://"`,
			}},
		{"customFields",
			[]string{`null`, `{"k":null}`, `{"k":true,"l":false}`, `{"k":0}`, `{"k":-1.50}`, `{"k":999999999999999}`,
				`{"k":-0.00000000000001}`, members(20, `null`), `{}`, `{"k":""}`,
				members(20, `"v"`), `{` + repeat("k", 64) + `:` + repeat("v", 256) + `}`,
				`{` + repeat("é", 64) + `:` + repeat("é", 256) + `}`, `{"emoji":"\ud83d\ude00"}`},
			[]string{members(21, `"v"`), members(21, `1`), `[]`, `"v"`, `true`, `1`,
				`{"":"v"}`, `{"":1}`, `{"":false}`, `{"":null}`, members(21, `null`),
				`{` + repeat("k", 65) + `:"v"}`, `{` + repeat("é", 65) + `:"v"}`, `{"a\u0000":"v"}`,
				`{"k":` + repeat("v", 257) + `}`, `{"k":` + repeat("é", 257) + `}`, `{"k":"a\u009fb"}`,
				`{"k":1000000000000000}`, `{"k":0.000000000000001}`, `{"k":1e3}`, `{"k":1E-3}`, `{"k":-1e+3}`,
				`{"k":"\ufffd"}`, `{"\ufffd":"v"}`, `{"\ufffd":1}`, `{"k":[]}`, `{"k":{}}`}},
		// The first two would take over a session.
		{"interviewId", []string{`null`}, []string{`"6a0f3c9d1b2e4f5a6b7c8d9e"`, `""`, `1`}},
		{"uuid", []string{`null`}, []string{`"6a0f3c9d1b2e4f5a6b7c8d9e"`, `""`, `false`}},
		{"externalId", nil, []string{`"a"`, `null`}},
		{"apiKey", nil, []string{`"a"`, `null`}}, // null is left out only where the contract has a field
	} {
		for valid, values := range map[bool][]string{true: tt.valid, false: tt.invalid} {
			for _, value := range values {
				body := fmt.Sprintf(`{"configurationId":"%s",%q:%s}`, flow, tt.field, value)
				got := pointersOf(t, body)
				if valid && got != nil || !valid && (len(got) != 1 || !strings.HasPrefix(got[0], "/"+tt.field)) {
					t.Errorf("%s is valid: %t; got %q", body, valid, got)
				}
			}
		}
	}
}

func TestEveryFieldIsSentToIncode(t *testing.T) {
	h := newHarness(t)
	h.send(t, event(t, "iam", fullBody))
	var want map[string]any
	decode(t, []byte(fullBody), &want)
	if got := h.incode.Last().Fields; h.incode.Sessions() != 1 || !reflect.DeepEqual(got, want) {
		t.Errorf("sent %v, want %v", got, want)
	}
	for _, f := range contract {
		if _, sent := want[f.name]; sent != (f.example != "") {
			t.Errorf("the test sends %s: %t", f.name, sent)
		}
	}
}

func TestRedirectIsRefusedWithoutAllowedHosts(t *testing.T) {
	_, err := readFields(config.Config{}, []byte(fullBody), false)
	if !errors.Is(err, problem.ValidationFailed) {
		t.Errorf("got %v", err)
	}
}

func TestAllViolationsTogether(t *testing.T) {
	h := newHarness(t)
	r := h.send(t, event(t, "iam", `{"externalCustomerId":"","countryCode":"x","language":1,"redirectionUrl":"x",
		"customFields":{"d":[1],"c":[1],"a/b~c":[1],"ok":"v","":""},"interviewId":"x","uuid":"x","externalId":"x",
		"nope":1,"a/b~c":1,"Language":"de-DE"}`))
	const unknown = "Not a field of the contract."
	custom := fieldOf(customFields).rule
	want := violations{
		{"/configurationId", "Required."}, {"/externalCustomerId", fieldOf("externalCustomerId").rule},
		{"/countryCode", fieldOf("countryCode").rule}, {"/language", fieldOf("language").rule},
		{"/redirectionUrl", fieldOf("redirectionUrl").rule},
		{"/customFields/", custom}, {"/customFields/a~1b~0c", custom}, {"/customFields/c", custom},
		{"/customFields/d", custom}, {"/interviewId", newSession}, {"/uuid", newSession},
		{"/Language", "Not accepted: use language."},
		{"/a~1b~0c", unknown}, {"/externalId", "Not accepted: use externalCustomerId."}, {"/nope", unknown},
	}
	var got violations
	if decode(t, encode(t, r.body["errors"]), &got); r.status != 422 || !slices.Equal(got, want) {
		t.Errorf("got  %d %q\nwant %q", r.status, got, want)
	}
}

func TestWrongNameIsRefusedWithTheRightName(t *testing.T) {
	for right, names := range map[string][]string{
		"configurationId": {
			"flowId", "flow_id", "FlowID", "workflowId", "ConfigurationId", "configurationID", "configuration_id",
			"configuration-id"},
		"externalCustomerId": {"externalId", "external_id", "customerId", "externalCustomerID", "external_customer_id"},
		"countryCode":        {"country", "CountryCode", "country_code"},
		"language":           {"lang", "Language", "LANGUAGE"},
		"redirectionUrl":     {"redirectUrl", "redirect_url", "redirectUri", "redirect_uri", "redirectionURL"},
		"customFields":       {"CustomFields", "custom_fields"},
		"":                   {"customField", "flow", "id", "", "token", "interview_id", "UUID"},
	} {
		for _, name := range names {
			want := "Not accepted: use " + right + "."
			if right == "" {
				want = "Not a field of the contract."
			}
			_, err := readFields(config.Config{}, fmt.Appendf(nil, `{"configurationId":%q,%q:"x"}`, flow, name), false)
			if found, _ := errors.AsType[violations](err); !slices.Equal(found, violations{{"/" + name, want}}) {
				t.Errorf("%s: got %v, want %s", name, found, want)
			}
		}
	}
}

func TestNullIsLeftOut(t *testing.T) {
	h := newHarness(t)
	r := h.send(t, event(t, "iam", `{"configurationId":"`+flow+`","externalCustomerId":null,"countryCode":null,
		"language":null,"redirectionUrl":null,"customFields":{"a":null,"b":"v"},"interviewId":null,"uuid":null}`))
	want := object{"configurationId": flow, "countryCode": "ALL", "customFields": object{"b": "v"}}
	if got := h.incode.Last().Fields; r.status != 200 || !reflect.DeepEqual(got, want) {
		t.Errorf("got %d %s, sent %v", r.status, r.text, got)
	}
	if got := pointersOf(t, `{"configurationId":null}`); !slices.Equal(got, []string{"/configurationId"}) {
		t.Errorf("without a configuration ID: %q", got)
	}
}

func TestNumbersAreSentDigitForDigit(t *testing.T) {
	const custom = `{"a":-0,"b":1.10,"c":999999999999999,"d":0.30000000000000,"e":true}`
	fields, err := readFields(config.Config{}, []byte(`{"configurationId":"`+flow+`","customFields":`+custom+`}`), false)
	if got := string(encode(t, fields["customFields"])); err != nil || got != custom {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestCustomersSetOnlyAllowedCustomFields(t *testing.T) {
	const body = `{"configurationId":"` + flow + `","customFields":{"plan":"gold","riskTier":"low","none":null,"Plan":1}}`
	for _, tt := range []struct {
		name, authorizer string
		allowed          map[string]bool
		refused          []string
	}{
		{"back end", `{"iam":{"cognitoIdentity":null}}`, nil, nil},
		{"JWT", ofCustomer(`"c"`), nil, []string{"Plan", "plan", "riskTier"}},
		{"JWT, one allowed", ofCustomer(`"c"`), map[string]bool{"plan": true}, []string{"Plan", "riskTier"}},
		{"JWT, all allowed", ofCustomer(`"c"`), map[string]bool{"plan": true, "Plan": true, "riskTier": true}, nil},
		{"own authorizer", `{"lambda":{"sub":"c"}}`, map[string]bool{"plan": true}, []string{"Plan", "riskTier"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t)
			h.Config.CustomFields = tt.allowed
			r := h.send(t, eventOf(t, tt.authorizer, body))
			var want, got violations
			for _, name := range tt.refused {
				want = append(want, violation{
					"/customFields/" + name, "Not a name that the operator of this endpoint lets customers set."})
			}
			decode(t, encode(t, r.body["errors"]), &got)
			if !slices.Equal(got, want) || (r.status == 200) != (want == nil) || (r.status == 422) != (want != nil) {
				t.Errorf("got %d %s", r.status, r.text)
			}
		})
	}
}

func TestViolationsQuoteNoValue(t *testing.T) {
	h := newHarness(t) // which looks for canaries
	r := h.send(t, event(t, "iam", `{"configurationId":"canary","externalCustomerId":"canary canary",
		"countryCode":"canary","language":"canary","redirectionUrl":"canary","customFields":{"k":["canary"]},"x":"canary"}`))
	if r.status != 422 {
		t.Errorf("got %d %s", r.status, r.text)
	}
}

func TestBodyIsOneJSONObject(t *testing.T) {
	good := start(flow)
	for _, body := range []string{
		good + "{}", good + "x", good[:len(good)-1], "\ufeff" + good, "[" + good + "]", `"` + flow + `"`, "null",
	} {
		if got := pointersOf(t, body); !slices.Equal(got, []string{"invalid-json"}) {
			t.Errorf("%s: got %q", body, got)
		}
	}
	for body, want := range map[string]string{
		" " + good + "\n": "",
		// Only encoding/json's structs would take these names for fields.
		`{"CONFIGURATIONID":"` + flow + `"}`:                   "/configurationId /CONFIGURATIONID",
		`{"configurationId ":"` + flow + `"}`:                  "/configurationId /configurationId ",
		`{"configurationId":"` + flow + `","cuſtomFields":{}}`: "/cuſtomFields",
		// Depth and size of numbers have no limit of their own.
		`{"configurationId":"` + flow + `","x":` + strings.Repeat("[", 3000) + strings.Repeat("]", 3000) + `}`: "/x",
	} {
		if got := strings.Join(pointersOf(t, body), " "); got != want {
			t.Errorf("%.60q: got %q, want %q", body, got, want)
		}
	}
}

func TestLastOfEqualNamesCounts(t *testing.T) {
	for names, want := range map[string]string{
		`"countryCode":"MX","countryCode":"DE"`:      "DE",
		`"countryCode":1,"countryCode":"DE"`:         "DE",
		`"countryCode":"MX","\u0063ountryCode":"DE"`: "DE", // an escaped c
		`"countryCode":"MX","countryCode":1`:         "",
		`"countryCode":"MX","countryCode":null`:      "ALL",
	} {
		h := newHarness(t)
		r := h.send(t, event(t, "iam", `{"configurationId":"`+flow+`",`+names+`}`))
		sent, _ := h.incode.Last().Fields["countryCode"].(string)
		if sent != want || (r.code == "validation-failed") != (want == "") {
			t.Errorf("%s: got %d %s, sent %q", names, r.status, r.text, sent)
		}
	}
}

// TestBrokenTextIsRefused has text that encoding/json reads as U+FFFD, in the event itself and in a body in base64.
func TestBrokenTextIsRefused(t *testing.T) {
	h := newHarness(t)
	bodies := map[string]string{ // by the pointer, which may be followed by more
		"/configurationId":     `{"configurationId":"` + flow + `HERE"}`,
		"/customFields/k":      `{"configurationId":"` + flow + `","customFields":{"k":"vHERE"}}`,
		"/customFields/\ufffd": `{"configurationId":"` + flow + `","customFields":{"HERE":"v"}}`,
		"/\ufffd":              `{"configurationId":"` + flow + `","HERE":"v"}`,
	}
	for name, value := range map[string]string{
		"externalCustomerId": "c-1", "countryCode": "MX", "language": "en-US", "redirectionUrl": "https://app.example.com/",
	} {
		bodies["/"+name] = fmt.Sprintf(`{"configurationId":"%s","%s":"%sHERE"}`, flow, name, value)
	}
	for pointer, body := range bodies {
		plain, inBase64 := event(t, "iam", body), event(t, "iam", "HERE")
		inBase64.IsBase64Encoded = true
		for _, broken := range []string{"\xff", "\xed\xa0\x80", `\ud800`, "\ufffd"} {
			brokenBody := strings.ReplaceAll(body, "HERE", broken)
			inBase64.Body = base64.StdEncoding.EncodeToString([]byte(brokenBody))
			for source, r := range map[string]result{
				"event":  h.invoke(t, bytes.ReplaceAll(encode(t, plain), []byte("HERE"), []byte(broken))),
				"base64": h.send(t, inBase64),
			} {
				errors, _ := r.body["errors"].([]any)
				if len(errors) != 1 || !strings.HasPrefix(errors[0].(map[string]any)["pointer"].(string), pointer) {
					t.Errorf("%s, %q: got %d %s", source, brokenBody, r.status, r.text)
				}
			}
		}
	}
	if h.incode.Requests() > 0 {
		t.Error("broken text was sent to Incode")
	}
}

// TestTextsNameTheLimits compares the limits in the code with those in the texts for the caller.
func TestTextsNameTheLimits(t *testing.T) {
	for text, limit := range map[string]string{
		problem.BodyTooLarge.Detail:        fmt.Sprintf("at most %d KiB", maxBody>>10),
		fieldOf("redirectionUrl").rule:     fmt.Sprintf("at most %d ", fieldOf("redirectionUrl").maxLength),
		fieldOf("externalCustomerId").rule: fmt.Sprintf("1 to %d ", maxCustomerID),
		fieldOf(customFields).rule: fmt.Sprintf("at most %d members. A name has 1 to %d characters. "+
			"A value is a boolean, a string of at most %d characters,", maxCustomFields, maxCustomName, maxCustomText),
	} {
		if !strings.Contains(text, limit) {
			t.Errorf("%q does not contain %q", text, limit)
		}
	}
}

func fieldOf(name string) *field {
	return &contract[slices.IndexFunc(contract, func(f field) bool { return f.name == name })]
}
