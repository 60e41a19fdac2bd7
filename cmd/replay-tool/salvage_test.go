package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog"
)

// If the list of the events left behind cannot be written, the message says that the copy is
// complete, and how to see the list.
func TestSalvage_ListCannotBeWritten(t *testing.T) {
	out := t.TempDir()
	r := salvageResult{Dir: "log", Out: out}
	r.Report.FramesOK = 7
	require.NoError(t, os.Mkdir(filepath.Join(out, eventlog.SalvageListName), 0o750))
	err := writeList(r, time.Now())
	require.ErrorContains(t, err, out+" is complete, and has 7 events, but the list of the events left behind cannot be written: ")
	require.ErrorContains(t, err, "Free some space. To see the same list, run 'replay-tool verify "+out+"'")
}

// The list has each place where events were lost, and no finding that lost none.
func TestSalvage_List(t *testing.T) {
	dir, _ := smallLog(t, 4)
	segment := filepath.Join(dir, "wal", firstSegment)
	data, err := os.ReadFile(segment)
	require.NoError(t, err)
	data[200] ^= 1
	require.NoError(t, os.WriteFile(segment, data, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "wal", "x.swp"), nil, 0o600))
	out := filepath.Join(t.TempDir(), "new")
	code, text, _ := runTool(t, nil, "salvage", dir, "--out", out)
	require.Equal(t, exitDamage, code)
	require.Regexp(t, `\n1 event left behind, 0 rows affected\n$`, text)
	var list salvageList
	content, err := os.ReadFile(filepath.Join(out, eventlog.SalvageListName))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(content, &list))
	require.Equal(t, dir, list.Source)
	require.EqualValues(t, 1, list.LeftBehindCount)
	require.EqualValues(t, 3, list.FramesOK)
	require.Len(t, list.LeftBehind, 1)
	require.EqualValues(t, 2, list.LeftBehind[0].FirstSeq)
	require.Contains(t, list.LeftBehind[0].Reason, "does not match its CRC32C")
	require.Equal(t, []string{"wal/x.swp"}, list.FilesLeftOut)
	_, _, errs := runTool(t, nil, "state", out, "-q")
	require.NotContains(t, errs, "MANIFEST.salvage")
}
