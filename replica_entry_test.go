package migrationlog_test

import (
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/recovery"
)

func upsertAt(t testing.TB, index uint64, id checkpoint.MigrationID, attempt uint32, p checkpoint.Phase, opts ...migrationlog.WriteOption) migrationlog.Entry {
	c := row(t, id, attempt, payloadOf(p, 1, 2))
	return migrationlog.Entry{Index: index, Term: 1, Event: checkpoint.Upserted{Checkpoint: c}, Options: opts}
}

// applyOne applies one entry.
func applyOne(t testing.TB, r *migrationlog.Replica, e migrationlog.Entry) migrationlog.Applied {
	return apply(t, r, []migrationlog.Entry{e}, nil)[0]
}

// Entries do not depend on each other. A refused entry does not end the batch, and each entry has a
// result.
func TestReplica_RefusedEntries(t *testing.T) {
	r := openReplica(t, filepath.Join(memDir(t), "log"), nil)
	a, b := numberedID(0), numberedID(1)
	results := apply(t, r, []migrationlog.Entry{
		upsertAt(t, 1, a, 0, checkpoint.PhaseAddLearner, migrationlog.Epoch(5)),
		upsertAt(t, 2, b, 0, checkpoint.PhaseAddLearner, migrationlog.IfVShardFree()),
		upsertAt(t, 3, b, 0, checkpoint.PhaseAddLearner, migrationlog.Epoch(4)),
		{Index: 4, Term: 1},
		upsertAt(t, 5, a, 0, checkpoint.PhaseCutover, migrationlog.InOrder()),
		{Index: 6, Term: 1, Event: checkpoint.Compensated{MigrationID: a}},
		{Index: 7, Term: 1, Event: checkpoint.Upserted{}},
		upsertAt(t, 8, a, 0, checkpoint.PhaseAddLearner, migrationlog.IfIndex(9)),
		{Index: 9, Term: 1, Event: checkpoint.Removed{MigrationID: b}},
		upsertAt(t, 10, a, 0, checkpoint.PhaseCatchUp, migrationlog.IfIndex(1)),
		upsertAt(t, 11, a, 0, checkpoint.PhaseCatchUp, migrationlog.IfIndex(1)),
	}, nil)
	wantErrs := []error{
		nil, migrationlog.ErrMigrationInProgress, migrationlog.ErrFenced, nil, migrationlog.ErrOutOfOrder, migrationlog.ErrInvalid,
		migrationlog.ErrInvalid, nil, nil, nil, nil,
	}
	for i, want := range wantErrs {
		require.ErrorIs(t, results[i].Err, want, i)
	}
	require.Equal(t, migrationlog.Applied{Receipt: migrationlog.Receipt{Seq: 1}, Index: 1}, results[0])
	require.Equal(t, migrationlog.Applied{}, results[3])
	require.Equal(t, migrationlog.Applied{Receipt: migrationlog.Receipt{Seq: 1, Duplicate: true}, Index: 1}, results[7])
	require.Equal(t, migrationlog.Applied{}, results[8], "there is nothing to remove")
	require.Equal(t, migrationlog.Applied{Receipt: migrationlog.Receipt{Seq: 2}, Index: 10}, results[9])
	require.Equal(t, migrationlog.Applied{Receipt: migrationlog.Receipt{Seq: 2, Duplicate: true}, Index: 10}, results[10])
	require.EqualValues(t, 11, r.Digest().Index)
	require.EqualValues(t, 10, r.AppliedIndex())
	stats := r.Store().Stats()
	require.EqualValues(t, []uint64{2, 2, 5}, []uint64{stats.Appended, stats.Duplicates, stats.Refused})
	require.EqualValues(t, 5, r.Store().Epoch())

	require.NoError(t, r.Record())
	require.EqualValues(t, 11, r.AppliedIndex())
	require.EqualValues(t, 2, r.Store().Stats().Appended, "the digest event is not a write")
	for _, result := range apply(t, r, []migrationlog.Entry{removedAt(3), removedAt(11)}, nil) {
		require.Equal(t, migrationlog.Applied{Skipped: true}, result)
	}
}

