package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/torn"
	"migrationlog/recovery"
	"migrationlog/recovery/crashpoints"
	"migrationlog/recovery/model"
	"migrationlog/replay"
)

func (t *tool) crashPoints() *cobra.Command {
	var flags policyFlags
	var tears bool
	c := &cobra.Command{
		Use:   "crash-points DIR",
		Short: "Cut the history after each event, and list the cuts whose decisions are unsafe",
		Long: `Cut the history after each event, as a crash would, and list the cuts whose
decisions are unsafe or do not converge.

At each cut, the command plans as 'replay-tool plan' does, and carries out the
decisions on a model of the cluster, until each migration has completed, was
aborted, or waits for an answer. The log does not show the whole state of the
cluster. The command therefore tries several states: with and without the effects
after the furthest checkpoint that was recorded, with and without the target, and
with a start at once or after rows have become stale.

A cut is listed if its decisions remove a peer in use, undo a move after its
transfer, leave a peer or a stub behind, or let two coordinators act on one
vShard, or if they do not converge. With --bytes, a torn write is also listed if
it hides or changes the events before it.`,
		Example: `  replay-tool crash-points log --members 1,2,3`,
		Args:    argCount(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			policy, err := flags.read()
			if err != nil {
				return err
			}
			return t.buffered(func() error { return t.runCrashPoints(c.Context(), args[0], policy.Policy, tears) })
		},
	}
	c.Flags().BoolVar(&tears, "bytes", false, "also tear the last writes at each byte, and compare what a coordinator finds when it opens the log")
	flags.registerHistory(c)
	return c
}

func (t *tool) runCrashPoints(ctx context.Context, dir string, policy recovery.Policy, tears bool) error {
	cutter := cutter{walk: crashpoints.New(policy, recovery.Plan)}
	fold, err := t.fold(ctx, dir, func(f *replay.Fold, r replay.Record) error {
		cutter.add(f, r)
		return nil
	})
	if err != nil {
		return err
	}
	summary := fmt.Sprintf("%s, %s", count(cutter.walk.Cuts, "cut"), count(cutter.walk.Scenarios, "execution"))
	if tears {
		found, tearCount, err := t.tear(ctx, dir)
		if err != nil {
			return err
		}
		cutter.cuts = append(cutter.cuts, found...)
		summary += ", " + count(tearCount, "torn write")
	}
	if err := t.writeCuts(cutter.cuts); err != nil {
		return err
	}
	t.statusf("%s: %s", summary, count(uint64(len(cutter.cuts)), "finding"))
	report := fold.Report()
	t.reportFindings(report)
	return findingsExit(report, len(cutter.cuts))
}

// tear tears the last writes of the log at each byte. If an opening finds the history before the
// write, the rows are those of a cut between two events, and so this tear needs no plan of its own.
func (t *tool) tear(ctx context.Context, dir string) (found []cutFinding, tears uint64, err error) {
	absolute, err := segment.AbsoluteDir(dir)
	if err != nil {
		return nil, 0, err
	}
	fsys := os.DirFS(absolute)
	tail, err := torn.ReadTail(fsys)
	if err != nil {
		return nil, 0, err
	}
	reader, err := replay.OpenFS(fsys)
	if err != nil {
		return nil, 0, err
	}
	p := t.progress("torn writes read:")
	defer p.end()
	tearNext := func(before *replay.Fold) error {
		for d, err := range tail.Tears(ctx, before.View.LastSeq()+1, before) {
			if err != nil {
				return err
			}
			tears++
			p.update(tears)
			switch last := len(found) - 1; {
			case d == nil:
			case last >= 0 && found[last].tear.Seq == d.Seq && found[last].tear.Reason == d.Reason:
				found[last].more++
			default:
				found = append(found, cutFinding{Finding: crashpoints.Finding{AfterSeq: before.View.LastSeq(), Kind: tornWrite, Detail: d.String()}, tear: d})
			}
		}
		return nil
	}
	before := reader.NewFold()
	if err := tearNext(before); err != nil {
		return nil, 0, err
	}
	for r, err := range readAhead(reader.Records(ctx, replay.Query{})) {
		if err != nil {
			return nil, 0, err
		}
		if before.Add(r); r.Damage == nil || r.Damage.Lost() > 0 {
			if err := tearNext(before); err != nil {
				return nil, 0, err
			}
		}
	}
	if first, last := tail.Seqs(); last > 0 {
		t.statusf("the writes of #%d to #%d were torn at each byte", first, last)
	} else {
		t.statusf("the last segment has no event, so there is no write to tear")
	}
	return found, tears, nil
}

// tornWrite is the kind of a finding about a torn write.
const tornWrite model.Kind = "torn_write"

// cutFinding is a finding about a cut between two events, or about a torn write.
type cutFinding struct {
	crashpoints.Finding
	tear *torn.Difference // the first tear of the write with this difference; nil: a cut between two events
	more uint64           // the number of other tears of the write with the same difference
}

// cutter passes the records of a log to a walk, and keeps the findings.
type cutter struct {
	walk        *crashpoints.Walk
	snapshotSeq uint64
	cuts        []cutFinding
}

