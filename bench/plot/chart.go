package plot

import (
	"cmp"
	"fmt"
	"html"
	"io"
	"slices"
	"strings"
)

// Chart is one picture.
type Chart struct {
	Title    string
	Subtitle string
	X, Y     Axis
	Series   []Series
}

// Axis is one direction of a chart. Its range is the range of the values.
type Axis struct {
	Label string // with the unit
	Log   bool   // logarithmic; the picture appends that to the label
	Ticks []Tick // none: chosen from the range
}

// label returns the text beside the axis.
func (a Axis) label() string {
	if a.Log {
		return a.Label + " (logarithmic)"
	}
	return a.Label
}

// Tick is a value with a name.
type Tick struct {
	Value float64
	Name  string
}

// Series is one line.
type Series struct {
	Name   string
	Style  Style
	Number int     // selects the look of a plain series or of a variant; the same number looks the same in all charts
	Points []Point // in the order of X
}

// Style determines how much a series stands out.
type Style uint8

// The styles.
const (
	Plain     Style = iota
	Subject         // the subject of the chart: a thick solid line
	Reference       // the others are compared with this line: gray
	Variant         // of the subject: thin, in its colour
)

// Point is a value and its spread; Low and High are drawn if they differ.
type Point struct{ X, Y, Low, High float64 }

// Positions in the picture's units.
const (
	widthPX, heightPX = 960.0, 560.0
	leftPX, rightPX   = 84.0, 680.0 // of the field
	topPX, bottomPX   = 74.0, 490.0
	labelStepPX       = 18.0 // least distance of two labels
	keyPX, keyWidthPX = rightPX + 22, 34.0
)

// colours can be distinguished by readers with colour blindness. The first of each pair is for light
// backgrounds.
var colours = [][2]string{
	{"#0072b2", "#56b4e9"}, {"#d55e00", "#ff8a3d"}, {"#009e73", "#2fd0a2"}, {"#aa3377", "#ee77bb"}, {"#997700", "#e6c229"},
	{"#4b5fc0", "#9fa8ff"}, {"#8b4a2b", "#d9a07c"}, {"#3b7d23", "#9bd770"}, {"#c2185b", "#ff7fa5"}, {"#00838f", "#5ee0ea"},
}

// WriteSVG draws the chart. Each series has a mark at each data point. Its label has a sample of its line,
// and no line leads from the data to the label.
func (c Chart) WriteSVG(w io.Writer) error {
	d := &drawing{chart: c, x: c.X.scale(c.values(func(p Point) []float64 { return []float64{p.X} }), leftPX, rightPX)}
	d.y = c.Y.scale(c.values(func(p Point) []float64 { return []float64{p.Y, p.Low, p.High} }), bottomPX, topPX)
	d.head()
	d.axes()
	for _, subject := range []bool{false, true} { // the subject over the others
		for _, s := range c.Series {
			if (s.Style == Subject) == subject {
				d.series(s)
			}
		}
	}
	d.labels()
	d.put("</svg>\n")
	_, err := io.WriteString(w, d.text.String())
	return err
}

func (c Chart) values(of func(Point) []float64) (all []float64) {
	for _, s := range c.Series {
		for _, p := range s.Points {
			for _, v := range of(p) {
				if v != 0 || !c.Y.Log {
					all = append(all, v)
				}
			}
		}
	}
	return all
}

type drawing struct {
	chart Chart
	x, y  scale
	text  strings.Builder
}

func (d *drawing) put(format string, args ...any) { fmt.Fprintf(&d.text, format, args...) }

