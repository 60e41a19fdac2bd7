package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/replay"
)

const firstSegment = "00000000000000000001"

// smallLog makes a log of the first events of the recording. It returns the directory and the id of
// the first migration.
func smallLog(t *testing.T, events int) (dir, id string) {
	dir = filepath.Join(t.TempDir(), "log")
	all, err := os.ReadFile("../../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	input := bytes.Join(bytes.SplitAfterN(all, []byte("\n"), events+1)[:events], nil)
	require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, bytes.NewReader(input), io.Discard, io.Discard))
	return dir, "01a20629-44f1-75f5-8bf1-d9e9fef8b7a5"
}

// The commands print at most ten findings of each severity to stderr, and then how many more there
// are and how to list them. verify lists them all.
func TestFindings_FirstTen(t *testing.T) {
	dir, id := smallLog(t, 40)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots")))
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	path := filepath.Join(dir, "wal", firstSegment)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		if r.Seq%2 == 0 && r.Seq > 10 {
			b[r.Offset+r.Length-1] ^= 1 // 15 frames
		}
	}
	require.NoError(t, os.WriteFile(path, b, 0o600))
	for i := range 12 {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "wal", fmt.Sprintf("%d.swp", i)), nil, 0o600))
	}
	for _, args := range [][]string{{"log", dir}, {"log", "--reverse", dir}, {"show", dir, id}, {"state", dir}, {"state", dir, id}, {"import", dir, "-"}} {
		var errs bytes.Buffer
		code := run(t.Context(), args, strings.NewReader(""), io.Discard, &errs)
		if args[0] != "import" {
			require.Equal(t, exitDamage, code, args)
		}
		require.Equal(t, 10, strings.Count(errs.String(), "damage: "), "%v: %s", args, errs.String())
		require.Equal(t, 10, strings.Count(errs.String(), "harmless: "), args)
		require.Contains(t, errs.String(), "5 more findings of the same severity (loses events). To list all, run: replay-tool verify "+dir+" --all\n", args)
		require.Contains(t, errs.String(), "2 more findings of the same severity (harmless). To list all, run: replay-tool verify "+dir+" --all\n", args)
	}
	var out bytes.Buffer
	require.Equal(t, exitDamage, run(t.Context(), []string{"verify", dir}, nil, &out, io.Discard))
	require.Equal(t, 15, strings.Count(out.String(), "damage: "))
	require.Equal(t, 12, strings.Count(out.String(), "harmless: "))
}

// The exit code of a log is that of its worst finding: 3 if events are lost or endangered, 9 if all
// findings are harmless, and 4 for a torn tail alone. The first line of verify is the verdict.
func TestD5_ExitCodeOfTheWorstFinding(t *testing.T) {
	t.Parallel()
	foreign := func(t *testing.T, dir string) {
		for _, name := range []string{".DS_Store", ".nfs0000000000000001", "x.swp", firstSegment + ".bak", firstSegment + "~"} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "wal", name), nil, 0o600))
		}
	}
	remove := func(names ...string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			for _, name := range names {
				require.NoError(t, os.Remove(filepath.Join(dir, name)))
			}
		}
	}
	write := func(name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
		}
	}
	for name, tc := range map[string]struct {
		changes []func(t *testing.T, dir string)
		code    int
		verdict string
	}{
		"nothing":                      {nil, exitClean, "bytes whole: "},
		"foreign files":                {[]func(*testing.T, string){foreign}, exitHarmless, "no event is lost or endangered: 4 events, seq 1 to 4; 5 harmless findings\n"},
		"one of two copies":            {[]func(*testing.T, string){remove("MANIFEST", "wal/WATERMARK")}, exitHarmless, "no event is lost or endangered"},
		"a damaged snapshot":           {[]func(*testing.T, string){write("snapshots/00000000000000000001")}, exitHarmless, "no event is lost or endangered"},
		"a torn tail":                  {[]func(*testing.T, string){tearTail}, exitTornTail, ", and a torn tail\nThe torn tail is an interrupted write"},
		"a torn tail, a foreign file":  {[]func(*testing.T, string){tearTail, foreign}, exitHarmless, "5 harmless findings and a torn tail\nThe torn tail is an interrupted write"},
		"both watermarks":              {[]func(*testing.T, string){remove("WATERMARK", "wal/WATERMARK")}, exitDamage, "DAMAGED: no event is known to be lost: "},
		"a file that tidwall/wal uses": {[]func(*testing.T, string){foreign, write("wal/00000000000000000009.END")}, exitDamage, "DAMAGED: no event is known to be lost: "},
		"a segment beyond the end": {[]func(*testing.T, string){func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(filepath.Join(dir, "wal", firstSegment), filepath.Join(dir, "wal", "00000000000000000100")))
		}}, exitDamage, "DAMAGED: no event is known to be lost: "},
		"a symlink to the only segment": {[]func(*testing.T, string){func(t *testing.T, dir string) {
			path := filepath.Join(dir, "wal", firstSegment)
			require.NoError(t, os.Rename(path, filepath.Join(dir, "moved")))
			require.NoError(t, os.Symlink("../moved", path))
		}}, exitDamage, "DAMAGED: "},
	} {
		t.Run(name, func(t *testing.T) {
			dir, id := smallLog(t, 4)
			for _, change := range tc.changes {
				change(t, dir)
			}
			var out bytes.Buffer
			require.Equal(t, tc.code, run(t.Context(), []string{"verify", dir}, nil, &out, io.Discard), out.String())
			first, second, _ := strings.Cut(out.String(), "\n")
			require.Contains(t, first+"\n"+second, tc.verdict)
			commands := [][]string{{"verify", dir, "-o", "json"}, {"info", dir}, {"log", dir}, {"log", dir, "-n", "1"}, {"state", dir}}
			if name != "a symlink to the only segment" {
				commands = append(commands, []string{"show", dir, id}, []string{"state", dir, id})
			}
			for _, args := range commands {
				require.Equal(t, tc.code, run(t.Context(), args, nil, io.Discard, io.Discard), args)
			}
		})
	}
}

