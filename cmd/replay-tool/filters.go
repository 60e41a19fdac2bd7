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

// filters are the flags that choose records.
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
	flags.StringVar(&f.since, "since", "", "only records from this `time` on ("+timeFormats+")")
	flags.StringVar(&f.until, "until", "", "only records up to this `time`")
	flags.Uint64Var(&f.from, "from", 0, "only records from this `seq` on")
	flags.Uint64Var(&f.to, "to", 0, "only records up to this `seq`")
	flags.StringSliceVar(&f.migrations, "migration", nil, "only these migrations: `id`, or its beginning")
	flags.StringSliceVar(&f.kinds, "kind", nil, "only this `kind`: checkpoint, abort, remove, unknown or damage")
	flags.StringSliceVar(&f.phases, "phase", nil, "only checkpoints of this `phase`")
	flags.UintSliceVar(&f.vshards, "vshard", nil, "only migrations of this vShard `number`")
	flags.StringSliceVar(&f.nodes, "node", nil, "only migrations from or to this node `number`")
}

// query reads the flags. Migration ids that were typed in part are looked up.
func (f *filters) query(ctx context.Context, reader *replay.Reader) (q replay.Query, err error) {
	q.FromSeq, q.ToSeq = f.from, f.to
	for name, value := range map[string]string{"since": f.since, "until": f.until} {
		if f.flags.Changed(name) && value == "" {
			return q, usageErrorf("--%s: it has no value", name)
		}
	}
	for name, values := range map[string][]string{"migration": f.migrations, "kind": f.kinds, "phase": f.phases, "node": f.nodes} {
		if f.flags.Changed(name) && len(values) == 0 {
			return q, usageErrorf("--%s: it has no value", name)
		}
	}
	if f.flags.Changed("to") && f.to < max(f.from, 1) {
		return q, usageErrorf("--to %d: give a seq from %d on", f.to, max(f.from, 1))
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
			return q, usageErrorf("--kind %s: the kinds are %s", name, joinKinds(replay.Kinds))
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
			return q, usageErrorf("--vshard %d: a vShard number has 32 bits", v)
		}
		q.VShards = append(q.VShards, uint32(v))
	}
	for _, text := range f.nodes {
		node, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return q, usageErrorf("--node %s: not a node number", text)
		}
		q.Nodes = append(q.Nodes, node)
	}
	return q, nil
}

const timeFormats = "2026-11-23T14:05:00Z, '2026-11-23 14:05:00' in UTC, or Unix milliseconds"

// parseTime reads a time as Unix milliseconds.
func parseTime(text string) (ms uint64, err error) {
	ms, err = strconv.ParseUint(text, 10, 64)
	if err == nil && ms < minTimeMS {
		return 0, usageErrorf("%q is a time before there were migrations, in Unix milliseconds: were seconds meant, append 000", text)
	}
	if err == nil {
		return ms, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		at, err := time.Parse(layout, text)
		if err == nil && at.UnixMilli() < minTimeMS {
			return 0, usageErrorf("%q is a time before there were migrations", text)
		}
		if err == nil {
			return uint64(at.UnixMilli()), nil
		}
	}
	return 0, usageErrorf("%q is not a time: write %s", text, timeFormats)
}

// minTimeMS is the year 2001: a smaller number was not meant as Unix milliseconds.
const minTimeMS = 1_000_000_000_000

// parsePoint reads a moment in a history: a time, or #SEQ.
func parsePoint(text string) (replay.Point, error) {
	if number, ok := strings.CutPrefix(text, "#"); ok {
		seq, err := strconv.ParseUint(number, 10, 64)
		if err != nil || seq == 0 {
			return replay.Point{}, usageErrorf("%q is not a seq: write # and a number from 1 on", text)
		}
		return replay.Point{Seq: seq}, nil
	}
	ms, err := parseTime(text)
	if seq, notASeq := strconv.ParseUint(text, 10, 64); err != nil && notASeq == nil {
		err = usageErrorf("%w; for a seq write '#%d', with the quotes", err, seq)
	}
	return replay.Point{TimeMS: ms}, err
}

// listed names kinds in a sentence.
func joinKinds(kinds []replay.Kind) string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k)
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
