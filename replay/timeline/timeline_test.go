package timeline_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/story"
	"migrationlog/replay/timeline"
)

// recordingStartMS and recordingEndMS are the lowest and the highest clock of the recording.
const (
	recordingStartMS = 1795399697649
	recordingEndMS   = 1795399805305
)

// imported has the records of a log with the events of the recording. Tests do not change them.
var imported []replay.Record

func recording(t *testing.T) []replay.Record {
	if imported == nil {
		imported = importRecording(t)
	}
	return imported
}

func importRecording(t *testing.T) (records []replay.Record) {
	dir := filepath.Join(t.TempDir(), "log")
	s, err := migrationlog.Open(dir, &migrationlog.Options{NoSync: true})
	require.NoError(t, err)
	file, err := os.Open("../../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	defer file.Close()
	var events []checkpoint.Event
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var r replay.Record
		require.NoError(t, json.Unmarshal(lines.Bytes(), &r))
		events = append(events, r.Event)
	}
	_, err = s.WriteAll(events)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		records = append(records, r)
	}
	return records
}

// draw returns the timeline of records.
func draw(t *testing.T, o timeline.Options, records []replay.Record, findings ...timeline.Finding) *timeline.Timeline {
	b := timeline.NewBuilder(o)
	for _, r := range records {
		require.NoError(t, b.Add(r))
	}
	line, err := b.Timeline(findings)
	require.NoError(t, err)
	return line
}

// picture returns the lanes of the text, without the axis and the legend.
func picture(t *testing.T, line *timeline.Timeline, width int) []string {
	var out bytes.Buffer
	require.NoError(t, line.WriteASCII(&out, timeline.ASCIIOptions{Width: width}))
	lines := strings.Split(out.String(), "\n")
	for _, l := range lines {
		require.LessOrEqual(t, len(l), width)
	}
	return lines[1 : 1+len(line.Lanes)]
}

// history makes the records of one log by hand. The clock starts at 1,000 ms.
type history struct {
	t       *testing.T
	records []replay.Record
	seq     uint64
	last    map[checkpoint.MigrationID]uint64
}

func newHistory(t *testing.T) *history {
	return &history{t: t, last: map[checkpoint.MigrationID]uint64{}}
}

func newID(n byte) checkpoint.MigrationID {
	return checkpoint.MigrationID{0x01, 0xa2, 0x06, 0x29, 0x44, 0xf1, 0x75, 0xf5, 0x8b, 0xf1, 15: n}
}

func (h *history) add(e checkpoint.Event) {
	h.seq++
	id := e.Migration()
	h.records = append(h.records, replay.Record{Seq: h.seq, PrevSeq: h.last[id], Event: e})
	h.last[id] = h.seq
	switch e.(type) {
	case checkpoint.Aborted, checkpoint.Removed:
		delete(h.last, id)
	}
}

// step adds a checkpoint of a migration, whose vShard is n unless it is given.
func (h *history) step(n byte, phase checkpoint.Phase, attempt uint32, atMS uint64, vshard ...uint32) {
	shard := uint32(n)
	if len(vshard) > 0 {
		shard = vshard[0]
	}
	var p checkpoint.Payload
	switch phase {
	case checkpoint.PhaseAddLearner:
		p = checkpoint.AddLearner{VShardID: shard, SourceNode: 1, TargetNode: 2, SourceGroup: uint64(shard)}
	case checkpoint.PhaseCatchUp:
		p = checkpoint.CatchUp{VShardID: shard, LearnerLogIndexAtAdd: 5}
	case checkpoint.PhaseCutover:
		p = checkpoint.Cutover{VShardID: shard, SourceGroup: uint64(shard), NewLeaderNodeID: 2}
	case checkpoint.PhaseComplete:
		p = checkpoint.Complete{VShardID: shard, ActualPauseUS: 7200, GhostStubInstalled: true}
	}
	c, err := checkpoint.New(newID(n), attempt, p, atMS)
	require.NoError(h.t, err)
	h.add(checkpoint.Upserted{Checkpoint: c})
}

