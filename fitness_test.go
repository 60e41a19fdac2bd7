package migrationlog_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog"
	"migrationlog/eventlog/segment"
)

// With RelaxedSync, a crash keeps the events up to the last Record. The entries of the others are
// applied again.
func TestReplica_RelaxedSync(t *testing.T) {
	opts := &migrationlog.ReplicaOptions{RelaxedSync: true, SyncInterval: time.Hour}
	dir := filepath.Join(memDir(t), "log")
	r := openReplica(t, dir, opts)
	maker := newEntryMaker(40)
	entries, _ := maker.history(t, r, 100)
	require.Zero(t, r.AppliedIndex())
	require.NoError(t, r.Record())
	recorded := r.AppliedIndex()
	require.Equal(t, r.Digest().Index, recorded)
	atRecord := r.Digest()
	more, _ := maker.history(t, r, 1500)
	require.Equal(t, recorded, r.AppliedIndex())
	want := r.Digest()

	crashed := copyDir(t, dir)
	other := openReplica(t, crashed, opts)
	require.Equal(t, recorded, other.AppliedIndex())
	require.Equal(t, atRecord, other.Digest())
	require.NotEmpty(t, other.Store().Report().Quarantined)
	require.False(t, other.Store().Report().Damaged())
	apply(t, other, append(entries, more...), maker.random)
	require.Equal(t, want, other.Digest())
	require.Equal(t, recorded, other.AppliedIndex())
	require.NoError(t, other.Close())
	require.Equal(t, want, openReplica(t, crashed, nil).Digest())

	// Replace makes the new state durable.
	require.NoError(t, other.Close())
	s := otherState(t, 41, 50)
	require.NoError(t, r.Replace(s))
	require.Equal(t, s.Digest().Index, r.AppliedIndex())
	require.Equal(t, s.Digest(), openReplica(t, copyDir(t, dir), nil).Digest())
}

// The events also become durable at intervals.
func TestReplica_SyncInterval(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	r := openReplica(t, dir, &migrationlog.ReplicaOptions{RelaxedSync: true, SyncInterval: time.Millisecond})
	apply(t, r, []migrationlog.Entry{removedAt(1), {Index: 2, Term: 1}}, nil)
	require.Eventually(t, func() bool { return r.AppliedIndex() == 1 }, 10*time.Second, time.Millisecond)
	require.EqualValues(t, 1, openReplica(t, copyDir(t, dir), nil).AppliedIndex())
	require.NoError(t, r.Replace(otherState(t, 42, 5)))
	applied := r.AppliedIndex()
	apply(t, r, []migrationlog.Entry{removedAt(applied + 1)}, nil)
	require.Eventually(t, func() bool { return r.AppliedIndex() == applied+1 }, 10*time.Second, time.Millisecond)
}

// changeEvent changes a byte of the body of an event in the first segment.
func changeEvent(t testing.TB, dir string, number int) {
	path := filepath.Join(dir, "wal", firstSegment)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	body := bodiesOf(t, dir)[number]
	at := bytes.Index(b, body)
	require.Positive(t, at)
	b[at+10] ^= 1
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

func removeSnapshots(t testing.TB, dir string) {
	found, err := filepath.Glob(filepath.Join(dir, "snapshots", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, found)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots")))
}

// A member whose log has lost events does not open, and its log stays as it is. AcceptLoss continues
// with the rows that are left, in a new log from which the other members are restored.
func TestOpenReplica_Unfit(t *testing.T) {
	closed := filepath.Join(memDir(t), "log")
	r := openReplica(t, closed, nil)
	newEntryMaker(50).history(t, r, 600)
	require.NoError(t, r.Close())
	events := len(bodiesOf(t, closed))

	for name, damage := range map[string]func(dir string){
		"in the middle": func(dir string) { changeEvent(t, dir, 100) },
		"the last":      func(dir string) { changeEvent(t, dir, events-1) },
		"the tail": func(dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, "wal", firstSegment), 20_000))
		},
		"all": func(dir string) { require.NoError(t, os.Truncate(filepath.Join(dir, "wal", firstSegment), 0)) },
	} {
		dir := copyDir(t, closed)
		removeSnapshots(t, dir)
		damage(dir)
		before := hashes(t, dir)
		_, err := migrationlog.OpenReplica(dir, nil)
		require.ErrorIs(t, err, migrationlog.ErrUnfit, name)
		var unfit *migrationlog.UnfitError
		require.ErrorAs(t, err, &unfit)
		require.Positive(t, unfit.Report.LostCount(), name)
		for _, part := range []string{dir, "has lost", "The first finding", "Rename the directory, keep it", "AcceptLoss"} {
			require.ErrorContains(t, err, part)
		}
		after := hashes(t, dir)
		delete(before, "LOCK")
		delete(after, "LOCK")
		require.Equal(t, before, after, name)

		accepted, err := migrationlog.OpenReplica(dir, &migrationlog.ReplicaOptions{AcceptLoss: true})
		require.NoError(t, err, name)
		require.Equal(t, segment.OriginAcceptedLoss, manifestOf(t, dir).History.Origin)
		require.Empty(t, accepted.Store().Report().InDoubt)
		kept := hashes(t, dir+".replaced-1")
		delete(kept, "LOCK")
		require.Equal(t, after, kept, name)
		next := accepted.AppliedIndex() + 1
		require.LessOrEqual(t, next, r.Digest().Index+1)
		apply(t, accepted, []migrationlog.Entry{removedAt(next)}, nil)
		other := openReplica(t, filepath.Join(memDir(t), "log"), nil)
		require.NoError(t, other.Replace(accepted.State()))
		require.Equal(t, accepted.Digest(), other.Digest())
		require.NoError(t, accepted.Close())

		// The option stays harmless after that.
		again := openReplica(t, dir, &migrationlog.ReplicaOptions{AcceptLoss: true})
		require.Equal(t, other.Digest(), again.Digest())
		require.NoDirExists(t, dir+".replaced-2")
	}
}

