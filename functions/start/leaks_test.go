//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"omnistart/internal/tooling/apigateway"
	"omnistart/internal/tooling/incodetest"
)

// canaryNumber is a secret that is a number in JSON.
const canaryNumber = "202620262026202620262026"

const backEnd = `{"iam":{"accessKey":"canary","accountId":"canary","callerId":"canary","cognitoIdentity":null,` +
	`"principalOrgId":"canary","userArn":"arn:aws:sts::123456789012:assumed-role/backend/i-1","userId":"canary"}}`

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
			good := fmt.Sprintf(`{"configurationId":%q}`, incodetest.FlowID)
			send := func(authorizer, body string) {
				t.Helper()
				resp := h.invoke(t, event(t, "jwt.json", func(ev *apigateway.Event) {
					if ev.Body = body; authorizer != "" {
						ev.RequestContext.Authorizer = json.RawMessage(authorizer)
					}
				}))
				if text := forbiddenText(resp.payload); resp.status != 200 && text != "" {
					t.Errorf("the response contains %s: %s", text, resp.payload)
				}
			}
			for _, flow := range incodetest.Flows {
				send(backEnd, fmt.Sprintf(`{"configurationId":%q,"customFields":{"canary":"canary"}}`, flow.ID))
			}
			for _, value := range []string{
				`""`, `"canary 42"`, `"canary\n{}"`, `"[canary canary]"`, `"<canary>"`, `"canary "`, `"canary\u202e"`,
				`"` + strings.Repeat("canary", 50) + `"`, `["canary"]`, `{"canary":"canary"}`, `null`, `true`, `1.5`, canaryNumber,
			} {
				claims := fmt.Sprintf(`{"sub":%[1]s,"canary":%[1]s,"level":%[2]s}`, value, canaryNumber)
				send(`{"jwt":{"claims":`+claims+`,"scopes":["canary"]}}`, good)
				send(`{"lambda":`+claims+`}`, good)
				send(`{"lambda":`+value+`}`, good)
			}
			// The neighbours of the ARN, which is logged.
			for _, identity := range []string{`null`, `{"amr":["canary"],"identityId":"canary"}`, `"canary"`} {
				send(strings.Replace(backEnd, `null`, identity, 1), good)
			}
			send(`{"canary":{"sub":"canary"}}`, good)
			for _, body := range []string{
				`{"configurationId":"canary","countryCode":"canary","language":"canary",
					"redirectionUrl":"https://canary","customFields":["canary"]}`,
				`{"canary`, `["canary"]`, `{"x":1,"x":"canary"}`, "\"canary\xff\"",
				fmt.Sprintf(`{"configurationId":%q,"externalCustomerId":"canary-victim"}`, incodetest.FlowID),
				fmt.Sprintf(`{"configurationId":%q,"customFields":{"riskTier":"canary"}}`, incodetest.FlowID),
			} {
				send("", body)
			}
			for _, payload := range []string{
				`"canary"`, `{"version":"canary"}`,
				`{"version":"2.0","requestContext":{"authorizer":{"jwt":{"claims":["canary"]}}}}`,
			} {
				if resp := h.invoke(t, []byte(payload)); resp.status < 400 || forbiddenText(resp.payload) != "" {
					t.Errorf("got %s", resp.payload)
				}
			}
			h.secrets.Put(secretID, "canary\nkey")
			h.incode.SetKey("another")
			send("", good)
		})
	}
}