func (h *history) abort(n byte, atMS uint64) {
	h.add(checkpoint.Aborted{MigrationID: newID(n), Reason: "x", TimestampMS: atMS})
}

func (h *history) remove(n byte, atMS uint64) {
	h.add(checkpoint.Removed{MigrationID: newID(n), TimestampMS: atMS})
}

// lose replaces the records of a range by damage.
func (h *history) lose(first, last uint64) {
	var kept []replay.Record
	for _, r := range h.records {
		switch {
		case r.Seq == first:
			kept = append(kept, replay.Record{Damage: &replay.Damage{FirstSeq: first, LastSeq: last}})
		case r.Seq < first || r.Seq > last:
			kept = append(kept, r)
		}
	}
	h.records = kept
}

const (
	addLearner = checkpoint.PhaseAddLearner
	catchUp    = checkpoint.PhaseCatchUp
	cutover    = checkpoint.PhaseCutover
	complete   = checkpoint.PhaseComplete
)

// The recording has one lane for each vShard, because its moves do not overlap.
func TestTimeline_Recording(t *testing.T) {
	line := draw(t, timeline.Options{}, recording(t))
	require.Len(t, line.Lanes, 32)
	require.Equal(t, 1485, line.Moves)
	require.EqualValues(t, recordingStartMS, line.FromMS)
	require.EqualValues(t, recordingEndMS, line.ToMS)
	require.Zero(t, line.ClockBack)
	bars, outcomes := 0, map[story.Outcome]int{}
	for i, l := range line.Lanes {
		require.Equal(t, 1, l.Number)
		require.Equal(t, l.Key, l.Label)
		require.EqualValues(t, i+1, l.Moves[0].VShardID)
		for j, m := range l.Moves {
			outcomes[m.Outcome]++
			bars += len(m.Bars)
			require.True(t, j == 0 || l.Moves[j-1].ToMS <= m.FromMS)
		}
	}
	require.Equal(t, 7045, bars)
	require.Equal(t, map[story.Outcome]int{story.Removed: 978, story.Done: 325, story.Aborted: 176, story.InFlight: 6}, outcomes)
}

// Each phase and each kind of end has its symbol. Of several in one cell the worst is shown.
func TestASCII_Symbols(t *testing.T) {
	h := newHistory(t)
	h.step(1, addLearner, 0, 1000) // done and removed
	h.step(1, catchUp, 0, 1100)
	h.step(1, cutover, 0, 1200)
	h.step(1, complete, 0, 1300)
	h.remove(1, 1400)
	h.step(2, addLearner, 0, 1000) // tried again twice, then aborted
	h.step(2, catchUp, 0, 1100)
	h.step(2, catchUp, 1, 1250)
	h.step(2, catchUp, 12, 1300)
	h.abort(2, 1400)
	h.step(3, catchUp, 0, 1500) // removed before Complete
	h.remove(3, 1590)
	h.step(5, addLearner, 0, 1510) // all in one cell: a try is worse than the end
	h.step(5, catchUp, 0, 1510)
	h.step(5, catchUp, 1, 1510)
	h.step(5, complete, 0, 1511)
	h.step(6, complete, 0, 1990) // without a beginning
	h.step(4, addLearner, 0, 1600)
	h.step(4, catchUp, 0, 1700)
	h.step(4, catchUp, 0, 2000) // in flight
	line := draw(t, timeline.Options{}, h.records)
	require.Equal(t, []string{
		"       1  ---===###|",
		"       2  ---====2=9==!",
		"       3                 ==!",
		"       4                    ---=========>",
		"       5                 2",
		"       6                               |",
	}, picture(t, line, 41))
	require.Equal(t, "       2  ------==========2===9=====!", picture(t, draw(t, timeline.Options{UntilMS: 1450}, h.records), 41)[1])

	var out bytes.Buffer
	require.NoError(t, line.WriteASCII(&out, timeline.ASCIIOptions{Width: 80}))
	require.Contains(t, out.String(), "  vshard  00:00:01.000"+strings.Repeat(" ", 46)+"00:00:02.000\n")
	require.True(t, strings.HasSuffix(out.String(), `
  - AddLearner  = CatchUp  # later phases  2 a second try  | done  ! aborted
  > in flight at the end  ? lost events may belong here
`), out.String())
}

