package replay_test

import (
	"encoding/binary"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
	"migrationlog/replay"
)

// rowsOf returns all records that a query selects, with the rows of a fold of the whole log.
func rowsOf(t testing.TB, fsys fstest.MapFS, q replay.Query) (all []replay.Found) {
	view, m := projection.New(), replay.NewMatcher(q)
	for r, err := range openFS(t, fsys).Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		selected := m.Match(r)
		if r.Damage != nil {
			continue
		}
		id, _ := r.Migration()
		f := replay.Found{Record: r, Selected: true}
		f.Row, f.HasRow = view.Get(id)
		if r.Unknown != nil {
			view.ApplyUnknown(r.Seq, r.PrevSeq, id)
		} else {
			view.Apply(r.Seq, r.PrevSeq, r.Event)
		}
		if row, ok := view.Get(id); ok {
			f.Row, f.HasRow = row, true
		}
		if selected {
			all = append(all, f)
		}
	}
	return all
}

func search(t testing.TB, fsys fstest.MapFS, q replay.Query) (all []replay.Found, covered replay.Coverage) {
	for f, err := range openFS(t, fsys).Search(t.Context(), q, replay.SearchOptions{Rows: true, Covered: &covered}) {
		require.NoError(t, err)
		if f.Damage == nil {
			all = append(all, f)
		}
	}
	return all, covered
}

// Every search has the same records and the same rows with all summaries, without some, and without any.
func TestSearch_RowsAsInAFoldOfAll(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	unchecked := 0
	for number := range uint64(80) {
		rng := rand.New(rand.NewPCG(seed, number))
		fsys := randomLog(t, rng)
		if rng.IntN(4) > 0 {
			addSummaries(t, fsys)
		}
		if rng.IntN(4) == 0 {
			removeSomeSummaries(rng, fsys)
		}
		for range 8 {
			q := randomQuery(rng)
			want := rowsOf(t, fsys, q)
			got, covered := search(t, fsys, q)
			require.Equal(t, want, got, "case %d, %+v", number, q)
			unchecked += covered.Unchecked

			n := 1 + rng.IntN(5)
			last, err := openFS(t, fsys).SearchLast(t.Context(), q, n, replay.SearchOptions{Rows: true})
			require.NoError(t, err)
			want = want[max(0, len(want)-n):]
			require.Equal(t, len(want), len(last), "case %d, the last %d of %+v", number, n, q)
			for i := range want {
				require.Equal(t, want[i], last[i], "case %d, the last %d of %+v", number, n, q)
			}
		}
		requireNewestOfEachVShard(t, fsys)
	}
	require.NotZero(t, unchecked)
}

func removeSomeSummaries(rng *rand.Rand, fsys fstest.MapFS) {
	maps.DeleteFunc(fsys, func(name string, _ *fstest.MapFile) bool {
		return strings.HasPrefix(name, segment.SummaryDir) && rng.IntN(3) == 0
	})
}

func requireNewestOfEachVShard(t testing.TB, fsys fstest.MapFS) {
	for vShard := range uint32(5) {
		var want checkpoint.MigrationID
		for _, r := range recordsOf(t, openFS(t, fsys), replay.Query{}) {
			c, ok := r.Checkpoint()
			if ok && c.Payload.Shard() == vShard && (r.PrevSeq == 0 || want == checkpoint.MigrationID{}) {
				want = c.MigrationID
			}
		}
		got, ok, err := openFS(t, fsys).NewestMigration(t.Context(), vShard)
		require.NoError(t, err)
		require.Equal(t, want != checkpoint.MigrationID{}, ok)
		require.Equal(t, want, got, "vShard %d", vShard)
	}
}

// If files are damaged, a search without a vShard and a node has the same records.
func TestSearch_DamagedLog(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for number := range uint64(80) {
		rng := rand.New(rand.NewPCG(seed, number))
		fsys := randomLog(t, rng)
		addSummaries(t, fsys)
		damage(rng, fsys)
		for range 4 {
			q := randomQuery(rng)
			q.VShards, q.Nodes = nil, nil
			var got []replay.Record
			found, _ := search(t, fsys, q)
			for _, f := range found {
				got = append(got, f.Record)
			}
			require.Equal(t, undamaged(recordsOf(t, openFS(t, fsys), q)), got, "case %d, %+v", number, q)
		}
	}
}

// If a writer appends events meanwhile, a search has the records and rows of the log at one moment.
func TestSearch_WhileLogGrows(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for number := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, number))
		later := randomLog(t, rng)
		addSummaries(t, later)
		names, err := segment.Names(later)
		require.NoError(t, err)
		from := names[len(names)-1-rng.IntN(len(names)-1)]
		now := maps.Clone(later)
		maps.DeleteFunc(now, func(name string, _ *fstest.MapFile) bool {
			_, ok := segment.ParseName(path.Base(name))
			return ok && (path.Base(name) > from || path.Base(name) == from && path.Dir(name) != segment.WALDir)
		})
		growing := path.Join(segment.WALDir, from)
		now[growing] = &fstest.MapFile{Data: firstEntries(now[growing].Data, rng)}
		q := randomQuery(rng)
		least, most := len(rowsOf(t, now, q)), rowsOf(t, later, q)
		for opens := range 40 {
			grows := &growingFS{now: now, later: later, opens: math.MaxInt}
			reader, err := replay.OpenFS(grows)
			require.NoError(t, err)
			grows.opens = opens
			n := 0
			for f, err := range reader.Search(t.Context(), q, replay.SearchOptions{Rows: true}) {
				require.NoError(t, err)
				if f.Damage == nil {
					require.Equal(t, most[n], f, "case %d, after %d, %+v", number, opens, q)
					n++
				}
			}
			require.GreaterOrEqual(t, n, least, "case %d, after %d, %+v", number, opens, q)
		}
	}
}

