package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// log, show and info handle every kind of event, and --kind filters by it. The kinds that only a
// replicated store writes are in a golden log.
func TestKinds_AreShown(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "testdata/kinds.ndjson"}, nil, io.Discard, io.Discard))
	shown := map[checkpoint.Kind]bool{}
	requireShown(t, dir, shown)
	requireShown(t, "../../testdata/golden/v1-replicated/restored/log", shown)
	for _, kind := range checkpoint.Kinds() {
		require.True(t, shown[kind], "testdata/kinds.ndjson has no line of kind %s", kind)
	}
}

// requireShown requires that log, show and info have each event of a log. It adds the kinds of the
// events to shown.
func requireShown(t *testing.T, dir string, shown map[checkpoint.Kind]bool) {
	t.Helper()
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		shown[checkpoint.KindOf(r.Event)] = true
		var out bytes.Buffer
		require.Zero(t, run(t.Context(), []string{"log", dir, "-q", "--kind", string(r.Kind())}, nil, &out, io.Discard), r.Kind())
		require.Contains(t, out.String(), stepOf(r))
		require.NotContains(t, out.String(), "newer version")
		if id, ok := r.Migration(); ok {
			out.Reset()
			require.Zero(t, run(t.Context(), []string{"show", dir, id.String()}, nil, &out, io.Discard))
			require.Contains(t, out.String(), stepOf(r))
			require.NotContains(t, out.String(), "newer version")
		}
		out.Reset()
		require.Zero(t, run(t.Context(), []string{"info", dir, "-o", "json"}, nil, &out, io.Discard))
		require.Contains(t, out.String(), `"`+string(r.Kind())+`"`)
	}
}

// The events of each kind, with their epochs, are the same after an export and an import. import
// appends the new kinds in any order, also for a migration without a row.
func TestKinds_ImportReproducesTheLog(t *testing.T) {
	export := func(dir string) string {
		code, out, errs := runTool(t, nil, "log", dir, "-o", "ndjson")
		require.Zero(t, code, errs)
		return out
	}
	parent := t.TempDir()
	first, second := filepath.Join(parent, "first"), filepath.Join(parent, "second")
	kinds, err := os.ReadFile("testdata/kinds.ndjson")
	require.NoError(t, err)
	anyOrder := abortLines(7, 1)
	text := string(kinds) + anyOrder[2] + anyOrder[1] + anyOrder[0] + anyOrder[1]
	code, _, errs := importText(t, first, text)
	require.Zero(t, code, errs)
	exported := export(first)
	require.Equal(t, 19, strings.Count(exported, "\n"))
	require.Equal(t, 5, len(regexp.MustCompile(`"epoch":\d`).FindAllString(exported, -1)))
	code, _, errs = importText(t, second, exported)
	require.Zero(t, code, errs)
	require.Equal(t, exported, export(second))
}

// While an abort is under way, state and show print the row with the progress of the abort. After
// the abort there is no row. The epoch of an event is a part of its details.
func TestKinds_AbortUnderWay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	const id = "01a20629-4700-7000-8000-000000000001"
	code, _, errs := runTool(t, nil, "import", "-q", dir, "testdata/kinds.ndjson")
	require.Zero(t, code, errs)
	expect := func(want string, args ...string) {
		t.Helper()
		code, out, errs := runTool(t, nil, args...)
		require.Zero(t, code, errs)
		require.Regexp(t, want, out)
	}
	expect(`PromoteLearner .*`+id+` .* abort begun, 1 of 2 compensations done`, "state", dir)
	expect(`"target_uncertain":false,"abort":{"seq":13,"reason":"stale","compensations":\[`+
		`{"kind":"RemoveVoter","group_id":9,"peer_id":3,"done":true},{"kind":"RestoreLeaderHint","group_id":9,"peer_id":6,"done":false}\],`+
		`"ts_ms":1795399703000}},"last_seq":15,"for_ms":\d+}`, "state", dir, "-o", "ndjson")
	expect(`(?m)^IN FLIGHT at PromoteLearner for 3.99s, to the log's end: .*\nABORT UNDER WAY: "stale", 1 of 2 compensations done\n`+
		`a coordinator that starts now aborts it: RestoreLeaderHint\(group 9, node 6\)$`, "show", dir, id)
	expect(`abort begun +50ms +"stale", RemoveVoter\(group 9, node 3\), RestoreLeaderHint\(group 9, node 6\), epoch 2`, "show", dir, id)
	expect(`compensated +step 0: RemoveVoter\(group 9, node 3\), epoch 2`, "show", dir, id)
	expect(`6 -> 3 .* PromoteLearner .* go on with the abort, RestoreLeaderHint`, "triage", dir)
	expect(`abort begun .*"stale" RemoveVoter\(group 9, node 3\) RestoreLeaderHint\(group 9, node 6\), epoch 2`, "log", dir)
	expect(`1 abort_begun, 1 compensated, 1 epoch_raised(?s).*\nepoch +3\n`, "info", dir)

	code, _, errs = importText(t, dir, `{"kind":"compensated","migration_id":"`+id+`","step":1,"ts_ms":1795399705000}
{"kind":"abort","migration_id":"`+id+`","reason":"stale","compensations":[],"ts_ms":1795399706000,"epoch":2}
{"kind":"epoch_raised","migration_id":"`+id+`","ts_ms":1795399707000,"epoch":4}
`)
	require.Zero(t, code, errs)
	expect(`ABORTED at PromoteLearner after 6.00s: "stale"`, "show", dir, id)
	code, out, _ := runTool(t, nil, "state", dir)
	require.Zero(t, code)
	require.Empty(t, out)
	code, _, errs = importText(t, dir, abortLines(8, 1)[0])
	require.Zero(t, code, errs)
	expect("without a row, because no checkpoint is in the log", "show", dir, "01a20629-44f1-75f5-8bf1-000000000008")
	cutover := strings.Replace(catchUpLine(9, 0, 2, 3), `"CatchUp","payload":{"vshard_id":9,"learner_log_index_at_add":2}`,
		`"Cutover","payload":{"vshard_id":9,"new_leader_node_id":3,"source_group":7}`, 1)
	code, _, errs = importText(t, dir, cutover+strings.Replace(cutover, `"source_group":7`, `"source_group":8`, 1)+
		strings.Replace(strings.Replace(cutover, `"source_group":7`, `"source_group":8`, 1), `"attempt":0`, `"attempt":1`, 1)+catchUpLine(9, 1, 2, 3))
	require.Zero(t, code, errs)
	expect(`"furthest_phase":"Cutover","targets":\[{"group_id":7,"peer_id":3},{"group_id":8,"peer_id":3}\]},"for_ms":\d+}\n$`,
		"state", dir, "-o", "ndjson", "01a20629-44f1-75f5-8bf1-000000000009")
}
