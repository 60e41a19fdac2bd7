package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"

	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/lint"
)

func (t *tool) lint() *cobra.Command {
	l := &linting{tool: t, ofRule: map[string]int{}, ids: findingIDs{short: shortestIDs(nil)}}
	c := &cobra.Command{
		Use:   "lint DIR | --ndjson FILE | --explain RULE",
		Short: "Find the events that break the rules of a correct history",
		Long: `Find the events that break the rules of a correct history: a phase that was
skipped, an abort that leaves a learner behind, two moves of one vShard, a move
that waits. Intact bytes do not make a correct history. 'replay-tool verify'
checks the bytes, and lint checks the events.

A finding with a ? is not certain: a lost event may explain it. Its severity is
at most warning. A duration that a clock jump or a stopped coordinator explains
is a silence of the log and not a stall of a move.

With --ndjson, lint checks the lines of a file before they are imported. SEQ is
then the number of the line, and duplicate-differs compares the lines that import
would not append.

` + ruleList() + `

The exit code is 7 if a finding is shown. On a damaged log it is 3.`,
		Example: `  replay-tool lint log
  replay-tool lint log --rule stalled --stall 2s
  replay-tool lint --ndjson moves.ndjson --severity info
  replay-tool lint --explain slow-phase`,
		Args: argCount(0, 1),
		RunE: func(c *cobra.Command, args []string) error { return l.run(c, args) },
	}
	flags := c.Flags()
	flags.StringSliceVar(&l.options.Rules, "rule", nil, "only the `rules` with these ids, of any severity unless --severity is given")
	flags.StringVar(&l.severity, "severity", lint.Warning.String(), "least `severity` of the findings that are shown: info, warning or error")
	flags.DurationVar(&l.options.Stall, "stall", lint.DefaultStall, "`duration` from which a stay is a stall")
	flags.StringVar(&l.explain, "explain", "", "explain the `rule` with this id, and read no log")
	flags.StringVar(&l.file, "ndjson", "", "check the lines of this `file`, which import would read, instead of a log")
	flags.StringSliceVar(&l.vshards, "vshard", nil, "only findings about the vShard with this `number`, or about those of a range such as 1-13")
	flags.StringVar(&l.migration, "migration", "", "only findings about the migration with this `id` (or a beginning or an end that only one id has)")
	flags.StringVar(&l.since, "since", "", "only findings whose last event is at or after this `time` ("+timeFormats+")")
	flags.StringVar(&l.until, "until", "", "only findings whose last event is at or before this `time`")
	completeFlag(c, "severity", lint.Info.String(), lint.Warning.String(), lint.Error.String())
	completeFlag(c, "rule", describedRules()...)
	completeFlag(c, "explain", describedRules()...)
	return c
}

// ruleList returns the ids of the rules, by severity.
func ruleList() string {
	var all []string
	for severity := lint.Error; severity >= lint.Info; severity-- {
		var ids []string
		for _, r := range lint.Rules() {
			if r.Severity == severity {
				ids = append(ids, r.ID)
			}
		}
		all = append(all, strings.Join(wrap(fmt.Sprintf("The rules of severity %s: %s.", severity, strings.Join(ids, ", ")), 80), "\n"))
	}
	return strings.Join(all, "\n\n")
}

// describedRules returns the ids of the rules for a shell's completion.
func describedRules() []string {
	var values []string
	for _, r := range lint.Rules() {
		values = append(values, fmt.Sprintf("%s\t%s: %s", r.ID, r.Severity, r.Reason))
	}
	return values
}

// linting is one run of the command lint.
type linting struct {
	*tool
	dir, file, explain, severity, migration, since, until string
	vshards                                               []string
	options                                               lint.Options
	linter                                                *lint.Linter
	shown                                                 []lint.Finding // for the table, at most maxShownOfRule of each rule
	ofRule                                                map[string]int // findings for the table, by rule
	ids                                                   findingIDs
}

// maxShownOfRule limits the findings of one rule in the table, because the table is sorted. JSON has
// all findings.
const maxShownOfRule = 1000

