package plot

import (
	"fmt"
	"strings"
)

// mark is the shape at each data point of a series. Shapes and dash patterns distinguish the series
// in grayscale.
type mark struct {
	corners []point // relative to the data point, in units of the mark's radius; nil: a circle
	strokes bool    // the corners are the ends of separate strokes, in pairs
	open    bool    // filled with the background
}

type point struct{ x, y float64 }

var (
	square       = []point{{-.9, -.9}, {.9, -.9}, {.9, .9}, {-.9, .9}}
	triangle     = []point{{0, -1.2}, {1.1, .8}, {-1.1, .8}}
	triangleDown = []point{{0, 1.2}, {1.1, -.8}, {-1.1, -.8}}
	diamond      = []point{{0, -1.3}, {1.3, 0}, {0, 1.3}, {-1.3, 0}}
	cross        = []point{{-1, -1}, {1, 1}, {-1, 1}, {1, -1}}
	plus         = []point{{-1.2, 0}, {1.2, 0}, {0, -1.2}, {0, 1.2}}
	asterisk     = []point{{0, -1.3}, {0, 1.3}, {-1.1, -.65}, {1.1, .65}, {-1.1, .65}, {1.1, -.65}}
	hourglass    = []point{{-1, -1}, {1, -1}, {-1, 1}, {1, 1}}
	pentagon     = []point{{0, -1.2}, {1.15, -.35}, {.7, 1}, {-.7, 1}, {-1.15, -.35}}
)

// look is how a series is drawn.
type look struct {
	colour string // class of the colour
	dash   string // stroke-dasharray
	mark   mark
	width  float64 // of the line, in the picture's units
	radius float64 // of a mark
}

// Looks of plain series and of variants, by Series.Number.
var (
	plainMarks = []mark{
		{corners: square}, {corners: triangle}, {corners: diamond, open: true}, {corners: triangleDown}, {corners: square, open: true},
		{corners: cross, strokes: true}, {corners: triangle, open: true}, {corners: diamond}, {corners: plus, strokes: true},
	}
	plainDashes  = []string{"8 3", "2 3", "9 3 2 3", "none", "4 4", "14 4", "9 3 2 3 2 3", "5 2", "1 5"}
	variantMarks = []mark{
		{corners: asterisk, strokes: true}, {corners: pentagon, open: true}, {corners: triangleDown, open: true}, {corners: pentagon}, {corners: hourglass},
	}
	variantDashes = []string{"2 4", "6 3 2 3", "12 3", "4 2", "3 6"}
)

// lookOf returns the look of a series. Plain series with different numbers below nine differ in
// colour, dash pattern and mark. So do variants below five, which have the subject's colour.
func lookOf(s Series) look {
	switch n := s.Number; s.Style {
	case Subject:
		return look{colour: "c0", dash: "none", width: 3.6, radius: 5}
	case Reference:
		return look{colour: "r", dash: "7 5", mark: mark{open: true}, width: 1.8, radius: 4}
	case Variant:
		return look{colour: "c0", dash: variantDashes[n%len(variantDashes)], mark: variantMarks[n%len(variantMarks)], width: 1.8, radius: 4}
	default:
		return look{
			colour: fmt.Sprintf("c%d", 1+n%(len(colours)-1)), dash: plainDashes[n%len(plainDashes)], mark: plainMarks[n%len(plainMarks)],
			width: 1.8, radius: 4,
		}
	}
}

// markAt returns the SVG element of the look's mark at a point.
func (l look) markAt(x, y float64) string {
	class := "mark " + l.colour
	switch {
	case l.mark.strokes:
		class = "strokes " + l.colour
	case l.mark.open:
		class = "open " + l.colour
	}
	if l.mark.corners == nil {
		return fmt.Sprintf(`<circle class="%s" cx="%.1f" cy="%.1f" r="%.1f"/>`, class, x, y, l.radius)
	}
	var path strings.Builder
	for i, c := range l.mark.corners {
		command := byte('L')
		if i == 0 || l.mark.strokes && i%2 == 0 {
			command = 'M'
		}
		fmt.Fprintf(&path, "%c%.1f %.1f", command, x+c.x*l.radius, y+c.y*l.radius)
	}
	if !l.mark.strokes {
		path.WriteByte('Z')
	}
	return fmt.Sprintf(`<path class="%s" d="%s"/>`, class, path.String())
}
