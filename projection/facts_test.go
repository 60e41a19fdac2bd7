package projection_test

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// migration is the id of all events in the tests of this file.
var migration = checkpoint.MigrationID{1}

// history applies events of one migration, each with the next seq and with a link to the one before
// it.
type history struct {
	t testing.TB
	*projection.View
}

func newHistory(t testing.TB) history { return history{t, projection.New()} }

func (h history) link() (seq, prevSeq uint64) { return h.LastSeq() + 1, h.Slot(migration).LastSeq() }

func (h history) apply(e checkpoint.Event) {
	seq, prevSeq := h.link()
	h.Apply(seq, prevSeq, e)
}

func (h history) upsert(attempt uint32, p checkpoint.Payload) {
	c, err := checkpoint.New(migration, attempt, p, 5)
	require.NoError(h.t, err)
	h.apply(checkpoint.Upserted{Checkpoint: c})
}

func (h history) unknown() {
	seq, prevSeq := h.link()
	h.ApplyUnknown(seq, prevSeq, migration)
}

// lose marks the next events as lost.
func (h history) lose(n uint64) { h.MarkLost(h.LastSeq()+1, h.LastSeq()+n) }

func (h history) facts() projection.Facts {
	row, ok := h.Get(migration)
	require.True(h.t, ok)
	return row.Facts
}

// restored returns a history that continues from a snapshot.
func (h history) restored() history {
	b, err := h.Snapshot()
	require.NoError(h.t, err)
	v, err := projection.Restore(h.LastSeq(), b)
	require.NoError(h.t, err)
	require.True(h.t, h.Equal(v))
	require.Equal(h.t, h.All(), v.All())
	return history{h.t, v}
}

var (
	addLearner = checkpoint.AddLearner{VShardID: 22, SourceNode: 5, TargetNode: 3, SourceGroup: 9}
	catchUp    = checkpoint.CatchUp{VShardID: 22}
	promote    = checkpoint.PromoteLearner{VShardID: 22, TargetNode: 3, SourceGroup: 9}
	transfer   = checkpoint.LeadershipTransfer{VShardID: 22, NewLeaderNodeID: 3, SourceGroup: 9}
	cutover    = checkpoint.Cutover{VShardID: 22, NewLeaderNodeID: 3, SourceGroup: 9}
)

// steps are the compensations of the aborts in this file.
var steps = []checkpoint.Compensation{
	{Kind: checkpoint.RemoveVoter, GroupID: 9, PeerID: 3}, {Kind: checkpoint.RestoreLeaderHint, GroupID: 9, PeerID: 5},
}

func begun(comps ...checkpoint.Compensation) checkpoint.Event {
	return checkpoint.AbortBegun{MigrationID: migration, Reason: "stale", Compensations: comps, TimestampMS: 7}
}

func compensated(step uint32) checkpoint.Event {
	return checkpoint.Compensated{MigrationID: migration, Step: step, TimestampMS: 8}
}

// The facts have the furthest phase, all recorded phases, and the highest attempt of each. A second
// incarnation begins without them.
func TestFacts_PhasesAndAttempts(t *testing.T) {
	h := newHistory(t)
	h.upsert(3, addLearner)
	h.upsert(4, addLearner)
	require.Equal(t, [6]uint32{4}, h.restored().facts().HighestAttempt)
	h.upsert(0, transfer)
	require.Equal(t, [6]uint32{4}, h.restored().facts().HighestAttempt)
	h.upsert(2, catchUp)
	require.Equal(t, [6]uint32{4, 2}, h.restored().facts().HighestAttempt)
	h.upsert(1, catchUp)
	for range 2 {
		f := h.facts()
		require.Equal(t, checkpoint.PhaseLeadershipTransfer, f.FurthestPhase)
		require.EqualValues(t, 0b1011, f.RecordedPhases)
		require.Equal(t, [6]uint32{4, 2, 0, 0, 0, 0}, f.HighestAttempt)
		require.EqualValues(t, 1, f.BeganSeq)
		h = h.restored()
	}
	h.apply(checkpoint.Removed{MigrationID: migration})
	require.Zero(t, h.Slot(migration).Facts())
	h.upsert(0, catchUp)
	for range 2 {
		f := h.facts()
		require.Equal(t, checkpoint.PhaseCatchUp, f.FurthestPhase)
		require.EqualValues(t, 0b10, f.RecordedPhases)
		require.Zero(t, f.HighestAttempt)
		require.EqualValues(t, 7, f.BeganSeq)
		require.False(t, f.HasTarget)
		h = h.restored()
	}
}

