package endpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"

	"omnistart/internal/config"
	"omnistart/internal/incode"
)

// FuzzInvoke hands over events that API Gateway would never send. A session is
// started only for what AWS's own event type, too, reads as a good request, and
// for nobody but its caller.
func FuzzInvoke(f *testing.F) {
	for _, name := range []string{"iam", "jwt", "sam-local"} {
		data, err := os.ReadFile("testdata/" + name + ".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"version":"2.0","routeKey":"POST /omni/start","headers":{"content-type":"application/json"},"body":"e30=","isBase64Encoded":true}`))
	f.Add([]byte(`{"version":"2.0","routeKey":"POST /omni/start","headers":{"content-type":"application/json"},"body":"{\"configurationId\":\"` + flow +
		`\",\"externalCustomerId\":\"victim\"}","requestContext":{"authorizer":{"jwt":{"claims":{"sub":"me"}}}},"REQUESTCONTEXT":{"Authorizer":{"JWT":null}}}`))
	base := newRig(f).config
	f.Fuzz(func(t *testing.T, payload []byte) {
		starter := &starter{answers: []func(context.Context) (incode.Session, error){succeed}}
		var logged bytes.Buffer
		out, err := New(base, &keys{}, starter, slog.New(slog.NewJSONHandler(&logged, nil))).Invoke(t.Context(), payload)
		var resp events.APIGatewayV2HTTPResponse
		if err != nil || json.Unmarshal(out, &resp) != nil || !json.Valid([]byte(resp.Body)) {
			t.Fatalf("answer %s, %v", out, err)
		}
		if strings.Contains(logged.String(), `"stack":`) || strings.Contains(logged.String(), token) || bytes.Count(logged.Bytes(), []byte("\n")) != 1 {
			t.Fatalf("logged %s", logged.String())
		}
		if (resp.StatusCode == 200) != (len(starter.got) == 1) || resp.StatusCode != 200 && (len(starter.got) > 0 || resp.StatusCode < 400) {
			t.Fatalf("%d calls to Incode: %s", len(starter.got), out)
		}
		if len(starter.got) == 0 {
			return
		}
		var ev events.APIGatewayV2HTTPRequest
		if json.Unmarshal(payload, &ev) != nil {
			return // over a field that is not ours
		}
		got := starter.got[0]
		if ev.Version != "2.0" || ev.RouteKey != "POST "+path && ev.RequestContext.HTTP.Method != "POST" || got.ConfigurationID != flow {
			t.Fatalf("started %+v", got)
		}
		if a := ev.RequestContext.Authorizer; a != nil && a.JWT != nil && (got.ExternalCustomerID == "" || got.ExternalCustomerID != a.JWT.Claims["sub"]) {
			t.Fatalf("started a session of %q for %v", got.ExternalCustomerID, a.JWT.Claims)
		}
	})
}

// FuzzParse looks for a body that encoding/json reads otherwise than what goes
// to Incode, and for one that is refused without a reason.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		fullBody, `{"configurationId":"` + flow + `","externalCustomerId":"c-1","customFields":{"a":"b"}}`,
		`{"configurationId":"` + flow + `","redirectionUrl":"https://app.example.com/\\x"}`, `{"configurationId":1}`,
		`{"configurationId":"` + flow + `","Language":"en-US"}`, `{"configurationId":"` + flow + `","customFields":{}}`, `{"configurationId":"` + flow + `","uuid":""}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parse(body, redirectHosts)
		if err != nil {
			if resp := problemResponse(err, "id"); resp.StatusCode != 400 && (resp.StatusCode != 422 || !strings.Contains(resp.Body, `"errors":[`)) {
				t.Fatalf("answer %d %s", resp.StatusCode, resp.Body)
			}
			return
		}
		sent, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		want, got := map[string]any{"countryCode": "ALL"}, map[string]any{}
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatal(err)
		}
		if fields, _ := want["customFields"].(map[string]any); len(fields) == 0 {
			delete(want, "customFields")
		}
		if err := json.Unmarshal(sent, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("sent %s for %s", sent, body)
		}
	})
}

// FuzzFields holds the patterns to plain loops: those of the contract's texts
// with value, and of a custom field with both.
func FuzzFields(f *testing.F) {
	for _, s := range []string{"", "a", "ALL", "MX", "MEX", "MEXI", "en-US", "kab-DZ", "en-us", flow, strings.ToUpper(flow), flow + "\n", "auth0|5f7c", "-a", "a b", "ſ", "a\x00",
		"a\u0085", "a\u2028", "K", strings.Repeat("a", 128), strings.Repeat("a", 129), strings.Repeat("é", 32), strings.Repeat("é", 33), strings.Repeat("v", 257),
		strings.Repeat("é", 256), strings.Repeat("é", 257), "a#", "abcd-US", "en-USA"} {
		f.Add("k", s)
		f.Add(s, "v")
	}
	const digit, lower, upper = "0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	made := func(s, of string, least, most int) bool {
		return len(s) >= least && len(s) <= most && strings.Trim(s, of) == ""
	}
	plain := func(s string, most int) bool {
		return len([]rune(s)) <= most && !slices.ContainsFunc([]rune(s), func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 })
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		lang, land, _ := strings.Cut(value, "-")
		for field, tt := range map[string]struct{ got, want bool }{
			"configurationId": {config.ConfigurationID.MatchString(value), made(value, digit+"abcdef", 24, 24)},
			"externalCustomerId": {isCustomerID(value),
				made(value, digit+lower+upper+"._:@+|~=/-", 1, 128) && strings.Contains(digit+lower+upper, value[:1])},
			"countryCode": {countryCode.MatchString(value), made(value, upper, 2, 3)},
			"language":    {language.MatchString(value), made(lang, lower, 2, 3) && made(land, upper, 2, 2)},
		} {
			if tt.got != tt.want {
				t.Errorf("%s %q: accepted: %t", field, value, tt.got)
			}
		}
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return // no JSON could say it
		}
		body, err := json.Marshal(map[string]any{"configurationId": flow, "customFields": map[string]string{name: value}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := parse(body, nil)
		if good := name != "" && plain(name, 64) && plain(value, 256); good != (err == nil) || good && r.CustomFields[name] != value {
			t.Errorf("custom field %q: %q: got %v, %v", name, value, r.CustomFields, err)
		}
	})
}

// FuzzRedirect reads each URL that is accepted as browsers do, who have another
// standard than Go.
func FuzzRedirect(f *testing.F) {
	for _, s := range []string{"https://app.example.com", "https://APP.example.com/a?b#c", "https://localhost:8443/", "https://app.example.com@evil.net/",
		"https://app.example.com\\@evil.net/", "https:app.example.com", "https:///app.example.com", "https://app.example.com/\t", "https://app%2eexample.com/",
		"https://app.example.com:443/", "https://app.example.com:/", "https://evil.net/https://app.example.com", "HTTPS://app.example.com/", "https://app.example.com.",
		"https://app.example.com?@evil.net", "https://app.example.com#@evil.net", "https://[::1]/", "https://\u212Aapp.example.com/"} {
		f.Add(s)
	}
	simple := regexp.MustCompile(`^https://(app\.example\.com|localhost:8443)(/[A-Za-z0-9/_.-]*)?(\?[a-z0-9=&]*)?$`)
	f.Fuzz(func(t *testing.T, s string) {
		got := redirectable(s, redirectHosts)
		if got && (len(s) > 2048 || !redirectHosts[browserHost(s)]) {
			t.Errorf("accepted %q, which leads to %q", s, browserHost(s))
		}
		if !got && len(s) <= 2048 && simple.MatchString(s) {
			t.Errorf("refused %q", s)
		}
	})
}

// browserHost returns the host and port that an https URL leads a browser to,
// or "" if it is of another scheme or has a user.
// https://url.spec.whatwg.org/#concept-basic-url-parser
func browserHost(s string) string {
	s = strings.TrimFunc(s, func(r rune) bool { return r <= ' ' })
	s = strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(s)
	scheme, rest, _ := strings.Cut(s, ":")
	rest = strings.TrimLeft(rest, `/\`)
	if i := strings.IndexAny(rest, `/\?#`); i >= 0 {
		rest = rest[:i]
	}
	if !strings.EqualFold(scheme, "https") || strings.Contains(rest, "@") {
		return ""
	}
	return strings.ToLower(rest)
}

// FuzzContentType wants application/json in UTF-8, and no parameter besides
// that another reader might go by.
func FuzzContentType(f *testing.F) {
	for _, s := range []string{"application/json", "Application/JSON; charset=UTF-8", `application/json;charset="utf-8"`, "application/json; charset=utf-16", "application/json; v=1",
		"application/json;", "application/json ;; charset=utf-8 ;", "application/json; charset", "text/plain", "text/plain,application/json", "application/json,text/plain",
		"application/json text/plain", "", "application/jsonp", "application/json; charset=utf-8; charset=utf-16", "application/json; charset*0=utf-; charset*1=16",
		"application/json; c*1=x", "application/j\u017fon", "application/json\n", `application/json; charset="utf-8`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		ev := &httpEvent{Body: "{}"}
		ev.Headers.ContentType = v
		_, err := readBody(ev)
		mediaType, parameters, _ := strings.Cut(strings.ToLower(v), ";")
		good := strings.TrimRight(mediaType, " \t") == "application/json"
		for p := range strings.SplitSeq(parameters, ";") {
			good = good && slices.Contains([]string{"", "charset=utf-8", `charset="utf-8"`}, strings.Trim(p, " \t"))
		}
		if good != (err == nil) || err != nil && kindOf(err).status != 415 {
			t.Errorf("%q: %v", v, err)
		}
	})
}
