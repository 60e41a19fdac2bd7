package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/replay"
)

func (t *tool) show() *cobra.Command {
	return &cobra.Command{
		Use:     "show DIR MIGRATION",
		Short:   "Show the history of one migration: each step, its duration and its details",
		Long:    "Show the history of one migration: each step, its duration and its details.\nMIGRATION is an id, or a beginning or an end that only one id has. An end has at\nleast 4 digits.",
		Example: `  replay-tool show log 781d20`,
		Args:    argCount(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			return t.buffered(func() error { return t.runShow(c.Context(), args[0], args[1]) })
		},
	}
}

// migrationHistory has the records of one migration, with its facts and its final row.
type migrationHistory struct {
	id      checkpoint.MigrationID
	vshard  uint32
	facts   projection.Facts
	records []replay.Record
	lost    []uint64 // numbers of lost events, if a later record or a snapshot's row has the number
	inDoubt bool
	row     *projection.Row // nil if the migration has no row
}

func (t *tool) runShow(ctx context.Context, dir, idPart string) error {
	search, err := newIDSearch(idPart)
	if err != nil {
		return err
	}
	var s migrationHistory
	fold, err := t.fold(ctx, dir, func(f *replay.Fold, r replay.Record) error {
		if search.add(r) {
			s.id = search.found
			s.add(r, f.View)
		}
		return nil
	})
	if err != nil {
		return err
	}
	id, err := search.result()
	if err != nil {
		return err
	}
	if row, ok := fold.View.Get(id); ok {
		s.setRow(row)
	}
	report := fold.Report()
	s.inDoubt = fold.View.Doubt(id) == projection.InDoubt
	if err := t.writeValue(s, func() { t.historyText(s) }); err != nil {
		return err
	}
	t.reportFindings(report)
	return reportExit(report)
}

// setRow sets the final row. If the row comes from a snapshot, its event may be lost.
func (s *migrationHistory) setRow(row projection.Row) {
	s.row, s.facts = &row, row.Facts
	if n := len(s.records); n > 0 && s.records[n-1].Seq < row.Seq {
		s.lost = append(s.lost, row.Seq)
	}
}

func (s *migrationHistory) add(r replay.Record, view *projection.View) {
	if n := len(s.records); r.PrevSeq != 0 && (n == 0 || s.records[n-1].Seq < r.PrevSeq) {
		s.lost = append(s.lost, r.PrevSeq)
	}
	s.records = append(s.records, r)
	if row, ok := view.Get(s.id); ok {
		s.facts, s.vshard = row.Facts, row.Checkpoint.Payload.Shard()
	}
}

// MarshalJSON writes the object that `show -o json` prints.
func (s migrationHistory) MarshalJSON() ([]byte, error) {
	var phase checkpoint.Phase
	if s.row != nil {
		phase = s.row.Checkpoint.Phase()
	}
	out := struct {
		MigrationID checkpoint.MigrationID `json:"migration_id"`
		VShardID    uint32                 `json:"vshard_id"`
		factsJSON
		InDoubt bool            `json:"in_doubt"`
		Lost    []uint64        `json:"lost"`
		Records []replay.Record `json:"records"`
	}{s.id, s.vshard, factsOf(s.facts, phase), s.inDoubt, append([]uint64{}, s.lost...), s.records}
	return json.Marshal(out)
}

func (t *tool) historyText(s migrationHistory) {
	from, to, group := factCells(s.facts)
	fmt.Fprintf(t.stdout, "migration %s\nvshard %d, node %s -> %s, group %s", s.id, s.vshard, from, to, group)
	if s.facts.HasSource {
		fmt.Fprintf(t.stdout, ", pause budget %s", pauseSpan(s.facts.WritePauseBudgetUS))
	}
	if s.facts.SourceUncertain || s.facts.TargetUncertain {
		fmt.Fprint(t.stdout, "\n(a value with ? may belong to an earlier incarnation of the id, because a later event may be lost)")
	}
	fmt.Fprintf(t.stdout, "\n%s\n\n", s.outcome())

	clock := t.clock()
	tw := table(t.stdout, "SEQ", "TIME", "STEP", "ATTEMPT", "TOOK", "DETAIL")
	for i, r := range s.records {
		attempt := ""
		if u, ok := r.Event.(checkpoint.Upserted); ok {
			attempt = strconv.FormatUint(uint64(u.Checkpoint.Attempt), 10)
		}
		if slices.Contains(s.lost, r.PrevSeq) {
			row(tw, strconv.FormatUint(r.PrevSeq, 10), "", "LOST", "", "", fmt.Sprintf("seq %d links to it as the previous event", r.Seq))
		}
		row(tw, strconv.FormatUint(r.Seq, 10), clock.show(r.WallMS()), stepOf(r), attempt, s.sincePrevious(i), detailOf(r))
	}
	_ = tw.Flush() // stdout keeps the error, see run
}

// outcome describes the state of the migration in words.
func (s migrationHistory) outcome() string {
	last := s.records[len(s.records)-1]
	doubt := ""
	if s.inDoubt {
		doubt = " (in doubt: a lost event may have been its last)"
	}
	took := "over " + span(s.records[0].WallMS(), last.WallMS())
	if s.row != nil && s.row.Seq > last.Seq {
		return fmt.Sprintf("at %s, according to a snapshot. The event itself, seq %d, is lost%s", s.row.Checkpoint.Phase(), s.row.Seq, doubt)
	}
	if _, isCheckpoint := last.Event.(checkpoint.Upserted); isCheckpoint && s.row == nil {
		return "without a row, according to a snapshot. The event that ended it is lost" + doubt
	}
	switch e := s.lastStep().(type) {
	case checkpoint.Aborted:
		return fmt.Sprintf("aborted, %s: %s%s", took, quotedReason(e.Reason), doubt)
	case checkpoint.Removed:
		return "finished and removed, " + took + doubt
	case checkpoint.Upserted:
		if e.Checkpoint.Phase() == checkpoint.PhaseComplete {
			return fmt.Sprintf("complete, %s%s", took, doubt)
		}
		if s.facts.Abort == nil {
			return fmt.Sprintf("in flight at %s, %s%s", e.Checkpoint.Phase(), took, doubt)
		}
	case nil:
		return "last event written by a newer version, " + took
	}
	if s.row == nil {
		return "without a row, because no checkpoint is in the log" + doubt
	}
	progress := "abort not begun in the log, but a compensation is recorded"
	if a := s.row.Facts.Abort; a != nil {
		progress = abortProgress(a)
	}
	return fmt.Sprintf("in flight at %s, %s, %s%s", s.row.Checkpoint.Phase(), progress, took, doubt)
}

// lastStep returns the last event that was not written only to raise the epoch. It returns nil if
// this version does not know the kind of that event.
func (s migrationHistory) lastStep() checkpoint.Event {
	for _, r := range slices.Backward(s.records) {
		if _, ok := r.Event.(checkpoint.EpochRaised); !ok {
			return r.Event
		}
	}
	return s.records[0].Event
}

// sincePrevious returns the time from the previous record to record i, by their wall clocks.
func (s migrationHistory) sincePrevious(i int) string {
	if i == 0 {
		return ""
	}
	return span(s.records[i-1].WallMS(), s.records[i].WallMS())
}

func span(fromMS, toMS uint64) string {
	if toMS < fromMS {
		return "(the clock went back)"
	}
	return (time.Duration(min(toMS-fromMS, maxSpanMS)) * time.Millisecond).String()
}

// maxSpanMS is the longest time that a time.Duration can hold.
const maxSpanMS = uint64(math.MaxInt64 / time.Millisecond)
