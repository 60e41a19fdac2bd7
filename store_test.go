package migrationlog_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/replay"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdLockEnv); dir != "" {
		holdLock(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

var (
	addLearner = checkpoint.AddLearner{
		VShardID: 22, SourceNode: 5, TargetNode: 3, SourceGroup: 9, WritePauseBudgetUS: 500000,
		StartedAtHLC: checkpoint.HLC{WallNS: 1795399697649400619, Logical: 7},
	}
	catchUp  = checkpoint.CatchUp{VShardID: 22, LearnerLogIndexAtAdd: 23}
	complete = checkpoint.Complete{VShardID: 22, ActualPauseUS: 138, GhostStubInstalled: true}
)

// The five behaviors that a table of latest rows has too.

func TestD1_UpsertThenReload(t *testing.T) {
	dir, id := t.TempDir(), checkpoint.NewMigrationID()
	s := open(t, dir, nil)
	want := row(t, id, 3, addLearner)
	receipt, err := s.Upsert(want)
	require.NoError(t, err)
	require.Equal(t, migrationlog.Receipt{Seq: 1}, receipt)

	s = reopen(t, s, dir)
	got, ok := s.Get(id)
	require.True(t, ok)
	require.Equal(t, want, got)
	require.NoError(t, got.Verify())
	require.Equal(t, []checkpoint.Checkpoint{want}, s.All())
	require.Equal(t, 1, s.Len())
	require.True(t, s.Report().Clean())
}

func TestD3_SamePhaseAndAttemptIsOneRowAndOneEvent(t *testing.T) {
	dir, id := t.TempDir(), checkpoint.NewMigrationID()
	s := open(t, dir, nil)
	upsert(t, s, id, 0, catchUp)
	require.Equal(t, migrationlog.Receipt{Seq: 1, Duplicate: true}, upsert(t, s, id, 0, catchUp))
	other := checkpoint.CatchUp{VShardID: 22, LearnerLogIndexAtAdd: 99}
	require.Equal(t, migrationlog.Receipt{Seq: 1, Duplicate: true, Differs: true}, upsert(t, s, id, 0, other))
	got, _ := s.Get(id)
	require.Equal(t, catchUp, got.Payload)

	s = reopen(t, s, dir)
	require.Equal(t, migrationlog.Receipt{Seq: 1, Duplicate: true}, upsert(t, s, id, 0, catchUp))
	require.Equal(t, 1, s.Len())
	require.EqualValues(t, 1, verify(t, dir).FramesOK)
	require.Equal(t, migrationlog.Receipt{Seq: 2}, upsert(t, s, id, 1, catchUp))
	require.Equal(t, migrationlog.Receipt{Seq: 3}, upsert(t, s, id, 0, addLearner), "an earlier phase is accepted")
	require.Equal(t, migrationlog.Receipt{Seq: 4}, upsert(t, s, id, 1, catchUp), "the latest row is another one now")
}

func TestD1_RemoveSurvivesAReload(t *testing.T) {
	dir, id, kept := t.TempDir(), checkpoint.NewMigrationID(), checkpoint.NewMigrationID()
	s := open(t, dir, nil)
	upsert(t, s, id, 0, complete)
	upsert(t, s, kept, 0, complete)
	receipt, err := s.Remove(id)
	require.NoError(t, err)
	require.Equal(t, migrationlog.Receipt{Seq: 3}, receipt)

	s = reopen(t, s, dir)
	_, ok := s.Get(id)
	require.False(t, ok)
	require.Equal(t, 1, s.Len())
	receipt, err = s.Remove(id)
	require.NoError(t, err)
	require.Equal(t, migrationlog.Receipt{}, receipt, "there is nothing to remove")
	receipt, err = s.Abort(id, "again", nil)
	require.NoError(t, err)
	require.Equal(t, migrationlog.Receipt{}, receipt)
	require.Equal(t, migrationlog.Receipt{Seq: 4}, upsert(t, s, id, 0, complete), "a new incarnation of the migration")
}

// Package checkpoint tests the fourth and fifth, the CRC of the payload and its round trip:
// TestD1_FlippedPayloadBitChangesCRC, TestGoldenVectors.

func TestD1_AbortKeepsReasonAndOrder(t *testing.T) {
	dir, id := t.TempDir(), checkpoint.NewMigrationID()
	now := time.UnixMilli(1795399699919)
	s := open(t, dir, &migrationlog.Options{Now: func() time.Time { return now }})
	upsert(t, s, id, 0, addLearner)
	comps := []checkpoint.Compensation{
		{Kind: checkpoint.RestoreLeaderHint, GroupID: 9, PeerID: 5},
		{Kind: checkpoint.RemoveVoter, GroupID: 9, PeerID: 3},
		{Kind: checkpoint.RemoveGhostStub, VShardID: 22},
	}
	_, err := s.Abort(id, "größer", comps)
	require.NoError(t, err)
	require.Zero(t, s.Len())

	s = reopen(t, s, dir)
	require.Zero(t, s.Len())
	history := historyOf(t, s, id)
	require.Len(t, history, 2)
	require.Equal(t, checkpoint.Aborted{MigrationID: id, Reason: "größer", Compensations: comps, TimestampMS: 1795399699919}, history[1].Event)
	require.EqualValues(t, 1, history[1].PrevSeq)
}

// A CatchUp row contains neither the group nor the target. The row keeps both as facts from
// AddLearner.
func TestRow_KeepsWhatEarlierPhasesTold(t *testing.T) {
	dir, id := t.TempDir(), checkpoint.NewMigrationID()
	s := open(t, dir, nil)
	upsert(t, s, id, 0, addLearner)
	upsert(t, s, id, 0, catchUp)
	want := projection.Facts{
		SourceNode: 5, TargetNode: 3, SourceGroup: 9, WritePauseBudgetUS: 500000,
		StartedAtHLC: addLearner.StartedAtHLC, HasSource: true, HasTarget: true,
		FurthestPhase: checkpoint.PhaseCatchUp, RecordedPhases: 0b11, BeganSeq: 1,
	}
	for range 2 {
		got, ok := s.Row(id)
		require.True(t, ok)
		require.Equal(t, projection.Row{Checkpoint: row(t, id, 0, catchUp), Seq: 2, PrevSeq: 1, LastSeq: 2, Facts: want}, got)
		s = reopen(t, s, dir)
	}
}

// Invalid input returns its typed error and appends nothing.
func TestD3_BadInputAppendsNothing(t *testing.T) {
	dir, id := t.TempDir(), checkpoint.NewMigrationID()
	s := open(t, dir, nil)
	upsert(t, s, id, 0, addLearner)
	before := hashes(t, dir)
	good := row(t, id, 1, catchUp)
	change := func(f func(*checkpoint.Checkpoint)) checkpoint.Checkpoint { c := good; f(&c); return c }
	do := func(_ migrationlog.Receipt, err error) error { return err }
	for name, tc := range map[string]struct {
		err  error
		want []error
	}{
		"nil id":             {do(s.Upsert(change(func(c *checkpoint.Checkpoint) { c.MigrationID = uuid.Nil }))), []error{migrationlog.ErrInvalid, checkpoint.ErrNilMigrationID}},
		"nil payload":        {do(s.Upsert(change(func(c *checkpoint.Checkpoint) { c.Payload = nil }))), []error{migrationlog.ErrInvalid, checkpoint.ErrNilPayload}},
		"pointer payload":    {do(s.Upsert(change(func(c *checkpoint.Checkpoint) { c.Payload = &catchUp }))), []error{migrationlog.ErrInvalid, checkpoint.ErrUnknownPayload}},
		"crc":                {do(s.Upsert(change(func(c *checkpoint.Checkpoint) { c.CRC32C++ }))), []error{migrationlog.ErrInvalid, checkpoint.ErrCRCMismatch}},
		"abort nil id":       {do(s.Abort(uuid.Nil, "", nil)), []error{migrationlog.ErrInvalid, checkpoint.ErrNilMigrationID}},
		"abort reason":       {do(s.Abort(id, "\xff", nil)), []error{migrationlog.ErrInvalid, checkpoint.ErrInvalidUTF8}},
		"abort too large":    {do(s.Abort(id, strings.Repeat("x", 64<<10), nil)), []error{migrationlog.ErrTooLarge}},
		"abort compensation": {do(s.Abort(id, "", []checkpoint.Compensation{{Kind: 9}})), []error{migrationlog.ErrInvalid, checkpoint.ErrUnknownCompensation}},
		"many compensations": {do(s.Abort(id, "", make([]checkpoint.Compensation, 70_000))), []error{migrationlog.ErrTooLarge}},
		"remove nil id":      {do(s.Remove(uuid.Nil)), []error{migrationlog.ErrInvalid, checkpoint.ErrNilMigrationID}},
	} {
		for _, want := range tc.want {
			require.ErrorIs(t, tc.err, want, name)
		}
	}
	require.Equal(t, before, hashes(t, dir))
	require.NoError(t, s.Health())
	_, err := migrationlog.Open("", nil)
	require.ErrorIs(t, err, migrationlog.ErrInvalid)

	require.NoError(t, s.Close())
	before = hashes(t, dir)
	for _, err := range []error{do(s.Upsert(good)), do(s.Abort(id, "", nil)), do(s.Remove(id))} {
		require.ErrorIs(t, err, migrationlog.ErrClosed)
	}
	require.NoError(t, s.Close(), "a second Close does nothing")
	require.Equal(t, before, hashes(t, dir))
	_, ok := s.Get(id)
	require.True(t, ok, "reads continue from memory")
}

func TestGuards(t *testing.T) {
	s, id := open(t, t.TempDir(), nil), checkpoint.NewMigrationID()
	_, err := s.Upsert(row(t, id, 0, addLearner), migrationlog.IfSeq(7))
	require.ErrorIs(t, err, migrationlog.ErrConflict)
	_, err = s.Upsert(row(t, id, 0, addLearner), migrationlog.IfSeq(0))
	require.NoError(t, err)
	_, err = s.Upsert(row(t, id, 0, catchUp), migrationlog.IfSeq(0))
	require.ErrorIs(t, err, migrationlog.ErrConflict)
	require.ErrorContains(t, err, "is at seq 1 (AddLearner, attempt 0)")
	_, err = s.Upsert(row(t, id, 0, catchUp), migrationlog.IfSeq(1))
	require.NoError(t, err)
	again, err := s.Upsert(row(t, id, 0, catchUp), migrationlog.IfSeq(1))
	require.NoError(t, err, "a retry with IfSeq succeeds")
	require.True(t, again.Duplicate)
	_, err = s.Upsert(row(t, id, 0, catchUp), migrationlog.Strict())
	require.NoError(t, err, "the same payload is no conflict")
	_, err = s.Upsert(row(t, id, 0, checkpoint.CatchUp{VShardID: 1}), migrationlog.Strict())
	require.ErrorIs(t, err, migrationlog.ErrConflict)
	_, err = s.Upsert(row(t, id, 0, checkpoint.CatchUp{VShardID: 1}), migrationlog.Strict(), migrationlog.Confirm())
	require.ErrorIs(t, err, migrationlog.ErrConflict, "Confirm does not override Strict")
	_, err = s.Remove(id, migrationlog.IfSeq(1))
	require.ErrorIs(t, err, migrationlog.ErrConflict)
	_, err = s.Remove(id, migrationlog.IfSeq(2))
	require.NoError(t, err)
	require.EqualValues(t, 3, s.Stats().LastSeq)
}

// A retry of a guarded call that succeeded succeeds again and appends nothing.
func TestGuards_Retry(t *testing.T) {
	s, id := open(t, t.TempDir(), nil), checkpoint.NewMigrationID()
	upsert(t, s, id, 0, addLearner)
	for _, tc := range []struct {
		name string
		call func(seq uint64) (migrationlog.Receipt, error)
		last bool // the call ends the migration
	}{
		{"upsert", func(seq uint64) (migrationlog.Receipt, error) {
			return s.Upsert(row(t, id, 0, catchUp), migrationlog.IfSeq(seq), migrationlog.Strict())
		}, false},
		{"confirmed upsert", func(seq uint64) (migrationlog.Receipt, error) {
			return s.Upsert(row(t, id, 0, catchUp), migrationlog.IfSeq(seq), migrationlog.Strict(), migrationlog.Confirm())
		}, false},
		{"abort", func(seq uint64) (migrationlog.Receipt, error) {
			return s.Abort(id, "", nil, migrationlog.IfSeq(seq))
		}, true},
		{"removal", func(seq uint64) (migrationlog.Receipt, error) { return s.Remove(id, migrationlog.IfSeq(seq)) }, true},
		{"confirmed abort", func(seq uint64) (migrationlog.Receipt, error) {
			return s.Abort(id, "", nil, migrationlog.IfSeq(seq), migrationlog.Confirm())
		}, true},
		{"confirmed removal", func(seq uint64) (migrationlog.Receipt, error) {
			return s.Remove(id, migrationlog.IfSeq(seq), migrationlog.Confirm())
		}, true},
	} {
		if _, ok := s.Row(id); !ok {
			upsert(t, s, id, 0, addLearner)
		}
		before, _ := s.Row(id)
		first, err := tc.call(before.Seq)
		require.NoError(t, err, tc.name)
		require.True(t, first.Appended(), tc.name)
		again, err := tc.call(before.Seq)
		require.NoError(t, err, "retry of the %s", tc.name)
		want := migrationlog.Receipt{Seq: first.Seq, Duplicate: true}
		if tc.last {
			want = migrationlog.Receipt{}
		}
		require.Equal(t, want, again, "retry of the %s", tc.name)
		require.Equal(t, first.Seq, s.Stats().LastSeq, "retry of the %s", tc.name)
	}
	_, err := s.Upsert(row(t, id, 0, addLearner), migrationlog.IfSeq(s.Stats().LastSeq))
	require.ErrorIs(t, err, migrationlog.ErrConflict, "the number of an abort or removal is not that of a row")
	receipt, err := s.Remove(id, migrationlog.IfSeq(0), migrationlog.Confirm())
	require.NoError(t, err)
	require.True(t, receipt.Appended(), "Confirm with IfSeq(0) appends the removal of a migration without a row")
}

// Only one of several concurrent migrations of a vShard starts with IfVShardFree.
func TestGuards_VShard(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	begin := func() checkpoint.Checkpoint { return row(t, checkpoint.NewMigrationID(), 0, addLearner) }
	first := begin()
	_, err := s.Upsert(first, migrationlog.IfVShardFree())
	require.NoError(t, err)
	_, err = s.Upsert(begin(), migrationlog.IfVShardFree())
	require.ErrorIs(t, err, migrationlog.ErrMigrationInProgress)
	require.ErrorContains(t, err, first.MigrationID.String())
	again, err := s.Upsert(first, migrationlog.IfVShardFree())
	require.NoError(t, err)
	require.True(t, again.Duplicate)
	_, err = s.Upsert(row(t, first.MigrationID, 0, catchUp), migrationlog.IfVShardFree())
	require.NoError(t, err, "this migration itself has the vShard")
	other := addLearner
	other.VShardID++
	_, err = s.Upsert(row(t, checkpoint.NewMigrationID(), 0, other), migrationlog.IfVShardFree())
	require.NoError(t, err)
	_, err = s.Upsert(row(t, first.MigrationID, 0, checkpoint.Cutover{VShardID: addLearner.VShardID}))
	require.NoError(t, err)
	_, err = s.Upsert(begin(), migrationlog.IfVShardFree())
	require.ErrorIs(t, err, migrationlog.ErrMigrationInProgress)
	_, err = s.Upsert(row(t, first.MigrationID, 0, checkpoint.Complete{VShardID: addLearner.VShardID}))
	require.NoError(t, err)

	// A migration at Complete is not in flight. Only one starts, also if all are in the same batch.

	resume := s.HoldCommits()
	const writers = 20
	errs := make(chan error)
	for range writers {
		c := begin()
		go func() {
			_, err := s.Upsert(c, migrationlog.IfVShardFree())
			errs <- err
		}()
	}
	require.Eventually(t, func() bool { return s.Waiting() == writers }, time.Minute, time.Millisecond)
	resume()
	began := 0
	for range writers {
		if err := <-errs; err == nil {
			began++
		} else {
			require.ErrorIs(t, err, migrationlog.ErrMigrationInProgress)
		}
	}
	require.Equal(t, 1, began)
	require.Len(t, s.RowsByVShard(addLearner.VShardID), 2, "the complete one and the new one")
}

// Concurrent writers of the same step append one event. After a reload, all events that any writer
// saw acknowledged exist, in the order of their numbers.
func TestD1_ConcurrentWriters(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, &migrationlog.Options{SegmentSize: 4 << 10})
	const writers, steps = 16, 40
	shared := checkpoint.NewMigrationID()
	receipts := make([]map[uint64]checkpoint.Checkpoint, writers)
	var wg sync.WaitGroup
	for w := range writers {
		receipts[w] = map[uint64]checkpoint.Checkpoint{}
		wg.Go(func() {
			own := checkpoint.NewMigrationID()
			for i := range uint32(steps) {
				for _, c := range []checkpoint.Checkpoint{row(t, own, i, catchUp), row(t, shared, 0, addLearner)} {
					r, err := s.Upsert(c)
					if err != nil {
						t.Error(err)
						return
					}
					if r.Appended() {
						receipts[w][r.Seq] = c
					}
					if _, ok := s.Get(c.MigrationID); !ok {
						t.Error("acknowledged and not visible")
					}
				}
			}
		})
	}
	wg.Wait()
	require.Greater(t, s.Stats().Appended, s.Stats().Batches, "writers share a sync")
	require.NoError(t, s.Close())

	acknowledged := map[uint64]checkpoint.Checkpoint{}
	for _, r := range receipts {
		for seq, c := range r {
			require.NotContains(t, acknowledged, seq, "a number was used twice")
			acknowledged[seq] = c
		}
	}
	require.Len(t, acknowledged, writers*steps+1, "the shared step is one event")
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	next := uint64(1)
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		require.Equal(t, next, r.Seq)
		require.Equal(t, acknowledged[r.Seq], r.Event.(checkpoint.Upserted).Checkpoint)
		next++
	}
	require.EqualValues(t, len(acknowledged)+1, next)
	require.Greater(t, len(segments(t, dir)), 3)
}

