package diff_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/diff"
)

func id(n byte) checkpoint.MigrationID { return checkpoint.MigrationID{1, 15: n} }

const base = 1_795_399_680_000

func upserted(t *testing.T, n byte, atMS uint64, p checkpoint.Payload) checkpoint.Event {
	c, err := checkpoint.New(id(n), 0, p, base+atMS)
	require.NoError(t, err)
	return checkpoint.Upserted{Checkpoint: c}
}

func begun(t *testing.T, n byte, atMS uint64) checkpoint.Event {
	return upserted(t, n, atMS, checkpoint.AddLearner{VShardID: uint32(n), SourceNode: 1, TargetNode: 2, SourceGroup: 7})
}

func completed(t *testing.T, n byte, atMS uint64) checkpoint.Event {
	return upserted(t, n, atMS, checkpoint.Complete{VShardID: uint32(n)})
}

func aborted(n byte, atMS uint64) checkpoint.Event {
	return checkpoint.Aborted{MigrationID: id(n), Reason: "no reason", TimestampMS: base + atMS}
}

func removed(n byte, atMS uint64) checkpoint.Event {
	return checkpoint.Removed{MigrationID: id(n), TimestampMS: base + atMS}
}

// write appends events to a log.
func write(t *testing.T, dir string, events ...checkpoint.Event) {
	s, err := migrationlog.Open(dir, &migrationlog.Options{NoSync: true, SegmentSize: 512})
	require.NoError(t, err)
	_, err = s.WriteAll(events)
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

func open(t *testing.T, dir string) *replay.Reader {
	r, err := replay.Open(dir)
	require.NoError(t, err)
	return r
}

// smallLog has a move of each kind between #2 and #9.
func smallLog(t *testing.T) (dir string) {
	dir = filepath.Join(t.TempDir(), "log")
	write(t, dir,
		begun(t, 1, 0), begun(t, 2, 10), // 1, 2
		begun(t, 3, 20), completed(t, 1, 30), aborted(2, 40), begun(t, 4, 50), removed(4, 60), // 3 to 7
		completed(t, 3, 70), begun(t, 5, 80), // 8, 9
		removed(1, 90)) // 10
	return dir
}

func between(t *testing.T, dir string, from, to replay.Point) diff.Result {
	reader := open(t, dir)
	p := diff.NewPoints(reader.NewFold(), from, to, diff.Options{All: true})
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		p.Add(r)
	}
	return p.Result()
}

// line is a change without its rows.
type line struct {
	kind  diff.Kind
	id    byte
	ended uint64
}

func lines(changes []diff.Change) (list []line) {
	for _, c := range changes {
		l := line{kind: c.Kind, id: c.ID[15]}
		if c.Ended != nil {
			l.ended = c.Ended.Seq
		}
		list = append(list, l)
	}
	return list
}

// The difference has each changed row, and the moves that left none.
func TestPoints(t *testing.T) {
	dir := smallLog(t)
	for name, points := range map[string][2]replay.Point{
		"seqs":     {{Seq: 2}, {Seq: 9}},
		"reversed": {{Seq: 9}, {Seq: 2}},
		"times":    {{TimeMS: base + 19}, {TimeMS: base + 85}},
	} {
		r := between(t, dir, points[0], points[1])
		require.Equal(t, diff.Side{Seq: 2, TSMS: base + 10, Rows: 2}, r.From, name)
		require.Equal(t, diff.Side{Seq: 9, TSMS: base + 80, Rows: 3}, r.To, name)
		require.Equal(t, []int{2, 1, 1, 0}, []int{r.New, r.Gone, r.Moved, r.Same}, name)
		require.Equal(t, diff.Counts{Events: 7, Began: 3, Done: 2, Aborted: 1, Removed: 1, Passed: 1}, r.Between, name)
		require.Equal(t, []line{{diff.Moved, 1, 0}, {diff.Gone, 2, 5}, {diff.New, 3, 0}, {diff.New, 5, 0}, {diff.Passed, 4, 7}}, lines(r.Changes), name)
		require.Equal(t, checkpoint.PhaseAddLearner, r.Changes[0].Before.Checkpoint.Phase(), name)
		require.Equal(t, checkpoint.PhaseComplete, r.Changes[0].After.Checkpoint.Phase(), name)
		require.False(t, r.Equal(), name)
	}
	r := between(t, dir, replay.Point{Seq: 5}, replay.Point{Seq: 5})
	require.True(t, r.Equal())
	require.Equal(t, 2, r.Same)
	r = between(t, dir, replay.Point{Seq: 9}, replay.Point{})
	require.Equal(t, []line{{diff.Gone, 1, 10}}, lines(r.Changes))
	require.Equal(t, checkpoint.PhaseComplete, r.Changes[0].Ended.Phase)
	r = between(t, dir, replay.Point{Seq: 10}, replay.Point{})
	require.True(t, r.Equal())
	require.False(t, between(t, dir, replay.Point{Seq: 5}, replay.Point{Seq: 7}).Equal(), "no row differs, and a move began and ended")
}

