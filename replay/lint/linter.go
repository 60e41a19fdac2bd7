package lint

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/story"
)

// DefaultStall is the stay from which the rule stalled has a finding, if Options.Stall is 0.
const DefaultStall = 5 * time.Minute

// Options select the findings. The zero value selects all findings in a log.
type Options struct {
	Rules      []string // ids of rules; none: all rules
	Severity   Severity // the least severity of a finding; 0: Info
	Stall      time.Duration
	Migrations []checkpoint.MigrationID // none: all
	VShards    []uint32                 // none: all
	SinceMS    uint64                   // Unix ms; the wall clock of the event that completes the finding, inclusive
	UntilMS    uint64                   // 0: no bound
	// File is true if the records are the lines of a file before its import, with their line numbers
	// as Seq. A line that repeats the phase and the attempt of the row is only compared with it,
	// because import does not append it.
	File bool
}

// History yields the records of a history, in order, with its damage. A replay.Reader is a History.
type History interface {
	Records(context.Context, replay.Query) iter.Seq2[replay.Record, error]
}

// Linter finds the events of one history that break the rules. Its memory is bounded by the number of
// moves that have not ended, by the number of vShards and peers, and by 16 bytes for each move that
// has ended. It is not safe for concurrent use.
type Linter struct {
	options  Options
	selected [ruleCount]bool
	counts   [ruleCount]Count
	found    []Finding // by the present call of Add or End

	measured  *story.Tracker // of Measure
	measuring fileRows
	baseline  story.Baseline
	limits    [checkpoint.PhaseComplete + 1]*slowLimit

	tracker *story.Tracker
	file    fileRows
	moves   map[checkpoint.MigrationID]*move // the moves that have not ended
	vshards map[uint32]*vshard
	peers   map[peer]*membership
	indexes map[uint64]mark // highest learner log index, by group
	began   int             // number of moves
	flying  int             // moves in flight

	last      mark // the latest event: its clock and seq
	highest   mark // the event with the highest clock
	highHLC   checkpoint.HLC
	highHLCAt uint64 // seq of the event with highHLC
	silenceMS uint64 // sum of all silences so far
	beganMS   uint64 // clock of the first event that is not a restored row
}

// mark is a value and the event that has it.
type mark struct{ value, seq uint64 }

// Count is the number of findings of one rule.
type Count struct {
	Rule  Rule
	Found uint64 // all findings, also below Options.Severity
	Shown uint64 // the findings that Add and End have returned
}

// New returns a linter at the beginning of a history. It returns an error if a rule is unknown.
func New(o Options) (*Linter, error) {
	l := &Linter{
		options: o, measured: story.NewTracker(story.Options{}), tracker: story.NewTracker(story.Options{}),
		moves: map[checkpoint.MigrationID]*move{}, vshards: map[uint32]*vshard{}, peers: map[peer]*membership{}, indexes: map[uint64]mark{},
		measuring: fileRows{}, file: fileRows{},
	}
	if l.options.Stall == 0 {
		l.options.Stall = DefaultStall
	}
	for _, id := range o.Rules {
		i, err := indexOf(id)
		if err != nil {
			return nil, err
		}
		l.selected[i] = true
	}
	for i := range rules {
		l.selected[i] = l.selected[i] || len(o.Rules) == 0
		l.counts[i].Rule = rules[i]
	}
	return l, nil
}

// Run yields the findings of a history, in the order in which they are complete. It is New and
// Linter.Run, for a caller that needs no counts.
func Run(ctx context.Context, h History, o Options) iter.Seq2[Finding, error] {
	return func(yield func(Finding, error) bool) {
		l, err := New(o)
		if err != nil {
			yield(Finding{}, err)
			return
		}
		l.Run(ctx, h)(yield)
	}
}

// Run yields the findings of a history. It reads the history twice if slow-phase is selected, because
// the limits of the phases must be known first (see Passes). If reading fails, the error is yielded
// last.
func (l *Linter) Run(ctx context.Context, h History) iter.Seq2[Finding, error] {
	return func(yield func(Finding, error) bool) {
		if err := l.measureAll(ctx, h); err != nil {
			yield(Finding{}, err)
			return
		}
		yieldAll := func(found []Finding) bool {
			for _, f := range found {
				if !yield(f, nil) {
					return false
				}
			}
			return true
		}
		for r, err := range h.Records(ctx, replay.Query{}) {
			if err != nil {
				yield(Finding{}, err)
				return
			}
			if !yieldAll(l.Add(r)) {
				return
			}
		}
		yieldAll(l.End())
	}
}

// Passes returns how many times Run reads the history: twice if slow-phase is selected, and otherwise
// once.
func (l *Linter) Passes() int {
	if l.selected[slowPhase] {
		return 2
	}
	return 1
}