func segments(t testing.TB, dir string) []string {
	paths, err := filepath.Glob(filepath.Join(dir, "wal", "0*"))
	require.NoError(t, err)
	return paths
}

// Each write that started before Close is either acknowledged and recovered, or refused and absent.
func TestD1_CloseWhileWriting(t *testing.T) {
	for range 20 {
		dir := memDir(t)
		s := open(t, dir, nil)
		var mu sync.Mutex
		acknowledged := map[checkpoint.MigrationID]bool{}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for {
					id := checkpoint.NewMigrationID()
					_, err := s.Upsert(row(t, id, 0, catchUp))
					mu.Lock()
					acknowledged[id] = err == nil
					mu.Unlock()
					if err != nil {
						if !errors.Is(err, migrationlog.ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		time.Sleep(time.Millisecond)
		require.NoError(t, s.Close())
		wg.Wait()
		s = open(t, dir, nil)
		for id, want := range acknowledged {
			_, got := s.Get(id)
			require.Equal(t, want, got)
		}
		require.NoError(t, s.Close())
	}
}

// D6: after a failed write nothing more is acknowledged, reads still work, and the next Open shows
// the outcome.
func TestD6_FailedWriteIsSticky(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"another writer's bytes": func(dir string) error {
			f, err := os.OpenFile(segmentPath(dir, firstSegment), os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteString("written by another process")
			}
			return errors.Join(err, f.Close())
		},
		"segment unlinked and replaced": func(dir string) error {
			b, err := os.ReadFile(segmentPath(dir, firstSegment))
			return errors.Join(err, os.Remove(segmentPath(dir, firstSegment)), os.WriteFile(segmentPath(dir, firstSegment), b[:20], 0o600))
		},
		"lock file removed": func(dir string) error { return os.Remove(filepath.Join(dir, "LOCK")) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, id := t.TempDir(), checkpoint.NewMigrationID()
			handler := &askingHandler{Handler: slog.DiscardHandler}
			s := open(t, dir, &migrationlog.Options{Logger: slog.New(handler)})
			handler.store = s
			upsert(t, s, id, 0, addLearner)
			require.NoError(t, spoil(dir))
			for range 3 {
				_, err := s.Upsert(row(t, id, 0, catchUp))
				require.ErrorIs(t, err, migrationlog.ErrFailed)
			}
			require.ErrorIs(t, s.Health(), migrationlog.ErrFailed)
			require.Equal(t, 1, handler.failures, "the error is logged once, and the handler may call the store")
			got, ok := s.Get(id)
			require.True(t, ok)
			require.Equal(t, addLearner, got.Payload, "a failed write must not be visible")
			require.ErrorIs(t, s.Close(), migrationlog.ErrFailed)
			require.ErrorIs(t, s.Health(), migrationlog.ErrClosed)
			require.ErrorIs(t, s.Health(), migrationlog.ErrFailed)

			s = open(t, dir, nil)
			require.NoError(t, s.Health())
			receipt := upsert(t, s, id, 0, catchUp)
			s = reopen(t, s, dir)
			got, ok = s.Get(id)
			require.True(t, ok)
			require.Equal(t, catchUp, got.Payload)
			require.Greater(t, receipt.Seq, uint64(0))
		})
	}
}

// askingHandler calls the store whenever the store logs an error.
type askingHandler struct {
	slog.Handler
	store    *migrationlog.Store
	failures int
}

func (h *askingHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelError
}

func (h *askingHandler) Handle(context.Context, slog.Record) error {
	if h.store.Health() != nil && h.store.Stats().Refused > 0 {
		h.failures++
	}
	return nil
}

func TestOpen_MustExist(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	_, err := migrationlog.Open(dir, &migrationlog.Options{MustExist: true})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoDirExists(t, dir)

	s := open(t, dir, nil)
	require.NoError(t, s.Close())
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "wal")))
	for _, opts := range []*migrationlog.Options{nil, {MustExist: true}} {
		_, err = migrationlog.Open(dir, opts)
		require.ErrorIs(t, err, migrationlog.ErrNeedsRepair, "a volume that is not mounted is not a new log")
	}
}

