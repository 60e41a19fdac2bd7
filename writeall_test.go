package migrationlog_test

import (
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
)

// moves returns the AddLearner events of n migrations.
func moves(t testing.TB, n int) []checkpoint.Event {
	events := make([]checkpoint.Event, n)
	for i := range events {
		events[i] = checkpoint.Upserted{Checkpoint: row(t, checkpoint.NewMigrationID(), 0, addLearner)}
	}
	return events
}

// D1: the events of one call are durable and visible in their order, with a few appends for all.
// Events of concurrent calls may lie between them.
func TestD1_WriteAll(t *testing.T) {
	const callers, events = 3, 1100
	dir := t.TempDir()
	s := open(t, dir, &migrationlog.Options{SegmentSize: 50_000})
	want := map[uint64]checkpoint.Event{}
	var mu sync.Mutex
	var writing sync.WaitGroup
	for range callers {
		all := moves(t, events)
		writing.Go(func() {
			receipts, err := s.WriteAll(all)
			if err != nil || len(receipts) != len(all) {
				t.Errorf("%d receipts, %v", len(receipts), err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for i, r := range receipts {
				want[r.Seq] = all[i]
				if i > 0 && r.Seq <= receipts[i-1].Seq {
					t.Errorf("event %d has number %d, the one before it %d", i, r.Seq, receipts[i-1].Seq)
				}
			}
		})
	}
	for range 50 {
		e := moves(t, 1)[0]
		r, err := write(s, e)
		require.NoError(t, err)
		mu.Lock()
		want[r.Seq] = e
		mu.Unlock()
	}
	writing.Wait()
	require.Len(t, want, callers*events+50, "no number may be used twice")
	require.Less(t, s.Stats().Batches, uint64(200))
	require.Equal(t, len(want), s.Len())
	require.Equal(t, want, eventsIn(t, copyDir(t, dir)), "the events after a kill")
	s = reopen(t, s, dir)
	require.Equal(t, len(want), s.Len())
}

// D3: WriteAll stops at the first rejected event, whatever the reason. The events before it are
// written, and none after it.
func TestD3_WriteAllEndsWhereItIsRefused(t *testing.T) {
	changed := addLearner
	changed.TargetNode++
	for name, tc := range map[string]struct {
		refused func(first checkpoint.MigrationID) checkpoint.Event
		want    error
	}{
		"no event":     {func(checkpoint.MigrationID) checkpoint.Event { return nil }, migrationlog.ErrInvalid},
		"a pointer":    {func(id checkpoint.MigrationID) checkpoint.Event { return &checkpoint.Removed{MigrationID: id} }, migrationlog.ErrInvalid},
		"no migration": {func(checkpoint.MigrationID) checkpoint.Event { return checkpoint.Removed{MigrationID: uuid.Nil} }, checkpoint.ErrNilMigrationID},
		"no payload": {func(id checkpoint.MigrationID) checkpoint.Event {
			return checkpoint.Upserted{Checkpoint: checkpoint.Checkpoint{MigrationID: id}}
		}, checkpoint.ErrNilPayload},
		"too large": {func(id checkpoint.MigrationID) checkpoint.Event {
			return checkpoint.Aborted{MigrationID: id, Reason: strings.Repeat("x", 64<<10)}
		}, migrationlog.ErrTooLarge},
		"a conflict": {func(id checkpoint.MigrationID) checkpoint.Event {
			return checkpoint.Upserted{Checkpoint: row(t, id, 0, changed)}
		}, migrationlog.ErrConflict},
	} {
		for _, before := range []int{0, 1, 999, 1000, 1001} { // about as many as go together
			dir := t.TempDir()
			s := open(t, dir, nil)
			first := checkpoint.NewMigrationID()
			upsert(t, s, first, 0, addLearner)
			events := append(append(moves(t, before), tc.refused(first)), moves(t, 3)...)
			receipts, err := s.WriteAll(events, migrationlog.Strict())
			require.ErrorIs(t, err, tc.want, name)
			require.Len(t, receipts, before, name)
			require.Equal(t, 1+before, s.Len(), name)
			require.NoError(t, s.Health())
			require.NoError(t, s.Close())
			require.Len(t, eventsIn(t, dir), 1+before, name)
		}
	}
}

// D6: if an append fails, WriteAll returns the receipts of the events before it, and the events of
// the failed append are not visible.
func TestD6_WriteAllFails(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	receipts, err := s.WriteAll(moves(t, 10))
	require.NoError(t, err)
	require.Len(t, receipts, 10)
	resume := s.HoldCommits()
	told := make(chan error)
	go func() {
		receipts, err := s.WriteAll(moves(t, 10))
		if len(receipts) > 0 {
			t.Errorf("%d receipts", len(receipts))
		}
		told <- err
	}()
	require.Eventually(t, func() bool { return s.Waiting() > 0 }, time.Minute, time.Millisecond)
	require.NoError(t, os.Truncate(segmentPath(dir, firstSegment), 10))
	resume()
	require.ErrorIs(t, <-told, migrationlog.ErrFailed)
	require.Equal(t, 10, s.Len())
	require.EqualValues(t, 10, s.Stats().Refused)

	require.ErrorIs(t, s.Close(), migrationlog.ErrFailed)
	receipts, err = s.WriteAll(moves(t, 1))
	require.ErrorIs(t, err, migrationlog.ErrClosed)
	require.Empty(t, receipts)
}

// An event that changes nothing has a receipt that shows it, and does not stop WriteAll.
func TestWriteAll_Duplicates(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	move := moves(t, 1)[0]
	id := move.Migration()
	removal := checkpoint.Removed{MigrationID: id, TimestampMS: 7}
	receipts, err := s.WriteAll([]checkpoint.Event{removal, move, move, removal, removal, move})
	require.NoError(t, err)
	require.Equal(t, []migrationlog.Receipt{{}, {Seq: 1}, {Seq: 1, Duplicate: true}, {Seq: 2}, {}, {Seq: 3}}, receipts)
	receipts, err = s.WriteAll(nil)
	require.NoError(t, err)
	require.Empty(t, receipts)
	records := historyOf(t, s, id)
	require.Len(t, records, 3)
	require.EqualValues(t, 7, records[1].Event.WallMS(), "an event keeps its own time")
}
