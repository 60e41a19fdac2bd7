package main

import (
	"context"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// filters has the flags that select records.
type filters struct {
	since, until  string
	from, to      uint64
	migrations    []string
	kinds, phases []string
	vshards       []uint
	nodes         []string
	flags         interface{ Changed(name string) bool }
}

func (f *filters) register(c *cobra.Command) {
	flags := c.Flags()
	f.flags = flags
	flags.StringVar(&f.since, "since", "", "only records at or after this `time` ("+timeFormats+")")
	flags.StringVar(&f.until, "until", "", "only records at or before this `time`")
	flags.Uint64Var(&f.from, "from", 0, "only records with this `seq` or a higher one")
	flags.Uint64Var(&f.to, "to", 0, "only records with this `seq` or a lower one")
	flags.StringSliceVar(&f.migrations, "migration", nil, "only records of the migration with this `id` (or a beginning or an end that only one id has)")
	flags.StringSliceVar(&f.kinds, "kind", nil, "only records of this `kind`: "+joinKinds(replay.Kinds))
	flags.StringSliceVar(&f.phases, "phase", nil, "only checkpoints of this `phase`, such as CatchUp")
	flags.UintSliceVar(&f.vshards, "vshard", nil, "only records of migrations of the vShard with this `number`")
	flags.Lookup("vshard").DefValue = "" // else --help prints "(default [])"
	flags.StringSliceVar(&f.nodes, "node", nil, "only records of migrations from or to the node with this `number`")
}

// query returns the query of the flags. It completes shortened migration ids from the log.
func (f *filters) query(ctx context.Context, reader *replay.Reader) (q replay.Query, err error) {
	q.FromSeq, q.ToSeq = f.from, f.to
	for name, value := range map[string]string{"since": f.since, "until": f.until} {
		if f.flags.Changed(name) && value == "" {
			return q, usageErrorf("--%s needs a value", name)
		}
	}
	for name, values := range map[string][]string{"migration": f.migrations, "kind": f.kinds, "phase": f.phases, "node": f.nodes} {
		if f.flags.Changed(name) && len(values) == 0 {
			return q, usageErrorf("--%s needs a value", name)
		}
	}
	if f.flags.Changed("to") && f.to < max(f.from, 1) {
		return q, usageErrorf("--to %d: give a seq of at least %d", f.to, max(f.from, 1))
	}
	if f.since != "" {
		if q.SinceMS, err = parseTime(f.since); err != nil {
			return q, err
		}
	}
	if f.until != "" {
		if q.UntilMS, err = parseTime(f.until); err != nil {
			return q, err
		}
	}
	for _, idPrefix := range f.migrations {
		id, err := resolve(ctx, reader, idPrefix)
		if err != nil {
			return q, err
		}
		q.Migrations = append(q.Migrations, id)
	}
	for _, name := range f.kinds {
		kind := replay.Kind(name)
		if !slices.Contains(replay.Kinds, kind) {
			return q, usageErrorf("--kind %s: unknown kind, the kinds are %s", name, joinKinds(replay.Kinds))
		}
		q.Kinds = append(q.Kinds, kind)
	}
	for _, name := range f.phases {
		phase, err := checkpoint.ParsePhase(name)
		if err != nil {
			return q, usageError{err}
		}
		q.Phases = append(q.Phases, phase)
	}
	for _, v := range f.vshards {
		if v > math.MaxUint32 {
			return q, usageErrorf("--vshard %d: give a number of at most %d", v, uint32(math.MaxUint32))
		}
		q.VShards = append(q.VShards, uint32(v))
	}
	for _, text := range f.nodes {
		node, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return q, usageErrorf("--node %s: give the number of a node, such as 7", text)
		}
		q.Nodes = append(q.Nodes, node)
	}
	return q, nil
}

const timeFormats = "2026-11-23T14:05:00Z, '2026-11-23 14:05:00' in UTC, or Unix milliseconds"

// parseTime returns a time in Unix milliseconds. It returns an error if the text has none of the
// timeFormats, or if the time is before minTimeMS.
func parseTime(text string) (ms uint64, err error) {
	ms, err = strconv.ParseUint(text, 10, 64)
	if err == nil && ms < minTimeMS {
		return 0, usageErrorf("%q is too small for a time in Unix milliseconds. If you meant seconds, append 000", text)
	}
	if err == nil {
		return ms, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		at, err := time.Parse(layout, text)
		if err == nil && at.UnixMilli() < minTimeMS {
			return 0, usageErrorf("%q is too early: give a time after 2001-09-09", text)
		}
		if err == nil {
			return uint64(at.UnixMilli()), nil
		}
	}
	return 0, usageErrorf("%q is not a time: give %s", text, timeFormats)
}

// minTimeMS is in September 2001. If a number is smaller, it probably is in seconds.
const minTimeMS = 1_000_000_000_000

// parsePoint reads a point in a history, which is a time or #SEQ.
func parsePoint(text string) (replay.Point, error) {
	if number, ok := strings.CutPrefix(text, "#"); ok {
		seq, err := strconv.ParseUint(number, 10, 64)
		if err != nil || seq == 0 {
			return replay.Point{}, usageErrorf("%q is not a seq: give # and a number of at least 1", text)
		}
		return replay.Point{Seq: seq}, nil
	}
	ms, err := parseTime(text)
	if seq, notASeq := strconv.ParseUint(text, 10, 64); err != nil && notASeq == nil {
		err = usageErrorf("%w. If you meant a seq, give '#%d' with the quotes", err, seq)
	}
	return replay.Point{TimeMS: ms}, err
}

// joinKinds lists kinds in a sentence.
func joinKinds(kinds []replay.Kind) string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k)
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
