package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/bench/eventgen"
	"migrationlog/bench/peer"
)

// recordedRun runs the workloads that match, and returns the tasks. No task is executed.
func recordedRun(t *testing.T, seed uint64, workloads, peers string, rounds int) (tasks []task) {
	b := &bench{
		dir: t.TempDir(), rounds: rounds, seed: seed,
		plan: newPlan(quickScale, regexp.MustCompile(workloads), regexp.MustCompile(peers), "the old program"),
	}
	b.runTask = func(_ context.Context, of task, _ func(int)) (values, error) {
		tasks = append(tasks, of)
		if of.Kind == "make" { // for requireSnapshot
			require.NoError(t, os.MkdirAll(filepath.Join(of.Dir, "snapshots", "1"), 0o700))
		}
		return values{"ms": 1}, nil
	}
	require.NoError(t, b.run(context.Background(), func(int, []figure) error { return nil }))
	return tasks
}

// The workload history reads the same migration of the same events with every peer, in every round,
// and whichever peers a run measures. The seed picks it.
func TestHistory_OneMigrationForAllPeers(t *testing.T) {
	read := map[peer.ID]int{}
	makeSeeds := map[uint64]bool{}
	byPeer := map[string]int{}
	for _, peers := range []string{"", "etcd WAL$", "tidwall|migrationlog"} {
		for _, task := range recordedRun(t, 1, "history", peers, 3) {
			switch task.Kind {
			case "make":
				makeSeeds[task.Seed] = true
			case "history":
				read[task.Migration]++
				byPeer[task.Peer+task.program]++
				require.Positive(t, task.MigrationEvents)
			}
		}
	}
	require.Len(t, byPeer, 6, "all logs, and migrationlog with both programs")
	require.Len(t, makeSeeds, 1)
	require.Len(t, read, 1)
	other := recordedRun(t, 2, "history", "tidwall", 1)
	require.NotContains(t, read, other[len(other)-1].Migration)
}

// The chosen migration has a row and has reached Complete, and its events are counted from its own
// beginning.
func TestChooseSubject(t *testing.T) {
	const seed, events, rows = 5, 20_000, 100
	of, err := chooseSubject(seed, events, rows)
	require.NoError(t, err)
	g, n := eventgen.New(seed, rows), 0
	var last eventgen.Op
	for range events {
		op, err := g.Next()
		require.NoError(t, err)
		if op.ID == of.id {
			n, last = n+1, op
		}
	}
	require.Equal(t, n, of.events)
	require.GreaterOrEqual(t, n, 6, "one event for each phase")
	require.False(t, last.Ends)
	_, err = chooseSubject(seed, 0, rows)
	require.ErrorContains(t, err, "no migration with a row")
	_, err = chooseSubject(seed, 1, rows)
	require.NoError(t, err, "none has reached Complete")
}

// If a peer returns another number of events, the measurement fails.
func TestMeasureHistory_RefusesOtherNumberOfEvents(t *testing.T) {
	of := task{Peer: "tidwall/wal", Dir: t.TempDir(), Seed: 1, Events: 500, Rows: 20}
	_, err := makeHistory(of)
	require.NoError(t, err)
	s, err := chooseSubject(of.Seed, of.Events, of.Rows)
	require.NoError(t, err)
	of.Migration, of.MigrationEvents = s.id, s.events
	found, err := measureHistory(of)
	require.NoError(t, err)
	require.Equal(t, float64(s.events), found["events_of_it"])
	of.MigrationEvents++
	_, err = measureHistory(of)
	require.ErrorContains(t, err, "expected")
}

// The workloads load and rebuild run alone. Both builds of migrationlog take part, with snapshots
// and without in load, and without them in rebuild.
func TestPlan_LoadAndRebuildRunAlone(t *testing.T) {
	type measurement struct {
		peer string
		x    int
	}
	measured := func(workloads, peers string) (all []measurement) {
		p := newPlan(quickScale, regexp.MustCompile(workloads), regexp.MustCompile(peers), "the old program")
		for _, s := range p.steps {
			all = append(all, measurement{s.peer, s.x})
			require.Equal(t, s.peer == variantOf(oldBuild) || s.peer == variantOf(oldBuild+", "+noSnapshot), s.task.program != "")
		}
		return all
	}
	var want []measurement
	for _, names := range [][]string{{ours, variantOf(noSnapshot)}, {variantOf(oldBuild), variantOf(oldBuild + ", " + noSnapshot)}, {"bbolt Update"}} {
		for _, rows := range quickScale.loadRows {
			for _, name := range names {
				want = append(want, measurement{name, rows})
			}
		}
	}
	require.Equal(t, want, measured("load", "migrationlog|bbolt Update"))
	require.Equal(t, []measurement{
		{variantOf(noSnapshot), 2000}, {variantOf(noSnapshot), 4000},
		{variantOf(oldBuild + ", " + noSnapshot), 2000}, {variantOf(oldBuild + ", " + noSnapshot), 4000},
	}, measured("rebuild", ""))
	full := newPlan(fullScale, regexp.MustCompile("rebuild"), regexp.MustCompile(""), "")
	require.Len(t, full.steps, 2)
	for i, events := range []int{1_000_000, 10_000_000} {
		require.Equal(t, events, full.steps[i].task.Events)
		require.Equal(t, 1000, full.steps[i].task.Rows)
	}
}

// A start that should find a snapshot fails if there is none.
func TestRequireSnapshot(t *testing.T) {
	b := &bench{dir: t.TempDir()}
	h := &history{contender: contender{name: ours}, events: 1, rows: 1}
	require.ErrorContains(t, requireSnapshot(h)(context.Background(), b), "has no snapshot")
	require.NoError(t, os.MkdirAll(filepath.Join(b.dir, h.name(), "snapshots", "1"), 0o700))
	require.NoError(t, requireSnapshot(h)(context.Background(), b))
	require.NoError(t, dropSnapshots(h)(context.Background(), b))
	require.Error(t, requireSnapshot(h)(context.Background(), b))
}

// Another checkout takes part in the same rounds, with a program that is built against it, and the
// tables compare the two.
func TestCommand_Old(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the bench")
	}
	file := filepath.Join(t.TempDir(), "results.json")
	var out bytes.Buffer
	require.NoError(t, command(context.Background(), []string{
		"-quick", "-rounds", "2", "-old", "..", "-run", "upsert|rebuild|load|history", "-peers", "migrationlog", "-dir", t.TempDir(), "-json", file,
	}, &out))
	r, err := readResults(file)
	require.NoError(t, err)
	for _, workload := range []string{"upsert", "load", "history"} {
		for _, name := range []string{ours, variantOf(oldBuild)} {
			f, ok := r.find(workload, name, r.xs(workload)[0])
			require.True(t, ok, "%s %s", workload, name)
			for _, v := range f.Values {
				require.Len(t, v.Rounds, 2)
			}
		}
	}
	require.Contains(t, out.String(), "Present build relative to the old build")
	require.Contains(t, out.String(), "Start after 4,000 events: "+variantOf(noSnapshot))
	require.Equal(t, variantOf(oldBuild), r.Peers[1].Name)
}
