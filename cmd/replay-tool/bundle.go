package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/redact"
)

func (t *tool) bundle() *cobra.Command {
	b := &bundler{tool: t}
	c := &cobra.Command{
		Use:   "bundle DIR --out NEW",
		Short: "Copy a part of the history into a small log that can be sent to others",
		Long: `Copy a part of the history into a small log that can be sent to others.

The filters select migrations. Every event of a selected migration is copied, also
the events that a filter would leave out. No move begins in the middle. NEW is
a new directory. It gets these files:

  log/           a log with the copied events, under new sequence numbers
  report.json    the selection, the old sequence numbers, and the damage of DIR
  timeline.html  a picture of the moves, for a browser
  README         how to read them

With --redact, nodes, groups and vShards become their ranks (1, 2, ...), reasons
become reason-1, reason-2, ..., all times move by one constant, and the ids change
with them. Equality and order stay, so lint, stats and show find the same.

The exit code is that of 'replay-tool verify DIR', or 6 if nothing matched.`,
		Example: `  replay-tool bundle log --vshard 11 --redact --out for-support
  replay-tool bundle log --migration 781d20 --out one-move
  replay-tool bundle log --all --out copy`,
		Args: argCount(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			b.dir = args[0]
			return b.run(c.Context())
		},
	}
	b.filters.register(c)
	c.Flags().StringVar(&b.out, "out", "", "new `directory` for the bundle")
	c.Flags().BoolVar(&b.redact, "redact", false, "replace the values that identify the cluster")
	c.Flags().BoolVar(&b.all, "all", false, "copy the whole history, if no filter is given")
	return c
}

// bundler is one run of the command bundle.
type bundler struct {
	*tool
	filters     filters
	dir, out    string
	redact, all bool

	uuid     string // of the log in DIR
	toSeq    uint64 // last event of the log when it was read first; a writer may append more
	ids      map[checkpoint.MigrationID]bool
	redactor *redact.Redactor // nil without --redact
	bytes    uint64           // of the selected frames
	report   replay.Report    // of DIR
	result   bundleReport
}

// bundleReport is the file report.json, and the output of `bundle -o json`.
type bundleReport struct {
	Version    int    `json:"version"`
	Redacted   bool   `json:"redacted"`
	LogUUID    string `json:"log_uuid,omitempty"` // missing if redacted
	Migrations int    `json:"migrations"`
	Events     uint64 `json:"events"`
	// LeftOut counts the events of selected migrations that cannot be copied, because a newer
	// version wrote them.
	LeftOut uint64 `json:"left_out_unknown_kinds"`
	// Seqs maps the events of the bundle to those of DIR. Each entry has the seq in the bundle, the
	// seq in DIR, and the number of events that follow each other in both.
	Seqs    [][3]uint64              `json:"seqs"`
	Lost    []replay.SeqRange        `json:"lost"`     // in DIR
	InDoubt []checkpoint.MigrationID `json:"in_doubt"` // of the copied migrations
	Damage  []replay.Damage          `json:"damage"`   // of DIR
	Next    []string                 `json:"next"`
}

func (b *bundler) run(ctx context.Context) error {
	if b.out == "" {
		return usageErrorf("no --out: give a new directory for the bundle")
	}
	if _, err := os.Lstat(b.out); err == nil {
		return usageErrorf("%s exists: give a new directory for the bundle", quoted(b.out))
	}
	if err := checkOutside(b.dir, b.out); err != nil {
		return err
	}
	if err := b.selectMigrations(ctx); err != nil {
		return err
	}
	if err := b.learn(ctx); err != nil {
		return err
	}
	b.statusf("%s of %s, %d KB", count(b.result.Events, "event"), count(len(b.ids), "migration"), (b.bytes+1023)>>10)
	if err := b.write(ctx); err != nil {
		return err
	}
	err := b.writeValue(b.result, func() { b.text() })
	if err != nil {
		return err
	}
	if text := b.lossText(); text != "" {
		b.warnf("%s", text)
	}
	b.reportFindings(b.report)
	return reportExit(b.report)
}