// No symbol hides a move in flight at the end.
func TestASCII_InFlight(t *testing.T) {
	h := newHistory(t)
	h.step(1, addLearner, 0, 1000)
	h.abort(1, 1999)
	h.step(1, addLearner, 0, 2000)
	require.Equal(t, []string{"       1  -----------------------------!>"}, picture(t, draw(t, timeline.Options{}, h.records), 41))
	until := draw(t, timeline.Options{UntilMS: 1800}, h.records) // the end is after the range
	require.Equal(t, []string{"       1  ------------------------------"}, picture(t, until, 41))
}

// If moves of one vShard overlap, it has a second lane. It has only one if a move begins in the
// millisecond in which the one before it ends.
func TestTimeline_Overlap(t *testing.T) {
	h := newHistory(t)
	h.step(1, addLearner, 0, 1000, 7)
	h.step(2, addLearner, 0, 1050, 7)
	h.step(1, complete, 0, 1100, 7)
	h.step(3, addLearner, 0, 1100, 7)
	h.step(2, complete, 0, 1200, 7)
	h.step(3, complete, 0, 1200, 7)
	h.step(4, addLearner, 0, 1200, 7)
	h.step(5, addLearner, 0, 1200, 7) // within the same millisecond, which only the seqs show
	h.step(4, complete, 0, 1200, 7)
	h.step(5, complete, 0, 1300, 7)
	line := draw(t, timeline.Options{}, h.records)
	require.Len(t, line.Lanes, 2)
	require.Equal(t, []string{
		"       7  ----------|---------|",
		"   7 (2)       ---------------|--------|",
	}, picture(t, line, 41))
	require.Equal(t, []int{3, 2}, []int{len(line.Lanes[0].Moves), len(line.Lanes[1].Moves)})
}

// By node, a move is in the lanes of its source and of its target. By migration, incarnations of
// one id share a lane.
func TestTimeline_By(t *testing.T) {
	h := newHistory(t)
	h.step(1, addLearner, 0, 1000)
	h.abort(1, 1100)
	h.step(1, addLearner, 0, 1200)
	h.step(2, catchUp, 0, 1300) // from and to unknown nodes
	keys := func(by timeline.By) (keys []string) {
		line := draw(t, timeline.Options{By: by}, h.records)
		require.Equal(t, 3, line.Moves)
		for _, l := range line.Lanes {
			keys = append(keys, l.Key)
		}
		return keys
	}
	require.Equal(t, []string{"1", "2", "?"}, keys(timeline.ByNode))
	require.Equal(t, []string{newID(1).String(), newID(2).String()}, keys(timeline.ByMigration))
}

