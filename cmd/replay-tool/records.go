package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// recordPrinter prints records one by one in the format of --output.
type recordPrinter struct {
	*tool
	clock   *clock
	ids     shortIDs // of the records printed so far
	screen  recordScreen
	printed int
	line    []byte // memory of the last line, for reuse
}

// newRecordPrinter returns a printer for the records of the log in dir.
func (t *tool) newRecordPrinter(dir string) *recordPrinter {
	p := &recordPrinter{tool: t, clock: t.clock(), ids: shortestIDs(nil)}
	p.screen = newRecordScreen(t.width(), seqDigits(dir), hasPositions(dir), p.clock.title())
	return p
}

// hasPositions reports whether the events of a log have raft indexes.
func hasPositions(dir string) bool {
	reader, err := replay.Open(dir)
	if err == nil {
		_, err = reader.Positions()
	}
	return err == nil // an error is returned when the log is read
}

// print prints the next record. The facts are those of its incarnation.
func (p *recordPrinter) print(r replay.Record, m moveFacts) error {
	p.line = p.line[:0]
	switch p.output {
	case outputNDJSON:
		b, err := r.MarshalJSON() // json.Marshal would check and copy these bytes once more
		if err != nil {
			return err
		}
		p.line = append(p.line, b...)
	case outputJSON:
		b, err := json.MarshalIndent(r, "  ", "  ")
		if err != nil {
			return err
		}
		p.line = append(p.line, ",\n  "...)
		if p.printed == 0 {
			p.line[0] = '['
		}
		p.line = append(p.line, b...)
	default:
		p.appendRow(r, m)
	}
	if p.output != outputJSON {
		p.line = append(p.line, '\n')
	}
	p.printed++
	_, err := p.stdout.Write(p.line)
	return err
}

// end prints the end of a JSON array. Other formats have no end.
func (p *recordPrinter) end() error {
	if p.output != outputJSON {
		return nil
	}
	end := "\n]\n"
	if p.printed == 0 {
		end = "[]\n"
	}
	_, err := fmt.Fprint(p.stdout, end)
	return err
}

// The columns of the table of records, in their order.
const (
	recordSeq = iota
	recordIndex
	recordTime
	recordVShard
	recordMove
	recordStep
	recordID
	recordMigration
	recordDetail
	recordColumns
)

// recordScreen is the layout of the table of records. A log has too many records to find the widest
// value of each column first. The widths are therefore fixed. A longer value moves the rest of its
// line to the right. The details are cut at the end of the line.
type recordScreen struct {
	width int // of a line; 0: unlimited
	shown [recordColumns]bool
	start [recordColumns]int
	cells [recordColumns]recordColumn
}

type recordColumn struct {
	title string
	width int
	right bool
	rank  int // if the line is too long, the columns with the highest rank are left out first; 0: never
}

const (
	columnGap      = 2
	stepWidth      = len("LeadershipTransfer")
	idDigits       = 36
	minDetailWidth = 8
	wideDetail     = 20 // the whole id and the raft index are shown if the details still have this width
)

// newRecordScreen returns the layout for lines of that width. The column INDEX is for logs whose events
// have a raft index.
func newRecordScreen(width, seqDigits int, hasIndex bool, timeTitle string) recordScreen {
	s := recordScreen{width: width, cells: [recordColumns]recordColumn{
		recordSeq:       {"SEQ", max(seqDigits, len("SEQ")), true, 0},
		recordIndex:     {"INDEX", max(seqDigits+1, len("INDEX")), true, 6},
		recordTime:      {timeTitle, max(shortTimeWidth, len(timeTitle)), false, 3},
		recordVShard:    {"VSHARD", len("VSHARD"), true, 1},
		recordMove:      {"MOVE", len("10 -> 12"), false, 4},
		recordStep:      {"STEP", stepWidth, false, 0},
		recordID:        {"ID", minShortDigits, false, 2},
		recordMigration: {"MIGRATION", idDigits, false, 7},
		recordDetail:    {"DETAIL", 0, false, 5},
	}}
	length := minDetailWidth + wideDetail - columnGap
	for i, c := range s.cells {
		if s.shown[i] = i != recordIndex || hasIndex; s.shown[i] {
			length += c.width + columnGap
		}
	}
	for rank := 7; rank > 0 && width > 0 && length > width; rank-- {
		for i, c := range s.cells {
			if c.rank == rank && s.shown[i] {
				s.shown[i] = false
				length -= c.width + columnGap
			}
		}
		switch rank {
		case s.cells[recordIndex].rank:
			length -= wideDetail
		case s.cells[recordDetail].rank:
			length -= minDetailWidth
		}
	}
	next := 0
	for i, c := range s.cells {
		if s.shown[i] {
			s.start[i] = next
			next += c.width + columnGap
		}
	}
	return s
}

