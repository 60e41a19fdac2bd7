package eventlog

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// preparedPath is the path of a log's prepared segment.
func preparedPath(dir string) string { return filepath.Join(dir, PreparedDir, preparedName) }

// fillTail writes entries of 1 KiB until the tail has at least sizeBytes of them.
func fillTail(t testing.TB, log *Log, sizeBytes int64) {
	for log.tail.used < sizeBytes {
		require.NoError(t, write(log, make([]byte, 1<<10)))
	}
}

// The next segment is prepared once a quarter of the last one is used. It is filled with zeros, and
// a bit larger than the limit. The log continues in it without preallocating.
func TestPreparation(t *testing.T) {
	const limit = 200_000
	dir := filepath.Join(memDir(t), "log")
	log := openLog(t, dir, Options{SegmentSize: limit})
	fillTail(t, log, limit/4-2000)
	require.Nil(t, log.next)
	require.NoDirExists(t, filepath.Join(dir, PreparedDir))

	fillTail(t, log, limit/4+1)
	require.NoError(t, log.next.work.wait())
	prepared := read(t, preparedPath(dir))
	require.Len(t, prepared, limit+limit/overrunDivisor)
	require.True(t, allZeros(prepared))
	file, err := os.Stat(preparedPath(dir))
	require.NoError(t, err)

	fillTail(t, log, limit)
	require.NoError(t, write(log, body))
	require.NoFileExists(t, preparedPath(dir))
	moved, err := os.Stat(segmentPath(dir, log.Last().Seq))
	require.NoError(t, err)
	require.True(t, os.SameFile(file, moved))
	require.EqualValues(t, len(prepared), moved.Size())

	require.NoError(t, log.Close())
	require.EqualValues(t, bodyBytes, segmentSizes(t, dir)[segment.Name(log.Last().Seq)], "Close cuts the zeros off")
	require.NoDirExists(t, filepath.Join(dir, PreparedDir))
	require.NoError(t, openLog(t, dir, Options{}).Close())
}

func allZeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// A batch may exceed the limit by a sixteenth. It then needs one sync. The rest of a larger batch
// goes into the next segment.
func TestPreparation_BatchExceedsTheLimit(t *testing.T) {
	for name, tc := range map[string]struct {
		entries int
		want    int
	}{
		"by a sixteenth": {8, 1},
		"by more":        {9, 2},
	} {
		dir := filepath.Join(memDir(t), "log")
		log := openLog(t, dir, Options{SegmentSize: 112 * bodyBytes})
		for range 111 {
			require.NoError(t, write(log, body))
		}
		bodies := make([][]byte, tc.entries)
		for i := range bodies {
			bodies[i] = body
		}
		require.NoError(t, write(log, bodies...))
		require.Len(t, segmentSizes(t, dir), tc.want, name)
		require.NoError(t, log.Close())
	}
}

// If the log needs the next segment before the preparation has ended, it uses the segment as it is.
func TestPreparation_Unfinished(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	log := openLog(t, dir, Options{SegmentSize: 100_000})
	fillTail(t, log, 20_000)
	started := make(chan struct{})
	p := &preparation{}
	p.work = inBackground(func(pause func() bool) (err error) {
		p.tail, err = createTail(dir, 100_000, &log.spinWait)
		if err == nil {
			err = p.tail.fill(1000, func() bool { return false })
		}
		close(started)
		for pause() { // it does not end before it is stopped
		}
		return err
	})
	log.next = p
	<-started
	fillTail(t, log, 100_000)
	require.NoError(t, write(log, body))
	require.Same(t, p.tail, log.tail)
	require.NoError(t, write(log, make([]byte, 1<<10)))
	require.EqualValues(t, 100_000, log.tail.fileSize, "the write preallocates")
	require.NoError(t, log.Close())
	require.NoError(t, openLog(t, dir, Options{}).Close())
}

// D6: an error of a preparation ends only the preparation. The log makes the next segment when it
// needs it.
func TestD6_PreparationFails(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	log := openLog(t, dir, Options{SegmentSize: 100_000})
	fillTail(t, log, 20_000)
	foreign := filepath.Join(dir, PreparedDir, segment.Name(5)+".END")
	put(t, nil, foreign)
	fillTail(t, log, 60_000)
	require.ErrorContains(t, log.next.work.wait(), foreign)
	require.NoFileExists(t, preparedPath(dir))
	require.NoError(t, log.Health())

	require.NoError(t, os.Remove(foreign))
	fillTail(t, log, 100_000)
	require.NoError(t, write(log, body))
	require.Len(t, segmentSizes(t, dir), 2)
	require.NoError(t, log.Close())
	require.NoDirExists(t, filepath.Join(dir, PreparedDir))
}

