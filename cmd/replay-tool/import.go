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
	"migrationlog/replay"
)

func (t *tool) importCommand() *cobra.Command {
	var confirm bool
	c := &cobra.Command{
		Use:   "import DIR FILE|-",
		Short: "Append NDJSON events to a log, through the store",
		Long: `Append NDJSON events, as 'log -o ndjson' prints them, to the log in DIR, which is
made if it is not there. Lines take new numbers, and those that come together are
made durable together. A line that cannot be read ends the import with its number;
what came before it is durable. A line is a duplicate
if the latest row has its phase and attempt, no more: importing a file twice
writes again what was overwritten since, and moves rows back until it is through.

With --confirm the log must be there already, and a line may repeat a row, but for
its phase and attempt have no other payload. Where the cluster has been asked, and
what the log shows of a migration in doubt is true, this ends the doubt:

  replay-tool state DIR MIGRATION -o ndjson | replay-tool import --confirm DIR -`,
		Args: argCount(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			return t.runImport(c.Context(), args[0], args[1], confirm)
		},
	}
	c.Flags().BoolVar(&confirm, "confirm", false, "write lines that change nothing, too: they say that what the log shows is true, and end a doubt")
	return c
}

// maxLineBytes bounds a line. The largest event is 64 KiB of CBOR, of which JSON
// may need six characters a byte.
const maxLineBytes = 1 << 20

// importer counts what became of the lines.
type importer struct {
	store     *migrationlog.Store
	opts      []migrationlog.WriteOption
	doneLines uint64 // all lines up to this one are done with

	Lines      uint64 `json:"lines"`
	Appended   uint64 `json:"appended"`
	Duplicates uint64 `json:"duplicates"`
	Differs    uint64 `json:"differs"` // duplicates with another payload
	Absent     uint64 `json:"absent"`  // aborts and removals of migrations without a row
	Damage     uint64 `json:"damage"`  // lines that stand for damage
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
	_, readErr := replay.Open(dir)
	store, err := migrationlog.Open(dir, &migrationlog.Options{MustExist: confirm})
	if err != nil {
		return err
	}
	if readErr != nil {
		t.statusf("began a new log in %s", dir)
	}
	report := store.Report()
	t.reportFindings(report)
	for _, file := range report.Quarantined {
		t.statusf("set aside in %s", filepath.Join(dir, file))
	}
	m := &importer{store: store}
	if confirm {
		m.opts = append(m.opts, migrationlog.Confirm(), migrationlog.Strict())
	}
	p := t.progress("lines imported:")
	err = m.lines(ctx, in, p)
	p.end()
	if closeErr := store.Close(); !errors.Is(err, migrationlog.ErrFailed) { // else it is the same
		err = errors.Join(err, closeErr)
	}
	if errors.Is(err, migrationlog.ErrFailed) {
		t.statusf("%s before that: in the log and durable; of the lines from %d on, up to %d are in it perhaps: see 'replay-tool log %s -n %d' before you go on",
			count(m.Appended, "event"), m.doneLines+1, maxBatchLines, quoted(dir), maxBatchLines)
		return err
	}
	if err != nil {
		t.statusf("%s before that: in the log and durable; go on with line %d", count(m.Appended, "event"), m.doneLines+1)
		return err
	}
	if err := t.importSummary(m, dir); err != nil {
		return err
	}
	if m.Damage > 0 {
		t.statusf("%s for damage in the log that they come from: what was lost there is not here either", count(m.Damage, "line"))
		return silentExit{exitDamage}
	}
	return nil
}

// openInput opens a file to be read. Of a named pipe that waits for a writer, for ever
// perhaps; until ctx ends.
func openInput(ctx context.Context, file string) (*os.File, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, usageErrorf("%s: a directory; give a file of NDJSON", file)
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
	_, err := fmt.Fprintf(t.stdout, "%s: %s appended, %s (%d with another payload), %d aborts or removals of nothing\n",
		count(m.Lines, "line"), count(m.Appended, "event"), count(m.Duplicates, "duplicate"), m.Differs, m.Absent)
	t.statusf("next: replay-tool info %s", quoted(dir))
	return err
}

func (m *importer) lines(ctx context.Context, in io.Reader, p *progress) error {
	var number uint64
	for lines, err := range readLines(ctx, in) {
		var events []checkpoint.Event
		var numbers []uint64 // of their lines
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
			err = usageErrorf("line %d: longer than %d bytes", number+1, maxLineBytes)
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

// At most so many lines are written together. So many more wait meanwhile.
const (
	maxBatchLines = 1000
	maxBatchBytes = 1 << 20
	bufferedLines = 128
)

// readLines yields the lines of in, those together that have come meanwhile, and ends with
// an error of reading, beside the lines before it, or with ctx's: also when a read is
// waiting, as one of standard input may for ever.
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
			scanner.Buffer(nil, maxLineBytes+2) // with its end
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

// read returns the event of a line, nil for none.
func (m *importer) read(line []byte) (checkpoint.Event, error) {
	if len(bytes.TrimSpace(line)) == 0 {
		return nil, nil
	}
	m.Lines++
	var r replay.Record
	if err := json.Unmarshal(line, &r); errors.As(err, new(*json.SyntaxError)) {
		return nil, usageErrorf("%w: a line is one JSON object, as 'log -o ndjson' prints them", err)
	} else if err != nil {
		return nil, usageError{err}
	}
	if r.Damage != nil {
		if !r.Damage.Torn { // a torn write never was an event
			m.Damage++
		}
		return nil, nil
	}
	if r.Unknown != nil {
		return nil, usageErrorf("an event of kind %d, which a newer version wrote: import it with that version", r.Unknown.Kind)
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
