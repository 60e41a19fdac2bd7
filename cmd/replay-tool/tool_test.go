package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(400) // the tests run thousands of commands with a small heap
	testscript.Main(m, map[string]func(){"replay-tool": main})
}

// The scripts run the real program. In addition to testscript's commands they have:
//
//	exits CODE ARGS…       runs replay-tool and checks the exit code; the commands stdout and stderr check the output
//	unchanged DIR ARGS…    runs replay-tool and checks that it changed no byte below DIR
//	flip FILE OFFSET       flips a bit
//	cut FILE BYTES         removes bytes from the end
//	watermark DIR SEQ      sets both watermarks to SEQ, as after a power cut, and removes the snapshots
func TestScripts(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../../testdata")
	require.NoError(t, err)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("DATA", root)
			return nil
		},
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "", // rewrites the files of cmp
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "unchanged": unchanged, "flip": flip, "cut": cut, "watermark": watermark,
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec("replay-tool", args[1:]...)
	if got := codeOf(err); got != want {
		ts.Fatalf("replay-tool %s: exit %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

func watermark(ts *testscript.TestScript, neg bool, args []string) {
	seq, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	ts.Check(setWatermark(ts.MkAbs(args[0]), seq))
}

func setWatermark(dir string, seq uint64) error {
	reader, err := replay.Open(dir)
	if err != nil {
		return err
	}
	err = os.RemoveAll(filepath.Join(dir, segment.SnapshotDir)) // a snapshot also proves that events were durable
	for _, name := range segment.WatermarkNames {
		line := segment.AppendWatermark(nil, reader.Manifest().UUID, seq)
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), line, 0o600))
	}
	return err
}

func codeOf(err error) int {
	if err == nil {
		return 0
	}
	if coded, ok := err.(interface{ ExitCode() int }); ok {
		return coded.ExitCode()
	}
	return -1
}

func unchanged(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.MkAbs(args[0])
	before, err := hashDir(dir)
	ts.Check(err)
	_ = ts.Exec("replay-tool", args[1:]...)
	after, err := hashDir(dir)
	ts.Check(err)
	if before != after {
		ts.Fatalf("replay-tool %s changed %s", strings.Join(args[1:], " "), dir)
	}
}

// hashDir returns a hash of the name, size, mode, time and content of every file below dir.
func hashDir(dir string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(h, path, info.Size(), info.ModTime(), info.Mode())
		if d.IsDir() {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(h, f)
		return err
	})
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

func flip(ts *testscript.TestScript, neg bool, args []string) {
	file := ts.MkAbs(args[0])
	b, err := os.ReadFile(file)
	ts.Check(err)
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	b[at] ^= 4
	ts.Check(os.WriteFile(file, b, 0o600))
}

func cut(ts *testscript.TestScript, neg bool, args []string) {
	file := ts.MkAbs(args[0])
	info, err := os.Stat(file)
	ts.Check(err)
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(file, info.Size()-n))
}

// exit.go, docs/TOOL.md and --help have the same exit codes.
func TestExitCodes_AsDocumented(t *testing.T) {
	source, err := os.ReadFile("exit.go")
	require.NoError(t, err)
	doc, err := os.ReadFile("../../docs/TOOL.md")
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(doc), "## Exit codes")
	require.True(t, ok)
	table, _, _ = strings.Cut(table, "\n## ")
	var help bytes.Buffer
	require.Zero(t, run(t.Context(), []string{"--help"}, nil, &help, io.Discard))
	_, helpTable, _ := strings.Cut(help.String(), "Exit codes:")

	codes := numbers(string(source), `(?m)^\texit\w+ += (\d+)$`)
	require.Len(t, codes, 11)
	require.Equal(t, codes, numbers(table, `(?m)^\| (\d+) \|`))
	require.Equal(t, codes, numbers(strings.SplitN(helpTable, "\n\n", 2)[0], `(?:^|  )(\d+)  `))
}

