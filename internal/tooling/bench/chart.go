//go:build linux

package main

import (
	"bytes"
	"fmt"
)

// chart draws the time to the first token of every variant, at full speed and
// with the processor's share of 128 MB, as SVG. It is written by hand, since a
// library for plots would be the largest dependency of the module.
func (r *report) chart() []byte {
	const (
		left, top     = 150, 78
		width, height = 760, 330
		bar, row      = 18, 58
	)
	variants := []struct{ name, label string }{
		{product, "this function"}, {"bare", "bare (no AWS SDK)"}, {"naive", "naive Go"}, {"node", "Node.js"},
	}
	series := []struct{ scenario, label, color string }{
		{"L", "one processor", "#2f6db5"}, {"L, 128 MB", "128 MB", "#e08a1e"},
	}
	most := milliseconds(far.floor())
	for _, v := range variants {
		for _, s := range series {
			most = max(most, r.value(s.scenario, v.name, "first token ms"))
		}
	}
	x := func(ms float64) float64 { return left + ms/most*(width-left-80) }

	var svg bytes.Buffer
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", width, height)
	fmt.Fprintf(&svg, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	fmt.Fprintf(&svg, `<text x="20" y="26" font-size="16" fill="#222">Cold start to first token, ms (Incode: %d ms away, answers in %d ms)</text>`+"\n",
		far.incodeRTT.Milliseconds(), far.incodeThink.Milliseconds())
	for i, s := range series {
		fmt.Fprintf(&svg, `<rect x="%d" y="42" width="12" height="12" fill="%s"/><text x="%d" y="53" fill="#222">%s</text>`+"\n",
			left+i*140, s.color, left+18+i*140, s.label)
	}
	for i, v := range variants {
		y := top + i*row
		fmt.Fprintf(&svg, `<text x="%d" y="%d" text-anchor="end" fill="#222">%s</text>`+"\n", left-10, y+bar+5, v.label)
		for j, s := range series {
			ms := r.value(s.scenario, v.name, "first token ms")
			if ms == 0 {
				continue
			}
			fmt.Fprintf(&svg, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/><text x="%.1f" y="%d" fill="#222">%.0f</text>`+"\n",
				left, y+j*bar, x(ms)-left, bar-2, s.color, x(ms)+6, y+j*bar+13, ms)
		}
	}
	floor := x(milliseconds(far.floor()))
	fmt.Fprintf(&svg, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#b00020" stroke-dasharray="4 3"/>`+"\n", floor, top-8, floor, height-28)
	fmt.Fprintf(&svg, `<text x="%.1f" y="%d" text-anchor="middle" fill="#b00020">the floor: %d</text>`+"\n</svg>\n",
		floor, height-12, far.floor().Milliseconds())
	return svg.Bytes()
}
