//go:build simulated

package simulated

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
	"migrationlog/internal/torture/simos"
	"migrationlog/replay"
)

// corruption is a disk with a log that Open has to repair.
type corruption struct {
	name         string
	image        *simos.Image
	known        history
	lost         []replay.SeqRange // the lost numbers that a report must list
	withTorn     []replay.SeqRange // the same, if a power cut leaves a part of the torn write after a hole
	torn         *replay.Record    // the frame that was cut short; nil if there is none
	acknowledged []replay.SeqRange // those of them that a report must list as acknowledged
	originals    []string          // bytes that no repair may delete
}

// corruptor applies one corruption to a copy of a small log.
type corruptor struct {
	t         *testing.T
	dir       string          // directory of the log
	records   []replay.Record // all records of the intact log
	watermark uint64
	gone      []uint64 // the numbers whose events are lost
	torn      bool     // the last frame was cut short; above the watermark it does not count as lost
	originals []string
}

// corruptions returns copies of one small log, each in a different state that Open repairs.
func corruptions(t *testing.T) []corruption {
	intact, known, records := smallLog(t)
	last := len(records) - 1
	middle := records[last/2].Segment
	var all []corruption
	for _, w := range []struct {
		name    string
		corrupt func(*corruptor)
	}{
		{"intact", func(s *corruptor) {}},
		{"torn in its body", func(s *corruptor) { s.tear(records[last].Length - 1) }},
		{"torn in its header", func(s *corruptor) { s.tear(5) }},
		{"torn in its prefix", func(s *corruptor) { s.tear(0) }},
		{"torn, but the last frame had been durable", func(s *corruptor) { s.tear(5); s.durable(s.last()) }},
		{"cut between two frames", func(s *corruptor) { s.cut(1) }},
		{"older segments with a newer snapshot", func(s *corruptor) { s.cut(1); s.writeWatermarks(s.last() - 1) }},
		{"older segments with a newer snapshot, its body damaged", func(s *corruptor) { s.cut(1); s.writeWatermarks(s.last() - 1); s.flipSnapshot() }},
		{"torn after a damaged frame, and the watermark too low", func(s *corruptor) {
			s.flip(last - 1)
			s.tear(records[last].Length - 1) // its header proves that the frame before it was durable
			s.writeWatermarks(1)
		}},
		{"last segment empty", func(s *corruptor) { s.cut(s.inLast()) }},
		{"zeros after the end", func(s *corruptor) { s.grow(600) }},
		{"first frame damaged", func(s *corruptor) { s.flip(0) }},
		{"a frame in the middle damaged", func(s *corruptor) { s.flip(last / 2) }},
		{"last frame damaged", func(s *corruptor) { s.flip(last) }},
		{"last frame damaged, above the watermark", func(s *corruptor) { s.flip(last); s.durable(s.last() - 1) }},
		{"torn and damaged", func(s *corruptor) { s.flip(last - 1); s.tear(5) }},
		{"watermark damaged", func(s *corruptor) { s.replace("WATERMARK", "watermark?") }},
		{"watermark missing", func(s *corruptor) { s.remove("WATERMARK") }},
		{"copy of the watermark damaged", func(s *corruptor) { s.replace("wal/WATERMARK", "watermark?") }},
		{"watermark too low", func(s *corruptor) { s.durable(2) }},
		{"new watermarks half written", func(s *corruptor) { s.put("WATERMARK.new", "half"); s.put("wal/WATERMARK.new", "half") }},
		{"watermark damaged, and cut between two frames", func(s *corruptor) { s.replace("WATERMARK", "watermark?"); s.cut(1) }},
		{"a length prefix damaged in the last segment", func(s *corruptor) { s.flipAt(last, -1) }},
		{"stray files", (*corruptor).stray},
		{"manifest damaged", func(s *corruptor) { s.replace("MANIFEST", "manifest?") }},
		{"manifest missing", func(s *corruptor) { s.remove("MANIFEST") }},
		{"copy of the manifest damaged", func(s *corruptor) { s.replace("wal/MANIFEST", "copy?") }},
		{"copy of the manifest missing", func(s *corruptor) { s.remove("wal/MANIFEST") }},
		{"new manifests half written", func(s *corruptor) { s.put("MANIFEST.new", "half"); s.put("wal/MANIFEST.new", "half") }},
		{"a segment missing", func(s *corruptor) { s.removeSegment(middle) }},
		{"an empty segment after the end", func(s *corruptor) { s.put(fmt.Sprintf("wal/%020d", records[last].Seq+1), "") }},
		{"newest snapshot damaged", func(s *corruptor) { s.put(s.snapshot(0), "snapshot?") }},
		{"snapshots damaged", func(s *corruptor) { s.put(s.snapshot(0), "snapshot?"); s.put(s.snapshot(1), "snapshot!") }},
		{"snapshots missing", func(s *corruptor) { s.remove(s.snapshot(0)); s.remove(s.snapshot(0)) }},
		{"a new snapshot half written", func(s *corruptor) { s.put("snapshots/00000000000000000099.new", "half") }},
		{"linked into a backup", func(s *corruptor) { s.backup() }},
		{"linked into a backup, and torn", func(s *corruptor) { s.tear(5); s.backup() }},
		{"linked into a backup, and the watermark too low", func(s *corruptor) { s.durable(2); s.backup() }},
		{"linked into a backup, last frame damaged", func(s *corruptor) { s.flip(last); s.backup() }},
		{"linked into a backup, and a copy of the segment half written", func(s *corruptor) {
			s.backup()
			s.put("wal/"+records[last].Segment+".new", "half")
		}},
		{"several corruptions at once", func(s *corruptor) {
			s.stray()
			s.replace("wal/MANIFEST", "copy?")
			s.flip(0)
			s.tear(5)
		}},
	} {
		disk := filepath.Join(memDir(t), "disk")
		require.NoError(t, intact.Write(disk))
		s := &corruptor{t: t, dir: filepath.Join(disk, logPath), records: records, watermark: records[last].Seq}
		w.corrupt(s)
		lost, acknowledged := s.reported(s.last()), s.reported(s.watermark)
		var torn *replay.Record
		if s.torn {
			torn = &records[last]
		}
		s.torn = false
		all = append(all, corruption{
			name: w.name, image: simos.ReadImage(disk), known: s.survivors(known), lost: lost, withTorn: s.reported(s.last()), torn: torn,
			acknowledged: acknowledged, originals: s.originals,
		})
	}
	nothing := &simos.Image{Entries: map[string]*simos.Image{}}
	return append(all, corruption{name: "no log yet", image: nothing, known: newHistory()})
}

