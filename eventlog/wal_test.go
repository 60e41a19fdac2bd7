package eventlog

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// tidwall/wal caches neither the entries that it writes nor those that it read when it opened the
// segment. It still appends at the end.
func TestReadCacheStaysEmpty(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	log := beginLog(t, dir, Options{})
	require.NoError(t, write(log, []byte("one")))
	require.NoError(t, log.Close())
	wal := filepath.Join(dir, segment.WALDir)
	a, err := openAppender(wal, 1)
	require.NoError(t, err)
	require.NotNil(t, a.cache.entries, "the structs of tidwall/wal have changed")
	require.Zero(t, cap(*a.cache.entries))
	require.NoError(t, a.write(2, [][]byte{[]byte("two"), make([]byte, 8<<10)}))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for seq := range uint64(128) {
		require.NoError(t, a.write(4+seq, [][]byte{make([]byte, 8<<10)}))
	}
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20+1<<18), "the test itself allocates 1 MiB; with the cache it would be 6 MiB")
	require.NoError(t, a.close())

	a, err = openAppender(wal, 131)
	require.NoError(t, err)
	require.NoError(t, a.close())
	written, err := os.ReadFile(filepath.Join(wal, segment.Name(1)))
	require.NoError(t, err)
	require.Contains(t, string(written), "one\x03two")
}

// D4, D6: after a failed write, another process may have written the bytes after the last intact
// entry. Closing the log does not cut them off.
func TestD4_NothingIsCutOffAfterAFailure(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	log := beginLog(t, dir, Options{})
	require.NoError(t, write(log, []byte("one")))
	path := filepath.Join(dir, segment.WALDir, segment.Name(1))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	_, err = f.WriteString("another's")
	require.NoError(t, errors.Join(err, f.Close()))
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	require.ErrorIs(t, write(log, []byte("one")), ErrFailed)
	require.ErrorIs(t, log.Close(), ErrFailed)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

// D3: the log does not open for appending if tidwall/wal's last index differs from the last frame's
// sequence number.
func TestD3_WALEndsAtTheLastFrame(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	log := beginLog(t, dir, Options{})
	require.NoError(t, write(log, []byte("one"), []byte("two")))
	require.NoError(t, log.Close())
	wal := filepath.Join(dir, segment.WALDir)
	for last, fits := range map[uint64]bool{1: false, 2: true, 3: false} {
		a, err := openAppender(wal, last)
		if fits {
			require.NoError(t, err)
			require.NoError(t, a.close())
			continue
		}
		require.ErrorContains(t, err, "the last index of tidwall/wal is 2")
	}
	before, err := os.ReadFile(filepath.Join(wal, segment.Name(1)))
	require.NoError(t, err)
	_, err = openAppender(wal, 9)
	require.Error(t, err)
	after, err := os.ReadFile(filepath.Join(wal, segment.Name(1)))
	require.NoError(t, err)
	require.Equal(t, before, after)
}

// D6, D10: if a write fills several segments, it checks the lock again before each one. Another
// writer may have taken the lock since the write started.
func TestD10_RotationWithoutTheLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	log := beginLog(t, dir, Options{SegmentSize: 1})
	require.NoError(t, write(log, []byte("one")))
	require.NoError(t, log.rotate())
	require.NoError(t, os.Remove(filepath.Join(dir, LockName)))
	segments := func() int {
		names, err := segment.Names(os.DirFS(dir))
		require.NoError(t, err)
		return len(names)
	}
	before := segments()
	require.ErrorContains(t, log.rotate(), "another writer may own the log")
	require.Equal(t, before, segments())
}

// segment.Strays has the same opinion as tidwall/wal on which names belong to it. tidwall/wal makes
// segment 1 only if it takes no file in the directory for a segment.
func TestStrays_AgreeWithWAL(t *testing.T) {
	taken := 0
	for _, name := range []string{
		"00000000000000000005", "00000000000000000005.START", "00000000000000000005.END", "18446744073709551615",
		"00000000000000000000", "99999999999999999999", "00000000000000000000.END", "00000000000000000005.START.END",
		"00000000000000000005.end", "00000000000000000005.bak", "00000000000000000005~", "5.END", "0000000000000000000x", ".DS_Store",
	} {
		dir := t.TempDir()
		wal := filepath.Join(dir, segment.WALDir)
		put(t, nil, wal, name)
		strays, err := segment.Strays(os.DirFS(dir))
		require.NoError(t, err)
		_, isSegment := segment.ParseName(name)
		dangerous := isSegment || strays[0].Severity == segment.EndangersEvents
		a, err := openAppender(wal, 0)
		if err == nil {
			require.NoError(t, a.close())
		}
		_, err = os.Stat(filepath.Join(wal, segment.Name(1)))
		require.Equal(t, dangerous, os.IsNotExist(err), name)
		if dangerous {
			taken++
		}
	}
	require.Equal(t, 4, taken)
}

// A symbolic link to the only segment is not taken for a log without segments.
func TestBegin_OnlySegmentIsASymlink(t *testing.T) {
	dir := closedLog(t, 1, Options{})
	elsewhere := filepath.Join(dir, "elsewhere")
	require.NoError(t, os.Rename(segmentPath(dir, 1), elsewhere))
	require.NoError(t, os.Symlink(elsewhere, segmentPath(dir, 1)))
	_, err := Begin(dir, Options{})
	require.ErrorIs(t, err, ErrNeedsRepair)
	require.ErrorContains(t, err, "wal/"+segment.Name(1)+" has a segment's name but is not a regular file")
}
