package lint_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/lint"
)

// lines is the recording as records of a file.
func lines(t *testing.T) (records []replay.Record) {
	file, err := os.Open("../../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var r replay.Record
		require.NoError(t, json.Unmarshal(lines.Bytes(), &r))
		r.Seq = uint64(len(records) + 1)
		records = append(records, r)
	}
	return records
}

// recording returns a reader of a log with the events of the recording.
func recording(t *testing.T) *replay.Reader {
	dir := filepath.Join(t.TempDir(), "log")
	s, err := migrationlog.Open(dir, &migrationlog.Options{NoSync: true})
	require.NoError(t, err)
	var events []checkpoint.Event
	for _, r := range lines(t) {
		events = append(events, r.Event)
	}
	for i := 0; i < len(events); i += 1000 {
		_, err := s.WriteAll(events[i:min(i+1000, len(events))])
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	r, err := replay.Open(dir)
	require.NoError(t, err)
	return r
}

// history is a list of records as a History.
type history []replay.Record

func (h history) Records(context.Context, replay.Query) iter.Seq2[replay.Record, error] {
	return func(yield func(replay.Record, error) bool) {
		for _, r := range h {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// run returns the findings of a history, and the number of findings of each rule that has any.
func run(t *testing.T, h lint.History, o lint.Options) (found []lint.Finding, counts map[string]int) {
	l, err := lint.New(o)
	require.NoError(t, err)
	for f, err := range l.Run(t.Context(), h) {
		require.NoError(t, err)
		found = append(found, f)
	}
	counts = map[string]int{}
	for _, c := range l.Counts() {
		if c.Found > 0 {
			counts[c.Rule.ID] = int(c.Found)
		}
	}
	return found, counts
}

// The recording has these findings. An independent program counted them. Most rules have none: the
// moves were recorded correctly.
func TestRecording(t *testing.T) {
	log := recording(t)
	found, counts := run(t, log, lint.Options{})
	require.Equal(t, map[string]int{"slow-phase": 1, "flapping": 2, "retry": 128, "aborted": 176, "not-removed": 227}, counts)
	require.Len(t, found, 1+2+128+176+227)
	document, err := os.ReadFile("../../docs/LINT.md")
	require.NoError(t, err)
	for _, r := range lint.Rules() {
		require.Contains(t, string(document), fmt.Sprintf("\n| [`%s`](#%s) | %s | %d |\n", r.ID, r.ID, r.Severity, counts[r.ID]), "docs/LINT.md, the table of all rules")
	}

	found, counts = run(t, log, lint.Options{Severity: lint.Warning})
	require.Len(t, found, 3)
	require.Equal(t, 227, counts["not-removed"], "findings that are not shown are counted")
	for i, want := range []string{
		`{"rule":"flapping","severity":"warning","certain":true,"migration_id":"01a20629-6705-74db-a075-4142b4c2cfda","incarnation":1,"vshard_id":2,"seqs":[1192,1868,2343],"facts":{"aborts":3},"message":"3 aborts in a row, no move done"}`,
		`{"rule":"flapping","severity":"warning","certain":true,"migration_id":"01a20629-9c91-7080-a234-3211a0e48103","incarnation":1,"vshard_id":30,"seqs":[3791,4091,4135],"facts":{"aborts":3},"message":"3 aborts in a row, no move done"}`,
		`{"rule":"slow-phase","severity":"warning","certain":true,"migration_id":"01a20629-c66e-7e42-ad55-a93215de5f9d","incarnation":1,"vshard_id":15,"seqs":[5305,5324],"facts":{"events_meanwhile":18,"limit_ms":121,"median_ms":1,"ms":237,"p99_ms":28,"phase":"Cutover","samples":1303},"message":"Cutover for 237ms; usually 1ms, 99% of 1303 within 28ms. 18 events of others were recorded meanwhile: the coordinator was at work"}`,
	} {
		b, err := json.Marshal(found[i])
		require.NoError(t, err)
		require.Equal(t, want, string(b))
	}
}

// A stay is reported from the stall on, and the stalls of the recording have these numbers.
func TestRecording_Stalls(t *testing.T) {
	log := recording(t)
	for stall, want := range map[time.Duration]int{
		5 * time.Minute: 0, 5 * time.Second: 0, 2 * time.Second: 139, 1500 * time.Millisecond: 169,
		time.Second: 215, 500 * time.Millisecond: 299, 250 * time.Millisecond: 469,
	} {
		found, _ := run(t, log, lint.Options{Rules: []string{"stalled"}, Stall: stall})
		require.Len(t, found, want, stall)
		if stall == 2*time.Second {
			inAbort := 0
			for _, f := range found {
				if f.Facts["next"] == replay.KindAbort {
					inAbort++
				}
			}
			require.Equal(t, 137, inAbort)
		}
	}
}

// The file of the recording has 98 lines that repeat the row before them with another
// started_at_hlc. All other findings are those of the log.
func TestRecording_File(t *testing.T) {
	records := lines(t)
	require.Len(t, records, 9600)
	found, counts := run(t, history(records), lint.Options{File: true})
	require.Equal(t, map[string]int{"duplicate-differs": 98, "slow-phase": 1, "flapping": 2, "retry": 128, "aborted": 176, "not-removed": 227}, counts)
	for _, f := range found {
		if f.Rule == "duplicate-differs" {
			require.Equal(t, lint.Info, f.Severity)
			require.True(t, f.Certain)
			require.Equal(t, "started_at_hlc", f.Facts["differences"].([]lint.Difference)[0].Key)
		}
	}
}
