package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
)

// If a log cannot be opened for writing, the exit code of import depends on the reason.
func TestImport_ExitCodesOfOpen(t *testing.T) {
	first := filepath.Join("wal", "00000000000000000001")
	for name, tc := range map[string]struct {
		code   int
		change func(dir string) (opened string)
	}{
		"another writer": {exitLocked, func(dir string) string {
			s, err := migrationlog.Open(dir, nil)
			require.NoError(t, err)
			t.Cleanup(func() { s.Close() })
			return dir
		}},
		"all segments missing": {exitDamage, func(dir string) string {
			require.NoError(t, os.Remove(filepath.Join(dir, first)))
			return dir
		}},
		"the last segment named beyond the log's end": {exitDamage, func(dir string) string {
			require.NoError(t, os.Rename(filepath.Join(dir, first), filepath.Join(dir, "wal", "00000000000000000999")))
			return dir
		}},
		"both manifests missing": {exitDamage, func(dir string) string {
			require.NoError(t, os.Remove(filepath.Join(dir, "MANIFEST")))
			require.NoError(t, os.Remove(filepath.Join(dir, "wal", "MANIFEST")))
			return dir
		}},
		"the wal directory":       {exitUsage, func(dir string) string { return filepath.Join(dir, "wal") }},
		"an empty directory name": {exitUsage, func(string) string { return "" }},
	} {
		dir := filepath.Join(t.TempDir(), "log")
		event := []byte(`{"kind":"checkpoint","migration_id":"01a20629-44f1-75f5-8bf1-d9e9fef8b7a5","attempt":0,"phase":"CatchUp","payload":{"vshard_id":22,"learner_log_index_at_add":23},"ts_ms":1795399697649}`)
		require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, bytes.NewReader(event), io.Discard, io.Discard))
		opened := tc.change(dir)
		code := run(t.Context(), []string{"import", "-q", opened, "-"}, bytes.NewReader(event), io.Discard, io.Discard)
		require.Equal(t, tc.code, code, name)
	}
}
