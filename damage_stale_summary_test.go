package migrationlog_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
)

// divergedLog returns a closed log that was restored from a backup and written again, and index/ of
// the copy before that. Both copies have the same first four frames. After that, they have frames of
// the same sizes, but of other migrations. The copy has no snapshots.
func divergedLog(t *testing.T) (dir, staleIndex string, shared []checkpoint.MigrationID) {
	base := memDir(t)
	dir, backup, staleIndex := filepath.Join(base, "log"), filepath.Join(base, "backup"), filepath.Join(base, "index")
	opts := &migrationlog.Options{SegmentSize: 8000}
	s := open(t, dir, opts)
	for i := range byte(4) {
		id := checkpoint.MigrationID{1, i}
		upsert(t, s, id, 0, addLearner)
		shared = append(shared, id)
	}
	require.NoError(t, s.Close())
	require.NoError(t, os.CopyFS(backup, os.DirFS(dir)))

	write := func(turns ...checkpoint.MigrationID) {
		s := open(t, dir, opts)
		for i := range 200 {
			upsert(t, s, turns[min(i, len(turns)-1)], uint32(i%2)+1, addLearner)
		}
		require.NoError(t, s.Close())
		s = open(t, dir, opts)
		s.AwaitSummaries()
		require.NoError(t, s.Close())
	}
	write(shared[0])
	require.NoError(t, os.CopyFS(staleIndex, os.DirFS(filepath.Join(dir, segment.SummaryDir))))
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.CopyFS(dir, os.DirFS(backup)))
	require.NoError(t, os.CopyFS(filepath.Join(dir, segment.SummaryDir), os.DirFS(staleIndex)))
	write(shared[1], shared[2], shared[3], checkpoint.MigrationID{2})
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots")))
	return dir, staleIndex, shared
}

// D5: index/ of the time after a backup remains when the backup is restored. The copies have the same
// first frames. Another row than the lost one must not count as certain because of the old summary.
func TestD5_AttributedByASummary_OfADivergedCopy(t *testing.T) {
	t.Parallel()
	dir, staleIndex, shared := divergedLog(t)
	destroyFrom(t, dir, firstSegment, 5)
	doubts := func(index string) (all []projection.Doubt) {
		require.NoError(t, os.RemoveAll(filepath.Join(dir, segment.SummaryDir)))
		if index != "" {
			require.NoError(t, os.CopyFS(filepath.Join(dir, segment.SummaryDir), os.DirFS(index)))
		}
		s := open(t, copyDir(t, dir), nil)
		defer s.Close()
		for _, id := range shared {
			all = append(all, s.Doubt(id))
		}
		require.Equal(t, index == "" || index == staleIndex, s.Report().UnnamedInDoubt)
		return all
	}
	ownIndex := filepath.Join(memDir(t), "index")
	require.NoError(t, os.CopyFS(ownIndex, os.DirFS(filepath.Join(dir, segment.SummaryDir))))
	const none, inDoubt = projection.None, projection.InDoubt
	require.Equal(t, []projection.Doubt{inDoubt, inDoubt, inDoubt, inDoubt}, doubts(""), "no summary")
	require.Equal(t, []projection.Doubt{inDoubt, inDoubt, inDoubt, inDoubt}, doubts(staleIndex), "the writer was killed before it replaced the summary")
	require.Equal(t, []projection.Doubt{none, inDoubt, inDoubt, inDoubt}, doubts(ownIndex), "the writer has replaced the summary")
}

// destroyFrom overwrites a segment with zeros, from the entry with this number to the end.
func destroyFrom(t testing.TB, dir, name string, seq uint64) {
	path := segmentPath(dir, name)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	first, _ := segment.ParseName(name)
	m, _, err := segment.ReadManifest(os.DirFS(dir))
	require.NoError(t, err)
	l := summarizedLog{log: m.UUID, first: first}
	clear(data[l.entryAt(t, data, seq):])
	require.NoError(t, os.WriteFile(path, data, 0o600))
}

// entryAt returns the offset of an entry in the content of the damaged segment while it was intact.
func (l *summarizedLog) entryAt(t testing.TB, data []byte, seq uint64) (at int) {
	end := 0
	_, intact := segment.Walk(data, l.log, l.first, func(h segment.Header, frame []byte) {
		if h.Seq == seq {
			at = end
		}
		end += segment.EntryBytes(len(frame))
	})
	require.True(t, intact)
	require.NotZero(t, at)
	return at
}

