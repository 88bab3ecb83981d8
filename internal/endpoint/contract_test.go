package endpoint

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"omnistart/internal/config"
	"omnistart/internal/incode"
	"omnistart/internal/strictjson"
)

var update = flag.Bool("update", false, "write openapi.json and PROBLEMS.md anew")

// entry is what the catalogue of problems tells beside the code's own table.
type entry struct {
	kind
	happened string
	session  string // whether one was started
	retry    string // whether the same request may be sent again
	remedy   string
}

const (
	no      = "No."
	perhaps = "Perhaps. If so, nobody holds its token, and it stays unused in Incode's dashboard."
	never   = "Not as it is: it would be answered in the same way."
	wait    = "Yes, after the seconds that `Retry-After` tells."
	risk    = "Only if a second session does no harm."
)

var catalogue = []entry{
	{invalidJSON, fmt.Sprintf("The body is not one well-formed JSON object: broken syntax, a repeated key, broken UTF-8, more than %d levels.", strictjson.MaxDepth), no, never, "Send what a JSON library writes."},
	{configurationNotAllowed, "The flow is well-formed, but not on the operator's list.", no, never, "Ask the operator to add it to `AllowedConfigurationIds`."},
	{customerMismatch, "The body names another customer than the access token, or the token names none that is valid.", no, never, "Leave `externalCustomerId` out. If it is, the operator must check `CustomerIdClaim`."},
	{notFound, "Another path than `/omni/start`. Incode's sample servers have `/start`.", no, never, "Send a POST request to `/omni/start`."},
	{methodNotAllowed, "Another method than POST. A GET must not start a session, since browsers and proxies repeat it.", no, never, "Send a POST request."},
	{bodyTooLarge, fmt.Sprintf("The body has more than %d KiB.", maxBody>>10), no, never, "Send less in `customFields`."},
	{unsupportedMediaType, "`Content-Type` is not `application/json` in UTF-8, or there is a `Content-Encoding`.", no, never, "Set the header, and send the body as it is."},
	{validationFailed, "One field or more break the contract. `errors` has a JSON Pointer and a reason for each.", no, never, "Correct them all."},
	{internal, "A defect of this service.", perhaps, risk, "Report the `requestId` to the operator."},
	{serviceMisconfigured, "The secret with the API key is missing, forbidden, or holds no key.", no, "Yes, once the operator has corrected it.", "The operator runs `make set-key` or corrects the permissions; the log tells which."},
	{incodeRejected, "Incode answered with a 4xx of its own.", no, never, "Check that the configuration exists in this Incode environment, demo or production."},
	{incodeUnauthorized, "Incode refused the API key, and the secret holds no newer one.", no, "Yes, once the operator has stored a valid key.", "The operator runs `make set-key`."},
	{incodeInvalidResponse, "Incode answered 2xx or 3xx, but without a usable token.", perhaps, risk, "If it lasts, the operator checks `IncodeBaseUrl`."},
	{incodeFailed, "Incode answered 5xx.", perhaps, risk, "Ask Incode if it lasts."},
	{outcomeUnknown, "The connection to Incode broke after the request had begun to leave.", perhaps, risk, "Let the person try again by hand rather than by a loop."},
	{secretUnavailable, "Secrets Manager was slow, throttled or not reached.", no, wait, "Nothing, unless it lasts."},
	{incodeUnavailable, "Incode was provably not reached, or too little time was left to call it.", no, wait, "Nothing, unless it lasts."},
	{incodeThrottled, "Incode answered 429.", no, wait, "Agree on a higher limit with Incode, or lower `ThrottlingRate`."},
	{incodeTimeout, "Incode gave no full answer in time.", perhaps, risk, "Let the person try again by hand rather than by a loop."},
}

