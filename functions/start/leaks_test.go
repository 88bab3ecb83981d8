//go:build unix

package main

import (
	"fmt"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"omnistart/internal/tooling/incodetest"
)

// TestNothingLeaks takes every path through the function, with texts that must not
// be printed in everything that a caller, an identity provider and Incode can send,
// in both formats of the log and at its most detailed level. start checks what the
// process prints.
func TestNothingLeaks(t *testing.T) {
	t.Parallel() // it waits
	for _, format := range []string{"JSON", "Text"} {
		t.Run(format, func(t *testing.T) {
			h := newHarness(t)
			h.setenv("INCODE_TIMEOUT", shortTimeout)
			h.setenv("AWS_LAMBDA_LOG_FORMAT", format)
			h.setenv("AWS_LAMBDA_LOG_LEVEL", "DEBUG")
			h.start(t)
			send := func(claims map[string]string, body string) {
				t.Helper()
				resp := h.invoke(t, event(t, "jwt.json", func(ev *events.APIGatewayV2HTTPRequest) {
					for name, value := range claims {
						ev.RequestContext.Authorizer.JWT.Claims[name] = value
					}
					ev.Body = body
				}))
				if text := forbiddenText(resp.payload); resp.status != 200 && text != "" {
					t.Errorf("the response contains %s: %s", text, resp.payload)
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
				`{"configurationId":"canary","countryCode":"canary","language":"canary",
					"redirectionUrl":"https://canary","customFields":["canary"]}`,
				`{"canary`, `["canary"]`, `{"x":1,"x":"canary"}`, "\"canary\xff\"",
				fmt.Sprintf(`{"configurationId":%q,"externalCustomerId":"canary-victim"}`, incodetest.FlowID),
			} {
				send(nil, body)
			}
			for _, payload := range []string{
				`"canary"`, `{"version":"canary"}`,
				`{"version":"2.0","requestContext":{"authorizer":{"jwt":{"claims":{"sub":["canary"]}}}}}`,
			} {
				if resp := h.invoke(t, []byte(payload)); resp.status < 400 || forbiddenText(resp.payload) != "" {
					t.Errorf("got %s", resp.payload)
				}
			}
			h.secrets.Put(secretID, "canary\nkey")
			h.incode.SetKey("another")
			send(nil, good)
		})
	}
}
