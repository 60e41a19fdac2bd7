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

// RefuseDamage leaves the directory unchanged.
func TestRefuseDamage(t *testing.T) {
	dir, _, ends := smallLog(t)
	flip(t, segmentPath(dir, firstSegment), ends[2]-1)
	before := hashes(t, dir)
	_, err := migrationlog.Open(dir, &migrationlog.Options{OnDamage: migrationlog.RefuseDamage})
	require.ErrorIs(t, err, migrationlog.ErrDamaged)
	var damaged *migrationlog.DamagedError
	require.ErrorAs(t, err, &damaged)
	require.Equal(t, []replay.SeqRange{{First: 3, Last: 3}}, damaged.Report.Lost)
	require.Equal(t, before, hashes(t, dir))
	open(t, dir, nil)
}

// RefuseDamage refuses a log only for findings that lose or endanger events. Its message counts the
// findings by severity and shows one of the worst.
func TestRefuseDamage_BySeverity(t *testing.T) {
	refuse := &migrationlog.Options{OnDamage: migrationlog.RefuseDamage}
	dir, _, ends := smallLog(t)
	harmless := func() {
		for _, name := range []string{".DS_Store", firstSegment + "~"} {
			require.NoError(t, os.WriteFile(segmentPath(dir, name), []byte(name), 0o600))
		}
		require.NoError(t, os.Remove(filepath.Join(dir, "MANIFEST")))
		require.NoError(t, os.Remove(segmentPath(dir, "WATERMARK")))
		flip(t, filepath.Join(dir, "snapshots", segment.Name(5)), 50)
	}
	harmless()
	s := open(t, dir, refuse)
	require.Len(t, s.Report().Damage, 5)
	require.NoError(t, s.Close())

	harmless()
	flip(t, segmentPath(dir, firstSegment), 0) // the length prefix of the first frame
	_, err := migrationlog.Open(dir, refuse)
	require.ErrorIs(t, err, migrationlog.ErrDamaged)
	require.ErrorContains(t, err, "events lost: 0")
	require.ErrorContains(t, err, "Findings that lose events: 0, that endanger events: 1, harmless: 5. The first finding of the worst severity: "+firstSegment+" at byte 0, 1 byte: damaged length prefix")
	flip(t, segmentPath(dir, firstSegment), ends[2]-1)
	_, err = migrationlog.Open(dir, refuse)
	require.ErrorContains(t, err, "events lost: 1")
	require.ErrorContains(t, err, "Findings that lose events: 1, that endanger events: 1, harmless: 5. The first finding of the worst severity: "+firstSegment+" at byte")
	require.ErrorContains(t, err, "lost seq 3")
}

// D4: an unreadable manifest is never replaced by the manifest of a new log.
func TestD4_NoNewLogOverAnother(t *testing.T) {
	foreign := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(foreign, "MANIFEST"), []byte("precious"), 0o600))
	unmounted, _, _ := smallLog(t)
	require.NoError(t, os.RemoveAll(filepath.Join(unmounted, "wal")))
	flip(t, filepath.Join(unmounted, "MANIFEST"), 30)
	marked, _, _ := smallLog(t)
	require.NoError(t, os.RemoveAll(filepath.Join(marked, "wal")))
	require.NoError(t, os.Remove(filepath.Join(marked, "MANIFEST")))
	for _, dir := range []string{foreign, unmounted, marked} {
		before := hashes(t, dir)
		_, err := migrationlog.Open(dir, nil)
		require.ErrorIs(t, err, segment.ErrManifestLost)
		require.ErrorContains(t, err, "restore MANIFEST from a backup")
		require.Equal(t, before, hashes(t, dir))
	}

	inside, _, _ := smallLog(t)
	before := hashes(t, inside)
	_, err := migrationlog.Open(filepath.Join(inside, "wal"), nil)
	require.ErrorIs(t, err, segment.ErrIsWALDir)
	require.Equal(t, before, hashes(t, inside), "not even a lock file may be created")

	older := filepath.Join(memDir(t), "log") // without a watermark
	require.NoError(t, os.CopyFS(older, os.DirFS("testdata/golden/v1/clean/log")))
	require.NoError(t, os.Remove(filepath.Join(older, "MANIFEST")))
	for _, path := range segments(t, older) {
		require.NoError(t, os.Remove(path))
	}
	_, err = migrationlog.Open(older, nil)
	require.ErrorIs(t, err, migrationlog.ErrNeedsRepair)
	require.NoFileExists(t, filepath.Join(older, "MANIFEST"))
	require.Empty(t, segments(t, older))
}

// D4: a log whose frames belong to another log than its manifest is refused and not changed. A
// writer would otherwise append frames that the log's own manifest rejects later.
func TestD4_ManifestOfAnotherLog(t *testing.T) {
	for name, replaced := range map[string][]string{
		"the only manifest":        {"MANIFEST"},
		"manifests and watermarks": {"MANIFEST", "wal/MANIFEST", "WATERMARK", "wal/WATERMARK"},
		"the segment":              {"wal/" + firstSegment},
		"both manifests":           {"MANIFEST", "wal/MANIFEST"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _, _ := smallLog(t)
			other, _, _ := smallLog(t)
			replaceFiles(t, dir, other, replaced)
			if len(replaced) == 1 {
				require.NoError(t, os.Remove(filepath.Join(dir, "wal", "MANIFEST")))
			}
			before := hashes(t, dir)
			_, err := migrationlog.Open(dir, nil)
			require.ErrorIs(t, err, migrationlog.ErrManifestLost)
			require.ErrorContains(t, err, "the frames do not belong to the log of the manifest")
			_, err = replay.Open(dir)
			require.ErrorIs(t, err, migrationlog.ErrManifestLost)
			require.Equal(t, before, hashes(t, dir))
		})
	}
}

// D4: a log opens if the frames belong to it, or if damage may be the reason that they do not seem
// to.
func TestD4_FramesOfThisLog(t *testing.T) {
	dir, _, _ := smallLog(t)
	other, _, _ := smallLog(t)
	replaceFiles(t, dir, other, []string{"WATERMARK", "wal/WATERMARK"})
	s := open(t, dir, nil)
	require.Empty(t, s.Report().Lost)
	require.Len(t, s.Report().Damage, 2)

	single := filepath.Join(memDir(t), "log")
	s = open(t, single, nil)
	upsert(t, s, checkpoint.NewMigrationID(), 0, addLearner)
	require.NoError(t, s.Close())
	flip(t, segmentPath(single, firstSegment), 20) // in the header of the only frame
	s = open(t, single, nil)
	require.Equal(t, []replay.SeqRange{{First: 1, Last: 1}}, s.Report().Lost)

	dir, _, _ = smallLog(t)
	flip(t, segmentPath(dir, firstSegment), 20) // in the header of the first frame
	s = open(t, dir, nil)
	require.Equal(t, []replay.SeqRange{{First: 1, Last: 1}}, s.Report().Lost)
}

// replaceFiles replaces files of a log by those of another log.
func replaceFiles(t *testing.T, dir, other string, names []string) {
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(other, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
}

// D4: Open refuses a log whose segments are all missing: they may be on a volume that is not
// mounted.
func TestD4_SegmentsGone(t *testing.T) {
	dir, _, _ := smallLog(t)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "wal")))
	before := hashes(t, dir)
	_, err := migrationlog.Open(dir, nil)
	require.ErrorIs(t, err, migrationlog.ErrNeedsRepair)
	require.ErrorContains(t, err, "is a volume not mounted")
	require.Equal(t, before, hashes(t, dir))
}
