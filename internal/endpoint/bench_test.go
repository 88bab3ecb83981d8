package endpoint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"omnistart/internal/incode"
)

// fullBody has every field of the contract.
const fullBody = `{"configurationId":"` + flow + `","externalCustomerId":"customer-43","countryCode":"MX",` +
	`"language":"es-MX","redirectionUrl":"https://app.example.com/done?x=1",` +
	`"customFields":{"plan":"gold","branch":"Coyoacán","campaign":"2026-11"}}`

// payloads returns captured events without white space, as API Gateway sends them: of a caller with a JWT, and of a
// back end that sends every field.
func payloads(b *testing.B) map[string][]byte {
	b.Helper()
	compact := map[string][]byte{}
	for name, body := range map[string]string{"jwt": event(b, "jwt", "").Body, "iam": fullBody} {
		data, err := os.ReadFile("testdata/" + name + ".json")
		if err != nil {
			b.Fatal(err)
		}
		var members map[string]json.RawMessage
		decode(b, data, &members)
		members["body"] = encode(b, body)
		compact[name] = encode(b, members)
	}
	return compact
}

// newBenchmark returns an endpoint that logs as [lambdacontext.NewLogger] does, to nowhere. Its Incode is a server
// that allocates nothing for a request, so that the allocations of a benchmark are those of the function.
func newBenchmark(b *testing.B) *Endpoint {
	b.Helper()
	setFunctionName(b)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { listener.Close() })
	session := fmt.Sprintf(`{"token":%q,"interviewId":%q}`, exampleSession.Token, exampleSession.InterviewID)
	response := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\n\r\n%s", len(session), session)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		request := make([]byte, 64<<10)
		for err == nil {
			// One Read receives the whole request: the client writes it at once, and loopback does not split it.
			if _, err = conn.Read(request); err == nil {
				_, err = conn.Write(response)
			}
		}
	}()
	h := newHarness(b)
	h.Sessions = incode.New(&url.URL{Scheme: "http", Host: listener.Addr().String()})
	h.Log = slog.New(slog.NewJSONHandler(io.Discard, &slog.HandlerOptions{ReplaceAttr: lambdacontext.ReplaceAttr}))
	return h.Endpoint
}

// BenchmarkRequest decodes an event and validates its request.
func BenchmarkRequest(b *testing.B) {
	for name, payload := range payloads(b) {
		b.Run(name, func(b *testing.B) {
			e := newBenchmark(b)
			b.ReportAllocs()
			for b.Loop() {
				var event httpEvent
				decode(b, payload, &event)
				if _, err := e.requestFields(&event, &exchange{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkInvoke serves a request on a warm connection: the whole handler with the client for Incode and the log
// line, and the time of a round trip to a server on loopback. TLS, the Lambda runtime and API Gateway are not included.
func BenchmarkInvoke(b *testing.B) {
	for name, payload := range payloads(b) {
		b.Run(name, func(b *testing.B) {
			e, ctx := newBenchmark(b), lambdaContext(b, time.Hour)
			invoke := func() {
				if out, err := e.Invoke(ctx, payload); err != nil || !bytes.HasPrefix(out, []byte(`{"statusCode":200,`)) {
					b.Fatalf("%s, %v", out, err)
				}
			}
			invoke() // loads the key and opens the connection
			b.ReportAllocs()
			for b.Loop() {
				invoke()
			}
		})
	}
}
