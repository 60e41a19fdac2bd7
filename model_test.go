package migrationlog_test

import (
	"maps"
	"path/filepath"
	"slices"
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
	aborts map[checkpoint.MigrationID]modelAbort
	epoch  uint64
	events []checkpoint.Event
}

// modelAbort is an abort that is under way.
type modelAbort struct {
	seq    uint64
	reason string
	list   []checkpoint.Compensation
	done   map[uint32]bool
}

// write is a write with the method for the event's kind, and with the guard Epoch unless epoch is 0.
func (m *model) write(e checkpoint.Event, epoch uint64) (r migrationlog.Receipt, err error) {
	if epoch > 0 && epoch < m.epoch {
		return r, migrationlog.ErrFenced
	}
	abort, aborting := m.aborts[e.Migration()]
	_, hasRow := m.rows[e.Migration()]
	appended := len(m.events)
	switch e := e.(type) {
	case checkpoint.Upserted:
		if aborting {
			return r, migrationlog.ErrAborting
		}
		e.Epoch = epoch
		r = m.reproduce(e)
	case checkpoint.Removed:
		if aborting {
			return r, migrationlog.ErrAborting
		}
		e.Epoch = epoch
		r = m.reproduce(e)
	case checkpoint.Aborted:
		if aborting && e.Compensations == nil {
			e.Compensations = abort.list
		} else if aborting && !slices.Equal(e.Compensations, abort.list) {
			return r, migrationlog.ErrConflict
		}
		e.Epoch = epoch
		if aborting && !hasRow {
			delete(m.aborts, e.MigrationID)
			r = m.append(e)
		} else {
			r = m.reproduce(e)
		}
	case checkpoint.AbortBegun:
		e.Epoch = epoch
		if !aborting && !hasRow || aborting && !slices.Equal(e.Compensations, abort.list) {
			return r, migrationlog.ErrConflict
		} else if aborting {
			r = migrationlog.Receipt{Seq: abort.seq, Duplicate: true, Differs: e.Reason != abort.reason}
		} else {
			r = m.reproduce(e)
		}
	case checkpoint.Compensated:
		e.Epoch = epoch
		if int(e.Step) >= len(abort.list) {
			return r, migrationlog.ErrInvalid
		} else if abort.done[e.Step] {
			r = migrationlog.Receipt{Seq: abort.seq, Duplicate: true}
		} else {
			r = m.reproduce(e)
		}
	}
	if len(m.events) == appended && epoch > m.epoch {
		m.append(checkpoint.EpochRaised{MigrationID: e.Migration(), TimestampMS: e.WallMS(), Epoch: epoch})
	}
	return r, nil
}

// reproduce is a write of WriteAll without guards.
func (m *model) reproduce(e checkpoint.Event) migrationlog.Receipt {
	id := e.Migration()
	old, hasRow := m.rows[id]
	abort := m.aborts[id]
	switch e := e.(type) {
	case checkpoint.Upserted:
		c := e.Checkpoint
		if hasRow && old.Phase() == c.Phase() && old.Attempt == c.Attempt {
			return migrationlog.Receipt{Seq: m.seqs[id], Duplicate: true, Differs: old.CRC32C != c.CRC32C}
		}
		m.rows[id], m.seqs[id] = c, uint64(len(m.events)+1)
	case checkpoint.Aborted, checkpoint.Removed:
		if !hasRow {
			return migrationlog.Receipt{}
		}
		delete(m.rows, id)
		delete(m.aborts, id)
	case checkpoint.AbortBegun:
		next := modelAbort{uint64(len(m.events) + 1), e.Reason, e.Compensations, map[uint32]bool{}}
		if slices.Equal(abort.list, next.list) {
			maps.Copy(next.done, abort.done)
		}
		m.aborts[id] = next
	case checkpoint.Compensated:
		if int(e.Step) < len(abort.list) {
			abort.done[e.Step] = true
		}
	}
	return m.append(e)
}

func (m *model) append(e checkpoint.Event) migrationlog.Receipt {
	m.events = append(m.events, e)
	m.epoch = max(m.epoch, checkpoint.EpochOf(e))
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
		m := &model{rows: map[checkpoint.MigrationID]checkpoint.Checkpoint{}, seqs: map[checkpoint.MigrationID]uint64{}, aborts: map[checkpoint.MigrationID]modelAbort{}}
		ids := []checkpoint.MigrationID{{1}, {2}, {3}}
		draw := func(t *rapid.T) checkpoint.Event {
			id := rapid.SampledFrom(ids).Draw(t, "id")
			timestampMS := rapid.Uint64Range(0, checkpoint.MaxTimestampMS).Draw(t, "ts_ms")
			list := rapid.SampledFrom([][]checkpoint.Compensation{nil, undoSteps, undoSteps[:1]})
			switch rapid.SampledFrom([]string{"upsert", "upsert", "upsert", "abort", "remove", "begin", "begin", "step", "step"}).Draw(t, "kind") {
			case "abort":
				return checkpoint.Aborted{MigrationID: id, Reason: rapid.String().Draw(t, "reason"), Compensations: list.Draw(t, "list"), TimestampMS: timestampMS}
			case "remove":
				return checkpoint.Removed{MigrationID: id, TimestampMS: timestampMS}
			case "begin":
				return checkpoint.AbortBegun{MigrationID: id, Reason: rapid.SampledFrom([]string{"", "stale"}).Draw(t, "reason"), Compensations: list.Draw(t, "list"), TimestampMS: timestampMS}
			case "step":
				return checkpoint.Compensated{MigrationID: id, Step: rapid.Uint32Range(0, 2).Draw(t, "step"), TimestampMS: timestampMS}
			}
			c, err := checkpoint.New(id, rapid.Uint32Range(0, 2).Draw(t, "attempt"), drawPayload(t), timestampMS)
			require.NoError(t, err)
			return checkpoint.Upserted{Checkpoint: c}
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				e, epoch := draw(t), rapid.Uint64Range(0, 2).Draw(t, "above")
				var opts []migrationlog.WriteOption
				if epoch > 0 {
					epoch += m.epoch - min(1, m.epoch) // at least one below the highest
					opts = append(opts, migrationlog.Epoch(epoch))
				}
				want, refused := m.write(e, epoch)
				got, err := write(s, e, opts...)
				require.ErrorIs(t, err, refused)
				require.Equal(t, want, got)
			},
			"write all": func(t *rapid.T) {
				events := make([]checkpoint.Event, rapid.IntRange(0, 3).Draw(t, "events"))
				want := make([]migrationlog.Receipt, len(events))
				for i := range events {
					events[i] = draw(t)
					want[i] = m.reproduce(events[i])
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
				require.Equal(t, m.epoch, s.Epoch())
				for row := range s.Rows() {
					abort, aborting := m.aborts[row.Checkpoint.MigrationID]
					require.Equal(t, aborting, row.Facts.Abort != nil)
					for step := range abort.list {
						require.Equal(t, abort.done[uint32(step)], row.Facts.Abort.IsDone(uint32(step)))
					}
				}
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
		switch e := r.Event.(type) {
		case checkpoint.Upserted:
			rows[e.Checkpoint.MigrationID] = e.Checkpoint
		case checkpoint.Aborted, checkpoint.Removed:
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
