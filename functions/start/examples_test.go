//go:build unix

package main

import (
	"encoding/json"
	"net/http"
	"os"
	"reflect"
	"strconv"
	"testing"

	"omnistart/internal/tooling/apigateway"
	"omnistart/internal/tooling/incodetest"
)

// TestExamplesOfTheContract compares examples of the contract with responses of the
// compiled function. They are those that the stand-ins of make run cannot cause;
// test_contract.py compares all others.
func TestExamplesOfTheContract(t *testing.T) {
	t.Parallel() // it waits
	data, err := os.ReadFile("docs/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	type media struct {
		Examples map[string]struct{ Value map[string]any }
	}
	var contract struct {
		Paths map[string]map[string]struct {
			Responses map[string]struct{ Content map[string]media }
		}
	}
	if err := json.Unmarshal(data, &contract); err != nil {
		t.Fatal(err)
	}
	responses := contract.Paths["/omni/start"]["post"].Responses
	for code, breaks := range map[string]func(*harness){
		"internal":              func(*harness) {},
		"caller-not-allowed":    func(*harness) {},
		"service-misconfigured": func(h *harness) { h.secrets.Fail("AccessDeniedException", http.StatusBadRequest) },
		"secret-unavailable":    func(h *harness) { h.secrets.Fail("ThrottlingException", http.StatusBadRequest) },
		"incode-unavailable":    func(h *harness) { h.setenv("INCODE_BASE_URL", "https://127.0.0.1:1") },
	} {
		t.Run(code, func(t *testing.T) {
			h := newHarness(t)
			breaks(h)
			h.start(t)
			var got response
			switch code {
			case "internal":
				got = h.invoke(t, []byte(`{"version":"1.0"}`))
			case "caller-not-allowed":
				got = h.invoke(t, event(t, "iam.json", func(ev *apigateway.Event) {
					ev.RequestContext.Authorizer = json.RawMessage(`{"iam":{"cognitoIdentity":{"identityId":"x"}}}`)
				}))
			default:
				got = h.startSession(t, incodetest.FlowID)
			}
			var envelope struct{ Body string }
			var problem map[string]any
			if err := json.Unmarshal([]byte(got.payload), &envelope); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(envelope.Body), &problem); err != nil {
				t.Fatal(err)
			}
			want := responses[strconv.Itoa(got.status)].Content[got.header["Content-Type"]].Examples[code].Value
			if want == nil || problem["requestId"] == "" {
				t.Fatalf("no example for %s, or no request ID: %s", code, got.payload)
			}
			problem["requestId"] = want["requestId"]
			if !reflect.DeepEqual(problem, want) {
				t.Errorf("got %v, the contract has %v", problem, want)
			}
		})
	}
}