// A retry with IfIndex never steps a row back, also after later phases.
func TestReplica_IfIndex(t *testing.T) {
	r := openReplica(t, filepath.Join(memDir(t), "log"), nil)
	id := numberedID(0)
	first := upsertAt(t, 3, id, 0, checkpoint.PhaseAddLearner, migrationlog.IfIndex(0))
	require.NoError(t, applyOne(t, r, first).Err)
	catchUp := upsertAt(t, 4, id, 0, checkpoint.PhaseCatchUp, migrationlog.IfIndex(3))
	require.EqualValues(t, 4, applyOne(t, r, catchUp).Index)

	retry := catchUp
	retry.Index = 5
	got := applyOne(t, r, retry)
	require.True(t, got.Receipt.Duplicate)
	require.EqualValues(t, 4, got.Index)
	require.EqualValues(t, 6, applyOne(t, r, upsertAt(t, 6, id, 0, checkpoint.PhasePromoteLearner, migrationlog.IfIndex(4))).Index)
	retry.Index = 7
	got = applyOne(t, r, retry)
	require.ErrorIs(t, got.Err, migrationlog.ErrConflict)
	require.EqualError(t, got.Err, "conflict: migration "+id.String()+" is at index 6 (PromoteLearner, attempt 0), the write expects index 3")
	c, _ := r.Store().Get(id)
	require.Equal(t, checkpoint.PhasePromoteLearner, c.Phase())

	// An abort under way, and a raised epoch, are events of the migration too.
	begin := migrationlog.Entry{Index: 8, Term: 1, Event: checkpoint.AbortBegun{MigrationID: id, Compensations: replicaSteps}, Options: []migrationlog.WriteOption{migrationlog.IfIndex(6)}}
	require.EqualValues(t, 8, applyOne(t, r, begin).Index)
	begin.Index = 9
	got = applyOne(t, r, begin)
	require.True(t, got.Receipt.Duplicate)
	require.EqualValues(t, 8, got.Index)
	raise := begin
	raise.Index, raise.Options = 10, []migrationlog.WriteOption{migrationlog.Epoch(2)}
	require.EqualValues(t, 10, applyOne(t, r, raise).Index, "the event epoch_raised is the migration's last one")
	step := migrationlog.Entry{Index: 11, Term: 1, Event: checkpoint.Compensated{MigrationID: id, Step: 1}, Options: []migrationlog.WriteOption{migrationlog.IfIndex(8)}}
	require.ErrorIs(t, applyOne(t, r, step).Err, migrationlog.ErrConflict)
	step.Index, step.Options = 12, []migrationlog.WriteOption{migrationlog.IfIndex(10)}
	require.EqualValues(t, 12, applyOne(t, r, step).Index)
	end := migrationlog.Entry{Index: 13, Term: 1, Event: checkpoint.Aborted{MigrationID: id}, Options: []migrationlog.WriteOption{migrationlog.IfIndex(12)}}
	require.EqualValues(t, 13, applyOne(t, r, end).Index)
	end.Index = 14
	require.Equal(t, migrationlog.Applied{}, applyOne(t, r, end))
	stale := upsertAt(t, 15, id, 0, checkpoint.PhaseCutover, migrationlog.IfIndex(12))
	require.ErrorContains(t, applyOne(t, r, stale).Err, "has no row, the write expects index 12")
}

