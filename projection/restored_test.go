package projection_test

import (
	"math/rand/v2"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// replicated is a view of events of a few migrations, each of which has an index.
type replicated struct {
	*projection.View
	seq uint64
}

func (r *replicated) apply(e checkpoint.Event, index uint64) {
	c := projection.ChangeOf(e)
	c.SetIndex(index)
	r.seq++
	r.ApplyChange(r.seq, r.Slot(e.Migration()).LastSeq(), c)
}

// restored returns a view with the same rows, each of which comes from a restored event.
func (r *replicated) restored(t testing.TB) *replicated {
	next := &replicated{View: projection.New()}
	for slot := range r.RowSlots() {
		b, err := slot.AppendRestored(nil)
		require.NoError(t, err)
		e, err := checkpoint.DecodeEvent(b)
		require.NoError(t, err)
		index, term, ok := checkpoint.PeekPosition(b)
		require.True(t, ok)
		require.Zero(t, term)
		require.Equal(t, slot.LastIndex(), index)
		next.apply(e, index)
	}
	return next
}

// bodies returns the restored event of each row.
func (r *replicated) bodies(t testing.TB) map[checkpoint.MigrationID]string {
	bodies := map[checkpoint.MigrationID]string{}
	for row := range r.Rows() {
		b, err := r.AppendRestored(nil, row.Checkpoint.MigrationID)
		require.NoError(t, err)
		bodies[row.Checkpoint.MigrationID] = string(b)
	}
	return bodies
}

// randomEvent returns an event of one of a few migrations, often one that changes much.
func randomEvent(t testing.TB, rng *rand.Rand) checkpoint.Event {
	id := checkpoint.MigrationID{1 + byte(rng.IntN(4))}
	node := rng.Uint64N(25)
	comps := make([]checkpoint.Compensation, rng.IntN(11))
	for i := range comps {
		comps[i] = checkpoint.Compensation{Kind: checkpoint.RemoveVoter, GroupID: 1, PeerID: uint64(i)}
	}
	switch rng.IntN(16) {
	case 0:
		return checkpoint.Removed{MigrationID: id, TimestampMS: node}
	case 1:
		return checkpoint.Aborted{MigrationID: id, Reason: "stale", TimestampMS: node}
	case 2, 3:
		return checkpoint.AbortBegun{MigrationID: id, Reason: "stale", Compensations: comps, TimestampMS: node}
	case 4, 5:
		return checkpoint.Compensated{MigrationID: id, Step: uint32(rng.IntN(10)), TimestampMS: node}
	case 6:
		return checkpoint.EpochRaised{MigrationID: id, Epoch: 1 + node}
	}
	payloads := []checkpoint.Payload{
		checkpoint.AddLearner{SourceNode: node, TargetNode: node, SourceGroup: 1, WritePauseBudgetUS: node, StartedAtHLC: checkpoint.HLC{WallNS: node, Logical: 1}},
		checkpoint.CatchUp{LearnerLogIndexAtAdd: node}, checkpoint.PromoteLearner{TargetNode: node, SourceGroup: 1},
		checkpoint.LeadershipTransfer{NewLeaderNodeID: node, SourceGroup: 1}, checkpoint.Cutover{NewLeaderNodeID: node, SourceGroup: 1}, checkpoint.Complete{},
	}
	c, err := checkpoint.New(id, uint32(rng.IntN(4)), payloads[rng.IntN(len(payloads))], node)
	require.NoError(t, err)
	return checkpoint.Upserted{Checkpoint: c}
}

// A view of restored events has the same restored events as the view from which they come. It keeps
// them after any further events, also through a snapshot.
func TestAppendRestored_SameOnAllMembers(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	members := []*replicated{{View: projection.New()}, {View: projection.New(), seq: 1000}}
	for index := uint64(1); index <= 3000; index++ {
		e := randomEvent(t, rng)
		if checkpoint.KindOf(e).Effect() == checkpoint.EffectAbort && members[0].Slot(e.Migration()).Latest() == nil {
			continue // a replicated store refuses it
		}
		for i, m := range members {
			m.apply(e, index)
			if index%13 == 0 && i == 0 {
				continue // this member is never restored
			}
			switch index % 13 {
			case 0:
				members[i] = m.restored(t)
			case 5:
				b, err := m.Snapshot()
				require.NoError(t, err)
				v, err := projection.Restore(m.seq, b)
				require.NoError(t, err)
				require.True(t, v.Equal(m.View))
				members[i].View = v
			}
		}
		require.Equal(t, members[0].bodies(t), members[1].bodies(t), "seed %d, index %d", seed, index)
	}
}

// A restored row has the facts of its event, no first seq, and neither gaps nor doubt, whatever was
// lost before.
func TestRestored_Row(t *testing.T) {
	before := newHistory(t)
	before.upsert(2, addLearner)
	before.upsert(1, promote)
	before.apply(begun(steps...))
	before.apply(compensated(1))
	before.unknown()
	want := before.facts()
	want.BeganSeq, want.UnknownSeq = 0, 0
	abort := *want.Abort
	want.Abort = &abort
	abort.Seq = 7

	b, err := before.AppendRestored(nil, migration)
	require.NoError(t, err)
	e, err := checkpoint.DecodeEvent(b)
	require.NoError(t, err)
	h := newHistory(t)
	h.lose(6)
	h.Apply(7, 4, e)
	require.Equal(t, want, h.facts())
	require.Equal(t, projection.None, h.Doubt(migration))
	row, _ := h.Get(migration)
	require.EqualValues(t, 7, row.Seq)
	require.Zero(t, row.LastIndex)

	h = newHistory(t)
	h.Apply(7, 0, e)
	again := h.restored().facts()
	require.Equal(t, want, again)
	h.apply(checkpoint.Aborted{MigrationID: migration})
	require.Zero(t, h.Len())
}

// A restored abort keeps whether the row was recorded during the abort.
func TestRestored_AbortBeforeTheRow(t *testing.T) {
	for _, confirmed := range []bool{false, true} {
		h := newHistory(t)
		h.upsert(0, addLearner)
		h.apply(begun(steps...))
		if confirmed {
			h.upsert(0, addLearner)
		}
		b, err := h.AppendRestored(nil, migration)
		require.NoError(t, err)
		e, err := checkpoint.DecodeEvent(b)
		require.NoError(t, err)
		require.Equal(t, confirmed, e.(checkpoint.Restored).Facts.Abort.BeforeCheckpoint)
		h = newHistory(t)
		h.apply(e)
		row, _ := h.restored().Get(migration)
		require.Equal(t, confirmed, row.Facts.Abort.Seq < row.Seq)
		again, err := h.restored().AppendRestored(nil, migration)
		require.NoError(t, err)
		require.Equal(t, b, again)
	}
}

// A row in a snapshot has the index of the migration's last event of any kind, in any form of CBOR.
func TestSnapshot_KeepsTheIndex(t *testing.T) {
	r := &replicated{View: projection.New()}
	c, err := checkpoint.New(migration, 0, catchUp, 1)
	require.NoError(t, err)
	r.apply(checkpoint.Upserted{Checkpoint: c}, 40)
	r.apply(checkpoint.EpochRaised{MigrationID: migration, Epoch: 1}, 41)
	unknown := projection.UnknownChange(checkpoint.MigrationID{2})
	unknown.SetIndex(42)
	r.ApplyChange(3, 0, unknown)
	require.Zero(t, r.Slot(checkpoint.MigrationID{2}).LastIndex(), "it has no row")
	b, err := r.Snapshot()
	require.NoError(t, err)
	for _, body := range [][]byte{b, inAnotherForm(t, b)} {
		v, err := projection.Restore(3, body)
		require.NoError(t, err)
		require.True(t, r.Equal(v))
		require.EqualValues(t, 41, v.Slot(migration).LastIndex())
		row, _ := v.Get(migration)
		require.EqualValues(t, 41, row.LastIndex)
		require.Zero(t, v.Slot(checkpoint.MigrationID{3}).LastIndex())
	}
	other := &replicated{View: projection.New()}
	other.apply(checkpoint.Upserted{Checkpoint: c}, 40)
	other.apply(checkpoint.EpochRaised{MigrationID: migration, Epoch: 1}, 40)
	other.ApplyChange(3, 0, projection.UnknownChange(checkpoint.MigrationID{2}))
	require.False(t, r.Equal(other.View), "another index")
}

// inAnotherForm returns the body of a snapshot with an unknown key in each row.
func inAnotherForm(t testing.TB, b []byte) []byte {
	var store map[uint64]any
	left, err := cbor.UnmarshalFirst(b, &store)
	require.NoError(t, err)
	var rows []byte
	for len(left) > 0 {
		var row map[uint64]any
		left, err = cbor.UnmarshalFirst(left, &row)
		require.NoError(t, err)
		row[99] = "a key of a later version"
		b, err := cbor.Marshal(row)
		require.NoError(t, err)
		rows = append(rows, b...)
	}
	store[2] = []int{len(rows)}
	head, err := cbor.Marshal(store)
	require.NoError(t, err)
	return append(head, rows...)
}

// The function that observes a batch gets each event once, with the row before and after it.
func TestBatch_Observe(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	v, b := projection.New(), projection.Batch{}
	rows := map[checkpoint.MigrationID]string{} // as observed
	b.Observe(func(before, after projection.Slot) {
		old, err := before.AppendRestored(nil)
		require.NoError(t, err)
		now, err := after.AppendRestored(nil)
		require.NoError(t, err)
		id := after.Latest()
		if old != nil {
			key := before.Latest().Checkpoint.MigrationID
			require.Equal(t, rows[key], string(old))
			delete(rows, key)
		}
		if id != nil {
			rows[id.Checkpoint.MigrationID] = string(now)
		}
	})
	for seq := uint64(1); seq < 2000; {
		b.Begin(v)
		for range 7 {
			e := randomEvent(t, rng)
			c := projection.ChangeOf(e)
			c.SetIndex(seq)
			b.Add(b.Lookup(e.Migration()), seq, c)
			seq++
		}
		b.ApplyAdded()
		seen := len(rows)
		v = b.Fold()
		require.Len(t, rows, seen, "ApplyAdded has applied all events")
		require.Equal(t, (&replicated{View: v}).bodies(t), rows)
	}
}

// A lost digest changes no row. The link of the next digest shows that the lost event is one, so no
// migration is in doubt, and the store's own id is not listed as one.
func TestDoubt_LostDigest(t *testing.T) {
	h := newHistory(t)
	h.upsert(0, addLearner)
	h.Apply(2, 0, checkpoint.Digest{})
	h.lose(1)
	require.Equal(t, projection.InDoubt, h.Doubt(checkpoint.MigrationID{9}), "not known yet")
	require.Equal(t, projection.None, h.Doubt(checkpoint.StoreID))
	h.Apply(4, 3, checkpoint.Digest{})
	require.Equal(t, projection.None, h.Doubt(checkpoint.MigrationID{9}))
	require.Equal(t, projection.None, h.Doubt(migration))
	require.Empty(t, h.InDoubtWithoutRow())
	h.lose(1)
	h.Attribute(5, checkpoint.StoreID)
	require.Empty(t, h.InDoubtWithoutRow())
}
