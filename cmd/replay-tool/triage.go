package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"migrationlog/checkpoint"
	"migrationlog/eventlog"
	"migrationlog/eventlog/segment"
	"migrationlog/recovery"
	"migrationlog/replay"
	"migrationlog/replay/lint"
	"migrationlog/replay/triage"
)

// triageCommand has the flags of triage.
type triageCommand struct {
	*tool
	now    nowFlag
	policy policyFlags
	window string
	check  bool
}

func (t *tool) triage() *cobra.Command {
	m := &triageCommand{tool: t}
	c := &cobra.Command{
		Use:   "triage DIR",
		Short: "Show whether the log can be trusted, which migrations are in flight, and the causes of aborts",
		Long: `Show the first screen of an incident: whether the log can be trusted, whether a
coordinator has it open, which migrations are in flight and for how long,
whether that is unusual in this log, the decisions of a coordinator that starts
now, why moves were aborted, and the next command. 'replay-tool DIR' is the same.

SLOWER THAN is the share of the finished stays in the same phase that were
shorter. A line is marked ! from 99 % on, if there are at least 20 of them, and ?
if a lost event may have changed the row.

With --check, for cron, the exit code is 7 if an event breaks a rule of severity
error, if a migration has been in its phase for 5 minutes up to now, or if a
migration in flight is in doubt.`,
		Example: `  replay-tool triage log
  replay-tool triage log --check -q > /dev/null || alarm`,
		Args: argCount(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			policy, err := m.policy.read()
			if err != nil {
				return err
			}
			return t.buffered(func() error { return m.run(c.Context(), args[0], policy.Policy) })
		},
	}
	m.now.register(c)
	m.policy.register(c)
	c.Flags().StringVar(&m.window, "window", "", "count only moves and aborts of this last `time` of the log, such as 20s or 2d")
	c.Flags().BoolVar(&m.check, "check", false, "exit with 7 if there is a problem")
	return c
}

// isPath reports whether the first argument is not the name of a command, but a path.
func isPath(arg string) bool {
	_, err := os.Stat(arg)
	return err == nil || strings.ContainsRune(arg, filepath.Separator)
}

// runTriage runs the command without its own flags, for 'replay-tool DIR'.
func (t *tool) runTriage(c *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usageErrorf("%s is not a command: give the command before the directory, or the directory alone", quoted(args[0]))
	}
	m := &triageCommand{tool: t}
	return t.buffered(func() error { return m.run(c.Context(), args[0], recovery.Policy{}) })
}

func (m *triageCommand) run(ctx context.Context, dir string, policy recovery.Policy) error {
	reader, err := replay.Open(dir)
	if err != nil {
		return err
	}
	times := m.times(ctx, reader)
	sinceMS, err := m.since(times)
	if err != nil {
		return err
	}
	in, err := m.read(ctx, reader, dir, sinceMS)
	if err != nil {
		return err
	}
	to, err := m.now.read(m.tool, times, dir, in.counts.ToMS)
	if err != nil {
		return err
	}
	in.Policy, in.NowMS, in.ForToMS = policy, wallMS(), to.ms
	if m.now.text != "" {
		in.NowMS = to.ms
	}
	in.Log, in.Writer, in.UnprovenSnapshot = reader.Manifest().UUID, writerOf(dir), unprovenSnapshot(reader, in.Report)
	s := triage.New(in.counts, in.Inputs)
	begin, err := reader.Beginning()
	if err != nil {
		return err
	}
	screen := triageScreen{Summary: s, Begins: beginningOf(begin), Next: nextCommands(s, dir, in.idText), dir: dir, to: to, begin: begin, isReplica: reader.Manifest().Replicated}
	if err := m.writeValue(screen, func() { m.print(screen, in.ids) }); err != nil {
		return err
	}
	if m.check {
		return findingsExit(in.Report, m.problems(screen))
	}
	return reportExit(in.Report)
}

// triageInput has everything that triage reads from a log.
type triageInput struct {
	triage.Inputs
	counts triage.Counts
	ids    shortIDs
}

// idText returns an id in a form that no other migration of the log has.
func (in *triageInput) idText(id checkpoint.MigrationID) string {
	if in.UncheckedSegments > 0 { // not all ids are known
		return id.String()
	}
	return in.ids.of(id)
}

