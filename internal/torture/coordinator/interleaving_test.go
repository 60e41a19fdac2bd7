package coordinator_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
)

// There is one migration. At most two coordinators run at a time, and at most three in all. A
// coordinator that replaces a crashed one is not counted. The coordinators start at every point,
// take their steps in every order, and crash at every point.
// From each state that they reach, all coordinators crash, and one that runs alone ends the
// migration. The same must hold as after random crashes.
func TestRecover_EveryInterleaving(t *testing.T) {
	x := explore(t, *crashesFlag, func(*world) {})
	require.Empty(t, x.failure, "to repeat it: go test ./internal/torture/coordinator -run TestRecover_EveryInterleaving -crashes %d", *crashesFlag)
	t.Logf("%d crashes: %d states, %d paths, %d completed, %d aborted, at most %d steps",
		*crashesFlag, len(x.states), x.paths, x.completed, x.aborted, x.longest)
	require.Positive(t, min(x.completed, x.aborted))
}

// If coordinators read the leader of a group without fencing it, a transfer of an earlier one can
// commit after the abort was planned. If the cluster accepts effects with an old epoch, a late
// effect is carried out. The exploration finds both.
func TestRecover_HandlersMustFence(t *testing.T) {
	x := explore(t, 0, func(w *world) { w.unfencedLeader = true })
	require.Contains(t, x.failure, "undoes the move of vShard 1, which node 3 leads")
	x = explore(t, 0, func(w *world) { w.cluster.Fence = false })
	require.NotEmpty(t, x.failure)
}

// choice is one step of a path.
type choice struct {
	kind        choiceKind
	coordinator int  // index in world.live
	stale       bool // start
}

type choiceKind uint8

const (
	start choiceKind = iota
	step
	crash
)

// exploration has the states that were reached.
type exploration struct {
	crashes int
	world   *world                     // of the present path
	states  map[[sha256.Size]byte]bool // hashes
	paths   int
	longest int // steps
	failure string

	completed, aborted int
}

// pathsPerStore limits the size of a log. The paths share a store, each with its own migration.
const pathsPerStore = 2000

// explore tries every path with at most this number of crashes, and stops at the first failure.
// change changes the world before each path. A path is not continued in a state that another one
// has reached.
func explore(t *testing.T, crashes int, change func(*world)) *exploration {
	x := &exploration{crashes: crashes, states: map[[sha256.Size]byte]bool{}}
	dir := memDir(t)
	for paths := [][]choice{nil}; len(paths) > 0 && x.failure == ""; x.paths++ {
		path := paths[len(paths)-1]
		paths = paths[:len(paths)-1]
		w := newWorld(t, 1, 1)
		w.newID = func() (id checkpoint.MigrationID) {
			binary.BigEndian.PutUint64(id[:], uint64(x.paths)+1)
			return id
		}
		if x.paths%pathsPerStore == 0 {
			x.closeStore()
			x.world = w
			w.open(filepath.Join(dir, strconv.Itoa(x.paths)), func() time.Time { return x.world.clock() })
		} else {
			w.dir, w.store, w.epochs = x.world.dir, x.world.store, x.world.store.Epoch()
			x.world = w
		}
		change(w)
		for _, next := range x.try(path) {
			paths = append(paths, append(slices.Clip(path), next))
		}
	}
	x.closeStore()
	return x
}

func (x *exploration) closeStore() {
	if x.world != nil {
		require.NoError(x.world.t, x.world.store.Close())
		require.NoError(x.world.t, os.RemoveAll(x.world.dir))
	}
}

// try takes a path. If its last state is new, try ends the migration and returns the choices in that
// state.
func (x *exploration) try(path []choice) []choice {
	w, starts := x.world, 0
	for _, c := range path {
		switch c.kind {
		case start:
			w.start(coordinator{stale: c.stale})
			starts++
		case step:
			w.step(w.live[c.coordinator])
		case crash:
			w.crash(w.live[c.coordinator])
		}
	}
	x.longest = max(x.longest, len(path))
	state := sha256.Sum256([]byte(x.state(starts)))
	if x.states[state] && w.failure == "" {
		w.crashAll()
		if m := w.lanes[0].last(); m != nil && m.hasRow {
			_, err := w.store.WriteAll([]checkpoint.Event{checkpoint.Aborted{MigrationID: m.MigrationID}})
			require.NoError(w.t, err)
		}
		return nil
	}
	x.states[state] = true
	var choices []choice
	for i := range w.live {
		choices = append(choices, choice{kind: step, coordinator: i})
		if w.crashes < x.crashes {
			choices = append(choices, choice{kind: crash, coordinator: i})
		}
	}
	if !w.done() && len(w.live) < 2 && starts < 3+w.crashes {
		choices = append(choices, choice{kind: start}, choice{kind: start, stale: true})
	}
	w.crashAll()
	w.finish(len(x.states)%2 == 0)
	if w.failure != "" {
		x.failure = w.failure + "\n\n" + strings.Join(w.steps, "\n")
	} else if m := w.lanes[0].last(); m.events[len(m.events)-1] == "aborted" {
		x.aborted++
	} else {
		x.completed++
	}
	return choices
}

// state describes everything on which the further steps depend. Of the epochs only the order matters.
func (x *exploration) state(starts int) string {
	w, l := x.world, x.world.lanes[0]
	epochs := []uint64{0, w.store.Epoch(), w.fence}
	for _, c := range w.live {
		epochs = append(epochs, c.epoch)
	}
	slices.Sort(epochs)
	epochs = slices.Compact(epochs)
	rank := func(epoch uint64) int { return slices.Index(epochs, epoch) }
	leader, _ := w.cluster.Leader(l.groupID)
	var s strings.Builder
	fmt.Fprintln(&s, w.observed(), rank(w.store.Epoch()), rank(w.fence), w.applied, w.cluster.Voters(l.groupID), w.cluster.Learners(l.groupID),
		leader, w.cluster.HasStub(l.vshardID, 1), w.crashes, starts)
	for _, c := range w.live {
		fmt.Fprintln(&s, rank(c.epoch), c.stale, c.trace)
	}
	return s.String()
}
