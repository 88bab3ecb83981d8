package endpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"omnistart/internal/strictjson"
)

var update = flag.Bool("update", false, "write openapi.json and PROBLEMS.md anew")

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
		name = "../../functions/start/docs/" + name
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

// TestFieldsOfTheContract compares the fields that the code knows with those of
// the contract.
func TestFieldsOfTheContract(t *testing.T) {
	source, err := os.ReadFile("request.go")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(source), "\nfunc parse(")
	body, _, _ = strings.Cut(body, "\n}\n")
	want := []string{"interviewId", "uuid", "externalId"} // which are refused by name
	want = slices.AppendSeq(want, maps.Keys(startRequestSchema()["properties"].(object)))
	var got []string
	for _, label := range regexp.MustCompile(`(?m)^\t+case (.*):$`).FindAllStringSubmatch(body, -1) {
		for name := range strings.SplitSeq(label[1], ", ") {
			got = append(got, strings.Trim(name, `"`))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the code knows %q, the contract %q", got, want)
	}
}

// TestReadmeTellsTheContract compares the README's tables and its example.
func TestReadmeTellsTheContract(t *testing.T) {
	data, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(data)
	var want []string
	for _, e := range catalogue {
		session, _, _ := strings.Cut(strings.ToLower(e.session), ".")
		want = append(want, fmt.Sprintf("| %d | `%s` | %s | %s |", e.status, e.code, e.happened, session))
	}
	if got := regexp.MustCompile("(?m)^\\| \\d{3} \\| `[a-z-]+` \\| .* \\| .* \\|$").FindAllString(readme, -1); !slices.Equal(got, want) {
		t.Errorf("the README has\n%s\nthe code\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	plain := strings.NewReplacer("`. _ : @ + \\| ~ = / -`", ". _ : @ + | ~ = / -").Replace(readme)
	for name := range startRequestSchema()["properties"].(object) {
		_, err := parse(fmt.Appendf(nil, `{%q:null}`, name), nil)
		refused, _ := errors.AsType[*refusal](err)
		i := slices.IndexFunc(refused.violations, func(v violation) bool { return v.Pointer == "/"+name })
		rule := strings.TrimSuffix(strings.TrimPrefix(refused.violations[i].Detail, "Must be "), ".")
		if row := fmt.Sprintf("| `%s` | %s |", name, rule); !strings.Contains(plain, row) {
			t.Errorf("the README has no row that begins with %s", row)
		}
	}
	for _, text := range []string{
		fmt.Sprintf("a JSON object of at most %d KiB", maxBody>>10), fmt.Sprintf("nesting beyond %d levels", strictjson.MaxDepth),
		fmt.Sprintf("names up to %d characters, values up to %d,", maxCustomKey, maxCustomValue), fmt.Sprintf("at most %d characters, with no user", maxURL),
		fmt.Sprintf("| %s | ", gatewayStatuses(false)), fmt.Sprintf("| %s | ", gatewayStatuses(true)),
	} {
		if !strings.Contains(readme, text) {
			t.Errorf("the README does not say %q", text)
		}
	}
	_, example, _ := strings.Cut(readme, "```\n{\"type\":")
	example, _, _ = strings.Cut(`{"type":`+example, "```")
	var got, made any
	if err := errors.Join(json.Unmarshal([]byte(example), &got), json.Unmarshal(exampleOf(validationFailed), &made)); err != nil || !reflect.DeepEqual(got, made) {
		t.Errorf("the README's example is %s, the code's %s (%v)", example, exampleOf(validationFailed), err)
	}
}