// IfIndex is refused everywhere else, and an entry has no option that differs between members.
func TestReplica_Options(t *testing.T) {
	s := open(t, filepath.Join(memDir(t), "log"), nil)
	guard := migrationlog.IfIndex(0)
	_, err := s.Upsert(row(t, numberedID(0), 0, addLearner), guard)
	require.ErrorIs(t, err, migrationlog.ErrInvalid)
	require.ErrorContains(t, err, "use IfSeq")
	_, err = s.Remove(numberedID(0), guard)
	require.ErrorIs(t, err, migrationlog.ErrInvalid)
	_, err = s.WriteAll([]checkpoint.Event{checkpoint.Removed{MigrationID: numberedID(0)}}, guard)
	require.ErrorIs(t, err, migrationlog.ErrInvalid)

	r := openReplica(t, filepath.Join(memDir(t), "log"), nil)
	index := uint64(0)
	refused := func(want string, e checkpoint.Event, opts ...migrationlog.WriteOption) {
		index++
		got := applyOne(t, r, migrationlog.Entry{Index: index, Term: 1, Event: e, Options: opts})
		require.ErrorIs(t, got.Err, migrationlog.ErrInvalid)
		require.ErrorContains(t, got.Err, want)
	}
	removed := checkpoint.Removed{MigrationID: numberedID(0)}
	refused("use IfIndex", removed, migrationlog.IfSeq(0))
	refused("set the timestamp of the event", removed, migrationlog.WithTimestamp(1))
	refused("Strict does not apply", removed, migrationlog.Strict())
	refused("begin with 1", removed, migrationlog.Epoch(0))
	refused("has epoch 3", checkpoint.Removed{MigrationID: numberedID(0), Epoch: 3}, migrationlog.Epoch(2))
	refused("year 9999", checkpoint.Removed{MigrationID: numberedID(0), TimestampMS: 1 << 60})
	refused("only the store writes", checkpoint.Digest{})
	refused("only the store writes", checkpoint.Restored{Checkpoint: row(t, numberedID(0), 0, addLearner), Facts: checkpoint.RestoredFacts{FurthestPhase: 1, RecordedPhases: 1}})
	refused("reserved", checkpoint.Upserted{Checkpoint: row(t, checkpoint.StoreID, 0, addLearner)})
	refused("unknown event type", &removed)
	index++
	got := applyOne(t, r, migrationlog.Entry{Index: index, Term: 1, Event: removed, Opaque: opaqueEvent(numberedID(0), 1<<40)})
	require.ErrorContains(t, got.Err, "set only one of them")
	require.Zero(t, r.AppliedIndex())
	require.Zero(t, r.Store().Stats().LastSeq)

	// The epoch of an event fences as the option does.
	require.NoError(t, applyOne(t, r, migrationlog.Entry{Index: 50, Term: 1, Event: checkpoint.EpochRaised{MigrationID: checkpoint.StoreID, Epoch: 4}}).Err)
	got = applyOne(t, r, migrationlog.Entry{Index: 51, Term: 1, Event: checkpoint.EpochRaised{MigrationID: checkpoint.StoreID, Epoch: 3}})
	require.ErrorIs(t, got.Err, migrationlog.ErrFenced)

	for _, entries := range [][]migrationlog.Entry{
		{{Index: 0, Term: 1}}, {{Index: 60}}, {{Index: 60, Term: 1}, {Index: 60, Term: 1}}, {{Index: 61, Term: 1}, {Index: 60, Term: 1}},
	} {
		_, err := r.Apply(entries)
		require.ErrorIs(t, err, migrationlog.ErrInvalid)
	}
	require.EqualValues(t, 51, r.Digest().Index)
}

// A replicated abort takes at most 60 KiB, so that the row with it can be restored.
func TestReplica_LargestAbort(t *testing.T) {
	r := openReplica(t, filepath.Join(memDir(t), "log"), nil)
	id := numberedID(0)
	require.NoError(t, applyOne(t, r, upsertAt(t, 1, id, 0, checkpoint.PhaseAddLearner)).Err)
	begin := func(index uint64, bytes int) migrationlog.Applied {
		e := checkpoint.AbortBegun{MigrationID: id, Reason: strings.Repeat("x", bytes), Compensations: replicaSteps}
		return applyOne(t, r, migrationlog.Entry{Index: index, Term: 1, Event: e})
	}
	got := begin(2, 60<<10)
	require.ErrorIs(t, got.Err, migrationlog.ErrTooLarge)
	require.NoError(t, begin(3, 60<<10-100).Err)
	require.NoError(t, applyOne(t, r, migrationlog.Entry{Index: 4, Term: 1, Event: checkpoint.Compensated{MigrationID: id, Step: 1}}).Err)
	restored := openReplica(t, filepath.Join(memDir(t), "log"), nil)
	require.NoError(t, restored.Replace(r.State()))
	require.Equal(t, r.Digest(), restored.Digest())
}

