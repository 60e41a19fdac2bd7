package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// In a simulated build, no code that uses the log's files imports package os. tidwall/wal is built
// from its own source with package simos.
func TestOverlay_LeavesNoWayToTheDisk(t *testing.T) {
	o, err := NewOverlay(t.TempDir(), nil)
	require.NoError(t, err)
	for _, name := range []string{"eventlog/files.go", "eventlog/lock.go", "eventlog/wal.go", "replay/reader.go", "internal/torture/simwal/wal.go"} {
		require.Contains(t, o.Replace, filepath.Join(o.root, name))
	}
	for path, copied := range o.Replace {
		text, err := os.ReadFile(copied)
		require.NoError(t, err)
		imports, err := importsOf(copied, text)
		require.NoError(t, err)
		for _, i := range imports {
			require.NotContains(t, append(pastDisk, "os", walPath), i.path, path)
		}
	}
}

// A patch is an error if its old text does not occur exactly once or if it changes nothing.
// Otherwise a mutant could survive because nothing was removed.
func TestOverlay_PatchesOnce(t *testing.T) {
	const file = "eventlog/lock.go"
	for _, old := range []string{"not there", "return", `LockName = "LOCK"`} {
		_, err := NewOverlay(t.TempDir(), []Change{Patch{File: file, Old: old, New: `LockName = "LOCK"`}})
		require.ErrorContains(t, err, "must have it once", old)
	}
	o, err := NewOverlay(t.TempDir(), []Change{
		Patch{File: file, Old: `LockName = "LOCK"`, New: `LockName = "LATCH"`},
		Patch{File: "eventlog/segment/name.go", Old: "nameDigits = 20", New: "nameDigits = 21"},
		Patch{File: "eventlog/segment/name.go", Old: "1 << 62", New: "1 << 61"},
	})
	require.NoError(t, err)
	text, err := os.ReadFile(o.Replace[filepath.Join(o.root, file)])
	require.NoError(t, err)
	require.Contains(t, string(text), "LATCH")
	require.Contains(t, string(text), simosPath)
	text, err = os.ReadFile(o.Replace[filepath.Join(o.root, "eventlog/segment/name.go")])
	require.NoError(t, err)
	require.Contains(t, string(text), "nameDigits = 21")
	require.Contains(t, string(text), "1 << 61")
}
