package incodetest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"omnistart/internal/tooling/incodetest"
)

// serve starts the stand-in and returns it with its base URL and a client that
// follows no redirect.
func serve(t *testing.T) (*incodetest.Server, string, *http.Client) {
	t.Helper()
	server := incodetest.New()
	ts := httptest.NewServer(server)
	t.Cleanup(ts.Close)
	t.Cleanup(server.Close)
	client := ts.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return server, ts.URL, client
}

// request returns a call as Incode's documentation shows it.
func request(t *testing.T, url, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/omni/start", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("api-version", "1.0")
	r.Header.Set("x-api-key", incodetest.Key)
	return r
}

// send returns the status and the decoded body, nil when it is not JSON.
func send(t *testing.T, client *http.Client, r *http.Request) (*http.Response, map[string]any) {
	t.Helper()
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	_ = json.Unmarshal(body, &fields)
	return resp, fields
}

func start(flow string) string {
	return `{"configurationId":"` + flow + `","externalCustomerId":"customer-42","countryCode":"ALL"}`
}

func TestStartsASession(t *testing.T) {
	server, url, client := serve(t)
	resp, reply := send(t, client, request(t, url, start(incodetest.FlowID)))
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %v", resp.StatusCode, reply)
	}
	for field, pattern := range map[string]string{
		"token":         `^[\w-]+\.[\w-]+\.[\w-]+$`,
		"interviewId":   `^[0-9a-f]{24}$`,
		"interviewCode": `^[0-9A-F]{6}$`,
		"clientId":      `.`,
		"env":           `^(stage|demo|saas)$`,
	} {
		if value, _ := reply[field].(string); !regexp.MustCompile(pattern).MatchString(value) {
			t.Errorf("%s is %q, want %s", field, value, pattern)
		}
	}
	if reply["existingSession"] != false {
		t.Errorf("existingSession is %v", reply["existingSession"])
	}
	if got := server.Last().Fields["externalCustomerId"]; got != "customer-42" {
		t.Errorf("Last has externalCustomerId %v", got)
	}
	if server.Requests() != 1 || server.Sessions() != 1 {
		t.Errorf("%d requests and %d sessions, want 1 and 1", server.Requests(), server.Sessions())
	}
}

// The README prints the first token, so it must not change between runs.
func TestSessionsAreTheSameOnEveryRunAndDifferentWithinOne(t *testing.T) {
	var runs [2][2]any
	for i := range runs {
		_, url, client := serve(t)
		for n := range runs[i] {
			_, reply := send(t, client, request(t, url, start(incodetest.FlowID)))
			runs[i][n] = reply["token"]
		}
	}
	if runs[0] != runs[1] {
		t.Errorf("two runs gave %v and %v", runs[0], runs[1])
	}
	if runs[0][0] == runs[0][1] {
		t.Errorf("two sessions share the token %v", runs[0][0])
	}
}

