package migrationlog_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// smallLog returns a closed log of five events, and the end offsets of their entries.
func smallLog(t testing.TB) (dir string, events []checkpoint.Event, ends []int) {
	dir = filepath.Join(memDir(t), "log")
	s := open(t, dir, nil)
	a, b := checkpoint.NewMigrationID(), checkpoint.NewMigrationID()
	upsert(t, s, a, 0, addLearner)
	upsert(t, s, b, 0, addLearner)
	upsert(t, s, a, 0, catchUp)
	_, err := s.Abort(b, "target node unreachable", []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 9, PeerID: 3}})
	require.NoError(t, err)
	upsert(t, s, a, 1, catchUp)
	require.NoError(t, s.Close())
	events, ends = eventsAndEnds(t, dir)
	return dir, events, ends
}

// abortLog is a closed log like smallLog, with five events of five kinds. The migration of its only
// row is being aborted, and the highest epoch is that of seq 4.
func abortLog(t testing.TB) (dir string, events []checkpoint.Event, ends []int) {
	dir = filepath.Join(memDir(t), "log")
	a := checkpoint.NewMigrationID()
	s := open(t, dir, nil)
	_, err := s.WriteAll([]checkpoint.Event{
		checkpoint.Upserted{Checkpoint: row(t, a, 0, addLearner), Epoch: 1},
		checkpoint.AbortBegun{MigrationID: a, Reason: "stale", TimestampMS: 7, Compensations: []checkpoint.Compensation{
			{Kind: checkpoint.RemoveVoter, GroupID: 9, PeerID: 3}, {Kind: checkpoint.RestoreLeaderHint, GroupID: 9, PeerID: 5},
		}},
		checkpoint.Compensated{MigrationID: a, Step: 1, TimestampMS: 8, Epoch: 2},
		checkpoint.EpochRaised{MigrationID: checkpoint.NewMigrationID(), TimestampMS: 9, Epoch: 300},
		checkpoint.Aborted{MigrationID: checkpoint.NewMigrationID(), Reason: "target node unreachable", TimestampMS: 10},
	}, migrationlog.Confirm())
	require.NoError(t, err)
	require.NoError(t, s.Close())
	events, ends = eventsAndEnds(t, dir)
	return dir, events, ends
}

// eventsAndEnds returns the five events of a log, and the offsets of their ends in the first
// segment.
func eventsAndEnds(t testing.TB, dir string) (events []checkpoint.Event, ends []int) {
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		events = append(events, r.Event)
		ends = append(ends, int(r.Offset+r.Length))
	}
	require.Len(t, events, 5)
	return events, ends
}

// eventsIn returns the intact events of a log by their numbers.
func eventsIn(t testing.TB, dir string) map[uint64]checkpoint.Event {
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	events := map[uint64]checkpoint.Event{}
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		if r.Event != nil {
			require.NotContains(t, events, r.Seq)
			events[r.Seq] = r.Event
		}
	}
	return events
}

// setWatermark sets both watermark files to seq, as if later updates had not reached the disk.
func setWatermark(t testing.TB, dir string, seq uint64) {
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots"))) // a snapshot proves more
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	for _, name := range segment.WatermarkNames {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), segment.AppendWatermark(nil, reader.Manifest().UUID, seq), 0o600))
	}
}

func flip(t testing.TB, path string, at int) {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[at] ^= 0x10
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

type ids = []checkpoint.MigrationID
