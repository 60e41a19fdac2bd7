package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
	"migrationlog/replay/lint"
)

func (t *tool) importCommand() *cobra.Command {
	m := &importer{tool: t, DiffersByKey: map[string]uint64{}, prediction: prediction{changed: map[checkpoint.MigrationID]predictedRow{}}, warnings: lineWarnings{now: time.Now}}
	c := &cobra.Command{
		Use:   "import DIR FILE|-",
		Short: "Append NDJSON events to a log. If the log does not exist, create it",
		Long: `Append NDJSON events, in the form that 'log -o ndjson' prints, to the log in DIR.
The events get new sequence numbers. Events that arrive together are made
durable together. If there is no log in DIR, import creates one when it has read
the first event that it can append. An input without such an event creates an
empty log at its end.

If a line is invalid or the store rejects it, import stops and prints the number
of the line. All events before that line are durable.

A line is a duplicate if the latest row of its migration has the same phase and
attempt. Import does not append it. If the payloads differ, import prints the
difference.

If the log already has an event that import would append, with the same content
and time, import stops with exit code 2. Without this rule, importing a file twice
would move rows back to earlier phases.

With --confirm, the log must exist, and import also appends duplicates, events
that are in the log already, and the abort or removal of a migration without a
row. It rejects a duplicate if its payload differs from the row's.

Use --confirm to clear a doubt. First ask the cluster for the true state of the
migration. If the row in the log is right, append it again, as in the example.
If it is wrong, import the true row, abort or removal.

With --check, import writes nothing, takes no lock and prints the result that the
import would have. The exit code is also the same, with two exceptions: --check
does not find that another writer has the log open, and of the problems that a
person must repair first, it finds only missing segments and manifests.`,
		Example: `  replay-tool log OLD -o ndjson | replay-tool import NEW -
  replay-tool import --check DIR FILE
  replay-tool state DIR MIGRATION -o ndjson | replay-tool import --confirm DIR -`,
		Args: argCount(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			m.dir = args[0]
			return m.run(c.Context(), args[1])
		},
	}
	c.Flags().BoolVar(&m.prediction.confirm, "confirm", false, "to clear a doubt, also append duplicates, events that are in the log already, and the abort or removal of a migration without a row")
	c.Flags().BoolVar(&m.Check, "check", false, "write nothing, and print the result that the import would have")
	return c
}

// importer is one run of the command import. Its exported fields are the JSON that it prints.
type importer struct {
	*tool      `json:"-"`
	dir, file  string
	isNew      bool         // there was no log
	linter     *lint.Linter // of a new log, whose history is that of the input; otherwise nil
	before     uint64       // the last event of a log that existed
	openFailed bool
	logger     *slog.Logger
	prediction prediction
	known      *eventHashes        // the events that the log had before; nil until the first append
	store      *migrationlog.Store // nil before the log is created, and with --check
	doneLines  uint64              // the lines up to this number are durable, or append nothing
	warnings   lineWarnings
	ignored    ignoredFacts

	Check      bool   `json:"check"`
	Lines      uint64 `json:"lines"`
	Appended   uint64 `json:"appended"`
	Duplicates uint64 `json:"duplicates"`
	Differs    uint64 `json:"differs"`  // duplicates with another payload
	InDoubt    uint64 `json:"in_doubt"` // duplicates of rows in doubt, which were not appended
	// DiffersByKey has how many of the duplicates with another payload differ in each key.
	DiffersByKey map[string]uint64 `json:"differs_by_key"`
	Absent       uint64            `json:"absent"` // aborts and removals without a row, which append nothing
	Damage       uint64            `json:"damage"` // damage lines, except torn tails and harmless findings
	// Digests counts the digest events, which are not imported: they are about the source log.
	Digests uint64 `json:"digests"`
	// HistoryErrors is the number of errors that lint finds in the history of a new log. In a log that
	// existed, it is the number of errors that the appended events complete. It is nil if lint did not
	// run.
	HistoryErrors *uint64 `json:"history_errors,omitempty"`

	// Skipped has the duplicates with another payload, and those of rows in doubt. Without JSON it
	// has only the first maxShownSkipped.
	Skipped      []skippedLine `json:"skipped"`
	skippedCount uint64
}

// maxShownSkipped is the number of skipped lines that are printed for people.
const maxShownSkipped = 10

