package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"migrationlog/replay"
	"migrationlog/replay/stats"
)

func (t *tool) quietCommand() *cobra.Command {
	var before string
	c := &cobra.Command{
		Use:   "quiet DIR",
		Short: "Find moments at which no move is between LeadershipTransfer and Complete",
		Long: `Find moments at which no move is between LeadershipTransfer and Complete.

At such a moment no leadership is under way, and each vShard is served from one
place. Restore a backup, or compare clusters, as of the last quiet point. A quiet
interval runs from the event that makes the history quiet to the next
LeadershipTransfer or Cutover. The command prints the last quiet point and the
sums. -o ndjson lists the intervals, and -o json has both.

If an event is lost, it may have been a LeadershipTransfer. The points after it
are uncertain until a later event shows which migration the lost event was of.`,
		Example: `  replay-tool quiet log --before 02:09
  replay-tool quiet log --before '#6000'
  replay-tool quiet log -o ndjson`,
		Args: argCount(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("before") && before == "" {
				return usageErrorf("--before needs a value: " + pointFormats)
			}
			return t.buffered(func() error { return t.runQuiet(c, args[0], before) })
		},
	}
	c.Flags().StringVar(&before, "before", "", "print the last quiet point up to this `point`: "+pointFormats)
	return c
}

// quietJSON is the output of `quiet -o json`.
type quietJSON struct {
	stats.QuietSummary
	List []stats.Interval `json:"list"`
}

func (t *tool) runQuiet(c *cobra.Command, dir, before string) error {
	q := stats.NewQuiet()
	if before != "" {
		reader, err := replay.Open(dir)
		if err != nil {
			return err
		}
		if q.Until, err = t.times(c.Context(), reader).point(c.Context(), before); err != nil {
			return err
		}
	}
	list := []stats.Interval{}
	add := func(i *stats.Interval) error {
		switch {
		case i == nil || t.output == outputTable:
			return nil
		case t.output == outputNDJSON:
			return writeLine(t.stdout, i)
		}
		list = append(list, *i)
		return nil
	}
	fold, err := t.fold(c.Context(), dir, func(f *replay.Fold, r replay.Record) error { return add(q.Add(f, r)) })
	if err != nil {
		return err
	}
	if err := add(q.Finish()); err != nil {
		return err
	}
	sum := q.Summary()
	switch t.output {
	case outputTable:
		t.quietText(sum, before)
	case outputJSON:
		if err := t.writeJSON(quietJSON{sum, list}); err != nil {
			return err
		}
	}
	report := fold.Report()
	t.reportFindings(report)
	if err := reportExit(report); err != nil {
		return err
	}
	if sum.Last == nil {
		return silentExit{exitNoMatch}
	}
	return nil
}

func (t *tool) quietText(s stats.QuietSummary, before string) {
	clock := t.clock()
	switch p := s.Last; {
	case p == nil && before == "":
		t.statusf("no event leaves the history quiet")
	case p == nil:
		t.statusf("no event up to %s leaves the history quiet", before)
	default:
		fmt.Fprintf(t.stdout, "#%d  %s\n", p.Seq, clock.show(p.AtMS))
		if p.Uncertain {
			fmt.Fprintln(t.stdout, "quiet, uncertain: a lost event may have been a LeadershipTransfer")
		} else {
			fmt.Fprintln(t.stdout, "quiet: no move is between LeadershipTransfer and Complete")
		}
	}
	if s.Longest == nil {
		return
	}
	fmt.Fprintf(t.stdout, "%s, %s of %s; the longest #%d to #%d, %s\n", count(s.Intervals, "quiet interval"),
		secondsText(s.QuietMS), secondsText(s.SpanMS), s.Longest.FirstSeq, s.Longest.LastSeq, secondsText(uint64(max(s.Longest.MS, 0))))
	if s.UncertainIntervals > 0 {
		fmt.Fprintf(t.stdout, "%d of them uncertain: a lost event may have been a LeadershipTransfer\n", s.UncertainIntervals)
	}
}

// secondsText returns a span in seconds with two decimals, or like shortSpan if it is long.
func secondsText(ms uint64) string {
	if ms >= 1_000_000 {
		return shortSpan(ms)
	}
	hundredths := (ms + 5) / 10
	return fmt.Sprintf("%d.%02ds", hundredths/100, hundredths%100)
}
