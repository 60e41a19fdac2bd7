package main

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"migrationlog/replay"
	"migrationlog/replay/export"
)

// exportCommand is one run of the command export.
type exportCommand struct {
	*tool
	filters       filters
	format, table string
	out           outFile
}

func (t *tool) export() *cobra.Command {
	e := &exportCommand{tool: t}
	c := &cobra.Command{
		Use:   "export DIR",
		Short: "Write the history as SQL, CSV or NDJSON for other programs",
		Long: `Write the history as SQL, CSV or NDJSON for other programs.

The tables are event (each event), stay (each stay in a phase), move (each
incarnation) and damage (each finding about the files). SQL has all tables in one
transaction, and loads into SQLite and PostgreSQL. CSV and NDJSON have the table
of --table. The NDJSON of events can be imported again.

A filter selects events, the stays that begin with them, and the moves that have
any of them. In SQL, nodes and groups are text, because integers end at 2^63-1.
In text, characters that cannot be printed are written as \u0000; the column
payload has them exactly.`,
		Example: `  replay-tool export log --format sql | sqlite3 -bail log.db
  replay-tool export log --format csv --table move --since -1h --out moves.csv
  replay-tool export log --format ndjson --vshard 11 --out v11.ndjson`,
		Args: argCount(1, 1),
		RunE: func(c *cobra.Command, args []string) error { return e.run(c, args[0]) },
	}
	e.filters.register(c)
	formats, tables := names(export.Formats), names(export.Tables)
	c.Flags().StringVar(&e.format, "format", "", "`format`: "+strings.Join(formats, ", "))
	c.Flags().StringVar(&e.table, "table", "", "write only this `table`: "+strings.Join(tables, ", ")+" (default: all in SQL, else event)")
	e.out.register(c)
	completeFlag(c, "format", formats...)
	completeFlag(c, "table", tables...)
	return c
}

func names[S ~string](list []S) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return out
}

func (e *exportCommand) run(c *cobra.Command, dir string) error {
	if o := string(e.output); c.Flags().Changed("output") && e.format == "" && slices.Contains(export.Formats, export.Format(o)) {
		e.format = o
	}
	switch {
	case e.format == "":
		return usageErrorf("the format is missing: give --format with one of %s, such as --format ndjson", strings.Join(names(export.Formats), ", "))
	case !slices.Contains(export.Formats, export.Format(e.format)):
		return usageErrorf("--format %q: give one of %s", e.format, strings.Join(names(export.Formats), ", "))
	case e.table != "" && !slices.Contains(export.Tables, export.Table(e.table)):
		return usageErrorf("--table %s: unknown table, use one of %s", e.table, strings.Join(names(export.Tables), ", "))
	case c.Flags().Changed("output") && string(e.output) != e.format:
		return usageErrorf("-o does not apply to export: give --format, and --out for a file")
	}
	if err := e.out.check(dir); err != nil {
		return err
	}
	reader, err := replay.Open(dir)
	if err != nil {
		return err
	}
	q, err := e.filters.query(c.Context(), e.times(c.Context(), reader))
	if err != nil {
		return err
	}
	o := export.Options{Format: export.Format(e.format), Table: export.Table(e.table), Query: q, Filtered: e.filters.anySet()}
	var summary export.Summary
	var fold *replay.Fold
	err = e.out.write(e.tool, func() error {
		return e.buffered(func() (err error) {
			summary, fold, err = e.write(c.Context(), dir, e.stdout, o)
			return err
		})
	})
	if err != nil {
		return err
	}
	return e.finish(summary, fold.Report(), o)
}

func (e *exportCommand) write(ctx context.Context, dir string, w io.Writer, o export.Options) (s export.Summary, f *replay.Fold, err error) {
	keepHeapSmall()
	x, err := export.New(w, o)
	if err != nil {
		return s, nil, err
	}
	f, err = e.fold(ctx, dir, func(_ *replay.Fold, r replay.Record) error { return x.Add(r) })
	if err != nil {
		return s, nil, err
	}
	s, err = x.Finish()
	return s, f, err
}

func (e *exportCommand) finish(s export.Summary, report replay.Report, o export.Options) error {
	var parts []string
	rows := uint64(0)
	for _, t := range export.Tables {
		if n, ok := s.Rows[t]; ok {
			parts = append(parts, count(n, string(t)+" row"))
			rows += n
		}
	}
	to := ""
	if !e.out.isStdout() {
		to = " to " + quoted(e.out.path)
	}
	e.statusf("wrote %s%s", strings.Join(parts, ", "), to)
	if s.TooLarge > 0 {
		e.warnf("%s NULL, because an integer of SQL ends at 2^63-1. NDJSON and CSV have all digits", isOrAre(s.TooLarge, "number"))
	}
	e.reportFindings(report)
	if err := reportExit(report); err != nil {
		return err
	}
	if rows == 0 && o.Filtered {
		return silentExit{exitNoMatch}
	}
	return nil
}