// appendCell appends the blanks before a column, and its text. If an earlier text is longer than its
// column, a gap still separates the two. used is the number of columns of the terminal that the line
// needs so far. The result has the new number.
func (s *recordScreen) appendCell(line []byte, used, i int, text string, paint func(string) string) ([]byte, int) {
	if text == "" || !s.shown[i] {
		return line, used
	}
	start := s.start[i]
	if s.cells[i].right {
		start += max(s.cells[i].width-textWidth(text), 0)
	}
	if used > 0 {
		start = max(start, used+columnGap)
	}
	if s.width > 0 {
		if text = cutList(text, s.width-start); text == "" {
			return line, used
		}
	}
	line = append(line, bytes.Repeat([]byte{' '}, start-used)...)
	return append(line, paint(text)...), start + textWidth(text)
}

func (p *recordPrinter) appendCells(cells [recordColumns]string, styles [recordColumns]style) {
	used := 0
	for i, text := range cells {
		p.line, used = p.screen.appendCell(p.line, used, i, text, func(text string) string { return p.paint(styles[i], text) })
	}
}

// appendRow appends the row of a record, without the line end. Before the first row it appends the
// heading, and before the first row of each day the date.
func (p *recordPrinter) appendRow(r replay.Record, m moveFacts) {
	if p.printed == 0 {
		var titles [recordColumns]string
		for i, c := range p.screen.cells {
			titles[i] = c.title
		}
		p.appendCells(titles, [recordColumns]style{})
		p.line = append(p.line, '\n')
	}
	if d := r.Damage; d != nil {
		p.appendCells([recordColumns]string{recordSeq: damageSeqs(*d), recordStep: "DAMAGE", recordDetail: printable(d.String())},
			[recordColumns]style{recordStep: styleError, recordDetail: styleError})
		return
	}
	if day := p.clock.newDay(r.WallMS()); day != "" {
		p.appendCells([recordColumns]string{recordTime: day}, [recordColumns]style{recordTime: styleDim})
		p.line = append(p.line, '\n')
	}
	idCell, migrationCell, vshardCell, moveNodes := "", "", "", ""
	if id, ok := r.Migration(); ok {
		p.ids.add(id)
		idCell, migrationCell, vshardCell, moveNodes = p.ids.of(id), id.String(), m.vshardCell(), moveCell(m.facts)
	}
	detail, warns := recordDetailOf(r, m)
	styles := [recordColumns]style{recordTime: styleDim, recordID: styleDim, recordMigration: styleDim}
	switch {
	case r.Kind() == replay.KindAbort:
		styles[recordStep], styles[recordDetail] = styleError, styleError
	case warns:
		styles[recordStep], styles[recordDetail] = styleWarning, styleWarning
	}
	p.appendCells([recordColumns]string{
		recordSeq: strconv.FormatUint(r.Seq, 10), recordIndex: indexCell(r.RaftIndex), recordTime: p.clock.short(r.WallMS()), recordVShard: vshardCell, recordMove: moveNodes,
		recordStep: stepOf(r), recordID: idCell, recordMigration: migrationCell, recordDetail: printable(detail),
	}, styles)
}

