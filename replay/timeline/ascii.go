package timeline

import (
	"bufio"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"migrationlog/checkpoint"
	"migrationlog/replay/story"
)

// ASCIIOptions are the options of WriteASCII. The zero value is a width of 80 columns, in UTC.
type ASCIIOptions struct {
	Width int // columns of a line; at least 40
	// Time formats Unix milliseconds on the axis. Nil is the time of day in UTC.
	Time func(ms uint64) string
	// Paint colors cells of the picture that have the same symbol. Nil leaves them as they are.
	Paint func(symbol byte, cells string) string
}

// The symbols of the picture. If several fall into one cell, the worst is shown. A second or later
// try of a phase is shown by its number, see story.TryDigit.
const (
	symbolBlank      = ' '
	symbolAddLearner = '-'
	symbolCatchUp    = '='
	symbolLater      = '#'
	symbolDone       = '|'
	symbolInFlight   = '>'
	symbolAborted    = '!'
	symbolDoubt      = '?'
)

// legend explains the symbols.
var legend = []string{
	"- AddLearner", "= CatchUp", "# later phases", "2 a second try", "| done", "! aborted",
	"> in flight at the end", "? lost events may belong here",
}

// rank orders the symbols: of two in one cell, the one with the higher rank is shown.
func rank(symbol byte) int {
	if symbol >= '2' && symbol <= '9' {
		return 5
	}
	return strings.IndexByte(" -=#| >!?", symbol)
}

const minWidth = 40

// WriteASCII writes the picture as text, with a line for each lane and a legend. No line is longer
// than the width.
func (t *Timeline) WriteASCII(w io.Writer, o ASCIIOptions) error {
	if o.Width == 0 {
		o.Width = 80
	}
	if o.Time == nil {
		o.Time = timeOfDay
	}
	o.Width = max(o.Width, minWidth)
	out := bufio.NewWriter(w)
	label := utf8.RuneCountInString(string(t.By))
	for _, l := range t.Lanes {
		label = max(label, utf8.RuneCountInString(l.Label))
	}
	label = min(label+2, o.Width/2)
	p := picture{Timeline: t, columns: o.Width - label - 2 - 1}
	writeLabel(out, string(t.By), label)
	out.WriteString(axis(o.Time(t.FromMS), o.Time(t.ToMS), p.columns+1))
	out.WriteByte('\n')
	for _, l := range t.Lanes {
		writeLabel(out, l.Label, label)
		out.WriteString(paint(strings.TrimRight(string(p.lane(l)), " "), o.Paint))
		out.WriteByte('\n')
	}
	writeWrapped(out, legend, o.Width)
	return out.Flush() // returns the first error
}

// writeLabel writes a label right-aligned, with two blanks after it. A long label loses its start.
func writeLabel(out *bufio.Writer, label string, width int) {
	if runes := []rune(label); len(runes) > width {
		label = string(runes[len(runes)-width:])
	}
	out.WriteString(strings.Repeat(" ", width-utf8.RuneCountInString(label)))
	out.WriteString(label)
	out.WriteString("  ")
}

// axis returns the line with the ends of the range, or only its start if there is no space for
// both.
func axis(from, to string, columns int) string {
	if blanks := columns - len(from) - len(to); blanks > 0 {
		return from + strings.Repeat(" ", blanks) + to
	}
	return from
}

// timeOfDay returns the time of day in UTC, or the number if it is after the year 9999.
func timeOfDay(ms uint64) string {
	if ms > checkpoint.MaxTimestampMS {
		return strconv.FormatUint(ms, 10)
	}
	return time.UnixMilli(int64(ms)).UTC().Format("15:04:05.000")
}

// writeWrapped writes items separated by two blanks, in lines that are not longer than the width.
func writeWrapped(out *bufio.Writer, items []string, width int) {
	used := 0
	for _, item := range items {
		if used+2+len(item) > width {
			out.WriteByte('\n')
			used = 0
		}
		out.WriteString("  " + item)
		used += 2 + len(item)
	}
	out.WriteByte('\n')
}

// paint applies the function to the runs of equal symbols in a line.
func paint(line string, apply func(byte, string) string) string {
	if apply == nil {
		return line
	}
	var painted strings.Builder
	for line != "" {
		run := len(line) - len(strings.TrimLeft(line, line[:1]))
		painted.WriteString(apply(line[0], line[:run]))
		line = line[run:]
	}
	return painted.String()
}

// picture maps times to columns. One more column after them is for moves in flight at the end,
// which no other symbol hides.
type picture struct {
	*Timeline
	columns int
}

// column returns the column of a time. The times of the range are divided equally.
func (p picture) column(ms uint64) int {
	if ms <= p.FromMS {
		return 0
	}
	if ms >= p.ToMS {
		return p.columns - 1
	}
	return int(float64(ms-p.FromMS) / float64(p.ToMS-p.FromMS) * float64(p.columns))
}

// inRange reports whether a time is in the range of the picture.
func (p picture) inRange(ms uint64) bool { return ms >= p.FromMS && ms <= p.ToMS }

// lane returns the symbols of one lane.
func (p picture) lane(l Lane) []byte {
	cells := []byte(strings.Repeat(" ", p.columns+1))
	put := func(column int, symbol byte) {
		if rank(symbol) > rank(cells[column]) {
			cells[column] = symbol
		}
	}
	for _, m := range l.Moves {
		for _, b := range m.Bars {
			if b.ToMS < p.FromMS || b.FromMS > p.ToMS {
				continue
			}
			for c := p.column(b.FromMS); c <= p.column(b.ToMS); c++ {
				put(c, symbolOf(b.Phase))
			}
			if b.Attempt > 0 && p.inRange(b.FromMS) {
				put(p.column(b.FromMS), story.TryDigit(b.Attempt))
			}
		}
		if symbol := endSymbol(m); symbol == symbolInFlight || symbol == symbolDoubt && !m.EndLost {
			if m.ToMS <= p.ToMS {
				put(p.columns, symbol)
			}
		} else if p.inRange(m.ToMS) {
			put(p.column(m.ToMS), symbol)
		}
	}
	p.markLost(l, cells)
	return cells
}

func symbolOf(phase checkpoint.Phase) byte {
	switch phase {
	case checkpoint.PhaseAddLearner:
		return symbolAddLearner
	case checkpoint.PhaseCatchUp:
		return symbolCatchUp
	}
	return symbolLater
}

// endSymbol returns the symbol of the end of a move.
func endSymbol(m *Move) byte {
	switch {
	case m.InDoubt || m.EndLost && m.InFlight():
		return symbolDoubt
	case m.InFlight():
		return symbolInFlight
	case m.Outcome == story.Aborted || m.Outcome == story.RemovedUnfinished:
		return symbolAborted
	}
	return symbolDone
}

// markLost marks the blank cells at which an event of the lane may be lost, and, if it certainly
// belongs to a move of the lane, all cells.
func (p picture) markLost(l Lane, cells []byte) {
	for i := range p.Lost {
		loss := &p.Lost[i]
		if loss.ToMS < p.FromMS || loss.FromMS > p.ToMS {
			continue
		}
		certain := false
		for _, m := range l.Moves {
			certain = certain || slices.Contains(loss.Moves, m)
		}
		if loss.All && !certain {
			continue
		}
		for c := p.column(loss.FromMS); c <= p.column(loss.ToMS); c++ {
			if certain || cells[c] == symbolBlank {
				cells[c] = symbolDoubt
			}
		}
	}
}
