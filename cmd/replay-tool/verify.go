package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

func (t *tool) verify() *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{
		Use:   "verify DIR [--baseline FILE]",
		Short: "Check every frame, and list the damage and the migrations in doubt",
		Long: `Check every frame, and list the damage and the migrations in doubt.

The first line is the verdict. "bytes whole" is about the files: the history in
them may still break the rules of the protocol.

With --baseline, FILE is the output of an earlier 'replay-tool verify DIR -o
json'. Findings that it has are printed as known and do not change the exit
code, so that a log with old damage can be monitored.`,
		Example: `  replay-tool verify log
  replay-tool verify log -o json > baseline.json
  replay-tool verify log --baseline baseline.json`,
		Args: argCount(1, 1),
		RunE: func(c *cobra.Command, args []string) error { return t.runVerify(c.Context(), args[0], o) },
	}
	c.Flags().StringVar(&o.baseline, "baseline", "", "compare with an earlier 'verify -o json' in `file`; only new damage gives exit code 3")
	c.Flags().BoolVar(&o.all, "all", false, "list every migration in doubt and every superseded one")
	return c
}

type verifyOptions struct {
	baseline string // path of a file; "": none
	all      bool

	isReplica bool // the log belongs to a member of a consensus group
}

func (t *tool) runVerify(ctx context.Context, dir string, o verifyOptions) error {
	baseline, err := readBaseline(o.baseline)
	if err != nil {
		return err
	}
	v, isReplica, err := t.verifyLog(ctx, dir)
	if err != nil {
		return err
	}
	o.isReplica = isReplica
	news := v.Report
	if baseline != nil {
		if err := t.checkBaseline(o.baseline, *baseline, v); err != nil {
			return err
		}
		c := replay.Compare(v.Report, baseline.Report)
		v.Baseline, news = &c, c.New(v.Report)
	}
	err = t.writeValue(v, func() {
		t.verifyText(v, o)
		t.suggestSnapshot(dir, v.Report)
	})
	if err != nil {
		return err
	}
	return reportExit(news)
}

// verifyLog checks the whole log, and shows the progress on a terminal. It also returns whether the
// log belongs to a member of a consensus group.
func (t *tool) verifyLog(ctx context.Context, dir string) (v replay.Verification, isReplica bool, err error) {
	reader, err := replay.Open(dir)
	if err != nil {
		return v, false, err
	}
	p := t.progress("events read:")
	defer p.end()
	v, err = reader.VerifyAll(ctx, p.update)
	return v, reader.Manifest().Replicated, err
}

// readBaseline reads the output of an earlier verify. It returns nil if no file is given.
func readBaseline(file string) (*replay.Verification, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var v replay.Verification
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, usageErrorf("%s is not a report of verify: write it with 'replay-tool verify DIR -o json', without --json-strings: %v", quoted(file), err)
	}
	return &v, nil
}

// checkBaseline returns a usageError if the baseline is of another log. Baselines of earlier versions
// have no uuid, so it prints a warning for them.
func (t *tool) checkBaseline(file string, baseline, now replay.Verification) error {
	switch baseline.UUID {
	case now.UUID:
		return nil
	case uuid.Nil:
		t.statusf("warning: %s has no uuid, so it may be the baseline of another log. To make a new one, run 'replay-tool verify DIR -o json'", quoted(file))
		return nil
	}
	return usageErrorf("%s is the baseline of another log, %s. This log is %s: make a baseline of it with 'replay-tool verify DIR -o json'",
		quoted(file), baseline.UUID, now.UUID)
}

