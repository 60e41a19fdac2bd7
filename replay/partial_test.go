package replay_test

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

const (
	testSegments      = 6
	testSegmentEvents = 8
)

// manySegments returns a log of several segments.
func manySegments(t testing.TB) fstest.MapFS {
	ids := []checkpoint.MigrationID{idA, idB, idC, idD}
	var segments [][]any
	for s := range testSegments {
		var frames []any
		for f := range testSegmentEvents {
			n := uint64(s*testSegmentEvents + f)
			id := ids[n%4]
			if n%4 == 3 {
				frames = append(frames, checkpoint.Removed{MigrationID: id, TimestampMS: 1000 + n})
				continue
			}
			frames = append(frames, upserted(t, id, checkpoint.CatchUp{VShardID: uint32(n % 4), LearnerLogIndexAtAdd: n}, 1000+n))
		}
		segments = append(segments, frames)
	}
	return logOf(t, segments...)
}

// damagedCopy returns a copy of a log with damage at one to three random places.
func damagedCopy(rng *rand.Rand, log fstest.MapFS) (copied fstest.MapFS, text string) {
	copied = fstest.MapFS{}
	for name, f := range log {
		copied[name] = &fstest.MapFile{Data: slices.Clone(f.Data)}
	}
	for range 1 + rng.IntN(3) {
		names, _ := segment.Names(copied)
		if len(names) == 0 {
			break
		}
		name := path.Join(segment.WALDir, names[rng.IntN(len(names))])
		f := copied[name]
		at := rng.IntN(max(len(f.Data), 1))
		switch kind := rng.IntN(6); {
		case len(f.Data) < 100:
		case kind == 0:
			f.Data = f.Data[:at]
			text += fmt.Sprintf(" cut %s at %d", name, at)
		case kind == 1 && len(names) > 1:
			delete(copied, name)
			text += " removed " + name
		case kind == 2:
			clear(f.Data[at:min(at+150, len(f.Data))])
			text += fmt.Sprintf(" zeros in %s at %d", name, at)
		case kind == 3: // bytes of another segment, which may have complete frames
			from := log[path.Join(segment.WALDir, segment.Name(1+testSegmentEvents*uint64(rng.IntN(testSegments))))].Data
			copy(f.Data[at:], from[rng.IntN(len(from)/2):])
			text += fmt.Sprintf(" misplaced in %s at %d", name, at)
		default:
			f.Data[at] ^= 1 << rng.IntN(8)
			text += fmt.Sprintf(" flip in %s at %d", name, at)
		}
	}
	return copied, text
}

// whole returns the result of a full scan.
func whole(t testing.TB, fsys fs.FS) (all []replay.Record, damaged bool) {
	reader, err := replay.OpenFS(fsys)
	require.NoError(t, err)
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		all = append(all, r)
		damaged = damaged || r.Damage != nil && !r.Damage.Torn
	}
	return all, damaged
}

// D5: Newest returns the last records of the full scan, or it asks for the full scan. It asks for it if
// the segments that it reads are damaged, and if frames are missing between the segments.
func TestD5_NewestAsTheFullScan(t *testing.T) {
	log := manySegments(t)
	used, refused := 0, 0
	for seed := range uint64(250) {
		rng := rand.New(rand.NewPCG(seed, 15))
		fsys, text := log, "intact"
		if seed > 0 {
			fsys, text = damagedCopy(rng, log)
		}
		all, damaged := whole(t, fsys)
		for _, n := range []int{1, 5, 20, 1000} {
			records, unread, ok, err := openFS(t, fsys).Newest(t.Context(), n)
			require.NoError(t, err)
			if !ok {
				refused++
				require.True(t, damaged || n == 1000, "seed %d: %s", seed, text)
				continue
			}
			used++
			require.Equal(t, all[max(0, len(all)-n):], records, "seed %d, n %d: %s", seed, n, text)
			require.Positive(t, unread)
			require.False(t, framesAreMissing(all), "seed %d, n %d: %s", seed, n, text)
		}
	}
	require.Greater(t, used, 50)
	require.Greater(t, refused, 100)
}