// indexCell returns a raft index, or "" if there is none.
func indexCell(index uint64) string {
	if index == 0 {
		return ""
	}
	return strconv.FormatUint(index, 10)
}

// recordDetailOf returns the details of a record that its other columns do not have. warns is true
// if they are unusual.
func recordDetailOf(r replay.Record, m moveFacts) (detail string, warns bool) {
	var parts []string
	if u, ok := r.Event.(checkpoint.Upserted); ok {
		if attempt := u.Checkpoint.Attempt; attempt > 0 {
			parts, warns = append(parts, tryText(u.Checkpoint.Phase(), attempt)), !checkpoint.RestoresFacts(u.Checkpoint.Phase(), attempt)
		}
		text, isUnusual := payloadSummary(u.Checkpoint.Payload, m)
		parts, warns = append(parts, text), warns || isUnusual
	} else if text := eventDetail(r); text != "" {
		parts = append(parts, text)
	}
	if epoch := r.Epoch(); epoch != 0 {
		parts = append(parts, fmt.Sprintf("epoch %d", epoch))
	}
	return strings.Join(parts, ", "), warns
}

// payloadSummary returns the values of a payload that the columns VSHARD and MOVE do not have, the
// important ones first.
func payloadSummary(p checkpoint.Payload, m moveFacts) (text string, isUnusual bool) {
	switch p := p.(type) {
	case checkpoint.AddLearner:
		return fmt.Sprintf("budget %s, group %d", pauseSpan(p.WritePauseBudgetUS), p.SourceGroup), false
	case checkpoint.CatchUp:
		return fmt.Sprintf("index %d, learner added", p.LearnerLogIndexAtAdd), false
	case checkpoint.PromoteLearner:
		return fmt.Sprintf("group %d", p.SourceGroup), false
	case checkpoint.LeadershipTransfer:
		if !p.TargetIsVoter {
			return fmt.Sprintf("! not a voter, group %d", p.SourceGroup), true
		}
		return fmt.Sprintf("group %d", p.SourceGroup), false
	case checkpoint.Cutover:
		return fmt.Sprintf("group %d", p.SourceGroup), false
	case checkpoint.Complete:
		return completeDetail(p, m.budgetUS())
	}
	return payloadDetail(p), false
}

// completeDetail compares the pause of a move with its budget, which is 0 if it is not known.
func completeDetail(p checkpoint.Complete, budgetUS uint64) (text string, isUnusual bool) {
	text = "paused " + pauseSpan(p.ActualPauseUS)
	if isUnusual = budgetUS > 0 && p.ActualPauseUS > budgetUS; isUnusual {
		text = "! " + text
	}
	if budgetUS > 0 {
		text += " of " + pauseSpan(budgetUS)
	}
	if !p.GhostStubInstalled {
		return "! no stub, " + strings.TrimPrefix(text, "! "), true
	}
	return text + ", stub", isUnusual
}

// damageSeqs returns the SEQ column of damage.
func damageSeqs(d replay.Damage) string {
	switch {
	case d.Lost() == 0:
		return "-"
	case d.Lost() == 1:
		return strconv.FormatUint(d.FirstSeq, 10)
	}
	return fmt.Sprintf("%d-%d", d.FirstSeq, d.LastSeq)
}

// seqDigits returns the number of digits that the highest seq of a log probably has, from the name
// and the size of its last segment.
func seqDigits(dir string) int {
	names, err := segment.Names(os.DirFS(dir))
	if err != nil || len(names) == 0 {
		return 1
	}
	last := names[len(names)-1]
	first, _ := segment.ParseName(last)
	events := uint64(0)
	if info, err := os.Stat(filepath.Join(dir, segment.WALDir, last)); err == nil {
		events = uint64(info.Size()) / usualFrameBytes
	}
	return len(strconv.FormatUint(first+events, 10))
}

// usualFrameBytes is the size of a frame without long text.
const usualFrameBytes = 94
