package endpoint

import (
	"log/slog"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
)

// namespace holds the function's metrics in CloudWatch. The template's alarms
// and its dashboard name it.
const namespace = "Omnistart"

// metadata is the _aws member of CloudWatch's embedded metric format: which
// members of the log line are metrics.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
type metadata struct {
	Timestamp         int64 // milliseconds since 1970
	CloudWatchMetrics []directive
}

type directive struct {
	Namespace  string
	Dimensions [][]string
	Metrics    []metric
}

type metric struct{ Name, Unit string }

// metrics returns what makes a request's log line an event of metrics too: a
// second line would be paid for twice, and a call to CloudWatch would cost the
// caller time. The few dimensions keep the number of metrics, each of which is
// billed, at six and one for each code in use.
func metrics(now time.Time, code string, x *exchange) []slog.Attr {
	perFunction := directive{namespace, [][]string{{"FunctionName"}}, nil}
	attrs := []slog.Attr{slog.String("FunctionName", lambdacontext.FunctionName)}
	count := func(name string, yes bool) {
		n := 0
		if yes {
			n = 1
		}
		perFunction.Metrics = append(perFunction.Metrics, metric{name, "Count"})
		attrs = append(attrs, slog.Int(name, n))
	}
	latency := func(name string, d time.Duration) {
		perFunction.Metrics = append(perFunction.Metrics, metric{name, "Milliseconds"})
		attrs = append(attrs, slog.Float64(name, milliseconds(d)))
	}
	count("SessionsStarted", x.err == nil)
	count("ColdStarts", x.cold)
	count("KeyRefreshes", x.refreshed)
	latency("Overhead", x.duration-x.incode)
	if x.incode > 0 {
		latency("IncodeLatency", x.incode)
	}
	directives := []directive{perFunction}
	if x.err != nil {
		directives = append(directives, directive{namespace, [][]string{{"FunctionName"}, {"FunctionName", "Code"}}, []metric{{"Refusals", "Count"}}})
		attrs = append(attrs, slog.String("Code", code), slog.Int("Refusals", 1))
	}
	return append(attrs, slog.Any("_aws", metadata{now.UnixMilli(), directives}))
}
