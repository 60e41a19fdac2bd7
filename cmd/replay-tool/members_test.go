package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/diff"
)

const firstIndex = 1000 // a digest follows index 1023

// recordedEntries returns the first lines of the recording as entries of a consensus engine.
func recordedEntries(t *testing.T, lines int) (entries []migrationlog.Entry) {
	b, err := os.ReadFile(recordingFile)
	require.NoError(t, err)
	for i, line := range bytes.SplitN(b, []byte("\n"), lines+1)[:lines] {
		var r replay.Record
		require.NoError(t, json.Unmarshal(line, &r))
		entries = append(entries, migrationlog.Entry{Index: firstIndex + uint64(i), Term: 4, Event: r.Event})
	}
	return entries
}

func openMember(t *testing.T, dir string, entries []migrationlog.Entry) *migrationlog.Replica {
	r, err := migrationlog.OpenReplica(dir, &migrationlog.ReplicaOptions{RelaxedSync: true})
	require.NoError(t, err)
	applyAll(t, r, entries)
	return r
}

func applyAll(t *testing.T, r *migrationlog.Replica, entries []migrationlog.Entry) {
	applied, err := r.Apply(entries)
	require.NoError(t, err)
	for _, a := range applied {
		require.NoError(t, a.Err)
	}
}

// makeMembers makes the logs of three members in a directory. M1 has all of its history. M2 was
// restored from it at index 1039. M3 has another event at index 1049.
func makeMembers(t *testing.T, parent string) {
	entries := recordedEntries(t, 60)
	m1 := openMember(t, filepath.Join(parent, "M1"), entries[:40])
	m2 := openMember(t, filepath.Join(parent, "M2"), nil)
	require.NoError(t, m2.Replace(m1.State()))
	applyAll(t, m1, entries[40:])
	applyAll(t, m2, entries[40:])
	other := append([]migrationlog.Entry{}, entries...)
	other[49].Event = checkpoint.Removed{MigrationID: other[49].Event.Migration(), TimestampMS: other[49].Event.WallMS()}
	m3 := openMember(t, filepath.Join(parent, "M3"), other)
	for _, m := range []*migrationlog.Replica{m1, m2, m3} {
		require.NoError(t, m.Close())
	}
}

// inMembers calls f in a directory with the logs of makeMembers.
func inMembers(t *testing.T, f func()) {
	testdata, err := os.Getwd()
	require.NoError(t, err)
	parent := t.TempDir()
	makeMembers(t, parent)
	t.Chdir(parent)
	f()
	t.Chdir(testdata)
}

var memberCommands = map[string][]string{
	"log": {
		"log M2", "log M2 -n 4 --width 140", "log M1 --kind digest --width 140", "log M1 --migration 63fae --width 140",
		"log M2 --kind restored -o ndjson", "log M2 --kind digest -o ndjson",
		"log M1 --from index:1022 --to index:1024 --width 140", "log M2 --from index:1 --to index:1041 --width 140", "log M1 --to index:999", "log M1 --from index:2000 --to index:3000",
		"log M1 --from index:9 --to index:8", "log M1 --from index:x",
	},
	"rows": {
		"show M2 f627 --width 140", "show M2 f627", "show M2 63fae", "state M2 --width 140", "state M2 -v --width 140",
		"state M2 --at index:1039", "state M2 --at index:1038", "state M2 --at #3", "state M2 --at 02:08:17.649", "state M2 --at 02:08:17.731",
		"state M2 --at f627@AddLearner", "state M1 --at index:1038", "state M1 --at index:999", "state M1 --at index:1060", "state M1 --at index:x",
		"plan M2 --at #2", "quiet M2 --before index:1000", "diff M2 --at index:1040 --at index:1050", "diff M2 --at #1",
	},
	"whole": {
		"triage M2", "triage M2 --check", "lint M2", "lint M2 --severity info", "stats M2", "quiet M2", "timeline M2", "verify M2", "what-if M2", "crash-points M2",
		"export M2 --format csv --table move", "export M2 --format csv --table stay",
	},
	"diff": {"diff M1 M2", "diff M2 M1", "diff M1 M3", "diff M2 M3", "diff M3 M1 --width 140", "diff M1 M3 --all", "diff M1 M3 -o json"},
}

// The views of the logs of a consensus group are those in testdata/views. To rewrite them after a
// change, run
//
//	go test ./cmd/replay-tool -run TestViews_Members -update-views
func TestViews_Members(t *testing.T) {
	setClock(t, recordingEndMS)
	for name, commands := range memberCommands {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			inMembers(t, func() {
				for _, command := range commands {
					if strings.Contains(command, " -o ") || strings.HasPrefix(command, "export") { // lines of any length
						code, text, errs := runTool(t, nil, strings.Fields(command)...)
						fmt.Fprintf(&out, "$ replay-tool %s\n%sstderr:\n%sexit %d\n\n", command, text, errs, code)
						continue
					}
					out.WriteString(viewOf(t, command))
				}
			})
			checkView(t, "members "+name, out.String())
		})
	}
}

