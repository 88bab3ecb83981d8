//go:build linux

package main

import (
	"encoding/xml"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestQuantileOfFewValuesIsTheGreatest(t *testing.T) {
	values := []float64{3, 1, 2}
	if quantile(values, 0.99) != 3 || median(values) != 2 || values[0] != 3 {
		t.Errorf("p99 %v, median %v, values %v", quantile(values, 0.99), median(values), values)
	}
}

func TestFiguresAreComparedWithTheirLimits(t *testing.T) {
	s := samples{
		{inL, product, firstToken}:       {250, 248, 249},
		{inL128, product, firstToken}:    {300, 301, 302},
		{noNetwork, product, peakMemory}: {15, 21, 16},

		{deadAddress, product, firstToken}: {1350, 1330}, {deadAddress, product, warmMedian}: {40.5, 46},
		{lostQuery, product, firstToken}: {1041, 1042}, {lostQuery, product, warmMedian}: {46, 47},
	}
	var exceeded []string
	for _, f := range s.figures(9e6, 0, 1) {
		if f.exceeded() {
			exceeded = append(exceeded, f.name)
		}
	}
	want := []string{"peak memory, MB", "frozen processes' duplicate requests",
		"first token, a lost DNS packet, ms over the floor", "warm request, a lost DNS packet, ms over a round trip",
		"first token, L, 128 MB × a whole CPU"}
	if !slices.Equal(exceeded, want) {
		t.Errorf("exceeded are %q, want %q", exceeded, want)
	}
	for _, name := range []string{inL128, deadAddress, lostQuery} { // without root
		delete(s, sample{name, product, firstToken})
	}
	if all := s.figures(9e6, 0, 1); len(all) != 5 {
		t.Errorf("got %v", all)
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

func TestLinkDelaysAndKeepsTheOrder(t *testing.T) {
	const rtt = 20 * time.Millisecond
	began := time.Now()
	_, client, server := pair(t, rtt)
	text := strings.Repeat("0123456789", 10<<10) // many chunks
	go func() {
		_, _ = io.WriteString(client, text)
		_ = client.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(server)
	if err != nil || string(got) != text {
		t.Fatalf("read %d bytes, %v", len(got), err)
	}
	if took := time.Since(began); took < rtt+rtt/2 {
		t.Errorf("the data arrived after %v, less than the handshake and one direction", took)
	}
	_ = server.Close()
	if n, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the server's end the client read %d, %v", n, err)
	}
}

func TestWaysToBreakAConnection(t *testing.T) {
	for name, tt := range map[string]struct {
		how  func(*conn)
		want func(error) bool
	}{
		"closed": {closed, func(err error) bool { return errors.Is(err, io.EOF) }},
		"reset":  {reset, func(err error) bool { return errors.Is(err, syscall.ECONNRESET) }},
		"silent": {silent, func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }},
	} {
		t.Run(name, func(t *testing.T) {
			l, client, server := pair(t, time.Millisecond)
			conns := l.accepted()
			if len(conns) != 1 {
				t.Fatalf("%d connections", len(conns))
			}
			tt.how(conns[0])
			_, _ = io.WriteString(server, "late")
			_ = client.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := client.Read(make([]byte, 1)); err == nil || !tt.want(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestChartHasABarForEachVariant(t *testing.T) {
	chart := chart([]row{
		{values: map[string]summary{product: {median: 250}, naive: {median: 290}}},
		{values: map[string]summary{product: {median: 251}}},
	})
	for _, want := range []string{"this function", ">250<", ">290<", ">251<", "shortest possible: 240"} {
		if !strings.Contains(string(chart), want) {
			t.Errorf("%s is missing in\n%s", want, chart)
		}
	}
	if err := xml.Unmarshal(chart, new(struct{})); err != nil || strings.Contains(string(chart), "%!") {
		t.Errorf("%v in\n%s", err, chart)
	}
}
