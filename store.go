package migrationlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"migrationlog/checkpoint"
	"migrationlog/eventlog"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/groupcommit"
	"migrationlog/internal/rebuild"
	"migrationlog/projection"
	"migrationlog/replay"
)

// Store is a log that is open for writing, and a view of the latest row of each migration. It is
// safe for concurrent use. Reads are served from memory and never wait for a write. They show only
// durable events (with Options.NoSync: written events).
type Store struct {
	dir    string    // absolute
	uuid   uuid.UUID // of the log
	opts   Options
	report replay.Report

	queue *groupcommit.Queue[*write]

	// Only the leader of the queue uses these, in commitBatch.
	log     *eventlog.Log
	entries []eventlog.Entry
	next    projection.Batch

	member *member // nil unless the store belongs to a Replica

	snapshots snapshots
	index     *replay.Index // the summaries that History has read
	summaries summaries

	view atomic.Pointer[projection.View] // the view of all durable events; a view never changes, a commit stores a new one

	slow slowWatch

	statsMu   sync.Mutex // not held during I/O
	stats     Stats
	failed    error
	closingIO time.Time // when Close began its own I/O; zero before and after that

	closeOnce sync.Once
	closeErr  error
}

// Stats has the sizes of a store, counts of its writes since it was opened, and the times of the
// writes that wait now.
//
// OldestWriteSince and SyncSince show a disk that hangs without an error. Both are nonzero for a
// short time during each write, so compare their age with a limit. SyncSince covers all I/O of a
// batch: writing the events, starting a new segment if one is due, and the sync. It also covers the
// I/O of Close, including its wait for a snapshot. Both times are from the system's clock, not from
// Options.Now. If a time is not zero, time.Since returns the correct age even if the wall clock was
// set meanwhile. The age of a zero time would be centuries.
type Stats struct {
	Rows           int    // migrations with a row
	LastSeq        uint64 // sequence number of the last event in the log
	DurableThrough uint64 // all events up to this sequence number are durable
	Appended       uint64 // writes that appended an event
	Duplicates     uint64 // writes whose receipt is a Duplicate
	Refused        uint64 // queued writes that were refused or failed
	Batches        uint64 // batches that appended at least one event

	OldestWriteSince time.Time // time at which the oldest waiting write was queued; zero: no write waits
	SyncSince        time.Time // time at which the current sync began; zero: none is in progress
}

// Open opens the log in dir for writing. It repairs the end of the log after a crash and builds the
// view. If there is no log, it creates the directory and a new log (see Options.MustExist). A nil
// opts selects the defaults. A relative dir is resolved once: if the working directory changes
// later, the store continues to use the same log.
//
// Open skips damage and describes it in Report, unless OnDamage is RefuseDamage. It returns an I/O
// error, or one of these errors, wrapped:
//
//   - ErrInvalid if dir is empty, or an option has an invalid value
//   - fs.ErrNotExist if there is no log and MustExist is set
//   - ErrLocked, as an *eventlog.LockedError, if another writer has the log open
//   - ErrDamaged, as a *DamagedError, if a finding loses or endangers events and OnDamage is
//     RefuseDamage
//   - ErrNeedsRepair if the log must be repaired by hand first
//   - ErrManifestLost if neither copy of the manifest can be used
//   - ErrNewerFormat if a newer version wrote the manifest or a frame that Open reads
//   - ErrIsWALDir if dir is the wal/ directory of a log
//   - ErrReplicated if the log belongs to a Replica
func Open(dir string, opts *Options) (*Store, error) {
	if dir == "" {
		return nil, errNoDir()
	}
	if err := opts.check(); err != nil {
		return nil, err
	}
	o := opts.withDefaults()
	return openStore(dir, o, o.logOptions(), nil)
}

func errNoDir() error {
	return fmt.Errorf("%w: the directory is an empty string: give the path of the log's directory", ErrInvalid)
}

