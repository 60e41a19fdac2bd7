package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"migrationlog/replay"
	"migrationlog/replay/lint"
	"migrationlog/replay/story"
	"migrationlog/replay/timeline"
)

// The values of --format of timeline.
const (
	formatASCII    = "ascii"
	formatSVG      = "svg"
	formatHTML     = "html"
	formatPerfetto = "perfetto"
)

// timelineCommand is one run of the command timeline.
type timelineCommand struct {
	*tool
	filters            rowFilters
	since, until, last string
	format, by         string
	out                outFile

	shownDir string // the log in the commands on the page; "": the DIR of the command line

	reader *replay.Reader
	linter *lint.Linter // nil: the format shows no findings
	endMS  uint64       // the highest clock so far
}

func (t *tool) timeline() *cobra.Command { return (&timelineCommand{tool: t}).command() }

func (l *timelineCommand) command() *cobra.Command {
	c := &cobra.Command{
		Use:   "timeline DIR",
		Short: "Draw the moves over time, as text, SVG, one HTML page or a Perfetto trace",
		Long: `Draw the moves over time, with a lane for each vShard. If moves of one vShard
overlap, it has a second lane.

  ascii     text that fits the terminal, or 80 columns on a pipe
  svg       an image without a script, for a report
  html      one file that works offline: zoom, filter, and a click for the story
  perfetto  a trace for ui.perfetto.dev

The filters select moves by their last phase. html and svg refuse more than
` + fmt.Sprint(timeline.MaxPageMoves) + ` moves, unless --since, --until or --last is given. The findings in
html and svg are those of 'replay-tool lint'.`,
		Example: `  replay-tool timeline log --last 20s
  replay-tool timeline log --vshard 1-13 --width 140
  replay-tool timeline log --out timeline.html`,
		Args: argCount(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return l.buffered(func() error { return l.run(c.Context(), args[0]) })
		},
	}
	l.filters.register(c)
	flags := c.Flags()
	flags.StringVar(&l.since, "since", "", "draw from this `time` on ("+timeFormats+")")
	flags.StringVar(&l.until, "until", "", "draw up to this `time`")
	flags.StringVar(&l.last, "last", "", "draw this `time span` before the end of the log, such as 20s")
	flags.StringVar(&l.format, "format", formatASCII, "`format` of the picture: ascii, svg, html or perfetto; without it, by the ending of --out: .svg, .html or .json (perfetto), else ascii")
	flags.StringVar(&l.by, "by", string(timeline.ByVShard), "a lane for each `key`: vshard, node or migration")
	l.out.register(c)
	completeFlag(c, "format", formatASCII, formatSVG, formatHTML, formatPerfetto)
	completeFlag(c, "by", string(timeline.ByVShard), string(timeline.ByNode), string(timeline.ByMigration))
	return c
}

func (l *timelineCommand) run(ctx context.Context, dir string) error {
	l.chooseFormat()
	if err := l.check(dir); err != nil {
		return err
	}
	var err error
	if l.reader, err = replay.Open(dir); err != nil {
		return err
	}
	options, err := l.options(ctx)
	if err != nil {
		return err
	}
	if l.needsFindings() {
		if l.linter, err = lint.New(lint.Options{Severity: lint.Warning}); err != nil {
			return err
		}
	}
	part, err := l.period(ctx, dir, &options)
	if err != nil {
		return err
	}
	builder := timeline.NewBuilder(options)
	fold, covered, err := l.foldPeriod(ctx, l.reader, dir, part, func(r replay.Record) error {
		l.endMS = max(l.endMS, r.WallMS())
		if l.linter != nil {
			l.linter.Measure(r)
		}
		return builder.Add(r)
	})
	if err != nil {
		return l.explain(err)
	}
	findings, err := l.findings(ctx)
	if err != nil {
		return err
	}
	line, err := builder.Timeline(findings)
	if err != nil {
		return l.explain(err)
	}
	report := fold.Report()
	noMatch := line.Moves == 0 && (l.filters.anySet() || l.since != "" || l.until != "")
	switch {
	case noMatch:
		l.statusf("no move matches")
	case line.Moves == 0 && l.isText():
		l.statusf("the log has no move")
	default:
		if err := l.write(dir, line); err != nil {
			return err
		}
	}
	l.reportCoverage(covered, dir)
	l.reportFindings(report)
	if err := reportExit(report); err != nil || !noMatch {
		return err
	}
	return silentExit{exitNoMatch}
}

func (l *timelineCommand) isText() bool { return l.output == outputTable && l.format == formatASCII }