func (l *linting) run(c *cobra.Command, args []string) error {
	if l.explain != "" {
		return l.explainRule()
	}
	var err error
	if l.options.Severity, err = lint.ParseSeverity(l.severity); err != nil {
		return usageErrorf("--severity: %w", err)
	}
	switch {
	case l.file == "" && len(args) == 0:
		return usageErrorf("no log given: give the directory of a log, or a file with --ndjson")
	case l.file == "-":
		return usageErrorf("lint reads a file twice, and cannot read standard input: save the lines to a file first")
	case l.file != "" && len(args) > 0:
		return usageErrorf("give a directory or --ndjson, and not both")
	case l.file != "" && l.migration+l.since+l.until != "":
		return usageErrorf("--migration, --since and --until need a log: import the file first")
	case l.options.Stall < time.Millisecond:
		return usageErrorf("--stall %s: give a duration of at least 1ms", l.options.Stall)
	}
	if len(l.options.Rules) > 0 && !c.Flags().Changed("severity") {
		l.options.Severity = lint.Info
	}
	if l.options.VShards, err = parseVShards(l.vshards); err != nil {
		return err
	}
	return l.buffered(func() error {
		if l.file != "" {
			return l.runFile(c.Context())
		}
		l.dir = args[0]
		return l.runLog(c.Context())
	})
}

// runLog checks a log, and its bytes too, because the exit code of damage has priority.
func (l *linting) runLog(ctx context.Context) error {
	keepHeapSmall()
	reader, err := replay.Open(l.dir)
	if err != nil {
		return err
	}
	if err := l.selectFromLog(ctx, reader); err != nil {
		return err
	}
	p := l.progress("events read:")
	defer p.end()
	history := &foldedHistory{linting: l, reader: reader, progress: p}
	if err := l.check(ctx, history); err != nil {
		return err
	}
	p.end()
	report := history.fold.Report()
	l.reportFindings(report)
	return findingsExit(report, int(l.shownCount()))
}

// selectFromLog sets the options that need the log.
func (l *linting) selectFromLog(ctx context.Context, reader *replay.Reader) (err error) {
	times := l.times(ctx, reader)
	if l.since != "" {
		if l.options.SinceMS, err = times.parse(l.since); err != nil {
			return err
		}
	}
	if l.until != "" {
		if l.options.UntilMS, err = times.parse(l.until); err != nil {
			return err
		}
	}
	if l.options.UntilMS != 0 && l.options.UntilMS < l.options.SinceMS {
		return errReversedPeriod
	}
	if l.migration != "" {
		id, err := resolve(ctx, reader, l.migration)
		if err != nil {
			return err
		}
		l.options.Migrations = []checkpoint.MigrationID{id}
	}
	return nil
}

// foldedHistory folds the records that a linter reads. If the linter reads them twice, it folds them
// the second time.
type foldedHistory struct {
	*linting
	reader   *replay.Reader
	fold     *replay.Fold
	progress *progress
	read     uint64
	passes   int
}

