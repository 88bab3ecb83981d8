package endpoint

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"omnistart/internal/config"
	"omnistart/internal/incode"
	"omnistart/internal/problem"
)

var update = flag.Bool("update", false, "write openapi.json and PROBLEMS.md")

// TestContract compares the published contract and the catalogue of problems with the code. What the code does not
// know, such as the servers, is maintained in openapi.json itself: -update replaces only the other parts of it.
func TestContract(t *testing.T) {
	const folder = "../../functions/start/docs/"
	published, err := os.ReadFile(folder + "openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var document object
	decode(t, published, &document)
	schema, examples := startRequest(t)
	operation := document["paths"].(object)["/omni/start"].(object)["post"].(object)
	operation["requestBody"].(object)["content"].(object)["application/json"].(object)["examples"] = examples
	operation["responses"] = responses()
	schemas := document["components"].(object)["schemas"].(object)
	schemas["StartRequest"] = schema
	properties := schemas["Problem"].(object)["properties"].(object)
	properties["type"].(object)["anyOf"].([]any)[0].(object)["enum"] = problemTypes()
	properties["sessionStarted"].(object)["enum"] = []string{problem.No, problem.Perhaps}
	document["info"].(object)["description"] = fmt.Sprintf("Names are case-sensitive. %s The body has at most %d KiB."+
		"\n\n%s", lenience, maxBody>>10, gatewayNote())

	var openAPI bytes.Buffer
	encoder := json.NewEncoder(&openAPI)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(document); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"openapi.json": openAPI.String(), "PROBLEMS.md": problemsMarkdown()} {
		if *update {
			if err := os.WriteFile(folder+name, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(folder + name); err != nil || string(got) != want {
			t.Errorf("%s differs from the code (%v): run go test ./internal/endpoint -run TestContract -update", name, err)
		}
	}
}

type object = map[string]any

func ref(schema string) object { return object{"$ref": "#/components/schemas/" + schema} }

func problemTypes() (types []string) {
	for _, p := range problem.All {
		types = append(types, "/problems/"+p.Code)
	}
	return types
}

// noControl is the rule for the texts of customFields as a pattern of JSON Schema.
const noControl = `^[^\u0000-\u001f\u007f-\u009f\ufffd]*$`

func TestPatternOfCustomFieldsIsTheRuleOfTheCode(t *testing.T) {
	pattern := regexp.MustCompile(regexp.MustCompile(`\\u([0-9a-f]{4})`).ReplaceAllString(noControl, `\x{$1}`))
	for r := rune(0); r <= 0xffff; r++ {
		if s := "a" + string(r); pattern.MatchString(s) != hasOnly(notControl, s, 2) {
			t.Fatalf("%q: the pattern and the code differ", r)
		}
	}
}

// printable explains the format customer-id, which has no pattern: regular expressions differ between languages.
const printable = " Printable are letters, marks, numbers, punctuation and symbols of Unicode, and the space U+0020."

// startRequest returns the schema of the request, and examples that the code has validated.
func startRequest(t *testing.T) (schema, examples object) {
	t.Helper()
	required, properties, least, longest := []string{}, object{}, object{}, object{}
	for _, f := range contract {
		if f.example == "" {
			continue // a field that is always refused
		}
		// null stands for a field that is left out.
		property := object{"type": []string{"string", "null"}, "description": f.description + " " + f.rule}
		longest[f.name] = f.example
		if f.required {
			required, least[f.name], property["type"] = append(required, f.name), f.example, "string"
		}
		if f.name == customFields {
			longest[f.name] = json.RawMessage(f.example)
			property["type"], property["maxProperties"] = []string{"object", "null"}, maxCustomFields
			property["propertyNames"] = object{"minLength": 1, "maxLength": maxCustomName, "pattern": noControl}
			property["additionalProperties"] = object{
				"type": []string{"string", "number", "boolean", "null"}, "maxLength": maxCustomText, "pattern": noControl,
				"minimum": -999_999_999_999_999, "maximum": 999_999_999_999_999,
			}
		}
		if f.pattern != nil {
			property["pattern"] = f.pattern.String()
		}
		if f.maxLength > 0 {
			property["maxLength"] = f.maxLength
		}
		if f.format != "" {
			property["format"], property["minLength"] = f.format, 1
			property["description"] = property["description"].(string) + printable
		}
		property["examples"] = []any{longest[f.name]}
		properties[f.name] = property
	}
	examples = object{"required": object{"value": least}, "all": object{"value": longest}}
	for name, body := range map[string]object{"required": least, "all": longest} {
		if _, err := readFields(withRedirects, encode(t, body), false); err != nil {
			t.Errorf("the example %s is not valid: %v", name, err)
		}
	}
	return object{
		"type": "object", "additionalProperties": false, "required": required, "properties": properties,
		"description": "The fields of Incode's own request, without those that name an existing session. " +
			"interviewId and uuid may be null.",
	}, examples
}

// exampleOf returns the code's own response with a problem.
func exampleOf(p *problem.Problem) response {
	x := &exchange{requestID: lambdaRequestID, err: p}
	if p == problem.ValidationFailed {
		x.err = violations{{"/countryCode", fieldOf("countryCode").rule}}
	}
	return new(Endpoint).response(x)
}

var exampleSession = incode.Session{
	Token: "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiQUNDRVNTIn0.c2ln", InterviewID: "6a0f3c9d1b2e4f5a6b7c8d9e",
}

func responses() object {
	session := &exchange{Session: exampleSession}
	ok := new(Endpoint).response(session)
	withID := Endpoint{Config: config.Config{ReturnInterviewID: true}}
	all := object{"200": object{"description": "A session was started.", "headers": headersOf(&ok), "content": object{
		ok.Headers.ContentType: object{"schema": ref("Session"), "examples": object{
			"token":       object{"value": json.RawMessage(ok.Body)},
			"interviewId": object{"value": json.RawMessage(withID.response(session).Body)},
		}},
	}}}
	byStatus := map[int][]*problem.Problem{}
	for _, p := range problem.All {
		byStatus[p.Status] = append(byStatus[p.Status], p)
	}
	for status := range gateway {
		byStatus[status] = append(byStatus[status], nil...) // a status that only API Gateway has
	}
	for status, problems := range byStatus {
		descriptions, examples, content, headers := []string{}, object{}, object{}, headersOf(nil)
		for _, p := range problems {
			r := exampleOf(p)
			descriptions = append(descriptions, p.Code+": "+catalogue[p].happened)
			examples[p.Code] = object{
				"summary": p.Title, "description": catalogueEntry(p), "value": json.RawMessage(r.Body),
			}
			headers = headersOf(&r)
			content[r.Headers.ContentType] = object{"schema": ref("Problem"), "examples": examples}
		}
		if answer, ok := gateway[status]; ok {
			descriptions = append(descriptions, "API Gateway: "+answer.message+".")
			schema := ref("Message")
			if len(problems) > 0 {
				schema = ref("Error")
			}
			content["application/json"] = object{"schema": schema, "example": object{"message": answer.message}}
		}
		if status == http.StatusUnauthorized {
			headers["WWW-Authenticate"] = object{
				"description": "Of API Gateway. Only with a JWT.", "schema": object{"type": "string"},
			}
		}
		all[strconv.Itoa(status)] = object{
			"description": strings.Join(descriptions, " "), "headers": headers, "content": content,
		}
	}
	return all
}

// headersOf describes the headers of a response of the code, or of API Gateway itself for nil. They are required unless
// API Gateway, which has other headers, also gives that status.
func headersOf(r *response) object {
	headers := object{"Apigw-Requestid": object{
		"description": "API Gateway's ID of the request: apiRequestId in the log.", "schema": object{"type": "string"},
	}}
	if r == nil {
		return headers
	}
	_, shared := gateway[r.StatusCode]
	headers["Cache-Control"] = object{"description": "No cache may keep a response.", "required": !shared,
		"schema": object{"const": r.Headers.CacheControl}}
	if r.Headers.RetryAfter != "" {
		headers["Retry-After"] = object{"description": "Seconds to wait.", "required": !shared,
			"schema": object{"type": "integer", "minimum": retryAfterOf(0), "maximum": retryAfterOf(24 * time.Hour)}}
	}
	return headers
}

// retryAfterOf returns the seconds in Retry-After when Incode asks for this time.
func retryAfterOf(wait time.Duration) int {
	r := new(Endpoint).response(&exchange{err: problem.IncodeThrottled, Session: incode.Session{RetryAfter: wait}})
	seconds, _ := strconv.Atoi(r.Headers.RetryAfter)
	return seconds
}
