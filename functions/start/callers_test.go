//go:build unix

package main

import (
	"encoding/json"
	"maps"
	"os"
	"testing"

	"omnistart/internal/tooling/apigateway"
	"omnistart/internal/tooling/incodetest"
)

// TestCallers sends requests as the identity providers and the clients of others
// make them. authorizer is the authorizer context of the event, and body has the
// fields beside configurationId. customer is the one for whom Incode starts a session.
func TestCallers(t *testing.T) {
	data, err := os.ReadFile("testdata/callers.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name       string
		Authorizer json.RawMessage
		Body       map[string]any
		Status     int
		Customer   *string
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	h := newHarness(t).start(t)
	held := 0
	for _, tt := range cases {
		if !t.Run(tt.Name, func(t *testing.T) {
			body := map[string]any{"configurationId": incodetest.FlowID}
			maps.Copy(body, tt.Body)
			text, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			before := h.incode.Requests()
			resp := h.invoke(t, event(t, "iam.json", func(ev *apigateway.Event) {
				ev.Body, ev.RequestContext.Authorizer = string(text), tt.Authorizer
			}))
			if resp.status != tt.Status || (h.incode.Requests() > before) != (tt.Status == 200) {
				t.Errorf("got %d %s, %d requests to Incode", resp.status, resp.code, h.incode.Requests()-before)
			}
			if got := h.incode.Last().Fields["externalCustomerId"]; tt.Customer != nil && got != *tt.Customer {
				t.Errorf("a session for %v, want %s", got, *tt.Customer)
			}
		}) {
			continue
		}
		held++
	}
	t.Logf("%d of %d cases hold", held, len(cases))
}
