//go:build linux

package main

import (
	"math/rand/v2"
	"slices"
)

// quantile returns the q-quantile of values, which it does not change; NaN-free
// and not empty.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// estimate is a ratio of two medians with its 95 % interval.
type estimate struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// ratio compares two samples by the bootstrap: both are drawn anew, with
// replacement, 2,000 times. The generator's seed is fixed, so that a report can
// be computed again from the same samples.
func ratio(over, under []float64) estimate {
	const draws = 2000
	r := rand.New(rand.NewPCG(1, 2))
	draw := func(values []float64) float64 {
		sample := make([]float64, len(values))
		for i := range sample {
			sample[i] = values[r.IntN(len(values))]
		}
		return median(sample)
	}
	ratios := make([]float64, draws)
	for i := range ratios {
		ratios[i] = draw(over) / draw(under)
	}
	return estimate{median(over) / median(under), quantile(ratios, 0.025), quantile(ratios, 0.975)}
}
