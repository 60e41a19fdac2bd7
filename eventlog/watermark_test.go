package eventlog

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// Both watermarks have the number of the last frame that a sync has made durable. A write alone
// does not raise them.
func TestWatermark_FollowsTheSync(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	log := beginLog(t, dir, Options{SegmentSize: 2 * bodyBytes})
	require.Equal(t, [2]uint64{0, 0}, watermarks(t, dir))
	entries := []Entry{{Body: segment.NewBody(body)}}
	for seq := range uint64(5) { // over two rotations, which make the earlier frames durable
		require.NoError(t, log.Write(entries))
		require.Equal(t, [2]uint64{seq, seq}, watermarks(t, dir), "seq %d is not durable", seq+1)
		require.Equal(t, seq, log.DurableThrough())
		require.NoError(t, log.Sync())
		require.Equal(t, [2]uint64{seq + 1, seq + 1}, watermarks(t, dir))
		require.Equal(t, seq+1, log.DurableThrough())
	}
	require.NoError(t, log.Write(entries))
	require.NoError(t, log.Close())
	require.Equal(t, [2]uint64{6, 6}, watermarks(t, dir), "Close makes everything durable")
}

// Without syncs a watermark lags by at most one segment. Closing the log raises it to the end.
func TestWatermark_NoSync(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	log := beginLog(t, dir, Options{SegmentSize: 2 * bodyBytes, NoSync: true})
	for _, want := range []uint64{0, 0, 2, 2, 4} {
		require.NoError(t, write(log, body))
		require.Equal(t, [2]uint64{want, want}, watermarks(t, dir))
		require.Equal(t, want, log.DurableThrough())
	}
	require.NoError(t, log.Close())
	require.Equal(t, [2]uint64{5, 5}, watermarks(t, dir))
}

// An opening sets both watermarks to the number of the last frame. It overwrites an intact file in
// place and replaces a damaged one.
func TestWatermark_AfterAnOpening(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(t *testing.T, dir string)
		want   uint64
		stays  [2]bool // whether each file was overwritten in place
	}{
		"exact":            {func(*testing.T, string) {}, 3, [2]bool{true, true}},
		"too low":          {func(t *testing.T, dir string) { setWatermark(t, dir, 0) }, 3, [2]bool{true, true}},
		"one too low":      {func(t *testing.T, dir string) { put(t, line(t, dir, 1), dir, "WATERMARK") }, 3, [2]bool{true, true}},
		"beyond the log":   {func(t *testing.T, dir string) { setWatermark(t, dir, 7) }, 7, [2]bool{true, true}},
		"one beyond":       {func(t *testing.T, dir string) { put(t, line(t, dir, 7), dir, "wal", "WATERMARK") }, 3, [2]bool{true, true}},
		"one damaged":      {func(t *testing.T, dir string) { flip(t, 3, dir, "WATERMARK") }, 3, [2]bool{false, true}},
		"the copy damaged": {func(t *testing.T, dir string) { flip(t, 3, dir, "wal", "WATERMARK") }, 3, [2]bool{true, false}},
		"both damaged": {func(t *testing.T, dir string) {
			flip(t, 3, dir, "WATERMARK")
			flip(t, 3, dir, "wal", "WATERMARK")
		}, 3, [2]bool{false, false}},
		"one empty":    {func(t *testing.T, dir string) { put(t, nil, dir, "WATERMARK") }, 3, [2]bool{false, true}},
		"one too long": {func(t *testing.T, dir string) { put(t, append(line(t, dir, 3), 'x'), dir, "WATERMARK") }, 3, [2]bool{false, true}},
		"one of another log": {func(t *testing.T, dir string) {
			put(t, read(t, closedLog(t, 3, Options{}), "WATERMARK"), dir, "WATERMARK")
		}, 3, [2]bool{false, true}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := closedLog(t, 3, Options{})
			tc.change(t, dir)
			var was [2]os.FileInfo
			for i, file := range segment.WatermarkNames {
				var err error
				was[i], err = os.Lstat(filepath.Join(dir, file))
				require.NoError(t, err)
			}
			r := begin(t, dir, Options{})
			items(t, r)
			log, err := r.Finish(segment.FrameID{})
			require.NoError(t, err)
			require.Equal(t, [2]uint64{tc.want, tc.want}, watermarks(t, dir))
			require.Equal(t, tc.want+1, log.NextSeq())
			require.Equal(t, tc.want, log.DurableThrough())
			for i, file := range segment.WatermarkNames {
				is, err := os.Lstat(filepath.Join(dir, file))
				require.NoError(t, err)
				require.Equal(t, tc.stays[i], os.SameFile(was[i], is), file)
			}
			require.NoError(t, log.Close())
		})
	}
}

func line(t testing.TB, dir string, seq uint64) []byte {
	m, _, err := segment.ReadManifest(os.DirFS(dir))
	require.NoError(t, err)
	return segment.AppendWatermark(nil, m.UUID, seq)
}

// If a watermark file is removed or replaced while a writer runs, the next rotation succeeds. The
// writer fails before the rotation after it. Later openings would not read the old file.
func TestWatermark_ReplacedWhileAWriterRuns(t *testing.T) {
	for _, name := range segment.WatermarkNames {
		for how, take := range map[string]func(path string) error{
			"removed":  os.Remove,
			"replaced": func(path string) error { return replaceFile(path, read(t, path)) },
		} {
			dir := filepath.Join(memDir(t), "log")
			log := beginLog(t, dir, Options{SegmentSize: bodyBytes})
			require.NoError(t, write(log, body))
			require.NoError(t, take(filepath.Join(dir, name)), how)
			before := tree(t, dir)[name]
			err := write(log, body)
			if err == nil {
				err = write(log, body)
			}
			require.ErrorIs(t, err, ErrFailed, "%s %s", name, how)
			require.ErrorIs(t, log.Close(), ErrFailed)
			require.Equal(t, before, tree(t, dir)[name])
		}
	}
	_, err := openWatermark(memDir(t), [16]byte{1})
	require.ErrorIs(t, err, os.ErrNotExist)
}
