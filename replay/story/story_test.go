package story_test

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/histogram"
	"migrationlog/replay/story"
)

// recording returns a reader of a log with the events of the recording.
func recording(t *testing.T) *replay.Reader {
	dir := filepath.Join(t.TempDir(), "log")
	file, err := os.Open("../../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	defer file.Close()
	return written(t, dir, func(s *migrationlog.Store) {
		lines := bufio.NewScanner(file)
		for events := []checkpoint.Event(nil); ; {
			more := lines.Scan()
			if more {
				var r replay.Record
				require.NoError(t, json.Unmarshal(lines.Bytes(), &r))
				events = append(events, r.Event)
			}
			if len(events) == 1000 || !more {
				_, err := s.WriteAll(events)
				require.NoError(t, err)
				events = nil
			}
			if !more {
				return
			}
		}
	})
}

func written(t *testing.T, dir string, write func(*migrationlog.Store)) *replay.Reader {
	s, err := migrationlog.Open(dir, &migrationlog.Options{NoSync: true})
	require.NoError(t, err)
	write(s)
	require.NoError(t, s.Close())
	r, err := replay.Open(dir)
	require.NoError(t, err)
	return r
}

// add adds all records of a log to a tracker, and calls visit for each change.
func add(t *testing.T, r *replay.Reader, tracker *story.Tracker, visit func(story.Change)) {
	for rec, err := range r.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		visit(tracker.Add(rec))
	}
}

// The recording has these moves and stays. An independent program counted them.
func TestTracker_Recording(t *testing.T) {
	tracker := story.NewTracker(story.Options{})
	outcomes, reasons := map[story.Outcome]int{}, map[string]int{}
	incarnations, retries := 0, 0
	var finished story.Baseline
	var closed [checkpoint.PhaseComplete + 1]histogram.Histogram
	add(t, recording(t), tracker, func(c story.Change) {
		if c.Began {
			incarnations++
			require.Equal(t, 1, c.Incarnation.Number)
			require.False(t, c.Incarnation.BeginningLost)
		}
		if c.Stay != nil {
			finished.Add(*c.Stay)
			closed[c.Stay.From.Phase].Add(uint64(c.Stay.MS))
		}
		if c.Ended {
			outcomes[c.Incarnation.Outcome]++
			retries += c.Incarnation.Retries
			if c.Incarnation.Outcome == story.Aborted {
				reasons[c.Incarnation.Reason]++
			}
		}
	})
	for _, i := range tracker.Live() {
		outcomes[i.Outcome]++
		retries += i.Retries
	}
	require.Equal(t, 1485, incarnations)
	require.Equal(t, 128, retries)
	require.Equal(t, map[story.Outcome]int{story.Removed: 978, story.Done: 325, story.Aborted: 176, story.InFlight: 6}, outcomes)
	require.Equal(t, map[string]int{"target node unreachable during catch-up": 137, "operator cancelled the move": 39}, reasons)

	for phase, want := range map[checkpoint.Phase][5]uint64{ // count, p50, p90, p99, max
		checkpoint.PhaseAddLearner:         {1484, 2, 17, 46, 95},
		checkpoint.PhaseCatchUp:            {1607, 80, 1577, 2014, 2039},
		checkpoint.PhasePromoteLearner:     {1342, 0, 0, 1, 2},
		checkpoint.PhaseLeadershipTransfer: {1303, 2, 12, 49, 83},
		checkpoint.PhaseCutover:            {1303, 1, 5, 28, 237},
		checkpoint.PhaseComplete:           {978, 10, 19, 32, 51},
	} {
		h := &closed[phase]
		require.Equal(t, want, [5]uint64{h.Count(), h.Quantile(0.5), h.Quantile(0.9), h.Quantile(0.99), h.Max()}, phase)
	}
	share, samples := finished.SlowerThan(checkpoint.PhaseCatchUp, 978)
	require.EqualValues(t, 1342, samples)
	require.InDelta(t, 0.9434, share, 0.0001)
	share, samples = finished.SlowerThan(checkpoint.PhaseAddLearner, 3)
	require.EqualValues(t, 1484, samples)
	require.InDelta(t, 0.5829, share, 0.0001)
}

func newID(n byte) checkpoint.MigrationID {
	return checkpoint.MigrationID{0x01, 0xa2, 0x06, 0x29, 0x44, 0xf1, 0x75, 0xf5, 0x8b, 0xf1, 15: n}
}

func upsert(t *testing.T, s *migrationlog.Store, id checkpoint.MigrationID, atMS uint64, p checkpoint.Payload) {
	c, err := checkpoint.New(id, 0, p, atMS)
	require.NoError(t, err)
	_, err = s.Upsert(c)
	require.NoError(t, err)
}

