package lint_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/replay"
	"migrationlog/replay/lint"
)

// restoredAt returns the history that a member has after it was restored from the state before record
// cut: a restored row for each row, a digest, and the records from cut on.
func restoredAt(t *testing.T, records []replay.Record, cut int) (history []replay.Record) {
	view, last := projection.New(), map[checkpoint.MigrationID]uint64{}
	for _, r := range records[:cut] {
		view.Apply(r.Seq, r.PrevSeq, r.Event)
	}
	for row := range view.Rows() {
		id := row.Checkpoint.MigrationID
		b, err := view.AppendRestored(nil, id)
		require.NoError(t, err)
		e, err := checkpoint.DecodeEvent(b)
		require.NoError(t, err)
		history = append(history, replay.Record{Seq: uint64(len(history) + 1), Event: e})
		last[id] = uint64(len(history))
	}
	digest := checkpoint.Digest{}
	if cut > 0 {
		digest.TimestampMS = records[cut-1].WallMS()
	}
	history = append(history, replay.Record{Seq: uint64(len(history) + 1), Event: digest})
	for _, r := range records[cut:] {
		id, _ := r.Migration()
		r.Seq, r.PrevSeq = uint64(len(history)+1), last[id]
		if last[id] = r.Seq; checkpoint.KindOf(r.Event).Effect() == checkpoint.EffectEnd {
			delete(last, id)
		}
		history = append(history, r)
	}
	return history
}

// counted returns the number of findings by rule, migration and severity. The third abort in a row may
// be a later one if the first is not in the history.
func counted(found []lint.Finding) map[string]int {
	counts := map[string]int{}
	for _, f := range found {
		if f.Rule == "flapping" {
			f.MigrationID = checkpoint.MigrationID{}
		}
		counts[fmt.Sprint(f.Rule, " ", f.MigrationID, " ", f.Severity)]++
	}
	return counts
}

// requireSubset requires that the restored history has no finding that the whole one does not have.
func requireSubset(t *testing.T, whole, restored map[string]int, cut int) {
	for key, n := range restored {
		require.LessOrEqual(t, n, whole[key], "cut at %d: %s", cut, key)
	}
}

// A restored row begins an unknown earlier history. Whatever the point of the restore, no rule has a
// finding in the rest of the history that it does not have in the whole one.
func TestRestored_NothingBefore(t *testing.T) {
	found := map[string]bool{} // also after a restore
	for _, c := range ruleCases {
		for _, build := range []func(*script){c.breaks, c.near} {
			reader, _ := written(t, build)
			var records []replay.Record
			for r, err := range reader.Records(t.Context(), replay.Query{}) {
				require.NoError(t, err)
				records = append(records, r)
			}
			options := lint.Options{Stall: c.stall}
			whole, _ := run(t, history(records), options)
			for cut := range len(records) + 1 {
				restored, _ := run(t, history(restoredAt(t, records, cut)), options)
				requireSubset(t, counted(whole), counted(restored), cut)
				for _, f := range restored {
					found[f.Rule] = found[f.Rule] || cut > 0
				}
			}
		}
	}
	require.Greater(t, len(found), 30, "%v", slices.Sorted(maps.Keys(found)))
}

// The same holds for the recording. The limits of slow-phase depend on the stays before.
func TestRestored_Recording(t *testing.T) {
	records := lines(t)
	last := map[checkpoint.MigrationID]uint64{}
	var linked []replay.Record
	seen := map[string]bool{}
	for _, r := range records {
		id, _ := r.Migration()
		key := fmt.Sprint(id, r.Kind())
		if c, ok := r.Checkpoint(); ok {
			key += fmt.Sprint(c.Phase(), c.Attempt)
		}
		if seen[key] { // import would not append the duplicate
			continue
		}
		seen[key] = true
		r.Seq, r.PrevSeq = uint64(len(linked)+1), last[id]
		if last[id] = r.Seq; checkpoint.KindOf(r.Event).Effect() == checkpoint.EffectEnd {
			delete(last, id)
		}
		linked = append(linked, r)
	}
	options := lint.Options{Stall: time.Second}
	for _, rule := range lint.Rules() {
		if rule.ID != "slow-phase" {
			options.Rules = append(options.Rules, rule.ID)
		}
	}
	whole, _ := run(t, history(linked), options)
	for _, cut := range []int{1, 4001, 9000} {
		restored, counts := run(t, history(restoredAt(t, linked, cut)), options)
		requireSubset(t, counted(whole), counted(restored), cut)
		require.NotZero(t, counts["stalled"], "a stay after the restore is measured")
	}
}

// The time in a phase is measured from the beginning of the history. An abort under way goes on.
func TestRestored_Stalled(t *testing.T) {
	row := func(f checkpoint.RestoredFacts, atMS int) replay.Record {
		var s script
		s.of(first.id(), atMS, 0, first.add())
		f.FurthestPhase, f.RecordedPhases = checkpoint.PhaseAddLearner, 1
		f.HasTarget, f.TargetNode, f.SourceGroup, f.HasSource, f.SourceNode = true, 2, 7, true, 1
		return replay.Record{Seq: 1, Event: checkpoint.Restored{Checkpoint: s.events[0].(checkpoint.Upserted).Checkpoint, Facts: f}}
	}
	digest := func(atMS uint64) replay.Record {
		return replay.Record{Seq: 2, Event: checkpoint.Digest{TimestampMS: startMS + atMS}}
	}
	end := func(prev uint64, atMS uint64) replay.Record {
		return replay.Record{Seq: 3, PrevSeq: prev, Event: checkpoint.Aborted{
			MigrationID: first.id(), TimestampMS: startMS + atMS, Compensations: []checkpoint.Compensation{removeLearner},
		}}
	}
	options := lint.Options{Severity: lint.Warning, Stall: time.Minute}
	for _, f := range []checkpoint.RestoredFacts{{}, {Abort: &checkpoint.RestoredAbort{TimestampMS: startMS + 5}}} {
		found, _ := run(t, history{row(f, 0), digest(500_000), end(1, 555_000)}, options)
		require.Empty(t, found, "55 s are in the history")
		found, _ = run(t, history{row(f, 0), digest(500_000), end(1, 560_000)}, options)
		require.Equal(t, map[string]int{fmt.Sprint("stalled ", first.id(), " warning"): 1}, counted(found))
		require.EqualValues(t, 60_000, found[0].Facts["ms"])
	}
}
