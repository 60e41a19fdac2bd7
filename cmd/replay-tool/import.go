package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

func (t *tool) importCommand() *cobra.Command {
	var confirm bool
	c := &cobra.Command{
		Use:   "import DIR FILE|-",
		Short: "Append NDJSON events to a log. If the log does not exist, create it",
		Long: `Append NDJSON events, in the form that 'log -o ndjson' prints, to the log in DIR.
If DIR does not exist, import creates it with a new log. The events get new
sequence numbers. Events that arrive together are made durable together.

If a line is invalid or the store rejects it, import stops and prints the number
of the line. All events before that line are durable.

A line is a duplicate if the latest row of its migration has the same phase and
attempt. Import does not append it, even if its payload differs. The summary
counts these lines. If you import a file twice, the second import appends most
lines again, because a line is compared only with the latest row of its migration.
Until the second import ends, rows may show older phases than before.

With --confirm, the log must exist, and import also appends duplicates. It
rejects a duplicate if its payload differs from the row's. Use --confirm to clear
a doubt. First ask the cluster for the true state of the
migration. If the row in the log is right, append it again, as in the example. If
it is wrong, import the right row, abort or removal.`,
		Example: `  replay-tool log OLD -o ndjson | replay-tool import NEW -
  replay-tool state DIR MIGRATION -o ndjson | replay-tool import --confirm DIR -`,
		Args: argCount(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			return t.runImport(c.Context(), args[0], args[1], confirm)
		},
	}
	c.Flags().BoolVar(&confirm, "confirm", false, "to clear a doubt, also append what is otherwise skipped: duplicates, and the abort or removal of a migration without a row")
	return c
}

// maxLineBytes limits the length of a line. The largest event has 64 KiB of CBOR, and JSON may need
// six characters per byte.
const maxLineBytes = 1 << 20

// importer appends lines to a store and counts the results.
type importer struct {
	store     *migrationlog.Store
	opts      []migrationlog.WriteOption
	doneLines uint64 // the lines up to this number are durable or need no event

	Lines      uint64 `json:"lines"`
	Appended   uint64 `json:"appended"`
	Duplicates uint64 `json:"duplicates"`
	Differs    uint64 `json:"differs"` // duplicates with another payload
	Absent     uint64 `json:"absent"`  // aborts and removals of migrations without a row, which append nothing
	Damage     uint64 `json:"damage"`  // damage lines: damaged places of the source log, except torn tails and harmless findings
}

