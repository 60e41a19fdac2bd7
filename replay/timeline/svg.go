package timeline

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"strings"

	"migrationlog/checkpoint"
	"migrationlog/replay/story"
)

// SVGOptions are the options of WriteSVG.
type SVGOptions struct {
	Title string // the heading
	// Time formats Unix milliseconds on the axis. Nil is the time of day in UTC.
	Time func(ms uint64) string
}

// The measures of the picture in pixels.
const (
	svgWidth     = 1200
	svgMargin    = 10
	svgHeading   = 44 // height of the heading and the axis
	svgLane      = 18
	svgBar       = 10 // height
	svgCharacter = 7  // width
	svgLegend    = 34 // height
)

// svgStyle has the same colors as the page. The colors also differ in lightness, so the bars
// differ without color too.
const svgStyle = `
text{font:12px system-ui,sans-serif;fill:#24292f}
.back{fill:#fff}.stripe{fill:#f3f5f8}.AddLearner{fill:#a9c1d9}.CatchUp{fill:#2f74c0}.PromoteLearner{fill:#8d6bc4}
.LeadershipTransfer{fill:#e6a117}.Cutover{fill:#0b8f6c}.done{fill:#24292f}.aborted{fill:#c8371b}
.in_flight{fill:#24292f}.doubt{fill:#a15c00}.lost{fill:#a15c00;opacity:.2}.finding{fill:#b0178b}.try{fill:#fff}
@media(prefers-color-scheme:dark){text{fill:#d8dee6}.back{fill:#14181d}.stripe{fill:#1b2127}.AddLearner{fill:#51708f}
.CatchUp{fill:#58a2ee}.PromoteLearner{fill:#b59ae6}.LeadershipTransfer{fill:#f2b84b}.Cutover{fill:#3fc39b}
.done,.in_flight{fill:#d8dee6}.aborted{fill:#ff7a5c}.doubt,.lost{fill:#e0a050}.finding{fill:#f070cc}.try{fill:#14181d}}
`

// svgPicture writes the elements of a picture.
type svgPicture struct {
	*Timeline
	out      *bufio.Writer
	label    float64 // width of the labels
	widthX   float64 // of the lanes
	time     func(ms uint64) string
	findings map[*Move][]foundAt
}

// WriteSVG writes the picture as a static SVG image, with a rectangle for each bar and a title for
// each move.
func (t *Timeline) WriteSVG(w io.Writer, o SVGOptions) error {
	if o.Time == nil {
		o.Time = timeOfDay
	}
	label := len(t.By)
	for _, l := range t.Lanes {
		label = max(label, len(l.Label))
	}
	p := &svgPicture{Timeline: t, out: bufio.NewWriter(w), time: o.Time, findings: t.places()}
	p.label = float64(svgMargin + svgCharacter*label + 10)
	p.widthX = svgWidth - svgMargin - p.label
	height := svgHeading + svgLane*len(t.Lanes) + svgLegend
	fmt.Fprintf(p.out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\">\n<title>%s</title>\n<style>%s</style>\n",
		svgWidth, height, escapeXML(o.Title), svgStyle)
	p.rect("back", 0, 0, svgWidth, float64(height))
	p.text(svgMargin, 16, "start", o.Title)
	p.text(p.label-10, svgHeading-6, "end", string(t.By))
	p.text(p.label, svgHeading-6, "start", p.time(t.FromMS))
	p.text(svgWidth-svgMargin, svgHeading-6, "end", p.time(t.ToMS))
	for i, l := range t.Lanes {
		p.lane(l, float64(svgHeading+svgLane*i), i%2 == 0)
	}
	p.legend(float64(height - svgLegend/2))
	p.out.WriteString("</svg>\n")
	return p.out.Flush() // returns the first error
}

// x returns the horizontal position of a time, within the lanes.
func (p *svgPicture) x(ms uint64) float64 {
	ms = min(max(ms, p.FromMS), p.ToMS)
	if p.ToMS == p.FromMS {
		return p.label
	}
	return p.label + p.widthX*float64(ms-p.FromMS)/float64(p.ToMS-p.FromMS)
}

func (p *svgPicture) rect(class string, x, y, width, height float64) {
	fmt.Fprintf(p.out, `<rect class="%s" x="%s" y="%s" width="%s" height="%s"/>`, class, pixels(x), pixels(y), pixels(width), pixels(height))
	p.out.WriteByte('\n')
}

// text writes a text at a baseline. anchor is start, middle or end.
func (p *svgPicture) text(x, y float64, anchor, text string) {
	fmt.Fprintf(p.out, "<text x=\"%s\" y=\"%s\" text-anchor=\"%s\">%s</text>\n", pixels(x), pixels(y), anchor, escapeXML(text))
}

// pixels formats a number with at most two decimals.
func pixels(n float64) string {
	return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(n, 'f', 2, 64), "0"), ".")
}

func escapeXML(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder returns no error
	return b.String()
}

