package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
	"migrationlog/recovery"
	"migrationlog/replay"
)

// planExample is one example of testdata/plan-examples, see its README.
type planExample struct {
	events  []byte // NDJSON
	destroy []uint64
	args    []string
	want    struct {
		Exit      int
		Decisions []any
	}
}

func readPlanExample(t *testing.T, path string) (e planExample) {
	lines, err := os.ReadFile(path)
	require.NoError(t, err)
	for line := range bytes.Lines(lines) {
		var order struct {
			Name string `json:"#"`
			Seq  uint64
		}
		require.NoError(t, json.Unmarshal(line, &order))
		switch order.Name {
		case "":
			e.events = append(e.events, line...)
		case "destroy":
			e.destroy = append(e.destroy, order.Seq)
		default:
			require.Fail(t, "unknown order", order.Name)
		}
	}
	base := strings.TrimSuffix(path, ".ndjson")
	args, err := os.ReadFile(base + ".args")
	require.NoError(t, err)
	for _, arg := range strings.Fields(string(args)) {
		e.args = append(e.args, strings.Trim(arg, "'"))
	}
	want, err := os.ReadFile(base + ".expected.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(want, &e.want))
	return e
}

// makeLog imports the events into a new log and destroys the frames.
func (e planExample) makeLog(t *testing.T) (dir string) {
	dir = filepath.Join(t.TempDir(), "log")
	require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, bytes.NewReader(e.events), io.Discard, io.Discard))
	if len(e.destroy) > 0 {
		destroyFrames(t, dir, e.destroy...)
	}
	return dir
}

// destroyFrames flips a bit in the body of each frame, and removes the snapshots.
func destroyFrames(t *testing.T, dir string, seqs ...uint64) {
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, segment.SnapshotDir)))
	for _, seq := range seqs {
		for r, err := range reader.Records(t.Context(), replay.Query{FromSeq: seq, ToSeq: seq}) {
			require.NoError(t, err)
			flipBit(t, filepath.Join(dir, "wal", r.Segment), r.Offset+segment.HeaderBytes)
		}
	}
}

func flipBit(t *testing.T, path string, offset int64) {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[offset] ^= 1
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

// check runs plan and compares the exit code and the decisions. No byte of the log may change.
func (e planExample) check(t *testing.T, dir string) {
	before, err := hashDir(dir)
	require.NoError(t, err)
	for _, format := range []string{"json", "ndjson", "table"} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"plan", dir, "-o", format}, e.args...), nil, &out, &errs)
		require.Equal(t, e.want.Exit, code, errs.String())
		if format == "table" {
			for line := range strings.Lines(out.String()) {
				require.LessOrEqual(t, utf8.RuneCountInString(line), 81, line) // with the line end
			}
			continue
		}
		var got []any
		text := out.String()
		if format == "ndjson" {
			text = "[" + strings.ReplaceAll(strings.TrimSpace(text), "\n", ",") + "]"
		}
		require.NoError(t, json.Unmarshal([]byte(text), &got), text)
		require.Empty(t, differences("decisions", e.want.Decisions, got), out.String())
	}
	after, err := hashDir(dir)
	require.NoError(t, err)
	require.Equal(t, before, after, "plan changed the log")
}

// differences lists the values that got lacks or has different. Keys that want lacks are not
// compared, and lists are compared in order.
func differences(at string, want, got any) (found []string) {
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		for key, value := range w {
			if _, ok := g[key]; !ok {
				found = append(found, at+" lacks "+key)
			}
			found = append(found, differences(at+"."+key, value, g[key])...)
		}
		return found
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return []string{fmt.Sprintf("%s has %d items, want %d", at, len(g), len(w))}
		}
		for i := range w {
			found = append(found, differences(fmt.Sprintf("%s[%d]", at, i), w[i], g[i])...)
		}
		return found
	}
	if want != got {
		return []string{fmt.Sprintf("%s is %v, want %v", at, got, want)}
	}
	return nil
}

// The plan of each example is the expected one: with and without snapshots, and while a writer has
// the log open.
func TestPlan_Examples(t *testing.T) {
	paths, err := filepath.Glob("testdata/plan-examples/*.ndjson")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(paths), 12)
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".ndjson"), func(t *testing.T) {
			t.Parallel()
			e := readPlanExample(t, path)
			dir := e.makeLog(t)
			e.check(t, dir)
			writer, err := migrationlog.Open(dir, nil)
			require.NoError(t, err)
			e.check(t, dir)
			require.NoError(t, writer.Close())
			if len(e.destroy) == 0 {
				snapshots, err := os.ReadDir(filepath.Join(dir, segment.SnapshotDir))
				require.NoError(t, err)
				require.NotEmpty(t, snapshots)
			}
			e.check(t, dir)
			require.NoError(t, os.RemoveAll(filepath.Join(dir, segment.SnapshotDir)))
			e.check(t, dir)
		})
	}
}