// An id that is used again begins another incarnation. A raised epoch without a row begins none.
func TestTracker_Incarnations(t *testing.T) {
	a, b := newID(1), newID(2)
	addLearner := checkpoint.AddLearner{VShardID: 7, SourceNode: 1, TargetNode: 2, SourceGroup: 7}
	reader := written(t, filepath.Join(t.TempDir(), "log"), func(s *migrationlog.Store) {
		upsert(t, s, a, 1000, addLearner)
		upsert(t, s, a, 1010, checkpoint.CatchUp{VShardID: 7})
		_, err := s.Abort(a, "first", nil, migrationlog.WithTimestamp(1030))
		require.NoError(t, err)
		upsert(t, s, a, 1040, addLearner)
		_, err = s.Remove(a, migrationlog.WithTimestamp(1035)) // the clock goes back
		require.NoError(t, err)
		upsert(t, s, a, 1050, checkpoint.CatchUp{VShardID: 7})
		_, err = s.WriteAll([]checkpoint.Event{checkpoint.EpochRaised{MigrationID: b, Epoch: 1, TimestampMS: 1060}, checkpoint.EpochRaised{MigrationID: b, Epoch: 2, TimestampMS: 1061}})
		require.NoError(t, err)
		upsert(t, s, b, 1070, addLearner)
	})
	tracker := story.NewTracker(story.Options{KeepSteps: func(id checkpoint.MigrationID) bool { return id == a }})
	var ended []*story.Incarnation
	var staysMS []int64
	add(t, reader, tracker, func(c story.Change) {
		if c.Ended {
			ended = append(ended, c.Incarnation)
		}
		if c.Stay != nil {
			staysMS = append(staysMS, c.Stay.MS)
		}
	})
	require.Equal(t, []int64{10, 20, -5}, staysMS)
	require.Len(t, ended, 2)
	require.Equal(t, story.Aborted, ended[0].Outcome)
	require.Len(t, ended[0].Steps, 3)
	require.Equal(t, story.RemovedUnfinished, ended[1].Outcome)
	require.Equal(t, replay.KindAbort, ended[1].After)
	live := tracker.Live()
	require.Len(t, live, 2)
	require.Equal(t, 3, live[0].Number)
	require.Equal(t, replay.KindRemove, live[0].After)
	require.Equal(t, 1, live[1].Number)
	require.False(t, live[1].BeginningLost)
	require.EqualValues(t, 1070, tracker.EndMS())
	open, ok := live[0].OpenStay(1080)
	require.True(t, ok)
	require.EqualValues(t, 30, open.MS)
}

// If a record is lost, the stays before and after it are not known.
func TestTracker_Lost(t *testing.T) {
	a := newID(1)
	at := func(seq, prev, ms uint64, p checkpoint.Payload) replay.Record {
		c, err := checkpoint.New(a, 0, p, ms)
		require.NoError(t, err)
		return replay.Record{Seq: seq, PrevSeq: prev, Event: checkpoint.Upserted{Checkpoint: c}}
	}
	tracker := story.NewTracker(story.Options{})
	require.True(t, tracker.Add(at(1, 0, 1000, checkpoint.AddLearner{VShardID: 7, SourceNode: 1, TargetNode: 2, SourceGroup: 7})).Began)
	tracker.Add(replay.Record{Damage: &replay.Damage{FirstSeq: 2, LastSeq: 3}})
	change := tracker.Add(at(4, 3, 2000, checkpoint.PromoteLearner{VShardID: 7, SourceGroup: 7, TargetNode: 2}))
	require.Nil(t, change.Stay)
	require.False(t, change.Began)
	require.True(t, tracker.LostBetween(1, 2))
	require.False(t, tracker.LostBetween(4, 9))
	change = tracker.Add(at(5, 4, 2007, checkpoint.Cutover{VShardID: 7, SourceGroup: 7, NewLeaderNodeID: 2}))
	require.EqualValues(t, 7, change.Stay.MS)
	require.True(t, change.Stay.Finished())

	tracker = story.NewTracker(story.Options{})
	change = tracker.Add(at(4, 3, 2000, checkpoint.CatchUp{VShardID: 7}))
	require.True(t, change.Began)
	require.True(t, change.Incarnation.BeginningLost)
}

// If the end of an incarnation is lost, the change that begins the next one has it, and the numbers
// of the two differ.
func TestTracker_EndLost(t *testing.T) {
	begin := func(seq, ms uint64) replay.Record {
		c, err := checkpoint.New(newID(1), 0, checkpoint.AddLearner{VShardID: 7, SourceNode: 1, TargetNode: 2, SourceGroup: 7}, ms)
		require.NoError(t, err)
		return replay.Record{Seq: seq, Event: checkpoint.Upserted{Checkpoint: c}}
	}
	tracker := story.NewTracker(story.Options{})
	first := tracker.Add(begin(1, 1000))
	require.Nil(t, first.EndLost)
	tracker.Add(replay.Record{Damage: &replay.Damage{FirstSeq: 2, LastSeq: 2}})
	second := tracker.Add(begin(3, 2000))
	require.True(t, second.Began)
	require.Nil(t, second.Stay)
	require.Same(t, first.Incarnation, second.EndLost)
	require.Equal(t, 1, first.Incarnation.Number)
	require.Equal(t, 2, second.Incarnation.Number)
	require.Empty(t, second.Incarnation.After)
	require.Len(t, tracker.Live(), 1)
	third := tracker.Add(begin(5, 3000))
	require.Equal(t, 3, third.Incarnation.Number)
}