// verifyText prints the verdict first, then the rows in doubt, then the findings.
func (t *tool) verifyText(v replay.Verification, o verifyOptions) {
	r := v.Report
	head := stylePlain
	if r.Damaged() {
		head = styleError
	}
	t.paragraph(head, headline(r))
	text := advice(r)
	if o.isReplica && r.Damaged() {
		text = replicaAdvice(r)
	}
	if text != "" {
		t.paragraph(stylePlain, text)
	}
	if v.Baseline != nil {
		known, fresh, gone := v.Baseline.Counts(r)
		t.paragraph(stylePlain, fmt.Sprintf("compared with %s: %d new, %d known, %d gone", quoted(o.baseline), fresh, known, gone))
	}
	if r.UnknownKinds > 0 {
		t.paragraph(stylePlain, fmt.Sprintf("%s a kind that only a newer version knows", have(r.UnknownKinds, "event")))
	}
	t.doubtText(v, o.all)
	if r.Epoch > 0 && r.EpochUncertain {
		fmt.Fprintf(t.stdout, "epoch: %d%s\n", r.Epoch, epochDoubt(r))
	}
	t.findingsText(v)
	if lines := len(r.Damage) + len(v.InDoubtInFlight()); lines > longReportLines {
		t.statusf("%d findings and migrations are listed. The first line is the verdict. To print only the counts, run 'replay-tool info'", lines)
	}
}

// longReportLines is the length of a report whose beginning and counts are hard to find.
const longReportLines = 100

// findingsText prints the findings, and those of the baseline that are gone.
func (t *tool) findingsText(v replay.Verification) {
	c := v.Baseline
	for i, d := range v.Report.Damage {
		switch {
		case c != nil && c.Known[i]:
			t.paragraph(stylePlain, "known: "+d.String())
		case d.Severity == segment.Harmless:
			t.paragraph(stylePlain, findingText(d))
		default:
			t.paragraph(styleError, findingText(d))
		}
	}
	if d := v.Report.TornTail; d != nil {
		known := ""
		if c != nil && c.TornTailKnown {
			known = "known: "
		}
		t.paragraph(stylePlain, known+d.String())
	}
	if c != nil {
		for _, d := range c.Gone {
			t.paragraph(stylePlain, "gone: "+d.String())
		}
	}
}

// doubtText prints the rows in doubt that are in flight, and the number of the others. With all, it
// prints all rows in doubt and all superseded ones.
func (t *tool) doubtText(v replay.Verification, all bool) {
	r, rows := v.Report, v.InDoubtInFlight()
	hint := ""
	if len(rows) < len(v.InDoubt) && !all {
		hint = " (--all lists them)"
	}
	if n := len(v.InDoubt); n > 0 {
		t.paragraph(styleWarning, fmt.Sprintf("in doubt: %s, %d in flight and %d at Complete%s: a lost event may have been the last one of each",
			count(n, "row"), len(rows), n-len(rows), hint))
	}
	if all {
		rows = v.InDoubt
	}
	for _, row := range rows {
		c := row.Checkpoint
		fmt.Fprintf(t.stdout, "in doubt: %s  vshard %d, %s, #%d\n", c.MigrationID, c.Payload.Shard(), c.Phase(), row.Seq)
	}
	withRow := map[checkpoint.MigrationID]bool{}
	for _, row := range v.InDoubt {
		withRow[row.Checkpoint.MigrationID] = true
	}
	for _, id := range r.InDoubt {
		if !withRow[id] {
			fmt.Fprintf(t.stdout, "in doubt: %s  no row\n", id)
		}
	}
	if r.UnnamedInDoubt {
		t.paragraph(styleWarning, "in doubt: any migration without a row (a lost event may have been its only one, or its last)")
	}
	switch n := len(r.Superseded); {
	case n > 0 && all:
		for _, id := range r.Superseded {
			fmt.Fprintf(t.stdout, "superseded: %s\n", id)
		}
	case n > 0:
		t.paragraph(stylePlain, fmt.Sprintf("superseded: %s of which an event is or may be lost, and a later one supersedes it (--all lists them)", count(n, "row")))
	}
}

// paragraph prints a text. If it does not fit into a line of the terminal, it continues in further
// lines with an indent.
func (t *tool) paragraph(s style, text string) {
	const indent = 9
	width := t.width()
	if width == 0 || len(text) <= width {
		fmt.Fprintln(t.stdout, t.paint(s, text))
		return
	}
	first := wrap(text, width)[0]
	fmt.Fprintln(t.stdout, t.paint(s, first))
	for _, line := range wrap(strings.TrimPrefix(text, first), max(width-indent, minFreeWidth)) {
		fmt.Fprintln(t.stdout, strings.Repeat(" ", indent)+t.paint(s, line))
	}
}