const (
	// A log with more segments than maxWholeSegments is not read completely.
	maxWholeSegments = 8
	// lintedSegments is the number of its last segments in which the rules are checked.
	lintedSegments = 2
)

// read reads the log, or the parts of a large log from which the same values follow. A window needs
// the whole log.
func (m *triageCommand) read(ctx context.Context, reader *replay.Reader, dir string, sinceMS uint64) (triageInput, error) {
	names, err := segment.Names(os.DirFS(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return triageInput{}, err
	}
	if len(names) > maxWholeSegments && sinceMS == 0 {
		in, ok, err := m.readParts(ctx, reader, names)
		if ok || err != nil {
			return in, err
		}
	}
	return m.readAll(ctx, reader, dir, sinceMS)
}

// readParts reads the summaries of all segments, the newest snapshot with the events after it, and the
// last segments. It returns false if the snapshot could not be used, for example after a loss.
func (m *triageCommand) readParts(ctx context.Context, reader *replay.Reader, names []string) (in triageInput, ok bool, err error) {
	fold, err := reader.FoldTo(ctx, replay.Point{})
	if err != nil || fold.Coverage().Unchecked == 0 {
		return in, false, err
	}
	totals, err := reader.Totals(ctx)
	if err != nil {
		return in, false, err
	}
	in.Rows, in.Report = fold.View.All(), fold.Report()
	in.counts = triage.CountsOf(totals.Totals, totals.Stays, in.Rows)
	in.PartialSegments = totals.Partial
	in.UncheckedSegments = min(fold.Coverage().Unchecked, len(names)-lintedSegments)
	in.FirstSeq, _ = segment.ParseName(names[0])
	in.LintedFrom, _ = segment.ParseName(names[len(names)-lintedSegments])
	if in.Findings, err = m.lintEnd(ctx, reader, in.LintedFrom, fold.View.LastSeq()); err != nil {
		return in, false, err
	}
	in.ids = shortestIDs(nil)
	for _, r := range in.Rows {
		in.ids.add(r.Checkpoint.MigrationID)
	}
	for _, f := range in.Findings {
		in.ids.add(f.MigrationID)
	}
	m.statusf("%s not checked. To check all, run: replay-tool verify", count(in.UncheckedSegments, "segment"))
	m.warnOfPartial(in.PartialSegments)
	return in, true, nil
}

// warnOfPartial warns that the counts and the usual stays lack facts of moves in some segments.
func (t *tool) warnOfPartial(segments int) {
	if segments > 0 {
		t.alertf("%s with moves whose earlier events are lost or removed: the counts of moves and the usual stays lack facts of these moves", count(segments, "segment"))
	}
}

// lintEnd checks the rules from one event to another. A finding that earlier events may explain is left
// out, because the linter treats these events as lost.
func (m *triageCommand) lintEnd(ctx context.Context, reader *replay.Reader, fromSeq, toSeq uint64) ([]lint.Finding, error) {
	linter, err := lint.New(lint.Options{Severity: lint.Warning})
	if err != nil {
		return nil, err
	}
	q := replay.Query{FromSeq: fromSeq, ToSeq: toSeq}
	for r, err := range readAhead(reader.Records(ctx, q)) {
		if err != nil {
			return nil, err
		}
		linter.Measure(r)
	}
	return m.findings(ctx, reader, linter, q, func(f lint.Finding) bool { return f.Certain })
}

// readAll reads the whole log twice. The rules need the usual stays of the first time.
func (m *triageCommand) readAll(ctx context.Context, reader *replay.Reader, dir string, sinceMS uint64) (in triageInput, err error) {
	linter, err := lint.New(lint.Options{Severity: lint.Warning, SinceMS: sinceMS})
	if err != nil {
		return in, err
	}
	totals := triage.NewTotals(sinceMS)
	in.ids = shortestIDs(nil)
	fold, err := m.fold(ctx, dir, func(_ *replay.Fold, r replay.Record) error {
		totals.Add(r)
		linter.Measure(r)
		if id, ok := r.Migration(); ok {
			in.ids.add(id)
		}
		return nil
	})
	if err != nil {
		return in, err
	}
	in.counts, in.Rows, in.Report = totals.Counts(), fold.View.All(), fold.Report()
	in.LintedFrom = in.Report.FirstSeq
	in.Findings, err = m.findings(ctx, reader, linter, replay.Query{ToSeq: fold.View.LastSeq()}, nil)
	return in, err
}

// since returns the beginning of the window, or 0 without --window.
func (m *triageCommand) since(times timeReader) (uint64, error) {
	if m.window == "" {
		return 0, nil
	}
	spanMS, ok := parseSpan(m.window)
	if !ok || spanMS == 0 {
		return 0, usageErrorf("--window %s: give a time span, such as 20s or 2d", m.window)
	}
	endMS, err := times.endMS()
	return endMS - min(spanMS, endMS), err
}

// triageScreen is the output of triage.
type triageScreen struct {
	triage.Summary
	Begins *beginningJSON `json:"history_begins,omitempty"`
	Next   []string       `json:"next"` // commands

	dir   string
	to    measuredTo
	begin replay.Beginning

	isReplica bool // the log belongs to a member of a consensus group
}

// writerOf returns the state of the lock of a log.
func writerOf(dir string) triage.Writer {
	found := eventlog.FindWriter(dir)
	w := triage.Writer{PID: found.PID}
	if found.Known {
		w.Alive = &found.Alive
	}
	if holder, _, ok := eventlog.ReadHolder(dir); ok && w.PID == 0 {
		w.PID = holder.PID
	}
	return w
}

// unprovenSnapshot returns the last event of the newest snapshot if that event is lost, otherwise 0.
func unprovenSnapshot(reader *replay.Reader, r replay.Report) uint64 {
	if len(r.Lost) == 0 {
		return 0
	}
	view, err := reader.Snapshot()
	if err != nil {
		return 0
	}
	last := view.LastSeq()
	if !slices.ContainsFunc(r.Lost, func(l replay.SeqRange) bool { return l.First <= last && last <= l.Last }) {
		return 0
	}
	return last
}

// stallTime is the time in a phase from which on --check counts a migration as stalled.
const stallTime = 5 * time.Minute

// problems prints the problems for --check, and returns their number.
func (m *triageCommand) problems(s triageScreen) (n int) {
	broken, stalled := 0, 0
	for _, f := range s.Findings {
		switch {
		case f.Severity == lint.Error:
			broken++
		case f.Rule == "stalled":
			stalled++
		}
	}
	if broken > 0 {
		m.statusf("check: %s of severity error. To list them, run: replay-tool lint %s --severity error", count(broken, "finding"), quoted(s.dir))
	}
	if stalled > 0 {
		m.statusf("check: %s in one phase for at least %s", count(stalled, "stay"), shortTimeout(uint64(stallTime.Milliseconds())))
	}
	n += broken + stalled
	stalled = 0
	for _, r := range s.InFlight {
		if s.NowMS-min(s.NowMS, r.SinceMS) >= uint64(stallTime.Milliseconds()) {
			stalled++
		}
	}
	if stalled > 0 {
		m.statusf("check: %s been in one phase for at least %s", have(stalled, "in-flight migration"), shortTimeout(uint64(stallTime.Milliseconds())))
	}
	if doubtful := s.Doubtful(); doubtful > 0 {
		m.statusf("check: %s in doubt", isOrAre(uint64(doubtful), "in-flight migration"))
		n += doubtful
	}
	return n + stalled
}

// nextCommands returns the commands that an operator runs next.
func nextCommands(s triage.Summary, dir string, idText func(checkpoint.MigrationID) string) (list []string) {
	log := quoted(dir)
	if !s.Report.Clean() || s.UncheckedSegments > 0 {
		list = append(list, "replay-tool verify "+log)
	}
	if s.UnprovenSnapshot > 0 {
		list = append(list, "replay-tool state "+log+" --snapshot")
	}
	if len(s.Findings) > 0 {
		list = append(list, "replay-tool lint "+log)
	}
	switch {
	case len(s.InFlight) > 0:
		list = append(list, "replay-tool show "+log+" "+idText(s.InFlight[0].MigrationID), "replay-tool timeline "+log+" --last 20s", "replay-tool plan "+log)
	case s.NotRemoved > 0:
		list = append(list, "replay-tool state "+log)
	case s.Seq[1] > 0:
		list = append(list, "replay-tool log "+log+" -n 20")
	}
	return list
}
