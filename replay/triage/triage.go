package triage

import (
	"cmp"
	"slices"

	"github.com/google/uuid"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/recovery"
	"migrationlog/replay"
	"migrationlog/replay/lint"
	"migrationlog/replay/story"
)

// Summary is the summary of a log. Its JSON form is the output of `replay-tool triage -o json`.
type Summary struct {
	Log    uuid.UUID `json:"log"`
	Seq    [2]uint64 `json:"seq"` // of the first and of the last intact event; 0 if there is none
	Events uint64    `json:"events"`
	FromMS uint64    `json:"from_ms"`
	ToMS   uint64    `json:"to_ms"` // the highest wall clock of an event
	// NowMS is the time at which a coordinator starts. ForToMS is the time up to which the time in a phase
	// is measured.
	NowMS   uint64 `json:"now_ms"`
	ForToMS uint64 `json:"for_to_ms"`
	// SinceMS is the beginning of the window in which Moves and Aborts count, or 0 for the whole log.
	SinceMS uint64        `json:"since_ms"`
	Writer  Writer        `json:"writer"`
	Report  replay.Report `json:"report"`
	// UncheckedSegments is the number of segments of which only a summary was read.
	UncheckedSegments int `json:"unchecked_segments"`
	// PartialSegments is the number of segments with moves whose earlier events are not known. Moves,
	// Aborts and the samples lack facts of these moves.
	PartialSegments int          `json:"partial_segments"`
	InFlight        []Row        `json:"in_flight"` // the row that waits longest is the first
	Restart         Restart      `json:"restart"`
	Moves           Moves        `json:"moves"`
	Aborts          []AbortGroup `json:"aborts"`
	// Findings has the findings of package lint, of severity warning and above. They are of the window, if
	// there is one. Earlier events than LintedFrom were not checked.
	Findings   []lint.Finding `json:"findings"`
	LintedFrom uint64         `json:"linted_from"`
	NotRemoved uint64         `json:"not_removed"` // rows at Complete
	// UnprovenSnapshot is the last event of a snapshot that has rows that the log has lost, or 0. An
	// opening ignores such a snapshot, because that event is lost too.
	UnprovenSnapshot uint64 `json:"unproven_snapshot"`
	// RowsInDoubt is the number of rows that a lost event may have changed. Report.InDoubt also has the
	// migrations without a row that have lost an event.
	RowsInDoubt int `json:"rows_in_doubt"`
}

// Writer is the state of the lock of the log.
type Writer struct {
	// Alive is true if a process has the log open. It is null if that is not known, for example on
	// another machine than the writer's.
	Alive *bool `json:"alive"`
	PID   int   `json:"pid"` // the process that has the log open, or did not close it; 0: none is known
}

// Row is a migration in flight.
type Row struct {
	MigrationID checkpoint.MigrationID `json:"migration_id"`
	VShardID    uint32                 `json:"vshard_id"`
	SourceNode  *uint64                `json:"source_node"` // null if it is not known, as are the next two
	TargetNode  *uint64                `json:"target_node"`
	SourceGroup *uint64                `json:"source_group"`
	Phase       checkpoint.Phase       `json:"phase"`
	Attempt     uint32                 `json:"attempt"`
	Seq         uint64                 `json:"seq"`
	SinceMS     uint64                 `json:"since_ms"` // wall clock of the row
	ForMS       uint64                 `json:"for_ms"`   // from SinceMS to Summary.ForToMS, at least 0
	// SlowerThan is the share of the finished stays in this phase that were shorter than ForMS. It is null
	// if there are no samples.
	SlowerThan *float64 `json:"slower_than"`
	Samples    uint64   `json:"samples"`
	// PastNoReturn is true if the migration has recorded Cutover, after which it can only go forward.
	PastNoReturn bool              `json:"past_no_return"`
	InDoubt      bool              `json:"in_doubt"`
	OnRestart    recovery.Decision `json:"on_restart"`
}

// Slow reports whether at least 99 % of at least 20 stays in the phase were shorter.
func (r Row) Slow() bool { return r.SlowerThan != nil && *r.SlowerThan >= 0.99 && r.Samples >= 20 }

// Doubtful returns the number of rows in flight that a lost event may have changed.
func (s Summary) Doubtful() (n int) {
	for _, r := range s.InFlight {
		if r.InDoubt {
			n++
		}
	}
	return n
}

// PastNoReturn returns the number of rows in flight that can only go forward.
func (s Summary) PastNoReturn() (n int) {
	for _, r := range s.InFlight {
		if r.PastNoReturn {
			n++
		}
	}
	return n
}

