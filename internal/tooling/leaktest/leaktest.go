// Package leaktest checks that no way of printing a value shows a secret.
package leaktest

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// Check prints v with every verb of fmt that prints text, logs it with both handlers of slog, and fails the test if a
// secret shows.
func Check(t testing.TB, v any, secrets ...string) {
	t.Helper()
	Printed(t, v, secrets...)
	var b strings.Builder
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "v", v)
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "v", v)
	find(t, v, b.String(), secrets)
}

// Printed is Check without the logging, for values that are meant to be marshalled.
func Printed(t testing.TB, v any, secrets ...string) {
	t.Helper()
	find(t, v, fmt.Sprintf("%[1]v %+[1]v %#[1]v %[1]s %[1]q %[1]x %[1]X %[1]d %[1]t %[1]c", v), secrets)
}

func find(t testing.TB, v any, text string, secrets []string) {
	t.Helper()
	for _, secret := range secrets {
		inJSON, _ := json.Marshal(secret) // never fails for a string
		for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret),
			strings.Trim(fmt.Sprintf("%d", []byte(secret)), "[]"), strings.Trim(string(inJSON), `"`)} {
			if strings.Contains(text, form) {
				t.Errorf("printing a %T shows %s as %q", v, secret, form)
			}
		}
	}
}