// LastSeq is the seq of the last event of any kind. Seq is that of the latest checkpoint.
func TestRow_LastSeq(t *testing.T) {
	h := newHistory(t)
	h.upsert(0, addLearner)
	for _, next := range []func(){
		func() { h.unknown() },
		func() { h.apply(begun(steps...)) },
		func() { h.apply(compensated(0)) },
		func() { h.apply(checkpoint.EpochRaised{MigrationID: migration, Epoch: 3}) },
	} {
		next()
		row, ok := h.restored().Get(migration)
		require.True(t, ok)
		require.EqualValues(t, 1, row.Seq)
		require.Equal(t, h.LastSeq(), row.LastSeq)
		require.Equal(t, row.LastSeq, h.Slot(migration).LastSeq(), "the next event is linked to it")
	}
	h.upsert(0, catchUp)
	row, _ := h.Get(migration)
	require.EqualValues(t, 6, row.Seq)
	require.EqualValues(t, 6, row.LastSeq)
	require.EqualValues(t, 5, row.PrevSeq)
}

// Targets lists the pairs of group and target in the order in which they were first recorded, if
// there is more than one.
func TestFacts_Targets(t *testing.T) {
	h := newHistory(t)
	h.upsert(0, addLearner)
	h.upsert(0, promote)
	require.Nil(t, h.facts().Targets)
	other := promote
	other.TargetNode = 4
	h.upsert(1, other)
	earlier := h.facts().Targets
	want := []projection.Target{{GroupID: 9, PeerID: 3}, {GroupID: 9, PeerID: 4}}
	require.Equal(t, want, earlier)
	h.upsert(2, promote)
	for range 2 {
		require.Equal(t, want, h.facts().Targets)
		require.EqualValues(t, 3, h.facts().TargetNode)
		h = h.restored()
	}
	h.upsert(3, checkpoint.AddLearner{TargetNode: 3, SourceGroup: 8})
	require.Equal(t, append(want, projection.Target{GroupID: 8, PeerID: 3}), h.restored().facts().Targets)
	require.Equal(t, want, earlier, "an earlier result does not change")
	var versions [2]*projection.View
	for i := range versions { // both continue from the same view
		var batch projection.Batch
		batch.Begin(h.View)
		c, err := checkpoint.New(migration, 4, checkpoint.Cutover{NewLeaderNodeID: uint64(i), SourceGroup: 1}, 5)
		require.NoError(t, err)
		batch.Add(batch.Lookup(migration), h.LastSeq()+1, projection.ChangeOf(checkpoint.Upserted{Checkpoint: c}))
		versions[i] = batch.Fold()
	}
	for i, v := range versions {
		require.Equal(t, projection.Target{GroupID: 1, PeerID: uint64(i)}, history{t, v}.facts().Targets[3])
	}
	for n := range uint64(2 * projection.MaxTargets) {
		h.upsert(uint32(n)+5, checkpoint.Cutover{NewLeaderNodeID: n, SourceGroup: 2})
	}
	require.Len(t, h.restored().facts().Targets, projection.MaxTargets)
	require.Equal(t, want, h.facts().Targets[:2])
	h.apply(checkpoint.Aborted{MigrationID: migration})
	h.upsert(0, addLearner)
	require.Nil(t, h.facts().Targets)
}

// UnknownSeq is the last event of an unknown kind after the latest checkpoint. Other events do not
// reset it.
func TestFacts_UnknownSeq(t *testing.T) {
	h := newHistory(t)
	h.unknown()
	h.upsert(0, addLearner)
	require.Zero(t, h.facts().UnknownSeq)
	h.unknown()
	h.unknown()
	h.apply(begun())
	require.EqualValues(t, 4, h.restored().facts().UnknownSeq)
	h.upsert(0, catchUp)
	require.Zero(t, h.restored().facts().UnknownSeq)
	require.EqualValues(t, 1, h.facts().BeganSeq, "the event of an unknown kind began the incarnation")
}

