package replay

import (
	"context"
	"fmt"
	"io/fs"
	"iter"
	"os"

	"migrationlog/eventlog/segment"
	"migrationlog/projection"
)

// Reader reads the history in one log directory. It holds nothing open and is
// safe for concurrent use.
type Reader struct {
	fsys fs.FS
	dir  segment.Directory // as it was when the reader was opened
}

// Open returns a reader of the log in dir, without taking a lock or writing
// anything. It returns fs.ErrNotExist for a missing directory,
// segment.ErrNotALog, segment.ErrIsWALDir, segment.ErrManifestLost, segment.ErrNewerFormat, or an
// I/O error. If a frame is of a newer version, reading it returns segment.ErrNewerFormat.
func Open(dir string) (*Reader, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s: %w: it is a file", dir, segment.ErrNotALog)
	}
	r, err := OpenFS(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return r, nil
}

// OpenFS is Open for a log in any file system, such as an archive.
func OpenFS(fsys fs.FS) (*Reader, error) {
	dir, err := segment.ReadDirectory(fsys)
	if err != nil {
		return nil, err
	}
	return &Reader{fsys: fsys, dir: dir}, nil
}

// Manifest is the log's identity.
func (r *Reader) Manifest() segment.Manifest { return r.dir.Manifest }

// NewFold returns the fold of none of the log's records. It has read the snapshots, and
// reports those that are damaged.
func (r *Reader) NewFold() *Fold {
	snapshots, damaged := segment.ReadSnapshots(r.fsys, r.dir.Manifest.UUID, true)
	fold := NewFold(r.dir, snapshots)
	for _, d := range damaged {
		fold.AddDamage(d)
	}
	return fold
}

// Records yields the records that the query chooses, in the order of their
// numbers. Damage is a record in that order; damage outside the segments comes
// first. An error, the last thing yielded, is a failure to read or ctx's.
func (r *Reader) Records(ctx context.Context, q Query) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		m := NewMatcher(q)
		for rec, err := range r.all(ctx, q.firstSeq(), q.excludes) {
			if err != nil {
				yield(Record{}, err)
				return
			}
			if (Point{Seq: q.ToSeq}).before(rec) {
				return
			}
			if m.Match(rec) && !yield(rec, nil) {
				return
			}
		}
	}
}

// all yields all records from about that number on, but for whole frames whose bodies
// are excluded.
func (r *Reader) all(ctx context.Context, fromSeq uint64, excludes func(body []byte) bool) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for item, err := range segment.NewScan(r.fsys, r.dir, segment.ScanOptions{From: fromSeq}).Items() {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(Record{}, err)
				return
			}
			if item.Damage == nil && excludes(item.Frame.Body) {
				continue
			}
			if !yield(Decode(item), nil) {
				return
			}
		}
	}
}

// Point is a moment in a history. The zero value is its end.
type Point struct {
	Seq uint64 // after the record with this number
	// TimeMS is just before the first record whose wall clock is later than this,
	// in Unix milliseconds. Numbers order the history, and clocks do not: a record
	// behind that one belongs to the future even if its clock says otherwise.
	TimeMS uint64
}

func (p Point) before(r Record) bool {
	seq := r.Seq
	if r.Damage != nil {
		seq = r.Damage.FirstSeq
	}
	return p.Seq != 0 && seq > p.Seq || p.TimeMS != 0 && r.WallMS() > p.TimeMS
}

// StateAt returns the view at a point in the history. It returns an I/O error
// or ctx's; damage is noted in the view.
func (r *Reader) StateAt(ctx context.Context, p Point) (*projection.View, error) {
	fold, err := r.FoldTo(ctx, p)
	if err != nil {
		return nil, err
	}
	return fold.View, nil
}

// FoldTo returns the view at a point in the history with the report of what
// was read up to there. Its errors are StateAt's.
func (r *Reader) FoldTo(ctx context.Context, p Point) (*Fold, error) {
	fold := r.NewFold()
	defer func() {
		//mutant:manifest-meanwhile
		if m, _, err := segment.ReadManifest(r.fsys); err == nil { // a writer may have opened the log meanwhile
			fold.losses.SetSkipped(m.Skipped)
		}
	}()
	for rec, err := range r.all(ctx, 0, func([]byte) bool { return false }) {
		if err != nil {
			return nil, err
		}
		if p.before(rec) {
			break
		}
		fold.Add(rec)
	}
	return fold, nil
}

// Snapshot returns the view of the newest sound snapshot, also where the log has lost the event
// that it ends with, or never had it on the device: then nobody goes by it but who asks for
// it. It returns fs.ErrNotExist where there is none.
func (r *Reader) Snapshot() (*projection.View, error) {
	snapshots, _ := segment.ReadSnapshots(r.fsys, r.dir.Manifest.UUID, false)
	for _, s := range snapshots {
		if view, err := Restore(s); err == nil {
			return view, nil
		}
	}
	return nil, fmt.Errorf("no intact snapshot in %s/ (verify lists the damaged ones): %w", segment.SnapshotDir, fs.ErrNotExist)
}

// Verify reads every frame of the log, and its snapshots, and reports what is damaged. It returns
// an I/O error or ctx's.
func (r *Reader) Verify(ctx context.Context) (Report, error) {
	fold, err := r.FoldTo(ctx, Point{})
	if err != nil {
		return Report{}, err
	}
	return fold.Report(), nil
}