// An event of a kind that this version does not know is recorded, and changes no row. A member of the
// version that knows the kind writes the same bytes.
func TestReplica_Opaque(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	r := openReplica(t, dir, nil)
	id := numberedID(0)
	require.NoError(t, applyOne(t, r, upsertAt(t, 1, id, 0, checkpoint.PhaseAddLearner)).Err)
	before, _ := r.Store().Row(id)
	require.EqualValues(t, 2, applyOne(t, r, migrationlog.Entry{Index: 2, Term: 7, Opaque: opaqueEvent(id, 1<<40)}).Index)
	after, _ := r.Store().Row(id)
	require.Equal(t, before.Checkpoint, after.Checkpoint)
	require.EqualValues(t, 2, after.LastIndex)
	body := bodiesOf(t, dir)[1]
	want := opaqueEvent(id, 1<<40)
	want[0] += 2
	want = append(want[:len(want)-2], 12, 2, 13, 7, 22, 5)
	require.Equal(t, want, body)

	// A key of the position with the value 0 would be there twice after the position was added.
	withKey := func(key byte) []byte {
		b := opaqueEvent(id, 1<<40)
		b[0]++
		return append(b[:len(b)-2], key, 0, 22, 5)
	}
	event, err := checkpoint.EncodeEvent(checkpoint.Removed{MigrationID: id})
	require.NoError(t, err)
	for i, bad := range [][]byte{nil, {}, {0xA0}, event, body, append([]byte{0xB6}, opaqueEvent(id, 1<<40)[1:]...), withKey(11), withKey(12), withKey(13)} {
		got := applyOne(t, r, migrationlog.Entry{Index: uint64(10 + i), Term: 7, Opaque: bad})
		if bad == nil {
			require.NoError(t, got.Err)
			continue
		}
		require.ErrorIs(t, got.Err, migrationlog.ErrInvalid, i)
	}
	reopened := reopenReplica(t, r, dir)
	require.Equal(t, r.Digest(), reopened.Digest())
	require.NoError(t, reopened.Health())
}

// The store of a replica can only be read.
func TestReplica_StoreIsForReads(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	r := openReplica(t, dir, nil)
	id := numberedID(0)
	require.NoError(t, applyOne(t, r, upsertAt(t, 1, id, 0, checkpoint.PhaseAddLearner)).Err)
	s := r.Store()
	_, err := s.Upsert(row(t, id, 1, addLearner))
	require.ErrorIs(t, err, migrationlog.ErrReplicated)
	_, err = s.Abort(id, "", nil)
	require.ErrorIs(t, err, migrationlog.ErrReplicated)
	_, err = s.BeginAbort(id, "", nil)
	require.ErrorIs(t, err, migrationlog.ErrReplicated)
	_, err = s.Compensated(id, 0)
	require.ErrorIs(t, err, migrationlog.ErrReplicated)
	_, err = s.Remove(id)
	require.ErrorIs(t, err, migrationlog.ErrReplicated)
	_, err = s.WriteAll([]checkpoint.Event{checkpoint.Removed{MigrationID: id}})
	require.ErrorIs(t, err, migrationlog.ErrReplicated)
	_, err = s.Recover(t.Context(), recovery.Policy{}, migrationlog.Handlers{})
	require.ErrorIs(t, err, migrationlog.ErrReplicated)
	require.ErrorIs(t, s.Close(), migrationlog.ErrReplicated)
	require.NoError(t, r.Health())
	require.EqualValues(t, 1, s.Stats().LastSeq)
	require.Len(t, historyOf(t, s, id), 1)
	_, err = s.Scrub(t.Context())
	require.NoError(t, err)

	require.NoError(t, r.Close())
	require.NoError(t, r.Close())
	require.ErrorIs(t, r.Health(), migrationlog.ErrClosed)
	_, err = r.Apply([]migrationlog.Entry{removedAt(2)})
	require.ErrorIs(t, err, migrationlog.ErrClosed)
	require.ErrorIs(t, r.Record(), migrationlog.ErrClosed)
	require.ErrorIs(t, r.Replace(r.State()), migrationlog.ErrClosed)
	require.EqualValues(t, 1, r.AppliedIndex())
}

// A replica does not open the log of another Store, and no option weakens it.
func TestOpenReplica_Refuses(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, nil)
	upsert(t, s, numberedID(0), 0, addLearner)
	require.NoError(t, s.Close())
	before := hashes(t, dir)
	for _, opts := range []migrationlog.ReplicaOptions{{}, {AcceptLoss: true}} {
		_, err := migrationlog.OpenReplica(dir, &opts)
		require.ErrorIs(t, err, migrationlog.ErrInvalid)
		require.ErrorContains(t, err, "is not replicated")
	}
	after := hashes(t, dir)
	delete(before, "LOCK")
	delete(after, "LOCK")
	require.Equal(t, before, after)

	for _, opts := range []migrationlog.ReplicaOptions{
		{Store: migrationlog.Options{NoSync: true}}, {Store: migrationlog.Options{OnDamage: migrationlog.RefuseDamage}},
		{Store: migrationlog.Options{SegmentSize: -1}}, {SyncInterval: -1, RelaxedSync: true}, {SyncInterval: 1},
	} {
		_, err := migrationlog.OpenReplica(filepath.Join(memDir(t), "log"), &opts)
		require.ErrorIs(t, err, migrationlog.ErrInvalid)
	}
	_, err := migrationlog.OpenReplica("", nil)
	require.ErrorIs(t, err, migrationlog.ErrInvalid)
}

