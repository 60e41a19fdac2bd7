package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// tempLog is a small log, with a directory for the files of --out.
func tempLog(t *testing.T) (dir, outDir string) {
	all, err := os.ReadFile("../../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	dir, outDir = filepath.Join(t.TempDir(), "log"), t.TempDir()
	lines := strings.SplitAfterN(string(all), "\n", 301)[:300]
	require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, strings.NewReader(strings.Join(lines, "")), io.Discard, io.Discard))
	return dir, outDir
}

// filesIn returns the names of all files in a directory, also hidden ones.
func filesIn(t *testing.T, dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// The NDJSON of export is that of log, and import reads it.
func TestExport_ImportsAgain(t *testing.T) {
	dir, outDir := tempLog(t)
	out := filepath.Join(outDir, "events.ndjson")
	require.Zero(t, run(t.Context(), []string{"export", dir, "--format", "ndjson", "--out", out}, nil, io.Discard, io.Discard))
	exported, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, output(t, exitClean, "log", dir, "-q", "-o", "ndjson"), string(exported))
	second := filepath.Join(outDir, "second")
	require.Zero(t, run(t.Context(), []string{"import", "-q", second, out}, nil, io.Discard, io.Discard))
	require.Equal(t, output(t, exitClean, "state", dir, "-q", "-o", "ndjson"), output(t, exitClean, "state", second, "-q", "-o", "ndjson"))
	require.Equal(t, output(t, exitClean, "log", dir, "-q", "-o", "ndjson", "--vshard", "11"), output(t, exitClean, "export", dir, "-q", "--format", "ndjson", "--vshard", "11"))
}

// A file is replaced only with --force, and stdout and a file get the same bytes.
func TestExport_Out(t *testing.T) {
	dir, outDir := tempLog(t)
	out := filepath.Join(outDir, "events.sql")
	require.NoError(t, os.WriteFile(out, []byte("mine"), 0o600))
	args := []string{"export", dir, "-q", "--format", "sql", "--out", out}
	code, _, errs := runTool(t, nil, args...)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "--force")
	b, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, "mine", string(b))
	require.Zero(t, run(t.Context(), append(args, "--force"), nil, io.Discard, io.Discard))
	b, err = os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, output(t, exitClean, "export", dir, "-q", "--format", "sql"), string(b))
	require.Equal(t, []string{"events.sql"}, filesIn(t, outDir))

	for _, args := range [][]string{{}, {"--format", "xml"}, {"--format", "csv", "--table", "row"}, {"--format", "csv", "-o", "json"}, {"--format", "csv", "--out", filepath.Join(dir, "events.csv")}} {
		require.Equal(t, exitUsage, run(t.Context(), append([]string{"export", dir}, args...), nil, io.Discard, io.Discard), args)
	}
	_, lines, _ := runTool(t, nil, "export", dir, "--format", "ndjson")
	code, same, _ := runTool(t, nil, "export", dir, "-o", "ndjson")
	require.Zero(t, code)
	require.Equal(t, lines, same)
	_, _, errs = runTool(t, nil, "export", dir, "-o", "csv")
	require.Contains(t, errs, "run 'replay-tool export DIR --format csv'")
	require.Equal(t, exitNoMatch, run(t.Context(), []string{"export", dir, "--format", "csv", "--vshard", "99"}, nil, io.Discard, io.Discard))
}

// A link or a device is not replaced, not even with --force.
func TestExport_OutIsNoFile(t *testing.T) {
	dir, outDir := tempLog(t)
	target, link, pipe := filepath.Join(outDir, "target"), filepath.Join(outDir, "link"), filepath.Join(outDir, "pipe")
	require.NoError(t, os.WriteFile(target, []byte("mine"), 0o600))
	require.NoError(t, os.Symlink(target, link))
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	for _, out := range []string{link, pipe, outDir} {
		code, _, errs := runTool(t, nil, "export", dir, "--format", "csv", "--out", out, "--force")
		require.Equal(t, exitUsage, code, out)
		require.Contains(t, errs, "give")
	}
	require.Equal(t, []string{"link", "pipe", "target"}, filesIn(t, outDir))
	info, err := os.Lstat(link)
	require.NoError(t, err)
	require.Equal(t, os.ModeSymlink, info.Mode().Type())
}

// If the disk is full, or the export is interrupted, no part of the file is left, and a file that was
// there stays.
func TestExport_LeavesNothingHalfWritten(t *testing.T) {
	dir, outDir := tempLog(t)
	out := filepath.Join(outDir, "events.sql")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, exitInterrupted, run(ctx, []string{"export", dir, "--format", "sql", "--out", out}, nil, io.Discard, io.Discard))
	require.Empty(t, filesIn(t, outDir))

	if os.Getuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	if message, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", outDir).CombinedOutput(); err != nil {
		t.Skipf("cannot mount a tmpfs: %s", message)
	}
	t.Cleanup(func() { require.NoError(t, exec.Command("umount", outDir).Run()) })
	require.NoError(t, os.WriteFile(out, []byte("mine"), 0o600))
	code, _, errs := runTool(t, nil, "export", dir, "--format", "sql", "--out", out, "--force")
	require.Equal(t, exitIO, code)
	require.Contains(t, errs, "no space left on device")
	require.Equal(t, []string{"events.sql"}, filesIn(t, outDir))
	b, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, "mine", string(b))
}