// smallLog returns a closed log of at least three segments, with two frames in the last one.
func smallLog(t *testing.T) (*simos.Image, history, []replay.Record) {
	dir := memDir(t)
	disk := simos.Watch(dir)
	defer disk.Stop()
	s := newScript(dir, disk)
	require.NoError(t, s.open())
	for {
		require.NoError(t, s.write(s.drawEvent()))
		records := recordsIn(t, s.dir)
		if n := len(records); n < 8 || records[n-2].Segment != records[n-1].Segment {
			continue
		}
		require.NoError(t, s.close())
		return simos.ReadImage(dir), s.known, records
	}
}

func recordsIn(t *testing.T, dir string) (records []replay.Record) {
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	for r, err := range reader.Records(context.Background(), replay.Query{}) {
		require.NoError(t, err)
		records = append(records, r)
	}
	return records
}

func (s *corruptor) path(name string) string { return filepath.Join(s.dir, name) }

func (s *corruptor) segment(i int) string { return s.path("wal/" + s.records[i].Segment) }

func (s *corruptor) read(path string) []byte {
	b, err := os.ReadFile(path)
	require.NoError(s.t, err)
	return b
}

// put writes a file that no repair has to keep.
func (s *corruptor) put(name, text string) {
	require.NoError(s.t, os.WriteFile(s.path(name), []byte(text), 0o640))
}

// replace writes a file that a repair has to keep.
func (s *corruptor) replace(name, text string) {
	s.put(name, text)
	s.originals = append(s.originals, text)
}

func (s *corruptor) remove(name string) { require.NoError(s.t, os.Remove(s.path(name))) }

// snapshot returns the name of a snapshot of the log. The newest one has the index 0.
func (s *corruptor) snapshot(i int) string {
	names, err := segment.SnapshotNames(os.DirFS(s.dir))
	require.NoError(s.t, err)
	return segment.SnapshotDir + "/" + names[i]
}

// flipSnapshot damages the body of the newest snapshot.
func (s *corruptor) flipSnapshot() {
	name := s.snapshot(0)
	b := s.read(s.path(name))
	b[len(b)-1] ^= 1
	s.replace(name, string(b))
}

// backup makes a copy of the log with hard links. A repair must not change the copy's watermarks.
func (s *corruptor) backup() {
	to := s.dir + "-backup"
	require.NoError(s.t, filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		copied := to + strings.TrimPrefix(path, s.dir)
		if err != nil || d.IsDir() {
			return errors.Join(err, os.MkdirAll(copied, 0o750))
		}
		return os.Link(path, copied)
	}))
	for _, name := range append(slices.Clone(segment.WatermarkNames[:]), "wal/"+s.records[len(s.records)-1].Segment) {
		s.originals = append(s.originals, string(s.read(s.path(name))))
	}
}