// needsFindings reports whether the output shows findings.
func (l *timelineCommand) needsFindings() bool {
	return l.output != outputTable || l.format == formatSVG || l.format == formatHTML
}

// formatOfEnding has the format of a file by the ending of its name.
var formatOfEnding = map[string]string{".svg": formatSVG, ".html": formatHTML, ".htm": formatHTML, ".json": formatPerfetto}

// chooseFormat sets the format by the ending of the file, unless --format or --output is given.
func (l *timelineCommand) chooseFormat() {
	format, ok := formatOfEnding[strings.ToLower(filepath.Ext(l.out.path))]
	if ok && l.output == outputTable && !l.filters.flags.Changed("format") {
		l.format = format
	}
}

// check returns a usageError if the flags contradict each other.
func (l *timelineCommand) check(dir string) error {
	switch {
	case !slices.Contains([]string{formatASCII, formatSVG, formatHTML, formatPerfetto}, l.format):
		return usageErrorf("--format %s: unknown format, use ascii, svg, html or perfetto", l.format)
	case !slices.Contains([]timeline.By{timeline.ByVShard, timeline.ByNode, timeline.ByMigration}, timeline.By(l.by)):
		return usageErrorf("--by %s: unknown key, use vshard, node or migration", l.by)
	case l.output != outputTable && l.filters.flags.Changed("format"):
		return usageErrorf("--format and --output cannot be used together: remove one of them")
	case l.output == outputTable && l.format != formatASCII && l.out.path == "" && terminalOf(l.unbuffered) != nil:
		return usageErrorf("--format %s is not for a terminal: give a file with --out, or --out - to print it anyway", l.format)
	case l.last != "" && (l.since != "" || l.until != ""):
		return usageErrorf("--last and --since or --until cannot be used together: remove --last")
	}
	for name, value := range map[string]string{"since": l.since, "until": l.until, "last": l.last} {
		if l.filters.flags.Changed(name) && value == "" {
			return usageErrorf("--%s needs a value", name)
		}
	}
	return l.out.check(dir)
}

// options returns the options of the picture.
func (l *timelineCommand) options(ctx context.Context) (o timeline.Options, err error) {
	o.By = timeline.By(l.by)
	times := l.times(ctx, l.reader)
	if l.since != "" {
		if o.SinceMS, err = times.parse(l.since); err != nil {
			return o, err
		}
	}
	if l.until != "" {
		if o.UntilMS, err = times.parse(l.until); err != nil {
			return o, err
		}
		if o.UntilMS < o.SinceMS {
			return o, usageErrorf("--until %s is before --since %s", l.until, l.since)
		}
	}
	if l.last != "" {
		var ok bool
		if o.LastMS, ok = parseSpan(l.last); !ok || o.LastMS == 0 {
			return o, usageErrorf("--last %s: give a time span, such as 20s or 5m", l.last)
		}
	}
	if err := l.filters.read(); err != nil {
		return o, err
	}
	if l.filters.anySet() {
		o.Select = func(i *story.Incarnation) bool { return l.filters.matches(l.traits(i)) }
	}
	if bounded := l.since != "" || l.until != "" || l.last != ""; !bounded && l.output == outputTable && (l.format == formatHTML || l.format == formatSVG) {
		o.MaxMoves = timeline.MaxPageMoves
	}
	return o, nil
}

// period returns the part of the history that the picture needs. It sets EndMS, and replaces LastMS by the
// same SinceMS. A picture with findings needs the whole log, because the rules do.
func (l *timelineCommand) period(ctx context.Context, dir string, o *timeline.Options) (p replay.PeriodOptions, err error) {
	hasMany, err := hasManySegments(dir)
	if err != nil || !hasMany || l.needsFindings() || o.SinceMS+o.UntilMS+o.LastMS == 0 {
		return p, err
	}
	if o.LastMS > 0 || o.UntilMS > 0 {
		totals, err := l.reader.Totals(ctx)
		if err != nil || totals.EarliestMS+o.LastMS >= totals.LatestMS {
			return p, err
		}
		o.EndMS = totals.LatestMS
	}
	if o.LastMS > 0 {
		o.SinceMS, o.LastMS = o.EndMS-o.LastMS, 0
	}
	l.endMS = o.EndMS
	return replay.PeriodOptions{SinceMS: o.SinceMS, UntilMS: o.UntilMS, Later: true}, nil
}