// selectMigrations reads the log once, and finds the migrations that the filters select.
func (b *bundler) selectMigrations(ctx context.Context) error {
	reader, err := replay.Open(b.dir)
	if err != nil {
		return err
	}
	b.uuid = reader.Manifest().UUID.String()
	query, err := b.filters.query(ctx, b.times(ctx, reader))
	if err != nil {
		return err
	}
	if b.filters.anySet() == b.all {
		return usageErrorf("select migrations with --migration, --vshard, --node, --since or another filter, or the whole history with --all")
	}
	matcher := replay.NewMatcher(query)
	b.ids = map[checkpoint.MigrationID]bool{}
	fold, err := b.fold(ctx, b.dir, func(_ *replay.Fold, r replay.Record) error {
		b.toSeq = max(b.toSeq, r.Seq)
		if id, ok := r.Migration(); matcher.Match(r) && ok {
			b.ids[id] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.report = fold.Report()
	if len(b.ids) > 0 {
		return nil
	}
	if b.report.LostCount() > 0 {
		return fmt.Errorf("%w: the filters select no event", errMatchMayBeLost)
	}
	return fmt.Errorf("%w: the filters select no event", errNoMatch)
}

// selected calls visit for each event of the selected migrations.
func (b *bundler) selected(ctx context.Context, visit func(replay.Record) error) error {
	reader, err := replay.Open(b.dir)
	if err != nil {
		return err
	}
	for r, err := range reader.Records(ctx, replay.Query{ToSeq: b.toSeq}) {
		if err != nil {
			return err
		}
		if id, ok := r.Migration(); !ok || !b.ids[id] {
			continue
		}
		if err := visit(r); err != nil {
			return err
		}
	}
	return nil
}

// learn reads the selected events, counts them, and collects the values that will be replaced.
func (b *bundler) learn(ctx context.Context) error {
	b.result = bundleReport{Version: 1, Redacted: b.redact, Migrations: len(b.ids), Seqs: [][3]uint64{}}
	if b.redact {
		b.redactor = redact.New()
	}
	err := b.selected(ctx, func(r replay.Record) error {
		if r.Event == nil {
			b.result.LeftOut++
			return nil
		}
		b.result.Events++
		b.bytes += uint64(r.Length)
		b.addSeq(r.Seq)
		if b.redact {
			b.redactor.Learn(r.Event)
		}
		return nil
	})
	if b.redact {
		b.redactor.Number()
	}
	return err
}

// addSeq adds the seq of the next event of the bundle.
func (b *bundler) addSeq(seq uint64) {
	n := len(b.result.Seqs)
	if n > 0 && b.result.Seqs[n-1][1]+b.result.Seqs[n-1][2] == seq {
		b.result.Seqs[n-1][2]++
		return
	}
	b.result.Seqs = append(b.result.Seqs, [3]uint64{b.result.Events, seq, 1})
}

// write writes the bundle into a temporary directory, and renames it when it is complete.
func (b *bundler) write(ctx context.Context) (err error) {
	parent := filepath.Dir(filepath.Clean(b.out))
	temporary, err := os.MkdirTemp(parent, "."+filepath.Base(b.out)+"-*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temporary))
		}
	}()
	if err := os.Chmod(temporary, 0o755); err != nil {
		return err
	}
	log := filepath.Join(temporary, "log")
	if err := b.writeLog(ctx, log); err != nil {
		return err
	}
	b.complete()
	text, err := json.MarshalIndent(b.result, "", "  ")
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{"report.json": append(text, '\n'), "README": []byte(b.readme())} {
		if err := os.WriteFile(filepath.Join(temporary, name), content, 0o644); err != nil {
			return err
		}
	}
	if err := b.writeTimeline(ctx, log, filepath.Join(temporary, "timeline.html")); err != nil {
		return err
	}
	if err := os.Rename(temporary, b.out); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return usageErrorf("%s exists: give a new directory for the bundle", quoted(b.out))
		}
		return err
	}
	return nil
}

