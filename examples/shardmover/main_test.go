package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/examples/shardmover/driver"
)

// TestMain runs the child processes, which are this program too.
func TestMain(m *testing.M) {
	driver.RunChild()
	os.Exit(m.Run())
}

// A small run passes all checks, with and without faults between the nodes. It takes about 10 s.
func TestRun(t *testing.T) {
	for name, extra := range map[string][]string{"kills": nil, "kills and faults": {"-faults"}} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "run")
			args := append([]string{"-dir", dir, "-groups", "4", "-moves", "20", "-kills", "5", "-seed", "7", "-o", "json"}, extra...)
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), args, &stdout, &stderr)
			require.Zero(t, code, "%s%s", &stdout, &stderr)
			var report map[string]any
			require.NoError(t, json.Unmarshal(stdout.Bytes(), &report))
			for key, want := range map[string]float64{"moves": 20, "kills": 5, "client_writes_lost": 0, "in_flight": 0} {
				require.Equal(t, want, report[key], key)
			}
			require.Equal(t, float64(20), report["complete"].(float64)+report["aborted"].(float64))
			require.Len(t, report, 13)
			require.Contains(t, stderr.String(), "replay-tool show "+dir)
		})
	}
}

// A wrong command line begins nothing.
func TestRun_RefusesWrongUsage(t *testing.T) {
	used := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(used, "x"), nil, 0o644))
	for want, args := range map[string]string{
		"usage: shardmover -dir DIR": "-moves 1",
		"3 nodes are too few":        "-nodes 3 -dir " + filepath.Join(used, "new"),
		"is not empty":               "-dir " + used,
		"usage: shardmover -dir ":    "-o xml -dir " + filepath.Join(used, "new"),
		"flag provided but not":      "-unknown",
	} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, exitUsage, run(t.Context(), strings.Fields(args), &stdout, &stderr))
		require.Contains(t, stderr.String(), want)
		require.Empty(t, stdout.String())
	}
}