// D5: an event is attributed only if a frame after it shows that the summary describes this segment.
func TestD5_AttributedByASummary_EvidenceAfterTheLoss(t *testing.T) {
	l := newSummarizedLog(t)
	name, next := "wal/"+l.damaged, "wal/"+segment.Name(l.last+1)
	intact := l.files[name].Data
	second, third := l.entryAt(t, intact, l.first+1), l.entryAt(t, intact, l.first+2)
	zeroed := func(data []byte, from, to int) []byte {
		data = bytes.Clone(data)
		clear(data[from:to])
		return data
	}
	middle := l.with(name, zeroed(intact, second, third))
	tail := l.with(name, zeroed(intact, second, len(intact)))
	short := l.with(name, intact[:second+10])
	shortWithHole := l.with(name, zeroed(intact, second, third)[:len(intact)-10])
	nextDamaged := zeroed(l.files[next].Data, 0, 20)
	stale := l.summaryOf(t, l.damaged, intact)
	stale.NextHeaderCRC32C++
	unknown := stale
	unknown.NextHeaderCRC32C = 0
	for what, c := range map[string]struct {
		log        *summarizedLog
		attributed bool
	}{
		"the tail":                                      {tail, true},
		"the tail, and the next frame":                  {tail.with(next, nextDamaged), false},
		"the tail, before another next frame":           {tail.with("index/"+l.damaged, stale.Encode(l.log)), false},
		"the tail, before an unknown next frame":        {tail.with("index/"+l.damaged, unknown.Encode(l.log)), false},
		"the middle":                                    {middle, true},
		"the middle, and the next frame":                {middle.with(next, nextDamaged), true},
		"the middle, before another next frame":         {middle.with("index/"+l.damaged, stale.Encode(l.log)), false},
		"the middle, of a longer segment":               {l.with(name, append(zeroed(intact, second, third), make([]byte, 40)...)), false},
		"cut short":                                     {short, true},
		"cut short, and the next frame":                 {short.with(next, nextDamaged), false},
		"cut short, and the middle":                     {shortWithHole, true},
		"cut short, and the middle, and the next frame": {shortWithHole.with(next, nextDamaged), false},
	} {
		view, report := c.log.read(t)
		plainView, plain := c.log.withoutSummaries().read(t)
		requireSameIntegrity(t, 0, plain, report)
		l.requireSafe(t, 0, view, report)
		require.Equal(t, c.attributed, unattributed(view, l.first+1) == 0, what)
		if !c.attributed {
			require.Equal(t, plain, report, what)
			require.Equal(t, doubts(plainView), doubts(view), what)
		}
	}
}

// unattributed returns the number of lost events of a run that begins with seq, if that one is
// unattributed.
func unattributed(view *projection.View, seq uint64) uint64 {
	for first, last := range view.Unattributed() {
		if first <= seq && seq <= last {
			return last - seq + 1
		}
	}
	return 0
}

// D5: a later frame is linked to a lost event that the summary gives to another migration. All other
// headers agree. The summary then attributes nothing.
func TestD5_AttributedByASummary_LinksContradict(t *testing.T) {
	l := newSummarizedLog(t)
	require.Equal(t, uint64(6), l.first)
	name := "wal/" + l.damaged
	intact := l.files[name].Data
	var frames [][]byte
	_, ok := segment.Walk(intact, l.log, l.first, func(_ segment.Header, frame []byte) { frames = append(frames, frame) })
	require.True(t, ok)
	other := []byte{} // the first two events in the other order
	for i, h := range []segment.Header{{Seq: 6}, {Seq: 7}} {
		body := segment.NewBody(frames[1-i][segment.HeaderBytes:])
		frame := segment.AppendFrame(nil, &l.log, h, body)
		other = append(binary.AppendUvarint(other, uint64(len(frame))), frame...)
	}
	other = append(other, intact[len(other):]...)
	damaged := bytes.Clone(intact)
	clear(damaged[:l.entryAt(t, intact, 8)])
	l = l.with(name, damaged).with("index/"+l.damaged, l.summaryOf(t, l.damaged, other).Encode(l.log))

	view, report := l.read(t)
	plainView, plain := l.withoutSummaries().read(t)
	require.Equal(t, plain, report)
	require.Equal(t, doubts(plainView), doubts(view))
	require.Equal(t, projection.InDoubt, view.Doubt(checkpoint.MigrationID{3}))
	l.requireSafe(t, 0, view, report)
}
