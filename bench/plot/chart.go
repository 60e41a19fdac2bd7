package plot

import (
	"fmt"
	"html"
	"io"
	"math"
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

// Axis is one direction of a chart. Its range is that of the values.
type Axis struct {
	Label string // with the unit
	Log   bool
	Ticks []Tick // none: chosen by the range
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
	Colour int     // of a plain line; lines with one number have one colour in all charts
	Points []Point // in the order of X
}

// Style says how much a line stands out.
type Style uint8

// The styles.
const (
	Plain     Style = iota
	Subject         // what the picture is about: thick
	Reference       // what the others are held against: dashed
	Variant         // of the subject: in its colour, thin and dotted
)

// Point is a value and its spread; Low and High are drawn if they differ.
type Point struct{ X, Y, Low, High float64 }

// The places on the picture, in its units.
const (
	widthPX, heightPX = 960.0, 560.0
	leftPX, rightPX   = 84.0, 716.0 // of the field
	topPX, bottomPX   = 74.0, 490.0
	labelStepPX       = 17.0 // between two labels
)

// Colours that can be told from each other, also by the colour-blind; the first
// of each pair is for light surroundings.
var colours = [][2]string{
	{"#0072b2", "#56b4e9"}, {"#d55e00", "#ff8a3d"}, {"#009e73", "#2fd0a2"}, {"#aa3377", "#ee77bb"}, {"#997700", "#e6c229"},
	{"#4b5fc0", "#9fa8ff"}, {"#8b4a2b", "#d9a07c"}, {"#3b7d23", "#9bd770"}, {"#c2185b", "#ff7fa5"}, {"#00838f", "#5ee0ea"},
}

// WriteSVG draws the chart.
func (c Chart) WriteSVG(w io.Writer) error {
	d := &drawing{chart: c, x: c.X.scale(c.values(func(p Point) []float64 { return []float64{p.X} }), leftPX, rightPX)}
	d.y = c.Y.scale(c.values(func(p Point) []float64 { return []float64{p.Y, p.Low, p.High} }), bottomPX, topPX)
	d.head()
	d.axes()
	for _, subject := range []bool{false, true} { // the subject over the others
		for i, s := range c.Series {
			if (s.Style == Subject) == subject {
				d.series(i, s)
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
	d.put("path{fill:none;stroke-width:1.8;stroke-linejoin:round}.subject{stroke-width:3.6}.reference{stroke-dasharray:7 5}.variant{stroke-dasharray:2 4}.spread,.lead{stroke-width:1;opacity:.7}\n")
	rules := func(which int) {
		for i, pair := range colours {
			d.put(".c%d{stroke:%s}circle.c%d,text.c%d{fill:%s;stroke:none}", i, pair[which], i, i, pair[which])
		}
		d.put("\n")
	}
	rules(0)
	d.put(".r{stroke:#6e7781}circle.r,text.r{fill:#6e7781;stroke:none}text.subject{font-weight:700}\n")
	d.put("@media (prefers-color-scheme:dark){.back{fill:#0d1117}text{fill:#e6edf3}.faint{fill:#9198a1}.grid{stroke:#30363d}.axis{stroke:#9198a1}\n")
	rules(1)
	d.put(".r{stroke:#9198a1}circle.r,text.r{fill:#9198a1;stroke:none}}\n</style>\n")
	d.put(`<rect class="back" width="%.0f" height="%.0f"/>`+"\n", widthPX, heightPX)
	d.put(`<text class="title" x="%.0f" y="30">%s</text><text class="faint" x="%.0f" y="52">%s</text>`+"\n",
		leftPX, html.EscapeString(d.chart.Title), leftPX, html.EscapeString(d.chart.Subtitle))
}

func (d *drawing) axes() {
	for _, t := range d.y.ticks {
		y := d.y.at(t.Value)
		d.put(`<path class="grid" stroke-width="1" d="M%.0f %.1fH%.0f"/><text class="faint" x="%.0f" y="%.1f" text-anchor="end">%s</text>`+"\n",
			leftPX, y, rightPX, leftPX-8, y+4.5, html.EscapeString(t.Name))
	}
	for _, t := range d.x.ticks {
		x := d.x.at(t.Value)
		d.put(`<path class="axis" stroke-width="1" d="M%.1f %.0fv6"/><text class="faint" x="%.1f" y="%.0f" text-anchor="middle">%s</text>`+"\n",
			x, bottomPX, x, bottomPX+22, html.EscapeString(t.Name))
	}
	d.put(`<path class="axis" d="M%.0f %.0fH%.0f"/>`+"\n", leftPX, bottomPX, rightPX)
	d.put(`<text x="%.0f" y="%.0f" text-anchor="middle">%s</text>`+"\n", (leftPX+rightPX)/2, bottomPX+50, html.EscapeString(d.chart.X.Label))
	d.put(`<text transform="translate(20 %.0f) rotate(-90)" text-anchor="middle">%s</text>`+"\n", (topPX+bottomPX)/2, html.EscapeString(d.chart.Y.Label))
}

// class is the colour and the weight of a series.
func (d *drawing) class(i int) string {
	switch s := d.chart.Series[i]; s.Style {
	case Reference:
		return "r reference"
	case Subject:
		return "c0 subject"
	case Variant:
		return "c0 variant"
	default: // the subject's colour is its own
		return fmt.Sprintf("c%d", 1+s.Colour%(len(colours)-1))
	}
}

func (d *drawing) series(i int, s Series) {
	class := d.class(i)
	var path strings.Builder
	for n, p := range s.Points {
		fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(n, 1)], d.x.at(p.X), d.y.at(p.Y))
	}
	d.put(`<g><title>%s</title><path class="%s" d="%s"/>`, html.EscapeString(s.Name), class, path.String())
	for _, p := range s.Points {
		d.put(`<circle class="%s" cx="%.1f" cy="%.1f" r="%.1f"/>`, class, d.x.at(p.X), d.y.at(p.Y), 2.6)
		if p.Low > 0 && p.Low != p.High {
			d.put(`<path class="%s spread" stroke-dasharray="none" d="M%.1f %.1fV%.1fm-3 0h6M%.1f %.1fm-3 0h6"/>`,
				strings.Fields(class)[0], d.x.at(p.X), d.y.at(p.Low), d.y.at(p.High), d.x.at(p.X), d.y.at(p.Low))
		}
	}
	d.put("</g>\n")
}

// labels puts the names at the ends of the lines, moved apart where they would
// cover each other.
func (d *drawing) labels() {
	type label struct {
		series  int
		x, y    float64 // where the line ends
		placedY float64
	}
	var all []label
	for i, s := range d.chart.Series {
		if len(s.Points) > 0 {
			end := s.Points[len(s.Points)-1]
			all = append(all, label{series: i, x: d.x.at(end.X), y: d.y.at(end.Y)})
		}
	}
	slices.SortStableFunc(all, func(a, b label) int { return int(math.Copysign(1, a.y-b.y)) })
	next := topPX - 4
	for i := range all {
		all[i].placedY = max(all[i].y, next)
		next = all[i].placedY + labelStepPX
	}
	last := bottomPX
	for i := len(all) - 1; i >= 0; i-- {
		all[i].placedY = min(all[i].placedY, last)
		last = all[i].placedY - labelStepPX
	}
	for _, l := range all {
		class := d.class(l.series)
		d.put(`<path class="%s lead" d="M%.1f %.1fL%.0f %.1f"/><text class="%s" x="%.0f" y="%.1f">%s</text>`+"\n",
			strings.Fields(class)[0], l.x+5, l.y, rightPX+22, l.placedY, class, rightPX+26, l.placedY+4.5, html.EscapeString(d.chart.Series[l.series].Name))
	}
}
