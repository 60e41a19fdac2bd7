package main

import (
	"context"
	"errors"
	"fmt"
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
	from, to      boundary
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
	flags.Var(&f.from, "from", "only events with this `seq`, or index:RAFT_INDEX, or a higher one")
	flags.Var(&f.to, "to", "only events with this `seq`, or index:RAFT_INDEX, or a lower one")
	flags.StringSliceVar(&f.migrations, "migration", nil, "only events of the migration with this `id` (or a beginning or an end that only one id has)")
	flags.StringSliceVar(&f.kinds, "kind", nil, "only events of this `kind`: "+joinKinds(replay.Kinds))
	flags.StringSliceVar(&f.phases, "phase", nil, "only checkpoints of this `phase`, such as CatchUp")
	flags.StringSliceVar(&f.vshards, "vshard", nil, "only events of migrations of the vShard with this `number`, or of a range such as 1-13")
	flags.StringSliceVar(&f.nodes, "node", nil, "only events of migrations from or to the node with this `number`")
}

// boundary is the value of --from and of --to: a seq, which may begin with # as in the output, or a
// raft index.
type boundary struct {
	number  uint64
	isIndex bool
}

func (b *boundary) String() string { return strconv.FormatUint(b.number, 10) }
func (b *boundary) Type() string   { return "uint64" }

// Set reads the value.
func (b *boundary) Set(text string) (err error) {
	number, isIndex := strings.CutPrefix(text, "index:")
	if b.isIndex = isIndex; !isIndex {
		number = strings.TrimPrefix(text, "#")
	}
	b.number, err = strconv.ParseUint(number, 10, 64)
	return err
}

// setSeqs sets the range of sequence numbers of --from and --to.
func (f *filters) setSeqs(q *replay.Query, reader *replay.Reader) error {
	q.FromSeq, q.ToSeq = f.from.number, f.to.number
	if f.from.isIndex || f.to.isIndex {
		positions, err := reader.Positions()
		if errors.Is(err, replay.ErrNoPositions) {
			return usageErrorf("--from and --to: %w. Give a seq", err)
		}
		if err != nil {
			return err
		}
		if f.from.isIndex {
			if q.FromSeq, err = positions.SeqOf(max(f.from.number, 1) - 1); err != nil {
				return err
			}
			q.FromSeq++
		}
		if f.to.isIndex {
			if q.ToSeq, err = positions.SeqOf(f.to.number); err != nil {
				return err
			}
			if q.ToSeq == 0 {
				return fmt.Errorf("%w: the first event of the log has a raft index above %d", errNoMatch, f.to.number)
			}
		}
		if f.from.isIndex == f.to.isIndex && f.to.number >= f.from.number {
			return nil // no event can have one of these indexes
		}
	}
	if f.flags.Changed("to") && q.ToSeq < max(q.FromSeq, 1) {
		return usageErrorf("--to %d: give a seq of at least %d", q.ToSeq, max(q.FromSeq, 1))
	}
	return nil
}

// query returns the query of the flags. It completes shortened migration ids from the log.
func (f *filters) query(ctx context.Context, times timeReader) (q replay.Query, err error) {
	if err := f.setSeqs(&q, times.reader); err != nil {
		return q, err
	}
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