func (m *importer) run(ctx context.Context, file string) error {
	m.file = file
	if m.dir == "" {
		return usageErrorf("the directory is an empty string: give the path of the log's directory")
	}
	in := m.stdin
	if file != "-" {
		f, err := openInput(ctx, file)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	logger, stopLogging := m.storeLogger()
	defer stopLogging()
	m.logger = logger
	if err := m.begin(ctx); err != nil {
		return err
	}
	p := m.progress("lines imported:")
	err := m.lines(ctx, in, p)
	p.end()
	if err == nil && m.store == nil && !m.Check {
		err = m.open() // the input has no event to append, and the log does not exist
	}
	if m.store != nil {
		// After a failed write, Close returns the same error again, which must not be printed twice.
		if closeErr := m.store.Close(); !errors.Is(err, migrationlog.ErrFailed) {
			err = errors.Join(err, closeErr)
		}
	}
	m.printSkipped()
	m.warnings.print(m.tool)
	m.ignored.print(m.tool)
	if err != nil {
		m.printStopped(err)
		return err
	}
	if err := m.lintAppended(ctx); err != nil {
		return err
	}
	if err := m.summary(); err != nil {
		return err
	}
	if m.Damage > 0 {
		m.statusf("the input has %s, apart from torn tails and harmless findings. Events that the source log has lost are missing in this log too. To see the migrations in doubt, run 'replay-tool verify' on the source log", count(m.Damage, "damage line"))
		return silentExit{exitDamage}
	}
	return nil
}

// begin opens the log. A log that does not exist is created later. With --check, begin reads the
// log without opening it for writing.
func (m *importer) begin(ctx context.Context) error {
	reader, err := replay.Open(m.dir)
	if err == nil && reader.Manifest().Replicated {
		return fmt.Errorf("%s: %w: only its consensus group appends events to it. Propose the events there, or import them into another log", m.dir, migrationlog.ErrReplicated)
	}
	info, statErr := os.Stat(m.dir)
	m.isNew = errors.Is(statErr, fs.ErrNotExist) || errors.Is(err, segment.ErrNotALog) && statErr == nil && info.IsDir()
	switch {
	case m.isNew && m.prediction.confirm && m.Check:
		return fmt.Errorf("%s: %w: with --confirm the log must exist", m.dir, err)
	case m.isNew && !m.prediction.confirm:
		m.linter, err = lint.New(lint.Options{File: true, Severity: lint.Error})
		return err
	case m.Check && err != nil:
		return err
	case m.Check:
		return m.readLog(ctx)
	}
	return m.open()
}

// open opens the log for writing, or creates it.
func (m *importer) open() error {
	m.warnOwner(m.dir)
	store, err := migrationlog.Open(m.dir, &migrationlog.Options{MustExist: m.prediction.confirm, Logger: m.logger})
	if err != nil {
		m.openFailed = true
		return err
	}
	if m.isNew && store.Stats().LastSeq > 0 { // the prediction of this import does not know these events
		m.openFailed = true
		return errors.Join(fmt.Errorf("%s: another process created the log after this import began: run the import again", m.dir), store.Close())
	}
	m.store, m.prediction.row, m.before = store, store.Row, store.Stats().LastSeq
	if m.isNew {
		m.statusf("created a new log in %s", quoted(m.dir))
	}
	report := store.Report()
	m.reportFindings(report)
	for _, file := range report.Quarantined {
		m.statusf("quarantined: the repair kept the original bytes in %s", quoted(filepath.Join(m.dir, file)))
	}
	return nil
}

// readLog reads the rows of the log for --check.
func (m *importer) readLog(ctx context.Context) error {
	names, err := segment.Names(os.DirFS(m.dir))
	if err == nil && len(names) == 0 || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w: %s/ has no segments", m.dir, migrationlog.ErrNeedsRepair, segment.WALDir)
	}
	fold, err := m.fold(ctx, m.dir, nil)
	if err != nil {
		return err
	}
	m.prediction.row = fold.View.Get
	m.reportFindings(fold.Report())
	return nil
}