func (s *corruptor) stray() {
	for _, name := range []string{"00000000000000000003.START", "00000000000000000001.END", "notes"} {
		s.replace("wal/"+name, "stray "+name)
	}
	require.NoError(s.t, os.Mkdir(s.path("wal/lost+found"), 0o750))
	s.replace("wal/lost+found/notes", "stray in a directory")
}

// tear cuts the last frame after this number of bytes.
func (s *corruptor) tear(bytes int64) {
	i := len(s.records) - 1
	r := s.records[i]
	kept := s.read(s.segment(i))[:r.Offset+bytes]
	s.originals = append(s.originals, string(kept[r.Offset-1:])) // starts with the last byte of the length prefix
	require.NoError(s.t, os.WriteFile(s.segment(i), kept, 0o640))
	s.gone, s.torn = append(s.gone, r.Seq), true
	s.durable(r.Seq - 1)
}

// cut removes the last frames.
func (s *corruptor) cut(frames int) {
	kept := s.records[:len(s.records)-frames]
	for _, r := range s.records[len(kept):] {
		s.gone = append(s.gone, r.Seq)
	}
	end := int64(0)
	if r := kept[len(kept)-1]; r.Segment == s.records[len(kept)].Segment {
		end = r.Offset + r.Length
	}
	require.NoError(s.t, os.Truncate(s.segment(len(s.records)-1), end))
}

// inLast returns the number of frames in the last segment.
func (s *corruptor) inLast() (n int) {
	for _, r := range s.records {
		if r.Segment == s.records[len(s.records)-1].Segment {
			n++
		}
	}
	return n
}

func (s *corruptor) last() uint64 { return s.records[len(s.records)-1].Seq }

// durable sets the watermark to a lower or higher number. It removes the snapshots of later events,
// because they would prove that those events were durable.
func (s *corruptor) durable(seq uint64) {
	s.watermark = seq
	names, err := segment.SnapshotNames(os.DirFS(s.dir))
	require.NoError(s.t, err)
	for _, name := range names {
		if name > segment.Name(seq) {
			s.remove(segment.SnapshotDir + "/" + name)
		}
	}
	s.writeWatermarks(seq)
}

func (s *corruptor) writeWatermarks(seq uint64) {
	reader, err := replay.Open(s.dir)
	require.NoError(s.t, err)
	for _, name := range segment.WatermarkNames {
		s.put(name, string(segment.AppendWatermark(nil, reader.Manifest().UUID, seq)))
	}
}

func (s *corruptor) grow(bytes int) {
	i := len(s.records) - 1
	require.NoError(s.t, os.WriteFile(s.segment(i), append(s.read(s.segment(i)), make([]byte, bytes)...), 0o640))
}

// flip damages the end of a frame's body.
func (s *corruptor) flip(i int) {
	s.flipAt(i, s.records[i].Length-1)
	s.gone = append(s.gone, s.records[i].Seq)
}

// flipAt damages one byte of a frame. The offset is relative to the start of the frame.
func (s *corruptor) flipAt(i int, at int64) {
	r := s.records[i]
	b := s.read(s.segment(i))
	b[r.Offset+at] ^= 0x10
	require.NoError(s.t, os.WriteFile(s.segment(i), b, 0o640))
	s.originals = append(s.originals, string(b[r.Offset-1:r.Offset+r.Length]))
}

func (s *corruptor) removeSegment(name string) {
	s.remove("wal/" + name)
	for _, r := range s.records {
		if r.Segment == name {
			s.gone = append(s.gone, r.Seq)
		}
	}
}

// survivors returns the history of the log after the corruption.
func (s *corruptor) survivors(known history) history {
	known = known.clone()
	known.lost = map[uint64]bool{}
	for _, seq := range s.gone {
		delete(known.may, numberedEvent{seq, known.must[seq]})
		delete(known.must, seq)
		known.lost[seq] = true
	}
	return known
}

// reported returns the numbers up to last that a report must list as lost.
func (s *corruptor) reported(last uint64) (lost []replay.SeqRange) {
	gone := slices.Sorted(slices.Values(s.gone))
	if s.torn && s.watermark < s.last() {
		gone = gone[:len(gone)-1]
	}
	for _, seq := range gone {
		if n := len(lost); seq > last {
			break
		} else if n > 0 && lost[n-1].Last == seq-1 {
			lost[n-1].Last = seq
		} else {
			lost = append(lost, replay.SeqRange{First: seq, Last: seq})
		}
	}
	return lost
}
