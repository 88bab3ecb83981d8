package endpoint

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"omnistart/internal/apikey"
	"omnistart/internal/incode"
)

func TestConfigurationThatIsNotAllowed(t *testing.T) {
	r := newRig(t)
	resp, body := r.send(t, event(t, "iam", `{"configurationId":"000000000000000000000001"}`))
	if resp.StatusCode != 403 || code(body) != "configuration-not-allowed" || body["title"] == "" || body["detail"] == "" || len(r.starter.got) != 0 {
		t.Errorf("got %d %s, %d calls", resp.StatusCode, resp.Body, len(r.starter.got))
	}
}

func TestInvalidJSONHasAReason(t *testing.T) {
	ev := event(t, "iam", "%%%")
	ev.IsBase64Encoded = true
	_, body := newRig(t).send(t, ev)
	if want := "Send one JSON object in UTF-8. What is wrong: the body is not valid base64."; body["detail"] != want {
		t.Errorf("got %q", body["detail"])
	}
	_, body = newRig(t).send(t, event(t, "iam", `{"a":1,"a":1}`))
	if want := "Send one JSON object in UTF-8. What is wrong: an object holds the same key twice."; body["detail"] != want {
		t.Errorf("got %q", body["detail"])
	}
	if detail := problemResponse(&refusal{kind: notFound}, "id").Body; strings.Contains(detail, "What is wrong") {
		t.Errorf("a reason where there is none: %s", detail)
	}
}

func TestFieldsThatAreNoMore(t *testing.T) {
	for field, want := range map[string]string{
		"interviewId": "Not accepted: every call starts a new session.", "uuid": "Not accepted: every call starts a new session.",
		"externalId": "Not accepted: use externalCustomerId.", "nope": "Not a field of the contract. Names are case-sensitive.",
		strings.Repeat("k", 64): "Not a field of the contract. Names are case-sensitive.", strings.Repeat("k", 65): "A field with a name that is not in the contract.",
	} {
		_, err := parse(fmt.Appendf(nil, `{"configurationId":"%s",%q:"x"}`, flow, field), nil)
		var refused *refusal
		if !errors.As(err, &refused) || len(refused.violations) != 1 || refused.violations[0].Detail != want {
			t.Errorf("%s: got %+v", field, refused)
		}
	}
}

// TestFaultsAreInTheLog wants the cause of what is the operator's business at
// the level that alarms go by, and no cause of what is the caller's.
func TestFaultsAreInTheLog(t *testing.T) {
	iam := event(t, "iam", "")
	old := iam
	old.Version = "1.0"
	tests := []struct {
		name   string
		getErr error
		answer func(context.Context) (incode.Session, error)
		ev     any
		level  string
		err    any // nil: none
	}{
		{"session", nil, succeed, iam, "INFO", nil},
		{"wrong body", nil, succeed, event(t, "iam", "{"), "INFO", nil},
		{"secret missing", apikey.ErrMisconfigured, succeed, iam, "ERROR", "the secret is misconfigured"},
		{"secret slow", apikey.ErrUnavailable, succeed, iam, "ERROR", "the secret is unavailable"},
		{"Incode failed", nil, fail(incode.Error{Outcome: incode.Failed, Status: 500}), iam, "ERROR", "Incode failed (HTTP 500)"},
		{"a bug of the runtime's kind", nil, func(ctx context.Context) (incode.Session, error) {
			var none *incode.Session
			none.Token = "canary"
			return succeed(ctx)
		}, iam,
			"ERROR", "panic: runtime error: invalid memory address or nil pointer dereference"},
		{"no event", nil, succeed, []int{7}, "ERROR", "the event is not of an API Gateway HTTP API"},
		{"an event of another version", nil, succeed, old, "ERROR", "the event's payload format is not 2.0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.answer)
			r.keys.getErr = tt.getErr
			r.send(t, tt.ev)
			if line := r.logLine(t); line["level"] != tt.level || line["error"] != tt.err {
				t.Errorf("got %s", r.logged.String())
			}
		})
	}
}

func TestTimesInTheLog(t *testing.T) {
	r := newRig(t)
	x := exchange{duration: 161 * time.Millisecond, secret: 20 * time.Millisecond, incode: 100_500 * time.Microsecond, err: errors.New("no reply")}
	r.logExchange(t.Context(), 500, &x)
	line := r.logLine(t)
	for name, want := range map[string]any{"durationMs": 161.0, "secretMs": 20.0, "incodeMs": 100.5, "incodeStatus": 0.0, "interviewId": nil, "_aws": nil} {
		if line[name] != want {
			t.Errorf("%s is %v, want %v", name, line[name], want)
		}
	}
	lambdacontext.FunctionName = "start"
	defer func() { lambdacontext.FunctionName = "" }()
	r.logged.Reset()
	r.logExchange(t.Context(), 500, &x)
	if line := r.logLine(t); line["Overhead"] != 60.5 || line["IncodeLatency"] != 100.5 {
		t.Errorf("got %s", r.logged.String())
	}
}