// BeganSeq is 0 if the first event of the incarnation is lost, or may be lost.
func TestFacts_BeganSeq(t *testing.T) {
	for name, tc := range map[string]struct {
		history func(h history)
		want    uint64
	}{
		"nothing lost": {func(h history) { h.upsert(0, addLearner); h.upsert(0, catchUp) }, 1},
		"its first event lost, as its link shows": {func(h history) {
			h.lose(1)
			h.Apply(2, 1, checkpoint.Upserted{Checkpoint: checkpoint.Checkpoint{MigrationID: migration, Payload: catchUp}})
		}, 0},
		"perhaps its first event lost":  {func(h history) { h.lose(1); h.upsert(0, catchUp) }, 0},
		"began with AddLearner":         {func(h history) { h.lose(1); h.upsert(0, addLearner) }, 2},
		"an event after the first lost": {func(h history) { h.upsert(0, catchUp); h.lose(1); h.upsert(0, promote) }, 1},
		"a lost event of another": {func(h history) {
			h.lose(1)
			h.upsert(0, catchUp)
			h.Apply(3, 1, checkpoint.Removed{MigrationID: checkpoint.MigrationID{9}})
		}, 2},
		"the second incarnation": {func(h history) {
			h.upsert(0, addLearner)
			h.apply(checkpoint.Removed{MigrationID: migration})
			h.upsert(0, addLearner)
		}, 3},
		"written without the first event": {func(h history) { h.upsert(0, addLearner); h.Apply(2, 0, begun()); h.upsert(0, promote) }, 1},
	} {
		h := newHistory(t)
		tc.history(h)
		require.Equal(t, tc.want, h.facts().BeganSeq, name)
	}
}

// From abort_begun to the abort, the row stays and shows the abort with its finished steps. A row
// that was returned does not change.
func TestFacts_Abort(t *testing.T) {
	h := newHistory(t)
	h.upsert(0, addLearner)
	h.upsert(0, promote)
	require.Nil(t, h.facts().Abort)
	comps := append([]checkpoint.Compensation{}, steps...)
	h.apply(begun(comps...))
	comps[0].PeerID = 99 // the caller's list is not shared
	want := projection.AbortProgress{Seq: 3, Reason: "stale", Compensations: steps, Done: []bool{false, false}, TimestampMS: 7}
	first := h.facts().Abort
	require.Equal(t, &want, first)
	for _, step := range []uint32{1, 1, 2, 1 << 31} { // a repeated step counts once, and an unknown step not at all
		h.apply(compensated(step))
		h = h.restored()
	}
	require.Equal(t, []bool{false, true}, h.facts().Abort.Done)
	require.Equal(t, &want, first, "an earlier result does not change")
	require.EqualValues(t, 7, h.LastSeq())

	h.upsert(1, promote)
	require.EqualValues(t, 3, h.facts().Abort.Seq, "the abort stays when the row is confirmed")
	h.apply(begun(steps...))
	require.EqualValues(t, 9, h.facts().Abort.Seq)
	require.Equal(t, []bool{false, true}, h.facts().Abort.Done, "the same abort, begun again")
	h.apply(begun(steps[:1]...))
	require.Equal(t, []bool{false}, h.facts().Abort.Done, "another abort")
	for _, end := range []checkpoint.Event{
		checkpoint.Aborted{MigrationID: migration, Compensations: steps}, checkpoint.Removed{MigrationID: migration},
	} {
		ended := h.restored()
		ended.apply(end)
		require.Zero(t, ended.Len())
		require.Zero(t, ended.Slot(migration).LastSeq())
		ended.upsert(0, addLearner)
		require.Nil(t, ended.restored().facts().Abort, "the next incarnation has no abort")
	}
}

// The new kinds are accepted in any order, also for a migration without a row.
func TestFacts_AbortInAnyOrder(t *testing.T) {
	h := newHistory(t)
	h.apply(compensated(0))
	h.apply(checkpoint.EpochRaised{MigrationID: migration, Epoch: 2})
	h = h.restored()
	require.Zero(t, h.Len())
	require.Nil(t, h.Slot(migration).Latest())
	h.apply(begun(steps...))
	h.apply(compensated(0))
	h = h.restored()
	require.EqualValues(t, 4, h.Slot(migration).LastSeq())
	h.upsert(0, addLearner)
	f := h.restored().facts()
	require.Equal(t, []bool{true, false}, f.Abort.Done, "the abort was begun before the first checkpoint")
	require.EqualValues(t, 1, f.BeganSeq)
	h.Apply(6, 0, checkpoint.Upserted{Checkpoint: checkpoint.Checkpoint{MigrationID: migration, Payload: addLearner}})
	require.Nil(t, h.facts().Abort, "an upsert without a link begins an incarnation")
}

