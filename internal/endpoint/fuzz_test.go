package endpoint

import (
	"encoding/base64"
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"omnistart/internal/problem"
)

// FuzzInvoke invokes the endpoint with any event, or with any body in a valid event. It always returns a response and
// writes one log line. It calls Incode only for what AWS's own event type reads as a valid request, with exactly the
// fields of its body, and only for its caller. Lambda's deadline has passed, so the call fails before it uses the
// network, which would make the coverage of an input random.
func FuzzInvoke(f *testing.F) {
	for _, name := range []string{"iam", "jwt", "sam-local"} {
		f.Add(encode(f, event(f, name, "")), "")
	}
	const prefix = `{"version":"2.0","routeKey":"POST /omni/start","headers":{"content-type":"application/json"},"body":`
	f.Add([]byte(prefix+`"e30=","isBase64Encoded":true}`), "")
	f.Add([]byte(prefix+`"{\"configurationId\":\"`+flow+`\",\"externalCustomerId\":\"victim\"}","requestContext":`+
		`{"authorizer":{"jwt":{"claims":{"sub":"me"}}}},"REQUESTCONTEXT":{"Authorizer":{"JWT":null}}}`), "")
	for _, body := range []string{
		fullBody, start(flow), start(flow) + `{}`, start(flow) + "\xff", `{"configurationId":1}`, `null`,
		`{"configurationId":"` + flow + `","language":1,"\u006canguage":"en-US","Language":1}`,
		`{"configurationId":"` + flow + `","language":1,"\u006canguage":"en-US"}`,
		`{"configurationId":"` + flow + `","customFields":{"a\/b":"\ud800","a":"b","a":"c"}}`,
	} {
		f.Add([]byte{}, body)
	}
	h := newHarness(f)
	h.loadKey(f)
	h.Config.ConfigurationIDs = map[string]bool{flow: true}
	valid := event(f, "iam", "")
	f.Fuzz(func(t *testing.T, payload []byte, body string) {
		if body != "" {
			e := valid
			e.Body = body
			payload = encode(t, e)
		}
		h.logged.Reset()
		out, err := h.Invoke(lambdaContext(t, 0), payload)
		var response events.APIGatewayV2HTTPResponse
		if err != nil || json.Unmarshal(out, &response) != nil || !json.Valid([]byte(response.Body)) {
			t.Fatalf("response %s, %v", out, err)
		}
		if log := h.logged.String(); strings.Count(log, "\n") != 1 || strings.Contains(log, "panic: ") {
			t.Fatalf("log %s", log)
		}
		if invalid := strings.Contains(response.Body, `"errors":[{"pointer":"/`); invalid != (response.StatusCode == 422) {
			t.Fatalf("response %s", out)
		}
		var read httpEvent
		var fields, sent map[string]any
		if err = json.Unmarshal(payload, &read); err == nil {
			fields, err = h.requestFields(&read)
		}
		if err != nil {
			if response.StatusCode < 400 || response.StatusCode == 503 {
				t.Fatalf("response %s to %v", out, err)
			}
			return
		}
		decode(t, encode(t, fields), &sent)
		if _, err := readFields(h.Config, encode(t, sent)); err != nil || response.StatusCode != 503 {
			t.Fatalf("response %s to %v", out, sent)
		}
		var e events.APIGatewayV2HTTPRequest
		if json.Unmarshal(payload, &e) != nil {
			return // a member that the endpoint does not read has another type
		}
		text := []byte(e.Body)
		if e.IsBase64Encoded {
			text, err = base64.StdEncoding.DecodeString(e.Body)
		}
		want := object{"countryCode": "ALL"}
		if err != nil || json.Unmarshal(text, &want) != nil || e.Version != "2.0" || e.RouteKey != "POST /omni/start" {
			t.Fatalf("a session for %s", payload)
		}
		if a := e.RequestContext.Authorizer; a != nil && a.JWT != nil {
			want["externalCustomerId"] = a.JWT.Claims["sub"]
		}
		if !reflect.DeepEqual(sent, want) {
			t.Fatalf("sent %v, want %v", sent, want)
		}
	})
}

