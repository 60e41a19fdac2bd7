package torn_test

import (
	"io/fs"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/torn"
	"migrationlog/replay"
)

// makeLog makes a log of two openings, with snapshots and an abort under way.
func makeLog(t *testing.T) (dir string) {
	dir = t.TempDir()
	for n := byte(1); n <= 2; n++ {
		s, err := migrationlog.Open(dir, nil)
		require.NoError(t, err)
		id := checkpoint.MigrationID{15: n}
		var events []checkpoint.Event
		for _, p := range []checkpoint.Payload{
			checkpoint.AddLearner{VShardID: 7, SourceNode: 1, TargetNode: 3, SourceGroup: 9}, checkpoint.CatchUp{VShardID: 7},
		} {
			c, err := checkpoint.New(id, 0, p, 5)
			require.NoError(t, err)
			events = append(events, checkpoint.Upserted{Checkpoint: c})
		}
		events = append(events, checkpoint.AbortBegun{MigrationID: id, Compensations: []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 9, PeerID: 3}}})
		if n == 1 {
			events = append(events, checkpoint.Aborted{MigrationID: id})
		}
		_, err = s.WriteAll(events)
		require.NoError(t, err)
		require.NoError(t, s.Close())
	}
	return dir
}

// After a tear of any write at any byte, an opening finds the history before that write.
func TestTail_Tears(t *testing.T) {
	fsys := os.DirFS(makeLog(t))
	tail, err := torn.ReadTail(fsys)
	require.NoError(t, err)
	snapshots, err := fs.ReadDir(fsys, segment.SnapshotDir)
	require.NoError(t, err)
	require.NotEmpty(t, snapshots)
	first, last := tail.Seqs()
	require.EqualValues(t, 1, first)
	require.EqualValues(t, 7, last)
	reader, err := replay.OpenFS(fsys)
	require.NoError(t, err)
	older, before := reader.NewFold(), reader.NewFold()
	var records []replay.Record
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		records = append(records, r)
	}
	end := int64(0)
	for i, r := range records {
		want, begin := 1, end // once with zeros instead of the whole write
		for end = r.Offset + r.Length; begin < end; begin++ {
			if want++; want > 2 && begin%512 == 0 {
				want++ // at the end of a sector
			}
		}
		tears := 0
		for d, err := range tail.Tears(t.Context(), r.Seq, before) {
			require.NoError(t, err)
			require.Nil(t, d)
			tears++
		}
		require.Equal(t, want, tears)
		if i > 0 { // an opening does not find the history before another write
			for d, err := range tail.Tears(t.Context(), r.Seq, older) {
				require.NoError(t, err)
				require.NotNil(t, d)
				require.Equal(t, r.Seq, d.Seq)
				require.Regexp(t, "^the last event is #[0-9] instead of #[0-9]$", d.Reason)
			}
			older.Add(records[i-1])
		}
		before.Add(r)
	}
	for _, err := range tail.Tears(t.Context(), 8, before) {
		require.NoError(t, err)
		require.Fail(t, "there is no event 8")
	}
}

// Rows that an opening does not find are a difference.
func TestTail_TearsCompareRows(t *testing.T) {
	fsys := os.DirFS(makeLog(t))
	tail, err := torn.ReadTail(fsys)
	require.NoError(t, err)
	reader, err := replay.OpenFS(fsys)
	require.NoError(t, err)
	before := reader.NewFold()
	for r, err := range reader.Records(t.Context(), replay.Query{ToSeq: 6}) {
		require.NoError(t, err)
		if u, ok := r.Event.(checkpoint.Upserted); ok && r.Seq == 6 {
			u.Checkpoint.Attempt++
			r.Event = u
		}
		before.Add(r)
	}
	n := 0
	for d, err := range tail.Tears(t.Context(), 7, before) {
		require.NoError(t, err)
		require.Equal(t, "the rows are not those after #6", d.Reason)
		n++
	}
	require.Positive(t, n)
}