// D7: a writer may be killed at any moment of a preparation. The next opening removes the segment,
// finds the same frames, and can start segments.
func TestD7_PreparedSegmentOfAKilledWriter(t *testing.T) {
	for name, prepared := range map[string][]byte{
		"empty": nil, "zeros": make([]byte, 3000), "as large as a segment": make([]byte, maxPreparedBytes),
	} {
		dir := closedLog(t, 3, Options{SegmentSize: bodyBytes})
		put(t, prepared, preparedPath(dir))
		require.Empty(t, repaired(t, dir, Options{SegmentSize: bodyBytes}), name)
		require.NoFileExists(t, preparedPath(dir), name)
		put(t, prepared, preparedPath(dir))
		log := openLog(t, dir, Options{SegmentSize: bodyBytes})
		require.EqualValues(t, 4, log.NextSeq(), name)
		require.NoError(t, write(log, body))
		require.NoError(t, write(log, body))
		require.NoError(t, log.Close())
		require.NoDirExists(t, filepath.Join(dir, QuarantineDir), name)
	}
}

// D4: a power cut may undo the move of a segment to wal/. Opening keeps the bytes of such a segment,
// and of any other file in wal/prepared/ that tidwall/wal would read. It ignores all other files there.
func TestD4_BytesInPreparedSegment(t *testing.T) {
	dir := closedLog(t, 3, Options{})
	put(t, []byte{0, 0, 1}, preparedPath(dir))
	put(t, nil, dir, PreparedDir, segment.Name(7))
	put(t, []byte("a person's"), dir, PreparedDir, "notes")
	saved := repaired(t, dir, Options{})
	require.ElementsMatch(t, []string{filepath.Join(QuarantineDir, preparedName), filepath.Join(QuarantineDir, segment.Name(7))}, saved)
	require.Equal(t, []byte{0, 0, 1}, read(t, dir, QuarantineDir, preparedName))
	require.Equal(t, []string{"notes"}, names(t, filepath.Join(dir, PreparedDir)))
	require.Empty(t, repaired(t, dir, Options{}))
}

// The error of a write names the segment in wal/, even if the segment was opened in wal/prepared/.
func TestWrite_ErrorNamesTheSegment(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	log := openLog(t, dir, Options{SegmentSize: 1})
	require.NoError(t, write(log, body))
	require.NoError(t, write(log, body))
	require.NoError(t, log.tail.file.Close())
	require.ErrorContains(t, log.tail.preallocate(1<<20), segmentPath(dir, 2)+": file already closed")
}

// smallDisk mounts a file system in memory with that size, and returns its directory.
func smallDisk(t *testing.T, sizeBytes int) string {
	disk := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", sizeBytes), "tmpfs", disk).CombinedOutput(); err != nil {
		t.Skipf("this test needs root to mount a small disk: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", "-l", disk).Run() })
	return disk
}

// D6: on a full disk, the log gives the space of the prepared segment back instead of failing.
func TestD6_PreparedSegmentOnAFullDisk(t *testing.T) {
	if !isFull(syscall.ENOSPC) {
		t.Skip("this build does not recognize a full disk")
	}
	dir := filepath.Join(smallDisk(t, 2<<20), "log")
	log := openLog(t, dir, Options{SegmentSize: 1200 << 10})
	fillTail(t, log, 400<<10)
	require.NoError(t, log.next.work.wait())
	require.NotNil(t, log.next.tail, "the prepared segment has 1.25 of 2 MiB")
	fillTail(t, log, 1100<<10)
	require.NoFileExists(t, preparedPath(dir))
	require.NoError(t, log.Close())
	require.NoError(t, openLog(t, dir, Options{}).Close())
}

// D7: if something that is not a directory has the name of wal/prepared/, an opening moves it to
// quarantine/. It follows no symbolic link. Close removes only an empty directory.
func TestD7_PreparedIsNotADirectory(t *testing.T) {
	dir := closedLog(t, 3, Options{SegmentSize: 1})
	prepared := filepath.Join(dir, PreparedDir)
	put(t, []byte("a person's"), prepared)
	require.Equal(t, []string{filepath.Join(QuarantineDir, "prepared")}, repaired(t, dir, Options{}))
	require.NoError(t, os.Symlink(filepath.Join(dir, segment.WALDir), prepared))
	require.Len(t, repaired(t, dir, Options{SegmentSize: 1}), 1)
	require.Len(t, segmentSizes(t, dir), 4, "no segment was moved")

	log := openLog(t, dir, Options{})
	put(t, []byte("a person's"), prepared)
	require.NoError(t, log.Close())
	require.FileExists(t, prepared)
}

// If another process removes the prepared segment, the log creates one. wal/ may be a symbolic link
// to another file system.
func TestRotation_WithoutThePreparedSegment(t *testing.T) {
	dir := closedLog(t, 3, Options{SegmentSize: 1})
	wal := filepath.Join(dir, segment.WALDir)
	elsewhere := filepath.Join(t.TempDir(), "wal")
	require.NoError(t, os.CopyFS(elsewhere, os.DirFS(wal)))
	require.NoError(t, os.RemoveAll(wal))
	require.NoError(t, os.Symlink(elsewhere, wal))
	log := openLog(t, dir, Options{SegmentSize: 1})
	for range 5 {
		if log.next != nil {
			_ = log.next.work.wait()
		}
		require.NoError(t, os.RemoveAll(filepath.Join(dir, PreparedDir)))
		require.NoError(t, write(log, body))
	}
	require.NoError(t, log.Close())
	require.Len(t, segmentSizes(t, dir), 8)
}
