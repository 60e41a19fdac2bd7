package timeline

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/story"
)

// Options select the moves of a timeline. The zero value selects all, by vShard.
type Options struct {
	By               By
	SinceMS, UntilMS uint64 // the range, Unix milliseconds; 0: from the first record, to the last one
	LastMS           uint64 // length of a range that ends at the last record, cut to the history; excludes SinceMS and UntilMS
	EndMS            uint64 // the log's highest clock, if the records with it are not added
	// Select selects moves by their final state. Nil selects all.
	Select func(*story.Incarnation) bool
	// MaxMoves limits the moves in the range. Add returns ErrTooManyMoves if there are more. 0 is
	// no limit.
	MaxMoves int
}

// ErrTooManyMoves is returned by a Builder if a history has more moves than Options.MaxMoves.
var ErrTooManyMoves = errors.New("too many moves for one picture")

// Builder collects the moves of a history in one pass. It keeps the steps of the moves that may be
// in the range, and drops the others when they end. It is not safe for concurrent use.
type Builder struct {
	options Options
	tracker *story.Tracker
	live    map[checkpoint.MigrationID]*Move // not ended
	ended   []*Move                          // may be in the range
	lost    []Loss                           // ascending
	open    int                              // index of the first loss after which no event has come yet

	startMS uint64 // lowest clock
	lastMS  uint64 // clock of the last event
	events  int

	restoredMS uint64 // highest clock of a restored row
}

// NewBuilder returns a builder at the beginning of a history.
func NewBuilder(o Options) *Builder {
	if o.By == "" {
		o.By = ByVShard
	}
	keepAll := func(checkpoint.MigrationID) bool { return true }
	return &Builder{
		options: o,
		tracker: story.NewTracker(story.Options{KeepSteps: keepAll}),
		live:    map[checkpoint.MigrationID]*Move{},
	}
}

// Add applies the next record of the history. Damage must be added too.
func (b *Builder) Add(r replay.Record) error {
	change := b.tracker.Add(r)
	if r.Damage != nil {
		if r.Damage.Lost() > 0 {
			b.lost = append(b.lost, Loss{FirstSeq: r.Damage.FirstSeq, LastSeq: r.Damage.LastSeq, FromMS: b.lastMS})
		}
		return nil
	}
	if r.Kind() == replay.KindRestored { // its clock is that of an event before the history
		b.restoredMS = max(b.restoredMS, r.WallMS())
	} else {
		b.addTime(r.WallMS())
	}
	if lost := change.EndLost; lost != nil {
		m := b.live[lost.ID]
		m.EndLost = true
		b.end(m)
		delete(b.live, lost.ID)
	}
	i := change.Incarnation
	if i == nil {
		return nil
	}
	if change.Began {
		b.live[i.ID] = &Move{Incarnation: i}
	}
	m := b.live[i.ID]
	b.attribute(r.PrevSeq, m)
	if change.Ended {
		b.end(m)
		delete(b.live, i.ID)
	}
	n := len(b.ended)
	if b.options.Select == nil {
		n += len(b.live)
	}
	return b.checkLimit(n)
}

func (b *Builder) checkLimit(moves int) error {
	if limit := b.options.MaxMoves; limit > 0 && moves > limit {
		return fmt.Errorf("%w: the history has more than %d", ErrTooManyMoves, limit)
	}
	return nil
}

func (b *Builder) addTime(ms uint64) {
	if b.events == 0 || ms < b.startMS {
		b.startMS = ms
	}
	for ; b.open < len(b.lost); b.open++ {
		b.lost[b.open].ToMS = ms
	}
	b.lastMS = ms
	b.events++
}

// attribute records that the lost event with this number, if it is lost, belongs to the move.
func (b *Builder) attribute(seq uint64, m *Move) {
	i, _ := slices.BinarySearchFunc(b.lost, seq, func(l Loss, seq uint64) int { return cmp.Compare(l.LastSeq, seq) })
	if i == len(b.lost) || seq < b.lost[i].FirstSeq || b.lost[i].named[seq] {
		return
	}
	l := &b.lost[i]
	if l.named == nil {
		l.named = map[uint64]bool{}
	}
	l.named[seq] = true
	l.All = uint64(len(l.named)) == l.LastSeq-l.FirstSeq+1
	if !slices.Contains(l.Moves, m) {
		l.Moves = append(l.Moves, m)
	}
}

// end keeps a move that has ended, if it is selected and may be in the range.
func (b *Builder) end(m *Move) {
	since := b.options.SinceMS
	if last := b.options.LastMS; last > 0 {
		since = b.tracker.EndMS() - min(last, b.tracker.EndMS())
	}
	if m.LastMS >= since && (b.options.Select == nil || b.options.Select(m.Incarnation)) {
		b.ended = append(b.ended, m)
	}
}

