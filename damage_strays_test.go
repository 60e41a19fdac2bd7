package migrationlog_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
)

// Open moves a file away before tidwall/wal sees it, if tidwall/wal would take it for one of its own.
// It leaves every other file where it is.
func TestD4_StrayFilesAreSetAside(t *testing.T) {
	dir, events, _ := smallLog(t)
	for _, name := range []string{"00000000000000000003.START", "00000000000000000001.END", "18446744073709551615"} {
		require.NoError(t, os.WriteFile(segmentPath(dir, name), []byte(name), 0o600))
	}
	foreign := []string{".DS_Store", ".nfs0000000000000001", "x.swp", firstSegment + ".bak", firstSegment + "~", "00000000000000000000"}
	for _, name := range foreign {
		require.NoError(t, os.WriteFile(segmentPath(dir, name), []byte(name), 0o600))
	}
	s := open(t, dir, nil)
	require.Len(t, s.Report().Damage, 3+len(foreign))
	require.Len(t, s.Report().Quarantined, 3)
	require.EqualValues(t, len(events), s.Report().FramesOK)
	saved, err := os.ReadFile(filepath.Join(dir, "quarantine", "00000000000000000003.START"))
	require.NoError(t, err)
	require.Equal(t, "00000000000000000003.START", string(saved))
	s = reopen(t, s, dir)
	require.False(t, s.Report().Damaged())
	require.Len(t, s.Report().Damage, len(foreign))
	for _, name := range foreign {
		b, err := os.ReadFile(segmentPath(dir, name))
		require.NoError(t, err)
		require.Equal(t, name, string(b))
		require.NoError(t, os.Remove(segmentPath(dir, name)))
	}
	require.True(t, verify(t, dir).Clean())

	// The stray may also be a hard link to a file in quarantine/.
	require.NoError(t, s.Close())
	flip(t, segmentPath(dir, firstSegment), 60)
	require.NoError(t, open(t, dir, nil).Close())
	require.NoError(t, os.Link(segmentPath(dir, firstSegment), segmentPath(dir, firstSegment+".END")))
	require.NoError(t, open(t, dir, nil).Close())
	require.NoFileExists(t, segmentPath(dir, firstSegment+".END"))
	require.Len(t, eventsIn(t, dir), len(events)-1)

	// A directory with the name of a segment needs a person.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "elsewhere"), nil, 0o600))
	require.NoError(t, os.Symlink("../elsewhere", segmentPath(dir, "00000000000000000009")))
	before := hashes(t, dir)
	_, err = migrationlog.Open(dir, nil)
	require.ErrorIs(t, err, migrationlog.ErrNeedsRepair)
	require.Equal(t, before, hashes(t, dir))
}

// D4: a stray file that would make tidwall/wal delete segments does not harm a running writer,
// because tidwall/wal does not read the directory wal/ again. The next opening moves the file to
// quarantine/.
func TestD4_StrayFileBesideAWriter(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, &migrationlog.Options{SegmentSize: 200})
	const upserts = 10
	for i := range upserts {
		upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp)
		if i == 4 {
			require.NoError(t, os.WriteFile(segmentPath(dir, firstSegment+".END"), nil, 0o600))
		}
	}
	require.Greater(t, len(segments(t, dir)), 3, "the writer has started segments after the file appeared")
	s = reopen(t, s, dir)
	require.Len(t, s.Report().Damage, 1, "only the stray file is reported")
	require.Equal(t, upserts, s.Len())
	require.NoFileExists(t, segmentPath(dir, firstSegment+".END"))
}

// D4: a foreign file that tidwall/wal ignores does not stop a running writer, and no one changes it.
func TestD4_ForeignFileBesideAWriter(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, &migrationlog.Options{SegmentSize: 200})
	upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp)
	for _, name := range []string{".DS_Store", ".nfs0000000000000001", "x.swp", firstSegment + ".bak", firstSegment + "~"} {
		require.NoError(t, os.WriteFile(segmentPath(dir, name), []byte(name), 0o600))
	}
	for range 9 {
		upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp)
	}
	require.Greater(t, len(segments(t, dir)), 2)
	s = reopen(t, s, dir)
	require.Equal(t, 10, s.Len())
	require.Len(t, s.Report().Damage, 5)
	require.False(t, s.Report().Damaged())
	require.NoDirExists(t, filepath.Join(dir, "quarantine"))
}