func TestTheCatalogueIsWhole(t *testing.T) {
	source, err := os.ReadFile("problem.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`kind\{status: \d+, code: "([a-z-]+)"`).FindAllSubmatch(source, -1)
	if len(declared) < 19 || len(declared) != len(catalogue) {
		t.Errorf("the code has %d problems, the catalogue %d", len(declared), len(catalogue))
	}
	for _, d := range declared {
		if !slices.ContainsFunc(catalogue, func(e entry) bool { return e.code == string(d[1]) }) {
			t.Errorf("%s is not in the catalogue", d[1])
		}
	}
	for _, e := range catalogue {
		// The answer itself must not contradict what the catalogue says.
		if denies := strings.Contains(e.detail, "o session was started"); denies && e.session != no {
			t.Errorf("%s: its detail denies a session", e.code)
		}
		if strings.Contains(e.detail, "may have been started") != (e.session == perhaps) && e.code != "internal" {
			t.Errorf("%s: detail %q, catalogue %q", e.code, e.detail, e.session)
		}
		if (e.status == 503) != (e.retry == wait) {
			t.Errorf("%s: 503 alone has Retry-After", e.code)
		}
	}
}

// TestContract compares the published contract with what the code makes of it.
func TestContract(t *testing.T) {
	var contract bytes.Buffer
	encoder := json.NewEncoder(&contract)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(openAPI(t)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"openapi.json": contract.String(), "PROBLEMS.md": problemsMarkdown()} {
		name = "../../functions/start/" + name
		if *update {
			if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s differs from the code (%v): go test ./internal/endpoint -run TestContract -update", name, err)
		}
	}
}

func problemsMarkdown() string {
	var b strings.Builder
	b.WriteString("# Problems\n\nEvery error of the endpoint is an `application/problem+json` whose `type` is `/problems/` and one of these codes.\n" +
		"`make run` serves each entry there; on AWS it is a name that nothing serves. Made from the code's own table by `go test ./internal/endpoint -run TestContract -update`.\n")
	for _, e := range catalogue {
		fmt.Fprintf(&b, "\n## %s\n\n**%d %s.** %s\n\n- Was a session started? %s\n- May I send the same again? %s\n- What to do: %s\n", e.code, e.status, e.title, e.happened, e.session, e.retry, e.remedy)
	}
	return b.String()
}

type object = map[string]any

// openAPI describes the endpoint by what the code itself uses: its path, its
// patterns and limits, its table of problems, and its answers as examples.
func openAPI(t *testing.T) object {
	return object{
		"openapi": "3.1.0",
		"info": object{
			"title":   "omnistart",
			"version": "1",
			"summary": "Starts Incode onboarding sessions.",
			"description": fmt.Sprintf("Names are case-sensitive. Repeated keys, broken UTF-8 and nesting beyond %d levels are refused. The body has at most %d KiB. "+
				"The answers of API Gateway itself are {\"message\": …} in application/json.", strictjson.MaxDepth, maxBody>>10),
		},
		"servers":  []any{object{"url": "http://localhost:3000", "description": "make run"}},
		"security": []any{object{"jwt": []any{}}, object{"sigv4": []any{}}},
		"paths":    object{path: object{"post": operation(t)}},
		"components": object{
			"securitySchemes": object{
				"jwt":   object{"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An access token of the operator's identity provider. It names the customer."},
				"sigv4": object{"type": "apiKey", "in": "header", "name": "Authorization", "description": "AWS Signature Version 4 for the service execute-api.", "x-amazon-apigateway-authtype": "awsSigv4"},
			},
			"schemas": object{"StartRequest": startRequestSchema(), "Session": sessionSchema(), "Problem": problemSchema(), "Error": object{"anyOf": []any{ref("Problem"), ref("Message")}}, "Message": object{
				"type": "object", "description": "An answer of API Gateway itself.", "properties": object{"message": object{"type": "string"}}, "required": []string{"message"},
			}},
		},
	}
}

func operation(t *testing.T) object {
	return object{
		"operationId": "startSession",
		"summary":     "Start a session.",
		"description": "Every call that is answered 200 has started one session. Do not repeat a call after an answer that does not deny a session: see the catalogue of problems.",
		"requestBody": object{"required": true, "content": object{"application/json": object{
			"schema": ref("StartRequest"), "examples": requestExamples(t),
		}}},
		"responses": responses(),
	}
}

func ref(schema string) object { return object{"$ref": "#/components/schemas/" + schema} }

// requestExamples are bodies that the code reads without a complaint.
func requestExamples(t *testing.T) object {
	examples := object{}
	for name, text := range map[string]string{
		"least": `{"configurationId":"` + flow + `"}`,
		"all": `{"configurationId":"` + flow + `","externalCustomerId":"customer-42","countryCode":"DE","language":"de-DE",` +
			`"redirectionUrl":"https://app.example.com/done","customFields":{"plan":"premium"}}`,
	} {
		if _, err := parse([]byte(text), map[string]bool{"app.example.com": true}); err != nil {
			t.Fatalf("example %s: %v", name, err)
		}
		examples[name] = object{"value": json.RawMessage(text)}
	}
	return examples
}

func startRequestSchema() object {
	text := func(description, pattern string, more object) object {
		s := object{"type": "string", "description": description, "pattern": pattern}
		for k, v := range more {
			s[k] = v
		}
		return s
	}
	return object{
		"type": "object", "additionalProperties": false, "required": []string{"configurationId"},
		"properties": object{
			"configurationId":    text("ID of an Incode flow or workflow that the operator allows.", config.ConfigurationID.String(), nil),
			"externalCustomerId": text("Your ID of the customer. With a JWT, leave it out: it is taken from the token.", customerID.String(), object{"maxLength": maxCustomerID}),
			"countryCode":        text("Country of the documents. ALL when left out.", countryCode.String(), nil),
			"language":           text("Language of the flow.", language.String(), nil),
			"redirectionUrl":     text("Where the session sends its person at the end. Its host must be on the operator's list.", redirectURL, object{"format": "uri", "maxLength": maxURL}),
			"customFields": object{
				"type": "object", "description": "Your own data. No control characters.", "maxProperties": maxCustomFields,
				"propertyNames":        object{"minLength": 1, "maxLength": maxCustomKey, "pattern": printable},
				"additionalProperties": object{"type": "string", "maxLength": maxCustomValue, "pattern": printable},
			},
		},
	}
}

// The patterns of what the code checks without one; TestPatterns compares them.
const (
	printable   = `^[^\u0000-\u001f\u007f-\u009f]*$`
	redirectURL = `^https://[!-\[\]-~]+$`
)

// TestPatterns tries every character up to those of Asia: the last control
// character of Unicode is U+009F.
func TestPatterns(t *testing.T) {
	goSyntax := regexp.MustCompile(`\\u([0-9a-f]{4})`)
	text, address := regexp.MustCompile(goSyntax.ReplaceAllString(printable, `\x{$1}`)), regexp.MustCompile(redirectURL)
	hosts := map[string]bool{"app.example.com": true}
	for r := rune(0); r < 0x3000; r++ {
		s := "a" + string(r)
		if got := new(violations).customFields("f", object{"k": s}) != nil && text.MatchString(s) == unicode.IsControl(r); got {
			t.Fatalf("%q: the pattern and unicode.IsControl differ", r)
		}
		// The code refuses more, but nothing that the contract does not know of.
		for _, s := range []string{"https://app.example.com/" + string(r), string(r) + "ttps://app.example.com/", "https:" + string(r) + "/app.example.com/"} {
			if redirectable(s, hosts) && !address.MatchString(s) {
				t.Fatalf("%q is taken and not in the contract", s)
			}
		}
	}
	for s, want := range map[string]bool{"https://app.example.com/": true, "HTTPS://app.example.com/": false, "https:app.example.com": false} {
		if redirectable(s, hosts) != want || address.MatchString(s) != want {
			t.Errorf("%s: the code says %t, the pattern %t, want %t", s, redirectable(s, hosts), address.MatchString(s), want)
		}
	}
}

// TestTextsNameTheLimits looks for the limits in what callers are told.
func TestTextsNameTheLimits(t *testing.T) {
	told := func(body string) string {
		_, err := parse([]byte(body), nil)
		return string(problemResponse(err, "").Body)
	}
	field := func(name, value string) string { return fmt.Sprintf(`{"configurationId":%q,%q:%s}`, flow, name, value) }
	for text, want := range map[string]string{
		bodyTooLarge.detail:                                   fmt.Sprintf("at most %d KiB", maxBody>>10),
		told(field("externalCustomerId", `""`)):               fmt.Sprintf("1 to %d ", maxCustomerID),
		told(field("customFields", "1")):                      fmt.Sprintf("at most %d fields", maxCustomFields),
		told(field("customFields", `{"":""}`)):                fmt.Sprintf("1 to %d characters", maxCustomKey),
		told(field("customFields", `{"k":1}`)):                fmt.Sprintf("at most %d characters", maxCustomValue),
		told(strings.Repeat("[", 9) + strings.Repeat("]", 9)): fmt.Sprint(strictjson.MaxDepth),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
}

// TestReadmeTellsTheContract compares the README's tables.
func TestReadmeTellsTheContract(t *testing.T) {
	data, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(data)
	var want []string
	for _, e := range catalogue {
		session, _, _ := strings.Cut(strings.ToLower(e.session), ".")
		want = append(want, fmt.Sprintf("%d %s %s", e.status, e.code, session))
	}
	var got []string
	for _, row := range regexp.MustCompile("(?m)^\\| (\\d{3}) \\| `([a-z-]+)` \\| .* \\| (\\w+) \\|$").FindAllStringSubmatch(readme, -1) {
		got = append(got, strings.Join(row[1:], " "))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the README has\n%s\nthe code\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, limit := range []string{
		fmt.Sprintf("a JSON object of at most %d KiB", maxBody>>10), fmt.Sprintf("| over %d KiB |", maxBody>>10),
		fmt.Sprintf("nesting beyond %d levels", strictjson.MaxDepth), fmt.Sprintf("optional; 1 to %d of letters", maxCustomerID),
		fmt.Sprintf("at most %d strings; names up to %d characters, values up to %d,", maxCustomFields, maxCustomKey, maxCustomValue),
		fmt.Sprintf("an https URL of at most %d characters", maxURL),
		fmt.Sprintf("its `Retry-After`, %d to %d seconds", secondsToWait(0), secondsToWait(24*time.Hour)),
	} {
		if !strings.Contains(readme, limit) {
			t.Errorf("the README does not say %q", limit)
		}
	}
}

func sessionSchema() object {
	return object{"type": "object", "additionalProperties": false, "required": []string{"token"}, "properties": object{
		"token":       object{"type": "string", "pattern": "^[!-~]+$", "description": "For Incode's SDK. It is a secret of this session."},
		"interviewId": object{"type": "string", "description": "Present where the operator has set ReturnInterviewId."},
	}}
}

func problemSchema() object {
	types := make([]string, len(catalogue))
	for i, e := range catalogue {
		types[i] = "/problems/" + e.code
	}
	text := object{"type": "string"}
	return object{
		"type": "object", "description": "RFC 9457.", "additionalProperties": false,
		"required": []string{"type", "title", "status", "detail", "requestId"},
		"properties": object{
			"type":      object{"type": "string", "format": "uri-reference", "enum": types, "description": "Stable. PROBLEMS.md has an entry for each."},
			"title":     text,
			"status":    object{"type": "integer", "minimum": 400, "maximum": 599},
			"detail":    object{"type": "string", "description": "What the caller can do."},
			"requestId": object{"type": "string", "description": "Finds the log line."},
			"errors": object{"type": "array", "minItems": 1, "description": "Of validation-failed alone: every violation.", "items": object{
				"type": "object", "additionalProperties": false, "required": []string{"pointer", "detail"},
				"properties": object{"pointer": object{"type": "string", "description": "JSON Pointer (RFC 6901) into the body."}, "detail": text},
			}},
		},
	}
}

// exampleOf returns the body that the code answers with.
func exampleOf(k kind) json.RawMessage {
	refused := &refusal{kind: k}
	switch k.code {
	case "validation-failed":
		refused.violations = violations{{"/countryCode", "Must be ALL or a country code of 2 or 3 upper-case letters."}}
	case "invalid-json":
		refused.reason = "an object holds the same key twice"
	}
	return json.RawMessage(problemResponse(refused, "0195429e-be7f-454f-a379-f9921dfca4a9").Body)
}

// gateway holds the answers that API Gateway gives by itself.
var gateway = map[int]string{
	400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 413: "Request Entity Too Large",
	429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable", 504: "Endpoint request timed out",
}

func responses() object {
	ok := newResponse(200, "application/json", object{"token": "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiQUNDRVNTIn0.c2ln"})
	all := object{"200": object{
		"description": "A session was started.",
		"headers":     object{"Cache-Control": header("no-store", object{"const": ok.Headers.CacheControl})},
		"content":     object{ok.Headers.ContentType: object{"schema": ref("Session"), "examples": object{"session": object{"value": json.RawMessage(ok.Body)}}}},
	}}
	codes := map[int][]entry{}
	for _, e := range catalogue {
		codes[e.status] = append(codes[e.status], e)
	}
	for status := range gateway {
		codes[status] = append(codes[status], nil...)
	}
	for status, entries := range codes {
		description, examples, content, headers := []string{}, object{}, object{}, object{}
		for _, e := range entries {
			description = append(description, e.code+": "+e.happened)
			examples[e.code] = object{"value": exampleOf(e.kind)}
		}
		if len(entries) > 0 {
			answer := problemResponse(&incode.Error{Outcome: incode.Throttled, RetryAfter: 7 * time.Second}, "")
			content["application/problem+json"] = object{"schema": ref("Problem"), "examples": examples}
			headers["Cache-Control"] = header("no-store", object{"const": answer.Headers.CacheControl})
		}
		if message, ok := gateway[status]; ok {
			description = append(description, "API Gateway: "+message+".")
			schema := ref("Message")
			if len(entries) > 0 { // generators of clients know one media type for each status
				schema = ref("Error")
			}
			content["application/json"] = object{"schema": schema, "example": object{"message": message}}
		}
		switch status {
		case http.StatusMethodNotAllowed:
			headers["Allow"] = header("The method that is allowed.", object{"const": problemResponse(&refusal{kind: methodNotAllowed}, "").Headers.Allow})
		case http.StatusServiceUnavailable:
			headers["Retry-After"] = header("Seconds to wait.", object{"type": "integer", "minimum": secondsToWait(0), "maximum": secondsToWait(24 * time.Hour)})
		}
		all[strconv.Itoa(status)] = object{"description": cmp.Or(strings.Join(description, " "), http.StatusText(status)), "headers": headers, "content": content}
	}
	return all
}

// secondsToWait returns what a caller is told when Incode asks for a time.
func secondsToWait(wish time.Duration) int {
	s, _ := strconv.Atoi(problemResponse(&incode.Error{Outcome: incode.Throttled, RetryAfter: wish}, "").Headers.RetryAfter)
	return s
}

func header(description string, schema object) object {
	return object{"description": description, "schema": schema}
}