// lines imports the input. If it returns an error, the next import must start with the line after
// doneLines. If the error is ErrFailed, lines after doneLines may also be in the log.
func (m *importer) lines(ctx context.Context, in io.Reader, p *progress) error {
	var number uint64
	var repeated *repetition
	for lines, err := range readLines(ctx, in) {
		var batch []numberedEvent
		for _, line := range lines {
			number++
			event, parseErr := m.read(number, line)
			if parseErr != nil {
				err = fmt.Errorf("line %d: %w", number, parseErr)
				number--
				break
			}
			if event != nil {
				batch = append(batch, numberedEvent{number, event})
			}
		}
		if errors.Is(err, bufio.ErrTooLong) {
			err = usageErrorf("line %d: it is longer than %d bytes, so it is not an event", number+1, maxLineBytes)
		}
		if repeated == nil {
			written, writeErr := m.write(ctx, batch)
			if writeErr != nil {
				m.doneLines = batch[written].line - 1
			}
			if writeErr != nil && !errors.As(writeErr, &repeated) {
				return writeErr
			}
			if batch = batch[written:]; repeated != nil {
				batch = batch[1:] // repeated has counted the first event
			}
		}
		if repeated != nil {
			// Nothing more is written. The rest of the input is read to find the line from which
			// the import can continue, unless it may never end.
			m.countKnown(batch, repeated)
			if err != nil || !isFinite(in) {
				return usageError{repeated}
			}
			continue
		}
		if m.doneLines = number; err != nil {
			return err
		}
		p.update(number)
	}
	if repeated != nil {
		repeated.toEnd = true
		return usageError{repeated}
	}
	return nil
}

// numberedEvent is the event of a line.
type numberedEvent struct {
	line  uint64
	event checkpoint.Event
}

// write appends a batch, or predicts the result with --check. If it returns an error, it also
// returns the index of the event that caused it. The events before that one are durable. If the log
// already has this event, the error is a *repetition.
func (m *importer) write(ctx context.Context, batch []numberedEvent) (int, error) {
	var events []checkpoint.Event
	var outcomes []outcome
	var stop error
	for _, e := range batch {
		o, body, err := m.prediction.next(e.line, e.event)
		if err == nil && !m.prediction.confirm { // an operator may have to append an event again
			err = m.checkNew(ctx, e, o, body)
		}
		if err != nil {
			stop = atLine(e.line, err)
			break
		}
		events, outcomes = append(events, e.event), append(outcomes, o)
	}
	appends := func(o outcome) bool { return o.effect == effectAppend }
	if m.store == nil && !m.Check && slices.ContainsFunc(outcomes, appends) {
		if err := m.open(); err != nil {
			return 0, err
		}
	}
	receipts, err := m.writeAll(events, outcomes)
	m.count(batch, outcomes, receipts)
	if err != nil {
		return len(receipts), atLine(batch[len(receipts)].line, err)
	}
	return len(receipts), stop
}

func atLine(line uint64, err error) error { return fmt.Errorf("line %d: %w", line, err) }

// writeAll writes the events if the store is open, and returns their receipts. Otherwise it returns
// the receipts that the store would return.
func (m *importer) writeAll(events []checkpoint.Event, outcomes []outcome) ([]migrationlog.Receipt, error) {
	if m.store == nil {
		receipts := make([]migrationlog.Receipt, len(events))
		for i, e := range events {
			receipts[i] = outcomes[i].receipt(e)
		}
		return receipts, nil
	}
	var opts []migrationlog.WriteOption
	if m.prediction.confirm {
		opts = []migrationlog.WriteOption{migrationlog.Confirm()} // the prediction has refused other payloads
	}
	m.prediction.reset() // WriteAll gives the store their rows
	return m.store.WriteAll(events, opts...)
}

// checkNew returns a *repetition if the event is to be appended and the log had it before the
// import.
func (m *importer) checkNew(ctx context.Context, e numberedEvent, o outcome, body []byte) (err error) {
	if m.known == nil {
		dir := m.dir
		if m.isNew {
			dir = ""
		}
		if m.known, err = readEventHashes(ctx, dir); err != nil {
			return err
		}
	}
	if isInLog := m.known.take(body); !isInLog || o.effect != effectAppend {
		return nil
	}
	r := newRepetition(e.line)
	r.add(e.line, e.event, true)
	return r
}

// countKnown counts the events of a batch that the log had before the import.
func (m *importer) countKnown(batch []numberedEvent, r *repetition) {
	for _, e := range batch {
		body, err := checkpoint.EncodeEvent(e.event)
		r.add(e.line, e.event, err == nil && m.known.take(body))
	}
}

