// Package leaktest checks that a value tells no secret, whatever prints it.
package leaktest

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// Check prints v with every verb that prints text and logs it with both
// handlers of slog, and reports the secrets that show.
func Check(t testing.TB, v any, secrets ...string) {
	t.Helper()
	Printed(t, v, secrets...)
	var b strings.Builder
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "v", v)
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "v", v)
	find(t, v, b.String(), secrets)
}

// Printed is Check without the logging, for what is made to be marshalled.
func Printed(t testing.TB, v any, secrets ...string) {
	t.Helper()
	var b strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%c"} {
		fmt.Fprintf(&b, verb+"\n", v)
	}
	find(t, v, b.String(), secrets)
}

// find looks for the secrets as text, in hexadecimal, as bytes in decimal, and
// as JSON writes them.
func find(t testing.TB, v any, text string, secrets []string) {
	t.Helper()
	for _, secret := range secrets {
		quoted, err := json.Marshal(secret)
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{
			secret, hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))),
			strings.Trim(fmt.Sprintf("%d", []byte(secret)), "[]"), strings.Trim(string(quoted), `"`),
		} {
			if strings.Contains(text, form) {
				t.Errorf("a %T shows %s: %s", v, secret, text)
				break
			}
		}
	}
}