func (d *drawing) head() {
	d.put(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" role="img" aria-label="%s">`+"\n", widthPX, heightPX, html.EscapeString(d.chart.Title))
	d.put("<style>\n.back{fill:#fff}text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-size:17px;font-weight:600}.faint{fill:#57606a}.grid{stroke:#d0d7de}.axis{stroke:#57606a}\n")
	d.put("path{fill:none;stroke-width:1.8;stroke-linejoin:round}.grid,.axis{stroke-width:1}.spread{stroke-width:1;opacity:.7}.mark{stroke:none}.strokes{stroke-width:2}.open{stroke-width:1.6}\n")
	d.colours(0, "#6e7781", "#fff")
	d.put(".subject{font-weight:700}\n")
	d.put("@media (prefers-color-scheme:dark){.back{fill:#0d1117}text{fill:#e6edf3}.faint{fill:#9198a1}.grid{stroke:#30363d}.axis{stroke:#9198a1}\n")
	d.colours(1, "#9198a1", "#0d1117")
	d.put("}\n</style>\n")
	d.put(`<rect class="back" width="%.0f" height="%.0f"/>`+"\n", widthPX, heightPX)
	d.put(`<text class="title" x="%.0f" y="30">%s</text><text class="faint" x="%.0f" y="52">%s</text>`+"\n",
		leftPX, html.EscapeString(d.chart.Title), leftPX, html.EscapeString(d.chart.Subtitle))
}

// colours writes the rules of one background: of the colours, of the reference and of open marks.
func (d *drawing) colours(which int, reference, background string) {
	rule := func(class, colour string) {
		d.put(".%s{stroke:%s}.mark.%s{fill:%s;stroke:none}", class, colour, class, colour)
	}
	for i, pair := range colours {
		rule(fmt.Sprintf("c%d", i), pair[which])
	}
	rule("r", reference)
	d.put(".open{fill:%s}\n", background)
}

func (d *drawing) axes() {
	for _, t := range d.y.ticks {
		y := d.y.at(t.Value)
		d.put(`<path class="grid" d="M%.0f %.1fH%.0f"/><text class="faint" x="%.0f" y="%.1f" text-anchor="end">%s</text>`+"\n",
			leftPX, y, rightPX, leftPX-8, y+4.5, html.EscapeString(t.Name))
	}
	for _, t := range d.x.ticks {
		x := d.x.at(t.Value)
		d.put(`<path class="axis" d="M%.1f %.0fv6"/><text class="faint" x="%.1f" y="%.0f" text-anchor="middle">%s</text>`+"\n",
			x, bottomPX, x, bottomPX+22, html.EscapeString(t.Name))
	}
	d.put(`<path class="grid" d="M%.0f %.0fV%.0fM%.0f %.0fV%.0f"/>`+"\n", leftPX, topPX, bottomPX, rightPX, topPX, bottomPX)
	d.put(`<path class="axis" d="M%.0f %.0fH%.0f"/>`+"\n", leftPX, bottomPX, rightPX)
	d.put(`<text x="%.0f" y="%.0f" text-anchor="middle">%s</text>`+"\n", (leftPX+rightPX)/2, bottomPX+50, html.EscapeString(d.chart.X.label()))
	d.put(`<text transform="translate(20 %.0f) rotate(-90)" text-anchor="middle">%s</text>`+"\n", (topPX+bottomPX)/2, html.EscapeString(d.chart.Y.label()))
}

func (d *drawing) series(s Series) {
	look := lookOf(s)
	var path strings.Builder
	for n, p := range s.Points {
		fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(n, 1)], d.x.at(p.X), d.y.at(p.Y))
	}
	d.put(`<g><title>%s</title>`, html.EscapeString(s.Name))
	d.line(look, path.String())
	for _, p := range s.Points {
		if p.Low > 0 && p.Low != p.High {
			d.put(`<path class="%s spread" d="M%.1f %.1fV%.1fm-3 0h6M%.1f %.1fm-3 0h6"/>`,
				look.colour, d.x.at(p.X), d.y.at(p.Low), d.y.at(p.High), d.x.at(p.X), d.y.at(p.Low))
		}
	}
	for _, p := range s.Points {
		d.put("%s", look.markAt(d.x.at(p.X), d.y.at(p.Y)))
	}
	d.put("</g>\n")
}

// line draws a line of that look.
func (d *drawing) line(l look, path string) {
	d.put(`<path class="%s" style="stroke-width:%.1f;stroke-dasharray:%s" d="%s"/>`, l.colour, l.width, l.dash, path)
}

// labels puts the names beside the field, in the order of the lines' ends and moved apart if they
// would overlap. A sample of the line stands before each name.
func (d *drawing) labels() {
	type label struct {
		series Series
		y      float64
	}
	var all []label
	for _, s := range d.chart.Series {
		if len(s.Points) > 0 {
			all = append(all, label{s, d.y.at(s.Points[len(s.Points)-1].Y)})
		}
	}
	slices.SortStableFunc(all, func(a, b label) int { return cmp.Compare(a.y, b.y) })
	next := topPX - 4
	for i := range all {
		all[i].y = max(all[i].y, next)
		next = all[i].y + labelStepPX
	}
	last := bottomPX
	for i := len(all) - 1; i >= 0; i-- {
		all[i].y = min(all[i].y, last)
		last = all[i].y - labelStepPX
	}
	for _, l := range all {
		look, class := lookOf(l.series), "label"
		if l.series.Style == Subject {
			class += " subject"
		}
		d.line(look, fmt.Sprintf("M%.1f %.1fh%.1f", keyPX, l.y, keyWidthPX))
		d.put("%s", look.markAt(keyPX+keyWidthPX/2, l.y))
		d.put(`<text class="%s" x="%.0f" y="%.1f">%s</text>`+"\n", class, keyPX+keyWidthPX+8, l.y+4.5, html.EscapeString(l.series.Name))
	}
}