// Restart counts the decisions of a coordinator that starts at Summary.NowMS. CleanUp counts rows at
// Complete. Ask counts rows in flight, and rows at Complete that are in doubt.
type Restart struct {
	AbortTimeoutMS uint64 `json:"abort_timeout_ms"`
	CleanUp        int    `json:"clean_up"`
	Abort          int    `json:"abort"`
	Resume         int    `json:"resume"`
	Ask            int    `json:"ask"`
	// Stale counts the aborts because the row is older than the abort timeout. A coordinator that had
	// started at the last event would have resumed ResumedAtEnd of them.
	Stale        int `json:"stale"`
	ResumedAtEnd int `json:"resumed_at_end"`
}

// Inputs has the parts of a Summary that are no counts.
type Inputs struct {
	Log               uuid.UUID
	Rows              []projection.Row // of the whole log
	Report            replay.Report
	Policy            recovery.Policy
	NowMS             uint64
	ForToMS           uint64
	Writer            Writer
	UncheckedSegments int
	PartialSegments   int
	UnprovenSnapshot  uint64
	Findings          []lint.Finding
	LintedFrom        uint64 // the first event that was checked by the rules
	// FirstSeq is the first event of the log. If it is 0, it is that of Report.
	FirstSeq uint64
}

// New returns the summary of a log from the counts of its history and its present rows.
func New(counts Counts, in Inputs) Summary {
	s := Summary{
		Log: in.Log, Seq: [2]uint64{cmp.Or(in.FirstSeq, in.Report.FirstSeq), in.Report.LastSeq}, Events: counts.Events, FromMS: counts.FromMS, ToMS: counts.ToMS,
		NowMS: in.NowMS, ForToMS: in.ForToMS, SinceMS: counts.SinceMS, Writer: in.Writer, Report: in.Report,
		UncheckedSegments: in.UncheckedSegments, PartialSegments: in.PartialSegments, UnprovenSnapshot: in.UnprovenSnapshot, Findings: append([]lint.Finding{}, in.Findings...), LintedFrom: in.LintedFrom,
		InFlight: []Row{}, Moves: counts.Moves, Aborts: counts.Aborts,
	}
	policy := in.Policy
	policy.UnnamedInDoubt = false // it adds a decision that is not about a row
	s.Restart.AbortTimeoutMS = policy.AbortTimeoutMS()
	atEnd := recovery.Plan(in.Rows, policy, counts.ToMS)
	for n, d := range recovery.Plan(in.Rows, policy, in.NowMS) {
		s.addRow(counts.Baseline, d, atEnd[n].Action)
	}
	slices.SortStableFunc(s.InFlight, func(a, b Row) int { return cmp.Compare(b.ForMS, a.ForMS) })
	return s
}

// addRow adds the row of a decision. The argument atEnd is the decision about it at the last event.
func (s *Summary) addRow(baseline *story.Baseline, d recovery.Decision, atEnd recovery.Action) {
	c, facts := d.Row.Checkpoint, d.Row.Facts
	if c.Phase() == checkpoint.PhaseComplete {
		s.NotRemoved++
	}
	if d.Row.Doubt == projection.InDoubt {
		s.RowsInDoubt++
	}
	switch d.Action {
	case recovery.CleanUp:
		s.Restart.CleanUp++
	case recovery.Abort:
		s.Restart.Abort++
	case recovery.Resume:
		s.Restart.Resume++
	case recovery.AskFirst:
		s.Restart.Ask++
	}
	if d.Reason == recovery.Stale {
		s.Restart.Stale++
		if atEnd == recovery.Resume {
			s.Restart.ResumedAtEnd++
		}
	}
	if c.Phase() == checkpoint.PhaseComplete {
		return
	}
	row := Row{
		MigrationID: c.MigrationID, VShardID: c.Payload.Shard(), Phase: c.Phase(), Attempt: c.Attempt, Seq: d.Row.Seq,
		SinceMS: c.TimestampMS, ForMS: s.ForToMS - min(s.ForToMS, c.TimestampMS),
		SourceNode: d.Inputs.SourceNode, TargetNode: d.Inputs.TargetNode, SourceGroup: d.Inputs.SourceGroup,
		PastNoReturn: max(facts.FurthestPhase, c.Phase()) >= checkpoint.PhaseCutover,
		InDoubt:      d.Row.Doubt == projection.InDoubt, OnRestart: d,
	}
	share, samples := baseline.SlowerThan(row.Phase, row.ForMS)
	if row.Samples = samples; samples > 0 {
		row.SlowerThan = &share
	}
	s.InFlight = append(s.InFlight, row)
}
