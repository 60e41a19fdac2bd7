package coordinator_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/recovery"
	"migrationlog/replay"
)

// The default numbers are for a commit. .ci/counts has larger numbers for a night.
var (
	seedFlag    = flag.Uint64("seed", 0, "seed of the first run of TestRecover_RandomCrashes; if it is 0, the clock gives the seed")
	runsFlag    = flag.Int("runs", 300, "TestRecover_RandomCrashes: number of runs")
	crashesFlag = flag.Int("crashes", 0, "TestRecover_EveryInterleaving: number of crashes, besides the one at the end of each path")
)

// memDir returns a directory in memory if the system has one.
func memDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "migrationlog-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// However coordinators crash, also while they recover, every migration ends complete, or aborted with
// each compensation carried out at least once and recorded once. No effect is unsafe, and nothing
// leaks.
func TestRecover_RandomCrashes(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	dir := memDir(t)
	var total tally
	for i := range *runsFlag {
		w := randomRun(t, filepath.Join(dir, fmt.Sprint(i)), seed+uint64(i))
		if w.failure != "" {
			t.Fatalf("%s\n\n%s\n\nTo repeat this run: go test ./internal/torture/coordinator -run TestRecover_RandomCrashes -runs 1 -seed %d",
				w.failure, strings.Join(w.steps, "\n"), seed+uint64(i))
		}
		total.add(w)
	}
	t.Logf("%d runs from seed %d: %+v", *runsFlag, seed, total)
	if *runsFlag >= 300 {
		require.Positive(t, min(total.Completed, total.Aborted, total.Repeated, total.CrashesInAbort, total.Fenced), "the runs try too little")
	}
}

// tally counts the events of the runs.
type tally struct {
	Completed, Aborted                        int // migrations
	Compensations, Repeated                   int // Repeated: carried out again after a crash before the record
	Coordinators, Fenced                      int
	Crashes, CrashesInRecover, CrashesInAbort int
	Asked                                     map[recovery.Reason]int
}

func (n *tally) add(w *world) {
	for _, l := range w.lanes {
		for _, m := range l.moves {
			if m.events[len(m.events)-1] == "aborted" {
				n.Aborted++
			} else {
				n.Completed++
			}
		}
	}
	for _, times := range w.executed {
		n.Compensations++
		n.Repeated += times - 1
	}
	for reason, times := range w.asked {
		if n.Asked == nil {
			n.Asked = map[recovery.Reason]int{}
		}
		n.Asked[reason] += times
	}
	n.Coordinators += int(w.epochs)
	n.Crashes += w.crashes
	n.CrashesInRecover += w.crashesInRecover
	n.CrashesInAbort += w.crashesInAbort
	n.Fenced += w.fenced
}

// randomRun lets coordinators run and crash. The store is opened again after some crashes.
func randomRun(t testing.TB, dir string, seed uint64) *world {
	rng := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, 1+rng.IntN(3), 1+rng.IntN(2))
	w.newID = func() (id checkpoint.MigrationID) {
		id[0], id[15] = byte(rng.Uint32()), byte(w.begun()+1)
		return id
	}
	w.open(dir, w.clock)
	crashRate, crashes, most := []float64{0.02, 0.1, 0.3}[rng.IntN(3)], 2+rng.IntN(6), 1+rng.IntN(2)
	for w.failure == "" && crashes > 0 && !w.done() {
		if len(w.live) == 0 && rng.IntN(2) == 0 {
			w.reopen()
		}
		if len(w.live) == 0 || len(w.live) < most && rng.IntN(10) == 0 {
			w.start(coordinator{stale: rng.IntN(3) == 0, blind: rng.IntN(5) == 0, rewind: rng.IntN(5) == 0})
		}
		if rng.IntN(50) == 0 {
			w.changeMembership(rng)
		}
		c := w.live[rng.IntN(len(w.live))]
		if rng.Float64() < crashRate {
			w.crash(c)
			crashes--
		} else {
			w.step(c)
		}
	}
	for len(w.live) > 0 && w.failure == "" {
		w.step(w.live[rng.IntN(len(w.live))])
	}
	w.finish(rng.IntN(2) == 0)
	w.checkLog()
	require.NoError(t, w.store.Close())
	require.NoError(t, os.RemoveAll(w.dir))
	return w
}

func (w *world) begun() (n int) {
	for _, l := range w.lanes {
		n += len(l.moves)
	}
	return n
}

// changeMembership lets the target of a move leave the cluster or come back.
func (w *world) changeMembership(rng *rand.Rand) {
	m := w.lanes[rng.IntN(len(w.lanes))].last()
	switch {
	case m == nil:
	case w.cluster.Member(m.Target):
		w.steps = append(w.steps, fmt.Sprintf("node %d leaves", m.Target))
		w.cluster.RemoveNode(m.Target)
	default:
		w.steps = append(w.steps, fmt.Sprintf("node %d comes back", m.Target))
		w.cluster.RestoreNode(m.Target)
	}
}

// checkLog compares the events in the files with the events that the test has observed.
func (w *world) checkLog() {
	if w.failure != "" {
		return
	}
	reader, err := replay.Open(w.dir)
	require.NoError(w.t, err)
	events := map[checkpoint.MigrationID][]string{}
	for r, err := range reader.Records(w.t.Context(), replay.Query{}) {
		require.NoError(w.t, err)
		id := r.Event.Migration()
		switch e := r.Event.(type) {
		case checkpoint.Upserted:
			events[id] = append(events[id], e.Checkpoint.Phase().String())
		case checkpoint.AbortBegun:
			events[id] = append(events[id], "abort begun")
		case checkpoint.Compensated:
			events[id] = append(events[id], fmt.Sprintf("step %d", e.Step))
		case checkpoint.Aborted:
			events[id] = append(events[id], "aborted")
			if n := len(e.Compensations); !strings.HasSuffix(strings.Join(events[id], ","), fmt.Sprintf("step %d,aborted", n-1)) {
				w.failf("migration %s: the abort has %d compensations, and not all are recorded", id, n)
			}
		case checkpoint.Removed:
			events[id] = append(events[id], "removed")
		}
	}
	for _, l := range w.lanes {
		for _, m := range l.moves {
			if fmt.Sprint(events[m.MigrationID]) != fmt.Sprint(m.events) {
				w.failf("migration %s: the log has the events %q instead of %q", m.MigrationID, events[m.MigrationID], m.events)
			}
		}
	}
}