// Lost events may belong to any lane. If later records name all of them, they belong only to the
// lanes of these records, and certainly.
func TestTimeline_Lost(t *testing.T) {
	h := newHistory(t)
	h.step(1, addLearner, 0, 1000)
	h.step(2, addLearner, 0, 1000)
	h.step(1, catchUp, 0, 1400)
	h.step(1, cutover, 0, 1800)
	h.abort(2, 1900)
	h.step(3, addLearner, 0, 2000)
	h.lose(3, 3)
	line := draw(t, timeline.Options{}, h.records)
	require.True(t, line.Lost[0].All)
	require.Equal(t, []string{
		"       1  ?????????????????????????#####>",
		"       2  ---------------------------!",
		"       3                               ->",
	}, picture(t, line, 41))

	h = newHistory(t)
	h.step(1, addLearner, 0, 1000)
	h.step(2, addLearner, 0, 1200)
	h.step(2, catchUp, 0, 1400)
	h.step(2, complete, 0, 1600)
	h.step(3, addLearner, 0, 2000)
	h.lose(3, 4) // no record links to them
	line = draw(t, timeline.Options{}, h.records)
	require.False(t, line.Lost[0].All)
	require.Equal(t, []string{
		"       1  -------????????????????????????", // it may have gone on
		"       2        -????????????????????????",
		"       3        ???????????????????????->", // it began after the loss
	}, picture(t, line, 41))
	require.EqualValues(t, 1200, line.Lost[0].FromMS)
	require.EqualValues(t, 2000, line.Lost[0].ToMS)
	require.True(t, line.Lanes[1].Moves[0].InDoubt)
	line = draw(t, timeline.Options{SinceMS: 1900}, h.records)
	require.Len(t, line.Lanes, 3, "a move in doubt may be in flight in each later range")
	require.Equal(t, "       1  ???????????????????????????????", picture(t, line, 41)[0])
}

// A move in doubt does not overlap the moves after the loss: it may have ended.
func TestTimeline_DoubtIsNoOverlap(t *testing.T) {
	h := newHistory(t)
	h.step(1, addLearner, 0, 1000, 7)
	h.abort(1, 1100)
	h.step(2, addLearner, 0, 1200, 7)
	h.abort(2, 1400)
	h.step(3, addLearner, 0, 1500, 7)
	h.lose(2, 2)
	line := draw(t, timeline.Options{}, h.records)
	require.Len(t, line.Lanes, 1)
	require.EqualValues(t, 1000, line.Lanes[0].Moves[0].ToMS)
}

// If the end of an incarnation is lost, its bar ends at its last record, with a question mark.
func TestTimeline_EndLost(t *testing.T) {
	h := newHistory(t)
	h.step(1, addLearner, 0, 1000)
	h.step(1, catchUp, 0, 1200)
	h.abort(1, 1400)
	h.step(1, addLearner, 0, 1800)
	h.step(1, complete, 0, 2000)
	h.lose(3, 3)
	line := draw(t, timeline.Options{}, h.records)
	require.Len(t, line.Lanes, 1)
	require.True(t, line.Lanes[0].Moves[0].EndLost)
	require.False(t, line.Lanes[0].Moves[0].InDoubt)
	require.Equal(t, []string{"       1  ------??????????????????-----|"}, picture(t, line, 41))
}

// If the clock goes back, bars do not, and the timeline counts the move.
func TestTimeline_ClockBack(t *testing.T) {
	h := newHistory(t)
	h.step(1, addLearner, 0, 1500)
	h.step(1, catchUp, 0, 1000)
	h.step(1, complete, 0, 2000)
	line := draw(t, timeline.Options{}, h.records)
	require.Equal(t, 1, line.ClockBack)
	require.Equal(t, []string{"       1                 ==============|"}, picture(t, line, 41))
	require.Equal(t, []timeline.Bar{{Phase: addLearner, FromMS: 1500, ToMS: 1500}, {Phase: catchUp, FromMS: 1500, ToMS: 2000}}, line.Lanes[0].Moves[0].Bars)
}

