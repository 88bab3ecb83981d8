package incode

import "testing"

// session is a response as long as Incode's.
var session = response(200, `{"token":"eyJhbGciOiJIUzI1NiJ9.eyJleHRlcm5hbFVzZXJJZCI6IjY1ZjAwMDAwMDAwMDAwMDAwMDAwMDAw`+
	`MSIsInJvbGUiOiJBQ0NFU1MifQ.c2lnbmF0dXJl","interviewId":"6a0f3c9d1b2e4f5a6b7c8d9e","interviewCode":"00000001",`+
	`"flowType":"flow","clientId":"c","env":"demo","existingSession":false,"idCaptureTimeout":15,"idCaptureRetries":3,`+
	`"selfieCaptureTimeout":15,"selfieCaptureRetries":3,"curpValidationRetries":3,"endScreenTitle":"Done",`+
	`"endScreenText":"Thank you"}`)

// memoryServer is a memoryConn that responds to every request.
type memoryServer struct{ memoryConn }

func (m *memoryServer) Write(p []byte) (int, error) {
	m.response.Reset([]byte(session))
	return len(p), nil
}

// BenchmarkStart measures one call to Incode without the network.
func BenchmarkStart(b *testing.B) {
	client, ctx := connected(b, &memoryServer{}), withDeadline(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Start(ctx, key, fields); err != nil {
			b.Fatal(err)
		}
	}
}