func (p *svgPicture) lane(l Lane, y float64, striped bool) {
	if striped {
		p.rect("stripe", p.label, y, p.widthX, svgLane)
	}
	p.text(p.label-10, y+13, "end", l.Label)
	for i := range p.Lost {
		loss := &p.Lost[i]
		affected := !loss.All
		for _, m := range l.Moves {
			affected = affected || loss.may(m)
		}
		if affected && loss.ToMS >= p.FromMS && loss.FromMS <= p.ToMS {
			p.rect("lost", p.x(loss.FromMS), y, max(p.x(loss.ToMS)-p.x(loss.FromMS), 2), svgLane)
		}
	}
	for _, m := range l.Moves {
		fmt.Fprintf(p.out, "<g><title>%s</title>\n", escapeXML(p.describe(m)))
		p.move(m, y+(svgLane-svgBar)/2)
		p.out.WriteString("</g>\n")
	}
}

// move draws the bars of a move, its later tries, its end and its findings.
func (p *svgPicture) move(m *Move, y float64) {
	for _, b := range m.Bars {
		if x, width := p.x(b.FromMS), p.x(b.ToMS)-p.x(b.FromMS); width >= 0.005 {
			p.rect(b.Phase.String(), x, y, width, svgBar)
			if b.Attempt > 0 {
				p.rect("try", x, y, min(1, width), svgBar)
			}
		}
	}
	for _, f := range p.findings[m] {
		fmt.Fprintf(p.out, "<path class=\"finding\" d=\"M%s %sl4 -5h-8z\"><title>%s</title></path>\n", pixels(p.x(f.atMS)), pixels(y), escapeXML(f.mark.Rule+": "+f.mark.Message))
	}
	if m.ToMS >= p.FromMS && m.ToMS <= p.ToMS {
		p.end(m, p.x(m.ToMS), y)
	}
}

// end draws the end of a move.
func (p *svgPicture) end(m *Move, x, y float64) {
	switch endSymbol(m) {
	case symbolDone:
		p.rect("done", x, y, 1, svgBar)
	case symbolAborted:
		p.rect("aborted", x, y-3, 2, svgBar+6)
	case symbolInFlight:
		fmt.Fprintf(p.out, "<path class=\"in_flight\" d=\"M%s %sl6 %dl-6 %dz\"/>\n", pixels(x), pixels(y), svgBar/2, svgBar/2)
	case symbolDoubt:
		fmt.Fprintf(p.out, "<text class=\"doubt\" x=\"%s\" y=\"%s\">?</text>\n", pixels(x), pixels(y+svgBar))
	}
}

// foundAt is a finding at a place of a move.
type foundAt struct {
	mark *Mark
	atMS uint64
}

// places returns the findings of each move.
func (t *Timeline) places() map[*Move][]foundAt {
	places := map[*Move][]foundAt{}
	for i := range t.Marks {
		for _, p := range t.Marks[i].Places {
			places[p.Move] = append(places[p.Move], foundAt{&t.Marks[i], p.AtMS})
		}
	}
	return places
}

// describe returns the text that a viewer shows for a move.
func (p *svgPicture) describe(m *Move) string {
	text := fmt.Sprintf("vshard %d, %s, %s\n%s to %s: ", m.VShardID, m.nodes(), m.ID, p.time(m.FromMS), p.time(m.ToMS))
	switch {
	case m.EndLost && m.InFlight():
		return text + "its end is lost, after " + m.Phase.String()
	case m.InDoubt:
		return text + "in doubt: it was at " + m.Phase.String() + ", and events after that are lost"
	case m.InFlight():
		return text + "in flight at " + m.Phase.String()
	case m.Outcome == story.Aborted:
		return text + "aborted at " + m.Phase.String() + ": " + m.Reason
	case m.Outcome == story.RemovedUnfinished:
		return text + "removed at " + m.Phase.String()
	}
	return text + "done"
}

// nodes returns the nodes of a move, such as "8 -> 6". Unknown nodes are "?".
func (m *Move) nodes() string {
	name := func(node uint64, known bool) string {
		if !known {
			return "?"
		}
		return strconv.FormatUint(node, 10)
	}
	return name(m.SourceNode, m.HasSource) + " -> " + name(m.TargetNode, m.HasTarget)
}

func (p *svgPicture) legend(y float64) {
	x := p.label
	for phase := checkpoint.PhaseAddLearner; phase < checkpoint.PhaseComplete; phase++ {
		p.rect(phase.String(), x, y-9, 14, svgBar)
		p.text(x+19, y, "start", phase.String())
		x += float64(svgCharacter*len(phase.String()) + 34)
	}
	for _, end := range []struct{ class, text string }{{"done", "done"}, {"aborted", "aborted"}, {"lost", "lost events may belong here"}} {
		p.rect(end.class, x, y-9, 3, svgBar)
		p.text(x+8, y, "start", end.text)
		x += float64(svgCharacter*len(end.text) + 24)
	}
}