// D5: a lost event leaves a migration in doubt also if events of an abort follow, because these do
// not supersede the row.
func TestD5_AbortDoesNotSupersede(t *testing.T) {
	for name, next := range map[string]checkpoint.Event{
		"abort_begun": begun(steps...), "compensated": compensated(0), "epoch_raised": checkpoint.EpochRaised{MigrationID: migration, Epoch: 1},
	} {
		h := newHistory(t)
		h.upsert(0, addLearner)
		h.lose(1)
		h.apply(next)
		require.Equal(t, projection.InDoubt, h.Doubt(migration), name)
		require.True(t, h.facts().TargetUncertain, name)
		h.upsert(0, catchUp)
		require.Equal(t, projection.Superseded, h.Doubt(migration), name)
	}
}

// Epoch is the highest epoch of an event of any kind, also of an unknown one. A lost event may have
// had a higher one, unless a snapshot has it.
func TestView_Epoch(t *testing.T) {
	h := newHistory(t)
	require.Zero(t, h.Epoch())
	c, err := checkpoint.New(migration, 0, addLearner, 5)
	require.NoError(t, err)
	for _, e := range []checkpoint.Event{
		checkpoint.Upserted{Checkpoint: c, Epoch: 1},
		checkpoint.AbortBegun{MigrationID: migration, Epoch: 2},
		checkpoint.Compensated{MigrationID: migration, Epoch: 3},
		checkpoint.Aborted{MigrationID: migration, Epoch: 4},
		checkpoint.Removed{MigrationID: migration, Epoch: 5},
		checkpoint.EpochRaised{MigrationID: migration, Epoch: 6},
	} {
		h.apply(e)
		require.Equal(t, h.LastSeq(), h.Epoch(), "%T", e)
		require.Equal(t, h.Epoch(), h.restored().Epoch())
	}
	h.RaiseEpoch(9)
	h.apply(checkpoint.Removed{MigrationID: migration, Epoch: 1})
	require.EqualValues(t, 9, h.restored().Epoch())
	require.False(t, h.EpochUncertain())

	body, err := h.Snapshot()
	require.NoError(t, err)
	lossy := newHistory(t)
	lossy.lose(h.LastSeq() - 1)
	require.True(t, lossy.EpochUncertain())
	lossy.apply(checkpoint.Removed{MigrationID: migration, Epoch: 1})
	require.EqualValues(t, 1, lossy.Epoch())
	require.True(t, lossy.EpochUncertain(), "an event with a lower epoch")
	for _, restore := range []func(uint64, []byte) (*projection.View, error){projection.Restore, projection.RestoreV2} {
		snapshot, err := restore(h.LastSeq(), body)
		require.NoError(t, err)
		v := *lossy.View
		v.AdoptSnapshot(snapshot)
		if v.EpochUncertain() {
			require.EqualValues(t, 1, v.Epoch(), "a snapshot of version 2 has no epoch")
			continue
		}
		require.EqualValues(t, 9, v.Epoch())
	}
}

// snapshotV2 is the body of a snapshot that version 2 wrote: migration 1 with an AddLearner at seq
// 1 and a PromoteLearner, attempt 3, at seq 2; migration 2 with a CatchUp at seq 3; and migration 3
// with an event of an unknown kind at seq 4.
const snapshotV2 = "a2010302811883" +
	"a501020201030204582aa701010250010000000000000000000000000000000305040305030647a3011602030309071a226769f905a40103020503030409" +
	"a301030303045828a701010250020000000000000000000000000000000305040105020645a201170200071abe084ad3" +
	"a20304075003000000000000000000000000000000"

