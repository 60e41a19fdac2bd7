package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func readReport(t *testing.T, bundle string) (r bundleReport) {
	text, err := os.ReadFile(filepath.Join(bundle, "report.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &r))
	return r
}

// A bundle of the whole history has all its events, and its commands print the same.
func TestBundle_All(t *testing.T) {
	dir, out := recordingLog(t), filepath.Join(t.TempDir(), "bundle")
	output(t, 0, "bundle", "-q", dir, "--all", "--out", out)
	log := filepath.Join(out, "log")
	for _, command := range []string{"log", "state", "stats"} {
		require.Equal(t, output(t, 0, command, dir, "-o", "ndjson"), output(t, 0, command, log, "-o", "ndjson"), command)
	}
	report := readReport(t, out)
	require.Equal(t, [][3]uint64{{1, 1, 9502}}, report.Seqs)
	require.Equal(t, 1485, report.Migrations)
	require.NotEmpty(t, report.LogUUID)
}

// The command prints the number of copied events and the next command, or the report as JSON.
func TestBundle_Output(t *testing.T) {
	dir, out := recordingLog(t), filepath.Join(t.TempDir(), "bundle")
	require.Equal(t, "331 events of 53 migrations copied to "+out+"\nnext  replay-tool triage "+filepath.Join(out, "log")+"\n      tar czf bundle.tgz "+out+"\n",
		output(t, 0, "bundle", "-q", dir, "--vshard", "11", "--out", out))
	require.NoError(t, os.RemoveAll(out))
	printed := output(t, 0, "bundle", "-q", dir, "--vshard", "11", "--out", out, "-o", "json")
	file, err := os.ReadFile(filepath.Join(out, "report.json"))
	require.NoError(t, err)
	require.JSONEq(t, string(file), printed)
}

// A redacted bundle has none of the ids, times and reasons, and the same findings and statistics.
func TestBundle_Redacted(t *testing.T) {
	dir, out := recordingLog(t), filepath.Join(t.TempDir(), "bundle")
	output(t, 0, "bundle", "-q", dir, "--all", "--redact", "--out", out)
	log := filepath.Join(out, "log")
	require.NoError(t, filepath.WalkDir(out, func(path string, e os.DirEntry, err error) error {
		require.NoError(t, err)
		if e.IsDir() {
			return nil
		}
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, secret := range []string{"01a20", "17953996", "17953997", "17953998", "unreachable", "cancelled", dir, "2026-11-23", filepath.Dir(out)} {
			require.NotContains(t, string(content), secret, path)
		}
		return nil
	}))
	for _, by := range []string{"phase", "vshard"} {
		require.Equal(t, output(t, 0, "stats", dir, "--by", by), output(t, 0, "stats", log, "--by", by), by)
	}
	type finding struct {
		Rule  string         `json:"rule"`
		Seqs  []uint64       `json:"seqs"`
		Facts map[string]any `json:"facts"`
	}
	findings := func(dir string) (list []finding) {
		for line := range strings.Lines(output(t, 7, "lint", dir, "--severity", "info", "--rule", "slow-phase,flapping,not-removed,retry", "-o", "ndjson")) {
			var f finding
			require.NoError(t, json.Unmarshal([]byte(line), &f))
			list = append(list, f)
		}
		return list
	}
	require.Equal(t, findings(dir), findings(log))
	report := readReport(t, out)
	require.True(t, report.Redacted)
	require.Empty(t, report.LogUUID)
}

// Every event of a selected migration is copied, under a new seq.
func TestBundle_OneMove(t *testing.T) {
	dir, out := recordingLog(t), filepath.Join(t.TempDir(), "bundle")
	output(t, 0, "bundle", "-q", dir, "--migration", "781d20", "--kind", "checkpoint", "--phase", "CatchUp", "--out", out)
	require.Equal(t, [][3]uint64{{1, 9401, 2}}, readReport(t, out).Seqs)
	require.Equal(t, 2, strings.Count(output(t, 0, "log", filepath.Join(out, "log"), "-o", "ndjson"), "\n"))
	page, err := os.ReadFile(filepath.Join(out, "timeline.html"))
	require.NoError(t, err)
	require.Contains(t, string(page), "replay-tool show log ")
}

// Every event of a history with violations is copied, also one that repeats a row.
func TestBundle_Violations(t *testing.T) {
	dir, out := filepath.Join(t.TempDir(), "log"), filepath.Join(t.TempDir(), "bundle")
	output(t, 0, "import", "-q", dir, "testdata/violations.ndjson")
	output(t, 0, "bundle", "-q", dir, "--all", "--out", out)
	require.Equal(t, output(t, 0, "log", dir, "-o", "ndjson"), output(t, 0, "log", filepath.Join(out, "log"), "-o", "ndjson"))
}

// A bundle of a damaged log has the intact events. Its report has the damage, and the exit code is
// that of the damaged log.
func TestBundle_Damaged(t *testing.T) {
	dir, out := recordingLog(t), filepath.Join(t.TempDir(), "bundle")
	flipBit(t, filepath.Join(dir, "wal", "00000000000000000001"), 5000)
	output(t, 3, "bundle", "-q", dir, "--all", "--redact", "--out", out)
	report := readReport(t, out)
	require.Len(t, report.Damage, 1)
	require.Equal(t, "left out", report.Damage[0].Reason)
	require.EqualValues(t, 9501, report.Events)
	require.Len(t, report.Seqs, 2)
	readme, err := os.ReadFile(filepath.Join(out, "README"))
	require.NoError(t, err)
	require.Contains(t, string(readme), "ATTENTION: the source has lost 1 event.")
	output(t, 0, "verify", filepath.Join(out, "log"))
}

// Wrong arguments write nothing.
func TestBundle_WritesNothing(t *testing.T) {
	dir, parent := recordingLog(t), t.TempDir()
	out := filepath.Join(parent, "bundle")
	for _, tc := range []struct {
		code int
		args []string
	}{
		{exitUsage, []string{"bundle", dir, "--out", out}},
		{exitUsage, []string{"bundle", dir, "--all"}},
		{exitUsage, []string{"bundle", dir, "--all", "--vshard", "3", "--out", out}},
		{exitUsage, []string{"bundle", dir, "--all", "--out", parent}},
		{exitUsage, []string{"bundle", dir, "--all", "--out", filepath.Join(dir, "bundle")}},
		{exitUsage, []string{"bundle", dir, "--all", "--out", filepath.Join(dir, "wal", "bundle") + "/"}},
		{exitNoMatch, []string{"bundle", dir, "--vshard", "99", "--out", out}},
		{exitIO, []string{"bundle", dir, "--all", "--out", filepath.Join(parent, "no", "bundle")}},
		{exitIO, []string{"bundle", filepath.Join(parent, "no"), "--all", "--out", out}},
	} {
		output(t, tc.code, tc.args...)
		entries, err := os.ReadDir(parent)
		require.NoError(t, err)
		require.Empty(t, entries, "%v", tc.args)
	}
}