// add passes the record that the fold has just added to the walk. Damage is no cut. A snapshot can
// change the rows of other migrations.
func (c *cutter) add(f *replay.Fold, r replay.Record) {
	if r.Damage != nil {
		return
	}
	e := crashpoints.Event{Seq: r.Seq, ClockMS: r.WallMS(), Event: r.Event, View: f.View}
	e.MigrationID, _ = r.Migration()
	if f.SnapshotSeq() != c.snapshotSeq {
		c.snapshotSeq = f.SnapshotSeq()
		c.walk.Replace(f.View)
	}
	for _, f := range c.walk.Add(e) {
		c.cuts = append(c.cuts, cutFinding{Finding: f})
	}
}

// cutJSON is a finding in JSON.
type cutJSON struct {
	AfterSeq    uint64                   `json:"after_seq"`
	Kind        model.Kind               `json:"kind"`
	MigrationID *checkpoint.MigrationID  `json:"migration_id"` // null: torn_write
	With        *checkpoint.MigrationID  `json:"with"`         // null: no other migration
	Detail      string                   `json:"detail"`
	Unrecorded  []checkpoint.MigrationID `json:"unrecorded"`
	TargetGone  bool                     `json:"target_gone"`
	Decision    *recovery.Decision       `json:"decision"` // null: torn_write
	Tear        *tearJSON                `json:"tear"`     // null: all others
}

type tearJSON struct {
	Segment string `json:"segment"`
	Bytes   int64  `json:"bytes"`
	Zeros   bool   `json:"zeros"`
	More    uint64 `json:"more"`
}

func (c cutFinding) MarshalJSON() ([]byte, error) {
	v := cutJSON{
		AfterSeq: c.AfterSeq, Kind: c.Kind, Detail: c.Detail, TargetGone: c.TargetGone,
		Unrecorded: append([]checkpoint.MigrationID{}, c.Unrecorded...),
	}
	if d := c.tear; d != nil {
		v.Tear = &tearJSON{d.Segment, d.Bytes, d.Zeros, c.more}
	} else {
		v.MigrationID, v.Decision = &c.MigrationID, &c.Decision
	}
	if c.With != (checkpoint.MigrationID{}) {
		v.With = &c.With
	}
	return json.Marshal(v)
}

func (t *tool) writeCuts(cuts []cutFinding) error {
	if t.output != outputTable {
		return writeLines(t, cuts)
	}
	if len(cuts) > 0 {
		t.cutsTable(cuts)
	}
	return nil
}

// cutsTable prints the findings for people: one line for each, and below it the decision, its
// consequence, and the circumstances.
func (t *tool) cutsTable(cuts []cutFinding) {
	var named []checkpoint.MigrationID
	for _, c := range cuts {
		named = append(append(named, c.MigrationID, c.With), c.Unrecorded...)
	}
	ids := shortestIDs(named)
	rows := [][]string{{"AFTER SEQ", "ID", "VSHARD", "PHASE", "FINDING"}}
	for _, c := range cuts {
		cells := []string{strconv.FormatUint(c.AfterSeq, 10), "-", "-", "-", string(c.Kind)}
		if row := c.Decision.Row.Checkpoint; c.tear == nil {
			cells[1], cells[2], cells[3] = ids.of(c.MigrationID), strconv.FormatUint(uint64(row.Payload.Shard()), 10), row.Phase().String()
		}
		rows = append(rows, cells)
	}
	widths := columnWidths(rows)
	for i, cells := range rows {
		writeAligned(t.stdout, cells, widths)
		if i == 0 {
			continue
		}
		for _, text := range cutDetails(cuts[i-1], ids) {
			for _, line := range wrap(text, 80-columnGap) {
				fmt.Fprintf(t.stdout, "%*s%s\n", columnGap, "", line)
			}
		}
	}
}

// cutDetails returns the decision and its consequence, and the circumstances under which it has the
// consequence.
func cutDetails(c cutFinding, ids shortIDs) []string {
	switch {
	case c.tear != nil && c.more > 0:
		return []string{fmt.Sprintf("%s; %d more tears of this write have the same effect", c.Detail, c.more)}
	case c.tear != nil:
		return []string{c.Detail}
	}
	d := &c.Decision
	decision := fmt.Sprintf("%s (%s)", d.Action, d.Reason)
	if d.Action == recovery.Resume {
		decision = fmt.Sprintf("%s %s (%s)", d.Action, d.NextPhase, d.Reason)
	}
	detail := strings.ReplaceAll(c.Detail, c.With.String(), ids.of(c.With))
	circumstances := "at age " + shortSpan(d.Inputs.AgeMS)
	if len(c.Unrecorded) > 0 {
		circumstances += ", if the effects after the furthest checkpoint of " + ids.list(c.Unrecorded) + " were carried out"
	}
	if c.TargetGone {
		circumstances += ", if the target is no member of the cluster"
	}
	return []string{decision + ": " + detail, circumstances}
}

// wrap breaks a text between words into lines of at most width characters.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > width:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}
