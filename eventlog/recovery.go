package eventlog

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"migrationlog/eventlog/segment"
)

// DefaultSegmentBytes is the size at which a segment is followed by the next. The last
// one is held in memory while a log is opened.
const DefaultSegmentBytes = 4 << 20

// maxReuseFraction is the part of a segment up to which an opening goes on in the last one:
// tidwall/wal reads all of it, and has no use for that.
const maxReuseFraction = 16

// Options are the choices of a Log's owner. The zero value is sound.
type Options struct {
	MustExist   bool          // a directory without a log is an error, fs.ErrNotExist
	LockTimeout time.Duration // how long to wait for another writer; 0 is not at all
	SegmentSize int           // bytes; 0 is DefaultSegmentBytes
	NoSync      bool          // Sync does nothing; Close makes all durable
	Now         func() time.Time
}

// Recovery is a log on its way from whatever state its directory is in to one
// that can be appended to. Its owner holds the lock.
type Recovery struct {
	dir         string
	opts        Options
	lock        *heldLock
	found       segment.Directory
	snapshots   []segment.Snapshot
	lastName    string // of the segment that tidwall/wal takes for the last
	scan        *segment.Scan
	scanned     bool
	damage      map[string][]segment.Damage // by segment, where there are bytes that are no frame; torn tails aside
	quarantined []string
}

// Begin locks the directory and judges it, making a new log where there is
// none. It returns a *LockedError, fs.ErrNotExist with MustExist, segment.ErrIsWALDir,
// segment.ErrManifestLost, segment.ErrNewerFormat, ErrNeedsRepair, or an I/O error.
func Begin(dir string, opts Options) (*Recovery, error) {
	if opts.SegmentSize <= 0 {
		opts.SegmentSize = DefaultSegmentBytes
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	fsys := os.DirFS(dir)
	_, _, err := segment.ReadManifest(fsys)
	isNew := errors.Is(err, segment.ErrNotALog)
	if isNew && opts.MustExist {
		return nil, fmt.Errorf("%s: %w: %w", dir, err, fs.ErrNotExist)
	}
	if err != nil && !isNew {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	if isNew {
		if err := makeDir(dir); err != nil {
			return nil, err
		}
	}
	l, err := lock(dir, opts.LockTimeout)
	if err != nil {
		return nil, err
	}
	r := &Recovery{dir: dir, opts: opts, lock: l}
	if err := r.inspect(fsys); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", dir, err), unlock(l))
	}
	return r, nil
}

// inspect reads what the directory says of itself, once the lock is held.
func (r *Recovery) inspect(fsys fs.FS) (err error) {
	r.found, err = segment.ReadDirectory(fsys)
	if errors.Is(err, segment.ErrNotALog) {
		if err = r.create(); err == nil {
			r.found, err = segment.ReadDirectory(fsys)
		}
	}
	if err != nil {
		return err
	}
	names, err := segment.Names(fsys)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(names) == 0 { //mutant:segments-gone
		return fmt.Errorf("%w: it has a manifest and not one segment in %s/: is a volume not mounted, or a copy incomplete? (if they are gone for good, keep the directory and begin a new log in another)", ErrNeedsRepair, segment.WALDir)
	}
	r.lastName = names[len(names)-1]
	for _, d := range r.found.Strays {
		if _, ok := segment.ParseName(filepath.Base(d.Segment)); ok { //mutant:segment-name-taken
			return fmt.Errorf("%w: %s has a segment's name and is no regular file: put the segment itself in its place", ErrNeedsRepair, d.Segment)
		}
	}
	var damaged []segment.Damage
	r.snapshots, damaged = segment.ReadSnapshots(fsys, r.found.Manifest.UUID, false)
	//mutant:damaged-snapshots-moved
	r.found.Strays = append(r.found.Strays, damaged...) // they are of no use where they are
	return nil
}

// create makes a log in an empty directory. The watermarks come before what is
// beside them, see updateWatermark; the manifest last: where it is, a segment has
// been.
func (r *Recovery) create() error {
	id, err := uuid.NewRandom()
	if err != nil {
		return err
	}
	nothing := segment.AppendWatermark(nil, id, 0)
	wal := filepath.Join(r.dir, segment.WALDir)
	err = replaceFile(filepath.Join(r.dir, segment.WatermarkName), nothing)
	if err == nil {
		err = makeDir(wal)
	}
	if err == nil {
		err = replaceFile(filepath.Join(r.dir, segment.WatermarkCopyName), nothing)
	}
	if err != nil {
		return err
	}
	err = createFile(filepath.Join(wal, segment.Name(1)), nil)
	if err != nil && !errors.Is(err, fs.ErrExist) { // an earlier attempt was cut short
		return err
	}
	if err := syncDir(wal); err != nil { //mutant:segment-name-synced
		return err
	}
	return r.writeManifest(segment.Manifest{UUID: id, Created: r.now().Truncate(time.Second), Revision: 1})
}

// now is the wall clock, as far as a text may hold it: RFC 3339 has four digits for
// the year.
func (r *Recovery) now() time.Time {
	now := r.opts.Now().UTC()
	if now.Year() < 0 || now.Year() > 9999 {
		return time.Unix(0, 0).UTC()
	}
	return now
}

// writeManifest writes both copies of the manifest, each durable before the next.
func (r *Recovery) writeManifest(m segment.Manifest) error {
	for _, name := range []string{segment.ManifestCopyName, segment.ManifestName} {
		if err := replaceFile(filepath.Join(r.dir, name), m.Encode()); err != nil {
			return err
		}
	}
	return nil
}

// Directory is what Begin found beside the frames.
func (r *Recovery) Directory() segment.Directory { return r.found }

// FS is the log's directory.
func (r *Recovery) FS() fs.FS { return os.DirFS(r.dir) }

// Snapshots are the sound ones, the newest first.
func (r *Recovery) Snapshots() []segment.Snapshot { return r.snapshots }

// Scan yields the frames and the damage of the log, or of its last segment only, in order. Damage
// outside the segments comes first. Scan may be called again. Finish uses the result of the last
// call.
func (r *Recovery) Scan(scope segment.Scope) iter.Seq2[segment.Item, error] {
	return func(yield func(segment.Item, error) bool) {
		r.scan = segment.NewScan(r.FS(), r.found, segment.ScanOptions{Locked: true, Scope: scope})
		r.damage = make(map[string][]segment.Damage)
		r.scanned = false
		for item, err := range r.scan.Items() {
			if d := item.Damage; d != nil && !d.Torn && d.Length > 0 {
				r.damage[d.Segment] = append(r.damage[d.Segment], *d)
			}
			if !yield(item, err) || err != nil {
				return
			}
		}
		r.scanned = true
	}
}

// Abandon lets go of the lock and leaves the directory as it is.
func (r *Recovery) Abandon() error { return unlock(r.lock) }

// Finish repairs what Scan found and opens the log for appending, behind that last frame:
// zero where there is none. Scan must have been read to its end. On an error the lock is
// let go of: ErrNeedsRepair if the last segment is named for a frame that the log has not
// reached, or if the log has to go on in a new segment and no number is left to name it, or an
// I/O error. A crash at any point leaves a directory that the next Recovery
// takes from there.
func (r *Recovery) Finish(last segment.FrameID) (*Log, error) {
	log, err := r.finish(last)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: recovery: %w", r.dir, err), unlock(r.lock))
	}
	return log, nil
}