func TestEnforcesIncodesRules(t *testing.T) {
	body := func(s string) func(*http.Request) {
		return func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(s)), int64(len(s))
		}
	}
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	tests := []struct {
		name   string
		change func(*http.Request)
		status int
	}{
		{"charset parameter is fine", header("Content-Type", "application/json; charset=utf-8"), 200},
		{"every documented field", body(`{"configurationId":"` + incodetest.FlowID + `",
			"externalCustomerId":"c","countryCode":"ALL","language":"en-US",
			"redirectionUrl":"https://example.com","customFields":{"a":"b","c":1.5,"d":true}}`), 200},
		{"GET", func(r *http.Request) { r.Method = http.MethodGet }, 405},
		{"other path", func(r *http.Request) { r.URL.Path = "/omni/start/" }, 404},
		{"no api-version", header("api-version", ""), 400},
		{"no key", header("x-api-key", ""), 403},
		{"wrong key", header("x-api-key", strings.Repeat("0", 40)), 403},
		{"form content type", header("Content-Type", "application/x-www-form-urlencoded"), 415},
		{"no JSON", body(`{"configurationId":`), 400},
		{"JSON null", body(`null`), 400},
		{"JSON array", body(`[]`), 400},
		{"body beyond the limit", body(`{"configurationId":"` + strings.Repeat("0", 1<<20) + `"}`), 400},
		{"no configurationId", body(`{"countryCode":"ALL"}`), 400},
		{"unknown configurationId", body(start("6245f1e0c8d4b2a39e7f1c06")), 400},
		{"number for a string", body(`{"configurationId":"` + incodetest.FlowID + `","language":1}`), 400},
		{"null in customFields", body(`{"configurationId":"` + incodetest.FlowID + `","customFields":{"a":null}}`), 400},
		{"list in customFields", body(`{"configurationId":"` + incodetest.FlowID + `","customFields":{"a":[1]}}`), 400},
		{"misspelled field", body(`{"configurationID":"` + incodetest.FlowID + `"}`), 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server, url, client := serve(t)
			r := request(t, url, start(incodetest.FlowID))
			tt.change(r)
			resp, reply := send(t, client, r)
			if resp.StatusCode != tt.status {
				t.Fatalf("status %d, want %d: %v", resp.StatusCode, tt.status, reply)
			}
			want := 0
			if tt.status == http.StatusOK {
				want = 1
			} else if reply["message"] == "" || reply["path"] != "/omni/start" ||
				reply["timestamp"] == nil || reply["status"] == nil {
				t.Errorf("not in the format of Incode's errors: %v", reply)
			}
			if server.Sessions() != want {
				t.Errorf("%d sessions, want %d", server.Sessions(), want)
			}
		})
	}
}

func TestAnyFlowStartsASession(t *testing.T) {
	server, url, client := serve(t)
	server.AnyFlow = true
	for flow, want := range map[string]int{"6245f1e0c8d4b2a39e7f1c06": 200, flowEnding("0500"): 500} {
		if resp, reply := send(t, client, request(t, url, start(flow))); resp.StatusCode != want {
			t.Errorf("%s: %d %v, want %d", flow, resp.StatusCode, reply, want)
		}
	}
}

func TestGatewayRefusesDoubleSlash(t *testing.T) {
	_, url, client := serve(t)
	resp, reply := send(t, client, request(t, url+"/", start(incodetest.FlowID)))
	if _, ok := reply["status"]; ok || resp.StatusCode != http.StatusNotFound || reply["message"] == nil {
		t.Errorf("status %d: %v", resp.StatusCode, reply)
	}
}

func TestOnlyTheNewKeyIsAcceptedAfterSetKey(t *testing.T) {
	server, url, client := serve(t)
	server.SetKey("new")
	if resp, _ := send(t, client, request(t, url, start(incodetest.FlowID))); resp.StatusCode != http.StatusForbidden {
		t.Errorf("old key: status %d, want 403", resp.StatusCode)
	}
	r := request(t, url, start(incodetest.FlowID))
	r.Header.Set("x-api-key", "new")
	if resp, _ := send(t, client, r); resp.StatusCode != http.StatusOK {
		t.Errorf("new key: status %d, want 200", resp.StatusCode)
	}
}

// A caller who may choose interviewId gets a token for a stranger's session.
func TestInterviewIDTakesOverASession(t *testing.T) {
	server, url, client := serve(t)
	_, victim := send(t, client, request(t, url, start(incodetest.FlowID)))
	id := victim["interviewId"].(string)
	_, thief := send(t, client, request(t, url, `{"configurationId":"`+incodetest.FlowID+`","interviewId":"`+id+`"}`))
	if thief["token"] != victim["token"] || thief["existingSession"] != true || server.Sessions() != 1 {
		t.Errorf("got %v after %d sessions, want the victim's session", thief, server.Sessions())
	}
	if server.Last().Fields["interviewId"] != id {
		t.Error("Last has no interviewId")
	}
}

