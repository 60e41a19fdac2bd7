package replay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"sync"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
)

// Reader reads the history in one log directory. It keeps no file open and is safe for concurrent
// use.
type Reader struct {
	fsys fs.FS
	dir  segment.Directory // as it was when the reader was opened

	index     *Index // the summaries that were read so far
	beginning func() (Beginning, error)
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
	r := &Reader{fsys: fsys, dir: dir, index: NewIndex(fsys, dir.Manifest.UUID)}
	r.beginning = sync.OnceValues(r.readBeginning)
	return r, nil
}

// SetIndex makes the reader use an index that has summaries in memory already. The index must be of
// the same log. Call SetIndex before all other methods.
func (r *Reader) SetIndex(x *Index) { r.index = x }

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

// NewPartialFold returns an empty fold for records that do not begin at the start of the log. It reads
// no snapshot, so its report does not cover them.
func (r *Reader) NewPartialFold() *Fold {
	fold := NewFold(r.dir, nil)
	fold.fsys = r.fsys
	return fold
}

// Records yields the records that the query selects, in the order of their numbers. Damage is
// yielded at its position, and damage outside the segments first. If reading fails or ctx is
// canceled, the error is yielded last.
func (r *Reader) Records(ctx context.Context, q Query) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		m := NewMatcher(q)
		for rec, err := range decoded(ctx, segment.NewScan(r.fsys, r.dir, segment.ScanOptions{From: q.firstSeq()}), q.excludes) {
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

// Find yields the same records as Records, but only the damage of the segments that it reads
// completely. Of a segment with a summary it reads only the selected records. If covered is not nil,
// Find sets it when the sequence ends.
//
// If an event of a migration is lost, the two may disagree about later events of the same id, if the
// query selects by vShard or node: Records compares those of the row before the loss, and Find those of
// the segment. Use Records if the log is damaged and no event may be left out.
func (r *Reader) Find(ctx context.Context, q Query, covered *Coverage) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for found, err := range r.Search(ctx, q, SearchOptions{Covered: covered}) {
			if (err != nil || found.Selected) && !yield(found.Record, err) {
				return
			}
		}
	}
}

// History yields the records of one migration, as Find does.
func (r *Reader) History(ctx context.Context, id checkpoint.MigrationID, covered *Coverage) iter.Seq2[Record, error] {
	return r.Find(ctx, Query{Migrations: []checkpoint.MigrationID{id}}, covered)
}

// all yields the records of a scan.
func all(ctx context.Context, scan *segment.Scan) iter.Seq2[Record, error] {
	return decoded(ctx, scan, func([]byte) bool { return false })
}

// decoded yields the records of a scan, except intact frames whose bodies are excluded.
func decoded(ctx context.Context, scan *segment.Scan, excludes func(body []byte) bool) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for item, err := range scan.Items() {
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
