package story

import (
	"encoding/json"
	"fmt"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/recovery"
	"migrationlog/replay"
)

// History is the history of one migration, with values of the whole log for comparison.
type History struct {
	MigrationID checkpoint.MigrationID
	VShardID    uint32
	Row         *projection.Row  // nil if the migration has no row
	Facts       projection.Facts // of the row, or of the last row that the migration had
	InDoubt     bool             // a lost event may have been the migration's last
	// Lost has the numbers of lost events that certainly belong to the migration, because a later
	// record links to the number, or because a snapshot has it as the number of the row.
	Lost []uint64
	// Outcome is that of the last incarnation. It is empty if the log does not have the event that
	// ended it, or if no event of the migration is a checkpoint.
	Outcome  Outcome
	Chapters []Chapter
	// ForMS is the time since the row was recorded, up to Inputs.ToMS. SlowerThan compares it with the
	// other stays in the phase. Both are set only if Outcome is InFlight.
	ForMS      uint64
	SlowerThan Comparison
	OnRestart  *recovery.Decision // the decision of a coordinator that starts at Inputs.NowMS; nil if there is no row
	Before     EarlierMoves
}

// Chapter is one incarnation with its records. Incarnation is nil for the records before a first
// checkpoint, such as a raised epoch.
type Chapter struct {
	*Incarnation
	Entries []Entry
	Phases  []PhaseStay // in the order in which they were first recorded
	// TookMS is the time from the first record to Complete, or to the abort or the removal that came
	// before. It is negative if the clock went back. HasTook is false if the incarnation is in flight, or
	// begins with a restored row.
	TookMS  int64
	HasTook bool
	// EndLost is true if a later incarnation follows, and the event that ended this one is lost.
	EndLost bool
	// Demanded has the compensations that undo an aborted incarnation, by the rules of package recovery
	// for its furthest phase. It is empty from Cutover on, and if the target is not known.
	Demanded []checkpoint.Compensation
}

// Entry is one record of a migration.
type Entry struct {
	replay.Record
	// LostBefore is the number of the record before this one, if that is lost; otherwise 0.
	LostBefore   uint64
	Confirmation Confirmation
	// StayedMS is the time to the next record of the incarnation. It is negative if the clock went back.
	// It is nil for the last record of an incarnation, and before a lost one.
	StayedMS *int64
}

// PhaseStay is the time that an incarnation has spent in one phase.
type PhaseStay struct {
	Phase    checkpoint.Phase
	Tries    []Try
	StayedMS int64 // in all tries; up to Inputs.ToMS if Open is true
	Open     bool  // the phase has not ended
	// SlowerThan compares the stay of the last try, because the finished stays are those of last tries.
	SlowerThan Comparison
}

// Try is one checkpoint of a phase.
type Try struct {
	Attempt  uint32
	StayedMS int64
}

// TryNumber returns the number that views print for an attempt. Attempts count from 0, and tries
// from 1, so that attempt 1 is try 2.
func TryNumber(attempt uint32) uint64 { return uint64(attempt) + 1 }

// TryDigit returns the digit that pictures show for an attempt. It is 9 from the ninth try on.
func TryDigit(attempt uint32) byte { return '0' + byte(min(TryNumber(attempt), 9)) }

// Comparison compares a stay with the finished stays of the log in the same phase.
type Comparison struct {
	Share   float64 // of the finished stays that were shorter, from 0 to 1
	Samples uint64  // the number of finished stays; Share and UsualMS are 0 if it is 0
	UsualMS uint64  // their median
}

// EarlierMoves counts the incarnations of the same vShard that began before the migration.
type EarlierMoves struct {
	Moves   uint64
	Aborted uint64       // of them, before the migration began
	Last    *Incarnation // the last of them; nil if there is none
	TookMS  int64        // of Last, as in Chapter
	HasTook bool
}

// Inputs has the values that do not come from the records of the migration.
type Inputs struct {
	View *projection.View // after the last record
	// ToMS is the time up to which an open stay is measured, and NowMS is the time at which a
	// coordinator starts, in Unix milliseconds. If the clock of the row is later, the stay is 0.
	ToMS, NowMS uint64
	Policy      recovery.Policy
}

// Collector collects the history of one migration while the records of a log are read in order.
type Collector struct {
	tracker  *Tracker
	Baseline Baseline
	vshards  map[uint32]*EarlierMoves
	history  History
	found    bool
}

// NewCollector returns a collector at the beginning of a log.
func NewCollector() *Collector {
	return &Collector{tracker: NewTracker(Options{}), vshards: map[uint32]*EarlierMoves{}}
}

// EndMS returns the highest wall clock so far.
func (c *Collector) EndMS() uint64 { return c.tracker.EndMS() }