// openStore opens the log in dir. For the store of a Replica, inspect returns its position. If inspect
// returns an error, openStore returns that error and leaves the log as it was.
func openStore(dir string, o Options, logOptions eventlog.Options, inspect func(*eventlog.Recovery, *replay.Fold) (*member, error)) (*Store, error) {
	defer o.watchOpen(dir)()
	recovery, err := eventlog.Begin(dir, logOptions)
	if err != nil {
		return nil, err
	}
	history := rebuild.Source{
		FS: recovery.FS(), Directory: recovery.Directory(), Snapshots: recovery.Snapshots(),
		Scan: recovery.Scan,
	}
	read := history.Fold
	if o.VerifyAll || o.OnDamage == RefuseDamage {
		read = history.FoldAll
	}
	fold, err := read()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", recovery.Dir(), err), recovery.Abandon())
	}
	report := fold.Report()
	if o.OnDamage == RefuseDamage && report.Damaged() {
		return nil, errors.Join(&DamagedError{Report: report}, recovery.Abandon())
	}
	var member *member
	if inspect != nil {
		if member, err = inspect(recovery, fold); err != nil {
			return nil, errors.Join(err, recovery.Abandon())
		}
	}
	log, err := recovery.Finish(fold.Last())
	if err != nil {
		return nil, err
	}
	report.Quarantined = recovery.Quarantined()
	s := &Store{dir: recovery.Dir(), uuid: recovery.Directory().Manifest.UUID, opts: o, report: report, log: log, member: member}
	if member != nil {
		s.next.Observe(member.changeRow)
	}
	s.index = replay.NewIndex(recovery.FS(), s.uuid)
	s.queue = groupcommit.New(s.commitBatch)
	s.slow.init(s.checkSlowCommit)
	s.view.Store(fold.View)
	s.summaries.init(recovery.FS(), log.SealedBefore())
	s.snapshots.segment = log.Last().Segment
	s.snapshots.seq = report.SnapshotSeq
	s.stats.LastSeq = log.NextSeq() - 1
	s.stats.DurableThrough = s.stats.LastSeq // Finish synced all events that it found
	s.logReport()
	s.startSummaries()
	return s, nil
}

// maxLoggedDamage is the maximum number of findings of each severity that logDamage logs one by
// one.
const maxLoggedDamage = 10

// logDamage logs the findings of a report, the harmless ones at level Info and the others at level
// Warn. A damaged device can have thousands of them.
func (s *Store) logDamage(r replay.Report) {
	logged := map[segment.Severity]int{}
	for _, d := range r.Damage {
		if logged[d.Severity]++; logged[d.Severity] > maxLoggedDamage {
			continue
		}
		if d.Severity == segment.Harmless {
			s.opts.Logger.Info("migrationlog has a harmless finding", "dir", s.dir, "damage", d.String())
		} else {
			s.opts.Logger.Warn("migrationlog is damaged", "dir", s.dir, "severity", d.Severity.String(), "damage", d.String())
		}
	}
	for _, severity := range []segment.Severity{segment.LosesEvents, segment.EndangersEvents, segment.Harmless} {
		more := logged[severity] - maxLoggedDamage
		switch {
		case more <= 0:
		case severity == segment.Harmless:
			s.opts.Logger.Info("migrationlog has more harmless findings: run 'replay-tool verify', or see Store.Report or the result of Scrub", "dir", s.dir, "more", more)
		default:
			s.opts.Logger.Warn("migrationlog has more damage: run 'replay-tool verify', or see Store.Report or the result of Scrub", "dir", s.dir, "severity", severity.String(), "more", more)
		}
	}
}

// maxLoggedInDoubt is the maximum number of migrations in doubt that logReport logs by their ids.
const maxLoggedInDoubt = 10