// firstEntries returns some entries from the beginning of a segment, at least one.
func firstEntries(data []byte, rng *rand.Rand) []byte {
	for end := 0; ; {
		length, k := binary.Uvarint(data[end:])
		if end += k + int(length); end == len(data) || rng.IntN(3) == 0 {
			return data[:end]
		}
	}
}

// An event that a writer appends after the frames were picked is not yielded without its row.
func TestSearch_EventAppendedMeanwhile(t *testing.T) {
	noise := func(n int) (events []any) {
		for k := range 20 {
			events = append(events, upserted(t, checkpoint.MigrationID{2, byte(n), byte(k)}, checkpoint.CatchUp{VShardID: 9}, 100))
		}
		return events
	}
	last := noise(3)
	later := logOf(t,
		append(noise(1), upserted(t, idA, checkpoint.AddLearner{VShardID: 1, SourceNode: 10, TargetNode: 11}, 100)), noise(2),
		append(last, checkpoint.Aborted{MigrationID: idA, TimestampMS: 200}))
	now := logOf(t, append(noise(1), upserted(t, idA, checkpoint.AddLearner{VShardID: 1, SourceNode: 10, TargetNode: 11}, 100)), noise(2), last)
	addSummaries(t, later)
	addSummaries(t, now)
	found := 0
	for opens := range 40 {
		grows := &growingFS{now: now, later: later, opens: math.MaxInt}
		reader, err := replay.OpenFS(grows)
		require.NoError(t, err)
		grows.opens = opens
		for f, err := range reader.Search(t.Context(), replay.Query{Kinds: []replay.Kind{replay.KindAbort}}, replay.SearchOptions{Rows: true}) {
			require.NoError(t, err)
			require.True(t, f.HasRow, "after %d", opens)
			found++
		}
	}
	require.Positive(t, found)
	require.Less(t, found, 40)
}

// openCounter counts how often each segment is opened.
type openCounter struct {
	fs.FS
	count map[string]int
}

func (c openCounter) Open(name string) (fs.File, error) {
	if _, ok := segment.ParseName(path.Base(name)); ok && path.Dir(name) == segment.WALDir {
		countersMu.Lock()
		defer countersMu.Unlock()
		c.count[name]++
	}
	return c.FS.Open(name)
}

var countersMu sync.Mutex // the index opens segments with several goroutines

// A search reads the segments with its answer and those with the earlier events of these migrations, and
// of the others only the summaries.
func TestSearch_ReadsFewSegments(t *testing.T) {
	var segments [][]any
	id := func(n int) checkpoint.MigrationID { return checkpoint.MigrationID{1, byte(n)} }
	for n := range 40 { // each move begins in one segment and ends in the next one
		ms := uint64(1000 + 100*n)
		events := []any{upserted(t, id(n), checkpoint.AddLearner{VShardID: uint32(n), SourceNode: 1, TargetNode: uint64(100 + n)}, ms)}
		for k := range 20 {
			events = append(events, upserted(t, checkpoint.MigrationID{2, byte(n), byte(k)}, checkpoint.CatchUp{VShardID: 1000}, ms+1))
		}
		if n > 0 {
			events = append(events, checkpoint.Aborted{MigrationID: id(n - 1), Reason: "x", TimestampMS: ms + 2})
		}
		segments = append(segments, events)
	}
	fsys := logOf(t, segments...)
	addSummaries(t, fsys)
	for name, c := range map[string]struct {
		q    replay.Query
		want int // records
	}{
		"by vShard":           {replay.Query{VShards: []uint32{7}}, 2},
		"by node":             {replay.Query{Nodes: []uint64{107}}, 2},
		"by id":               {replay.Query{Migrations: []checkpoint.MigrationID{id(7)}}, 2},
		"by kind and node":    {replay.Query{Nodes: []uint64{107}, Kinds: []replay.Kind{replay.KindAbort}}, 1},
		"by time":             {replay.Query{SinceMS: 1802, UntilMS: 1802}, 1},
		"by seq":              {replay.Query{FromSeq: 175, ToSeq: 175}, 1},
		"by kind that is not": {replay.Query{Kinds: []replay.Kind{replay.KindEpochRaised}}, 0},
	} {
		opens := openCounter{fsys, map[string]int{}}
		reader, err := replay.OpenFS(opens)
		require.NoError(t, err)
		clear(opens.count)
		var covered replay.Coverage
		n := 0
		for f, err := range reader.Search(t.Context(), c.q, replay.SearchOptions{Rows: true, Covered: &covered}) {
			require.NoError(t, err)
			require.True(t, f.HasRow, name)
			require.True(t, f.Row.Facts.HasSource, name)
			n++
		}
		require.Equal(t, c.want, n, name)
		require.Equal(t, replay.Coverage{Read: 1, Unchecked: 39}, covered, "%s: only the last segment is read completely", name)
		read := 0
		for _, n := range opens.count {
			if n > 1 { // the first time for the segment's last header
				read++
			}
		}
		require.LessOrEqual(t, read, 3, "%s: the segments of the move, and the last one", name)
	}
	last, err := openFS(t, fsys).SearchLast(t.Context(), replay.Query{Kinds: []replay.Kind{replay.KindAbort}}, 3, replay.SearchOptions{Rows: true})
	require.NoError(t, err)
	require.Len(t, last, 3)
}
