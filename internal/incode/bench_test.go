package incode_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"omnistart/internal/apikey"
	"omnistart/internal/config"
	"omnistart/internal/endpoint"
	"omnistart/internal/incode"
	"omnistart/internal/tooling/incodetest"
)

var key = apikey.NewKey(incodetest.Key, "v1")

// reply is one of the length of Incode's.
const reply = `{"token":"eyJhbGciOiJIUzI1NiJ9.eyJleHRlcm5hbFVzZXJJZCI6IjY1ZjAwMDAwMDAwMDAwMDAwMDAwMDAwMSIsInJvbGUiOiJBQ0NFU1MifQ.c2lnbmF0dXJl",` +
	`"interviewId":"6a0f3c9d1b2e4f5a6b7c8d9e","interviewCode":"00000001","flowType":"flow","clientId":"c","env":"demo","existingSession":false,` +
	`"idCaptureTimeout":15,"idCaptureRetries":3,"selfieCaptureTimeout":15,"selfieCaptureRetries":3,"curpValidationRetries":3,` +
	`"endScreenTitle":"Done","endScreenText":"Thank you"}`

// answer is the reply on the wire.
var answer = []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(reply)) + "\r\n\r\n" + reply)

// memory is a connection on which every request is answered at once, so that
// what is left to measure is the project's.
type memory struct {
	net.Conn
	left bytes.Reader
}

func (m *memory) Write(p []byte) (int, error) {
	m.left.Reset(answer)
	return len(p), nil
}

func (m *memory) Read(p []byte) (int, error)  { return m.left.Read(p) }
func (m *memory) SetDeadline(time.Time) error { return nil }

func inMemory(b *testing.B) *incode.Client {
	b.Helper()
	c := incode.New(&url.URL{Scheme: "https", Host: "incode.example.com"})
	c.Rest(&memory{})
	return c
}

// loopback answers on a socket, with next to no work of its own.
func loopback(b *testing.B) *incode.Client {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for in := bufio.NewReader(conn); ; {
			for line := []byte(nil); !bytes.Equal(line, []byte("\r\n")); {
				if line, err = in.ReadSlice('\n'); err != nil {
					return
				}
			}
			if _, err := in.ReadSlice('}'); err != nil { // the body: one flat object
				return
			}
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	}()
	return incode.New(&url.URL{Scheme: "http", Host: l.Addr().String()})
}

// BenchmarkStart is one call to Incode: the client alone, and over a socket.
func BenchmarkStart(b *testing.B) {
	for name, client := range map[string]func(*testing.B) *incode.Client{"memory": inMemory, "loopback": loopback} {
		b.Run(name, func(b *testing.B) {
			c := client(b)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Start(b.Context(), key, incode.StartRequest{ConfigurationID: incodetest.FlowID, CountryCode: "ALL"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// known is a key that is loaded.
type known struct{}

func (known) Get(context.Context) (apikey.Key, error)                 { return key, nil }
func (known) Refresh(context.Context, apikey.Key) (apikey.Key, error) { return key, nil }

// BenchmarkInvoke is the whole handler with its client of Incode, in memory.
func BenchmarkInvoke(b *testing.B) {
	lambdacontext.FunctionName = "start"
	b.Cleanup(func() { lambdacontext.FunctionName = "" })
	payload, err := os.ReadFile("../endpoint/testdata/jwt.json")
	if err != nil {
		b.Fatal(err)
	}
	env := map[string]string{"INCODE_API_KEY_SECRET_ID": "s", "INCODE_BASE_URL": "https://incode.example.com", "ALLOWED_CONFIGURATION_IDS": "*"}
	c, err := config.FromEnv(func(name string) string { return env[name] })
	if err != nil {
		b.Fatal(err)
	}
	log := slog.New(slog.NewJSONHandler(io.Discard, &slog.HandlerOptions{ReplaceAttr: lambdacontext.ReplaceAttr}))
	e := endpoint.New(c, known{}, inMemory(b), log)
	b.ReportAllocs()
	for b.Loop() {
		if out, err := e.Invoke(b.Context(), payload); err != nil || !bytes.HasPrefix(out, []byte(`{"statusCode":200,`)) {
			b.Fatalf("%s, %v", out, err)
		}
	}
}