func (s *Store) logReport() {
	s.logDamage(s.report)
	if d := s.report.TornTail; d != nil {
		s.opts.Logger.Warn("migrationlog's last write was interrupted", "dir", s.dir, "damage", d.String())
	}
	for i, id := range s.report.InDoubt {
		if i == maxLoggedInDoubt {
			s.opts.Logger.Warn("more migrations are in doubt: see Store.Report", "dir", s.dir, "migrations", len(s.report.InDoubt)-i)
			break
		}
		s.opts.Logger.Warn("migration is in doubt: a lost event may have been its last", "dir", s.dir, "migration", id)
	}
	s.opts.Logger.Info("migrationlog is open", "dir", s.dir, "rows", s.Len(), "last_seq", s.stats.LastSeq, "snapshot_seq", s.report.SnapshotSeq, "events_read", s.report.FramesOK)
}

// Upsert makes the checkpoint the latest row of its migration. It returns after the event is
// durable and visible. If the latest row already has the same phase and attempt, Upsert appends
// nothing and returns a Duplicate (see Confirm).
//
// Upsert does not check the order of phases. It accepts an earlier phase or a lower attempt,
// because a coordinator may start a migration again. After an abort or a removal, the same id
// starts a new incarnation. IfSeq, IfVShardFree, Strict, Epoch and InOrder are guards.
//
// While an abort of the migration is under way, Upsert returns ErrAborting, also for a repeated
// call. With Confirm it appends the event, and the abort stays under way.
//
// Upsert returns ErrInvalid (with the cause, from package checkpoint), ErrTooLarge, ErrConflict,
// ErrFenced, ErrOutOfOrder, ErrAborting, ErrMigrationInProgress, ErrNeedsRepair if no sequence
// number is left, ErrClosed, or ErrFailed. After ErrFailed the outcome is unknown. After any other
// error nothing was appended.
func (s *Store) Upsert(c checkpoint.Checkpoint, opts ...WriteOption) (Receipt, error) {
	w := newWrite(opts)
	if w.err = cmp.Or(w.options.checkUpsert(), checkTimestamp(c.TimestampMS)); w.err == nil {
		w.setUpsert(c)
	}
	return s.write(w)
}

// Abort records that a migration was aborted, with the reason and the compensations in the order in
// which they were carried out. After it the migration has no row. Therefore carry out the
// compensations first, and call Abort last. If the coordinator crashes in between, its successor
// still finds the row. To record the compensations one by one, call BeginAbort first. Each
// compensation must be safe to repeat. Do not abort a migration at or after Cutover.
//
// If an abort of the migration is under way, comps must be its list, or empty. The event always
// has the whole list. Another list is ErrConflict.
//
// If the migration has no row, Abort appends nothing and the receipt's Seq is 0. To append the
// abort anyway, use Confirm. Abort returns the same errors as Upsert.
func (s *Store) Abort(id checkpoint.MigrationID, reason string, comps []checkpoint.Compensation, opts ...WriteOption) (Receipt, error) {
	w := newWrite(opts)
	if w.err = w.options.checkEventOptions("Abort"); w.err == nil {
		w.setEvent(checkpoint.Aborted{MigrationID: id, Reason: reason, Compensations: comps, TimestampMS: s.timestampMS(w)})
	}
	return s.write(w)
}

// BeginAbort records that a migration will be undone with these compensations. Call it before the
// first compensation is carried out. The migration keeps its row, and Row.Facts.Abort has the
// compensations. Then carry out each of them, record it with Compensated, and finish with Abort. If
// the coordinator crashes, its successor continues with the first compensation that is not recorded,
// and does not decide anew.
//
//	call while the abort is under way        result
//	Upsert, also one that repeats the row    ErrAborting. With Confirm the event is appended, and the
//	                                         abort stays
//	Remove                                   ErrAborting
//	BeginAbort with the same compensations   a duplicate, with the Seq of the begun abort. It Differs
//	                                         if the reason does
//	BeginAbort or Abort with other ones      ErrConflict
//	Compensated for a recorded step          a duplicate, with the Seq of the begun abort
//	Compensated for a step that the list     ErrInvalid
//	does not have
//	Abort with the same compensations,       appends the abort with all compensations, and ends the
//	or with none                             incarnation
//
// If the migration has no row, BeginAbort returns ErrConflict: carry out no compensation. The
// migration has ended, or it never began, or its row is lost (see Doubt). Otherwise BeginAbort
// returns the same errors as Upsert.
func (s *Store) BeginAbort(id checkpoint.MigrationID, reason string, comps []checkpoint.Compensation, opts ...WriteOption) (Receipt, error) {
	w := newWrite(opts)
	if w.err = w.options.checkEventOptions("BeginAbort"); w.err == nil {
		w.setEvent(checkpoint.AbortBegun{MigrationID: id, Reason: reason, Compensations: comps, TimestampMS: s.timestampMS(w)})
	}
	return s.write(w)
}