// tearTail cuts the last frame of a log, as if the write had been interrupted.
func tearTail(t *testing.T, dir string) {
	path := filepath.Join(dir, "wal", firstSegment)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, info.Size()-3))
	require.NoError(t, setWatermark(dir, 0))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots")))
}

// info prints the finding that sets its exit code, and a torn tail in addition.
func TestInfo_HealthWithTornTail(t *testing.T) {
	dir, _ := smallLog(t, 4)
	tearTail(t, dir)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "wal", ".DS_Store"), nil, 0o600))
	var out bytes.Buffer
	require.Equal(t, exitHarmless, run(t.Context(), []string{"info", dir}, nil, &out, io.Discard))
	require.Contains(t, out.String(), "bytes      no event lost or endangered, 1 harmless finding\ntorn tail  90 bytes: an interrupted write")
	require.NoError(t, os.Remove(filepath.Join(dir, "wal", ".DS_Store")))
	out.Reset()
	require.Equal(t, exitTornTail, run(t.Context(), []string{"info", dir}, nil, &out, io.Discard))
	require.Contains(t, out.String(), "bytes      only a torn tail\ntorn tail  90 bytes: an interrupted write")
}

// If every snapshot is damaged, state --snapshot says so, with the exit code of damage. A log without
// a snapshot has another message and exit code.
func TestState_DamagedSnapshot(t *testing.T) {
	dir, _ := smallLog(t, 4)
	state := func() (code int, message string) {
		var errs bytes.Buffer
		code = run(t.Context(), []string{"state", "--snapshot", dir}, nil, io.Discard, &errs)
		return code, errs.String()
	}
	path := filepath.Join(dir, "snapshots", "00000000000000000004")
	require.NoError(t, os.WriteFile(path, []byte("damaged"), 0o600))
	code, message := state()
	require.Equal(t, exitDamage, code)
	require.Contains(t, message, "no snapshot is intact: the newest damaged one is snapshots/00000000000000000004, 7 bytes: cut short")
	require.NotContains(t, message, "file does not exist")
	require.NoError(t, os.Remove(path))
	code, message = state()
	require.Equal(t, exitIO, code)
	require.Contains(t, message, "snapshots/ has no snapshot")
}

// state says that a migration has no row even if the exit code is about a finding.
func TestState_NoRowBesideAFinding(t *testing.T) {
	dir, id := smallLog(t, 1)
	remove := strings.NewReader(`{"kind":"remove","migration_id":"` + id + `","ts_ms":1}`)
	require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, remove, io.Discard, io.Discard))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "wal", ".DS_Store"), nil, 0o600))
	var errs bytes.Buffer
	require.Equal(t, exitHarmless, run(t.Context(), []string{"state", dir, id}, nil, io.Discard, &errs))
	require.Contains(t, errs.String(), "has no row at this point")
}

// import counts no damage lines of harmless findings: the source log has lost no event.
func TestImport_HarmlessDamageLine(t *testing.T) {
	for severity, want := range map[string]int{`,"severity":"harmless"`: exitClean, `,"severity":"endangers events"`: exitDamage, ``: exitDamage} {
		line := `{"kind":"damage","first_seq":0,"last_seq":0,"segment":"wal/.DS_Store","offset":0,"length":1,"reason":"not a file of this log"` + severity + `}`
		dir := filepath.Join(t.TempDir(), "log")
		require.Equal(t, want, run(t.Context(), []string{"import", "-q", dir, "-"}, strings.NewReader(line), io.Discard, io.Discard), severity)
	}
}

// Each line of verify fits 80 columns, and on a pipe each finding is one line.
func TestVerify_Width(t *testing.T) {
	dir, _ := smallLog(t, 4)
	segment := filepath.Join(dir, "wal", firstSegment)
	data, err := os.ReadFile(segment)
	require.NoError(t, err)
	data[200] ^= 1
	require.NoError(t, os.WriteFile(segment, data, 0o600))
	_, wide, _ := runTool(t, nil, "verify", dir)
	require.Contains(t, wide, "\nEvents are missing from the history, but no row is lost and no migration is in doubt\ndamage: 0")
	for _, width := range []int{80, 140} {
		_, out, _ := runTool(t, nil, "verify", dir, "--width", fmt.Sprint(width))
		for line := range strings.Lines(out) {
			require.LessOrEqual(t, len(strings.TrimSuffix(line, "\n")), width, out)
		}
		require.Equal(t, strings.Fields(wide), strings.Fields(out))
	}
}