// Add adds the next record of the log. The argument wanted reports whether it belongs to the migration
// whose history is collected, and view is the view after the record.
func (c *Collector) Add(r replay.Record, view *projection.View, wanted bool) {
	change := c.tracker.Add(r)
	i := change.Incarnation
	if change.Stay != nil {
		c.Baseline.Add(*change.Stay)
	}
	if _, ok := r.Migration(); wanted && ok {
		if change.Began && !c.found && i.Phase != 0 {
			c.found = true
			c.history.Before = *c.earlier(i.VShardID)
		}
		c.addWanted(r, view, i)
	}
	if i == nil || i.Phase == 0 {
		return
	}
	moves := c.earlier(i.VShardID)
	if change.Began {
		moves.Moves++
		moves.Last = i
	}
	if change.Ended && i.Outcome == Aborted {
		moves.Aborted++
	}
}

// Collect is like Add for a record of the wanted migration, or for damage, if the other records of the
// log are not read. The view needs only this migration. The caller sets Baseline, and History.Before
// stays empty.
func (c *Collector) Collect(r replay.Record, view *projection.View) {
	change := c.tracker.Add(r)
	if _, ok := r.Migration(); ok {
		c.addWanted(r, view, change.Incarnation)
	}
}

func (c *Collector) earlier(vshard uint32) *EarlierMoves {
	moves := c.vshards[vshard]
	if moves == nil {
		moves = &EarlierMoves{}
		c.vshards[vshard] = moves
	}
	return moves
}

func (c *Collector) addWanted(r replay.Record, view *projection.View, i *Incarnation) {
	h := &c.history
	h.MigrationID, _ = r.Migration()
	n := len(h.Chapters)
	if n == 0 || h.Chapters[n-1].Incarnation != i {
		h.Chapters = append(h.Chapters, Chapter{Incarnation: i})
		n++
	}
	e := Entry{Record: r}
	if i != nil {
		e.Confirmation = i.Last.Confirmation
	}
	if r.PrevSeq != 0 && c.lastSeq() < r.PrevSeq {
		e.LostBefore = r.PrevSeq
		h.Lost = append(h.Lost, r.PrevSeq)
	}
	h.Chapters[n-1].Entries = append(h.Chapters[n-1].Entries, e)
	if row, ok := view.Get(h.MigrationID); ok {
		h.Facts, h.VShardID = row.Facts, row.Checkpoint.Payload.Shard()
	}
}

// lastSeq returns the number of the last record of the migration, or 0.
func (c *Collector) lastSeq() uint64 {
	for _, chapter := range slices.Backward(c.history.Chapters) {
		if n := len(chapter.Entries); n > 0 {
			return chapter.Entries[n-1].Seq
		}
	}
	return 0
}

// History returns the history of the migration after all records were added. At least one record must
// belong to the migration.
func (c *Collector) History(in Inputs) History {
	h := c.history
	h.InDoubt = in.View.Doubt(h.MigrationID) == projection.InDoubt
	if row, ok := in.View.Get(h.MigrationID); ok {
		h.Row, h.Facts, h.VShardID = &row, row.Facts, row.Checkpoint.Payload.Shard()
		if c.lastSeq() < row.Seq { // from a snapshot
			h.Lost = append(slices.Clip(h.Lost), row.Seq)
		}
	}
	h.Chapters = slices.Clone(h.Chapters)
	last := h.Last().Incarnation
	for n := range h.Chapters {
		h.Chapters[n].complete(&c.Baseline, in.ToMS, h.Chapters[n].Incarnation == last && h.Row != nil)
	}
	if last := h.Before.Last; last != nil {
		h.Before.TookMS, h.Before.HasTook = last.Took()
	}
	h.setOutcome(&c.Baseline, in)
	return h
}

// Last returns the chapter of the last incarnation. If there is none, it returns the last chapter.
func (h *History) Last() Chapter {
	for _, c := range slices.Backward(h.Chapters) {
		if c.Incarnation != nil {
			return c
		}
	}
	return h.Chapters[len(h.Chapters)-1]
}

func (h *History) setOutcome(b *Baseline, in Inputs) {
	if h.Row == nil {
		if last := h.Last(); last.Incarnation != nil && last.Ended() {
			h.Outcome = last.Outcome
		}
		return
	}
	decisions := recovery.Plan(in.View.All(), in.Policy, in.NowMS)
	if n := slices.IndexFunc(decisions, func(d recovery.Decision) bool { return d.MigrationID() == h.MigrationID }); n >= 0 {
		h.OnRestart = &decisions[n]
	}
	h.Outcome = Done
	if phase := h.Row.Checkpoint.Phase(); phase != checkpoint.PhaseComplete {
		h.Outcome = InFlight
		h.ForMS = in.ToMS - min(in.ToMS, h.Row.Checkpoint.TimestampMS)
		h.SlowerThan = b.Compare(phase, h.ForMS)
	}
}

