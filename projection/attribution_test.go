package projection_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// D5: if the migration of each lost event is known, only the migrations that lost an event are in
// doubt, and each that lost its last event is.
func TestD5_AttributedLosses(t *testing.T) {
	for seed := range uint64(3000) {
		h := randomLosses(seed)
		all, some, none := h.fold(1), h.fold(2), h.fold(0)
		for id := range h.ids {
			id := checkpoint.MigrationID{byte(id + 1)}
			truth, hasRow := h.whole.Get(id)
			for name, view := range map[string]*projection.View{"all": all, "some": some, "none": none} {
				row, ok := view.Get(id)
				right := ok == hasRow && (!ok || row.Checkpoint == truth.Checkpoint)
				if h.lastLost[id] || !right {
					require.Equal(t, projection.InDoubt, view.Doubt(id), "seed %d, %s, migration %v", seed, name, id[0])
				}
				if ok {
					require.Equal(t, view.Doubt(id), row.Doubt)
				}
			}
			if !h.hasLost[id] {
				require.Equal(t, projection.None, all.Doubt(id), "seed %d, migration %v", seed, id[0])
			}
			require.LessOrEqual(t, all.Doubt(id), none.Doubt(id), "seed %d, migration %v", seed, id[0])
			require.Equal(t, !hasRowIn(all, id) && all.Doubt(id) == projection.InDoubt, contains(all.InDoubtWithoutRow(), id))
		}
		require.Equal(t, projection.None, all.Doubt(checkpoint.MigrationID{99}))
		for range all.Unattributed() {
			t.Fatal("all lost events are attributed")
		}
	}
}

// lossyHistory is a random history of which some events are lost.
type lossyHistory struct {
	ids      int
	events   []lossyEvent
	whole    *projection.View // of all events
	hasLost  map[checkpoint.MigrationID]bool
	lastLost map[checkpoint.MigrationID]bool
}

type lossyEvent struct {
	prevSeq uint64
	event   checkpoint.Event
	lost    bool
}

func randomLosses(seed uint64) *lossyHistory {
	rng := rand.New(rand.NewPCG(seed, 5))
	h := &lossyHistory{
		ids: 1 + rng.IntN(4), whole: projection.New(),
		hasLost: map[checkpoint.MigrationID]bool{}, lastLost: map[checkpoint.MigrationID]bool{},
	}
	known := projection.New() // by the writer, which may have lost events too
	n, reopened := uint64(1+rng.IntN(20)), rng.Uint64N(40)
	for seq := uint64(1); seq <= n; seq++ {
		id := checkpoint.MigrationID{byte(1 + rng.IntN(h.ids))}
		var event checkpoint.Event
		switch payloads := []checkpoint.Payload{checkpoint.AddLearner{TargetNode: seq}, checkpoint.CatchUp{}, checkpoint.Cutover{}}; rng.IntN(6) {
		case 0:
			event = checkpoint.Removed{MigrationID: id}
		case 1:
			event = checkpoint.Compensated{MigrationID: id}
		default:
			event = checkpoint.Upserted{Checkpoint: checkpoint.Checkpoint{MigrationID: id, Payload: payloads[rng.IntN(3)], TimestampMS: seq}}
		}
		e := lossyEvent{known.Slot(id).LastSeq(), event, rng.IntN(4) == 0}
		h.events = append(h.events, e)
		if !e.lost || seq > reopened {
			known.Apply(seq, e.prevSeq, event)
		}
		h.whole.Apply(seq, e.prevSeq, event)
		h.hasLost[id] = h.hasLost[id] || e.lost
		h.lastLost[id] = e.lost
	}
	return h
}

// fold folds the events that are not lost. It attributes the lost ones at the end: none of them,
// all of them, or every second one.
func (h *lossyHistory) fold(attribute uint64) *projection.View {
	v := projection.New()
	for i, e := range h.events {
		if seq := uint64(i + 1); e.lost {
			v.MarkLost(seq, seq)
		} else {
			v.Apply(seq, e.prevSeq, e.event)
		}
	}
	for i, e := range h.events {
		if seq := uint64(i + 1); e.lost && attribute > 0 && seq%attribute == 0 {
			v.Attribute(seq, e.event.Migration())
		}
	}
	return v
}

func hasRowIn(v *projection.View, id checkpoint.MigrationID) bool { return v.Latest(id) != nil }

func contains(ids []checkpoint.MigrationID, id checkpoint.MigrationID) bool {
	for _, i := range ids {
		if i == id {
			return true
		}
	}
	return false
}

// An event that is not lost, or that a snapshot covers, is not attributed.
func TestAttribute_Resolved(t *testing.T) {
	id := checkpoint.MigrationID{1}
	v := projection.New()
	v.MarkLost(1, 2)
	v.Apply(3, 0, checkpoint.Removed{MigrationID: checkpoint.MigrationID{9}})
	v.Attribute(3, id)
	require.Empty(t, v.InDoubtWithoutRow())
	v.Attribute(1, id)
	v.Attribute(1, id)
	require.Equal(t, []checkpoint.MigrationID{id}, v.InDoubtWithoutRow())
	require.Equal(t, projection.InDoubt, v.Doubt(checkpoint.MigrationID{5}), "event 2 may be its")

	snapshot := projection.New()
	snapshot.Apply(3, 0, checkpoint.Removed{MigrationID: checkpoint.MigrationID{9}})
	v.AdoptSnapshot(snapshot)
	v.Attribute(2, id)
	require.Equal(t, projection.None, v.Doubt(id))
	require.Empty(t, v.InDoubtWithoutRow())
}
