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
	"migrationlog/internal/fault"
)

// DefaultSegmentBytes is the size at which the log starts a new segment. A larger segment makes
// opening slower and needs more memory, because opening reads the whole last segment.
const DefaultSegmentBytes = 4 << 20

// reuseDivisor decides whether an opened log continues in its last segment. It does so if the
// entries there have at most Options.SegmentSize/reuseDivisor bytes. If they have more, the log
// starts a new segment, because tidwall/wal would read the whole last segment, which takes time.
const reuseDivisor = 16

// Options configures Begin. The zero value selects the defaults.
type Options struct {
	MustExist   bool          // return fs.ErrNotExist if the directory has no log
	LockTimeout time.Duration // how long to wait for another writer; 0 means no wait
	SegmentSize int           // bytes; 0 means DefaultSegmentBytes
	NoSync      bool          // Sync does nothing; MakeDurable and Close make everything durable
	Now         func() time.Time

	// Replicated is for the log of a member of a consensus group, whose engine delivers the events
	// above the watermark again: Begin drops them, see dropUnsynced. A log is created with or without
	// Replicated, and Begin refuses the other value later.
	Replicated bool
	// History goes into the manifest of the log that Begin creates. If the directory already has a
	// log, Begin returns fs.ErrExist.
	History *segment.History
}

// Recovery opens a log in three steps. Begin locks the directory, Scan reads the log, and Finish
// repairs it and returns the Log. The lock is held until Abandon, until Finish returns an error, or
// until the Log is closed.
type Recovery struct {
	dir           string // absolute
	opts          Options
	lock          *heldLock
	found         segment.Directory
	snapshots     []segment.Snapshot
	toMove        []segment.Damage // files that Finish moves to quarantine/
	movesSnapshot bool             // a snapshot is one of them
	lastName      string           // the highest segment name; tidwall/wal appends to that segment
	scan          *segment.Scan
	scanned       bool
	created       bool                        // by this Begin
	damage        map[string][]segment.Damage // by segment name; without torn writes, and without damage of length 0
	quarantined   []string
}