// A stale proposer stays fenced after a restart and after Replace.
func TestReplica_EpochStays(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	r := openReplica(t, dir, nil)
	id := numberedID(0)
	apply(t, r, []migrationlog.Entry{
		upsertAt(t, 1, id, 0, checkpoint.PhaseAddLearner, migrationlog.Epoch(2)),
		{Index: 2, Term: 1, Event: checkpoint.Removed{MigrationID: id}, Options: []migrationlog.WriteOption{migrationlog.Epoch(9)}},
	}, nil)
	stale := func(r *migrationlog.Replica, index uint64) {
		got := applyOne(t, r, upsertAt(t, index, id, 0, checkpoint.PhaseAddLearner, migrationlog.Epoch(8)))
		require.ErrorIs(t, got.Err, migrationlog.ErrFenced)
	}
	stale(r, 3)
	state := r.State()
	require.Zero(t, state.Len(), "no row has the epoch")
	r = reopenReplica(t, r, dir)
	stale(r, 4)
	otherDir := filepath.Join(memDir(t), "log")
	other := openReplica(t, otherDir, nil)
	require.NoError(t, other.Replace(state))
	stale(other, 4)
	require.Equal(t, r.Digest().State, other.Digest().State)
	other = reopenReplica(t, other, otherDir)
	stale(other, 5)
}

// Reads, Record and State may run at the same time as Apply.
func TestReplica_Concurrent(t *testing.T) {
	r := openReplica(t, filepath.Join(memDir(t), "log"), nil)
	maker := newEntryMaker(11)
	reference := openReplica(t, filepath.Join(memDir(t), "log"), nil)
	entries, _ := maker.history(t, reference, 2200)
	digests := map[uint64]migrationlog.Digest{}
	again := openReplica(t, filepath.Join(memDir(t), "log"), nil)
	for i := 0; i < len(entries); i += 10 {
		apply(t, again, entries[i:min(i+10, len(entries))], nil)
		digests[again.Digest().Index] = again.Digest()
	}
	done := make(chan struct{})
	states := make(chan []*migrationlog.State, 2)
	for range 2 {
		go func() {
			var seen []*migrationlog.State
			for {
				select {
				case <-done:
					states <- seen
					return
				default:
				}
				if err := r.Record(); err != nil {
					panic(err)
				}
				before := r.AppliedIndex()
				s := r.State()
				if s.Digest().Index < before || r.Health() != nil {
					panic("the state is behind the applied index")
				}
				seen = append(seen, s)
			}
		}()
	}
	for i := 0; i < len(entries); i += 10 {
		apply(t, r, entries[i:min(i+10, len(entries))], nil)
	}
	close(done)
	require.Equal(t, reference.Digest(), r.Digest())
	checked := 0
	for range 2 {
		for _, s := range <-states {
			if d := s.Digest(); d.Index > 0 {
				require.Equal(t, digests[d.Index], d)
				checked++
			}
		}
	}
	t.Logf("%d states", checked)
}

// A batch can be larger than a segment, and digest events are inside it.
func TestReplica_LargeBatch(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	r := openReplica(t, dir, &migrationlog.ReplicaOptions{Store: migrationlog.Options{SegmentSize: 16 << 10}})
	reference := openReplica(t, filepath.Join(memDir(t), "log"), nil)
	entries, _ := newEntryMaker(12).history(t, reference, 5000)
	apply(t, r, entries, nil)
	require.Equal(t, reference.Digest(), r.Digest())
	require.EqualValues(t, 1, r.Store().Stats().Batches)
	r = reopenReplica(t, r, dir)
	require.Equal(t, reference.Digest(), r.Digest())
	apply(t, r, entries[:100], rand.New(rand.NewPCG(1, 1)))
	require.Equal(t, reference.Digest(), r.Digest())
}
