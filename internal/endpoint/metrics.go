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

// The metrics of every request, of those that called Incode, and of those that
// got no session.
var (
	perRequest = directive{namespace, [][]string{{"FunctionName"}},
		[]metric{{"SessionsStarted", "Count"}, {"ColdStarts", "Count"}, {"KeyRefreshes", "Count"}, {"Overhead", "Milliseconds"}}}
	perCall    = directive{namespace, [][]string{{"FunctionName"}}, []metric{{"IncodeLatency", "Milliseconds"}}}
	perRefusal = directive{namespace, [][]string{{"FunctionName"}, {"FunctionName", "Code"}}, []metric{{"Refusals", "Count"}}}
)

// appendMetrics adds what makes a request's log line an event of metrics too: a
// second line would be paid for twice, and a call to CloudWatch would cost the
// caller time. The few dimensions keep the number of metrics, each of which is
// billed, at six and one for each code in use.
func appendMetrics(attrs []slog.Attr, now time.Time, code string, x *exchange) []slog.Attr {
	directives := append(make([]directive, 0, 3), perRequest)
	attrs = append(attrs,
		slog.String("FunctionName", lambdacontext.FunctionName),
		slog.Int("SessionsStarted", count(x.err == nil)),
		slog.Int("ColdStarts", count(x.cold)),
		slog.Int("KeyRefreshes", count(x.refreshed)),
		slog.Float64("Overhead", milliseconds(x.duration-x.incode)),
	)
	if x.incode > 0 {
		directives = append(directives, perCall)
		attrs = append(attrs, slog.Float64("IncodeLatency", milliseconds(x.incode)))
	}
	if x.err != nil {
		directives = append(directives, perRefusal)
		attrs = append(attrs, slog.String("Code", code), slog.Int("Refusals", 1))
	}
	return append(attrs, slog.Any("_aws", metadata{now.UnixMilli(), directives}))
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}