// read returns the event of a line. It returns nil if the line is empty or reports damage.
func (m *importer) read(number uint64, line []byte) (checkpoint.Event, error) {
	line = bytes.TrimPrefix(line, []byte(byteOrderMark))
	if len(bytes.TrimSpace(line)) == 0 {
		return nil, nil
	}
	m.Lines++
	r, err := readRecord(line)
	if err != nil {
		return nil, err
	}
	m.warnings.addRead(number, r)
	if u, ok := r.Event.(checkpoint.Upserted); ok && m.prediction.confirm {
		row, _ := m.prediction.row(u.Checkpoint.MigrationID)
		m.ignored.add(number, line, u.Checkpoint, row)
	}
	if r.Damage != nil {
		if damagesInput(r.Damage) {
			m.Damage++
		}
		m.lint(number, r)
		return nil, nil
	}
	if r.Kind() == replay.KindDigest {
		m.Digests++
		return nil, nil
	}
	if r.Unknown != nil {
		return nil, usageErrorf("the event has kind %d, which a newer version wrote: import it with that version", r.Unknown.Kind)
	}
	return r.Event, nil
}

// damagesInput reports whether a damage line loses or endangers events. A torn write loses no event.
func damagesInput(d *replay.Damage) bool { return !d.Torn && d.Severity != segment.Harmless }

// readRecord reads a line of NDJSON. It returns a usageError if the line is no record.
func readRecord(line []byte) (r replay.Record, err error) {
	err = r.UnmarshalJSON(line)
	if start := bytes.TrimSpace(line); err != nil && (start[0] == '[' || string(start) == "{") {
		return r, usageErrorf("the line begins a JSON array, or an object of several lines: each line must be one JSON object. "+
			"Print the events with 'log -o ndjson'. If you have only this file, convert it with 'jq -c %s'", jqFilter(start[0]))
	} else if syntax := new(json.SyntaxError); errors.As(err, &syntax) {
		return r, usageErrorf("%w near byte %d: each line must be one JSON object, as 'log -o ndjson' prints it", err, syntax.Offset)
	} else if errors.Is(err, io.ErrUnexpectedEOF) {
		return r, usageErrorf("the line is cut short after %s: each line must be one JSON object, as 'log -o ndjson' prints it", count(len(line), "byte"))
	} else if err != nil {
		return r, usageError{err}
	}
	return r, nil
}

// jqFilter returns the arguments with which jq prints the events of a file, one on each line. The
// file begins with this byte.
func jqFilter(first byte) string {
	if first == '[' {
		return ".[] FILE"
	}
	return ". FILE"
}

// count adds the receipts of a batch to the counts.
func (m *importer) count(batch []numberedEvent, outcomes []outcome, receipts []migrationlog.Receipt) {
	for i, receipt := range receipts {
		switch {
		case receipt.Duplicate:
			m.Duplicates++
			if receipt.Differs {
				m.Differs++
			}
			m.countSkipped(batch[i], outcomes[i], receipt)
		case receipt.Seq == 0:
			m.Absent++
		default:
			m.Appended++
			m.warnings.addAppended(batch[i].line, batch[i].event)
			m.lint(batch[i].line, replay.Record{Event: batch[i].event})
		}
	}
}

// lint checks the next record of the history of a new log.
func (m *importer) lint(line uint64, r replay.Record) {
	if m.linter == nil {
		return
	}
	numberByLine(&r, line)
	m.linter.Add(r)
}

// lintAppended counts the errors in a log that existed before the import. It reads the log, unless that
// is large.
func (m *importer) lintAppended(ctx context.Context) error {
	hasMany, err := hasManySegments(m.dir)
	if err != nil || hasMany || m.isNew || m.Check || m.Appended == 0 {
		return err
	}
	reader, err := replay.Open(m.dir)
	if err != nil {
		return err
	}
	linter, err := lint.New(lint.Options{Severity: lint.Error})
	if err != nil {
		return err
	}
	found, err := m.findings(ctx, reader, linter, replay.Query{}, func(f lint.Finding) bool {
		return len(f.Seqs) > 0 && f.Seqs[len(f.Seqs)-1] > m.before // they are ascending
	})
	m.HistoryErrors = new(uint64(len(found)))
	return err
}