// writeLog writes the selected events into a new log. Confirm keeps the events that repeat a row.
func (b *bundler) writeLog(ctx context.Context, dir string) (err error) {
	logger, stopLogging := b.storeLogger()
	defer stopLogging()
	store, err := migrationlog.Open(dir, &migrationlog.Options{Logger: logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	p := b.progress("events copied:")
	defer p.end()
	var batch []checkpoint.Event
	var copied uint64
	flush := func() error {
		_, err := store.WriteAll(batch, migrationlog.Confirm())
		copied += uint64(len(batch))
		batch = batch[:0]
		p.update(copied)
		return err
	}
	err = b.selected(ctx, func(r replay.Record) error {
		e := r.Event
		if e == nil {
			return nil
		}
		if b.redact {
			var err error
			if e, err = b.redactor.Event(e); err != nil {
				return err
			}
		}
		if batch = append(batch, e); len(batch) < bundleBatch {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// bundleBatch is the number of events that are written together.
const bundleBatch = 1000

// complete fills the part of the report that describes DIR.
func (b *bundler) complete() {
	r := &b.result
	r.Lost = append([]replay.SeqRange{}, b.report.Lost...)
	r.Damage = append([]replay.Damage{}, b.report.Damage...)
	r.InDoubt = []checkpoint.MigrationID{}
	for _, id := range b.report.InDoubt {
		if b.ids[id] {
			r.InDoubt = append(r.InDoubt, b.renamed(id))
		}
	}
	r.Next = []string{"replay-tool triage log", "replay-tool lint log"}
	if b.redact {
		for i := range r.Damage {
			d := &r.Damage[i]
			d.AfterMS, d.BeforeMS = b.redactor.MS(d.AfterMS), b.redactor.MS(d.BeforeMS)
			d.Reason = "left out" // it may quote bytes of the log
		}
		return
	}
	r.LogUUID = b.uuid
}

// renamed returns the id of a migration in the bundle.
func (b *bundler) renamed(id checkpoint.MigrationID) checkpoint.MigrationID {
	if b.redact {
		id, _ = b.redactor.ID(id)
	}
	return id
}

// text prints the result for people.
func (b *bundler) text() {
	r := b.result
	fmt.Fprintf(b.stdout, "%s of %s copied to %s", count(r.Events, "event"), count(r.Migrations, "migration"), quoted(b.out))
	if r.Redacted {
		fmt.Fprint(b.stdout, ", redacted")
	}
	fmt.Fprintln(b.stdout)
	if r.LeftOut > 0 {
		fmt.Fprintf(b.stdout, "not copied: %s of a kind from a newer version\n", count(r.LeftOut, "event"))
	}
	log := quoted(filepath.Join(b.out, "log"))
	fmt.Fprintf(b.stdout, "next  replay-tool triage %s\n", log)
	fmt.Fprintf(b.stdout, "      tar czf %s %s\n", quoted(filepath.Base(b.out)+".tgz"), quoted(b.out))
}

// writeTimeline draws the page from the log of the bundle, so that both have the same values.
func (b *bundler) writeTimeline(ctx context.Context, log, file string) error {
	page := &timelineCommand{tool: b.tool, shownDir: "log"}
	c := page.command()
	c.SetArgs([]string{log, "--format", formatHTML, "--out", file})
	output, quiet := b.output, b.quiet
	defer func() { b.output, b.quiet = output, quiet }()
	b.output, b.quiet = outputTable, true
	return c.ExecuteContext(ctx)
}

// lossText describes the effect of lost events on the bundle, whose own log is intact. It is empty if
// the source has lost no event.
func (b *bundler) lossText() string {
	if b.report.LostCount() == 0 {
		return ""
	}
	return fmt.Sprintf("the source has lost %s. The log of the bundle is intact, but it does not have these events either: the rows of %s may be wrong, and lint may find rules broken that were not (see lost and in_doubt in report.json)",
		count(b.report.LostCount(), "event"), count(len(b.result.InDoubt), "copied migration"))
}

// readme returns the file README of the bundle.
func (b *bundler) readme() string {
	redaction := "The values are those of the cluster: nodes, vShards, reasons, times and ids.\n"
	if b.result.Redacted {
		redaction = `The values are redacted. Nodes, groups and vShards are ranks (1, 2, ...). Reasons
are reason-1, reason-2, ... All times were moved by one constant, so that the
history begins on 2020-01-01, and the ids were changed with them. Durations, log
indexes, attempts and epochs are those of the cluster.
`
	}
	if text := b.lossText(); text != "" {
		redaction += "\nATTENTION: " + text + ".\n"
	}
	return fmt.Sprintf(`A part of a migration log: %s of %s.

%s
  log/           the events. Read them with replay-tool:
                   replay-tool triage log
                   replay-tool lint log
                   replay-tool show log ID
  report.json    the sequence numbers in the original log, and its damage
  timeline.html  a picture of the moves: open it in a browser
`, count(b.result.Events, "event"), count(b.result.Migrations, "migration"), redaction)
}