// An AddLearner that restores facts and the row after it are no tries, and no stay of the move ends
// with them. The index of a log counts in the same way.
func TestTracker_Confirmation(t *testing.T) {
	a := newID(1)
	facts := checkpoint.AddLearner{VShardID: 7, SourceNode: 3, TargetNode: 4, SourceGroup: 7}
	promote := checkpoint.PromoteLearner{VShardID: 7, TargetNode: 4, SourceGroup: 7}
	for _, c := range []struct {
		name     string
		row      checkpoint.Payload
		attempt  uint32
		staysMS  []int64
		finished [2]uint64 // stays in CatchUp: their number and their sum
	}{
		{"the row before", checkpoint.CatchUp{VShardID: 7}, 1, []int64{10, 20, 40}, [2]uint64{1, 40}},
		{"another try", checkpoint.CatchUp{VShardID: 7}, 2, []int64{10, 20, 40}, [2]uint64{1, 40}},
		{"another phase", promote, 3, []int64{10, 20, 0, 40}, [2]uint64{1, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			write := func(s *migrationlog.Store, attempt uint32, p checkpoint.Payload, atMS uint64) {
				row, err := checkpoint.New(a, attempt, p, atMS)
				require.NoError(t, err)
				_, err = s.Upsert(row, migrationlog.Confirm())
				require.NoError(t, err)
			}
			reader := written(t, filepath.Join(t.TempDir(), "log"), func(s *migrationlog.Store) {
				upsert(t, s, a, 1000, checkpoint.AddLearner{VShardID: 7, SourceNode: 1, TargetNode: 2, SourceGroup: 7})
				write(s, 0, checkpoint.CatchUp{VShardID: 7}, 1010)
				write(s, 1, checkpoint.CatchUp{VShardID: 7}, 1030)
				write(s, checkpoint.FactsAttempt, facts, 1030)
				write(s, c.attempt, c.row, 1030)
				upsert(t, s, a, 1070, checkpoint.LeadershipTransfer{VShardID: 7, TargetIsVoter: true, NewLeaderNodeID: 4, SourceGroup: 7})
			})
			tracker := story.NewTracker(story.Options{})
			var staysMS []int64
			var finished story.Baseline
			add(t, reader, tracker, func(c story.Change) {
				if c.Stay != nil {
					staysMS = append(staysMS, c.Stay.MS)
					finished.Add(*c.Stay)
				}
			})
			require.Equal(t, c.staysMS, staysMS)
			catchUp := finished.Phase(checkpoint.PhaseCatchUp)
			require.Equal(t, c.finished, [2]uint64{catchUp.Count(), catchUp.Sum()})
			i := tracker.Live()[0]
			require.Equal(t, 1, i.Retries)
			require.Equal(t, [2]uint64{3, 4}, [2]uint64{i.SourceNode, i.TargetNode})

			totals, err := reader.Totals(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, 1, totals.Retries)
			for phase := range totals.Stays {
				require.Equal(t, finished.Phase(checkpoint.Phase(phase)).Sum(), totals.Stays[phase].Sum(), phase)
				require.Equal(t, finished.Phase(checkpoint.Phase(phase)).Count(), totals.Stays[phase].Count(), phase)
			}
		})
	}
}

// In a history, a confirmed row is no try of its own. Its time is that of the row before.
func TestHistory_Confirmation(t *testing.T) {
	add := checkpoint.AddLearner{VShardID: 7, SourceNode: 1, TargetNode: 2, SourceGroup: 7}
	facts := checkpointAt(t, 3, 2, 1010, add)
	u := facts.Event.(checkpoint.Upserted)
	u.Checkpoint.Attempt = checkpoint.FactsAttempt
	facts.Event = u
	h := addAll(
		checkpointAt(t, 1, 0, 1000, add),
		checkpointAt(t, 2, 1, 1010, checkpoint.CatchUp{VShardID: 7}),
		facts,
		checkpointAt(t, 4, 3, 1010, checkpoint.CatchUp{VShardID: 7}),
		checkpointAt(t, 5, 4, 1090, checkpoint.PromoteLearner{VShardID: 7, TargetNode: 2, SourceGroup: 7}),
	)
	phases := h.Chapters[0].Phases
	require.Equal(t, []story.Try{{StayedMS: 10}}, phases[0].Tries)
	require.Equal(t, []story.Try{{StayedMS: 80}}, phases[1].Tries)
	require.EqualValues(t, 80, phases[1].StayedMS)
	require.Len(t, phases, 3)
}