func (r *Recovery) finish(last segment.FrameID) (*Log, error) {
	if !r.scanned {
		return nil, errors.New("the log was not read to its end")
	}
	//mutant:segment-beyond-end
	if first, _ := segment.ParseName(r.lastName); first > r.scan.Tail().NextSeq {
		return nil, fmt.Errorf("%w: segment %s is named for a frame that the log has not reached, seq %d: give it back the name of its first frame",
			ErrNeedsRepair, r.lastName, r.scan.Tail().NextSeq)
	}
	if tail := r.scan.Tail(); tail.Dirty { // the log goes on in a new segment
		if err := CheckSeq(tail.NextSeq); err != nil {
			return nil, err
		}
	}
	if err := r.quarantineSnapshots(); err != nil {
		return nil, err
	}
	if err := r.repair(); err != nil {
		return nil, err
	}
	tail := r.scan.Tail()
	watermark, err := openWatermark(r.dir, r.found.Manifest.UUID)
	if err != nil {
		return nil, err
	}
	log := &Log{
		dir: r.dir, opts: r.opts, uuid: r.found.Manifest.UUID, lock: r.lock, watermark: watermark,
		last: last, nextSeq: tail.NextSeq, durableThrough: tail.NextSeq - 1,
	}
	switch next := log.nextPath(); {
	case tail.Dirty: //mutant:dirty-tail
		err = log.startSegment()
	case tail.Bytes > int64(r.opts.SegmentSize/maxReuseFraction) && tail.NextSeq <= segment.MaxSeq &&
		createEmpty(next) == nil: // else the disk may be full
		err = log.openNewSegment(next)
	default:
		err = log.openSegment(filepath.Join(r.dir, segment.WALDir, tail.Segment), tail.Bytes)
	}
	if err != nil {
		return nil, errors.Join(err, watermark.close())
	}
	return log, nil
}

// Quarantined returns the paths, relative to the log's directory, of what Finish put
// into quarantine/.
func (r *Recovery) Quarantined() []string { return r.quarantined }
