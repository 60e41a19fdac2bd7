package migrationlog_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/summary"
	"migrationlog/projection"
	"migrationlog/recovery"
	"migrationlog/replay"
)

// summarizedLog is a log in memory with three migrations in several segments, each of which has a
// summary, except the last. It has no snapshots. The damaged segment has the last event of one
// migration and the only event of another.
type summarizedLog struct {
	files    fstest.MapFS
	log      uuid.UUID
	owners   map[uint64]checkpoint.MigrationID
	rows     map[checkpoint.MigrationID]checkpoint.Checkpoint
	lastSeqs map[checkpoint.MigrationID]uint64
	damaged  string // the name of the segment to damage
	first    uint64 // its numbers
	last     uint64
}

func newSummarizedLog(t testing.TB) *summarizedLog {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, &migrationlog.Options{SegmentSize: 450})
	l := &summarizedLog{
		files: fstest.MapFS{}, owners: map[uint64]checkpoint.MigrationID{},
		rows: map[checkpoint.MigrationID]checkpoint.Checkpoint{}, lastSeqs: map[checkpoint.MigrationID]uint64{},
	}
	x, y, z := checkpoint.MigrationID{1}, checkpoint.MigrationID{2}, checkpoint.MigrationID{3}
	for i, w := range []struct {
		id checkpoint.MigrationID
		p  checkpoint.Payload
	}{
		{x, addLearner}, {y, addLearner}, {x, catchUp}, {y, catchUp}, {x, addLearner}, // the first segment
		{x, catchUp}, {z, addLearner}, {y, addLearner}, {x, addLearner}, {x, catchUp}, // the damaged one
		{x, addLearner}, {x, catchUp}, {x, addLearner}, {x, catchUp}, {x, addLearner}, {x, catchUp}, {x, addLearner},
	} {
		seq := upsert(t, s, w.id, uint32(i), w.p).Seq
		l.owners[seq], l.lastSeqs[w.id] = w.id, seq
		l.rows[w.id], _ = s.Get(w.id)
	}
	require.NoError(t, s.Close())

	fsys := os.DirFS(dir)
	names, err := segment.Names(fsys)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(names), 3)
	l.damaged = names[1]
	l.first, _ = segment.ParseName(names[1])
	l.last, _ = segment.ParseName(names[2])
	l.last--
	require.LessOrEqual(t, l.first, uint64(7), "the only event of z")
	require.GreaterOrEqual(t, l.last, uint64(8), "the last event of y")
	m, _, err := segment.ReadManifest(fsys)
	require.NoError(t, err)
	l.log = m.UUID
	for name := range hashes(t, dir) {
		if !strings.HasPrefix(name, "snapshots/") && name != "LOCK" {
			b, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			l.files[name] = &fstest.MapFile{Data: b}
		}
	}
	for _, name := range names[:len(names)-1] {
		l.files["index/"+name] = &fstest.MapFile{Data: l.summaryOf(t, name, l.files["wal/"+name].Data).Encode(l.log)}
	}
	return l
}

// summaryOf returns the summary of a segment's content. It names the first frame of the next segment.
func (l *summarizedLog) summaryOf(t testing.TB, name string, data []byte) segment.Summary {
	first, _ := segment.ParseName(name)
	built, ok := summary.Build(data, l.log, first, noPrior)
	require.True(t, ok)
	built.NextHeaderCRC32C, ok = segment.FirstHeaderCRC32C(l.files, segment.Name(built.LastSeq+1), l.log)
	require.True(t, ok)
	return built
}

func noPrior(uint64, checkpoint.MigrationID) (summary.Migration, bool) {
	return summary.Migration{}, false
}

// with returns a copy of the log in which a file has another content. A nil content removes it.
func (l *summarizedLog) with(name string, data []byte) *summarizedLog {
	changed := *l
	changed.files = maps.Clone(l.files)
	changed.files[name] = &fstest.MapFile{Data: data}
	if data == nil {
		delete(changed.files, name)
	}
	return &changed
}

// renamed returns a copy of the log in which a segment has another number in its name.
func (l *summarizedLog) renamed(t testing.TB, from, to uint64) *summarizedLog {
	name := "wal/" + segment.Name(from)
	require.Contains(t, l.files, name)
	return l.with("wal/"+segment.Name(to), l.files[name].Data).with(name, nil)
}

func (l *summarizedLog) withoutSummaries() *summarizedLog {
	changed := *l
	changed.files = maps.Clone(l.files)
	maps.DeleteFunc(changed.files, func(name string, _ *fstest.MapFile) bool { return strings.HasPrefix(name, "index/") })
	return &changed
}

