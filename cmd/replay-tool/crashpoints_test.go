package main

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/torn"
	"migrationlog/projection"
	"migrationlog/recovery"
	"migrationlog/recovery/crashpoints"
	"migrationlog/recovery/model"
)

// The table of crash points fits 80 columns, also with the largest numbers. It shows other migrations
// by their short ids.
func TestCrashPoints_Table(t *testing.T) {
	var out bytes.Buffer
	tool := &tool{stdout: &out}
	id := func(n byte) checkpoint.MigrationID { return checkpoint.MigrationID{0: 1, 15: n} }
	violation := model.Violation{Kind: model.PeerInUse, MigrationID: id(1), GroupID: math.MaxUint64, PeerID: math.MaxUint64, With: id(2)}
	d := recovery.Decision{Action: recovery.Resume, Reason: recovery.TransferCommitted, NextPhase: checkpoint.PhaseLeadershipTransfer, Row: projection.Row{
		Checkpoint: checkpoint.Checkpoint{MigrationID: id(1), Payload: checkpoint.LeadershipTransfer{VShardID: math.MaxUint32}},
	}}
	tear := &torn.Difference{Seq: 9_999_999_999, Segment: "00000000000000000001", Bytes: math.MaxInt64, Zeros: true, Reason: "the rows are not those after #9999999998"}
	tool.cutsTable([]cutFinding{
		{Finding: crashpoints.Finding{
			AfterSeq: 9_999_999_999, Kind: violation.Kind, MigrationID: id(1), With: id(2), Detail: violation.String(), Decision: d,
			Unrecorded: []checkpoint.MigrationID{id(1), id(2), id(3), id(4)}, TargetGone: true,
		}},
		{Finding: crashpoints.Finding{AfterSeq: 9_999_999_998, Kind: tornWrite, Detail: tear.String()}, tear: tear, more: 99},
	})
	for line := range strings.Lines(out.String()) {
		require.LessOrEqual(t, len(line), 81, line) // with the line end
	}
	text := strings.Join(strings.Fields(out.String()), " ")
	require.Contains(t, text, "9999999999 000001 4294967295 LeadershipTransfer peer_in_use resume LeadershipTransfer (transfer_committed): removes node")
	require.Contains(t, text, ", in use by 000002 at age 0, if the effects after the furthest checkpoint of 000001, 000002 and 2 more were carried out, if the target is no member of the cluster")
	require.Contains(t, text, "9999999998 - - - torn_write segment 00000000000000000001, torn at byte 9223372036854775807 (the rest is zeros): the rows")
	require.Contains(t, text, "; 99 more tears of this write have the same effect")
}

// On a damaged log, with and without a snapshot that has the lost rows, no cut of real moves is unsafe.
func TestCrashPoints_DamagedLog(t *testing.T) {
	all, err := os.ReadFile("../../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "log")
	lines := bytes.Join(bytes.SplitAfterN(all, []byte("\n"), 801)[:800], nil)
	require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, bytes.NewReader(lines), io.Discard, io.Discard))
	snapshots, kept := filepath.Join(dir, segment.SnapshotDir), filepath.Join(t.TempDir(), "kept")
	require.NoError(t, os.Rename(snapshots, kept))
	destroyFrames(t, dir, 37, 136, 250, 390, 391, 392, 600)
	for _, withSnapshot := range []bool{false, true} {
		if withSnapshot {
			require.NoError(t, os.Rename(kept, snapshots))
		}
		for _, doubt := range []string{"ask", "trust"} {
			var out, errs bytes.Buffer
			require.Equal(t, exitDamage, run(t.Context(), []string{"crash-points", dir, "--doubt", doubt}, nil, &out, &errs))
			require.Empty(t, out.String())
			require.Contains(t, errs.String(), "782 cuts, ")
		}
	}
}

// If only a snapshot has the target of a move, the model has it from there, as the plan has.
func TestCrashPoints_TargetFromSnapshot(t *testing.T) {
	all, err := os.ReadFile("../../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	lines, dir := bytes.SplitAfterN(all, []byte("\n"), 15), filepath.Join(t.TempDir(), "log")
	for _, input := range [][]byte{slices.Concat(lines[0], lines[13]), lines[1]} { // AddLearner, another move | CatchUp
		require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, bytes.NewReader(input), io.Discard, io.Discard))
	}
	snapshots, kept := filepath.Join(dir, segment.SnapshotDir), filepath.Join(t.TempDir(), "kept")
	require.NoError(t, os.Rename(snapshots, kept))
	destroyFrames(t, dir, 1)
	require.NoError(t, os.Rename(kept, snapshots))
	require.NoError(t, os.RemoveAll(filepath.Join(snapshots, segment.Name(3))))
	var out, errs bytes.Buffer
	require.Equal(t, exitDamage, run(t.Context(), []string{"crash-points", dir}, nil, &out, &errs))
	require.Empty(t, out.String())
	require.Contains(t, errs.String(), "2 cuts, ")
}

// All keys of a finding are always present.
func TestCrashPoints_JSON(t *testing.T) {
	decision := recovery.Decision{Action: recovery.Abort, Inputs: recovery.Inputs{FurthestPhase: checkpoint.PhaseCatchUp}, Row: projection.Row{Checkpoint: checkpoint.Checkpoint{Payload: checkpoint.CatchUp{}}}}
	tear := &torn.Difference{Segment: "1", Bytes: 2, Zeros: true}
	with := checkpoint.MigrationID{15: 2}
	for _, c := range []cutFinding{
		{Finding: crashpoints.Finding{Kind: model.Leak, Decision: decision, With: with}},
		{Finding: crashpoints.Finding{Kind: tornWrite}, tear: tear, more: 3},
	} {
		b, err := json.Marshal(c)
		require.NoError(t, err)
		var got map[string]any
		require.NoError(t, json.Unmarshal(b, &got))
		require.Len(t, got, 9)
		require.Equal(t, c.tear != nil, got["decision"] == nil)
		require.Equal(t, c.tear != nil, got["migration_id"] == nil)
		require.Equal(t, []any{}, got["unrecorded"])
		if c.tear == nil {
			require.Nil(t, got["tear"])
			require.Equal(t, with.String(), got["with"])
		} else {
			require.Nil(t, got["with"])
			require.Equal(t, map[string]any{"segment": "1", "bytes": 2.0, "zeros": true, "more": 3.0}, got["tear"])
		}
	}
}
