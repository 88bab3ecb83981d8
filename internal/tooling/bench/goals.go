//go:build linux

package main

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"slices"
)

// samples are all trials, by scenario and variant.
type samples map[string]map[string][]trial

// of returns one measure of all trials of a variant in a scenario; nil when
// there are none.
func (s samples) of(scenario, variant string, measure func(trial) float64) []float64 {
	var values []float64
	for _, t := range s[scenario][variant] {
		values = append(values, measure(t))
	}
	return values
}

// goal is a figure of the product and what it is to be at most.
type goal struct {
	Figure string    `json:"figure"`
	Value  *estimate `json:"value,omitempty"` // nil when it was not measured
	Goal   float64   `json:"goal"`
	Gate   *float64  `json:"gate,omitempty"` // more than this fails the run
}

func (g goal) met() bool    { return g.Value != nil && g.Value.Value <= g.Goal }
func (g goal) failed() bool { return g.Value != nil && g.Gate != nil && g.Value.Value > *g.Gate }

func exactly(v float64) *estimate { return &estimate{v, v, v} }

// goals computes all figures.
func goals(s samples, size, zipped float64, freezes []freezeResult, storm *stormResult) []goal {
	firstToken := func(t trial) float64 { return t.FirstToken }
	initCPU := func(t trial) float64 { return t.InitCPU }
	memory := func(t trial) float64 { return t.Memory }
	against := func(scenario, variant string, measure func(trial) float64) *estimate {
		return quotient(s.of(scenario, product, measure), s.of(scenario, variant, measure))
	}
	greatest := func(measure func(trial) float64) *estimate {
		var all []float64
		for scenario := range s {
			all = append(all, s.of(scenario, product, measure)...)
		}
		if len(all) == 0 {
			return nil
		}
		return exactly(slices.Max(all))
	}
	var failed, duplicates, overwhelmed *estimate
	for _, f := range freezes {
		if f.Variant != product {
			continue
		}
		if failed == nil {
			failed, duplicates = exactly(0), exactly(0)
		}
		failed.Value += float64(f.Failed)
		duplicates.Value += float64(f.Duplicates)
	}
	if storm != nil {
		overwhelmed = exactly(float64(storm.Processes - storm.Recovered))
	}
	return []goal{
		{"first token, L, × floor", quotient(s.of("L", product, firstToken), []float64{milliseconds(far.floor())}), 1.04, new(1.06)},
		{"first token, L, × naive", against("L", "naive", firstToken), 0.86, nil},
		{"first token, L, 128 MB × all of a processor", quotient(s.of("L, 128 MB", product, firstToken), s.of("L", product, firstToken)), 1.03, new(1.06)},
		{"first token, zero, × naive", against("zero", "naive", firstToken), 0.45, nil},
		{"first token, zero, one bundle, × naive", against("zero, one bundle", "naive", firstToken), 0.85, nil},
		{"first token, zero, one bundle, × bare", against("zero, one bundle", "bare", firstToken), 1.25, nil},
		{"init CPU, × naive", against("zero", "naive", initCPU), 0.45, nil},
		{"warm overhead, median, × naive", against("zero", "naive", func(t trial) float64 { return t.WarmMedian }), 0.8, nil},
		{"warm overhead, p99, × naive", against("zero", "naive", func(t trial) float64 { return t.WarmP99 }), 0.8, nil},
		{"warm overhead, median, × bare", against("zero", "bare", func(t trial) float64 { return t.WarmMedian }), 1.5, nil},
		{"warm overhead, p99, × bare", against("zero", "bare", func(t trial) float64 { return t.WarmP99 }), 1.5, nil},
		{"warm CPU, × naive", against("zero", "naive", func(t trial) float64 { return t.WarmCPU }), 0.7, nil},
		{"peak memory, × naive", against("zero", "naive", memory), 0.85, nil},
		{"peak memory, × node", against("zero", "node", memory), 0.15, nil},
		{"peak memory, MB", greatest(func(t trial) float64 { return t.Memory / 1e6 }), 20, new(20.0)},
		{"binary, arm64, MB", exactly(size / 1e6), 10, new(10.5)},
		{"binary, arm64, zipped, MB", exactly(zipped / 1e6), 3.9, nil},
		{"connections to Secrets Manager, a cold start", greatest(func(t trial) float64 { return t.SecretsConnections }), 1, new(1.0)},
		{"connections to Incode, a cold start", greatest(func(t trial) float64 { return t.Connections }), 1, new(1.0)},
		{"new connections in 200 warm requests", greatest(func(t trial) float64 { return t.WarmConnected }), 0, new(0.0)},
		{"first token, L, × node", against("L", "node", firstToken), 0.6, nil},
		{"first token, L, 128 MB, × node", against("L, 128 MB", "node", firstToken), 0.3, nil},
		{"frozen processes that failed a request", failed, 0, new(0.0)},
		{"frozen processes' duplicate requests", duplicates, 0, new(0.0)},
		{"processes that a storm was too much for", overwhelmed, 0, new(0.0)},
	}
}

// quotient is ratio where both samples exist.
func quotient(over, under []float64) *estimate {
	if len(over) == 0 || len(under) == 0 {
		return nil
	}
	return new(ratio(over, under))
}

// sizes returns the bytes of the binary that ships, and of it in a ZIP file as
// Lambda gets it.
func sizes(dir string) (size, zipped float64, err error) {
	binary, err := os.ReadFile(filepath.Join(dir, "start-arm64"))
	if err != nil {
		return 0, 0, err
	}
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	f, err := w.Create("bootstrap")
	if err != nil {
		return 0, 0, err
	}
	if _, err := f.Write(binary); err != nil {
		return 0, 0, err
	}
	if err := w.Close(); err != nil {
		return 0, 0, err
	}
	return float64(len(binary)), float64(archive.Len()), nil
}
