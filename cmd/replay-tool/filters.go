package main

import (
	"context"
	"math"
	"slices"
	"strconv"
	"strings"

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
	vshards       []string
	nodes         []string
	flags         interface{ Changed(name string) bool }
}

func (f *filters) register(c *cobra.Command) {
	flags := c.Flags()
	f.flags = flags
	flags.StringVar(&f.since, "since", "", "only events at or after this `time` ("+timeFormats+")")
	flags.StringVar(&f.until, "until", "", "only events at or before this `time`")
	flags.Var((*seqValue)(&f.from), "from", "only events with this `seq` or a higher one")
	flags.Var((*seqValue)(&f.to), "to", "only events with this `seq` or a lower one")
	flags.StringSliceVar(&f.migrations, "migration", nil, "only events of the migration with this `id` (or a beginning or an end that only one id has)")
	flags.StringSliceVar(&f.kinds, "kind", nil, "only events of this `kind`: "+joinKinds(replay.Kinds))
	flags.StringSliceVar(&f.phases, "phase", nil, "only checkpoints of this `phase`, such as CatchUp")
	flags.StringSliceVar(&f.vshards, "vshard", nil, "only events of migrations of the vShard with this `number`, or of a range such as 1-13")
	flags.StringSliceVar(&f.nodes, "node", nil, "only events of migrations from or to the node with this `number`")
}

// seqValue is the value of a flag for a seq. It may begin with #, as in the output.
type seqValue uint64

func (v *seqValue) String() string { return strconv.FormatUint(uint64(*v), 10) }
func (v *seqValue) Type() string   { return "uint64" }

// Set reads the value.
func (v *seqValue) Set(text string) error {
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "#"), 10, 64)
	*v = seqValue(n)
	return err
}

// query returns the query of the flags. It completes shortened migration ids from the log.
func (f *filters) query(ctx context.Context, times timeReader) (q replay.Query, err error) {
	q.FromSeq, q.ToSeq = f.from, f.to
	for name, value := range map[string]string{"since": f.since, "until": f.until} {
		if f.flags.Changed(name) && value == "" {
			return q, usageErrorf("--%s needs a value", name)
		}
	}
	for name, values := range map[string][]string{"migration": f.migrations, "kind": f.kinds, "phase": f.phases, "vshard": f.vshards, "node": f.nodes} {
		if f.flags.Changed(name) && len(values) == 0 {
			return q, usageErrorf("--%s needs a value", name)
		}
	}
	if f.flags.Changed("to") && f.to < max(f.from, 1) {
		return q, usageErrorf("--to %d: give a seq of at least %d", f.to, max(f.from, 1))
	}
	if f.since != "" {
		if q.SinceMS, err = times.parse(f.since); err != nil {
			return q, err
		}
	}
	if f.until != "" {
		if q.UntilMS, err = times.parse(f.until); err != nil {
			return q, err
		}
	}
	if q.UntilMS != 0 && q.UntilMS < q.SinceMS {
		return q, errReversedPeriod
	}
	for _, idPrefix := range f.migrations {
		id, err := resolve(ctx, times.reader, idPrefix)
		if err != nil {
			return q, err
		}
		q.Migrations = append(q.Migrations, id)
	}
	for _, name := range f.kinds {
		kind, err := parseKind(name)
		if err != nil {
			return q, err
		}
		q.Kinds = append(q.Kinds, kind)
	}
	for _, name := range f.phases {
		phase, err := parsePhase(name)
		if err != nil {
			return q, err
		}
		q.Phases = append(q.Phases, phase)
	}
	if q.VShards, err = parseVShards(f.vshards); err != nil {
		return q, err
	}
	q.Nodes, err = parseNodes(f.nodes)
	return q, err
}

// parsePhase returns the phase with this name, in upper or lower case.
func parsePhase(name string) (checkpoint.Phase, error) {
	for phase := checkpoint.PhaseAddLearner; phase <= checkpoint.PhaseComplete; phase++ {
		if strings.EqualFold(phase.String(), name) {
			return phase, nil
		}
	}
	_, err := checkpoint.ParsePhase(name)
	return 0, usageError{err}
}

// maxVShards limits the numbers in the values of --vshard, which are compared one by one.
const maxVShards = 10_000

// parseVShards and parseNodes read the values of --vshard and --node. A range includes both ends.
func parseVShards(texts []string) (vshards []uint32, err error) {
	for _, text := range texts {
		low, high, isRange := strings.Cut(text, "-")
		if !isRange {
			high = low
		}
		first, err1 := strconv.ParseUint(low, 10, 32)
		last, err2 := strconv.ParseUint(high, 10, 32)
		if err1 != nil || err2 != nil || first > last {
			return nil, usageErrorf("--vshard %s: give a number of at most %d, or a range such as 1-13", text, uint32(math.MaxUint32))
		}
		if last-first >= maxVShards-uint64(len(vshards)) {
			return nil, usageErrorf("--vshard %s: give at most %d numbers", text, maxVShards)
		}
		for v := first; v <= last; v++ {
			vshards = append(vshards, uint32(v))
		}
	}
	return vshards, nil
}

func parseNodes(texts []string) (nodes []uint64, err error) {
	for _, text := range texts {
		node, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, usageErrorf("--node %s: give the number of a node, such as 7", text)
		}
		nodes = append(nodes, node)
	}
	return nodes, nil
}

// parseKind returns the kind with that name. The words of the tables are names too.
func parseKind(name string) (replay.Kind, error) {
	kind := replay.Kind(strings.ToLower(name))
	switch kind {
	case "aborted":
		kind = replay.KindAbort
	case "removed":
		kind = replay.KindRemove
	}
	if !slices.Contains(replay.Kinds, kind) {
		return "", usageErrorf("--kind %s: unknown kind, the kinds are %s", name, joinKinds(replay.Kinds))
	}
	return kind, nil
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
