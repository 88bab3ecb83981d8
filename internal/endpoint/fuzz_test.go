package endpoint

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/aws/aws-lambda-go/events"

	"omnistart/internal/config"
	"omnistart/internal/problem"
)

// FuzzInvoke invokes the endpoint with any event, or with any body in a valid event. It must always return a response
// and write one log line. It may call Incode only for what AWS's own event type reads as a valid request of an
// authorized caller, with exactly the fields of its body, and only for that caller. Lambda's deadline has passed, so
// the call fails before it uses the network, which would make the coverage of an input random.
func FuzzInvoke(f *testing.F) {
	for _, name := range []string{"iam", "jwt", "sam-local"} {
		f.Add(encode(f, event(f, name, "")), "")
	}
	const prefix = `{"version":"2.0","routeKey":"POST /omni/start","headers":{"content-type":"application/json"},"body":`
	f.Add([]byte(prefix+`"e30=","isBase64Encoded":true,"requestContext":{"authorizer":{"iam":{}}}}`), "")
	const victim = prefix + `"{\"configurationId\":\"` + flow + `\",\"externalCustomerId\":\"victim\"}","requestContext":`
	for _, context := range []string{
		`{"authorizer":{"jwt":{"claims":{"sub":"me"}}}},"REQUESTCONTEXT":{"Authorizer":{"JWT":null}}`, `{}`,
		`{"authorizer":{"jwt":{"claims":{"sub":"victim"}}}}`, `{"authorizer":{"lambda":{"sub":"victim","n":[11]}}}`,
		`{"authorizer":{"lambda":{"sub":7},"iam":{}}}`, `{"authorizer":{"iam":{"cognitoIdentity":{"identityId":"x"}}}}`,
	} {
		f.Add([]byte(victim+context+`}`), "")
	}
	for _, body := range []string{
		fullBody, start(flow), start(flow) + `{}`, start(flow) + "\xff", `{"configurationId":1}`, `null`,
		`{"configurationId":"` + flow + `","language":1,"\u006canguage":"en-US","Language":1}`,
		`{"configurationId":"` + flow + `","language":1,"\u006canguage":"en-US"}`,
		`{"configurationId":"` + flow + `","customFields":{"a\/b":"\ud800","a":"b","a":"c"}}`,
		`{"configurationId":"` + flow + `","customFields":{"a":1.10,"b":null,"c":true},"language":null}`,
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
			fields, err = h.requestFields(&read, &exchange{})
		}
		if err != nil {
			if response.StatusCode < 400 || response.StatusCode == 503 {
				t.Fatalf("response %s to %v", out, err)
			}
			return
		}
		decode(t, encode(t, fields), &sent)
		if _, err := readFields(h.Config, encode(t, sent), false); err != nil || response.StatusCode != 503 {
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
		var want object
		if err != nil || json.Unmarshal(text, &want) != nil || e.Version != "2.0" || e.RouteKey != "POST /omni/start" {
			t.Fatalf("a session for %s", payload)
		}
		custom, _ := want["customFields"].(object)
		for _, members := range []object{want, custom} {
			maps.DeleteFunc(members, func(_ string, value any) bool { return value == nil })
		}
		want["countryCode"] = cmp.Or(want["countryCode"], any("ALL"))
		switch a := e.RequestContext.Authorizer; {
		case a == nil:
			t.Fatalf("a session for nobody: %s", payload)
		case a.JWT != nil:
			want["externalCustomerId"] = a.JWT.Claims["sub"]
		case a.Lambda != nil:
			want["externalCustomerId"] = a.Lambda["sub"]
			if number, ok := want["externalCustomerId"].(float64); ok {
				id, _ := sent["externalCustomerId"].(string)
				if read, err := strconv.ParseFloat(id, 64); err != nil || read != number {
					t.Fatalf("sent %v, want %v", id, number)
				}
				want["externalCustomerId"] = id
			}
		case a.IAM == nil:
			t.Fatalf("a session for nobody: %s", payload)
		}
		if !reflect.DeepEqual(sent, want) {
			t.Fatalf("sent %v, want %v", sent, want)
		}
	})
}