// framesAreMissing reports whether frames are missing without any bytes in their place.
func framesAreMissing(all []replay.Record) bool {
	return slices.ContainsFunc(all, func(r replay.Record) bool {
		return r.Damage != nil && r.Damage.Lost() > 0 && r.Damage.Length == 0
	})
}

// D5: Backward yields the records of the full scan in reverse order, whatever the damage is.
func TestD5_BackwardAsTheFullScan(t *testing.T) {
	log := manySegments(t)
	for seed := range uint64(250) {
		rng := rand.New(rand.NewPCG(seed, 16))
		fsys, text := log, "intact"
		if seed > 0 {
			fsys, text = damagedCopy(rng, log)
		}
		all, _ := whole(t, fsys)
		var visited, selected, backward []replay.Record
		for r, err := range openFS(t, fsys).Backward(t.Context(), func(r replay.Record) bool {
			visited = append(visited, r)
			if rng.IntN(3) == 0 {
				return false
			}
			selected = append(selected, r)
			return true
		}) {
			require.NoError(t, err)
			backward = append(backward, r)
		}
		require.Equal(t, all, visited, "seed %d: %s", seed, text)
		slices.Reverse(backward)
		require.Equal(t, selected, backward, "seed %d: %s", seed, text)
	}
}

// Backward returns an error if a segment changes between its two readings.
func TestBackward_ASegmentThatChanges(t *testing.T) {
	fsys := manySegments(t)
	var got error
	for _, err := range openFS(t, fsys).Backward(t.Context(), func(r replay.Record) bool {
		if r.Seq == testSegments*testSegmentEvents {
			name := path.Join(segment.WALDir, segment.Name(1))
			fsys[name] = &fstest.MapFile{Data: fsys[name].Data[:100]}
		}
		return true
	}) {
		got = err
	}
	require.ErrorContains(t, got, "changed while it was read")
}

// D10: a live reader yields exactly the records that a full scan has after its last event. This holds
// wherever it started and whatever the damage after that place is.
func TestD10_LiveReaderAsTheFullScan(t *testing.T) {
	log := manySegments(t)
	intact, _ := whole(t, log)
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 17))
		last := intact[rng.IntN(len(intact))]
		end := last.Offset + last.Length
		grown, text := damagedCopy(rng, log)
		for name, f := range log { // no damage before the place of the live reader
			if base := path.Base(name); base <= last.Segment {
				data := slices.Clone(f.Data)
				if now, ok := grown[name]; base == last.Segment && ok && int64(len(now.Data)) >= end {
					data = append(data[:end], now.Data[end:]...)
				}
				grown[name] = &fstest.MapFile{Data: data}
			}
		}
		fsys := fstest.MapFS{}
		for name, f := range log {
			if base := path.Base(name); base == last.Segment {
				fsys[name] = &fstest.MapFile{Data: append(slices.Clone(f.Data[:end]), make([]byte, 200)...)}
			} else if _, inWAL := segment.ParseName(base); !inWAL || base < last.Segment {
				fsys[name] = f
			}
		}
		before, damaged := whole(t, fsys)
		require.False(t, damaged)
		live := openFS(t, fsys).Live(before[len(before)-1], last.Seq+1)
		require.Empty(t, newRecords(t, live))

		clear(fsys)
		maps.Copy(fsys, grown)
		all, _ := whole(t, fsys)
		var want []replay.Record
		next := last.Seq + 1
		for _, r := range all {
			if d := r.Damage; d != nil && !d.Torn && d.FirstSeq >= next || d == nil && r.Seq >= next {
				want = append(want, r)
			}
		}
		require.Equal(t, want, newRecords(t, live), "seed %d, after %d: %s", seed, last.Seq, text)
		require.Empty(t, newRecords(t, live), "seed %d: %s", seed, text)
	}
}

func newRecords(t testing.TB, l *replay.LiveReader) (records []replay.Record) {
	for r, err := range l.New(t.Context()) {
		require.NoError(t, err)
		records = append(records, r)
	}
	return records
}

