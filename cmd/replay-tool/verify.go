package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

func (t *tool) verify() *cobra.Command {
	return &cobra.Command{
		Use:     "verify DIR",
		Short:   "Check every frame, and list the damage and the migrations in doubt",
		Example: `  replay-tool verify log`,
		Args:    argCount(1, 1),
		RunE:    func(c *cobra.Command, args []string) error { return t.runVerify(c.Context(), args[0]) },
	}
}

func (t *tool) runVerify(ctx context.Context, dir string) error {
	fold, err := t.foldAll(ctx, dir)
	if err != nil {
		return err
	}
	report := fold.Report()
	err = t.writeValue(report, func() {
		t.verifyText(report)
		t.suggestSnapshot(dir, report)
	})
	if err != nil {
		return err
	}
	return reportExit(report)
}

// foldAll reads the whole log and folds all records.
func (t *tool) foldAll(ctx context.Context, dir string) (*replay.Fold, error) {
	reader, err := replay.Open(dir)
	if err != nil {
		return nil, err
	}
	p := t.progress("events read:")
	defer p.end()
	return reader.FoldAll(ctx, p.update)
}

func (t *tool) verifyText(r replay.Report) {
	w := t.stdout
	fmt.Fprintf(w, "%s intact", count(r.FramesOK, "frame"))
	if r.FramesOK > 0 {
		fmt.Fprintf(w, ", seq %d to %d", r.FirstSeq, r.LastSeq)
	}
	fmt.Fprintln(w)
	switch {
	case r.UnknownKinds == 1:
		fmt.Fprintln(w, "1 of them has a kind of event that only a newer version knows")
	case r.UnknownKinds > 1:
		fmt.Fprintf(w, "%d of them have a kind of event that only a newer version knows\n", r.UnknownKinds)
	}
	for _, d := range r.Damage {
		fmt.Fprintln(w, findingText(d))
	}
	if r.TornTail != nil {
		fmt.Fprintf(w, "%s\n", r.TornTail)
	}
	if len(r.Lost) > 0 {
		fmt.Fprintf(w, "lost: %s, %d of them known to have been acknowledged\n", count(r.LostCount(), "event"), replay.CountSeqs(r.AcknowledgedLost))
	}
	for _, id := range r.Superseded {
		fmt.Fprintf(w, "superseded: %s (an event of it is or may be lost, but a later event supersedes it)\n", id)
	}
	for _, id := range r.InDoubt {
		fmt.Fprintf(w, "in doubt: %s (a lost event may have been its last)\n", id)
	}
	if r.UnnamedInDoubt {
		fmt.Fprintln(w, "in doubt: any migration without a row (a lost event may have been its only one, or its last)")
	}
	if r.Epoch > 0 && r.EpochUncertain {
		fmt.Fprintf(w, "epoch: %d%s\n", r.Epoch, epochDoubt(r))
	}
	fmt.Fprintf(w, "verdict: %s\n", verdict(r))
	if lines := len(r.Damage) + len(r.Superseded) + len(r.InDoubt); lines > longReportLines {
		t.statusf("%d findings and migrations are listed. The last line is the verdict. To print only the counts, run 'replay-tool info'", lines)
	}
}

// longReportLines is the length of a report whose beginning and counts are hard to find.
const longReportLines = 100

// verdict returns the text after "verdict: ".
func verdict(r replay.Report) string {
	switch {
	case r.Damaged() && r.UnnamedInDoubt && len(r.InDoubt) == 0:
		return "damaged. No row is in doubt, but the log may have lost events of migrations without a row. Compare the log with the cluster once. This message remains even after that"
	case r.Damaged() && len(r.InDoubt) > 0:
		return "damaged. Ask the cluster for the true state of each migration in doubt, and write it to the log (see 'replay-tool import --help')"
	case r.CountFindings(segment.LosesEvents) > 0:
		return "damaged. Events are missing from the history, but no row is lost and no migration is in doubt"
	case r.Damaged():
		return "damaged. No event is known to be lost, but the damage can hide a loss or lead to one. Before a writer opens the log, copy the directory, and compare the newest rows with the cluster"
	case len(r.Damage) > 0 && r.TornTail != nil:
		return fmt.Sprintf("no event is lost or endangered: the findings are harmless, and the torn tail is %s. The next writer repairs it", tornExplanation)
	case len(r.Damage) > 0:
		return "no event is lost or endangered: all findings are harmless"
	case r.TornTail != nil:
		return fmt.Sprintf("torn tail, %s. The next writer repairs it", tornExplanation)
	}
	return "clean"
}

// suggestSnapshot prints how to show the newest snapshot if the log has lost the snapshot's last
// event. Openings ignore such a snapshot, although it may have rows that the log has lost.
func (t *tool) suggestSnapshot(dir string, r replay.Report) {
	if len(r.Lost) == 0 {
		return
	}
	reader, err := replay.Open(dir)
	if err != nil {
		return
	}
	view, err := reader.Snapshot()
	if err == nil && slices.ContainsFunc(r.Lost, func(l replay.SeqRange) bool { return l.First <= view.LastSeq() && view.LastSeq() <= l.Last }) {
		t.statusf("a snapshot has the rows as of #%d, which is lost. To see them, run: replay-tool state %s --snapshot", view.LastSeq(), quoted(dir))
	}
}
