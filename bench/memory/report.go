package main

import (
	"bytes"
	"fmt"
	"image/color"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// report returns the table of all runs, in Markdown.
func report(all []result) []byte {
	var b bytes.Buffer
	b.WriteString(`# How well the memory limit holds

The peak resident memory (VmHWM) of the process that reads, compared with its limit, and
the peak of the sandbox's private memory, compared with its cap. ` + "`make bench-memory`" + `
updates this table and the plot. Every run returned all rows, with the same digest for
the same file. "Ten rows" is the same command with --limit 10: the memory that the
program itself takes. A fat row has 10 KiB. A slow consumer reads 100 MB/s of the output.

![peak memory by rows](memory.svg)

| wall | limit MiB | rows | consumer | seconds | host peak MiB | ten rows MiB | host peak / (limit + ten rows) | counted MiB | sandbox peak MiB | sandbox cap MiB | level changes |
|---|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|
`)
	for _, r := range all {
		fmt.Fprintf(&b, "| %s | %d | %d %s | %s | %.1f | %.1f | %.1f | %.2f | %.1f | %.1f | %.0f | %d |\n",
			r.Wall, r.Limit>>20, r.rows(), r.shape, r.Consumer, r.Elapsed.Seconds(), inMiB(r.Host), inMiB(r.Base),
			float64(r.Host)/float64(r.Limit+r.Base), inMiB(r.Peak), inMiB(r.Isolate), inMiB(r.IsolateCap), r.Levels)
	}
	b.WriteString("\n| wall | limit MiB | host peak with the most narrow rows / with the fewest |\n|---|--:|--:|\n")
	for _, r := range all {
		if r.shape != "narrow" || r.Consumer != "fast" {
			continue
		}
		var few, many result
		for _, o := range all {
			if o.Wall == r.Wall && o.Limit == r.Limit && o.shape == r.shape && o.Consumer == r.Consumer {
				if few.Host == 0 || o.rows() < few.rows() {
					few = o
				}
				if o.rows() > many.rows() {
					many = o
				}
			}
		}
		if r.rows() == few.rows() {
			fmt.Fprintf(&b, "| %s | %d | %.3f |\n", r.Wall, r.Limit>>20, float64(many.Host)/float64(few.Host))
		}
	}
	return b.Bytes()
}

func (r result) rows() int64 { return r.subject.rows }

// drawTo plots the host's peak by the number of narrow rows, with a line for each wall
// and limit.
func drawTo(all []result, file string) error {
	p := plot.New()
	p.Title.Text = "Peak resident memory of the host, narrow rows"
	p.X.Label.Text, p.Y.Label.Text = "rows", "MiB"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Y.Min = 0
	p.Legend.Top, p.Legend.Left = true, true
	colors := []color.Color{color.RGBA{0x1f, 0x77, 0xb4, 0xff}, color.RGBA{0xd6, 0x27, 0x28, 0xff}, color.RGBA{0x2c, 0xa0, 0x2c, 0xff}}
	dashes := [][]vg.Length{nil, {vg.Points(6), vg.Points(2)}, {vg.Points(2), vg.Points(2)}, {vg.Points(1), vg.Points(4)}}
	names := strings.Split(*walls, ",")
	kinds := strings.Split(*limits, ",")
	for w, wall := range names {
		for l, limit := range kinds {
			var points plotter.XYs
			for _, r := range all {
				if r.Wall == wall && fmt.Sprint(r.Limit>>20) == limit && r.shape == "narrow" && r.Consumer == "fast" {
					points = append(points, plotter.XY{X: float64(r.rows()), Y: inMiB(r.Host)})
				}
			}
			if len(points) == 0 {
				continue
			}
			slices.SortFunc(points, func(a, b plotter.XY) int { return int(a.X - b.X) })
			line, dots, err := plotter.NewLinePoints(points)
			if err != nil {
				return err
			}
			line.Color, dots.Color, dots.Shape = colors[w%len(colors)], colors[w%len(colors)], draw.CircleGlyph{}
			line.Dashes = dashes[l%len(dashes)]
			p.Add(line, dots)
			p.Legend.Add(wall+" "+limit+" MiB", line)
		}
	}
	return p.Save(18*vg.Centimeter, 12*vg.Centimeter, file)
}
