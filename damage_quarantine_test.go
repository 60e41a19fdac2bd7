package migrationlog_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// D4: quarantine/ has the original bytes of each damaged range once, with a report that names it.
func TestD4_DamagedSegmentsAreKept(t *testing.T) {
	dir, _, ends := smallLog(t)
	flip(t, segmentPath(dir, firstSegment), ends[1]-1)
	damaged, err := os.ReadFile(segmentPath(dir, firstSegment))
	require.NoError(t, err)
	s := open(t, dir, nil)
	require.Equal(t, []string{"quarantine/" + firstSegment}, s.Report().Quarantined)
	kept, err := os.ReadFile(filepath.Join(dir, "quarantine", firstSegment))
	require.NoError(t, err)
	require.Equal(t, damaged, kept)
	var report struct{ Damage []replay.Damage }
	text, err := os.ReadFile(filepath.Join(dir, "quarantine", firstSegment+".json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &report))
	require.Len(t, report.Damage, 1)
	require.EqualValues(t, 2, report.Damage[0].FirstSeq)

	s = reopen(t, s, dir)
	require.Empty(t, s.Report().Quarantined, "it is in quarantine/ already")
	require.NoError(t, s.Close())
	flip(t, segmentPath(dir, firstSegment), ends[3]-1)
	s = open(t, dir, nil)
	require.Equal(t, []string{"quarantine/" + firstSegment + ".1"}, s.Report().Quarantined, "more bytes of the segment are damaged")
}

// D4: if the end of a damaged segment is cut off, quarantine/ has the whole original segment.
func TestD4_DamagedAndTorn(t *testing.T) {
	dir, _, ends := smallLog(t)
	path := segmentPath(dir, firstSegment)
	setWatermark(t, dir, 4)
	flip(t, path, ends[1]-1)
	require.NoError(t, os.Truncate(path, int64(ends[4]-3)))
	original, err := os.ReadFile(path)
	require.NoError(t, err)
	s := open(t, dir, nil)
	require.NotNil(t, s.Report().TornTail)
	require.Len(t, s.Report().Damage, 1)
	kept, err := os.ReadFile(filepath.Join(dir, "quarantine", firstSegment))
	require.NoError(t, err)
	require.Equal(t, original, kept)
	left, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, original[:ends[3]], left)
	require.EqualValues(t, 5, upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp).Seq)
}
