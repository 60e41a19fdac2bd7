package migrationlog_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// D7: whatever a crash leaves of the making of a log, the next Open makes or
// opens it.
func TestD7_CrashWhileCreating(t *testing.T) {
	whole := filepath.Join(memDir(t), "log")
	require.NoError(t, open(t, whole, nil).Close())
	steps := [][]string{ // what is there after each step, in the order of its making
		{"LOCK"},
		{"LOCK", "WATERMARK.new"},
		{"LOCK", "WATERMARK"},
		{"LOCK", "WATERMARK", "wal/WATERMARK.new"},
		{"LOCK", "WATERMARK", "wal/WATERMARK"},
		{"LOCK", "WATERMARK", "wal/WATERMARK", "wal/" + firstSegment},
		{"LOCK", "WATERMARK", "wal/WATERMARK", "wal/" + firstSegment, "wal/MANIFEST.new"},
		{"LOCK", "WATERMARK", "wal/WATERMARK", "wal/" + firstSegment, "wal/MANIFEST"},
		{"LOCK", "WATERMARK", "wal/WATERMARK", "wal/" + firstSegment, "wal/MANIFEST", "MANIFEST.new"},
	}
	for _, files := range steps {
		dir := filepath.Join(memDir(t), "log")
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "wal"), 0o700))
		for _, name := range files {
			b, err := os.ReadFile(filepath.Join(whole, strings.TrimSuffix(name, ".new")))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		}
		s := open(t, dir, &migrationlog.Options{OnDamage: migrationlog.RefuseDamage})
		require.EqualValues(t, 1, upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp).Seq, "%v", files)
		require.NoError(t, s.Close())
		require.True(t, verify(t, dir).Clean(), "%v", files)
	}
}

// D4, D5: a log from before there was a watermark gets one when it is opened.
func TestWatermark_OfAnOlderLog(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/golden/v1/clean/log")))
	require.NoFileExists(t, filepath.Join(dir, "WATERMARK"))
	s := open(t, dir, nil)
	require.True(t, s.Report().Clean())
	require.EqualValues(t, 42, upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp).Seq)
	require.NoError(t, s.Close())
	require.NoError(t, os.Truncate(segmentPath(dir, "00000000000000000033"), 0))
	require.Equal(t, []replay.SeqRange{{First: 33, Last: 42}}, verify(t, dir).AcknowledgedLost)
}

// A kind that a newer version wrote is kept and counted, and changes no row.
func TestUnknownKind(t *testing.T) {
	dir, _, ends := smallLog(t)
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	id := checkpoint.MigrationID{7}
	body, err := cbor.Marshal(map[int]any{1: 9, 2: id[:], 3: 5, 8: 12})
	require.NoError(t, err)
	log := reader.Manifest().UUID
	frame := segment.AppendFrame(nil, &log, segment.Header{Seq: 6, DurableThrough: 5}, segment.NewBody(body))
	f, err := os.OpenFile(segmentPath(dir, firstSegment), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.Write(append(binary.AppendUvarint(nil, uint64(len(frame))), frame...))
	require.NoError(t, err)
	require.NoError(t, f.Close())

	s := open(t, dir, nil)
	report := s.Report()
	require.True(t, report.Clean())
	require.EqualValues(t, 1, report.UnknownKinds)
	require.EqualValues(t, len(ends)+1, report.FramesOK)
	history, err := s.History(id)
	require.NoError(t, err)
	require.Len(t, history, 1)
	require.EqualValues(t, 9, history[0].Unknown.Kind)
	require.Equal(t, replay.KindUnknown, history[0].Kind())
	require.EqualValues(t, 7, upsert(t, s, id, 0, catchUp).Seq)
}
