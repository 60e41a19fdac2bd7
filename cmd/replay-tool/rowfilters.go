package main

import (
	"slices"

	"github.com/spf13/cobra"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// rowFilters has the flags that select migrations by their latest row or phase.
type rowFilters struct {
	phaseNames []string
	vshardNums []string
	nodeNums   []string
	inFlight   bool
	olderText  string

	phases  []checkpoint.Phase
	vshards []uint32
	nodes   []uint64
	olderMS uint64
	flags   interface{ Changed(name string) bool }
}

// rowTraits are the values of a migration that rowFilters compares.
type rowTraits struct {
	phase    checkpoint.Phase
	vshard   uint32
	nodes    []uint64 // the source and the target, as far as they are known
	inFlight bool
	ageMS    uint64 // the time in the phase
}

func (f *rowFilters) register(c *cobra.Command) {
	flags := c.Flags()
	f.flags = flags
	flags.StringSliceVar(&f.phaseNames, "phase", nil, "only migrations in this `phase`, such as CatchUp")
	flags.StringSliceVar(&f.vshardNums, "vshard", nil, "only migrations of the vShard with this `number`, or of a range such as 1-13")
	flags.StringSliceVar(&f.nodeNums, "node", nil, "only migrations from or to the node with this `number`")
	flags.BoolVar(&f.inFlight, "in-flight", false, "only migrations that are not at Complete")
	flags.StringVar(&f.olderText, "older", "", "only migrations that have been in their phase for at least this `time`, such as 5m")
}

// read checks the flags. It returns a usageError if one is wrong.
func (f *rowFilters) read() (err error) {
	for name, values := range map[string][]string{"phase": f.phaseNames, "vshard": f.vshardNums, "node": f.nodeNums} {
		if f.flags.Changed(name) && len(values) == 0 {
			return usageErrorf("--%s needs a value", name)
		}
	}
	f.phases = nil
	for _, name := range f.phaseNames {
		phase, err := parsePhase(name)
		if err != nil {
			return err
		}
		f.phases = append(f.phases, phase)
	}
	if f.vshards, err = parseVShards(f.vshardNums); err != nil {
		return err
	}
	if f.nodes, err = parseNodes(f.nodeNums); err != nil {
		return err
	}
	if f.flags.Changed("older") {
		olderMS, ok := parseSpan(f.olderText)
		if !ok {
			return usageErrorf("--older %s: give a time span, such as 5m or 2d", f.olderText)
		}
		f.olderMS = olderMS
	}
	return nil
}

// anySet reports whether a flag selects migrations.
func (f *rowFilters) anySet() bool {
	for _, name := range []string{"phase", "vshard", "node", "in-flight", "older"} {
		if f.flags.Changed(name) {
			return true
		}
	}
	return false
}

// matches reports whether the flags select a migration.
func (f *rowFilters) matches(m rowTraits) bool {
	isAtNode := len(f.nodes) == 0 || slices.ContainsFunc(m.nodes, func(node uint64) bool { return slices.Contains(f.nodes, node) })
	return isAtNode && (len(f.phases) == 0 || slices.Contains(f.phases, m.phase)) &&
		(len(f.vshards) == 0 || slices.Contains(f.vshards, m.vshard)) &&
		(!f.inFlight || m.inFlight) && m.ageMS >= f.olderMS
}

// traitsOf returns the traits of a row at a time.
func traitsOf(r projection.Row, nowMS uint64) rowTraits {
	c := r.Checkpoint
	m := rowTraits{phase: c.Phase(), vshard: c.Payload.Shard(), inFlight: isInFlight(r), ageMS: nowMS - min(nowMS, c.TimestampMS)}
	if r.Facts.HasSource {
		m.nodes = append(m.nodes, r.Facts.SourceNode)
	}
	if r.Facts.HasTarget {
		m.nodes = append(m.nodes, r.Facts.TargetNode)
	}
	return m
}

// isInFlight reports whether a row is before Complete.
func isInFlight(r projection.Row) bool { return r.Checkpoint.Phase() < checkpoint.PhaseComplete }