// Compensated records that one compensation of an abort under way was carried out. step is its index
// in the list of BeginAbort. If the step is recorded already, Compensated returns a Duplicate. If no
// abort is under way, or its list does not have the step, Compensated returns ErrInvalid. Otherwise
// it returns the same errors as Upsert.
func (s *Store) Compensated(id checkpoint.MigrationID, step uint32, opts ...WriteOption) (Receipt, error) {
	w := newWrite(opts)
	if w.err = w.options.checkEventOptions("Compensated"); w.err == nil {
		w.setEvent(checkpoint.Compensated{MigrationID: id, Step: step, TimestampMS: s.timestampMS(w)})
	}
	return s.write(w)
}

// Remove records that a finished migration was cleaned up. After it the migration has no row. If
// the migration has no row, Remove appends nothing and the receipt's Seq is 0, as for Abort. While
// an abort is under way, Remove returns ErrAborting. Remove returns the same errors as Upsert.
func (s *Store) Remove(id checkpoint.MigrationID, opts ...WriteOption) (Receipt, error) {
	w := newWrite(opts)
	if w.err = w.options.checkEventOptions("Remove"); w.err == nil {
		w.setEvent(checkpoint.Removed{MigrationID: id, TimestampMS: s.timestampMS(w)})
	}
	return s.write(w)
}

func (s *Store) timestampMS(w *write) uint64 {
	if w.options.timestampMS != nil {
		return *w.options.timestampMS
	}
	return uint64(max(0, s.opts.Now().UnixMilli()))
}

// write commits w, unless w already has an error. It always returns w to the pool.
func (s *Store) write(w *write) (Receipt, error) {
	defer w.release()
	if s.member != nil { //mutant:replica-refuses-writes
		return Receipt{}, s.errReplicated()
	}
	if w.err == nil {
		w.err = w.checkOwner()
	}
	if w.err == nil {
		s.commit(w)
	}
	return w.receipt, w.err
}

// WriteAll writes the events in order. Each is written as by the method for its kind with the same
// options, but up to a thousand events share one sync. Use it for an import, or if many shards
// leave a node at once. The options apply to every event, but Strict applies only to upserts.
// WithTimestamp is not allowed. IfVShardFree is allowed only if all events are upserts, and IfSeq
// only if no two events belong to the same migration. Otherwise WriteAll returns ErrInvalid and
// appends nothing.
//
// Without guards WriteAll reproduces a history. It then also accepts events that an abort under way
// would refuse, appends every AbortBegun and Compensated, and keeps the epochs of the events that it
// appends. The epoch of a duplicate is lost.
//
// WriteAll accepts timestamps after the year 9999, because an old log may have them. It logs a
// warning.
//
// WriteAll stops at the first rejected event. It returns that event's error (see Upsert) and the
// receipts of the events before it, which are durable and visible. WriteAll is not a transaction.
// Readers may see only a prefix of the events, and a crash may keep only a prefix. After ErrFailed
// the outcome of the events without a receipt is unknown.
func (s *Store) WriteAll(events []checkpoint.Event, opts ...WriteOption) ([]Receipt, error) {
	if s.member != nil {
		return nil, s.errReplicated()
	}
	if err := checkAll(events, opts); err != nil { //mutant:options-of-all
		return nil, err
	}
	receipts := make([]Receipt, 0, len(events))
	defer func() { s.logLateTimestamps(events[:len(receipts)]) }()
	for len(receipts) < len(events) {
		first, err := newChain(events[len(receipts):], opts)
		if first != nil {
			s.commit(first)
		}
		for w, next := first, (*write)(nil); w != nil; w = next {
			if w.err != nil {
				err = w.err
				break // the writes after it were skipped
			}
			receipts = append(receipts, w.receipt)
			next = w.next
			w.release()
		}
		if err != nil {
			return receipts, err
		}
	}
	return receipts, nil
}