// docs/TOOL.md lists every command. A command that writes nothing is in the script that compares the
// log before and after it.
func TestCommands_AsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/TOOL.md")
	require.NoError(t, err)
	script, err := os.ReadFile("testdata/script/readonly.txtar")
	require.NoError(t, err)
	var documented, commands []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-zA-Z-]+)[^`]*` \\| ([^|]*) \\|").FindAllStringSubmatch(strings.SplitN(string(doc), "\n## ", 2)[0], -1) {
		documented = append(documented, row[1])
		if row[2] == "nothing" && row[1] != "version" && row[1] != "completion" { // they open no log
			require.Contains(t, string(script), "unchanged log "+row[1]+" ")
		}
	}
	for _, c := range newRoot(nil, io.Discard, io.Discard).Commands() {
		if !c.Hidden && !c.IsAdditionalHelpTopicCommand() && c.Name() != "help" {
			commands = append(commands, c.Name())
		}
	}
	require.ElementsMatch(t, commands, documented)
}

// Each command is in a group of --help, and has an example.
func TestCommands_HaveAGroupAndAnExample(t *testing.T) {
	for _, c := range newRoot(nil, io.Discard, io.Discard).Commands() {
		if c.Hidden || c.IsAdditionalHelpTopicCommand() {
			continue
		}
		require.NotEmpty(t, c.GroupID, "%s: add it to commandGroups", c.Name())
		if c.Name() != "help" && c.Name() != "completion" { // cobra makes them
			require.Contains(t, c.Example, "replay-tool "+c.Name(), c.Name())
		}
	}
}

// The help of each command fits 80 columns.
func TestHelp_Fits(t *testing.T) {
	assertFits(t, output(t, exitClean, "--help"), helpWidth)
	for _, c := range newRoot(nil, io.Discard, io.Discard).Commands() {
		if c.Name() != "completion" && c.Name() != "help" { // texts of cobra
			help := output(t, exitClean, "help", c.Name())
			assertFits(t, help, helpWidth)
			require.NotContains(t, help, "(default )", c.Name())
			require.NotContains(t, help, "(default [])", c.Name())
		}
	}
}

func numbers(text, pattern string) (all []int) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		n, _ := strconv.Atoi(m[1])
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

// D5: verify exits with 3 if any bit of a small log is flipped, or if the segment is cut at any byte.
// If the watermark is 0, a cut leaves no evidence of the lost frames. Then verify exits with 4, or
// with 0 if the cut is between two frames.
func TestD5_VerifyExitCodes(t *testing.T) {
	if testing.Short() {
		t.Skip("reads the log thousands of times in one goroutine")
	}
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	events := filepath.Join(t.TempDir(), "events.ndjson")
	all, err := os.ReadFile("../../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(events, bytes.Join(bytes.SplitAfterN(all, []byte("\n"), 5)[:4], nil), 0o600))
	require.Zero(t, run(t.Context(), []string{"import", "-q", dir, events}, nil, io.Discard, io.Discard))
	verify := func() int { return run(t.Context(), []string{"verify", dir}, nil, io.Discard, io.Discard) }
	require.Equal(t, exitClean, verify())

	path := filepath.Join(dir, "wal", "00000000000000000001")
	flips := 0
	for file, want := range map[string]int{path: exitDamage, filepath.Join(dir, "MANIFEST"): exitHarmless, filepath.Join(dir, "wal", "MANIFEST"): exitHarmless} {
		intact, err := os.ReadFile(file)
		require.NoError(t, err)
		for bit := range len(intact) * 8 {
			overwrite(t, file, bit/8, intact[bit/8]^1<<(bit%8))
			require.Equal(t, want, verify(), "%s bit %d", file, bit)
			overwrite(t, file, bit/8, intact[bit/8])
			flips++
		}
	}
	intact, err := os.ReadFile(path)
	require.NoError(t, err)
	for size := len(intact) - 1; size >= 0; size-- {
		require.NoError(t, os.Truncate(path, int64(size)))
		require.Equal(t, exitDamage, verify(), "cut at %d", size)
	}
	require.NoError(t, setWatermark(dir, 0))
	clean := 0
	for size := range len(intact) + 1 {
		if size > 0 {
			overwrite(t, path, size-1, intact[size-1]) // of the empty file that the cuts left
		}
		code := verify()
		if code == exitClean {
			clean++
			continue
		}
		require.Equal(t, exitTornTail, code, "cut at %d", size)
	}
	require.Equal(t, 5, clean, "cuts between frames")
	t.Logf("%d flips, %d cuts", flips, len(intact)+1)
}

// overwrite writes one byte of a file. Unlike os.WriteFile it does not make the file empty first, after
// which ext4 waits for the disk.
func overwrite(t *testing.T, path string, offset int, b byte) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{b}, int64(offset))
	require.NoError(t, errors.Join(err, f.Close()))
}

