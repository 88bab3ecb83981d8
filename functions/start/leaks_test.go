//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"omnistart/internal/tooling/incodetest"
)

// TestNothingLeaks takes every path with canaries in all that a caller, an
// identity provider and Incode may send, in both formats of the log and at its
// least level. start looks for them in what the process has printed.
func TestNothingLeaks(t *testing.T) {
	data, err := os.ReadFile("../../internal/endpoint/testdata/jwt.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"JSON", "Text"} {
		t.Run(format, func(t *testing.T) {
			r := newRig(t)
			r.env["AWS_LAMBDA_LOG_FORMAT"], r.env["AWS_LAMBDA_LOG_LEVEL"] = format, "DEBUG"
			r.start(t, 5*time.Second)
			send := func(claims map[string]string, body string) {
				t.Helper()
				var ev events.APIGatewayV2HTTPRequest
				if err := json.Unmarshal(data, &ev); err != nil {
					t.Fatal(err)
				}
				for name, value := range claims {
					ev.RequestContext.Authorizer.JWT.Claims[name] = value
				}
				ev.Body = body
				payload, err := json.Marshal(ev)
				if err != nil {
					t.Fatal(err)
				}
				if a := r.invoke(t, payload); a.status != 200 && leaked(a.text) != "" {
					t.Errorf("the answer holds %s: %s", leaked(a.text), a.text)
				}
			}
			for _, flow := range incodetest.Flows {
				send(nil, fmt.Sprintf(`{"configurationId":%q,"customFields":{"canary":"canary"}}`, flow.ID))
			}
			good := fmt.Sprintf(`{"configurationId":%q}`, incodetest.FlowID)
			for _, sub := range []string{"", "canary 42", "canary\n{}", "[canary canary]", "<canary>"} {
				send(map[string]string{"sub": sub, "canary": "canary"}, good)
			}
			for _, body := range []string{
				`{"configurationId":"canary","countryCode":"canary","language":"canary","redirectionUrl":"https://canary","customFields":["canary"]}`,
				`{"canary`, `["canary"]`, `{"canary":1,"canary":2}`, "\"canary\xff\"", fmt.Sprintf(`{"configurationId":%q,"externalCustomerId":"canary-victim"}`, incodetest.FlowID),
			} {
				send(nil, body)
			}
			for _, payload := range []string{`"canary"`, `{"version":"canary"}`, `{"version":"2.0","requestContext":{"authorizer":{"jwt":{"claims":{"sub":["canary"]}}}}}`} {
				if a := r.invoke(t, []byte(payload)); a.status != 500 || leaked(a.text) != "" {
					t.Errorf("got %s", a.text)
				}
			}
			r.secrets.Put(secretID, "canary\nkey")
			r.incode.SetKey("another")
			send(nil, good)
		})
	}
}