// countSkipped records a duplicate if it must be reported.
func (m *importer) countSkipped(e numberedEvent, o outcome, receipt migrationlog.Receipt) {
	if m.store != nil {
		o.row.Seq, o.line = receipt.Seq, 0
	}
	c, _ := checkpointOf(e.event)
	s, report := skipped(e.line, o, c)
	if !report {
		return
	}
	if s.InDoubt {
		m.InDoubt++
	}
	for _, d := range s.Differences {
		m.DiffersByKey[d.Key]++
	}
	m.skippedCount++
	if m.output != outputTable || len(m.Skipped) < maxShownSkipped {
		m.Skipped = append(m.Skipped, s)
	}
}

// printSkipped prints the first of the skipped lines.
func (m *importer) printSkipped() {
	for _, s := range m.Skipped[:min(len(m.Skipped), maxShownSkipped)] {
		m.statusf("%s", s)
	}
	if more := m.skippedCount - min(m.skippedCount, maxShownSkipped); more > 0 {
		m.statusf("and %s. To list all of them, use -o json", count(more, "more such duplicate"))
	}
}

// printStopped prints how much of the input is in the log, and how to continue.
func (m *importer) printStopped(err error) {
	switch {
	case m.Check:
		m.statusf("check stopped: an import would append %s and then stop. Nothing was written", count(m.Appended, "event"))
	case errors.Is(err, migrationlog.ErrFailed):
		m.statusf("import stopped: a write failed. Before that, import made %s durable. Up to %d lines from line %d on may also be in the log. To see which of them is the last one in the log, run 'replay-tool log %s -n %d'. Then import the lines after that one",
			count(m.Appended, "event"), maxBatchLines, m.doneLines+1, quoted(m.dir), maxBatchLines)
	case m.store == nil && m.openFailed:
		m.statusf("import stopped: 0 events appended")
	case m.store == nil:
		m.statusf("import stopped: 0 events appended, and no log was created in %s", quoted(m.dir))
	case errors.As(err, new(*repetition)): // the error has the line
		m.statusf("import stopped: %s appended and durable", count(m.Appended, "event"))
	case exitCode(err) == exitUsage:
		m.statusf("import stopped: %s appended and durable. To resume, correct line %d, and import the input from that line on", count(m.Appended, "event"), m.doneLines+1)
	default:
		m.statusf("import stopped: %s appended and durable. To resume, import the input from line %d on", count(m.Appended, "event"), m.doneLines+1)
	}
}

// summary prints the counts.
func (m *importer) summary() error {
	m.Skipped = append([]skippedLine{}, m.Skipped...) // [] in JSON, not null
	if m.linter != nil {
		m.HistoryErrors = new(shownFindings(m.linter))
	}
	return m.writeValue(m, m.summaryText)
}

func (m *importer) summaryText() {
	appended := "appended"
	if m.Check {
		appended = "would be appended"
	}
	absent := fmt.Sprintf("%d aborts or removals of migrations without a row", m.Absent)
	if m.Absent == 1 {
		absent = "1 abort or removal of a migration without a row"
	}
	differs := strconv.FormatUint(m.Differs, 10) + " with another payload"
	for i, key := range slices.Sorted(maps.Keys(m.DiffersByKey)) {
		differs += fmt.Sprintf("%s %s %d", []string{":", ","}[min(i, 1)], key, m.DiffersByKey[key])
	}
	fmt.Fprintf(m.stdout, "%s: %s %s, skipped: %s (%s), %s\n",
		count(m.Lines, "line"), count(m.Appended, "event"), appended, count(m.Duplicates, "duplicate"), differs, absent)
	if m.Digests > 0 {
		m.statusf("%s not imported, because a digest describes only the log that has it", count(m.Digests, "digest event"))
	}
	if m.HistoryErrors != nil && *m.HistoryErrors > 0 {
		command := "lint " + quoted(m.dir)
		if m.Check && m.file != "-" {
			command = "lint --ndjson " + quoted(m.file)
		}
		m.statusf("the history breaks the rules: %s. To list them, run 'replay-tool %s'", count(*m.HistoryErrors, "error"), command)
	}
	if m.HistoryErrors == nil && m.Appended > 0 && !m.Check {
		m.statusf("the rules were not checked. To check them, run: replay-tool lint %s", quoted(m.dir))
	}
	switch {
	case m.Check && m.isNew:
		m.statusf("nothing was written. There is no log in %s, so import would create one. To import the events, leave out --check", quoted(m.dir))
	case m.Check:
		m.statusf("nothing was written. To import the events, leave out --check")
	default:
		m.statusf("next: replay-tool info %s", quoted(m.dir))
	}
}