// Compare compares a time in a phase with the finished stays.
func (b *Baseline) Compare(p checkpoint.Phase, ms uint64) Comparison {
	share, samples := b.SlowerThan(p, ms)
	return Comparison{Share: share, Samples: samples, UsualMS: b.Phase(p).Quantile(0.5)}
}

// complete computes the values of a chapter after its last record. The argument open reports whether
// the stay in the latest phase goes on.
func (c *Chapter) complete(b *Baseline, toMS uint64, open bool) {
	c.setStays()
	if c.Incarnation == nil {
		return
	}
	c.EndLost = !open && !c.Ended()
	if !c.EndLost {
		c.TookMS, c.HasTook = c.Took()
	}
	if c.Outcome == Aborted && c.HasTarget {
		var source *uint64
		if c.HasSource {
			source = &c.SourceNode
		}
		c.Demanded = recovery.Compensations(c.Furthest, c.SourceGroup, c.TargetNode, source)
	}
	c.Phases = nil
	for n := range c.Entries {
		c.addTry(&c.Entries[n], toMS, open)
	}
	for n := range c.Phases {
		p := &c.Phases[n]
		p.SlowerThan = b.Compare(p.Phase, uint64(max(p.Tries[len(p.Tries)-1].StayedMS, 0)))
	}
}

// setStays sets the stay of each record that another one follows.
func (c *Chapter) setStays() {
	c.Entries = slices.Clone(c.Entries)
	var before *Entry
	for n := range c.Entries {
		e := &c.Entries[n]
		if e.LostBefore != 0 {
			before = nil
		}
		if ends := endsStay(Step{Kind: e.Kind(), Confirmation: e.Confirmation}); !ends && e.Confirmation != ConfirmsRow {
			continue
		} else if before != nil && ends {
			before.StayedMS = new(int64(e.WallMS() - before.WallMS()))
		}
		if before = e; e.setRestoredStay() {
			before = nil
		}
	}
}

// setRestoredStay sets the stay of a restored row, if the beginning of an abort has ended it. It reports
// whether it has.
func (e *Entry) setRestoredStay() bool {
	row, ok := e.Event.(checkpoint.Restored)
	if !ok || row.Facts.Abort == nil || row.Facts.Abort.BeforeCheckpoint {
		return false
	}
	e.StayedMS = new(int64(row.Facts.Abort.TimestampMS - row.Checkpoint.TimestampMS))
	return true
}

// addTry adds the checkpoint of an entry to its phase.
func (c *Chapter) addTry(e *Entry, toMS uint64, open bool) {
	row, ok := e.Checkpoint()
	if !ok || e.Confirmation == RestoresFacts {
		return
	}
	phase := row.Phase()
	n := slices.IndexFunc(c.Phases, func(p PhaseStay) bool { return p.Phase == phase })
	if n < 0 {
		n = len(c.Phases)
		c.Phases = append(c.Phases, PhaseStay{Phase: phase})
	}
	p, t := &c.Phases[n], Try{Attempt: row.Attempt}
	switch since, isOpen := c.OpenStay(toMS); {
	case e.StayedMS != nil:
		t.StayedMS = *e.StayedMS
	case open && isOpen && since.From.Seq == e.Seq:
		t.StayedMS, p.Open = max(since.MS, 0), true
	}
	p.StayedMS += t.StayedMS
	if last := len(p.Tries) - 1; e.Confirmation == ConfirmsRow && last >= 0 {
		p.Tries[last].StayedMS += t.StayedMS
		return
	}
	p.Tries = append(p.Tries, t)
}

// Took returns the time from the first record to Complete, or to the abort or the removal that came
// before. It is negative if the clock went back. It returns false if the incarnation is in flight, or
// if its first event is not in the log because the row was restored.
func (i *Incarnation) Took() (ms int64, ok bool) {
	switch {
	case i.Restored:
	case i.completedMS != 0:
		return int64(i.completedMS - i.StartedMS), true
	case i.Ended():
		return int64(i.LastMS - i.StartedMS), true
	}
	return 0, false
}

// MarshalJSON returns the object of the record, with the key stayed_ms.
func (e Entry) MarshalJSON() ([]byte, error) {
	record, err := json.Marshal(e.Record)
	if err != nil {
		return nil, err
	}
	stayed := "null"
	if e.StayedMS != nil {
		stayed = fmt.Sprint(*e.StayedMS)
	}
	return fmt.Appendf(record[:len(record)-1], `,"stayed_ms":%s}`, stayed), nil
}