// logLateTimestamps logs a warning if events have timestamps after the year 9999.
func (s *Store) logLateTimestamps(events []checkpoint.Event) {
	n, first := 0, 0
	for i, e := range events {
		if e.WallMS() > checkpoint.MaxTimestampMS {
			if n == 0 {
				first = i
			}
			n++
		}
	}
	if n > 0 {
		s.opts.Logger.Warn("events have timestamps after the year 9999, which may be in nanoseconds or microseconds", "dir", s.dir,
			"events", n, "first_migration", events[first].Migration(), "first_timestamp_ms", events[first].WallMS())
	}
}

// Get returns a migration's latest checkpoint. If the log has lost events, the checkpoint may be
// outdated: see Doubt.
func (s *Store) Get(id checkpoint.MigrationID) (checkpoint.Checkpoint, bool) {
	row := s.view.Load().Latest(id)
	if row == nil {
		return checkpoint.Checkpoint{}, false
	}
	return row.Checkpoint, true
}

// Row returns a migration's latest checkpoint, its sequence number, the facts of its earlier
// phases, and its Doubt.
func (s *Store) Row(id checkpoint.MigrationID) (projection.Row, bool) {
	return s.view.Load().Get(id)
}

// Doubt returns the effect of lost events on a migration. To clear the doubt, find out the true
// state from the cluster and write it with Confirm.
//
// A migration without a row is InDoubt if at least one lost event cannot be attributed to a
// migration. This applies to new ids too. You may still start a new migration. Ask the cluster
// first if the vShard is being moved, because the row of that move may be lost.
func (s *Store) Doubt(id checkpoint.MigrationID) projection.Doubt {
	return s.view.Load().Doubt(id)
}

// Epoch returns the highest epoch of all events in the log, or 0 if no event has an epoch. If
// Report.EpochUncertain is true, a lost event may have had a higher one.
func (s *Store) Epoch() uint64 { return s.view.Load().Epoch() }

// All returns the latest checkpoint of every migration that has a row, in the order of their ids.
// The caller owns the slice.
func (s *Store) All() []checkpoint.Checkpoint {
	view := s.view.Load()
	all := make([]checkpoint.Checkpoint, 0, view.Len())
	for row := range view.Rows() {
		all = append(all, row.Checkpoint)
	}
	return all
}

// Rows yields the row of every migration that has one, in the order of their ids. It shows the
// state at the start of the iteration. Writes during the iteration do not change it.
func (s *Store) Rows() iter.Seq[projection.Row] {
	return func(yield func(projection.Row) bool) { s.view.Load().Rows()(yield) }
}

// RowsByVShard returns the rows of one vShard's migrations, in the order of their ids. It uses an
// index.
func (s *Store) RowsByVShard(vshardID uint32) []projection.Row {
	return s.view.Load().RowsByVShard(vshardID)
}

// Len returns the number of migrations that have a row.
func (s *Store) Len() int {
	return s.view.Load().Len()
}