// D3: files with wrong names hide no frame, and no number is used twice.
func TestD3_SegmentsUnderWrongNames(t *testing.T) {
	whole := filepath.Join(memDir(t), "log")
	s := open(t, whole, &migrationlog.Options{SegmentSize: 200})
	for range 6 {
		upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp)
	}
	require.NoError(t, s.Close())
	names := []string{}
	for _, path := range segments(t, whole) {
		names = append(names, filepath.Base(path))
	}
	require.Equal(t, []string{firstSegment, "00000000000000000004"}, names)

	for name, change := range map[string]func(dir string) error{
		"an empty segment in the middle": func(dir string) error {
			return os.WriteFile(segmentPath(dir, "00000000000000000002"), nil, 0o600)
		},
		"an empty segment at the end": func(dir string) error {
			return os.WriteFile(segmentPath(dir, "00000000000000000005"), nil, 0o600)
		},
		"the last segment with a lower number": func(dir string) error {
			return os.Rename(segmentPath(dir, names[1]), segmentPath(dir, "00000000000000000002"))
		},
	} {
		dir := copyDir(t, whole)
		require.NoError(t, change(dir))
		require.Len(t, eventsIn(t, dir), 6, name)
		s := open(t, dir, nil)
		require.Equal(t, 6, s.Len(), name)
		require.Empty(t, s.Report().Lost, name)
		require.EqualValues(t, 7, upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp).Seq, name)
		s = reopen(t, s, dir)
		require.Equal(t, 7, s.Len(), name)
	}
	dir := copyDir(t, whole)
	require.NoError(t, os.Rename(segmentPath(dir, names[1]), segmentPath(dir, "00000000000000000999")))
	require.Len(t, eventsIn(t, dir), 6)
	before := hashes(t, dir)
	_, err := migrationlog.Open(dir, nil)
	require.ErrorIs(t, err, migrationlog.ErrNeedsRepair, "tidwall/wal would continue at 1000")
	require.ErrorContains(t, err, "rename the segment to the seq of its first frame")
	require.True(t, verify(t, dir).Damaged(), "readers report what Open refuses")

	// The same with the only segment.
	dir, _, _ = smallLog(t)
	require.NoError(t, os.Rename(segmentPath(dir, firstSegment), segmentPath(dir, "00000000000000000100")))
	_, err = migrationlog.Open(dir, nil)
	require.ErrorIs(t, err, migrationlog.ErrNeedsRepair)
	report := verify(t, dir)
	require.Len(t, report.Damage, 1)
	require.Equal(t, segment.EndangersEvents, report.Damage[0].Severity)
	require.Contains(t, report.Damage[0].Reason, "rename the segment to the seq of its first frame")
	require.Equal(t, before[names[0]], hashes(t, dir)[names[0]])
}

// D3, D5, D6: a writer notices that its files were replaced, and acknowledges nothing more.
func TestD6_FilesReplacedBesideAWriter(t *testing.T) {
	replace := func(path string) error {
		b, err := os.ReadFile(path)
		return errors.Join(err, os.Remove(path), os.WriteFile(path, b, 0o600))
	}
	for _, name := range []string{"LOCK", "WATERMARK", "wal/WATERMARK", "wal/" + firstSegment} {
		dir := filepath.Join(memDir(t), "log")
		s := open(t, dir, nil)
		upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp)
		require.NoError(t, replace(filepath.Join(dir, name)))
		before := hashes(t, dir)
		if name == "wal/"+firstSegment {
			_, err := s.Upsert(row(t, checkpoint.NewMigrationID(), 0, catchUp))
			require.ErrorIs(t, err, migrationlog.ErrFailed)
		}
		require.ErrorIs(t, s.Close(), migrationlog.ErrFailed, name)
		require.Equal(t, before["WATERMARK"], hashes(t, dir)["WATERMARK"], name)
	}
}

// D7: if a file name belongs to something that can be neither read nor saved, Open still succeeds.
func TestD7_OddFiles(t *testing.T) {
	for _, name := range []string{"MANIFEST", "wal/MANIFEST", "WATERMARK", "wal/WATERMARK"} {
		for kind, put := range map[string]func(path string) error{
			"fifo":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
			"directory": func(path string) error { return os.MkdirAll(filepath.Join(path, "full"), 0o700) },
			"symlink":   func(path string) error { return os.Symlink("nowhere", path) },
		} {
			dir, events, _ := smallLog(t)
			require.NoError(t, os.Remove(filepath.Join(dir, name)))
			require.NoError(t, put(filepath.Join(dir, name)))
			s, err := migrationlog.Open(dir, nil)
			require.NoError(t, err, "%s is a %s", name, kind)
			require.EqualValues(t, len(events), s.Report().FramesOK)
			require.NoError(t, s.Close())
			require.True(t, verify(t, dir).Clean(), "%s is a %s", name, kind)
		}
	}
	dir, events, _ := smallLog(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, firstSegment), nil, 0o600), "a segment in the wrong directory")
	require.NoError(t, os.WriteFile(segmentPath(dir, strings.Repeat("x", 255)), nil, 0o600))
	require.NoError(t, os.MkdirAll(segmentPath(dir, "lost+found"), 0o700))
	s := open(t, dir, nil)
	require.EqualValues(t, len(events), s.Report().FramesOK)
	require.Len(t, s.Report().Damage, 1)
	require.DirExists(t, segmentPath(dir, "lost+found"), "tidwall/wal ignores it, so Open does too")
}