// traits returns the values of a move that the filters compare.
func (l *timelineCommand) traits(i *story.Incarnation) rowTraits {
	m := rowTraits{phase: i.Phase, vshard: i.VShardID, inFlight: i.InFlight()}
	if i.HasSource {
		m.nodes = append(m.nodes, i.SourceNode)
	}
	if i.HasTarget {
		m.nodes = append(m.nodes, i.TargetNode)
	}
	if stay, ok := i.OpenStay(l.endMS); ok {
		m.ageMS = uint64(max(stay.MS, 0))
	}
	return m
}

// explain adds the next step to the error of a history with too many moves.
func (l *timelineCommand) explain(err error) error {
	if errors.Is(err, timeline.ErrTooManyMoves) {
		return usageErrorf("%w, and a browser is slow beyond that. Give a range with --last or --since, or use --format perfetto", err)
	}
	return err
}

// findings reads the log once more and returns the findings of a linter that has measured it.
func (l *timelineCommand) findings(ctx context.Context) (list []timeline.Finding, err error) {
	if l.linter == nil {
		return nil, nil
	}
	add := func(found []lint.Finding) {
		for _, f := range found {
			list = append(list, timeline.Finding{Rule: f.Rule, Severity: f.Severity.String(), Message: f.Message, Seqs: f.Seqs})
		}
	}
	for r, err := range readAhead(l.reader.Records(ctx, replay.Query{})) {
		if err != nil {
			return nil, err
		}
		add(l.linter.Add(r))
	}
	add(l.linter.End())
	return list, nil
}

// write writes the picture to stdout or to the file of --out.
func (l *timelineCommand) write(dir string, line *timeline.Timeline) error {
	l.labelLanes(line)
	if err := l.out.write(l.tool, func() error { return l.print(dir, line) }); err != nil {
		return err
	}
	if !l.out.isStdout() {
		l.statusf("wrote %s to %s", count(line.Moves, "move"), quoted(l.out.path))
	}
	return nil
}

func (l *timelineCommand) print(dir string, line *timeline.Timeline) error {
	switch {
	case l.output != outputTable:
		return l.writeValue(line, nil)
	case l.format == formatSVG:
		return line.WriteSVG(l.stdout, timeline.SVGOptions{Title: l.headLine(line), Time: l.clock().short})
	case l.format == formatHTML:
		return line.WritePage(l.stdout, timeline.PageOptions{
			Log: l.reader.Manifest().UUID.String(), Command: "replay-tool show " + quoted(cmp.Or(l.shownDir, dir)) + " ", Location: l.zone.location,
		})
	case l.format == formatPerfetto:
		return line.WritePerfetto(l.stdout)
	}
	return l.printText(line)
}

// labelLanes gives the lanes by migration short names.
func (l *timelineCommand) labelLanes(line *timeline.Timeline) {
	if line.By != timeline.ByMigration {
		return
	}
	ids := shortestIDs(nil)
	for _, lane := range line.Lanes {
		ids.add(lane.Moves[0].ID)
	}
	for i, lane := range line.Lanes {
		line.Lanes[i].Label = strings.Replace(lane.Label, lane.Key, ids.of(lane.Moves[0].ID), 1)
	}
}

// headLine returns the line with the dates, which the axis does not show.
func (l *timelineCommand) headLine(line *timeline.Timeline) string {
	dates := &clock{style: timeISO, zone: l.zone}
	text := dates.newDay(line.FromMS)
	if to := dates.newDay(line.ToMS); to != "" {
		text += " to " + to
	}
	return fmt.Sprintf("%s %s, %s: %s", text, l.zone.name, shortSpan(line.ToMS-line.FromMS), count(line.Moves, "move"))
}

// printText prints the text, with the date above it.
func (l *timelineCommand) printText(line *timeline.Timeline) error {
	width := l.width()
	if width == 0 {
		width = defaultWidth
	}
	fmt.Fprintln(l.stdout, l.headLine(line))
	err := line.WriteASCII(l.stdout, timeline.ASCIIOptions{Width: width, Time: l.clock().short, Paint: l.paintSymbol})
	if line.ClockBack > 0 {
		fmt.Fprintf(l.stdout, "  the clock went back during %s: bars may overlap or be too long\n", count(line.ClockBack, "move"))
	}
	return err
}

// paintSymbol colors cells with the same symbol.
func (l *timelineCommand) paintSymbol(symbol byte, cells string) string {
	switch {
	case symbol == '!':
		return l.paint(styleError, cells)
	case symbol == '?', '1' <= symbol && symbol <= '9':
		return l.paint(styleWarning, cells)
	case symbol == '>':
		return l.paint(styleBold, cells)
	}
	return cells
}
