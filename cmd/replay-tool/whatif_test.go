package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
	"migrationlog/recovery"
	"migrationlog/recovery/whatif"
	"migrationlog/replay"
)

// On a damaged log, what-if decides as a plan of all rows does after each record, with and without a
// snapshot that has the lost rows. It asks once for the migrations without a row.
func TestWhatIf_DecidesAsPlanOnDamagedLog(t *testing.T) {
	all, err := os.ReadFile("../../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "log")
	lines := bytes.Join(bytes.SplitAfterN(all, []byte("\n"), 801)[:800], nil)
	require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, bytes.NewReader(lines), io.Discard, io.Discard))
	snapshots := filepath.Join(dir, segment.SnapshotDir)
	kept := filepath.Join(t.TempDir(), "kept")
	require.NoError(t, os.Rename(snapshots, kept))
	destroyFrames(t, dir, 37, 136, 250, 390, 391, 392, 600)
	for _, withSnapshot := range []bool{false, true} {
		if withSnapshot {
			require.NoError(t, os.Rename(kept, snapshots))
		}
		policy := recovery.Policy{Member: recovery.MemberOf(1, 2, 3, 4, 5), AbortTimeout: 5e8}
		h := history{walk: whatif.New(policy)}
		var out bytes.Buffer
		tool := &tool{stdout: &out, stderr: &out, quiet: true}
		fold, err := tool.fold(t.Context(), dir, func(f *replay.Fold, r replay.Record) error {
			h.add(f, r)
			require.Equal(t, brief(recovery.Plan(f.View.All(), policy, h.walk.NowMS())), brief(h.walk.Decisions()))
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, withSnapshot, fold.SnapshotSeq() != 0)
		questions := h.walk.Finish(0).Policies[0].Questions
		require.Len(t, slices.DeleteFunc(questions, func(q whatif.Decision) bool { return q.Reason != recovery.UnnamedInDoubt }), 1)
	}
}

// The flags that what-if prints for a policy can be given again.
func TestPolicy_FlagsAreRepeatable(t *testing.T) {
	for _, text := range []string{"--abort-timeout 26h3m4s", "--abort-timeout 0s --members '' --doubt trust", "--members 1,2 --leader 9=3,10=4"} {
		p, err := parsePolicy(text)
		require.NoError(t, err)
		again, err := parsePolicy(p.flags.String())
		require.NoError(t, err, p.flags.String())
		require.Equal(t, p.flags, again.flags)
	}
}

func brief(decisions []recovery.Decision) (lines []string) {
	for _, d := range decisions {
		lines = append(lines, fmt.Sprintf("%s %s %s #%d/%d %+v %+v", d.MigrationID(), d.Action, d.Reason, d.Row.Seq, d.Row.LastSeq, d.Compensations, d.Asks))
	}
	return lines
}