// States are equal again only if their last digests are after a difference.
func TestDiff_StatesEqualAgain(t *testing.T) {
	for statesAt, want := range map[uint64]string{10: "their states are equal\n", 11: "their states are equal again\n"} {
		var out bytes.Buffer
		d := diffCommand{tool: &tool{stdout: &out}, dirs: []string{"A", "B"}}
		d.historiesText(diff.Histories{Agreement: diff.Unknown, DiffersAt: 10, StatesAt: statesAt, StatesEqual: true})
		require.Contains(t, out.String(), want)
	}
}

// The id of the store's own events is in no output but the frames and the bytes.
func TestMembers_ReservedID(t *testing.T) {
	inMembers(t, func() {
		for _, command := range []string{
			"log M2 --wide", "log M2 -o ndjson", "state M2 --wide", "state M2 -o json", "triage M2 -o json", "lint M2 --severity info -o json", "stats M2 -o json",
			"timeline M2 --by migration", "export M2 --format csv", "export M2 --format sql", "export M2 --format ndjson", "verify M2 -o json", "info M2 -o json", "show M2 ffffff", "__complete show M2 ",
		} {
			_, out, errs := runTool(t, nil, strings.Split(command, " ")...)
			require.NotContains(t, out+errs, checkpoint.StoreID.String(), command)
			require.NotContains(t, out, "ffffff", command)
		}
		code, _, _ := runTool(t, nil, "show", "M2", checkpoint.StoreID.String())
		require.Equal(t, exitNoMatch, code)
		code, _, _ = runTool(t, nil, "log", "M2", "--migration", checkpoint.StoreID.String())
		require.Equal(t, exitNoMatch, code)
	})
}

// An import of a member's history has its rows and facts, without positions and digests. It keeps
// epochs. The rows are those of the member.
func TestMembers_Import(t *testing.T) {
	inMembers(t, func() {
		code, lines, errs := runTool(t, nil, "log", "M2", "-o", "ndjson")
		require.Zero(t, code, errs)
		require.Contains(t, lines, `"raft_index":1039`)
		code, out, errs := runTool(t, strings.NewReader(lines), "import", "-o", "json", "NEW", "-")
		require.Zero(t, code, errs)
		var counts struct{ Digests, Appended, Duplicates, Differs uint64 }
		require.NoError(t, json.Unmarshal([]byte(out), &counts))
		require.EqualValues(t, 1, counts.Digests)
		require.Zero(t, counts.Differs)
		code, imported, errs := runTool(t, nil, "log", "NEW", "-o", "ndjson")
		require.Zero(t, code, errs)
		require.NotContains(t, imported, "raft_")
		require.NotContains(t, imported, `"digest"`)
		require.Equal(t, strings.Count(lines, `"kind":"restored"`), strings.Count(imported, `"kind":"restored"`))
		rowsOf := func(dir string) (rows []map[string]any) {
			code, out, errs := runTool(t, nil, "state", dir, "-o", "json", "--now", "2026-11-23T02:10:05Z")
			require.Zero(t, code, errs)
			require.NoError(t, json.Unmarshal([]byte(out), &rows))
			for _, row := range rows {
				for _, local := range []string{"seq", "last_seq", "raft_index"} {
					delete(row, local)
				}
			}
			return rows
		}
		require.Equal(t, rowsOf("M2"), rowsOf("NEW"))
		_, _, errs = runTool(t, strings.NewReader(lines), "import", "OTHER", "-")
		require.Contains(t, errs, "1 digest event not imported")

		code, _, errs = runTool(t, nil, "bundle", "M2", "--all", "--redact", "--out", "BUNDLE")
		require.Zero(t, code, errs)
		code, out, errs = runTool(t, nil, "log", "BUNDLE/log", "-o", "ndjson")
		require.Zero(t, code, errs)
		require.Equal(t, strings.Count(lines, `"kind":"restored"`), strings.Count(out, `"kind":"restored"`))
		require.NotContains(t, out, `"digest"`)

		require.NoError(t, os.Remove(filepath.Join("M2", "MANIFEST")))
		require.NoError(t, os.Remove(filepath.Join("M2", "wal", "MANIFEST")))
		code, _, errs = runTool(t, nil, "salvage", "M2", "--out", "SALVAGED")
		require.Zero(t, code, errs)
		_, _, errs = runTool(t, nil, "state", "SALVAGED", "--at", "index:1000")
		require.Contains(t, errs, "not kept here: the history in this directory begins at raft index 1039 (term 4, ")
	})
}