// FuzzCustomerID compares the customer that a claim in JSON makes of the caller with a second reading, and the rule for
// claims with that for the body.
func FuzzCustomerID(f *testing.F) {
	for _, s := range []string{
		"o'brien@example.com", "_Qp8", "{guid}", "CN=Jane, OU=x", "Jürgen", "名前", "a ", " a", "", "a\u202eb", "a\u00adb",
		"a\u00a0b", "a\ufffdb", "a\x00", "\ue000", "\U000e0001", "\u0378",
		strings.Repeat("é", 255), strings.Repeat("é", 256),
	} {
		f.Add(string(encode(f, s)))
	}
	for _, s := range []string{
		"0", "4711", "9007199254740993", "-1", "1.0", "1e3", "null", "true", `["a"]`, `{"a":"b"}`, ` "a" `, " 7\n",
		`"\ud800"`,
		"\"\xff\"", `"\u0061\/"`, "1" + strings.Repeat("0", 254), "1" + strings.Repeat("0", 255),
	} {
		f.Add(s)
	}
	printable := []*unicode.RangeTable{unicode.L, unicode.M, unicode.N, unicode.P, unicode.S}
	f.Fuzz(func(t *testing.T, claim string) {
		decoder := json.NewDecoder(strings.NewReader(claim))
		decoder.UseNumber()
		var value any
		if !json.Valid([]byte(claim)) || decoder.Decode(&value) != nil {
			return
		}
		want, isString := value.(string)
		if number, ok := value.(json.Number); ok && strings.Trim(number.String(), "0123456789") == "" {
			want = number.String()
		}
		runes := []rune(want)
		valid := len(runes) >= 1 && len(runes) <= 255 && runes[0] != ' ' && runes[len(runes)-1] != ' ' &&
			!slices.ContainsFunc(runes, func(r rune) bool { return r == '\ufffd' || r != ' ' && !unicode.In(r, printable...) })
		if isString && fieldOf("externalCustomerId").accepts(withRedirects, want) != valid {
			t.Errorf("in the body, %q is accepted: %t", want, !valid)
		}
		for kind, context := range map[string]string{"jwt": ofCustomer(claim), "lambda": `{"lambda":{"sub":` + claim + `}}`} {
			event := httpEvent{Version: "2.0", RouteKey: "POST /omni/start", Body: start(flow)}
			event.Headers.ContentType = "application/json"
			decode(t, []byte(context), &event.RequestContext.Authorizer)
			e := Endpoint{Config: config.Config{ConfigurationIDs: map[string]bool{"*": true}, CustomerIDClaim: "sub"}}
			fields, err := e.requestFields(&event, &exchange{})
			if valid && (err != nil || fields["externalCustomerId"] != want) ||
				!valid && (fields != nil || !errors.Is(err, problem.CustomerUnusable)) {
				t.Errorf("%s with %q: got %v, %v; want %q, valid: %t", kind, claim, fields, err, want, valid)
			}
		}
	})
}

// FuzzFieldRules compares the rules of the contract with plain loops: those of the texts for value, and those of a
// custom field for name and value.
func FuzzFieldRules(f *testing.F) {
	for _, s := range []string{
		"", "a", "ALL", "MX", "MEXI", "en-US", "kab-DZ", "abcd-US", "en-USA", flow, strings.ToUpper(flow), flow + "\n",
		"en", "es-419", "en-", "1.10", "-0.5", "1e3", "1234567890123456", "-123456789012345", "a b",
		"a#", "ſ", "K", "a\x00", "a\u0085", "a\u2028", "a\ufffd", strings.Repeat("a", 128),
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
		language, region, hasRegion := strings.Cut(value, "-")
		for field, want := range map[string]bool{
			"configurationId": consists(value, digit+"abcdef", 24, 24),
			"countryCode":     consists(value, upper, 2, 3),
			"language": consists(language, lower, 2, 3) &&
				(!hasRegion || consists(region, upper, 2, 2) || consists(region, digit, 3, 3)),
		} {
			if got := fieldOf(field).accepts(withRedirects, value); got != want {
				t.Errorf("%s %q is accepted: %t", field, value, got)
			}
		}
		number := json.Number(value)
		whole, fraction, hasFraction := strings.Cut(strings.TrimPrefix(value, "-"), ".")
		exact := consists(whole+fraction, digit, 1, 15) && whole != "" && hasFraction == (fraction != "")
		for custom, valid := range map[any]bool{value: printable(value, 256), number: exact, true: true} {
			if custom == number && !json.Valid([]byte(value)) {
				continue // not what a decoder returns
			}
			for _, byCustomer := range []bool{false, true} {
				found := checkCustomFields(withRedirects, object{name: custom}, byCustomer, "rule")
				if want := name != "" && printable(name, 64) && valid && !byCustomer; (found == nil) != want || len(found) > 1 {
					t.Errorf("custom field %q: %#v, by a customer: %t: got %v", name, custom, byCustomer, found)
				}
			}
		}
	})
}

// FuzzRedirect reads each accepted URL as browsers do. They follow another standard than Go.
func FuzzRedirect(f *testing.F) {
	for _, s := range []string{
		"https://app.example.com", "https://APP.example.com/a?b#c", "https://localhost:8443/", "https:app.example.com",
		"https://app.example.com@evil.net/", "https://app.example.com\\@evil.net/", "https://app.example.com/\t",
		"https:///app.example.com",
		"https://app%2eexample.com/", "https://app.example.com:443/", "https://app.example.com:/", "HTTPS://app.example.com/",
		"https://app.example.com.", "https://evil.net/https://app.example.com", "https://app.example.com?@evil.net",
		"https://app.example.com#@evil.net", "https://[::1]/", "https://\u212Aapp.example.com/",
		"https://%C4%B0.example.com/", "https://ki.example.com/", "https://k%C4%B0.example.com/",
	} {
		f.Add(s)
	}
	simple := regexp.MustCompile(`^https://((app|ki)\.example\.com|localhost:8443)(/[A-Za-z0-9/_.-]*)?(\?[a-z0-9=&]*)?$`)
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
		e := Endpoint{Config: config.Config{AllowUnauthenticated: true}}
		_, err := e.requestFields(event, &exchange{})
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
