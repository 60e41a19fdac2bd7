package diff

import (
	"cmp"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/replay"
	"migrationlog/replay/story"
)

// Kind is the kind of a change.
type Kind string

// The kinds of change.
const (
	Moved  Kind = "moved"  // the migration has a row at both points, and the rows differ
	Gone   Kind = "gone"   // it has a row at the first point only
	New    Kind = "new"    // it has a row at the second point only
	Passed Kind = "passed" // an incarnation began and ended in between, and left no row
	Lost   Kind = "lost"   // the first log has a row, and the second one has lost its events
	// Stale: the second log has a row that later events of the first log changed or ended, and the
	// second log has lost these events.
	Stale Kind = "stale"
)

// Change is the difference of one migration.
type Change struct {
	Kind     Kind
	ID       checkpoint.MigrationID
	VShardID uint32
	Before   *projection.Row // nil for New and Passed, and for Stale if the first log has ended the move
	After    *projection.Row // nil for Gone, Lost and Passed
	Ended    *Ended          // the last abort or removal in between, for Stale in the first log; nil: none
	FirstSeq uint64          // of the incarnation, for Passed
}

// Ended is the abort or the removal of an incarnation.
type Ended struct {
	Kind   replay.Kind
	Seq    uint64
	Phase  checkpoint.Phase // of the incarnation's last row; 0 if it is lost
	Reason string           // of an abort
}

// Side is one of the two states that are compared.
type Side struct {
	Seq  uint64 // of its last intact event; 0: none
	TSMS uint64 // clock of that event
	Rows int
}

// Counts has the events and moves of a part of the history.
type Counts struct {
	Events  uint64 `json:"events"`
	Lost    uint64 `json:"lost"` // lost events
	Began   uint64 `json:"began"`
	Done    uint64 `json:"done"`
	Aborted uint64 `json:"aborted"`
	Removed uint64 `json:"removed"` // also before Complete
	Passed  uint64 `json:"began_and_ended"`
}

// Result is the difference of two states.
type Result struct {
	From, To               Side
	New, Gone, Moved, Same int
	Lost, Stale            int // of two logs
	// Between counts the events after From up to To. For two logs it counts the events that only the
	// second log has.
	Between Counts
	Changes []Change // Moved, Gone, New and Passed, each by seq
	Copies  *Copies  // of two logs, otherwise nil
}

// Equal reports whether no row differs and no event is in between. The events of logs that were
// created separately are not compared.
func (r Result) Equal() bool {
	sameRows := r.New+r.Gone+r.Moved+r.Lost+r.Stale == 0
	if r.Copies == nil {
		return sameRows && r.Between.Events+r.Between.Lost == 0
	}
	return sameRows && (r.Copies.Relation == Different || r.Copies.Relation == Identical)
}

// Options select the details of a difference.
type Options struct {
	All bool // list the incarnations that began and ended in between
}

// Points compares a log at two points. It is not safe for concurrent use.
type Points struct {
	side       *side
	from, to   replay.Point
	start, end bool // the points that were reached
	before     []projection.Row
	result     Result
	after      []projection.Row
}

// NewPoints returns the comparison of an empty history. It adds the records to the fold. The points
// may be in any order.
func NewPoints(f *replay.Fold, from, to replay.Point, o Options) *Points {
	return &Points{side: newSide(f, o), from: from, to: to}
}

// Add adds the next record of the log. Damage must be added too.
func (p *Points) Add(r replay.Record) {
	from, to := p.from.Before(r), p.to.Before(r)
	if !p.start && (from || to) {
		p.begin()
	}
	if !p.end && from && to {
		p.finish()
	}
	p.side.counting = p.start && !p.end
	p.side.add(r)
}

func (p *Points) begin() {
	p.start = true
	p.before, p.result.From = p.side.rows()
	p.side.startSeq = p.result.From.Seq
	p.side.hadRow = map[checkpoint.MigrationID]bool{}
	for _, row := range p.before {
		p.side.hadRow[row.Checkpoint.MigrationID] = true
	}
}

func (p *Points) finish() {
	p.end = true
	p.after, p.result.To = p.side.rows()
}

// Result returns the difference, after all records were added.
func (p *Points) Result() Result {
	if !p.start {
		p.begin()
	}
	if !p.end {
		p.finish()
	}
	r := p.result
	r.Between = p.side.counts
	r.compare(p.before, p.after, true, p.side)
	return r
}

// compare compares the rows, which are in the order of their ids. The side has the ends in between.
func (r *Result) compare(before, after []projection.Row, oneLog bool, s *side) {
	for i, j := 0, 0; i < len(before) || j < len(after); {
		switch order := compareIDs(before[i:], after[j:]); {
		case order < 0:
			r.Gone++
			r.add(Change{Kind: Gone, Before: &before[i]}, s)
			i++
		case order > 0:
			r.New++
			r.add(Change{Kind: New, After: &after[j]}, s)
			j++
		default:
			if sameRow(before[i], after[j], oneLog) {
				r.Same++
			} else {
				r.Moved++
				r.add(Change{Kind: Moved, Before: &before[i], After: &after[j]}, s)
			}
			i, j = i+1, j+1
		}
	}
	r.Changes = append(r.Changes, s.passed...)
	r.sort()
}