func (l *Linter) measureAll(ctx context.Context, h History) error {
	if l.Passes() == 1 {
		return nil
	}
	for r, err := range h.Records(ctx, replay.Query{}) {
		if err != nil {
			return err
		}
		l.Measure(r)
	}
	l.measured, l.measuring = nil, nil // long histories have millions of ids
	return nil
}

// Measure adds the next record to the baseline of slow-phase. All records must be measured before the
// first call of Add. Without Measure, slow-phase has no findings.
func (l *Linter) Measure(r replay.Record) {
	if l.options.File && l.measuring.next(&r) != fileAppend {
		return
	}
	if c := l.measured.Add(r); c.Stay != nil {
		l.baseline.Add(*c.Stay)
	}
}

// Add checks the next record and returns the findings that it completes. The list is valid until the
// next call.
func (l *Linter) Add(r replay.Record) []Finding {
	l.found = l.found[:0]
	if r.Damage != nil {
		l.tracker.Add(r)
		return nil
	}
	if l.options.File {
		switch l.file.next(&r) {
		case fileAbsent:
			return nil
		case fileDuplicate:
			l.last.value = r.WallMS()
			c, _ := r.Checkpoint()
			l.checkSame(l.moves[c.MigrationID], r.Seq, c)
			return l.found
		}
	}
	c := l.tracker.Add(r)
	kind := r.Kind()
	if kind == replay.KindRestored {
		l.restore(c, r)
		return l.found
	}
	if l.beganMS == 0 {
		l.beganMS = r.WallMS()
	}
	if kind == replay.KindDigest { // it belongs to no move, and has the clock of an earlier event
		return l.found
	}
	if isConfirmation(c) && l.last.seq != 0 {
		l.last.seq = r.Seq // its clock may be that of the row in doubt
	} else {
		l.checkClock(r)
	}
	if c.EndLost != nil {
		l.land(l.moves[c.EndLost.ID])
		delete(l.moves, c.EndLost.ID)
	}
	if c.Incarnation != nil {
		l.addToMove(c, r)
	}
	return l.found
}

// End returns the findings that only the end of the history completes: stays that have not ended, and
// rows that were not removed.
func (l *Linter) End() []Finding {
	l.found = l.found[:0]
	for _, i := range l.tracker.Live() {
		if m := l.moves[i.ID]; m != nil {
			l.checkAtEnd(m)
		}
	}
	return l.found
}

// Counts returns the number of findings of each selected rule, in the order of Rules.
func (l *Linter) Counts() []Count {
	var counts []Count
	for i := range l.counts {
		if l.selected[i] {
			counts = append(counts, l.counts[i])
		}
	}
	return counts
}

// Moves returns the number of incarnations so far.
func (l *Linter) Moves() int { return l.began }

// span is a range of seqs. A lost event in it may explain a finding.
type span struct{ first, last uint64 }

// report counts a finding, and returns it. The caller sets its facts and its message. If the options
// do not select the finding, report returns nil. Without a move, m is nil.
func (l *Linter) report(rule ruleIndex, m *move, lost span, seqs ...uint64) *Finding {
	return l.reportAs(rule, rules[rule].Severity, m, lost, seqs...)
}

func (l *Linter) reportAs(rule ruleIndex, severity Severity, m *move, lost span, seqs ...uint64) *Finding {
	if !l.selected[rule] || !l.wants(m) {
		return nil
	}
	certain := !l.tracker.LostBetween(lost.first, lost.last) && (m == nil || !m.inc.BeginningLost)
	if !certain {
		severity = min(severity, Warning)
	}
	l.counts[rule].Found++
	if severity < l.options.Severity {
		return nil
	}
	l.counts[rule].Shown++
	f := Finding{Rule: rules[rule].ID, Severity: severity, Certain: certain, Seqs: slices.Clone(seqs), Facts: map[string]any{}}
	if m != nil {
		f.MigrationID, f.Incarnation = m.inc.ID, m.inc.Number
		if m.firstSeq != 0 {
			f.VShardID = new(m.vshardID)
		}
	}
	l.found = append(l.found, f)
	return &l.found[len(l.found)-1]
}

// wants reports whether the options select findings about the move at the present event.
func (l *Linter) wants(m *move) bool {
	o := &l.options
	if l.last.value < o.SinceMS || o.UntilMS != 0 && l.last.value > o.UntilMS {
		return false
	}
	if len(o.Migrations) > 0 && (m == nil || !slices.Contains(o.Migrations, m.inc.ID)) {
		return false
	}
	return len(o.VShards) == 0 || m != nil && m.firstSeq != 0 && slices.Contains(o.VShards, m.vshardID)
}

// set sets the facts, which are pairs of a key and a value, and the message. A nil finding is not
// shown.
func (f *Finding) set(facts []any, format string, args ...any) {
	if f == nil {
		return
	}
	f.Message = fmt.Sprintf(format, args...)
	for i := 0; i < len(facts); i += 2 {
		f.Facts[facts[i].(string)] = facts[i+1]
	}
}
