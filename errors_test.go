package migrationlog_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/eventlog"
	"migrationlog/replay"
)

// A caller of Open needs only the errors of this package. Each refusal of a directory is exactly
// one of them, and leaves the directory unchanged.
func TestOpen_Errors(t *testing.T) {
	all := []error{
		migrationlog.ErrInvalid, fs.ErrNotExist, migrationlog.ErrLocked, migrationlog.ErrDamaged, migrationlog.ErrNeedsRepair,
		migrationlog.ErrManifestLost, migrationlog.ErrNewerFormat, migrationlog.ErrIsWALDir,
	}
	for _, tc := range []struct {
		name   string
		opts   *migrationlog.Options
		want   error
		change func(dir string) (opened string)
	}{
		{"no directory is named", nil, migrationlog.ErrInvalid, func(string) string { return "" }},
		{"no log", &migrationlog.Options{MustExist: true}, fs.ErrNotExist, func(dir string) string { return dir + "-mistyped" }},
		{"another writer", nil, migrationlog.ErrLocked, func(dir string) string {
			open(t, dir, nil)
			return dir
		}},
		{"damage, and RefuseDamage", &migrationlog.Options{OnDamage: migrationlog.RefuseDamage}, migrationlog.ErrDamaged, func(dir string) string {
			flip(t, segmentPath(dir, firstSegment), 60)
			return dir
		}},
		{"no segment", nil, migrationlog.ErrNeedsRepair, func(dir string) string {
			require.NoError(t, os.Remove(segmentPath(dir, firstSegment)))
			return dir
		}},
		{"a segment's name on a directory", nil, migrationlog.ErrNeedsRepair, func(dir string) string {
			require.NoError(t, os.Mkdir(segmentPath(dir, "00000000000000000009"), 0o700))
			return dir
		}},
		{"the last segment named beyond the log's end", nil, migrationlog.ErrNeedsRepair, func(dir string) string {
			require.NoError(t, os.Rename(segmentPath(dir, firstSegment), segmentPath(dir, "00000000000000000999")))
			return dir
		}},
		{"both manifests gone", nil, migrationlog.ErrManifestLost, func(dir string) string {
			require.NoError(t, os.Remove(filepath.Join(dir, "MANIFEST")))
			require.NoError(t, os.Remove(filepath.Join(dir, "wal", "MANIFEST")))
			return dir
		}},
		{"a frame of a newer version", nil, migrationlog.ErrNewerFormat, func(dir string) string {
			record := recordAt(t, dir, 3)
			setVersion(t, dir, segmentPath(dir, record.Segment), record.Offset, 2)
			return dir
		}},
		{"a segment's directory", nil, migrationlog.ErrIsWALDir, func(dir string) string { return filepath.Join(dir, "wal") }},
	} {
		dir, _, _ := smallLog(t)
		opened := tc.change(dir)
		before := hashes(t, dir)
		_, err := migrationlog.Open(opened, tc.opts)
		for _, sentinel := range all {
			if sentinel == tc.want {
				require.ErrorIs(t, err, sentinel, tc.name)
			} else {
				require.NotErrorIs(t, err, sentinel, tc.name)
			}
		}
		require.Equal(t, before, hashes(t, dir), tc.name)
		switch tc.want {
		case migrationlog.ErrLocked:
			var locked *eventlog.LockedError
			require.ErrorAs(t, err, &locked, tc.name)
			require.Equal(t, os.Getpid(), locked.PID)
		case migrationlog.ErrDamaged:
			var damaged *migrationlog.DamagedError
			require.ErrorAs(t, err, &damaged, tc.name)
			require.Equal(t, []replay.SeqRange{{First: 1, Last: 1}}, damaged.Report.Lost)
		}
	}
}
