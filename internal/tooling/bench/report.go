//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
)

// report is all that a run found, as it is written to results.json. Times are in
// milliseconds.
type report struct {
	Machine   string         `json:"machine"`
	Go        string         `json:"go"`
	Date      string         `json:"date"`
	Rounds    int            `json:"rounds"` // that count
	LeftOut   []string       `json:"leftOut"`
	Goals     []goal         `json:"goals"`
	Scenarios []medians      `json:"scenarios"`
	Freezes   []freezeResult `json:"freezes"`
	Flight    []flightResult `json:"flight"`
	Storm     *stormResult   `json:"storm"`
}

// medians are the medians of one variant in one scenario, by measure.
type medians struct {
	Scenario string             `json:"scenario"`
	Variant  string             `json:"variant"`
	Values   map[string]float64 `json:"values"`
}

// summary returns the medians in the order of scenarios and variants.
func (s samples) summary(vs []variant) []medians {
	var all []medians
	for _, sc := range scenarios {
		for _, v := range vs {
			if len(s[sc.name][v.name]) == 0 {
				continue
			}
			m := medians{sc.name, v.name, map[string]float64{}}
			for _, measure := range measures {
				m.Values[measure.name] = median(s.of(sc.name, v.name, measure.of))
			}
			all = append(all, m)
		}
	}
	return all
}

// value returns one median, or 0 when it was not measured.
func (r *report) value(scenario, variant, measure string) float64 {
	for _, m := range r.Scenarios {
		if m.Scenario == scenario && m.Variant == variant {
			return m.Values[measure]
		}
	}
	return 0
}

// write prints the report as tables.
func (r *report) write(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprintf(w, "\n%s, %s, %d rounds, medians\n\nscenario\tvariant", r.Machine, r.Go, r.Rounds)
	for _, measure := range measures {
		fmt.Fprintf(w, "\t%s", measure.name)
	}
	for _, m := range r.Scenarios {
		fmt.Fprintf(w, "\n%s\t%s", m.Scenario, m.Variant)
		for _, measure := range measures {
			fmt.Fprintf(w, "\t%.2f", m.Values[measure.name])
		}
	}
	fmt.Fprint(w, "\n\nfrozen\tending\ttrials\tfailed\tduplicates\n")
	for _, f := range r.Freezes {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\n", f.Variant, f.Ending, f.Trials, f.Failed, f.Duplicates)
	}
	fmt.Fprint(w, "\nin flight\trequests/s\tmedian ms\tp99 ms\tCPU ms\tconnections\n")
	for _, f := range r.Flight {
		fmt.Fprintf(w, "%d\t%.0f\t%.1f\t%.1f\t%.2f\t%d\n", f.InFlight, f.PerSecond, f.Median, f.P99, f.CPU, f.Connections)
	}
	if r.Storm != nil {
		r.Storm.write(w)
	}
	for _, what := range r.LeftOut {
		fmt.Fprintf(w, "\nleft out: %s", what)
	}
	fmt.Fprint(w, "\nfigure\tvalue\t95 %\tgoal\tgate\t\n")
	for _, g := range r.Goals {
		fmt.Fprintln(w, g.row())
	}
}

func (r *stormResult) write(w io.Writer) {
	fmt.Fprintf(w, "\nstorm: %d cold starts in %.1f s, %d at once, against %d reads of the secret a second: "+
		"%d throttled, %d answers to try again, at most %d attempts, %d recovered\n",
		r.Processes, r.Seconds, stormAtOnce, stormRate, r.Throttled, r.Refused, r.MostAttempts, r.Recovered)
}

func (g goal) row() string {
	gate := "-"
	if g.Gate != nil {
		gate = fmt.Sprintf("%.4g", *g.Gate)
	}
	value, interval, verdict := "-", "", "not measured"
	if g.Value != nil {
		value = fmt.Sprintf("%.3f", g.Value.Value)
		verdict = "MISSED"
		if g.Value.Low != g.Value.High {
			interval = fmt.Sprintf("%.3f to %.3f", g.Value.Low, g.Value.High)
		}
	}
	switch {
	case g.met():
		verdict = "met"
	case g.failed():
		verdict = "FAILED"
	}
	return fmt.Sprintf("%s\t%s\t%s\t%.4g\t%s\t%s", g.Figure, value, interval, g.Goal, gate, verdict)
}

// save writes results.json and chart.svg to dir.
func (r *report) save(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "results.json"), append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "chart.svg"), r.chart(), 0o600)
}