// FuzzFieldRules compares the rules of the contract with plain loops: those of the texts for value, and those of a
// custom field for name and value.
func FuzzFieldRules(f *testing.F) {
	for _, s := range []string{
		"", "a", "ALL", "MX", "MEXI", "en-US", "kab-DZ", "abcd-US", "en-USA", flow, strings.ToUpper(flow), flow + "\n",
		"auth0|5f7c", "-a", "a b", "a#", "ſ", "K", "a\x00", "a\u0085", "a\u2028", "a\ufffd", strings.Repeat("a", 128),
		strings.Repeat("a", 129), strings.Repeat("é", 64), strings.Repeat("é", 65), strings.Repeat("é", 256),
		strings.Repeat("é", 257),
	} {
		f.Add("k", s)
		f.Add(s, "v")
	}
	const digit, lower, upper = "0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	consists := func(s, of string, minLength, maxLength int) bool {
		return len(s) >= minLength && len(s) <= maxLength && strings.Trim(s, of) == ""
	}
	printable := func(s string, maxLength int) bool {
		return len([]rune(s)) <= maxLength &&
			!slices.ContainsFunc([]rune(s), func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\ufffd' })
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		language, country, _ := strings.Cut(value, "-")
		for field, want := range map[string]bool{
			"configurationId": consists(value, digit+"abcdef", 24, 24),
			"externalCustomerId": consists(value, digit+lower+upper+"._:@+|~=/-", 1, 128) &&
				strings.Contains(digit+lower+upper, value[:1]),
			"countryCode": consists(value, upper, 2, 3),
			"language":    consists(language, lower, 2, 3) && consists(country, upper, 2, 2),
		} {
			if got := fieldOf(field).accepts(withRedirects, value); got != want {
				t.Errorf("%s %q is accepted: %t", field, value, got)
			}
		}
		want := name != "" && printable(name, 64) && printable(value, 256)
		if found := checkCustomFields(map[string]any{name: value}, "rule"); (found == nil) != want || len(found) > 1 {
			t.Errorf("custom field %q: %q: got %v", name, value, found)
		}
	})
}

// FuzzRedirect reads each URL that is accepted as browsers do, which follow another standard than Go.
func FuzzRedirect(f *testing.F) {
	for _, s := range []string{
		"https://app.example.com", "https://APP.example.com/a?b#c", "https://localhost:8443/", "https:app.example.com",
		"https://app.example.com@evil.net/", "https://app.example.com\\@evil.net/", "https://app.example.com/\t",
		"https:///app.example.com",
		"https://app%2eexample.com/", "https://app.example.com:443/", "https://app.example.com:/", "HTTPS://app.example.com/",
		"https://app.example.com.", "https://evil.net/https://app.example.com", "https://app.example.com?@evil.net",
		"https://app.example.com#@evil.net", "https://[::1]/", "https://\u212Aapp.example.com/",
	} {
		f.Add(s)
	}
	simple := regexp.MustCompile(`^https://(app\.example\.com|localhost:8443)(/[A-Za-z0-9/_.-]*)?(\?[a-z0-9=&]*)?$`)
	f.Fuzz(func(t *testing.T, s string) {
		accepted := fieldOf("redirectionUrl").accepts(withRedirects, s)
		if accepted && (len(s) > 2048 || !withRedirects.RedirectHosts[browserHost(s)]) {
			t.Errorf("accepted %q, which leads to %q", s, browserHost(s))
		}
		if !accepted && len(s) <= 2048 && simple.MatchString(s) {
			t.Errorf("refused %q", s)
		}
	})
}

// browserHost returns the host and port that an https URL leads a browser to, or "" if it has another scheme or a user.
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

// FuzzContentType accepts only application/json in UTF-8, without a parameter that another reader might use.
func FuzzContentType(f *testing.F) {
	for _, s := range []string{
		"application/json", "Application/JSON; charset=UTF-8", `application/json;charset="utf-8"`, "application/json;",
		"application/json ;; charset=utf-8 ;", "application/json; charset=utf-16", "application/json; v=1", "", "text/plain",
		"application/json; charset", "application/json; charset=utf-8; charset=utf-16", `application/json; charset="utf-8`,
		"application/json; charset*0=utf-; charset*1=16", "application/json; c*1=x", "application/json,text/plain",
		"text/plain,application/json", "application/json text/plain", "application/jsonp", "application/json\n",
		"application/j\u017fon", "applicat\u0130on/json", "application/json; char\u017fet=utf-8",
	} {
		f.Add(s)
	}
	lowerASCII := func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}
	f.Fuzz(func(t *testing.T, value string) {
		event := &httpEvent{Version: "2.0", RouteKey: "POST /omni/start", Body: "{}"}
		event.Headers.ContentType = value
		_, err := new(Endpoint).requestFields(event)
		mediaType, parameters, _ := strings.Cut(strings.Map(lowerASCII, value), ";")
		want := problem.ValidationFailed
		if strings.TrimRight(mediaType, " \t") != "application/json" {
			want = problem.UnsupportedMediaType
		}
		for p := range strings.SplitSeq(parameters, ";") {
			if !slices.Contains([]string{"", "charset=utf-8", `charset="utf-8"`}, strings.Trim(p, " \t")) {
				want = problem.UnsupportedMediaType
			}
		}
		if problemOf(err) != want {
			t.Errorf("%q: got %v, want %v", value, err, want)
		}
	})
}
