package endpoint

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"omnistart/internal/config"
	"omnistart/internal/incode"
	"omnistart/internal/strictjson"
)

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
