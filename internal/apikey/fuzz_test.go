package apikey

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// FuzzParse wants the key that stands in the secret or none, every key that is
// fit for a header, and no word of the secret in an error.
func FuzzParse(f *testing.F) {
	for _, s := range []string{canary, " a\n", "a b", "a\x7f", "a\u00a0", `{"apiKey":"x"}`, `{"apiKey":" x\n","n":1}`, `{"apiKey":"a","apiKey":"b"}`,
		`{"apikey":"x"}`, `{"apiKey":1}`, `["x"]`, `"x"`, "", strings.Repeat("k", maxLength), strings.Repeat("k", maxLength+1)} {
		f.Add(s)
	}
	fit := regexp.MustCompile(`^[!-~]+$`)
	reason := regexp.MustCompile(`^(the key (is empty|is too long|holds characters other than visible ASCII)|the JSON object has no string apiKey|` +
		`it begins like JSON: (not one JSON object and nothing else|an object holds the same key twice|the text is not valid UTF-8|` +
		`a string holds half of a surrogate pair|the nesting is too deep))$`)
	f.Fuzz(func(t *testing.T, text string) {
		key, err := parse(text)
		if err != nil && (key != "" || !reason.MatchString(err.Error())) {
			t.Fatalf("a key of %d bytes and the error %v", len(key), err)
		}
		plain := strings.TrimSpace(text)
		if !strings.ContainsAny(plain[:min(len(plain), 1)], `{["`) {
			if good := fit.MatchString(plain) && len(plain) <= maxLength; good != (err == nil) || good && key != plain {
				t.Fatalf("%q: got %q, %v", text, key, err)
			}
			return
		}
		if err != nil {
			return
		}
		var object map[string]any
		if err := json.Unmarshal([]byte(text), &object); err != nil {
			t.Fatalf("%q: not JSON, but got %q", text, key)
		}
		if want, _ := object["apiKey"].(string); key != strings.TrimSpace(want) || !fit.MatchString(key) || len(key) > maxLength {
			t.Fatalf("%q: got %q", text, key)
		}
	})
}