// Timeline returns the timeline of the records so far, with the findings at their places. The
// builder must not be used afterwards. Timeline returns ErrTooManyMoves as Add does.
func (b *Builder) Timeline(findings []Finding) (*Timeline, error) {
	t := &Timeline{By: b.options.By, EndMS: b.endMS(), Lost: append([]Loss{}, b.lost...), Lanes: []Lane{}, Marks: []Mark{}}
	t.FromMS, t.ToMS = b.rangeMS()
	moves := b.ended
	for _, m := range b.live {
		moves = append(moves, m)
	}
	for i := range t.Lost {
		l := &t.Lost[i]
		if l.FromMS == 0 {
			l.FromMS = b.startMS
		}
		if i >= b.open || l.ToMS < l.FromMS {
			l.ToMS = t.EndMS
		}
	}
	moves = slices.DeleteFunc(moves, func(m *Move) bool {
		m.draw(t.EndMS)
		m.doubt(t.Lost)
		outside := m.ToMS < t.FromMS && !m.InDoubt || m.FromMS > t.ToMS
		return outside || b.options.Select != nil && !b.options.Select(m.Incarnation)
	})
	if err := b.checkLimit(len(moves)); err != nil {
		return nil, err
	}
	slices.SortFunc(moves, byTime)
	for _, m := range moves {
		if m.clockBack {
			t.ClockBack++
		}
	}
	t.Moves = len(moves)
	t.Lanes = lanesOf(moves, t.By)
	t.Marks = marksOf(moves, findings)
	return t, nil
}

// endMS returns the highest clock of the log.
func (b *Builder) endMS() uint64 { return max(b.tracker.EndMS(), b.options.EndMS) }

// rangeMS returns the range of the picture.
func (b *Builder) rangeMS() (fromMS, toMS uint64) {
	fromMS, toMS = b.startMS, b.endMS()
	if b.events == 0 {
		fromMS = b.restoredMS
	}
	if last := b.options.LastMS; last > 0 {
		return max(fromMS, toMS-min(last, toMS)), toMS
	}
	if b.options.SinceMS > 0 {
		fromMS = b.options.SinceMS
	}
	if b.options.UntilMS > 0 {
		toMS = b.options.UntilMS
		if b.options.SinceMS == 0 { // the range may end before the first record
			fromMS = min(fromMS, toMS)
		}
	}
	return fromMS, max(fromMS, toMS)
}

// draw sets the bars of the move. Moves in flight go on until endMS.
func (m *Move) draw(endMS uint64) {
	nowMS := m.Steps[0].AtMS // never goes back
	m.FromMS = nowMS
	open := false
	end := func(seq uint64) {
		if open {
			m.Bars[len(m.Bars)-1].ToMS = nowMS
		}
		open = false
		m.ToMS, m.EndSeq = nowMS, seq
	}
	for _, s := range m.Steps {
		if s.Confirmation == story.RestoresFacts || s.Confirmation == story.ConfirmsRow && (open || s.Phase == checkpoint.PhaseComplete) {
			continue
		}
		m.clockBack = m.clockBack || s.AtMS < nowMS
		nowMS = max(nowMS, s.AtMS)
		switch s.Kind {
		case replay.KindCheckpoint, replay.KindRestored:
			end(s.Seq)
			if s.Phase != checkpoint.PhaseComplete {
				m.Bars = append(m.Bars, Bar{Phase: s.Phase, Attempt: s.Attempt, FromMS: nowMS})
				open = true
			}
		case replay.KindAbort, replay.KindRemove:
			if m.Outcome != story.Removed { // its flight ended at Complete
				end(s.Seq)
			}
		}
	}
	if !m.InFlight() {
		return
	}
	if !m.EndLost {
		nowMS = max(nowMS, endMS)
	}
	end(0)
}

// doubt ends the bars of a move in flight at the first loss that may have its next event. What came
// after that is not known.
func (m *Move) doubt(lost []Loss) {
	if !m.InFlight() || m.EndLost {
		return
	}
	for i := range lost {
		l := &lost[i]
		if l.LastSeq <= m.LastSeq || !l.may(m) {
			continue
		}
		m.InDoubt, m.EndSeq = true, l.FirstSeq
		m.ToMS = max(m.FromMS, l.FromMS)
		if n := len(m.Bars); n > 0 {
			m.ToMS = max(m.Bars[n-1].FromMS, l.FromMS)
			m.Bars[n-1].ToMS = m.ToMS
		}
		return
	}
}

// marksOf finds the places of the findings.
func marksOf(moves []*Move, findings []Finding) []Mark {
	byRecord := map[uint64][]int{} // the findings that a record shows
	for i, f := range findings {
		for _, seq := range f.Seqs {
			byRecord[seq] = append(byRecord[seq], i)
		}
	}
	marks := make([]Mark, len(findings))
	for i, f := range findings {
		marks[i].Finding = f
	}
	for _, m := range moves {
		for _, s := range m.Steps {
			for _, i := range byRecord[s.Seq] {
				marks[i].add(m, min(max(s.AtMS, m.FromMS), m.ToMS))
			}
		}
	}
	return slices.DeleteFunc(marks, func(m Mark) bool { return len(m.Places) == 0 })
}

// add adds a place. The last record of a move is the place of the finding.
func (m *Mark) add(move *Move, atMS uint64) {
	if n := len(m.Places); n > 0 && m.Places[n-1].Move == move {
		m.Places[n-1].AtMS = atMS
		return
	}
	m.Places = append(m.Places, Place{move, atMS})
}
