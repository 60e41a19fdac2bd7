package torn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"reflect"
	"slices"

	"migrationlog/eventlog/segment"
	"migrationlog/internal/rebuild"
	"migrationlog/replay"
)

// maxReadBytes limits the bytes that are read for all tears together. A tear reads the last
// segment, so a large segment allows fewer tears.
const maxReadBytes = 128 << 20

// sectorBytes is the unit in which a device writes. In preallocated space, a torn write ends at a
// multiple of it. In a file that grows, it can end at any byte.
const sectorBytes = 512

// Tail has the last events of a log, whose writes can be torn: events of the last segment, and at
// least the last one. An earlier write cannot be torn, because a later one follows it.
type Tail struct {
	fsys      fs.FS
	dir       segment.Directory
	snapshots []segment.Snapshot
	name      string // of the last segment
	data      []byte // of the last segment
	writes    []write
}

// write is the entry of one event in the last segment.
type write struct {
	seq        uint64
	begin, end int // of the entry: the frame and the length before it
}

// Difference is a tear after which an opening does not find the history before the torn write.
type Difference struct {
	Seq     uint64 // of the torn event
	Segment string
	Bytes   int64  // the size of the segment that the tear has left
	Zeros   bool   // the rest of the segment is unused space; otherwise the file ends there
	Reason  string // the difference
}

// String returns the place and the difference.
func (d *Difference) String() string {
	rest := "the file ends there"
	if d.Zeros {
		rest = "the rest is zeros"
	}
	return fmt.Sprintf("segment %s, torn at byte %d (%s): %s", d.Segment, d.Bytes, rest, d.Reason)
}

// ReadTail reads the last events of a log. It takes no lock. It returns the errors of
// replay.OpenFS.
func ReadTail(fsys fs.FS) (*Tail, error) {
	dir, err := segment.ReadDirectory(fsys)
	if err != nil {
		return nil, err
	}
	t := &Tail{fsys: fsys, dir: dir}
	t.snapshots, _ = segment.ReadSnapshots(fsys, dir.Manifest.UUID, false)
	names, err := segment.Names(fsys)
	if err != nil || len(names) == 0 {
		return t, err
	}
	t.name = names[len(names)-1]
	if t.data, err = fs.ReadFile(fsys, path.Join(segment.WALDir, t.name)); err != nil {
		return nil, err
	}
	end := 0
	for item, err := range segment.NewScan(fsys, dir, segment.ScanOptions{Scope: segment.ScanTail}).Items() {
		if err != nil {
			return nil, err
		}
		if f := item.Frame; item.Damage == nil && int(f.Offset+f.Length()) <= len(t.data) {
			t.writes = append(t.writes, write{f.Seq, end, int(f.Offset + f.Length())})
			end = int(f.Offset + f.Length())
		}
	}
	t.writes = t.writes[len(t.writes)-t.affordable():]
	return t, nil
}

// affordable returns the number of the last writes that can be torn at each byte within the limit.
func (t *Tail) affordable() int {
	budget := maxReadBytes
	for n := range t.writes {
		w := t.writes[len(t.writes)-1-n]
		budget -= (w.end - w.begin) * w.end
		if budget < 0 {
			return max(n, 1)
		}
	}
	return len(t.writes)
}

// Seqs returns the first and the last event whose writes are torn. They are 0 if there is none.
func (t *Tail) Seqs() (first, last uint64) {
	if len(t.writes) == 0 {
		return 0, 0
	}
	return t.writes[0].seq, t.writes[len(t.writes)-1].seq
}

// Tears yields each tear of the write of an event: nil if an opening finds the history before it,
// and the difference otherwise. The parameter before is the fold of that history. If reading fails
// or ctx is canceled, the error is yielded last.
func (t *Tail) Tears(ctx context.Context, seq uint64, before *replay.Fold) iter.Seq2[*Difference, error] {
	return func(yield func(*Difference, error) bool) {
		i, ok := slices.BinarySearchFunc(t.writes, seq, func(w write, seq uint64) int { return int(int64(w.seq) - int64(seq)) })
		if !ok {
			return
		}
		for size := t.writes[i].begin; size < t.writes[i].end; size++ {
			for _, zeros := range []bool{false, true} {
				if zeros && size > t.writes[i].begin && size%sectorBytes != 0 {
					continue
				}
				reason, err := t.tear(seq, size, zeros, before)
				err = errors.Join(err, ctx.Err())
				var d *Difference
				if reason != "" && err == nil {
					d = &Difference{seq, t.name, int64(size), zeros, reason}
				}
				if !yield(d, err) || err != nil {
					return
				}
			}
		}
	}
}

// tear compares the fold of an opening with the history before. It returns the difference, or "".
// The watermark is the highest that a writer can have reached: all earlier events were
// acknowledged.
func (t *Tail) tear(seq uint64, size int, zeros bool, before *replay.Fold) (reason string, err error) {
	data := t.data[:size:size]
	if zeros {
		data = append(data, make([]byte, len(t.data)-size)...)
	}
	files := map[string][]byte{path.Join(segment.WALDir, t.name): data}
	var older []segment.Snapshot
	for _, s := range t.snapshots {
		if s.Last.Seq < seq {
			older = append(older, s)
		} else {
			files[path.Join(segment.SnapshotDir, s.Name())] = nil
		}
	}
	for _, name := range segment.WatermarkNames {
		files[name] = segment.AppendWatermark(nil, t.dir.Manifest.UUID, before.View.LastSeq())
	}
	torn := overlay{t.fsys, files}
	dir, err := segment.ReadDirectory(torn)
	if err != nil {
		return "", err
	}
	source := rebuild.Source{
		FS: torn, Directory: dir, Snapshots: older,
		Scan: func(scope segment.Scope) iter.Seq2[segment.Item, error] {
			return segment.NewScan(torn, dir, segment.ScanOptions{Locked: true, Scope: scope}).Items()
		},
	}
	fold, err := source.Fold()
	if err != nil {
		return "", err
	}
	return difference(before.Report(), fold.Report(), before, fold), nil
}

func difference(want, got replay.Report, before, fold *replay.Fold) string {
	switch {
	case fold.Last().Seq != before.Last().Seq:
		return fmt.Sprintf("the last event is #%d instead of #%d", fold.Last().Seq, before.Last().Seq)
	case !slices.Equal(want.InDoubt, got.InDoubt) || want.UnnamedInDoubt != got.UnnamedInDoubt:
		return "the torn write puts migrations in doubt"
	case !reflect.DeepEqual(before.View.All(), fold.View.All()):
		return fmt.Sprintf("the rows are not those after #%d", before.Last().Seq)
	}
	return ""
}
