package problem

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

func TestProblemsAreConsistent(t *testing.T) {
	code := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	seen := map[string]bool{}
	for _, p := range All {
		if seen[p.Code] || !code.MatchString(p.Code) || p.Title == "" || http.StatusText(p.Status) == "" || p.Status < 400 {
			t.Errorf("%+v is not well-formed", *p)
		}
		seen[p.Code] = true
		// Clients repeat a request after Retry-After, which only 503 has.
		if p.SessionStarted != No && (p.SessionStarted != Perhaps || p.Status < 500 || p.Status == 503) {
			t.Errorf("%s: a session may have been started: %q, status %d", p.Code, p.SessionStarted, p.Status)
		}
		denies := strings.Contains(p.Detail, "No session was started.")
		admits := strings.Contains(p.Detail, "may have been started")
		if denies && p.SessionStarted != No || admits != (p.SessionStarted == Perhaps) && p != Internal ||
			strings.Contains(p.Detail, "Retry-After") != (p.Status == 503) || !strings.HasSuffix(p.Detail, ".") {
			t.Errorf("%s: the detail does not fit: %s", p.Code, p.Detail)
		}
	}
	if len(All) < 18 {
		t.Errorf("All has %d problems", len(All))
	}
}

func TestProblemIsFoundInAWrappedError(t *testing.T) {
	err := fmt.Errorf("%w: %w", IncodeFailed, errors.New("HTTP 500"))
	found, ok := errors.AsType[*Problem](err)
	if !ok || found != IncodeFailed || !errors.Is(err, IncodeFailed) || errors.Is(err, IncodeTimeout) {
		t.Errorf("found %v", found)
	}
	if err.Error() != "Incode failed: HTTP 500" {
		t.Errorf("got %q", err)
	}
}