// A loss that a snapshot covers does not make a member unfit, unless the event is needed for the
// digest of the history.
func TestOpenReplica_LossBeforeSnapshot(t *testing.T) {
	closed := filepath.Join(memDir(t), "log")
	r := openReplica(t, closed, nil)
	newEntryMaker(51).history(t, r, 4000)
	require.NoError(t, r.Close())
	events := len(bodiesOf(t, closed))
	require.Greater(t, events, 1500)

	dir := copyDir(t, closed)
	changeEvent(t, dir, 100)
	for _, all := range []bool{false, true} {
		fit, err := migrationlog.OpenReplica(dir, &migrationlog.ReplicaOptions{Store: migrationlog.Options{VerifyAll: all}})
		require.NoError(t, err)
		require.Equal(t, r.Digest(), fit.Digest())
		require.NoError(t, fit.Health())
		require.NoError(t, fit.Close())
	}

	removeSnapshots(t, dir)
	_, err := migrationlog.OpenReplica(dir, nil)
	require.ErrorIs(t, err, migrationlog.ErrUnfit)
	require.ErrorContains(t, err, "its log has lost 1 event. ")

	dir = copyDir(t, closed)
	changeEvent(t, dir, events-5)
	_, err = migrationlog.OpenReplica(dir, &migrationlog.ReplicaOptions{Store: migrationlog.Options{VerifyAll: true}})
	require.ErrorIs(t, err, migrationlog.ErrUnfit)
	require.ErrorContains(t, err, "which is needed for the digest of the history")
	accepted := openReplica(t, dir, &migrationlog.ReplicaOptions{Store: migrationlog.Options{VerifyAll: true}, AcceptLoss: true})
	require.Equal(t, r.Digest().State, accepted.Digest().State, "no row was lost")
}

// writeLog writes a replica's log with these events, at the indexes from 1 on. An EpochRaised gets no
// position.
func writeLog(t testing.TB, dir string, events ...checkpoint.Event) {
	recovery, err := eventlog.Begin(dir, eventlog.Options{Replicated: true})
	require.NoError(t, err)
	for _, err := range recovery.Scan(segment.ScanAll) {
		require.NoError(t, err)
	}
	log, err := recovery.Finish(segment.FrameID{})
	require.NoError(t, err)
	for i, e := range events {
		b, err := checkpoint.EncodeEvent(e)
		require.NoError(t, err)
		if checkpoint.KindOf(e) != checkpoint.KindEpochRaised {
			b = checkpoint.AppendPosition(b, uint64(i+1), 1)
		}
		require.NoError(t, log.Write([]eventlog.Entry{{Body: segment.NewBody(b)}}))
	}
	require.NoError(t, log.Close())
}

// A replica's log with an event that no entry has made is refused.
func TestOpenReplica_NoPosition(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	c := row(t, numberedID(0), 0, addLearner)
	writeLog(t, dir, checkpoint.Upserted{Checkpoint: c}, checkpoint.EpochRaised{MigrationID: c.MigrationID, Epoch: 3})
	_, err := migrationlog.OpenReplica(dir, nil)
	require.ErrorIs(t, err, migrationlog.ErrInvalid)
	require.ErrorContains(t, err, "event 2 has no index")
}

// If the rows at the opening do not have the digest that the log has recorded, nothing is applied.
func TestOpenReplica_OtherState(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	c := row(t, numberedID(0), 0, addLearner)
	writeLog(t, dir, checkpoint.Upserted{Checkpoint: c}, checkpoint.Digest{State: [32]byte{1}})
	r := openReplica(t, dir, nil)
	_ = r.Digest() // waits for the sum
	require.ErrorIs(t, r.Health(), migrationlog.ErrFailed)
	require.ErrorContains(t, r.Health(), "rename its directory, keep it, and start the member again")
	_, err := r.Apply([]migrationlog.Entry{removedAt(3)})
	require.ErrorIs(t, err, migrationlog.ErrFailed)
	require.ErrorContains(t, err, "rename its directory, keep it, and start the member again")
	require.ErrorIs(t, r.Record(), migrationlog.ErrFailed)
	require.EqualValues(t, 2, r.Store().Stats().LastSeq)

	// The member is restored from another one.
	s := otherState(t, 52, 20)
	require.NoError(t, r.Replace(s))
	require.NoError(t, r.Health())
	require.Equal(t, s.Digest(), r.Digest())
}
