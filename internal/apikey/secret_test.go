package apikey

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"omnistart/internal/problem"
	"omnistart/internal/tooling/leaktest"
	"omnistart/internal/tooling/secretsmanagertest"
)

func TestErrorCodeDeterminesTheProblem(t *testing.T) {
	for want, codes := range map[*problem.Problem][]string{
		problem.ServiceMisconfigured: {
			"AccessDenied", "AccessDeniedException", "DecryptionFailure", "IncompleteSignature", "InvalidClientTokenId",
			"InvalidParameterException", "InvalidRequestException", "InvalidSignatureException", "NotAuthorized",
			"OptInRequired", "ResourceNotFoundException", "UnrecognizedClientException", "ValidationError",
			"ValidationException",
		},
		problem.SecretUnavailable: {
			"ThrottlingException", "InternalServiceError", "ServiceUnavailable", "Unknown",
			"ExpiredTokenException", // Lambda renews the credentials
		},
	} {
		for _, code := range codes {
			server, store := newStore()
			server.Put(secretID, canary)
			server.Fail(code, 400)
			if _, err := store.Get(t.Context(), Key{}); !errors.Is(err, want) || !strings.Contains(err.Error(), code) {
				t.Errorf("%s: got %v", code, err)
			}
		}
	}
	t.Run("no response", func(t *testing.T) {
		_, store := newStore(func(o *secretsmanager.Options) {
			o.HTTPClient = smithyhttp.ClientDoFunc(func(*http.Request) (*http.Response, error) { return nil, io.EOF })
		})
		if _, err := store.Get(t.Context(), Key{}); !errors.Is(err, problem.SecretUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}

func TestSecretWithoutAKeyIsAMisconfiguration(t *testing.T) {
	for name, tt := range map[string]struct {
		put   func(*secretsmanagertest.Server)
		cause string
	}{
		"no value yet": {func(s *secretsmanagertest.Server) { s.Create(secretID) }, "ResourceNotFoundException"},
		"binary": {func(s *secretsmanagertest.Server) { s.PutBinary(secretID, []byte(canary)) },
			"the secret contains binary data, not text"},
		"no key": {func(s *secretsmanagertest.Server) { s.Put(secretID, canary+" "+canary) }, "the secret is neither a key"},
	} {
		t.Run(name, func(t *testing.T) {
			server, store := newStore()
			tt.put(server)
			_, err := store.Get(t.Context(), Key{})
			if !errors.Is(err, problem.ServiceMisconfigured) || !strings.Contains(err.Error(), tt.cause) {
				t.Errorf("got %v, want %s", err, tt.cause)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("the error quotes the secret: %v", err)
			}
		})
	}
}

// noKey is the error of parse.
const noKey = "the secret is neither a key of 1 to 1024 visible ASCII characters, " +
	"nor a JSON object with such a key as apiKey or as its only member"

func TestResponseWithoutASecretIsTemporary(t *testing.T) {
	for _, tt := range []struct{ body, cause string }{
		{"", "the response contains no secret"},
		{"{}", "the response contains no secret"},
		{`{"status":"ok"}`, "the response contains no secret"},
		{`{"VersionId":"v1"}`, "the response contains no secret"},
		{`{"SecretString":"` + canary + `"}`, "the response contains no secret"},
		{`{"SecretString":"s","VersionId":"` + strings.Repeat("v", 65) + `"}`, "the response contains no secret"},
		{"<html>" + canary, "deserialization failed"},
		{`{"SecretString":["` + canary + `"],"VersionId":"v1"}`, "deserialization failed"},
	} {
		_, store := newStore(func(o *secretsmanager.Options) {
			o.HTTPClient = smithyhttp.ClientDoFunc(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(tt.body))}, nil
			})
		})
		_, err := store.Get(t.Context(), Key{})
		if !errors.Is(err, problem.SecretUnavailable) || !strings.Contains(err.Error(), tt.cause) ||
			strings.Contains(err.Error(), canary) {
			t.Errorf("%s: got %v, want %s", tt.body, err, tt.cause)
		}
	}
}

