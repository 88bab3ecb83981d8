package endpoint

import (
	"encoding/json"
	"fmt"
	"maps"
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
			"description": fmt.Sprintf("Names are case-sensitive. Repeated keys, broken UTF-8 and nesting beyond %d levels are refused. The body has at most %d KiB.\n\n%s\n\n"+
				"Made from the code by `go test ./internal/endpoint -run TestContract -update`.", strictjson.MaxDepth, maxBody>>10, unanswered()),
		},
		"externalDocs": object{"url": "https://developer.incode.com/docs/start-onboarding-session", "description": "Incode's own call, which this endpoint makes for you."},
		"servers": []any{
			object{"url": "https://{api}.execute-api.{region}.amazonaws.com", "description": "A deployed stack: its output Url, without the path.", "variables": object{
				"api":    object{"default": "abcde12345", "description": "ID of the API."},
				"region": object{"default": "us-east-1"},
			}},
			object{"url": "http://localhost:3000", "description": "make run"},
		},
		"security": []any{object{"jwt": []any{}}, object{"sigv4": []any{}}},
		"tags":     []any{object{"name": "sessions"}},
		"paths":    object{path: object{"post": operation(t)}},
		"components": object{
			"securitySchemes": object{
				"jwt":   object{"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An access token of the operator's identity provider. It names the customer. A deployment takes this or sigv4, as its output AuthMode says."},
				"sigv4": object{"type": "apiKey", "in": "header", "name": "Authorization", "description": "AWS Signature Version 4 for the service execute-api.", "x-amazon-apigateway-authtype": "awsSigv4"},
			},
			"schemas": object{
				"StartRequest": startRequestSchema(), "Session": sessionSchema(), "Problem": problemSchema(),
				"Message": object{
					"type": "object", "description": "An answer of API Gateway itself.", "properties": object{"message": object{"type": "string"}}, "required": []string{"message"},
				},
				"Error": object{"description": "A Message. Problem is named for generators of clients, which know one schema for each status.", "anyOf": []any{ref("Problem"), ref("Message")}},
			},
		},
	}
}

