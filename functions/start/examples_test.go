//go:build unix

package main

import (
	"encoding/json"
	"net/http"
	"os"
	"reflect"
	"strconv"
	"testing"

	"omnistart/internal/tooling/incodetest"
)

// TestExamplesThatMakeRunNeverGives compares the examples of the contract with
// the answers of the compiled function, where the stand-ins of make run cannot
// provoke them; test_contract.py does so for all others.
func TestExamplesThatMakeRunNeverGives(t *testing.T) {
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
	for code, breaks := range map[string]func(*rig){
		"internal":              func(*rig) {},
		"service-misconfigured": func(r *rig) { r.secrets.Fail("AccessDeniedException", http.StatusBadRequest) },
		"secret-unavailable":    func(r *rig) { r.secrets.Fail("ThrottlingException", http.StatusBadRequest) },
		"incode-unavailable":    func(r *rig) { r.server.Close() },
	} {
		t.Run(code, func(t *testing.T) {
			r := newRig(t)
			r.env["INCODE_TIMEOUT"] = "3s"
			breaks(r)
			r.start(t, 0)
			var a answer
			if code == "internal" {
				a = r.invoke(t, []byte(`{"version":"1.0"}`))
			} else {
				a = r.session(t, incodetest.FlowID)
			}
			var response struct{ Body string }
			var got map[string]any
			if err := json.Unmarshal([]byte(a.text), &response); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(response.Body), &got); err != nil {
				t.Fatal(err)
			}
			want := responses[strconv.Itoa(a.status)].Content[a.header["Content-Type"]].Examples[code].Value
			if want == nil || got["requestId"] == "" {
				t.Fatalf("no example for %s, or no request ID: %s", code, a.text)
			}
			got["requestId"] = want["requestId"]
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, the contract has %v", got, want)
			}
		})
	}
}
