package main

import (
	"github.com/spf13/cobra"
)

var errReversedPeriod = usageErrorf("--until is before --since: give a later time")

// period has the flags that select a part of the history by its clocks.
type period struct {
	since, until, last string
}

func (p *period) register(c *cobra.Command) {
	c.Flags().StringVar(&p.since, "since", "", "only what was recorded at or after this `time` ("+timeFormats+")")
	c.Flags().StringVar(&p.until, "until", "", "only the history up to this `time`")
	c.Flags().StringVar(&p.last, "last", "", "only what was recorded in this `span` before the end of the log, such as 5m; the same as --since -5m")
}

// isSet reports whether a flag selects a part.
func (p *period) isSet() bool { return p.since != "" || p.until != "" || p.last != "" }

// read returns the bounds in Unix milliseconds; untilMS 0 is no bound.
func (p *period) read(c *cobra.Command, times timeReader) (sinceMS, untilMS uint64, err error) {
	for _, name := range []string{"since", "until", "last"} {
		if f := c.Flags().Lookup(name); f.Changed && f.Value.String() == "" {
			return 0, 0, usageErrorf("--%s needs a value", name)
		}
	}
	if p.since != "" && p.last != "" {
		return 0, 0, usageErrorf("--since and --last cannot be used together: remove one of them")
	}
	if p.since != "" {
		if sinceMS, err = times.parse(p.since); err != nil {
			return 0, 0, err
		}
	}
	if p.last != "" {
		spanMS, ok := parseSpan(p.last)
		if !ok {
			return 0, 0, usageErrorf("--last %s: give a time span, such as 20s or 5m", p.last)
		}
		endMS, err := times.endMS()
		if err != nil {
			return 0, 0, err
		}
		sinceMS = endMS - min(spanMS, endMS)
	}
	if p.until != "" {
		if untilMS, err = times.parse(p.until); err != nil {
			return 0, 0, err
		}
	}
	if untilMS != 0 && untilMS < sinceMS {
		return 0, 0, errReversedPeriod
	}
	return sinceMS, untilMS, nil
}