// sort sorts the changes by kind and by seq.
func (r *Result) sort() {
	slices.SortStableFunc(r.Changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)), cmp.Compare(a.seq(), b.seq()))
	})
}

var kinds = []Kind{Moved, Stale, Gone, Lost, New, Passed}

// explainLosses changes the kinds of the changes that a loss of the second log explains.
func (r *Result) explainLosses(first *side, lost []replay.SeqRange) {
	isLost := func(seq uint64) bool {
		return slices.ContainsFunc(lost, func(l replay.SeqRange) bool { return l.First <= seq && seq <= l.Last })
	}
	for n := range r.Changes {
		c := &r.Changes[n]
		switch c.Kind {
		case Gone:
			if c.Ended == nil && isLost(c.Before.LastSeq) {
				c.Kind = Lost
				r.Gone, r.Lost = r.Gone-1, r.Lost+1
			}
		case New:
			if e, ok := first.ended[c.ID]; ok && e.Seq > c.After.LastSeq && isLost(e.Seq) {
				c.Kind, c.Ended = Stale, &e
				r.New, r.Stale = r.New-1, r.Stale+1
			}
		case Moved:
			if c.Before.LastSeq > c.After.LastSeq && isLost(c.Before.LastSeq) {
				c.Kind = Stale
				r.Moved, r.Stale = r.Moved-1, r.Stale+1
			}
		}
	}
}

// compareIDs compares the ids of the first rows of two lists, of which at most one is empty. The
// end of a list is after every id.
func compareIDs(a, b []projection.Row) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	x, y := a[0].Checkpoint.MigrationID, b[0].Checkpoint.MigrationID
	return slices.Compare(x[:], y[:])
}

// sameRow reports whether two rows are the same. Different logs give different numbers to an event.
func sameRow(a, b projection.Row, oneLog bool) bool {
	if oneLog && (a.Seq != b.Seq || a.LastSeq != b.LastSeq) {
		return false
	}
	return a.Checkpoint == b.Checkpoint && (a.Facts.Abort == nil) == (b.Facts.Abort == nil)
}

func (r *Result) add(c Change, s *side) {
	row := cmp.Or(c.After, c.Before)
	c.ID, c.VShardID = row.Checkpoint.MigrationID, row.Checkpoint.Payload.Shard()
	if e, ok := s.ended[c.ID]; ok {
		c.Ended = &e
	}
	r.Changes = append(r.Changes, c)
}

// seq returns the number by which changes of one kind are sorted: that of the last event of the
// change.
func (c Change) seq() uint64 {
	switch {
	case c.After != nil:
		return c.After.LastSeq
	case c.Ended != nil:
		return c.Ended.Seq
	}
	return c.Before.LastSeq
}

// side reads one log.
type side struct {
	fold    *replay.Fold
	tracker *story.Tracker
	options Options
	done    map[*story.Incarnation]bool // live incarnations that have been at Complete
	lastSeq uint64                      // of the last intact event
	lastMS  uint64                      // its clock

	counting bool // the next records are in between
	startSeq uint64
	hadRow   map[checkpoint.MigrationID]bool // nil: keep the end of each migration
	counts   Counts
	ended    map[checkpoint.MigrationID]Ended
	passed   []Change
}

func newSide(f *replay.Fold, o Options) *side {
	return &side{
		fold: f, tracker: story.NewTracker(story.Options{}), options: o,
		done: map[*story.Incarnation]bool{}, ended: map[checkpoint.MigrationID]Ended{},
	}
}

// rows returns the rows at present.
func (s *side) rows() ([]projection.Row, Side) {
	rows := s.fold.View.All()
	return rows, Side{Seq: s.lastSeq, TSMS: s.lastMS, Rows: len(rows)}
}

func (s *side) add(r replay.Record) {
	s.fold.Add(r)
	c := s.tracker.Add(r)
	if r.Damage != nil {
		if s.counting {
			s.counts.Lost += r.Damage.Lost()
		}
		return
	}
	s.lastSeq, s.lastMS = r.Seq, r.WallMS()
	i := c.Incarnation
	becameDone := i != nil && i.Outcome == story.Done && !s.done[i]
	if becameDone {
		s.done[i] = true
	}
	if c.Ended {
		delete(s.done, i)
	}
	delete(s.done, c.EndLost)
	if !s.counting {
		return
	}
	s.counts.Events++
	if i == nil {
		return
	}
	if c.Began {
		s.counts.Began++
	}
	if becameDone {
		s.counts.Done++
	}
	if c.Ended {
		s.end(i, r)
	}
}

// end counts the end of an incarnation.
func (s *side) end(i *story.Incarnation, r replay.Record) {
	e := Ended{Kind: r.Kind(), Seq: r.Seq, Phase: i.Phase}
	if i.Outcome == story.Aborted {
		s.counts.Aborted++
		e.Reason = i.Reason
	} else {
		s.counts.Removed++
	}
	if s.hadRow == nil || s.hadRow[i.ID] {
		s.ended[i.ID] = e
	}
	if i.FirstSeq <= s.startSeq {
		return
	}
	s.counts.Passed++
	if s.options.All {
		s.passed = append(s.passed, Change{Kind: Passed, ID: i.ID, VShardID: i.VShardID, Ended: &e, FirstSeq: i.FirstSeq})
	}
}
