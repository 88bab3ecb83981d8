package endpoint

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"omnistart/internal/incode"
)

// checkEMF holds a log line to the rules of the published schema, and returns
// the metrics that CloudWatch would take from it by "name{dimensions}".
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
func checkEMF(t *testing.T, line map[string]any) map[string]float64 {
	t.Helper()
	units := []string{"Count", "Milliseconds"} // of those that CloudWatch has
	list := func(v any, least, most int) []any {
		l, ok := v.([]any)
		if !ok || len(l) < least || len(l) > most {
			t.Errorf("%v is not a list of %d to %d", v, least, most)
		}
		return l
	}
	text := func(v any, most int) string {
		s, ok := v.(string)
		if !ok || s == "" || len(s) > most {
			t.Errorf("%v is not a string of 1 to %d characters", v, most)
		}
		return s
	}
	got := map[string]float64{}
	aws, _ := line["_aws"].(map[string]any)
	if ts, ok := aws["Timestamp"].(float64); !ok || ts < 1.7e12 || ts != float64(int64(ts)) {
		t.Errorf("Timestamp %v is not in milliseconds", aws["Timestamp"])
	}
	for _, d := range list(aws["CloudWatchMetrics"], 1, 100) {
		d, _ := d.(map[string]any)
		if ns := text(d["Namespace"], 255); strings.HasPrefix(ns, "AWS/") {
			t.Errorf("namespace %s is reserved", ns)
		}
		for _, set := range list(d["Dimensions"], 1, 30) {
			dimensions := ""
			for _, name := range list(set, 0, 30) {
				name := text(name, 250)
				dimensions += name + "=" + text(line[name], 1024) + ","
			}
			for _, m := range list(d["Metrics"], 1, 100) {
				m, _ := m.(map[string]any)
				name := text(m["Name"], 1024)
				value, ok := line[name].(float64)
				if !ok || !slices.Contains(units, text(m["Unit"], 20)) {
					t.Errorf("metric %s is %v in %v", name, line[name], m["Unit"])
				}
				got[name+"{"+strings.TrimSuffix(dimensions, ",")+"}"] = value
			}
		}
	}
	return got
}

func TestMetrics(t *testing.T) {
	name := lambdacontext.FunctionName
	lambdacontext.FunctionName = "start"
	t.Cleanup(func() { lambdacontext.FunctionName = name })

	const f = "{FunctionName=start}"
	r := newRig(t, succeed,
		fail(incode.Error{Outcome: incode.Unauthorized, Status: 403}), succeed, // a rotation
		func(context.Context) (incode.Session, error) { panic("canary") })
	bad := event(t, "iam", `{"configurationId":"canary"}`)
	tests := []struct {
		name string
		ev   any
		want map[string]float64 // -1: any
	}{
		{"first session", event(t, "iam", ""), map[string]float64{
			"SessionsStarted" + f: 1, "ColdStarts" + f: 1, "KeyRefreshes" + f: 0, "Overhead" + f: -1, "IncodeLatency" + f: -1}},
		{"refused, Incode not called", bad, map[string]float64{
			"SessionsStarted" + f: 0, "ColdStarts" + f: 0, "KeyRefreshes" + f: 0, "Overhead" + f: -1,
			"Refusals" + f: 1, "Refusals{FunctionName=start,Code=validation-failed}": 1}},
		{"session with a newer key", event(t, "iam", ""), map[string]float64{
			"SessionsStarted" + f: 1, "ColdStarts" + f: 0, "KeyRefreshes" + f: 1, "Overhead" + f: -1, "IncodeLatency" + f: -1}},
		{"panic", event(t, "iam", ""), map[string]float64{
			"SessionsStarted" + f: 0, "ColdStarts" + f: 0, "KeyRefreshes" + f: 0, "Overhead" + f: -1, "IncodeLatency" + f: -1,
			"Refusals" + f: 1, "Refusals{FunctionName=start,Code=internal}": 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r.send(t, tt.ev)
			got := checkEMF(t, r.logLine(t))
			if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(tt.want))) {
				t.Errorf("got  %v\nwant %v", got, tt.want)
			}
			for k, v := range tt.want {
				if v >= 0 && got[k] != v || got[k] < 0 {
					t.Errorf("%s is %v, want %v", k, got[k], v)
				}
			}
			if strings.Contains(r.logged.String(), "canary") {
				t.Errorf("customer data in %s", r.logged.String())
			}
		})
	}
}