func (h *foldedHistory) Records(ctx context.Context, q replay.Query) iter.Seq2[replay.Record, error] {
	h.passes++
	isLast := h.passes == h.linter.Passes()
	return func(yield func(replay.Record, error) bool) {
		h.fold = h.reader.NewFold()
		for r, err := range readAhead(h.reader.Records(ctx, q)) {
			if err == nil {
				if isLast {
					h.fold.Add(r)
					h.ids.addRecord(r)
				}
				h.read++
				h.progress.update(h.read)
				err = ctx.Err() // the read-ahead does not return it
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// findingIDs has the short forms of the ids in a history. It keeps at most maxShortIDs ids, because a
// long history has millions. If it has more, the forms are longer.
type findingIDs struct {
	short shortIDs
	count int
}

const maxShortIDs = 50_000

func (f *findingIDs) addRecord(r replay.Record) {
	if c, ok := r.Checkpoint(); ok && f.count <= maxShortIDs && (r.PrevSeq == 0 || c.Phase() == checkpoint.PhaseAddLearner) {
		f.short.add(c.MigrationID)
		f.count++
	}
}

func (f *findingIDs) of(id checkpoint.MigrationID) string {
	if f.count > maxShortIDs {
		text := id.String()
		return text[strings.LastIndexByte(text, '-')+1:]
	}
	return f.short.of(id)
}

// runFile checks the lines of a file.
func (l *linting) runFile(ctx context.Context) error {
	history := &fileHistory{linting: l, name: l.file}
	l.options.File = true
	if err := l.check(ctx, history); err != nil {
		return err
	}
	switch {
	case history.damaged:
		l.statusf("the file has damage lines: events that its log has lost may explain the findings with a ?")
		return silentExit{exitDamage}
	case l.shownCount() > 0:
		return silentExit{exitFindings}
	}
	return nil
}

// fileHistory has the lines of a file as records. The seq of a record is the number of its line.
type fileHistory struct {
	*linting
	name    string
	damaged bool // a damage line loses or endangers events
}

func (h *fileHistory) Records(ctx context.Context, _ replay.Query) iter.Seq2[replay.Record, error] {
	return func(yield func(replay.Record, error) bool) {
		f, err := openInput(ctx, h.name)
		if err == nil {
			defer f.Close()
			if !isFinite(f) {
				err = usageErrorf("lint reads a file twice, and %s is not a regular file: save the lines to a file first", quoted(h.name))
			}
		}
		if err != nil {
			yield(replay.Record{}, err)
			return
		}
		h.damaged = false
		for r, err := range h.records(ctx, f) {
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

func (h *fileHistory) records(ctx context.Context, in io.Reader) iter.Seq2[replay.Record, error] {
	return func(yield func(replay.Record, error) bool) {
		var number uint64
		for lines, err := range readLines(ctx, in) {
			for _, line := range lines {
				number++
				if line = bytes.TrimSpace(bytes.TrimPrefix(line, []byte(byteOrderMark))); len(line) == 0 {
					continue
				}
				r, parseErr := readRecord(line)
				if parseErr != nil {
					yield(r, fmt.Errorf("line %d: %w", number, parseErr))
					return
				}
				h.damaged = h.damaged || r.Damage != nil && damagesInput(r.Damage)
				numberByLine(&r, number)
				h.ids.addRecord(r)
				if !yield(r, nil) {
					return
				}
			}
			if err != nil {
				yield(replay.Record{}, err)
				return
			}
		}
	}
}

// numberByLine makes the number of a line the seq of its record. The seqs in a damage line are those
// of the log that lost the events.
func numberByLine(r *replay.Record, line uint64) {
	if r.Damage == nil {
		r.Seq = line
	} else if r.Damage.Lost() > 0 {
		r.Damage.FirstSeq, r.Damage.LastSeq = line, line
	}
}

// check finds and prints the findings of a history.
func (l *linting) check(ctx context.Context, h lint.History) error {
	var err error
	if l.linter, err = lint.New(l.options); err != nil {
		return usageErrorf("--rule: %w. To list all, run 'replay-tool lint --help'", err)
	}
	printed := 0
	for f, err := range l.linter.Run(ctx, h) {
		if err != nil {
			return err
		}
		if err := l.print(f, printed); err != nil {
			return err
		}
		printed++
	}
	switch l.output {
	case outputJSON:
		return l.endJSON(printed)
	case outputTable:
		l.table()
	}
	l.summary()
	return nil
}

// print prints a finding as JSON, or keeps it for the table.
func (l *linting) print(f lint.Finding, printed int) error {
	switch l.output {
	case outputNDJSON:
		return writeLine(l.stdout, f)
	case outputJSON:
		b, err := json.MarshalIndent(f, "    ", "  ")
		if err != nil {
			return err
		}
		start := ",\n    "
		if printed == 0 {
			start = "{\n  \"findings\": [\n    "
		}
		_, err = fmt.Fprintf(l.stdout, "%s%s", start, b)
		return err
	}
	if l.ofRule[f.Rule]++; l.ofRule[f.Rule] <= maxShownOfRule {
		l.shown = append(l.shown, f)
	}
	return nil
}

// ruleJSON is the number of findings of a rule. It includes the findings that are not shown.
type ruleJSON struct {
	ID       string        `json:"id"`
	Severity lint.Severity `json:"severity"`
	Count    uint64        `json:"count"`
}

// endJSON ends the document. The counts come last, because the findings are printed as they are
// found.
func (l *linting) endJSON(printed int) error {
	counts := []ruleJSON{}
	for _, c := range l.linter.Counts() {
		counts = append(counts, ruleJSON{c.Rule.ID, c.Rule.Severity, c.Found})
	}
	b, err := json.MarshalIndent(counts, "  ", "  ")
	if err != nil {
		return err
	}
	start := "\n  ],"
	if printed == 0 {
		start = "{\n  \"findings\": [],"
	}
	_, err = fmt.Fprintf(l.stdout, "%s\n  \"rules\": %s\n}\n", start, b)
	return err
}

func (l *linting) shownCount() uint64 { return shownFindings(l.linter) }

// shownFindings returns the number of findings that a linter has returned.
func shownFindings(l *lint.Linter) (n uint64) {
	for _, c := range l.Counts() {
		n += c.Shown
	}
	return n
}

// minMessageWidth is the width below which a message gets lines of its own.
const minMessageWidth = 24

// table prints the findings, the worst rules first. Messages that are too long for the line continue
// on the next one.
func (l *linting) table() {
	if len(l.shown) == 0 {
		return
	}
	order := map[string]int{}
	for i, r := range lint.Rules() {
		order[r.ID] = i
	}
	slices.SortStableFunc(l.shown, func(a, b lint.Finding) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(order[a.Rule], order[b.Rule]))
	})
	seq := "SEQ"
	if l.options.File {
		seq = "LINE"
	}
	rows := [][]string{{"SEVERITY", "RULE", "VSHARD", "ID", seq}}
	for _, f := range l.shown {
		rows = append(rows, l.cells(f))
	}
	widths := columnWidths(rows)
	indent := 0
	for _, w := range widths {
		indent += w + columnGap
	}
	room := l.width() - indent
	for i, cells := range rows {
		cells[2] = fmt.Sprintf("%*s", widths[2], cells[2])
		line := strings.TrimRight(alignedCells(cells, widths), " ")
		if i == 0 {
			fmt.Fprintln(l.stdout, strings.TrimRight(fmt.Sprintf("%-*s%s", indent, line, "FINDING"), " "))
			continue
		}
		l.finding(l.shown[i-1], line, indent, room)
	}
	for _, c := range l.linter.Counts() {
		if c.Shown > maxShownOfRule {
			l.statusf("and %s of %s. To list all, add --rule %s -o ndjson", count(c.Shown-maxShownOfRule, "more finding"), c.Rule.ID, c.Rule.ID)
		}
	}
}

// finding prints the line of a finding with its message.
func (l *linting) finding(f lint.Finding, line string, indent, room int) {
	look := stylePlain
	switch f.Severity {
	case lint.Error:
		look = styleError
	case lint.Warning:
		look = styleWarning
	}
	severity := f.Severity.String()
	painted := l.paint(look, severity) + strings.TrimPrefix(line, severity)
	message := printable(f.Message)
	if !f.Certain {
		message += "; a lost event may explain it"
	}
	lines := []string{message}
	switch {
	case l.width() == 0:
	case room < minMessageWidth:
		fmt.Fprintln(l.stdout, painted)
		for _, text := range wrap(message, l.width()-columnGap) {
			fmt.Fprintf(l.stdout, "%*s%s\n", columnGap, "", text)
		}
		return
	default:
		lines = wrap(message, room)
	}
	fmt.Fprintf(l.stdout, "%s%*s%s\n", painted, indent-len(line), "", lines[0])
	for _, text := range lines[1:] {
		fmt.Fprintf(l.stdout, "%*s%s\n", indent, "", text)
	}
}

// cells returns the columns of a finding before its message.
func (l *linting) cells(f lint.Finding) []string {
	cells := []string{f.Severity.String(), f.Rule, "-", "-", ""}
	if !f.Certain {
		cells[0] += "?"
	}
	if f.VShardID != nil {
		cells[2] = strconv.FormatUint(uint64(*f.VShardID), 10)
	}
	if f.MigrationID != (checkpoint.MigrationID{}) {
		cells[3] = l.ids.of(f.MigrationID)
	}
	var seqs []string
	for _, seq := range f.Seqs {
		seqs = append(seqs, strconv.FormatUint(seq, 10))
	}
	cells[4] = strings.Join(seqs, " ")
	return cells
}

// alignedCells joins cells that are padded to the widths of their columns.
func alignedCells(cells []string, widths []int) string {
	var b strings.Builder
	for i, cell := range cells {
		fmt.Fprintf(&b, "%-*s", widths[i]+columnGap, cell)
	}
	return b.String()
}

// summary prints the number of findings, the rules whose findings were not shown, and the next
// commands.
func (l *linting) summary() {
	found := "no findings"
	if n := l.shownCount(); n > 0 {
		found = count(n, "finding")
	}
	text := fmt.Sprintf("%s in %s", found, count(uint64(l.linter.Moves()), "migration"))
	if l.migration+l.since+l.until != "" || len(l.vshards) > 0 {
		text = fmt.Sprintf("%s after the filters, in a log of %s", found, count(uint64(l.linter.Moves()), "migration"))
	}
	if hidden := l.hidden(); hidden != "" {
		text += ". " + hidden
	}
	for _, line := range l.wrapped(text) {
		l.statusf("%s", line)
	}
	for _, f := range l.shown {
		if f.MigrationID != (checkpoint.MigrationID{}) && l.dir != "" {
			l.statusf("next: replay-tool show %s %s", quoted(l.dir), l.ids.of(f.MigrationID))
			break
		}
	}
	if len(l.shown) > 0 {
		l.statusf("next: replay-tool lint --explain %s", l.shown[0].Rule)
	}
}

// wrapped breaks a text into lines that fit the screen.
func (t *tool) wrapped(text string) []string {
	if t.width() == 0 {
		return []string{text}
	}
	return wrap(text, t.width())
}

// hidden returns a sentence about the findings that are not shown, or "".
func (l *linting) hidden() string {
	counts := l.linter.Counts()
	slices.SortStableFunc(counts, func(a, b lint.Count) int { return cmp.Compare(b.Found-b.Shown, a.Found-a.Shown) })
	var rules, severities []string
	least := lint.Error
	for _, c := range counts {
		if c.Found == c.Shown {
			continue
		}
		rules = append(rules, fmt.Sprintf("%s %d", c.Rule.ID, c.Found-c.Shown))
		severity := min(c.Rule.Severity, l.options.Severity-1) // that of an uncertain finding may be lower
		if least = min(least, severity); !slices.Contains(severities, severity.String()) {
			severities = append(severities, severity.String())
		}
	}
	if len(rules) == 0 {
		return ""
	}
	return fmt.Sprintf("Of severity %s, not shown: %s (--severity %s)", strings.Join(severities, " and "), strings.Join(rules, ", "), least)
}

// explainRule prints a rule.
func (l *linting) explainRule() error {
	rule, err := lint.FindRule(l.explain)
	if err != nil {
		return usageErrorf("--explain: %w. To list all, run 'replay-tool lint --help'", err)
	}
	return l.writeValue(struct {
		ID         string        `json:"id"`
		Severity   lint.Severity `json:"severity"`
		Definition string        `json:"definition"`
		Reason     string        `json:"reason"`
		Action     string        `json:"action"`
	}(rule), func() {
		fmt.Fprintf(l.stdout, "%s (%s)\n", rule.ID, rule.Severity)
		for _, part := range []struct{ title, text string }{{"Finding", rule.Definition}, {"Reason", rule.Reason}, {"Action", rule.Action}} {
			fmt.Fprintf(l.stdout, "\n%s\n", part.title)
			for _, line := range wrap(part.text, cmp.Or(l.width(), 80)-columnGap) {
				fmt.Fprintf(l.stdout, "  %s\n", line)
			}
		}
	})
}
