package replay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"

	"migrationlog/eventlog/segment"
	"migrationlog/projection"
)

// Reader reads the history in one log directory. It keeps no file open and is safe for concurrent
// use.
type Reader struct {
	fsys fs.FS
	dir  segment.Directory // as it was when the reader was opened
}

// Open returns a reader of the log in dir. It takes no lock and writes nothing. A relative dir is
// resolved once: if the working directory changes later, the reader continues to read the same log.
// Open returns fs.ErrNotExist if the directory is missing, segment.ErrNotALog, segment.ErrIsWALDir,
// segment.ErrManifestLost, segment.ErrNewerFormat, or an I/O error. If a frame has a newer format,
// reading it returns segment.ErrNewerFormat.
func Open(dir string) (*Reader, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s: %w: it is a file", dir, segment.ErrNotALog)
	}
	absolute, err := segment.AbsoluteDir(dir)
	if err != nil {
		return nil, err
	}
	r, err := OpenFS(os.DirFS(absolute))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return r, nil
}

// OpenFS is like Open for a log in any file system, such as an archive.
func OpenFS(fsys fs.FS) (*Reader, error) {
	dir, err := segment.ReadDirectory(fsys)
	if err != nil {
		return nil, err
	}
	return &Reader{fsys: fsys, dir: dir}, nil
}

// Manifest returns the log's manifest, which identifies the log.
func (r *Reader) Manifest() segment.Manifest { return r.dir.Manifest }

// NewFold returns an empty fold of the log. It reads the snapshots and reports the damaged ones.
func (r *Reader) NewFold() *Fold {
	snapshots, damaged := segment.ReadSnapshots(r.fsys, r.dir.Manifest.UUID, true)
	fold := NewFold(r.dir, snapshots)
	fold.fsys = r.fsys
	for _, d := range damaged {
		fold.AddDamage(d)
	}
	return fold
}

// Records yields the records that the query selects, in the order of their numbers. Damage is
// yielded at its position, and damage outside the segments first. If reading fails or ctx is
// canceled, the error is yielded last.
func (r *Reader) Records(ctx context.Context, q Query) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		m := NewMatcher(q)
		for rec, err := range r.all(ctx, q.firstSeq(), q.excludes) {
			if err != nil {
				yield(Record{}, err)
				return
			}
			if (Point{Seq: q.ToSeq}).Before(rec) {
				return
			}
			if m.Match(rec) && !yield(rec, nil) {
				return
			}
		}
	}
}

// all yields all records from a position at or before fromSeq, except intact frames whose bodies
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

// Point is a moment in a history. The zero value is the end of the history.
type Point struct {
	Seq uint64 // after the record with this number
	// TimeMS, in Unix milliseconds, is the moment before the first record with a later wall clock.
	// Sequence numbers order the history, and clocks do not: every record after that one is later,
	// even if its clock shows an earlier time.
	TimeMS uint64
}

// Before reports whether the record is later than the point.
func (p Point) Before(r Record) bool {
	seq := r.Seq
	if r.Damage != nil {
		seq = r.Damage.FirstSeq
	}
	return p.Seq != 0 && seq > p.Seq || p.TimeMS != 0 && r.WallMS() > p.TimeMS
}

// StateAt returns the view at a point in the history. The view accounts for damage. StateAt returns
// an I/O error or ctx's error.
func (r *Reader) StateAt(ctx context.Context, p Point) (*projection.View, error) {
	fold, err := r.FoldTo(ctx, p)
	if err != nil {
		return nil, err
	}
	return fold.View, nil
}

// FoldTo returns the fold at a point in the history: the view, and the report of the records before
// the point. It returns the same errors as StateAt.
func (r *Reader) FoldTo(ctx context.Context, p Point) (*Fold, error) {
	fold := r.NewFold()
	for rec, err := range r.all(ctx, 0, func([]byte) bool { return false }) {
		if err != nil {
			return nil, err
		}
		if p.Before(rec) {
			break
		}
		fold.Add(rec)
	}
	return fold, nil
}

// ErrSnapshotsDamaged is returned by Reader.Snapshot if the log has snapshots and none of them is
// intact.
var ErrSnapshotsDamaged = errors.New("no snapshot is intact")

// Snapshot returns the view of the newest intact snapshot. It returns fs.ErrNotExist if the log has
// no snapshot, and ErrSnapshotsDamaged if every snapshot is damaged or cannot be read. The view is
// returned even if the log has lost the snapshot's last event. Open ignores such a snapshot. This
// method is for manual recovery.
func (r *Reader) Snapshot() (*projection.View, error) {
	snapshots, damaged := segment.ReadSnapshots(r.fsys, r.dir.Manifest.UUID, false)
	for _, s := range snapshots {
		if view, err := Restore(s); err == nil {
			return view, nil
		}
	}
	names, err := segment.SnapshotNames(r.fsys)
	switch {
	case err != nil:
		return nil, err
	case len(names) == 0:
		return nil, fmt.Errorf("%s/ has no snapshot: %w", segment.SnapshotDir, fs.ErrNotExist)
	case len(damaged) > 0:
		return nil, fmt.Errorf("%w: the newest damaged one is %s. Show the rows of the log with 'replay-tool state' without --snapshot", ErrSnapshotsDamaged, damaged[0])
	}
	return nil, fmt.Errorf("%w: %s/%s cannot be read, or a newer version wrote it. Show the rows of the log with 'replay-tool state' without --snapshot",
		ErrSnapshotsDamaged, segment.SnapshotDir, names[0])
}
