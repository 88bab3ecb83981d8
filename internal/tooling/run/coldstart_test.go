//go:build unix

package main

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheColdStartsParts(t *testing.T) {
	wait := func(n int) { time.Sleep(time.Duration(n) * time.Millisecond) }
	tests := []struct {
		name    string
		happens func(*stopwatch)
		want    string
	}{
		{"nothing seen", func(*stopwatch) {}, ""},
		{"the real Incode", func(s *stopwatch) { wait(9); s.secret() }, ", secret there after 9 ms"},
		{"side by side", func(s *stopwatch) {
			wait(6)
			s.dialled(nil, http.StateNew)
			s.dialled(nil, http.StateActive)
			wait(3)
			s.secret()
		}, ", Incode dialled after 6 ms, secret there after 9 ms"},
		{"the first time counts", func(s *stopwatch) {
			for range 3 {
				wait(5)
				s.secret()
				s.dialled(nil, http.StateNew)
			}
		}, ", Incode dialled after 5 ms, secret there after 5 ms"},
		{"the next start, which may fail", func(s *stopwatch) {
			wait(5)
			s.secret()
			s.start()
			wait(5)
			s.dialled(nil, http.StateNew)
		}, ", secret there after 5 ms"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // its clock does not wait
				var s stopwatch
				s.secret() // of no start
				s.dialled(nil, http.StateNew)
				started := s.start()
				tt.happens(&s)
				if got := started.tell(); got != tt.want {
					t.Errorf("told %q, want %q", got, tt.want)
				}
				if got := started.tell(); got != "" {
					t.Errorf("told again: %q", got)
				}
			})
		})
	}
}