func (t *tool) runImport(ctx context.Context, dir, file string, confirm bool) error {
	in := t.stdin
	if file != "-" {
		f, err := openInput(ctx, file)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	t.warnOwner(dir)
	_, readErr := replay.Open(dir)
	store, err := migrationlog.Open(dir, &migrationlog.Options{MustExist: confirm})
	if err != nil {
		return err
	}
	if readErr != nil {
		t.statusf("created a new log in %s", quoted(dir))
	}
	report := store.Report()
	t.reportFindings(report)
	for _, file := range report.Quarantined {
		t.statusf("quarantined: the repair kept the original bytes in %s", quoted(filepath.Join(dir, file)))
	}
	m := &importer{store: store}
	if confirm {
		m.opts = append(m.opts, migrationlog.Confirm(), migrationlog.Strict())
	}
	p := t.progress("lines imported:")
	err = m.lines(ctx, in, p)
	p.end()
	// After a failed write, Close returns the same error again, which must not be printed twice.
	if closeErr := store.Close(); !errors.Is(err, migrationlog.ErrFailed) {
		err = errors.Join(err, closeErr)
	}
	if errors.Is(err, migrationlog.ErrFailed) {
		t.statusf("import stopped: a write failed. Before that, import made %s durable. Up to %d lines from line %d on may also be in the log. To see which of them is the last one in the log, run 'replay-tool log %s -n %d'. Then import the lines after that one",
			count(m.Appended, "event"), maxBatchLines, m.doneLines+1, quoted(dir), maxBatchLines)
		return err
	}
	if err != nil {
		t.statusf("import stopped: %s appended and durable. To resume, import the input from line %d on", count(m.Appended, "event"), m.doneLines+1)
		return err
	}
	if err := t.importSummary(m, dir); err != nil {
		return err
	}
	if m.Damage > 0 {
		t.statusf("the input has %s. Events that the source log has lost are missing in this log too. To see the migrations in doubt, run 'replay-tool verify' on the source log", count(m.Damage, "damage line"))
		return silentExit{exitDamage}
	}
	return nil
}

// openInput opens a file for reading. Opening a named pipe blocks until it has a writer, so
// openInput returns early if ctx is canceled.
func openInput(ctx context.Context, file string) (*os.File, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, usageErrorf("%s is a directory: give a file of NDJSON lines", quoted(file))
	}
	type result struct {
		file *os.File
		err  error
	}
	opened := make(chan result, 1)
	go func() {
		f, err := os.Open(file)
		opened <- result{f, err}
	}()
	select {
	case r := <-opened:
		return r.file, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (t *tool) importSummary(m *importer, dir string) error {
	switch t.output {
	case outputJSON:
		return t.writeJSON(m)
	case outputNDJSON:
		return writeLine(t.stdout, m)
	}
	_, err := fmt.Fprintf(t.stdout, "%s: %s appended, skipped: %s (%d with another payload), %d aborts or removals of migrations without a row\n",
		count(m.Lines, "line"), count(m.Appended, "event"), count(m.Duplicates, "duplicate"), m.Differs, m.Absent)
	t.statusf("next: replay-tool info %s", quoted(dir))
	return err
}

// lines imports all lines of in. If it returns an error, the next import must start with the line
// after doneLines.
func (m *importer) lines(ctx context.Context, in io.Reader, p *progress) error {
	var number uint64
	for lines, err := range readLines(ctx, in) {
		var events []checkpoint.Event
		var numbers []uint64 // per event, the number of its line
		for _, line := range lines {
			number++
			event, parseErr := m.read(line)
			if parseErr != nil {
				err = fmt.Errorf("line %d: %w", number, parseErr)
				number--
				break
			}
			if event != nil {
				events, numbers = append(events, event), append(numbers, number)
			}
		}
		if errors.Is(err, bufio.ErrTooLong) {
			err = usageErrorf("line %d: it is longer than %d bytes, so it is not an event", number+1, maxLineBytes)
		}
		receipts, writeErr := m.store.WriteAll(events, m.opts...)
		m.count(receipts)
		if writeErr != nil {
			m.doneLines = numbers[len(receipts)] - 1
			return fmt.Errorf("line %d: %w", m.doneLines+1, writeErr)
		}
		if m.doneLines = number; err != nil {
			return err
		}
		p.update(number)
	}
	return nil
}

const (
	// A batch of lines, written with one call of WriteAll, ends at the first of these limits.
	maxBatchLines = 1000
	maxBatchBytes = 1 << 20
	// bufferedLines is the number of lines that are read ahead while a batch is written.
	bufferedLines = 128
)

// readLines yields the lines of in, in batches. A batch ends at a limit, or if the next line is not
// available yet. If reading fails, readLines yields the lines before the failure with the error. If
// ctx is canceled, it yields ctx's error at once, even if a read of in is blocked.
func readLines(ctx context.Context, in io.Reader) iter.Seq2[[][]byte, error] {
	type result struct {
		line []byte
		err  error
	}
	return func(yield func([][]byte, error) bool) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		results := make(chan result, bufferedLines)
		go func() {
			defer close(results)
			scanner := bufio.NewScanner(in)
			scanner.Buffer(nil, maxLineBytes+2) // the line and its line break
			for more := true; more; {
				more = scanner.Scan()
				r := result{bytes.Clone(scanner.Bytes()), scanner.Err()}
				if !more && r.err == nil {
					return
				}
				select {
				case results <- r:
				case <-ctx.Done():
					return
				}
			}
		}()
		for {
			var lines [][]byte
			var r result
			sizeBytes := 0
			more := true
			select {
			case <-ctx.Done():
				yield(nil, ctx.Err())
				return
			case r, more = <-results:
			}
			for more && r.err == nil {
				lines = append(lines, r.line)
				if sizeBytes += len(r.line); len(lines) == maxBatchLines || sizeBytes >= maxBatchBytes || len(results) == 0 {
					break
				}
				r, more = <-results
			}
			if len(lines) == 0 && r.err == nil || !yield(lines, r.err) || r.err != nil {
				return
			}
		}
	}
}

// read returns the event of a line. It returns nil if the line is empty or reports damage.
func (m *importer) read(line []byte) (checkpoint.Event, error) {
	if len(bytes.TrimSpace(line)) == 0 {
		return nil, nil
	}
	m.Lines++
	var r replay.Record
	if err := json.Unmarshal(line, &r); errors.As(err, new(*json.SyntaxError)) {
		return nil, usageErrorf("%w: each line must be one JSON object, as 'log -o ndjson' prints it", err)
	} else if err != nil {
		return nil, usageError{err}
	}
	if r.Damage != nil {
		if !r.Damage.Torn && r.Damage.Severity != segment.Harmless { // a torn write loses no event
			m.Damage++
		}
		return nil, nil
	}
	if r.Unknown != nil {
		return nil, usageErrorf("the event has kind %d, which a newer version wrote: import it with that version", r.Unknown.Kind)
	}
	return r.Event, nil
}

func (m *importer) count(receipts []migrationlog.Receipt) {
	for _, receipt := range receipts {
		switch {
		case receipt.Duplicate:
			m.Duplicates++
			if receipt.Differs {
				m.Differs++
			}
		case receipt.Seq == 0:
			m.Absent++
		default:
			m.Appended++
		}
	}
}
