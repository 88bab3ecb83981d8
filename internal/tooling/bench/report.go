//go:build linux

package main

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// samples are the values of all rounds.
type samples map[sample][]float64

type sample struct{ scenario, variant, measurement string }

func (s samples) add(scenario, variant string, values map[string]float64) {
	for measurement, value := range values {
		key := sample{scenario, variant, measurement}
		s[key] = append(s[key], value)
	}
}

// row compares the variants.
type row struct {
	name   string
	values map[string]summary // by variant
}

// summary is the median of all rounds and the quartiles.
type summary struct{ median, low, high float64 }

// rows returns the comparison. The first two rows are those of the chart.
func (s samples) rows() []row {
	var rows []row
	for _, r := range []struct{ name, scenario, measurement string }{
		{"first token after a cold start, ms", inL, firstToken},
		{"the same with the CPU share of 128 MB, ms", inL128, firstToken},
		{"the same without a network, ms", noNetwork, firstToken},
		{"init, CPU ms", noNetwork, initCPU},
		{"warm request without Incode's time, ms", noNetwork, warmMedian},
		{"its 99th percentile, ms", noNetwork, warmP99},
		{"warm request, CPU ms", noNetwork, warmCPU},
		{"peak memory, MB", noNetwork, peakMemory},
		{"first token, L with a dead address, ms", deadAddress, firstToken},
		{"first token, L with a lost DNS packet, ms", lostQuery, firstToken},
	} {
		values := map[string]summary{}
		for _, name := range variantNames {
			if all := s[sample{r.scenario, name, r.measurement}]; len(all) > 0 {
				values[name] = summary{median(all), quantile(all, 0.25), quantile(all, 0.75)}
			}
		}
		rows = append(rows, row{r.name, values})
	}
	return rows
}

// figure is a property of the product with a limit.
type figure struct {
	name         string
	value, limit float64
}

func (f figure) exceeded() bool { return f.value > f.limit }

// figures returns all that have a limit. The time to the first token is that of the fastest round, because other
// programs on the machine only add time.
func (s samples) figures(binarySize int64, failed, duplicates int) []figure {
	inL, inL128 := s[sample{inL, product, firstToken}], s[sample{inL128, product, firstToken}]
	figures := []figure{
		{"first token, L, × floor", slices.Min(inL) / ms(distanceL.floor()), 1.06},
		{"peak memory, MB", slices.Max(s[sample{noNetwork, product, peakMemory}]), 20},
		{"binary, arm64, MB", float64(binarySize) / 1e6, 10.5},
		{"frozen processes that failed a request", float64(failed), 0},
		{"frozen processes' duplicate requests", float64(duplicates), 0},
	}
	for _, f := range halfBroken {
		if first := s[sample{f.name, product, firstToken}]; len(first) > 0 {
			warm := slices.Min(s[sample{f.name, product, warmMedian}])
			figures = append(figures,
				figure{"first token, " + f.name + ", ms over the floor", slices.Min(first) - ms(distanceL.floor()), f.limit},
				figure{"warm request, " + f.name + ", ms over a round trip", warm - ms(distanceL.incodeRTT), 5})
		}
	}
	if len(inL128) > 0 {
		figures = append(figures, figure{"first token, L, 128 MB × a whole CPU", slices.Min(inL128) / slices.Min(inL), 1.06})
	}
	return figures
}

// quantile returns the q-quantile of values, which must not be empty.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// print prints all results as tables.
func (b *bench) print(rows []row, figures []figure) {
	w := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprintf(w, "\n%s, %s, %d rounds, medians and quartiles\n\n", machine(), runtime.Version(), b.rounds)
	fmt.Fprintf(w, "\t%s\n", strings.Join(variantNames, "\t"))
	for _, row := range rows {
		fmt.Fprint(w, row.name)
		for _, name := range variantNames {
			v := row.values[name]
			fmt.Fprintf(w, "\t%.2f (%.2f to %.2f)", v.median, v.low, v.high)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprint(w, "\nfigure\tvalue\tlimit\n")
	for _, f := range figures {
		fmt.Fprintf(w, "%s\t%.3f\t%.4g", f.name, f.value, f.limit)
		if f.exceeded() {
			fmt.Fprint(w, "\tEXCEEDED")
		}
		fmt.Fprintln(w)
	}
	for _, what := range b.notMeasured {
		fmt.Fprintf(w, "NOT MEASURED: %s\n", what)
	}
}

// chart draws the first two rows as SVG bars. Libraries for charts would be the largest dependency of the module.
func chart(rows []row) []byte {
	const (
		left, top     = 150, 78
		width, height = 760, 330
		bar, group    = 18, 58
	)
	colors := []string{"#2f6db5", "#e08a1e"}
	floor := ms(distanceL.floor())
	longest := floor
	for _, row := range rows[:2] {
		for _, v := range row.values {
			longest = max(longest, v.median)
		}
	}
	x := func(ms float64) float64 { return left + ms/longest*(width-left-80) }

	var svg bytes.Buffer
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">
<rect width="100%%" height="100%%" fill="#fff"/>
<text x="20" y="26" font-size="16">Cold start to first token, ms (Incode: round trip %d ms, response after %d ms)</text>
`, width, height, distanceL.incodeRTT.Milliseconds(), distanceL.incodeLatency.Milliseconds())
	for i, label := range []string{"a whole CPU", "the CPU share of 128 MB"} {
		fmt.Fprintf(&svg, `<rect x="%d" y="42" width="12" height="12" fill="%s"/><text x="%d" y="53">%s</text>`+"\n",
			left+i*140, colors[i], left+18+i*140, label)
	}
	for i, name := range variantNames {
		y := top + i*group
		fmt.Fprintf(&svg, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-10, y+bar+5, name)
		for j, row := range rows[:2] {
			if v, ok := row.values[name]; ok {
				fmt.Fprintf(&svg, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/><text x="%.1f" y="%d">%.0f</text>`+"\n",
					left, y+j*bar, x(v.median)-left, bar-2, colors[j], x(v.median)+6, y+j*bar+13, v.median)
			}
		}
	}
	fmt.Fprintf(&svg, `<g transform="translate(%.1f)" fill="#b00020" stroke-dasharray="4 3">
<line y1="%d" y2="%d" stroke="#b00020"/><text y="%d" text-anchor="middle">shortest possible: %.0f</text>
</g>
</svg>
`, x(floor), top-8, height-28, height-12, floor)
	return svg.Bytes()
}