func TestOpen_IsNotADirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := migrationlog.Open(file, nil)
	require.Error(t, err)
	_, err = replay.Open(file)
	require.Error(t, err)
}

// With NoSync, a write is acknowledged before it is durable. Close makes all writes durable.
func TestNoSync_CloseIsDurable(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, &migrationlog.Options{NoSync: true, SegmentSize: 8 << 10})
	for i := range uint32(500) {
		upsert(t, s, checkpoint.NewMigrationID(), i, catchUp)
	}
	require.Less(t, s.Stats().DurableThrough, s.Stats().LastSeq)
	s = reopen(t, s, dir)
	require.Equal(t, 500, s.Len())
}

// Get returns while a write waits for the device.
func TestReadsDoNotWaitForAWrite(t *testing.T) {
	s, id := open(t, t.TempDir(), nil), checkpoint.NewMigrationID()
	upsert(t, s, id, 0, addLearner)
	resume := s.HoldCommits()
	written := make(chan error)
	go func() {
		_, err := s.Upsert(row(t, id, 0, catchUp))
		written <- err
	}()
	for s.Waiting() == 0 {
		time.Sleep(time.Millisecond)
	}
	got, ok := s.Get(id) // if it waited, it would never return
	require.True(t, ok)
	require.Equal(t, addLearner, got.Payload)
	require.Len(t, s.All(), 1)
	require.NoError(t, s.Health())
	s.Stats()
	history := historyOf(t, s, id)
	require.Len(t, history, 1)
	resume()
	require.NoError(t, <-written)
	got, _ = s.Get(id)
	require.Equal(t, catchUp, got.Payload)
}