// A live reader of a log without an event yields the first events. A live reader stops with ErrReplaced if
// its last event is gone, or if the log has another id. It continues if a copy of the log replaced it.
func TestLive_Replaced(t *testing.T) {
	log := logOf(t, []any{upserted(t, idA, checkpoint.AddLearner{}, 1), upserted(t, idB, checkpoint.AddLearner{}, 2)})
	other := logOf(t, []any{upserted(t, idA, checkpoint.AddLearner{}, 1), upserted(t, idC, checkpoint.AddLearner{}, 2), upserted(t, idD, checkpoint.AddLearner{}, 3)})
	name := path.Join(segment.WALDir, segment.Name(1))
	last := recordsOf(t, openFS(t, log), replay.Query{})[1]
	manifest := segment.Manifest{UUID: checkpoint.MigrationID{7}}.Encode()

	empty := logOf(t, []any{})
	live := openFS(t, empty).Live(replay.Record{}, 0)
	require.Empty(t, newRecords(t, live))
	maps.Copy(empty, log)
	require.Len(t, newRecords(t, live), 2)

	for text, change := range map[string]func(fstest.MapFS){
		"a backup without the last event": func(m fstest.MapFS) { m[name] = &fstest.MapFile{Data: log[name].Data[:last.Offset]} },
		"another event with its number":   func(m fstest.MapFS) { m[name] = other[name] },
		"another log": func(m fstest.MapFS) {
			m[segment.ManifestName], m[segment.ManifestCopyName] = &fstest.MapFile{Data: manifest}, &fstest.MapFile{Data: manifest}
		},
		"the segment is gone":                  func(m fstest.MapFS) { delete(m, name) },
		"a later segment, without the present": func(m fstest.MapFS) { m[path.Join(segment.WALDir, segment.Name(9))] = m[name]; delete(m, name) },
	} {
		fsys := maps.Clone(log)
		live := openFS(t, fsys).Live(last, last.Seq+1)
		require.Empty(t, newRecords(t, live), text)
		change(fsys)
		var got error
		for _, err := range live.New(t.Context()) {
			got = err
		}
		require.ErrorIs(t, got, replay.ErrReplaced, text)
	}
	fsys := maps.Clone(log)
	live = openFS(t, fsys).Live(last, last.Seq+1)
	for name, f := range log {
		fsys[name] = &fstest.MapFile{Data: slices.Clone(f.Data)}
	}
	require.Empty(t, newRecords(t, live))
}

// countingFS counts the bytes that are read.
type countingFS struct {
	fs.FS
	bytes *int
}

func (c countingFS) Open(name string) (fs.File, error) {
	f, err := c.FS.Open(name)
	if _, isDir := f.(fs.ReadDirFile); isDir || err != nil {
		return f, err
	}
	return countedFile{f, c.bytes}, nil
}

type countedFile struct {
	fs.File
	bytes *int
}

func (f countedFile) Read(b []byte) (int, error) {
	n, err := f.File.Read(b)
	*f.bytes += n
	return n, err
}

func (f countedFile) ReadAt(b []byte, at int64) (int, error) {
	n, err := f.File.(io.ReaderAt).ReadAt(b, at)
	*f.bytes += n
	return n, err
}

// A live reader of an idle log reads its manifest and a few bytes, but not the segments.
func TestLive_AnIdleLogIsNotRead(t *testing.T) {
	log := manySegments(t)
	lastName := path.Join(segment.WALDir, segment.Name(1+(testSegments-1)*testSegmentEvents))
	log[lastName].Data = append(log[lastName].Data, make([]byte, 1<<20)...)
	bytes := 0
	reader, err := replay.OpenFS(countingFS{log, &bytes})
	require.NoError(t, err)
	all := recordsOf(t, reader, replay.Query{})
	require.Greater(t, bytes, 1<<20)
	live := reader.Live(all[len(all)-1], uint64(len(all))+1)
	bytes = 0
	for range 10 {
		require.Empty(t, newRecords(t, live))
	}
	require.Less(t, bytes, 10*5000)
}