// A snapshot of version 2 does not have all facts. They are derived from the latest checkpoints.
func TestRestoreV2_DerivesFacts(t *testing.T) {
	body, err := hex.DecodeString(snapshotV2)
	require.NoError(t, err)
	v, err := projection.RestoreV2(4, body)
	require.NoError(t, err)
	require.True(t, v.EpochUncertain())
	require.Equal(t, 2, v.Len())
	row, ok := v.Get(migration)
	require.True(t, ok)
	require.Equal(t, projection.Facts{
		SourceNode: 5, TargetNode: 3, SourceGroup: 9, HasSource: true, HasTarget: true,
		FurthestPhase: checkpoint.PhasePromoteLearner, RecordedPhases: 0b101, HighestAttempt: [6]uint32{0, 0, 3},
	}, row.Facts)
	require.EqualValues(t, 2, row.LastSeq)
	row, ok = v.Get(checkpoint.MigrationID{2})
	require.True(t, ok)
	require.EqualValues(t, 0b10, row.Facts.RecordedPhases)
	require.EqualValues(t, 4, v.Slot(checkpoint.MigrationID{3}).LastSeq())
}

// D5: if a snapshot of version 2 is adopted after a loss, a migration keeps the facts of its events
// if none of them is missing. A migration with a missing event gets the facts of the snapshot.
func TestD5_AdoptVersion2(t *testing.T) {
	h := newHistory(t)
	other, third, fourth := checkpoint.MigrationID{2}, checkpoint.MigrationID{3}, checkpoint.MigrationID{4}
	begin := func(id checkpoint.MigrationID, attempt uint32, p checkpoint.Payload) checkpoint.Event {
		c, err := checkpoint.New(id, attempt, p, 5)
		require.NoError(t, err)
		return checkpoint.Upserted{Checkpoint: c}
	}
	h.MarkLost(1, 1)
	h.Apply(2, 1, begin(other, 0, catchUp))
	h.Apply(3, 2, checkpoint.AbortBegun{MigrationID: other, Compensations: steps})
	h.Apply(4, 0, begin(migration, 7, cutover))
	h.Apply(5, 4, begin(migration, 8, addLearner))
	h.Apply(6, 5, begun(steps...))
	h.Apply(7, 0, begin(third, 0, cutover))
	h.MarkLost(8, 8)
	h.Apply(9, 8, begin(third, 0, catchUp))
	h.Apply(10, 0, begin(fourth, 0, addLearner))
	h.MarkLost(11, 11)
	h.Apply(12, 0, begin(checkpoint.MigrationID{5}, 0, addLearner))
	whole := h.facts()

	snapshot := projection.New() // as version 2 had it, which did not know the kind of seq 3 and 6
	snapshot.Apply(1, 0, begin(other, 0, addLearner))
	snapshot.Apply(2, 1, begin(other, 0, catchUp))
	snapshot.ApplyUnknown(3, 2, other)
	snapshot.Apply(5, 0, begin(migration, 8, addLearner))
	snapshot.ApplyUnknown(6, 5, migration)
	snapshot.Apply(9, 0, begin(third, 0, catchUp))
	snapshot.Apply(11, 0, begin(fourth, 0, promote))
	snapshot.Apply(12, 0, begin(checkpoint.MigrationID{5}, 0, addLearner))
	body, err := snapshot.Snapshot()
	require.NoError(t, err)
	v2, err := projection.RestoreV2(12, body)
	require.NoError(t, err)
	h.AdoptSnapshot(v2)

	whole.TargetUncertain, whole.SourceUncertain, whole.BeganSeq = false, false, 4
	require.Equal(t, whole, h.facts())
	require.EqualValues(t, 6, h.facts().Abort.Seq)
	require.Equal(t, [6]uint32{8, 0, 0, 0, 7}, h.facts().HighestAttempt)
	require.Equal(t, projection.None, h.Doubt(migration))
	row, ok := h.Get(other)
	require.True(t, ok)
	require.True(t, row.Facts.HasTarget, "the lost event had the target, and the snapshot has it")
	require.Nil(t, row.Facts.Abort)
	require.EqualValues(t, 3, row.Facts.UnknownSeq, "an event that the writer of the snapshot did not know")
	require.Equal(t, projection.None, h.Doubt(other))
	row, ok = h.Get(third)
	require.True(t, ok)
	require.Equal(t, checkpoint.PhaseCatchUp, row.Facts.FurthestPhase, "the lost event may have ended an incarnation")
	row, ok = h.Get(fourth)
	require.True(t, ok)
	require.EqualValues(t, 11, row.Seq, "the lost event was the last one")
}