func logs(t *testing.T, first, second string) diff.Result {
	r, _, err := diff.Logs(t.Context(), open(t, first), open(t, second), diff.Options{All: true}, func(uint64) {})
	require.NoError(t, err)
	return r
}

func copyOf(t *testing.T, dir string) string {
	c := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.CopyFS(c, os.DirFS(dir)))
	return c
}

// Two copies of a log have their common beginning, and the changes since then.
func TestLogs_Copies(t *testing.T) {
	dir := smallLog(t)
	other := copyOf(t, dir)
	r := logs(t, dir, other)
	require.True(t, r.Equal())
	require.Equal(t, &diff.Copies{Relation: diff.Identical, CommonSeq: 10}, r.Copies)

	write(t, other, completed(t, 5, 100), begun(t, 6, 110), aborted(6, 120))
	r = logs(t, dir, other)
	require.Equal(t, diff.FirstIsPrefix, r.Copies.Relation)
	require.EqualValues(t, 10, r.Copies.CommonSeq)
	require.Equal(t, diff.Counts{Events: 3, Began: 1, Done: 1, Aborted: 1, Passed: 1}, r.Between)
	require.Equal(t, []line{{diff.Moved, 5, 0}, {diff.Passed, 6, 13}}, lines(r.Changes))
	r = logs(t, other, dir)
	require.Equal(t, diff.SecondIsPrefix, r.Copies.Relation)
	require.EqualValues(t, 3, r.Copies.OnlyFirst.Events)
	require.Zero(t, r.Between.Events)
	require.False(t, r.Equal())

	write(t, dir, aborted(5, 130))
	r = logs(t, dir, other)
	require.Equal(t, diff.Diverged, r.Copies.Relation)
	require.EqualValues(t, 10, r.Copies.CommonSeq)
	require.EqualValues(t, 1, r.Copies.OnlyFirst.Aborted)
	require.Equal(t, []line{{diff.New, 5, 0}, {diff.Passed, 6, 13}}, lines(r.Changes))
}

// A copy that has lost events is not a diverged copy.
func TestLogs_Lost(t *testing.T) {
	dir := smallLog(t)
	write(t, dir, completed(t, 5, 100)) // the second opening writes the watermark
	other := copyOf(t, dir)
	segments, err := filepath.Glob(filepath.Join(other, "wal", "0*"))
	require.NoError(t, err)
	require.Greater(t, len(segments), 2)
	b, err := os.ReadFile(segments[1])
	require.NoError(t, err)
	b[60] ^= 1 // in the body of its first frame
	require.NoError(t, os.WriteFile(segments[1], b, 0o600))
	for _, r := range []diff.Result{logs(t, dir, other), logs(t, other, dir)} {
		require.Equal(t, diff.Incomplete, r.Copies.Relation)
		require.EqualValues(t, 11, r.Copies.CommonSeq)
		require.EqualValues(t, 1, r.Copies.OnlyFirst.Lost+r.Copies.OnlySecond.Lost)
		require.EqualValues(t, 1, r.Copies.OnlyFirst.Events+r.Copies.OnlySecond.Events)
		require.False(t, r.Equal())
	}
}

// The events of logs that were created separately are not compared, but their rows are.
func TestLogs_Different(t *testing.T) {
	dir := smallLog(t)
	other := filepath.Join(t.TempDir(), "other")
	write(t, other, begun(t, 3, 20), completed(t, 3, 70), begun(t, 5, 80))
	r := logs(t, dir, other)
	require.Equal(t, diff.Different, r.Copies.Relation)
	require.Zero(t, r.Copies.CommonSeq)
	require.Equal(t, 2, r.Same)
	require.True(t, r.Equal())
	write(t, other, aborted(5, 90))
	r = logs(t, dir, other)
	require.Equal(t, []line{{diff.Gone, 5, 4}}, lines(r.Changes)[:1])
	require.False(t, r.Equal())
}