// History ends with the error of its context, and reads nothing more after its consumer has
// stopped.
func TestHistory_EndsWithItsContext(t *testing.T) {
	dir, id := t.TempDir(), checkpoint.NewMigrationID()
	s := open(t, dir, nil)
	upsert(t, s, id, 0, addLearner)
	upsert(t, s, id, 0, catchUp)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var errs []error
	for r, err := range s.History(ctx, id) {
		require.Zero(t, r)
		errs = append(errs, err)
	}
	require.Len(t, errs, 1)
	require.ErrorIs(t, errs[0], context.Canceled)

	for r, err := range s.History(t.Context(), id) {
		require.NoError(t, err)
		require.EqualValues(t, 1, r.Seq)
		break
	}
}

// Readers next to a live writer see no damage, and no event out of order.
func TestD10_ReadersBesideAWriter(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, &migrationlog.Options{SegmentSize: 16 << 10, NoSync: true})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			id := checkpoint.NewMigrationID()
			for i := range uint32(20_000) {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := s.Upsert(row(t, id, i, catchUp)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var events uint64
	for n := 0; n < 40 || events < 1000; n++ {
		report := verify(t, dir)
		require.True(t, report.Clean(), fmt.Sprintf("%+v", report))
		require.GreaterOrEqual(t, report.FramesOK, events)
		events = report.FramesOK
	}
	close(stop)
	wg.Wait()
}

// A log handler may close the store in any call.
func TestLoggerMayClose(t *testing.T) {
	for name, do := range map[string]func(s *migrationlog.Store, dir string){
		"a snapshot during writes": func(s *migrationlog.Store, _ string) {
			for range 20 {
				_, _ = s.Upsert(row(t, checkpoint.NewMigrationID(), 0, addLearner))
			}
		},
		"a snapshot that Close writes": func(s *migrationlog.Store, _ string) {
			_, _ = s.Upsert(row(t, checkpoint.NewMigrationID(), 0, addLearner))
			_ = s.Close()
		},
		"Close": func(s *migrationlog.Store, dir string) {
			_ = os.Rename(filepath.Join(dir, "LOCK"), filepath.Join(dir, "gone"))
			_ = s.Close()
		},
	} {
		dir := filepath.Join(memDir(t), "log")
		handler := &closingHandler{Handler: slog.DiscardHandler, closed: make(chan struct{})}
		s := open(t, dir, &migrationlog.Options{SegmentSize: 300, Logger: slog.New(handler)})
		require.NoError(t, os.WriteFile(filepath.Join(dir, "snapshots"), nil, 0o600)) // no snapshot can be written
		handler.store.Store(s)
		go do(s, dir)
		select {
		case <-handler.closed:
		case <-time.After(time.Minute):
			t.Fatalf("%s: a handler that closes the store never returns", name)
		}
		_ = s.Close()
	}
}

type closingHandler struct {
	slog.Handler
	store  atomic.Pointer[migrationlog.Store]
	once   sync.Once
	closed chan struct{}
}

func (h *closingHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *closingHandler) Handle(context.Context, slog.Record) error {
	if s := h.store.Load(); s != nil {
		_ = s.Close()
		h.once.Do(func() { close(h.closed) })
	}
	return nil
}
