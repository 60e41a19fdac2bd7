package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"migrationlog/checkpoint"
	"migrationlog/recovery"
	"migrationlog/recovery/crashpoints"
	"migrationlog/recovery/model"
	"migrationlog/replay"
)

func (t *tool) crashPoints() *cobra.Command {
	var flags policyFlags
	c := &cobra.Command{
		Use:   "crash-points DIR",
		Short: "Cut the history after each event, and list the cuts whose decisions are unsafe",
		Long: `Cut the history after each event, as a crash would, and list the cuts whose
decisions are unsafe or do not converge.

At each cut, the command plans as 'replay-tool plan' does, and carries out the
decisions on a model of the cluster, until each migration has completed, was
aborted, or waits for an answer. It does so for each thing that the log cannot
show: whether the last step was carried out, whether the target has left the
cluster, and how long the crash lasted.

A cut is listed if its decisions remove a peer in use, undo a move past its
transfer, leave a peer behind, or let two coordinators act on one vShard.`,
		Args: argCount(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			policy, err := flags.read()
			if err != nil {
				return err
			}
			return t.buffered(func() error { return t.runCrashPoints(c.Context(), args[0], policy.Policy) })
		},
	}
	flags.registerHistory(c)
	return c
}

func (t *tool) runCrashPoints(ctx context.Context, dir string, policy recovery.Policy) error {
	cutter := cutter{walk: crashpoints.New(policy, recovery.Plan)}
	fold, err := t.fold(ctx, dir, func(f *replay.Fold, r replay.Record) error {
		cutter.add(f, r)
		return nil
	})
	if err != nil {
		return err
	}
	if err := t.writeCuts(cutter.cuts); err != nil {
		return err
	}
	t.statusf("%s, %s: %s", count(cutter.walk.Cuts, "cut"), count(cutter.walk.Scenarios, "execution"), count(uint64(len(cutter.cuts)), "finding"))
	report := fold.Report()
	t.reportFindings(report)
	return findingsExit(report, len(cutter.cuts))
}

// cutter passes the records of a log to a walk, and keeps the findings.
type cutter struct {
	walk        *crashpoints.Walk
	snapshotSeq uint64
	cuts        []crashpoints.Finding
}

// add passes the record that the fold has just added. Damage is no cut. A snapshot can change the
// rows of other migrations.
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
	c.cuts = append(c.cuts, c.walk.Add(e)...)
}

// cutJSON is a finding in JSON.
type cutJSON struct {
	AfterSeq    uint64                   `json:"after_seq"`
	Kind        model.Kind               `json:"kind"`
	MigrationID checkpoint.MigrationID   `json:"migration_id"`
	With        *checkpoint.MigrationID  `json:"with"` // null: no other migration
	Detail      string                   `json:"detail"`
	Unrecorded  []checkpoint.MigrationID `json:"unrecorded"`
	TargetGone  bool                     `json:"target_gone"`
	Decision    recovery.Decision        `json:"decision"`
}

func (t *tool) writeCuts(cuts []crashpoints.Finding) error {
	if t.output == outputTable {
		t.cutsTable(cuts)
		return nil
	}
	list := make([]cutJSON, len(cuts))
	for i, f := range cuts {
		list[i] = cutJSON{f.AfterSeq, f.Kind, f.MigrationID, nil, f.Detail, append([]checkpoint.MigrationID{}, f.Unrecorded...), f.TargetGone, f.Decision}
		if f.With != (checkpoint.MigrationID{}) {
			list[i].With = new(f.With)
		}
	}
	return writeLines(t, list)
}

// cutsTable prints the findings for people: one line for each, and below it the decision, its
// consequence, and the circumstances.
func (t *tool) cutsTable(cuts []crashpoints.Finding) {
	if len(cuts) == 0 {
		return
	}
	var named []checkpoint.MigrationID
	rows := [][]string{{"AFTER SEQ", "ID", "VSHARD", "PHASE", "FINDING"}}
	for _, f := range cuts {
		named = append(append(named, f.MigrationID, f.With), f.Unrecorded...)
	}
	ids := shortestIDs(named)
	for _, f := range cuts {
		c := f.Decision.Row.Checkpoint
		rows = append(rows, []string{
			strconv.FormatUint(f.AfterSeq, 10), ids.of(f.MigrationID), strconv.FormatUint(uint64(c.Payload.Shard()), 10), c.Phase().String(), string(f.Kind),
		})
	}
	widths := columnWidths(rows)
	for i, cells := range rows {
		writeAligned(t.stdout, cells, widths)
		if i > 0 {
			for _, text := range cutDetails(&cuts[i-1], ids) {
				for _, line := range wrap(text, 80-columnGap) {
					fmt.Fprintf(t.stdout, "%*s%s\n", columnGap, "", line)
				}
			}
		}
	}
}

// cutDetails returns the decision and its consequence, and the circumstances under which it has the
// consequence.
func cutDetails(f *crashpoints.Finding, ids shortIDs) []string {
	d := &f.Decision
	decision := fmt.Sprintf("%s (%s)", d.Action, d.Reason)
	if d.Action == recovery.Resume {
		decision = fmt.Sprintf("%s %s (%s)", d.Action, d.NextPhase, d.Reason)
	}
	detail := strings.ReplaceAll(f.Detail, f.With.String(), ids.of(f.With))
	circumstances := "at age " + age(d.Inputs.AgeMS)
	if len(f.Unrecorded) > 0 {
		circumstances += ", if the last step of " + ids.list(f.Unrecorded) + " was carried out"
	}
	if f.TargetGone {
		circumstances += ", if the target is gone"
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
