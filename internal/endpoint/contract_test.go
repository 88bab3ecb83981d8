package endpoint

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

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
