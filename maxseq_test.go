package migrationlog_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// D3: a log uses the numbers up to the last valid one, and none beyond it. A write without a number
// returns an error and appends nothing. Reads still work, and the store opens again.
func TestD3_LastNumbers(t *testing.T) {
	for name, opts := range map[string]*migrationlog.Options{"one segment": nil, "a segment for each event": {SegmentSize: 1}} {
		dir, events, _ := smallLog(t)
		setWatermark(t, dir, segment.MaxSeq-2)
		s := open(t, dir, opts)
		require.Equal(t, []replay.SeqRange{{First: 6, Last: segment.MaxSeq - 2}}, s.Report().AcknowledgedLost, name)
		a, b := checkpoint.NewMigrationID(), checkpoint.NewMigrationID()
		require.Equal(t, segment.MaxSeq-1, upsert(t, s, a, 0, catchUp).Seq, name)
		receipts, err := s.WriteAll(moves(t, 3))
		require.ErrorIs(t, err, migrationlog.ErrNeedsRepair, name)
		require.Len(t, receipts, 1, name)
		require.Equal(t, segment.MaxSeq, receipts[0].Seq, name)

		for range 2 {
			before := hashes(t, filepath.Join(dir, "wal"))
			_, err = s.Upsert(row(t, b, 0, catchUp))
			require.ErrorIs(t, err, migrationlog.ErrNeedsRepair, name)
			require.ErrorContains(t, err, "begin a new log in another")
			_, err = s.Remove(a)
			require.ErrorIs(t, err, migrationlog.ErrNeedsRepair, name)
			require.Equal(t, before, hashes(t, filepath.Join(dir, "wal")), name)

			require.NoError(t, s.Health(), name)
			require.True(t, upsert(t, s, a, 0, catchUp).Duplicate, "a write that needs no number succeeds")
			_, found := s.Get(a)
			require.True(t, found, name)
			_, found = s.Get(b)
			require.False(t, found, name)
			require.Equal(t, segment.MaxSeq, s.Stats().LastSeq, name)
			require.NoError(t, s.Close(), name)
			require.Len(t, eventsIn(t, dir), len(events)+2, name)
			s = open(t, dir, opts)
			require.Equal(t, []replay.SeqRange{{First: 6, Last: segment.MaxSeq - 2}}, s.Report().Lost, name)
		}
	}
}

// D3: if a watermark or a frame shows that the last number was used, Open refuses the log and
// leaves it unchanged. A higher number is damage, and the log continues after its last frame. The
// name of an empty segment counts only up to half of the bound, so that a made-up name does not use
// up the numbers.
func TestD3_NumbersAboutTheLast(t *testing.T) {
	withFrame := func(dir string, seq uint64) {
		reader, err := replay.Open(dir)
		require.NoError(t, err)
		log := reader.Manifest().UUID
		body, err := checkpoint.AppendUpserted(nil, ptr(row(t, checkpoint.NewMigrationID(), 0, catchUp)))
		require.NoError(t, err)
		frame := segment.AppendFrame(nil, &log, segment.Header{Seq: seq}, segment.NewBody(body))
		f, err := os.OpenFile(segmentPath(dir, firstSegment), os.O_WRONLY|os.O_APPEND, 0)
		require.NoError(t, err)
		_, err = f.Write(append(binary.AppendUvarint(nil, uint64(len(frame))), frame...))
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	withWatermark := func(dir string, seq uint64) { setWatermark(t, dir, seq) }
	withSegment := func(dir string, seq uint64) {
		require.NoError(t, os.WriteFile(segmentPath(dir, segment.Name(seq)), nil, 0o600))
	}
	withSnapshot := func(dir string, seq uint64) {
		require.NoError(t, os.Rename(filepath.Join(dir, "snapshots", segment.Name(5)), filepath.Join(dir, "snapshots", segment.Name(seq))))
	}
	const refused = 0
	for _, tc := range []struct {
		name  string
		claim func(dir string, seq uint64)
		seq   uint64
		next  uint64 // seq of the first write, or refused
		whole bool   // readers find no damage
	}{
		{"watermark", withWatermark, segment.MaxSeq - 1, segment.MaxSeq, false}, // the frames up to it are lost
		{"watermark", withWatermark, segment.MaxSeq, refused, false},
		{"watermark", withWatermark, segment.MaxSeq + 1, 6, false},
		{"frame", withFrame, segment.MaxSeq - 1, segment.MaxSeq, false},
		{"frame", withFrame, segment.MaxSeq, refused, false},
		{"frame", withFrame, segment.MaxSeq + 1, 7, false},
		{"segment", withSegment, segment.MaxSeq / 2, segment.MaxSeq / 2, false},
		{"segment", withSegment, segment.MaxSeq/2 + 1, refused, false},
		{"segment", withSegment, segment.MaxSeq - 1, refused, false},
		{"segment", withSegment, segment.MaxSeq, refused, false},
		{"segment", withSegment, segment.MaxSeq + 1, 6, false},
		{"snapshot", withSnapshot, segment.MaxSeq - 1, 6, false},
		{"snapshot", withSnapshot, segment.MaxSeq, 6, false},
		{"snapshot", withSnapshot, segment.MaxSeq + 1, 6, true}, // not a valid name of a snapshot
	} {
		dir, events, _ := smallLog(t)
		tc.claim(dir, tc.seq)
		require.Equal(t, tc.whole, verify(t, dir).Clean(), "%s %d", tc.name, tc.seq)
		if tc.next == refused {
			before := hashes(t, dir)
			_, err := migrationlog.Open(dir, nil)
			require.ErrorIs(t, err, migrationlog.ErrNeedsRepair, "%s %d", tc.name, tc.seq)
			require.Equal(t, before, hashes(t, dir), "%s %d", tc.name, tc.seq)
			continue
		}
		s := open(t, dir, nil)
		require.Equal(t, tc.next, upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp).Seq, "%s %d", tc.name, tc.seq)
		s = reopen(t, s, dir)
		require.Empty(t, s.Report().Quarantined, "%s %d: the files of the writer are intact", tc.name, tc.seq)
		require.GreaterOrEqual(t, len(eventsIn(t, dir)), len(events)+1, "%s %d", tc.name, tc.seq)
		require.Equal(t, tc.next, s.Stats().LastSeq, "%s %d", tc.name, tc.seq)
	}
}

func ptr[T any](v T) *T { return &v }
