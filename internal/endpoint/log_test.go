package endpoint

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"omnistart/internal/apikey"
	"omnistart/internal/config"
	"omnistart/internal/incode"
	"omnistart/internal/problem"
	"omnistart/internal/tooling/leaktest"
)

func setFunctionName(t testing.TB) {
	before := lambdacontext.FunctionName
	lambdacontext.FunctionName = "start"
	t.Cleanup(func() { lambdacontext.FunctionName = before })
}

func TestLogLineHasTheTimes(t *testing.T) {
	setFunctionName(t)
	var logged bytes.Buffer
	e := &Endpoint{Keys: new(apikey.Store), Log: slog.New(slog.NewJSONHandler(&logged, nil))}
	e.logRequest(t.Context(), 500, &exchange{
		duration: 161 * time.Millisecond, secretTime: 20 * time.Millisecond, incodeTime: 100_500 * time.Microsecond,
		Session: incode.Session{ConnectTime: 50 * time.Millisecond}, err: problem.Internal,
	})
	var line map[string]any
	decode(t, logged.Bytes(), &line)
	for name, want := range map[string]any{
		"durationMs": 161.0, "secretMs": 20.0, "incodeMs": 100.5, "connectMs": 50.0, "incodeStatus": 0.0, "interviewId": "",
		"Overhead": 60.5, "IncodeLatency": 100.5,
	} {
		if line[name] != want {
			t.Errorf("%s is %v, want %v", name, line[name], want)
		}
	}
}

func TestExchangeShowsNoSecret(t *testing.T) {
	x := &exchange{Session: incode.Session{Token: "canary"}, key: apikey.NewKey("canary", "v1")}
	leaktest.Check(t, x, "canary")
}

func TestLogLineHasTheMetrics(t *testing.T) {
	setFunctionName(t)
	h := newHarness(t)
	h.loadKey(t)
	for _, tt := range []struct {
		name                      string
		prepare                   func()
		body                      string
		sessions, cold, refreshes float64
		loads, loadFailures       float64
		incodeCalled              bool
		code                      string // of a failure
	}{
		{"first session", func() {}, "", 1, 1, 0, 1, 0, true, ""},
		{"invalid request", func() {}, start("canary"), 0, 0, 0, 0, 0, false, "validation-failed"},
		{"session with a newer key", func() {
			h.secrets.Put(secretID, nextKey)
			h.incode.SetKey(nextKey)
		}, "", 1, 0, 1, 1, 0, true, ""},
		{"key that cannot be loaded", func() {
			h.incode.SetKey(firstKey)
			h.secrets.Fail("ThrottlingException", 400)
		}, "", 0, 0, 0, 1, 1, true, "incode-unauthorized"},
		{"next request", func() { h.incode.SetKey(nextKey) }, "", 1, 0, 0, 0, 0, true, ""},
		{"failure of Incode", func() {}, start(failing("0500")), 0, 0, 0, 0, 0, true, "incode-failed"},
		{"panic", func() {
			customer := fieldOf("externalCustomerId")
			check := customer.check
			customer.check = func(config.Config, string) bool { panic("canary") }
			t.Cleanup(func() { customer.check = check })
		}, "", 0, 0, 0, 0, 0, false, "internal"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.prepare()
			got := metricsOf(t, h.send(t, event(t, "iam", tt.body)).line)
			const function = "{FunctionName=start}"
			want := map[string]float64{
				"SessionsStarted" + function: tt.sessions, "ColdStarts" + function: tt.cold,
				"KeyRefreshes" + function: tt.refreshes, "KeyLoads" + function: tt.loads,
				"KeyLoadFailures" + function: tt.loadFailures, "Overhead" + function: got["Overhead"+function],
			}
			if tt.incodeCalled {
				want["IncodeLatency"+function] = max(got["IncodeLatency"+function], 0.001)
			}
			if tt.code != "" {
				want["Failures"+function], want["Failures{FunctionName=start,Code="+tt.code+"}"] = 1, 1
			}
			if !maps.Equal(got, want) || got["Overhead"+function] <= 0 {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		})
	}
}

func TestLogLineNamesTheVersionOfTheKey(t *testing.T) {
	h := newHarness(t)
	send := func(what, flow string, want any) {
		t.Helper()
		if got := h.send(t, event(t, "iam", start(flow))).line["keyVersion"]; got != want {
			t.Errorf("%s: version %v, want %v", what, got, want)
		}
	}
	first := h.secrets.Put(secretID, firstKey)
	send("request that needs no key", "canary", "")
	send("session", flow, first)
	send("failure of Incode", failing("0500"), first)
	next := h.secrets.Put(secretID, nextKey)
	send("session with the key in memory", flow, first)
	h.incode.SetKey(nextKey)
	send("session with a newer key", flow, next)
	same := h.secrets.Put(secretID, nextKey)
	send("refusal of a key that has a new version", failing("0401"), next)
	send("session with the key of the new version", flow, same)
}

func TestDashboardShowsEachMetric(t *testing.T) {
	template, err := os.ReadFile("../../template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var directives []struct{ Metrics []struct{ Name string } }
	decode(t, []byte("["+requestMetrics+incodeMetrics+failureMetrics+"]"), &directives)
	for _, directive := range directives {
		for _, metric := range directive.Metrics {
			if !strings.Contains(string(template), `["Omnistart", "`+metric.Name+`"`) {
				t.Errorf("the dashboard does not show %s", metric.Name)
			}
		}
	}
	if len(directives) != 3 {
		t.Errorf("%d directives, want 3", len(directives))
	}
}

// metricsOf returns the metrics that CloudWatch reads from a log line in its embedded metric format, by
// "name{dimensions}".
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
func metricsOf(t *testing.T, line map[string]any) map[string]float64 {
	t.Helper()
	var metadata struct {
		Timestamp         int64
		CloudWatchMetrics []struct {
			Namespace  string
			Dimensions [][]string
			Metrics    []struct{ Name, Unit string }
		}
	}
	decode(t, encode(t, line["_aws"]), &metadata)
	if age := time.Since(time.UnixMilli(metadata.Timestamp)); age < 0 || age > time.Hour {
		t.Errorf("Timestamp is %d", metadata.Timestamp)
	}
	metrics := map[string]float64{}
	for _, directive := range metadata.CloudWatchMetrics {
		if directive.Namespace != "Omnistart" { // the template's alarms have it
			t.Errorf("the namespace is %q", directive.Namespace)
		}
		for _, names := range directive.Dimensions {
			var dimensions []string
			for _, name := range names {
				dimensions = append(dimensions, fmt.Sprintf("%s=%s", name, line[name]))
			}
			for _, metric := range directive.Metrics {
				value, ok := line[metric.Name].(float64)
				if !ok || metric.Unit != "Count" && metric.Unit != "Milliseconds" {
					t.Errorf("metric %s is %v in %s", metric.Name, line[metric.Name], metric.Unit)
				}
				metrics[fmt.Sprintf("%s{%s}", metric.Name, strings.Join(dimensions, ","))] = value
			}
		}
	}
	return metrics
}