func (l *summarizedLog) read(t testing.TB) (*projection.View, replay.Report) {
	reader, err := replay.OpenFS(l.files)
	require.NoError(t, err)
	fold, err := reader.FoldTo(t.Context(), replay.Point{})
	require.NoError(t, err)
	return fold.View, fold.Report()
}

// requireSafe checks that no migration counts as not in doubt if its last event is lost or its row
// is wrong.
func (l *summarizedLog) requireSafe(t testing.TB, at int, view *projection.View, report replay.Report) {
	lost := map[uint64]bool{}
	for _, r := range report.Lost {
		for seq := r.First; seq <= r.Last; seq++ {
			lost[seq] = true
		}
	}
	for id, lastSeq := range l.lastSeqs {
		row, ok := view.Get(id)
		if lost[lastSeq] || !ok || row.Checkpoint != l.rows[id] {
			require.Equal(t, projection.InDoubt, view.Doubt(id), "byte %d, migration %v", at, id[0])
			require.Contains(t, append(report.InDoubt, withoutRow(view, report)...), id)
		}
	}
}

// withoutRow returns all migrations without a row if the report puts them in doubt.
func withoutRow(view *projection.View, report replay.Report) (ids []checkpoint.MigrationID) {
	for i := range byte(10) {
		id := checkpoint.MigrationID{i}
		if report.UnnamedInDoubt && view.Latest(id) == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// requireOnlyOwners checks that only the migrations that lost an event are in doubt.
func (l *summarizedLog) requireOnlyOwners(t testing.TB, at int, view *projection.View, report replay.Report) {
	owners := map[checkpoint.MigrationID]bool{}
	for _, r := range report.Lost {
		for seq := r.First; seq <= r.Last; seq++ {
			owners[l.owners[seq]] = true
		}
	}
	require.False(t, report.UnnamedInDoubt, "byte %d", at)
	for i := range byte(10) {
		id := checkpoint.MigrationID{i}
		if !owners[id] {
			require.Equal(t, projection.None, view.Doubt(id), "byte %d, migration %v", at, i)
		}
	}
}

// requireSameIntegrity checks that the summaries change nothing but the doubt.
func requireSameIntegrity(t testing.TB, at int, want, got replay.Report) {
	want.InDoubt, want.Superseded, want.UnnamedInDoubt = got.InDoubt, got.Superseded, got.UnnamedInDoubt
	require.Equal(t, want, got, "byte %d", at)
}

// D5: if a bit of a segment is flipped, the segment's summary shows which migration lost an event,
// and only that migration is in doubt.
func TestD5_AttributedByASummary_EveryBitOfTheSegment(t *testing.T) {
	l := newSummarizedLog(t)
	name := "wal/" + l.damaged
	intact, attributed := l.files[name].Data, 0
	for bit := range 8 * len(intact) {
		data := bytes.Clone(intact)
		data[bit/8] ^= 1 << (bit % 8)
		damaged := l.with(name, data)
		view, report := damaged.read(t)
		plainView, plain := damaged.withoutSummaries().read(t)
		requireSameIntegrity(t, bit/8, plain, report)
		l.requireSafe(t, bit/8, view, report)
		l.requireSafe(t, bit/8, plainView, plain)
		l.requireOnlyOwners(t, bit/8, view, report)
		if plain.UnnamedInDoubt {
			attributed++
		}
	}
	require.NotZero(t, attributed)
}

// D5: a damaged summary attributes an event to the right migration, or to none.
func TestD5_AttributedByASummary_EveryBitOfTheSummary(t *testing.T) {
	l := newSummarizedLog(t)
	data := bytes.Clone(l.files["wal/"+l.damaged].Data)
	data[len(data)/2] ^= 1
	l = l.with("wal/"+l.damaged, data)
	view, report := l.read(t)
	plainView, plain := l.withoutSummaries().read(t)
	require.NotEqual(t, plain.UnnamedInDoubt, report.UnnamedInDoubt)
	intact, unused := l.files["index/"+l.damaged].Data, 0
	for bit := range 8 * len(intact) {
		data := bytes.Clone(intact)
		data[bit/8] ^= 1 << (bit % 8)
		gotView, got := l.with("index/"+l.damaged, data).read(t)
		want, wantView := report, view
		if got.UnnamedInDoubt {
			want, wantView = plain, plainView
			unused++
		}
		require.Equal(t, want, got, "byte %d", bit/8)
		require.Equal(t, doubts(wantView), doubts(gotView), "byte %d", bit/8)
	}
	require.Greater(t, unused, 4*len(intact))
}

func doubts(view *projection.View) (all []projection.Doubt) {
	for i := range byte(5) {
		all = append(all, view.Doubt(checkpoint.MigrationID{i}))
	}
	return all
}

// D5: a summary of another segment, of a diverged copy or of another log attributes nothing, nor
// does one of a segment that is missing or has no intact header.
func TestD5_AttributedByASummary_OnlyIfItAgrees(t *testing.T) {
	l := newSummarizedLog(t)
	intact := l.files["wal/"+l.damaged].Data
	destroyed := bytes.Clone(intact)
	destroyed[len(intact)/2] ^= 1
	other := segmentOf(t, l, intact, func(h *segment.Header) { h.DurableThrough = 0 })
	first := l.summaryOf(t, l.damaged, other)
	names := slices.Sorted(maps.Keys(l.files))
	for name, changed := range map[string]*summarizedLog{
		"a diverged copy":         l.with("wal/"+l.damaged, destroyed).with("index/"+l.damaged, first.Encode(l.log)),
		"another log":             l.with("wal/"+l.damaged, destroyed).with("index/"+l.damaged, first.Encode(uuid.UUID{5})),
		"another segment":         l.with("wal/"+l.damaged, destroyed).with("index/"+l.damaged, l.files[names[slices.Index(names, "index/"+l.damaged)-1]].Data),
		"a segment that is empty": l.with("wal/"+l.damaged, []byte{}),
		"a segment of zeros":      l.with("wal/"+l.damaged, make([]byte, len(intact))),
		"a missing segment":       l.with("wal/"+l.damaged, nil),
		"a segment that no other one follows at its end": l.with("wal/"+l.damaged, destroyed).renamed(t, l.last+1, l.last+2),
	} {
		view, report := changed.read(t)
		plainView, plain := changed.withoutSummaries().read(t)
		require.True(t, plain.UnnamedInDoubt, name)
		require.Equal(t, plain, report, name)
		require.Equal(t, doubts(plainView), doubts(view), name)
	}
	_, report := l.with("wal/"+l.damaged, destroyed).read(t)
	require.False(t, report.UnnamedInDoubt, "the summary itself agrees")
}

// segmentOf returns a segment with the same events and other headers.
func segmentOf(t testing.TB, l *summarizedLog, data []byte, change func(*segment.Header)) (out []byte) {
	_, intact := segment.Walk(data, l.log, l.first, func(h segment.Header, frame []byte) {
		change(&h)
		frame = segment.AppendFrame(nil, &l.log, h, segment.NewBody(frame[segment.HeaderBytes:]))
		out = append(binary.AppendUvarint(out, uint64(len(frame))), frame...)
	})
	require.True(t, intact)
	return out
}

// requireAsks checks whether a recovery asks for moves of the cluster that have no row.
func requireAsks(t testing.TB, s *migrationlog.Store, want bool) {
	results, err := s.Recover(t.Context(), recovery.Policy{AbortTimeout: 1 << 62}, migrationlog.Handlers{
		Compensate: func(context.Context, migrationlog.Step) error { return nil },
	})
	require.NoError(t, err)
	asks := slices.ContainsFunc(results, func(r migrationlog.Recovered) bool {
		return r.Decision.Reason == recovery.UnnamedInDoubt
	})
	require.Equal(t, want, asks)
}

// D5: a store has the same doubt as verify. A recovery asks for a migration that has lost its row.
func TestD5_AttributedByASummary_InTheStore(t *testing.T) {
	l := newSummarizedLog(t)
	intact := l.files["wal/"+l.damaged].Data
	for at := 3; at < len(intact); at += 37 {
		data := bytes.Clone(intact)
		data[at] ^= 1
		damaged := l.with("wal/"+l.damaged, data)
		dir := filepath.Join(memDir(t), "log")
		require.NoError(t, os.CopyFS(dir, damaged.files))
		s := open(t, dir, nil)
		report := s.Report()
		scrubbed, err := s.Scrub(t.Context())
		require.NoError(t, err)
		view, want := damaged.read(t)
		require.Equal(t, want.InDoubt, report.InDoubt)
		require.Equal(t, want.InDoubt, scrubbed.InDoubt)
		require.Equal(t, want.UnnamedInDoubt, report.UnnamedInDoubt)
		l.requireOnlyOwners(t, at, view, report)
		for id := range l.rows {
			require.Equal(t, view.Doubt(id), s.Doubt(id))
		}
		requireAsks(t, s, len(view.InDoubtWithoutRow()) > 0)
		require.NoError(t, s.Close())
	}
}