func TestEveryFlowDoesWhatItSays(t *testing.T) {
	for _, flow := range incodetest.Flows {
		t.Run(flow.Does, func(t *testing.T) {
			if !regexp.MustCompile(`^[0-9a-f]{24}$`).MatchString(flow.ID) {
				t.Errorf("ID %q is not 24 hex digits", flow.ID)
			}
			if flow.Status/100 == 2 != (flow.Code == "") {
				t.Errorf("%d with the code %q", flow.Status, flow.Code)
			}
			status, err := strconv.Atoi(flow.Does[:3])
			if flow.ID == incodetest.FlowID {
				status = http.StatusOK
			} else if err != nil || flow.ID == flowEnding("0c07") {
				return // these break the connection: see below
			}
			_, url, client := serve(t)
			resp, reply := send(t, client, request(t, url, start(flow.ID)))
			if resp.StatusCode != status {
				t.Errorf("status %d, want %d", resp.StatusCode, status)
			}
			usable := regexp.MustCompile(`^[!-~]+$`)
			token, _ := reply["token"].(string)
			wantToken := flow.ID == incodetest.FlowID || flow.ID == flowEnding("0201") || flow.ID == flowEnding("0b19")
			if usable.MatchString(token) != wantToken {
				t.Errorf("token %q", token)
			}
		})
	}
}

func flowEnding(mnemonic string) string { return strings.Repeat("0", 20) + mnemonic }

func TestThrottlingHasRetryAfter(t *testing.T) {
	_, url, client := serve(t)
	resp, _ := send(t, client, request(t, url, start(flowEnding("0429"))))
	if resp.Header.Get("Retry-After") != "7" {
		t.Errorf("Retry-After is %q", resp.Header.Get("Retry-After"))
	}
}

func TestFollowedRedirectIsCountedAsARequest(t *testing.T) {
	for _, mnemonic := range []string{"0302", "0307"} {
		server, url, client := serve(t)
		client.CheckRedirect = func(_ *http.Request, via []*http.Request) error {
			if len(via) > 1 {
				return http.ErrUseLastResponse
			}
			return nil
		}
		send(t, client, request(t, url, start(flowEnding(mnemonic))))
		if server.Requests() != 2 {
			t.Errorf("%s: %d requests, want 2", mnemonic, server.Requests())
		}
	}
}

func TestLargeResponseExceeds64KiB(t *testing.T) {
	_, url, client := serve(t)
	resp, err := client.Do(request(t, url, start(flowEnding("0b19"))))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, _ := io.Copy(io.Discard, bufio.NewReader(resp.Body)); n <= 64<<10 {
		t.Errorf("%d bytes", n)
	}
}

func TestConnectionIsClosed(t *testing.T) {
	t.Run("without a response", func(t *testing.T) {
		server, url, client := serve(t)
		if resp, err := client.Do(request(t, url, start(flowEnding("dead")))); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, %v, want EOF", resp, err)
		}
		if server.Last().Fields["configurationId"] != flowEnding("dead") {
			t.Error("the request was not read")
		}
	})
	t.Run("within the body", func(t *testing.T) {
		_, url, client := serve(t)
		resp, err := client.Do(request(t, url, start(flowEnding("0c07"))))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("status %d, then %v, want 200 and an unexpected EOF", resp.StatusCode, err)
		}
	})
}

func TestHangingRequestEnds(t *testing.T) {
	for name, end := range map[string]func(cancel context.CancelFunc, server *incodetest.Server){
		"when the client leaves": func(cancel context.CancelFunc, _ *incodetest.Server) { cancel() },
		"when the server closes": func(_ context.CancelFunc, server *incodetest.Server) { server.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			server := incodetest.New()
			defer server.Close()
			arrived, ended := make(chan struct{}), make(chan struct{})
			ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(ended)
				close(arrived)
				server.ServeHTTP(w, r)
			}))
			defer ts.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			failed := make(chan error, 1)
			r := request(t, ts.URL, start(flowEnding("0408"))).WithContext(ctx)
			go func() {
				resp, err := ts.Client().Do(r)
				if err == nil {
					resp.Body.Close()
				}
				failed <- err
			}()
			<-arrived
			select {
			case err := <-failed:
				t.Fatalf("got a response: %v", err)
			default:
			}
			end(cancel, server)
			if err := <-failed; err == nil {
				t.Error("got a response")
			}
			<-ended
		})
	}
}
