//go:build linux

package main

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSlope(t *testing.T) {
	line := func(perCall float64) (all []sample) {
		for i := range 100 {
			noise := float64(i%2) * 1000 // of the garbage collector
			all = append(all, sample{calls: float64(i * 100), rss: 5e6 + perCall*float64(i*100) + noise})
		}
		return all
	}
	for _, perCall := range []float64{0, 3, -2} {
		if got := slope(line(perCall), rss); math.Abs(got-perCall) > 0.01 {
			t.Errorf("%v bytes a call are taken for %v", perCall, got)
		}
	}
	if got := slope([]sample{{calls: 7, rss: 7}}, rss); got != 0 {
		t.Errorf("one sample has a slope of %v", got)
	}
}

// TestHeap has a process that prints to the same stream, in pieces.
func TestHeap(t *testing.T) {
	h := &heap{}
	for _, piece := range []string{"gc 1 @0.1s 2%: 0.02+1.1+0.01 ms clock, 0.1+0.2/0.3/0.4+0.1 ms cpu, 4->5->", "3 MB, 5 MB goal, 0 MB stacks, 0 MB globals, 2 P\ngc 2", " is no line\n->7 MB,\ngc 3 4->5->9"} {
		if n, err := h.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
	}
	for _, piece := range []string{"\nSIGQUIT: quit\n\ngoroutine 0 gp=0x1 m=0 mp=0x2 [idle]:\n\ngorout", "ine 1 [chan receive]:\nmain.main()\n\ngoroutine 42 gp=0x3 m=nil [select]:\n"} {
		_, _ = h.Write([]byte(piece))
	}
	if h.stacks() != 2 {
		t.Errorf("got %d goroutines, want 2", h.stacks())
	}
	if h.live() != 3<<20 {
		t.Errorf("got %v bytes, want 3 MiB", h.live())
	}
}

func TestLook(t *testing.T) {
	before, err := look(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	after, err := look(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if before.threads < 1 || before.rss < 1<<20 || after.descriptors != before.descriptors+1 {
		t.Errorf("got %+v and with one more file %+v", before, after)
	}
}

// TestFailures spoils one figure of a good run after the other.
func TestFailures(t *testing.T) {
	for want, spoil := range map[string]func(*soak){
		"":              func(*soak) {},
		"answers for":   func(s *soak) { s.codes["200"]-- },
		"answers were":  func(s *soak) { s.wrong["internal, not [200]"] = 1 },
		"sessions":      func(s *soak) { s.codes["200"]++; s.codes["outcome-unknown"]-- },
		"memory has":    func(s *soak) { grow(s, func(x *sample) { x.rss += 3 * x.calls }) },
		"live heap has": func(s *soak) { grow(s, func(x *sample) { x.live += 3 * x.calls }) },
		"not tell":      func(s *soak) { grow(s, func(x *sample) { x.live = 0 }) },
		"threads":       func(s *soak) { grow(s, func(x *sample) { x.threads += int(x.calls / 50_000) }) },
		"descriptors":   func(s *soak) { s.samples[7].descriptors = 200 },
		" goroutines":   func(s *soak) { s.heap.goroutines = 300 },
		"0 goroutines":  func(s *soak) { s.heap.goroutines = 0 },
	} {
		w, err := newWorld()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.close)
		s := &soak{world: w, heap: &heap{goroutines: 110}, n: 1e6, took: time.Minute, codes: map[string]int{"outcome-unknown": 1e6}, wrong: map[string]int{}}
		for i := range samples {
			s.samples = append(s.samples, sample{calls: float64(i) * 5000, rss: 2e7, live: 2e6, threads: 8, descriptors: 60})
		}
		spoil(s)
		all := s.failures(32)
		if want == "" && len(all) > 0 || want != "" && !slices.ContainsFunc(all, func(err error) bool { return strings.Contains(err.Error(), want) }) {
			t.Errorf("%q: got %v", want, all)
		}
	}
}

func grow(s *soak, change func(*sample)) {
	for i := range s.samples {
		change(&s.samples[i])
	}
}
