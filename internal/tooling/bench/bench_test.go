//go:build linux

package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

func TestRatioAndItsInterval(t *testing.T) {
	over := []float64{2, 2.2, 1.8, 2.1, 1.9, 2, 2, 2.3, 1.7}
	under := []float64{1, 1.1, 0.9, 1, 1, 1.2, 0.8, 1, 1}
	got := ratio(over, under)
	if got.Value != 2 || got.Low >= 2 || got.High <= 2 || got.Low < 1.4 || got.High > 2.9 {
		t.Errorf("got %+v, want 2 within its interval", got)
	}
	if same := ratio(over, over); same.Value != 1 {
		t.Errorf("a sample against itself is %+v", same)
	}
}

func TestQuantileTakesTheGreatestForTheTail(t *testing.T) {
	values := []float64{3, 1, 2}
	if quantile(values, 0.99) != 3 || median(values) != 2 || values[0] != 3 {
		t.Errorf("p99 %v, median %v, values %v", quantile(values, 0.99), median(values), values)
	}
}

func TestGoals(t *testing.T) {
	tests := []struct {
		name        string
		goal        goal
		met, failed bool
	}{
		{"met", goal{"", exactly(1), 1, new(2.0)}, true, false},
		{"missed", goal{"", exactly(1.5), 1, new(2.0)}, false, false},
		{"missed by far", goal{"", exactly(2.5), 1, new(2.0)}, false, true},
		{"missed by far, without a gate", goal{"", exactly(2.5), 1, nil}, false, false},
		{"a gate of zero", goal{"", exactly(1), 0, new(0.0)}, false, true},
		{"not measured", goal{"", nil, 1, new(2.0)}, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.goal.met() != tt.met || tt.goal.failed() != tt.failed {
				t.Errorf("met %v, failed %v", tt.goal.met(), tt.goal.failed())
			}
		})
	}
}

// pair connects a client to a server through a link.
func pair(t *testing.T, rtt time.Duration) (l *link, client, server net.Conn) {
	t.Helper()
	l, err := newLink(rtt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return l, client, server
}

func TestLinkTakesItsTimeAndKeepsTheOrder(t *testing.T) {
	const rtt = 20 * time.Millisecond
	_, client, server := pair(t, rtt)
	began := time.Now()
	text := strings.Repeat("0123456789", 10<<10) // of many chunks
	go func() {
		_, _ = io.WriteString(client, text)
		_ = client.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(server)
	if err != nil || string(got) != text {
		t.Fatalf("read %d bytes, %v", len(got), err)
	}
	if took := time.Since(began); took < rtt+rtt/2 {
		t.Errorf("the first bytes took %v, less than the handshake and one way", took)
	}
	_ = server.Close()
	if n, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the server's end the client read %d, %v", n, err)
	}
}

func TestEndingsOfAConnection(t *testing.T) {
	want := map[string]func(error) bool{
		"the peer closes (FIN)": func(err error) bool { return errors.Is(err, io.EOF) },
		"the peer resets (RST)": func(err error) bool { return !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) },
		silentEnding:            func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) },
	}
	for _, ending := range endings {
		t.Run(ending.name, func(t *testing.T) {
			l, client, server := pair(t, 0)
			l.breakAll(ending.end)
			_, _ = io.WriteString(server, "late")
			_ = client.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := client.Read(make([]byte, 1)); err == nil || !want[ending.name](err) {
				t.Errorf("got %v", err)
			}
			if l.accepted.Load() != 1 {
				t.Errorf("%d connections", l.accepted.Load())
			}
		})
	}
}

func TestLimiterThrottlesAsAWSDoes(t *testing.T) {
	l := &limiter{next: http.NotFoundHandler()}
	passed := 0
	var last *httptest.ResponseRecorder
	for range 2 * stormRate {
		last = httptest.NewRecorder()
		l.ServeHTTP(last, httptest.NewRequest(http.MethodPost, "/", nil))
		if last.Code == http.StatusNotFound {
			passed++
		}
	}
	if passed < stormRate || int64(2*stormRate-passed) != l.throttled.Load() {
		t.Errorf("%d passed, %d were throttled", passed, l.throttled.Load())
	}
	if last.Code != http.StatusBadRequest || !strings.Contains(last.Body.String(), "ThrottlingException") {
		t.Errorf("the last one got %d %s", last.Code, last.Body)
	}
}

func TestChartHasABarForEachVariant(t *testing.T) {
	r := report{Scenarios: []medians{
		{"L", product, map[string]float64{"first token ms": 250}},
		{"L", "naive", map[string]float64{"first token ms": 290}},
	}}
	chart := string(r.chart())
	for _, want := range []string{"this function", ">250<", ">290<", "the floor: 240", "</svg>"} {
		if !strings.Contains(chart, want) {
			t.Errorf("%s is missing in\n%s", want, chart)
		}
	}
}