// History yields all records of one migration in order, read from the log's files, up to the last
// event that was visible when the iteration started. It reads only the segments that have events of
// the migration, and those without a summary. It also yields the damage of these segments, because a
// lost event may have been one of the migration's. An I/O error or ctx's error is yielded last, with a
// zero Record.
func (s *Store) History(ctx context.Context, id checkpoint.MigrationID) iter.Seq2[replay.Record, error] {
	return func(yield func(replay.Record, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(replay.Record{}, fmt.Errorf("history of %s: %w", id, err))
			return
		}
		visible := s.view.Load().LastSeq() // the files may already hold newer events, not yet durable
		if visible == 0 {
			return
		}
		reader, err := replay.Open(s.dir)
		if err == nil {
			err = s.checkSameLog(reader)
		}
		if err != nil {
			yield(replay.Record{}, fmt.Errorf("history of %s: %w", id, err))
			return
		}
		q := replay.Query{Migrations: []checkpoint.MigrationID{id}, ToSeq: visible}
		reader.SetIndex(s.index)
		for r, err := range reader.Find(ctx, q, nil) {
			if err != nil {
				yield(replay.Record{}, fmt.Errorf("history of %s: %w", id, err))
				return
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

// checkSameLog returns an error if the reader does not read the log that the store has open.
// Another process may have replaced the directory.
func (s *Store) checkSameLog(reader *replay.Reader) error {
	if found := reader.Manifest().UUID; found != s.uuid {
		return fmt.Errorf("%s has another log (UUID %s instead of %s): another process replaced the directory. Close the store and open it again", s.dir, found, s.uuid)
	}
	return nil
}

// Report returns the damage that Open found, skipped or repaired. It does not change after that: a
// migration in its InDoubt list may have been confirmed since (see Doubt and Row). If Open started
// from a snapshot, it did not read the segments before it. To check these, set Options.VerifyAll,
// or call Scrub.
func (s *Store) Report() replay.Report { return s.report.Clone() }

// Health returns nil, or one of these errors. It never waits for the disk.
//
//   - ErrFailed, the error of the first failed write or sync. A failed store stays failed until it
//     is closed and opened again.
//   - ErrClosed after Close was called. For a failed store, errors.Is also finds ErrFailed.
//   - Another error, while a write has waited for longer than Options.StallAfter. Close does not
//     change this, because it waits for the write. After the write has returned, Health no longer
//     returns this error.
func (s *Store) Health() error {
	s.statsMu.Lock()
	failed := s.failed
	s.statsMu.Unlock()
	stalled := s.checkStalled()
	closed := s.queue.Closed()
	switch {
	case failed != nil && closed:
		return fmt.Errorf("%w (%w)", ErrClosed, failed)
	case failed != nil:
		return failed
	case stalled != nil: // Close may wait for this write
		return stalled
	case closed:
		return ErrClosed
	}
	return nil
}

// Stats returns the sizes of the store, the counts of its writes, and the times of the writes that
// wait now. It never waits for the disk.
func (s *Store) Stats() Stats {
	s.statsMu.Lock()
	stats := s.stats
	stats.SyncSince = s.closingIO
	s.statsMu.Unlock()
	stats.Rows = s.Len()
	stats.OldestWriteSince = s.queue.OldestSince()
	if since, _ := s.queue.Running(); !since.IsZero() {
		stats.SyncSince = since
	}
	return stats
}

// Close waits for the writes in progress, syncs, writes a snapshot, and releases the lock. Reads
// still work after it, from memory. It returns the error of the last sync, or the ErrFailed of a
// failed store. A second call returns the same result.
//
// The store also writes snapshots in the background, after it has started a new segment. If Open
// found lost events that no snapshot covers, the store writes no snapshot at all. Every later Open
// then reads the whole log and finds the doubt again.
//
// If the disk hangs, Close waits until the disk responds. A second call waits as well. Close cannot
// release the lock earlier, because the kernel may still carry out a write. To stop without
// waiting, end the process.
func (s *Store) Close() error {
	if s.member != nil {
		return fmt.Errorf("%w: close the Replica of %s", ErrReplicated, s.dir)
	}
	return s.close()
}

func (s *Store) close() error {
	var snapshot, failure error
	s.closeOnce.Do(func() {
		s.queue.Close()
		defer s.watchClose()()
		s.stopSummaries()
		s.snapshots.done.Wait()
		if s.log.Health() == nil {
			snapshot = s.snapshotAtEnd()
		}
		s.closeErr = s.log.Close()
		failure = s.recordOutcome(nil, 0, s.log.Health())
	})
	s.logSnapshot(snapshot)
	s.logFailure(failure)
	return s.closeErr
}