// The table of a plan fits 80 columns, and has each question in words.
func TestPlan_Questions(t *testing.T) {
	var out, errs bytes.Buffer
	tool := &tool{stdout: &out, stderr: &errs}
	id := func(n byte) checkpoint.MigrationID { return checkpoint.MigrationID{0: 1, 15: n} }
	shared := []checkpoint.MigrationID{id(1), id(2), id(3), id(4), id(5)}
	for _, c := range []struct {
		d    recovery.Decision
		want string
	}{
		{recovery.Decision{Reason: recovery.InDoubt, Asks: []recovery.Ask{{Topic: recovery.TopicRow}}},
			"Which row is true? A lost event may have been its last."},
		{recovery.Decision{Reason: recovery.RegressedPastCutover, Inputs: recovery.Inputs{FurthestPhase: checkpoint.PhaseCutover}, Asks: []recovery.Ask{{Topic: recovery.TopicRow}}},
			"Which row is true? The migration went back from Cutover."},
		{recovery.Decision{Reason: recovery.UnknownEvent, Asks: []recovery.Ask{{Topic: recovery.TopicEvent, Seq: 9501}}},
			"What is event #9501? Plan with the newer version that wrote it."},
		{recovery.Decision{Reason: recovery.TargetUnknown, Asks: []recovery.Ask{{Topic: recovery.TopicTarget}}},
			"Which node is added to which group? No intact event has them."},
		{recovery.Decision{Reason: recovery.TargetUnknown, Asks: []recovery.Ask{{Topic: recovery.TopicTarget}},
			Inputs: recovery.Inputs{SourceGroup: new(uint64(1024)), TargetNode: new(uint64(137))}},
			"Which node is added to which group? The last known target is group 1024, node 137, but it is uncertain."},
		{recovery.Decision{Reason: recovery.TargetChanged, Asks: []recovery.Ask{{Topic: recovery.TopicTarget, Seen: []projection.Target{{GroupID: 1024, PeerID: 3}, {GroupID: 1024, PeerID: 4}}}}},
			"Which target is true? group 1024, node 3; group 1024, node 4"},
		{recovery.Decision{Reason: recovery.TargetGonePastCutover, Asks: []recovery.Ask{{Topic: recovery.TopicMembership, Node: 137}}},
			"Node 137 leads or should lead, but is no member of the cluster. Will it come back? If not, a person must repair the group, because this move cannot be undone."},
		{recovery.Decision{Reason: recovery.TransferUnknown, Asks: []recovery.Ask{{Topic: recovery.TopicLeader, GroupID: 1024}}},
			"Which node leads group 1024? Plan with --leader 1024=NODE."},
		{recovery.Decision{Reason: recovery.PeerShared, Asks: []recovery.Ask{{Topic: recovery.TopicPeer, GroupID: 1024, PeerID: 137, SharedWith: shared}}},
			"May node 137 leave group 1024? It is the target of 000001, 000002 and 3 more."},
		{recovery.Decision{Reason: recovery.VShardShared, Asks: []recovery.Ask{{Topic: recovery.TopicVShard, VShardID: 1024, SharedWith: shared}}},
			"Only one migration may move vShard 1024. Choose this one, or one of: 000001, 000002 and 3 more."},
		{recovery.Decision{Reason: recovery.UnnamedInDoubt, Asks: []recovery.Ask{{Topic: recovery.TopicMigrations}}},
			"Which moves does the cluster have that are not in this list? Their events may be lost."},
	} {
		c.d.Action = recovery.AskFirst
		c.d.Row.Checkpoint.MigrationID = id(9)
		c.d.Row.Checkpoint.Payload = checkpoint.LeadershipTransfer{VShardID: 1024}
		out.Reset()
		tool.planTable([]recovery.Decision{c.d})
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		require.Greater(t, len(lines), 2)
		require.Contains(t, lines[1], "ask ("+string(c.d.Reason)+")")
		require.Equal(t, c.want, strings.Join(strings.Fields(strings.Join(lines[2:], " ")), " "))
		for _, line := range lines {
			require.LessOrEqual(t, len(line), 80, line)
		}
	}
}

// A time span has about three digits.
func TestShortSpan(t *testing.T) {
	for ms, want := range map[uint64]string{
		0: "0", 999: "999ms", 1000: "1.00s", 2014: "2.01s", 2015: "2.02s", 9994: "9.99s", 9999: "10.0s", 59_949: "59.9s", 59_950: "1m0s", 107_656: "1m48s",
		3_599_499: "59m59s", 3_599_500: "1h0m", 86_369_999: "23h59m", 86_370_000: "1d0h", 5*86_400_000 + 20*3_600_000: "5d20h", 100 * 86_400_000: "100d",
		math.MaxUint64: "213503982335d",
	} {
		require.Equal(t, want, shortSpan(ms))
	}
}
