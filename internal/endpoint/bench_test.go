package endpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"omnistart/internal/apikey"
	"omnistart/internal/incode"
)

// fullBody uses every field of the contract.
const fullBody = `{"configurationId":"` + flow + `","externalCustomerId":"customer-43","countryCode":"MX","language":"es-MX",` +
	`"redirectionUrl":"https://app.example.com/done?x=1","customFields":{"plan":"gold","branch":"Coyoacán","campaign":"2026-11"}}`

// payloads are captured events as API Gateway sends them, without white space:
// of a caller with a JWT, and of a back end that fills in every field.
func payloads(b *testing.B) map[string][]byte {
	b.Helper()
	compact := map[string][]byte{}
	for name, body := range map[string]string{"jwt": "", "iam": fullBody} {
		data, err := os.ReadFile("testdata/" + name + ".json")
		if err != nil {
			b.Fatal(err)
		}
		var ev map[string]json.RawMessage
		if err := json.Unmarshal(data, &ev); err != nil {
			b.Fatal(err)
		}
		if body != "" {
			ev["body"], _ = json.Marshal(body)
		}
		if compact[name], err = json.Marshal(ev); err != nil {
			b.Fatal(err)
		}
	}
	return compact
}

// instant is an Incode that answers at once.
type instant struct{}

func (instant) Start(context.Context, apikey.Key, incode.StartRequest) (incode.Session, error) {
	return incode.Session{Token: token, InterviewID: interviewID}, nil
}

// newBench returns an endpoint that logs like lambdacontext.NewLogger, metrics
// among it, to nowhere; and a context like those of aws-lambda-go.
func newBench(b *testing.B) (*Endpoint, context.Context) {
	b.Helper()
	lambdacontext.FunctionName = "start"
	b.Cleanup(func() { lambdacontext.FunctionName = "" })
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	b.Cleanup(cancel)
	ctx = lambdacontext.NewContext(ctx, &lambdacontext.LambdaContext{AwsRequestID: "lambda-request-1"})
	log := slog.New(slog.NewJSONHandler(io.Discard, &slog.HandlerOptions{ReplaceAttr: lambdacontext.ReplaceAttr}))
	return New(newRig(b).config, &keys{}, instant{}, log), ctx
}

// BenchmarkRequest decodes and validates an event.
func BenchmarkRequest(b *testing.B) {
	for name, payload := range payloads(b) {
		b.Run(name, func(b *testing.B) {
			e, _ := newBench(b)
			b.ReportAllocs()
			for b.Loop() {
				ev, err := decodeEvent(payload)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := e.startRequest(ev); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkInvoke is the whole handler, but for Incode's client and the runtime.
func BenchmarkInvoke(b *testing.B) {
	for name, payload := range payloads(b) {
		b.Run(name, func(b *testing.B) {
			e, ctx := newBench(b)
			b.ReportAllocs()
			for b.Loop() {
				if out, err := e.Invoke(ctx, payload); err != nil || !bytes.HasPrefix(out, []byte(`{"statusCode":200,`)) {
					b.Fatalf("%s, %v", out, err)
				}
			}
		})
	}
}

// BenchmarkLogLine writes the log line with its metrics.
func BenchmarkLogLine(b *testing.B) {
	for name, x := range map[string]exchange{
		"ok": {duration: 161 * time.Millisecond, incode: 160 * time.Millisecond, interviewID: interviewID},
		"refused": {duration: 161 * time.Millisecond, incode: 160 * time.Millisecond,
			err: &incode.Error{Outcome: incode.Failed, Status: 500}},
	} {
		b.Run(name, func(b *testing.B) {
			e, ctx := newBench(b)
			x.requestID, x.apiRequestID = "lambda-request-1", "Up3kIjQ1joEEJxw="
			status := 200
			if x.err != nil {
				status = kindOf(x.err).status
			}
			b.ReportAllocs()
			for b.Loop() {
				e.logExchange(ctx, status, &x)
			}
		})
	}
}