func TestErrorQuotesLittleOfAWS(t *testing.T) {
	for _, text := range []string{"x", "\x00", "\u2028", "é", "\xff", "\n", "\"", "\U0001F600"} {
		excerpt := Excerpt(strings.Repeat(text, 100_000))
		if inJSON, _ := json.Marshal(excerpt); len(excerpt) != 600 || len(inJSON) > 2*600+2 {
			t.Errorf("%q: %d characters, %d in JSON", text, len(excerpt), len(inJSON))
		}
	}
	const text = "User: arn:aws:sts::123456789012:assumed-role/x is not authorized (~)"
	if Excerpt(text) != text || Excerpt("a\r\nb") != "a  b" {
		t.Errorf("got %q and %q", Excerpt(text), Excerpt("a\r\nb"))
	}
	_, store := newStore(func(o *secretsmanager.Options) {
		o.HTTPClient = smithyhttp.ClientDoFunc(func(*http.Request) (*http.Response, error) {
			body := `{"__type":"AccessDeniedException","Message":"` + strings.Repeat("x", 300_000) + `"}`
			return &http.Response{StatusCode: 400, Body: io.NopCloser(strings.NewReader(body))}, nil
		})
	})
	_, err := store.Get(t.Context(), Key{})
	if !errors.Is(err, problem.ServiceMisconfigured) || len(err.Error()) > 650 {
		t.Errorf("an error of %d bytes: %.99s", len(err.Error()), err)
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct{ name, text, key string }{ // without a key, the text is refused
		{"key", canary, canary},
		{"white space around it", "\n " + canary + "\r\n", canary},
		{"byte order mark", "\ufeff" + canary + "\r\n", canary},
		{"byte order mark before JSON", "\ufeff{\"apiKey\":\"" + canary + "\"}", canary},
		{"two byte order marks", "\ufeff\ufeff" + canary, ""},
		{"byte order mark alone", "\ufeff", ""},
		{"first and last visible character", "!~", "!~"},
		{"1024 bytes", strings.Repeat("a", 1024), strings.Repeat("a", 1024)},
		{"1025 bytes", strings.Repeat("a", 1025), ""},
		{"empty", "", ""},
		{"white space", " \n", ""},
		{"line feed inside", "a\nb", ""},
		{"space inside", "a b", ""},
		{"DEL", "a\x7f", ""},
		{"not ASCII", "schlüssel", ""},
		{"key/value form of the console", `{"apiKey":"` + canary + `"}`, canary},
		{"white space in JSON", " {\"apiKey\" : \" " + canary + "\\n\" , \"other\": 1}\n", canary},
		{"two keys", `{"apiKey":"a","apiKey":"` + canary + `"}`, canary},
		{"another name", `{"INCODE_API_KEY":"` + canary + `"}`, canary},
		{"no name", `{"":"` + canary + `"}`, canary},
		{"empty key in JSON", `{"apiKey":""}`, ""},
		{"line feed in JSON", `{"apiKey":"a\nb"}`, ""},
		{"no member", "{}", ""},
		{"two members of other names", `{"a":"x","b":"y"}`, ""},
		{"two members, one in another case", `{"apikey":"x","b":"y"}`, ""},
		{"number", `{"apiKey":1}`, ""},
		{"number under another name", `{"key":1}`, ""},
		{"object in an object", `{"key":{"apiKey":"x"}}`, ""},
		{"broken JSON", `{"apiKey":"` + canary, ""},
		{"two objects", `{"apiKey":"` + canary + `"}{}`, ""},
		{"string", `"` + canary + `"`, ""},
		{"array", `["` + canary + `"]`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key, err := parse(tt.text)
			if key != tt.key || (err == nil) != (tt.key != "") || err != nil && err.Error() != noKey {
				t.Errorf("got %q, %v; want %q", key, err, tt.key)
			}
		})
	}
}

func TestKeyIsNeverShown(t *testing.T) {
	key := NewKey(canary, "v1")
	for _, v := range []any{
		key, &key, []Key{key}, struct{ K Key }{key}, struct{ k Key }{key}, map[string]any{"k": key}, map[Key]bool{key: true},
		&Store{key: key},
	} {
		leaktest.Check(t, v, canary)
	}
}

// FuzzParse checks that every key can be sent in a header and is part of the secret, and that no error quotes it.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		canary, " a\n", "\ufeffa", `{"key":"x"}`, `{"a":"x","b":"y"}`,
		"a b", "a\x7f", "a\u00a0", `{"apiKey":"x"}`, `{"apiKey":" x\n","n":1e999}`,
		`{"apiKey":"a","apiKey":"b"}`, `{"apikey":"x"}`, `{"apiKey":1}`, `["x"]`, `"x"`, "",
		strings.Repeat("k", 1024), strings.Repeat("k", 1025),
	} {
		f.Add(s)
	}
	fit := regexp.MustCompile(`^[!-~]+$`)
	f.Fuzz(func(t *testing.T, text string) {
		want := strings.TrimSpace(strings.TrimPrefix(text, "\ufeff"))
		if strings.HasPrefix(want, "{") || strings.HasPrefix(want, "[") || strings.HasPrefix(want, `"`) {
			var members map[string]json.RawMessage
			_ = json.Unmarshal([]byte(want), &members)
			want = ""
			for name, member := range members {
				if name == "apiKey" || len(members) == 1 {
					_ = json.Unmarshal(member, &want)
				}
			}
			want = strings.TrimSpace(want)
		}
		if len(want) > 1024 || !fit.MatchString(want) {
			want = ""
		}
		key, err := parse(text)
		if key != want || (err == nil) != (want != "") || err != nil && err.Error() != noKey {
			t.Fatalf("%q: got %q, %v; want %q", text, key, err, want)
		}
	})
}