// The range selects the moves that were in flight in it. A range relative to the end needs no
// second pass.
func TestTimeline_Range(t *testing.T) {
	h := newHistory(t)
	for n := range byte(10) {
		h.step(n, addLearner, 0, 1000+100*uint64(n))
		h.step(n, complete, 0, 1050+100*uint64(n))
		h.remove(n, 1060+100*uint64(n))
	}
	h.step(20, addLearner, 0, 2000)
	lanes := func(o timeline.Options) (keys string) {
		line := draw(t, o, h.records)
		for _, l := range line.Lanes {
			keys += l.Key + " "
		}
		return keys
	}
	require.Equal(t, "0 1 2 3 4 5 6 7 8 9 20 ", lanes(timeline.Options{}))
	require.Equal(t, "3 4 5 ", lanes(timeline.Options{SinceMS: 1340, UntilMS: 1500}))
	require.Equal(t, "8 9 20 ", lanes(timeline.Options{LastMS: 150}))
	require.Equal(t, "4 ", lanes(timeline.Options{Select: func(i *story.Incarnation) bool { return i.VShardID == 4 }}))
	require.Empty(t, lanes(timeline.Options{SinceMS: 5000}))
	line := draw(t, timeline.Options{LastMS: 150}, h.records)
	require.EqualValues(t, []uint64{1850, 2000}, []uint64{line.FromMS, line.ToMS})
	line = draw(t, timeline.Options{LastMS: 5000}, h.records) // longer than the history
	require.EqualValues(t, []uint64{1000, 2000}, []uint64{line.FromMS, line.ToMS})
}

// A history with more moves than the limit is refused as soon as it has them.
func TestTimeline_Limit(t *testing.T) {
	h := newHistory(t)
	for n := range byte(4) {
		h.step(n, addLearner, 0, 1000)
	}
	b := timeline.NewBuilder(timeline.Options{MaxMoves: 3})
	for i, r := range h.records {
		if err := b.Add(r); i < 3 {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, timeline.ErrTooManyMoves)
		}
	}
	b = timeline.NewBuilder(timeline.Options{MaxMoves: 3, Select: func(*story.Incarnation) bool { return true }})
	for _, r := range h.records {
		require.NoError(t, b.Add(r)) // they are selected at the end
	}
	_, err := b.Timeline(nil)
	require.ErrorIs(t, err, timeline.ErrTooManyMoves)
}

// A finding has a place in each move that has one of its records.
func TestTimeline_Findings(t *testing.T) {
	h := newHistory(t)
	h.step(1, addLearner, 0, 1000)
	h.step(1, catchUp, 0, 1100)
	h.step(2, addLearner, 0, 1200)
	h.step(3, addLearner, 0, 1300)
	line := draw(t, timeline.Options{}, h.records,
		timeline.Finding{Rule: "a", Severity: "error", Message: "m", Seqs: []uint64{1, 2, 3}},
		timeline.Finding{Rule: "b", Severity: "warning", Message: "n", Seqs: []uint64{99}})
	require.Len(t, line.Marks, 1, "a finding without a move in the range has no place")
	places := line.Marks[0].Places
	require.Len(t, places, 2)
	require.EqualValues(t, []uint64{1100, 1200}, []uint64{places[0].AtMS, places[1].AtMS})
	require.Equal(t, newID(2), places[1].Move.ID)
	b, err := json.Marshal(line.Marks[0])
	require.NoError(t, err)
	require.JSONEq(t, `{"rule":"a","severity":"error","message":"m","seqs":[1,2,3],"places":[
		{"migration_id":"01a20629-44f1-75f5-8bf1-000000000001","incarnation":1,"at_ms":1100},
		{"migration_id":"01a20629-44f1-75f5-8bf1-000000000002","incarnation":1,"at_ms":1200}]}`, string(b))
}

// An empty history has no lane, and can be drawn.
func TestTimeline_Empty(t *testing.T) {
	line := draw(t, timeline.Options{}, nil)
	require.Empty(t, line.Lanes)
	require.Empty(t, picture(t, line, 80))
	require.NoError(t, line.WritePage(&bytes.Buffer{}, timeline.PageOptions{}))
	require.NoError(t, line.WriteSVG(&bytes.Buffer{}, timeline.SVGOptions{}))
	require.NoError(t, line.WritePerfetto(&bytes.Buffer{}))
	b, err := json.Marshal(line)
	require.NoError(t, err)
	require.JSONEq(t, `{"by":"vshard","from_ms":0,"to_ms":0,"end_ms":0,"lanes":[],"findings":[],"lost":[],"moves":0,"clock_back":0}`, string(b))
}
