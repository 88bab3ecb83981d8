package leaktest

import (
	"fmt"
	"testing"
)

// recorder is a test that only counts its errors.
type recorder struct {
	testing.TB
	reports int
}

func (r *recorder) Helper()               {}
func (r *recorder) Errorf(string, ...any) { r.reports++ }

// marshalled only shows its secret in JSON.
type marshalled struct{}

func (marshalled) Format(f fmt.State, _ rune)   { fmt.Fprint(f, "x") }
func (marshalled) MarshalJSON() ([]byte, error) { return []byte(`"canary"`), nil }

// verb only shows its secret with one verb.
type verb rune

func (v verb) Format(f fmt.State, got rune) {
	if got == rune(v) {
		fmt.Fprint(f, "canary")
	}
}

func TestLeaksAreFound(t *testing.T) {
	canary := "canary"
	for _, v := range []any{
		canary, []byte(canary), struct{ s string }{canary}, &struct{ s string }{canary}, fmt.Errorf("x: %s", canary),
		map[string]string{"k": canary}, marshalled{}, verb('d'), verb('q'),
	} {
		r := &recorder{TB: t}
		if Check(r, v, canary); r.reports == 0 {
			t.Errorf("the secret in a %T is not found", v)
		}
	}
	r := &recorder{TB: t}
	Check(r, []any{&canary, struct{ s *string }{&canary}, 42, nil}, "another")
	if Check(r, struct{ s *string }{&canary}, canary); r.reports != 0 {
		t.Error("a secret is found that does not show")
	}
}
