package migrationlog_test

import (
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// model is the simplest implementation of the contract.
type model struct {
	rows   map[checkpoint.MigrationID]checkpoint.Checkpoint
	seqs   map[checkpoint.MigrationID]uint64 // of the rows
	events []checkpoint.Event
}

func (m *model) upsert(c checkpoint.Checkpoint) migrationlog.Receipt {
	if old, ok := m.rows[c.MigrationID]; ok && old.Phase() == c.Phase() && old.Attempt == c.Attempt {
		return migrationlog.Receipt{Seq: m.seqs[c.MigrationID], Duplicate: true, Differs: old.CRC32C != c.CRC32C}
	}
	m.rows[c.MigrationID] = c
	r := m.append(checkpoint.Upserted{Checkpoint: c})
	m.seqs[c.MigrationID] = r.Seq
	return r
}

func (m *model) end(e checkpoint.Event) migrationlog.Receipt {
	if _, ok := m.rows[e.Migration()]; !ok {
		return migrationlog.Receipt{}
	}
	delete(m.rows, e.Migration())
	return m.append(e)
}

func (m *model) write(e checkpoint.Event) migrationlog.Receipt {
	if u, ok := e.(checkpoint.Upserted); ok {
		return m.upsert(u.Checkpoint)
	}
	return m.end(e)
}

func (m *model) append(e checkpoint.Event) migrationlog.Receipt {
	m.events = append(m.events, e)
	return migrationlog.Receipt{Seq: uint64(len(m.events))}
}

// D8: after any operations, with the store closed and reopened at any point, the store equals the
// model, and so does the state at every point of its history.
func TestD8_EqualsModel(t *testing.T) {
	dir := memDir(t)
	rapid.Check(t, func(t *rapid.T) {
		dir := filepath.Join(dir, uuid.NewString())
		opts := &migrationlog.Options{SegmentSize: rapid.IntRange(1, 2000).Draw(t, "segment_size")}
		s, err := migrationlog.Open(dir, opts)
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		m := &model{rows: map[checkpoint.MigrationID]checkpoint.Checkpoint{}, seqs: map[checkpoint.MigrationID]uint64{}}
		ids := []checkpoint.MigrationID{{1}, {2}, {3}}
		draw := func(t *rapid.T) checkpoint.Event {
			id := rapid.SampledFrom(ids).Draw(t, "id")
			switch rapid.SampledFrom([]string{"upsert", "upsert", "abort", "remove"}).Draw(t, "kind") {
			case "abort":
				return checkpoint.Aborted{MigrationID: id, Reason: rapid.String().Draw(t, "reason"), TimestampMS: rapid.Uint64Range(0, checkpoint.MaxTimestampMS).Draw(t, "ts_ms")}
			case "remove":
				return checkpoint.Removed{MigrationID: id, TimestampMS: rapid.Uint64Range(0, checkpoint.MaxTimestampMS).Draw(t, "ts_ms")}
			}
			c, err := checkpoint.New(id, rapid.Uint32Range(0, 2).Draw(t, "attempt"), drawPayload(t), rapid.Uint64Range(0, checkpoint.MaxTimestampMS).Draw(t, "ts_ms"))
			require.NoError(t, err)
			return checkpoint.Upserted{Checkpoint: c}
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				e := draw(t)
				got, err := write(s, e)
				require.NoError(t, err)
				require.Equal(t, m.write(e), got)
			},
			"write all": func(t *rapid.T) {
				events := make([]checkpoint.Event, rapid.IntRange(0, 3).Draw(t, "events"))
				want := make([]migrationlog.Receipt, len(events))
				for i := range events {
					events[i] = draw(t)
					want[i] = m.write(events[i])
				}
				got, err := s.WriteAll(events)
				require.NoError(t, err)
				require.Equal(t, want, got)
			},
			"reopen": func(t *rapid.T) {
				require.NoError(t, s.Close())
				s, err = migrationlog.Open(dir, opts)
				require.NoError(t, err)
				require.True(t, s.Report().Clean())
			},
			"": func(t *rapid.T) {
				require.Equal(t, len(m.rows), s.Len())
				for _, c := range s.All() {
					require.Equal(t, m.rows[c.MigrationID], c)
				}
			},
		})
		checkHistory(t, dir, m)
	})
}

func drawPayload(t *rapid.T) checkpoint.Payload {
	n := rapid.Uint64Range(0, 3).Draw(t, "n")
	return rapid.SampledFrom([]checkpoint.Payload{
		checkpoint.AddLearner{VShardID: uint32(n), SourceNode: n}, checkpoint.CatchUp{LearnerLogIndexAtAdd: n},
		checkpoint.PromoteLearner{TargetNode: n}, checkpoint.LeadershipTransfer{SourceGroup: n},
		checkpoint.Cutover{NewLeaderNodeID: n}, checkpoint.Complete{ActualPauseUS: n},
	}).Draw(t, "payload")
}

// checkHistory compares the events of the log, and the state after each event, with the model.
func checkHistory(t *rapid.T, dir string, m *model) {
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	rows := map[checkpoint.MigrationID]checkpoint.Checkpoint{}
	n := 0
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		require.Less(t, n, len(m.events))
		require.Equal(t, m.events[n], r.Event)
		n++
		require.EqualValues(t, n, r.Seq)
		if u, ok := r.Event.(checkpoint.Upserted); ok {
			rows[u.Checkpoint.MigrationID] = u.Checkpoint
		} else {
			delete(rows, r.Event.Migration())
		}
		view, err := reader.StateAt(t.Context(), replay.Point{Seq: r.Seq})
		require.NoError(t, err)
		require.Equal(t, len(rows), view.Len())
		for _, row := range view.All() {
			require.Equal(t, rows[row.Checkpoint.MigrationID], row.Checkpoint)
		}
	}
	require.Len(t, m.events, n)
}
