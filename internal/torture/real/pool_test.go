package real_test

import (
	"bytes"
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// intactLog is a closed log and its content. Tests damage copies of it.
type intactLog struct {
	class  string
	uuid   uuid.UUID
	files  memory
	names  []string // sorted names of the files
	frames map[uint64]intactFrame
	last   uint64            // the highest number in use
	heads  map[string]uint64 // the numbers of the frames, by the bytes of their headers
}

type intactFrame struct {
	segment string // path of the segment
	offset  int64
	bytes   []byte
	event   checkpoint.Event
}

// pool returns closed logs of many shapes. The same random numbers produce the same bytes.
func pool(t *testing.T, r *rand.Rand) (logs []*intactLog) {
	uuid.SetRand(rand.NewChaCha8([32]byte{byte(r.Uint32())}))
	defer uuid.SetRand(nil)
	for _, p := range []struct {
		class       string
		events      int
		segmentSize int
		longEvery   int
		lossInside  bool
	}{
		{"no event", 0, 0, 0, false},
		{"one event", 1, 0, 0, false},
		{"one segment", 15, 0, 0, false},
		{"several segments", 40, 700, 0, false},
		{"one event per segment", 12, 1, 0, false},
		{"long reasons", 16, 9_000, 2, false},
		{"several segments, earlier losses", 30, 700, 0, true},
		{"one segment, earlier losses", 12, 0, 0, true},
	} {
		dir := memDir(t)
		opts := &migrationlog.Options{SegmentSize: p.segmentSize}
		a := newGenerator(r, 1)
		a.longEvery = p.longEvery
		fill(t, dir, opts, a, p.events)
		log := &intactLog{class: p.class}
		if p.lossInside {
			log.load(t, dir)
			loseSome(t, dir, r)
			fill(t, dir, opts, a, p.events/2)
		}
		log.load(t, dir)
		logs = append(logs, log)
	}
	return logs
}

// fill appends the given number of events.
func fill(t *testing.T, dir string, opts *migrationlog.Options, a *generator, events int) {
	s, err := migrationlog.Open(dir, opts)
	require.NoError(t, err)
	for events > 0 {
		receipt, err := write(s, a.event())
		require.NoError(t, err)
		if receipt.Appended() {
			events--
		}
	}
	require.NoError(t, s.Close())
}

// loseSome damages a frame in the middle of the log, and the last frame.
func loseSome(t *testing.T, dir string, r *rand.Rand) {
	paths, err := filepath.Glob(filepath.Join(dir, segment.WALDir, "0*"))
	require.NoError(t, err)
	for _, path := range []string{paths[len(paths)/2], paths[len(paths)-1]} {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		copy(b[len(b)/2:], noise(r, 10)) // so long that a later random damage cannot undo it
		copy(b[len(b)-10:], noise(r, 10))
		require.NoError(t, os.WriteFile(path, b, 0o600))
	}
}

// load reads the content of the log's directory. It keeps the highest number of earlier calls.
func (l *intactLog) load(t *testing.T, dir string) {
	l.files = files(t, dir)
	l.names = slices.Sorted(maps.Keys(l.files))
	l.frames, l.heads = map[uint64]intactFrame{}, map[string]uint64{}
	reader, err := replay.OpenFS(l.files)
	require.NoError(t, err)
	l.uuid = reader.Manifest().UUID
	for r, err := range reader.Records(context.Background(), replay.Query{}) {
		require.NoError(t, err)
		if r.Damage != nil {
			l.last = max(l.last, r.Damage.LastSeq)
			continue
		}
		l.last = max(l.last, r.Seq)
		name := segment.WALDir + "/" + r.Segment
		b := l.files[name][r.Offset : r.Offset+r.Length]
		l.frames[r.Seq] = intactFrame{segment: name, offset: r.Offset, bytes: b, event: r.Event}
		l.heads[string(b[:segment.HeaderBytes])] = r.Seq
	}
}

// survivors has the frames of a log that are intact in a damaged directory. It is found by a search
// for their bytes.
type survivors struct {
	inPlace          map[uint64]bool // frames that are intact in the file of their own segment
	anywhere         map[uint64]bool // frames that are intact in the file of any segment
	misplaced        bool            // a valid header is in another file or order than it was written
	inEarlierSegment bool            // a valid header is in the file of a segment before its own
}

func (l *intactLog) surviving(damaged memory) survivors {
	left := survivors{map[uint64]bool{}, map[uint64]bool{}, false, false}
	for name, b := range damaged {
		if _, ok := segment.ParseName(filepath.Base(name)); !ok || filepath.Dir(name) != segment.WALDir {
			continue
		}
		last, end := uint64(0), 0
		for at := 0; ; at++ {
			skip := bytes.Index(b[at:], magic)
			if skip < 0 {
				break
			}
			at += skip
			if len(b)-at < segment.HeaderBytes {
				break
			}
			seq, ok := l.heads[string(b[at:at+segment.HeaderBytes])]
			if !ok {
				continue
			}
			f := l.frames[seq]
			left.misplaced = left.misplaced || f.segment != name || seq <= last
			left.inEarlierSegment = left.inEarlierSegment || name < f.segment
			last = seq
			if at >= end && bytes.HasPrefix(b[at:], f.bytes) { // ignore a frame that overlaps the one before it
				end = at + len(f.bytes)
				left.anywhere[seq] = true
				left.inPlace[seq] = left.inPlace[seq] || f.segment == name
			}
		}
	}
	return left
}

var magic = []byte{0xF7, 'M', 'L', segment.FormatVersion}