// Begin locks the directory and inspects it. If there is no log, Begin creates one. It resolves a
// relative dir once: see segment.AbsoluteDir. Begin returns a *LockedError, fs.ErrNotExist (with
// MustExist), fs.ErrExist (with History), segment.ErrIsWALDir, segment.ErrManifestLost,
// segment.ErrNewerFormat, ErrNeedsRepair, ErrReplicated, ErrNotReplicated, or an I/O error.
func Begin(dir string, opts Options) (*Recovery, error) {
	if opts.SegmentSize <= 0 {
		opts.SegmentSize = DefaultSegmentBytes
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	dir, err := segment.AbsoluteDir(dir)
	if err != nil {
		return nil, err
	}
	fsys := os.DirFS(dir)
	_, _, err = segment.ReadManifest(fsys)
	isNew := errors.Is(err, segment.ErrNotALog)
	if isNew && opts.MustExist {
		return nil, fmt.Errorf("%s: %w: %w", dir, err, fs.ErrNotExist)
	}
	if err != nil && !isNew {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	if isNew {
		if err := checkNotSwapping(dir); err != nil {
			return nil, err
		}
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

// inspect reads the manifest, the watermark, the snapshots, and the names in the directory. If
// there is no log, it creates one. With Replicated it drops the events above the watermark. The
// lock must be held.
func (r *Recovery) inspect(fsys fs.FS) error {
	names, err := r.readDirectory(fsys)
	if err != nil {
		return err
	}
	if r.opts.History != nil && !r.created { //mutant:history-of-new-log
		return fmt.Errorf("%w: the directory already has a log, and the beginning of its history cannot change", fs.ErrExist)
	}
	switch isReplicated := r.found.Manifest.Replicated; {
	case isReplicated && !r.opts.Replicated: //mutant:replicated-log-refused
		return fmt.Errorf("%w: its events come from a consensus engine: open it with OpenReplica, or read it with package replay", ErrReplicated)
	case !isReplicated && r.opts.Replicated: //mutant:plain-log-refused
		return fmt.Errorf("%w: a Store has written it: open it with Open, or give the member another directory", ErrNotReplicated)
	}
	if r.opts.Replicated {
		dropped, err := r.dropUnsynced(names)
		if err == nil && dropped {
			names, err = r.readDirectory(fsys)
		}
		if err != nil {
			return fmt.Errorf("drop the events after the last sync: %w", err)
		}
	}
	r.lastName = names[len(names)-1]
	var damaged []segment.Damage
	r.snapshots, damaged = segment.ReadSnapshots(fsys, r.found.Manifest.UUID, false)
	r.found.Strays = append(r.found.Strays, damaged...)
	//mutant:damaged-snapshots-moved
	r.toMove = append(r.toMove, damaged...)
	r.movesSnapshot = len(damaged) > 0
	return nil
}

// readDirectory reads the directory without its snapshots. If there is no log, it creates one. It
// returns the names of the segments, of which there is at least one.
func (r *Recovery) readDirectory(fsys fs.FS) (names []string, err error) {
	r.found, err = segment.ReadDirectory(fsys)
	if errors.Is(err, segment.ErrNotALog) {
		r.created = true
		if err = r.create(); err == nil {
			r.found, err = segment.ReadDirectory(fsys)
		}
	}
	if err != nil {
		return nil, err
	}
	names, err = segment.Names(fsys)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	r.toMove = nil
	for _, d := range r.found.Strays {
		if _, ok := segment.ParseName(filepath.Base(d.Segment)); ok { //mutant:segment-name-taken
			return nil, fmt.Errorf("%w: %s %s", ErrNeedsRepair, d.Segment, d.Reason)
		}
		if d.Severity != segment.Harmless { // a harmless file belongs to somebody else
			r.toMove = append(r.toMove, d)
		}
	}
	if len(names) == 0 { //mutant:segments-gone
		return nil, fmt.Errorf("%w: the manifest exists, but %s/ has no segments: is a volume not mounted, or a copy incomplete? (if the segments cannot be recovered, keep this directory and start a new log in another one)", ErrNeedsRepair, segment.WALDir)
	}
	return names, nil
}

// create makes a log in a directory that has none. It creates the watermark files before the first
// segment, for the reason given at writeWatermark. It writes the manifest last. A manifest without
// any segment therefore shows that the segments were lost.
func (r *Recovery) create() error {
	id, err := uuid.NewRandom()
	if err != nil {
		return err
	}
	watermark := segment.AppendWatermark(nil, id, 0)
	wal := filepath.Join(r.dir, segment.WALDir)
	err = replaceFile(filepath.Join(r.dir, segment.WatermarkName), watermark)
	if err == nil {
		err = makeDir(wal)
	}
	if err == nil {
		err = replaceFile(filepath.Join(r.dir, segment.WatermarkCopyName), watermark)
	}
	if err != nil {
		return err
	}
	err = createFile(filepath.Join(wal, segment.Name(1)), nil)
	if err != nil && !errors.Is(err, fs.ErrExist) { // exists if an earlier attempt was interrupted
		return err
	}
	if err := syncDir(wal); err != nil { //mutant:segment-name-synced
		return err
	}
	return r.writeManifest(segment.Manifest{UUID: id, Created: r.now().Truncate(time.Second), Revision: 1, Replicated: r.opts.Replicated, History: r.opts.History})
}

// now returns the wall clock's time in UTC, or 1970-01-01 if the year does not fit into the four
// digits of RFC 3339.
func (r *Recovery) now() time.Time {
	now := r.opts.Now().UTC()
	if now.Year() < 0 || now.Year() > 9999 {
		return time.Unix(0, 0).UTC()
	}
	return now
}

// writeManifest writes both copies of the manifest. It makes the first copy durable before it
// writes the second.
func (r *Recovery) writeManifest(m segment.Manifest) error {
	for _, name := range []string{segment.ManifestCopyName, segment.ManifestName} {
		if err := replaceFile(filepath.Join(r.dir, name), m.Encode()); err != nil {
			return err
		}
	}
	return nil
}

// Dir returns the absolute path of the log's directory.
func (r *Recovery) Dir() string { return r.dir }

// Directory returns the files that Begin found in the directory, without the frames.
func (r *Recovery) Directory() segment.Directory { return r.found }

// FS returns the log's directory.
func (r *Recovery) FS() fs.FS { return os.DirFS(r.dir) }

// Snapshots returns the intact snapshots, newest first.
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

// Abandon releases the lock. It changes nothing in the directory.
func (r *Recovery) Abandon() error { return unlock(r.lock) }

// Finish repairs the damage that Scan found and opens the log for appending. last is the log's
// last frame, or the zero FrameID if there is none. The caller must have called Scan, and must have
// read the sequence of the last call to its end.
//
// Finish returns an I/O error or ErrNeedsRepair. It returns ErrNeedsRepair if the number in the
// last segment's name is higher than the log's next number, or if the log has to continue in a new
// segment and no sequence number is left. After an error the lock is released. After a crash at any
// point, the next Recovery completes the repair.
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
		return nil, fmt.Errorf("%w: segment %s: %s", ErrNeedsRepair, r.lastName, segment.BeyondEnd(r.scan.Tail().NextSeq))
	}
	if tail := r.scan.Tail(); tail.Dirty { // the log continues in a new segment
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
		last: last, nextSeq: tail.NextSeq, durableThrough: tail.NextSeq - 1, hook: fault.Of(r.dir),
	}
	switch {
	case tail.Dirty: //mutant:dirty-tail
		err = log.startSegment()
	case tail.Bytes > int64(r.opts.SegmentSize/reuseDivisor) && tail.NextSeq <= segment.MaxSeq:
		if log.startSegment() == nil {
			break
		}
		fallthrough // a new file cannot be created: the disk may be full
	default:
		path := filepath.Join(r.dir, segment.WALDir, tail.Segment)
		log.tail, err = reopenTail(path, tail.NextSeq-1, tail.Bytes, int64(r.opts.SegmentSize), &log.spinWait)
	}
	if err == nil {
		err = log.awaitName()
	}
	if err == nil && r.opts.Replicated { //mutant:opened-watermark-synced
		err = log.markDurable() // otherwise the opening after a power cut could drop frames of this one
	}
	if err != nil && log.tail != nil {
		err = errors.Join(err, log.tail.abandon())
	}
	if err != nil {
		return nil, errors.Join(err, watermark.close())
	}
	log.sealedBefore = log.tail.first
	return log, nil
}

// Quarantined returns the files that Begin and Finish put into quarantine/, as paths relative to the
// log's directory.
func (r *Recovery) Quarantined() []string { return r.quarantined }