func operation(t *testing.T) object {
	return object{
		"operationId": "startSession",
		"tags":        []string{"sessions"},
		"summary":     "Start a session.",
		"description": "Every call that is answered 200 has started one session. The description of each problem tells whether a session was started, and whether the same call may be sent again.",
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
	text := func(description, pattern, example string, more object) object {
		s := object{"type": "string", "description": description, "pattern": pattern, "examples": []string{example}}
		maps.Copy(s, more)
		return s
	}
	return object{
		"type": "object", "description": "What Incode's own call takes, less what names an existing session.",
		"additionalProperties": false, "required": []string{"configurationId"},
		"properties": object{
			"configurationId":    text("ID of an Incode flow or workflow that the operator allows.", config.ConfigurationID.String(), flow, nil),
			"externalCustomerId": text("Your ID of the customer. With a JWT, leave it out: it is taken from the token.", customerID.String(), "customer-42", object{"maxLength": maxCustomerID}),
			"countryCode":        text("Country of the documents. ALL when left out.", countryCode.String(), "DE", nil),
			"language":           text("Language of the flow. Incode decides when it is left out.", language.String(), "en-US", nil),
			"redirectionUrl": text("Where the session sends its person at the end. Its host must be on the operator's list. No user before the host, and no % without two hex digits.",
				redirectURL, "https://app.example.com/done", object{"format": "uri", "maxLength": maxURL}),
			"customFields": object{
				"type": "object", "description": "Your own data. No control characters.", "maxProperties": maxCustomFields, "examples": []any{object{"plan": "premium"}},
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

// TestPatterns tries every character up to those of Asia, one at a time: the last
// control character of Unicode is U+009F.
func TestPatterns(t *testing.T) {
	goSyntax := regexp.MustCompile(`\\u([0-9a-f]{4})`)
	text, address := regexp.MustCompile(goSyntax.ReplaceAllString(printable, `\x{$1}`)), regexp.MustCompile(redirectURL)
	hosts := map[string]bool{"app.example.com": true}
	for r := rune(0); r < 0x3000; r++ {
		s := "a" + string(r)
		if got := new(violations).customFields("f", object{"k": s}) != nil && text.MatchString(s) == unicode.IsControl(r); got {
			t.Fatalf("%q: the pattern and unicode.IsControl differ", r)
		}
		for _, s := range []string{"https://app.example.com/" + string(r), string(r) + "ttps://app.example.com/", "https:" + string(r) + "/app.example.com/"} {
			if redirectable(s, hosts) != address.MatchString(s) && r != '%' { // which must begin an escape
				t.Fatalf("%q: the code says %t, the pattern the opposite", s, redirectable(s, hosts))
			}
		}
	}
	for s, want := range map[string]bool{"https://app.example.com/": true, "HTTPS://app.example.com/": false, "https:app.example.com": false} {
		if redirectable(s, hosts) != want || address.MatchString(s) != want {
			t.Errorf("%s: the code says %t, the pattern %t, want %t", s, redirectable(s, hosts), address.MatchString(s), want)
		}
	}
}

// Answers may gain members, which a client is to ignore. In the calls of
// test_contract.py there are none today.

func sessionSchema() object {
	return object{"type": "object", "description": "A session that was started.", "required": []string{"token"}, "properties": object{
		"token":       object{"type": "string", "pattern": "^[!-~]+$", "description": "For Incode's SDK. It is a secret of this session, and reportedly lives about 90 days."},
		"interviewId": object{"type": "string", "description": "Incode's ID of the session. Present where the operator has set ReturnInterviewId."},
	}}
}

func problemSchema() object {
	types := make([]string, len(catalogue))
	for i, e := range catalogue {
		types[i] = "/problems/" + e.code
	}
	text := object{"type": "string"}
	return object{
		"type": "object", "description": "Why no session is handed out (RFC 9457).",
		"required": []string{"type", "title", "status", "detail", "requestId"},
		"properties": object{
			"type": object{"description": "What is wrong. These are stable, and more may come: treat one that you do not know by its status.",
				"anyOf": []any{object{"type": "string", "enum": types}, object{"type": "string", "format": "uri-reference"}}},
			"title":     text,
			"status":    object{"type": "integer", "minimum": 400, "maximum": 599},
			"detail":    object{"type": "string", "description": "What the caller can do."},
			"requestId": object{"type": "string", "description": "Give it to the operator: it identifies the log line."},
			"errors": object{"type": "array", "minItems": 1, "description": "Of validation-failed alone: every violation.", "items": object{
				"type": "object", "required": []string{"pointer", "detail"},
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

func responses() object {
	session := func(body object) object {
		return object{"value": json.RawMessage(newResponse(200, "application/json", body).Body)}
	}
	const token = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiQUNDRVNTIn0.c2ln"
	ok := newResponse(200, "application/json", nil)
	all := object{"200": object{
		"description": "A session was started.",
		"headers":     headersOf(200, ok),
		"content": object{ok.Headers.ContentType: object{"schema": ref("Session"), "examples": object{
			"token": session(object{"token": token}), "interviewId": session(object{"token": token, "interviewId": interviewID}),
		}}},
	}}
	codes := map[int][]entry{}
	for _, e := range catalogue {
		codes[e.status] = append(codes[e.status], e)
	}
	for status := range gateway {
		codes[status] = append(codes[status], nil...)
	}
	for status, entries := range codes {
		description, examples, content, headers := []string{}, object{}, object{}, gatewayHeaders()
		for _, e := range entries {
			description = append(description, e.code+": "+e.happened)
			examples[e.code] = object{"value": exampleOf(e.kind), "summary": e.title, "description": fmt.Sprintf(
				"%s\n\n- Was a session started? %s\n- May I send the same again? %s\n- What to do: %s", e.happened, e.session, e.retry, e.remedy)}
			headers = headersOf(status, problemResponse(&refusal{kind: e.kind}, ""))
			content["application/problem+json"] = object{"schema": ref("Problem"), "examples": examples}
		}
		if answer, ok := gateway[status]; ok {
			description = append(description, "API Gateway: "+answer.message+".")
			schema := ref("Message")
			if len(entries) > 0 {
				schema = ref("Error")
			}
			content["application/json"] = object{"schema": schema, "example": object{"message": answer.message}}
		}
		if status == http.StatusUnauthorized {
			headers["WWW-Authenticate"] = object{"description": "API Gateway's, with a JWT alone.", "schema": object{"type": "string"}}
		}
		all[strconv.Itoa(status)] = object{"description": strings.Join(description, " "), "headers": headers, "content": content}
	}
	return all
}

func gatewayHeaders() object {
	return object{"Apigw-Requestid": object{"description": "API Gateway's ID of the call: apiRequestId in the log.", "schema": object{"type": "string"}}}
}

// headersOf describes the headers of an answer. They are required where API
// Gateway, which has others, never gives that status by itself.
func headersOf(status int, answer response) object {
	headers := gatewayHeaders()
	_, shared := gateway[status]
	header := func(name, description string, schema object) {
		headers[name] = object{"description": description, "schema": schema, "required": !shared}
	}
	header("Cache-Control", "No cache may keep an answer.", object{"const": answer.Headers.CacheControl})
	if answer.Headers.Allow != "" {
		header("Allow", "The method that is allowed.", object{"const": answer.Headers.Allow})
	}
	if answer.Headers.RetryAfter != "" {
		header("Retry-After", "Seconds to wait.", object{"type": "integer", "minimum": secondsToWait(0), "maximum": secondsToWait(24 * time.Hour)})
	}
	return headers
}

// secondsToWait returns what a caller is told when Incode asks for a time.
func secondsToWait(wish time.Duration) int {
	s, _ := strconv.Atoi(problemResponse(&incode.Error{Outcome: incode.Throttled, RetryAfter: wish}, "").Headers.RetryAfter)
	return s
}