// log -f prints new records as they are appended, if the filters select them, until it is interrupted.
func TestLog_Follow(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	all, err := os.ReadFile("../../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	lines := bytes.SplitAfter(all, []byte("\n"))
	load := func(from, to int) {
		in := bytes.NewReader(bytes.Join(lines[from:to], nil))
		require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, in, io.Discard, io.Discard))
	}
	load(0, 5)
	ctx, interrupt := context.WithCancel(t.Context())
	out, in := io.Pipe()
	code := make(chan int)
	go func() {
		code <- run(ctx, []string{"log", dir, "-q", "-f", "-n", "2", "--kind", "checkpoint", "-o", "ndjson"}, nil, in, io.Discard)
	}()
	shown := bufio.NewScanner(out)
	for _, want := range []int{4, 5} {
		require.True(t, shown.Scan())
		require.Contains(t, shown.Text(), fmt.Sprintf(`{"seq":%d,`, want))
	}
	load(5, 9)
	for _, want := range []int{6, 8, 9} { // 7 is a removal
		require.True(t, shown.Scan())
		require.Contains(t, shown.Text(), fmt.Sprintf(`{"seq":%d,`, want))
	}
	interrupt()
	require.Equal(t, exitInterrupted, <-code)
}

// An import can be interrupted while it waits for the writer of a named pipe.
func TestImport_PipeWithoutAWriter(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	ctx, interrupt := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, interrupt)
	require.Equal(t, exitInterrupted, run(ctx, []string{"import", filepath.Join(t.TempDir(), "log"), pipe}, nil, io.Discard, io.Discard))
	w, err := os.OpenFile(pipe, os.O_RDWR, 0) // unblocks the goroutine that still opens the pipe
	require.NoError(t, err)
	require.NoError(t, w.Close())
}

// For any input, import stops with the number of the invalid line, or it imports all of it. The log
// is clean in both cases, if there is one. --check predicts the exit code.
func FuzzImport(f *testing.F) {
	all, err := os.ReadFile("../../testdata/raft-moves.ndjson")
	require.NoError(f, err)
	for _, line := range bytes.SplitAfterN(all, []byte("\n"), 8)[:7] {
		f.Add(line)
	}
	f.Add([]byte(`{"kind":"abort","migration_id":"01a20629-44f1-75f5-8bf1-d9e9fef8b7a5","reason":"x","compensations":[{"kind":"RemoveGhostStub","group_id":0,"peer_id":0,"vshard_id":3}],"ts_ms":2}`))
	f.Add([]byte(`{"kind":"damage","first_seq":4,"last_seq":4,"segment":"s","offset":0,"length":0,"reason":"r"}`))
	f.Fuzz(func(t *testing.T, input []byte) {
		dir := filepath.Join(t.TempDir(), "log")
		var out, errs bytes.Buffer
		predicted := run(t.Context(), []string{"import", "--check", dir, "-"}, bytes.NewReader(input), io.Discard, io.Discard)
		require.NoDirExists(t, dir)
		code := run(t.Context(), []string{"import", dir, "-"}, bytes.NewReader(input), &out, &errs)
		require.Equal(t, code, predicted)
		switch code {
		case exitUsage:
			require.Contains(t, errs.String(), "line ")
		case exitDamage:
			require.Contains(t, errs.String(), "damage line")
		default:
			require.Equal(t, exitClean, code, errs.String())
		}
		if _, err := os.Stat(dir); code == exitUsage && errors.Is(err, fs.ErrNotExist) {
			return
		}
		require.Equal(t, exitClean, run(t.Context(), []string{"verify", dir}, nil, io.Discard, io.Discard))
	})
}