// headline returns the first line: the verdict, with the number of the events.
func headline(r replay.Report) string {
	events := count(r.FramesOK, "event")
	if r.FramesOK > 0 {
		events += fmt.Sprintf(", seq %d to %d", r.FirstSeq, r.LastSeq)
	}
	switch r.Verdict() {
	case replay.VerdictWhole:
		return "bytes whole: " + events
	case replay.VerdictTorn:
		return "bytes whole: " + events + ", and a torn tail"
	case replay.VerdictHarmless:
		events += "; " + count(len(r.Damage), "harmless finding")
		if r.TornTail != nil {
			events += " and a torn tail"
		}
		return "no event is lost or endangered: " + events
	}
	if len(r.Lost) == 0 {
		return "DAMAGED: no event is known to be lost: " + events
	}
	return "DAMAGED: " + lossText(r)
}

// maxLostShown is the maximum number of ranges of lost numbers in the first line. The JSON has all.
const maxLostShown = 3

// lossText returns the number of the lost events, their numbers, and how many of them had been
// acknowledged.
func lossText(r replay.Report) string {
	lost, acknowledged := r.LostCount(), replay.CountSeqs(r.AcknowledgedLost)
	verb, which := "are", "all of which"
	if lost == 1 {
		verb, which = "is", "which"
	}
	text := fmt.Sprintf("%d of %s %s lost", lost, count(r.FramesOK+lost, "event"), verb)
	for _, l := range r.Lost[:min(len(r.Lost), maxLostShown)] {
		if text += fmt.Sprintf(", #%d", l.First); l.Last > l.First {
			text += fmt.Sprintf(" to #%d", l.Last)
		}
	}
	if more := len(r.Lost) - maxLostShown; more > 0 {
		text += fmt.Sprintf(" and %s", count(more, "more range"))
	}
	switch acknowledged {
	case lost:
		return text + ", " + which + " had been acknowledged"
	case 0:
		return text + ", and it is not known whether any of them had been acknowledged"
	}
	return text + fmt.Sprintf(", %d of which are known to have been acknowledged", acknowledged)
}

// advice returns the second line: the meaning of the verdict, and what to do. It is empty if there is
// nothing to do.
func advice(r replay.Report) string {
	const torn = "The torn tail is " + tornExplanation + ". The next writer repairs it"
	switch {
	case r.Damaged() && r.UnnamedInDoubt && len(r.InDoubt) == 0:
		return "No row is in doubt, but the log may have lost events of migrations without a row. Compare the log with the cluster once. This message remains even after that"
	case r.Damaged() && len(r.InDoubt) > 0:
		return "Ask the cluster for the true state of each migration in doubt, and write it to the log (see 'replay-tool import --help')"
	case r.CountFindings(segment.LosesEvents) > 0:
		return "Events are missing from the history, but no row is lost and no migration is in doubt"
	case r.Damaged():
		return "The damage can hide a loss or lead to one. Before a writer opens the log, copy the directory, and compare the newest rows with the cluster"
	case r.TornTail != nil:
		return torn
	}
	return ""
}

// replicaAdvice returns the advice for a damaged log of a member of a consensus group. Only the group
// can restore the rows of such a log.
func replicaAdvice(r replay.Report) string {
	const (
		member = "The log belongs to a member of a consensus group"
		steps  = "rename the member's directory, keep it, and start the member again: the group then restores it (docs/REPLICATION.md, \"A member is unfit\")"
	)
	isUncovered := func(l replay.SeqRange) bool { return l.Last > r.SnapshotSeq }
	switch {
	case slices.ContainsFunc(r.Lost, isUncovered):
		return member + ", and the member does not start with it (ErrUnfit). Stop the member if it runs, " + steps
	case r.CountFindings(segment.LosesEvents) > 0:
		return "Events are missing from the history, but no row is lost and no migration is in doubt. " + member + ". If the member does not start with it (ErrUnfit), " + steps
	}
	return "The damage can hide a loss or lead to one. " + member + ". If the member does not start with it, " + steps
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
