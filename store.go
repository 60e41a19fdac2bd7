package migrationlog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"migrationlog/checkpoint"
	"migrationlog/eventlog"
	"migrationlog/internal/groupcommit"
	"migrationlog/internal/rebuild"
	"migrationlog/projection"
	"migrationlog/replay"
)

// Store is a log of migrations that is open for writing, and the view of where
// each migration stands. It is safe for concurrent use. Reads wait for nobody;
// they show what is durable (with Options.NoSync: what is written).
type Store struct {
	dir    string
	opts   Options
	report replay.Report

	queue *groupcommit.Queue[*write]

	// Used by the queue's leader only, in commitBatch.
	log     *eventlog.Log
	entries []eventlog.Entry
	next    projection.Batch

	snapshots snapshots

	view atomic.Pointer[projection.View] // of all that is durable; it is replaced, never changed

	statsMu sync.Mutex
	stats   Stats
	failed  error

	closeOnce sync.Once
	closeErr  error
}

// Stats counts what a store has done since it was opened.
type Stats struct {
	Rows           int
	LastSeq        uint64 // of the last event in the log
	DurableThrough uint64 // every event up to this one is on the device
	Appended       uint64 // writes that became an event
	Duplicates     uint64 // writes that found their row already there
	Refused        uint64 // writes that were refused by a guard, or failed
	Batches        uint64 // appends, each of one or more events
}

// Open opens the log in dir, repairs what a crash has left, and folds its
// history. It makes the directory and a new log where there is none. A nil opts
// is the default.
//
// Damage does not fail it (unless OnDamage says so): see Report. It returns an I/O error, or one of
// these, wrapped:
//
//   - ErrInvalid if dir is empty, or an option has no meaning
//   - fs.ErrNotExist if there is no log and MustExist is set
//   - ErrLocked, as an *eventlog.LockedError, if another writer has the log open
//   - ErrDamaged, as a *DamagedError, if the log has damage and OnDamage is RefuseDamage
//   - ErrNeedsRepair if the log must be repaired by hand first
//   - ErrManifestLost if neither copy of the manifest can be read
//   - ErrNewerFormat if a newer version wrote the manifest or a frame that Open reads
//   - ErrIsWALDir if dir is the wal/ directory of a log
func Open(dir string, opts *Options) (*Store, error) {
	if dir == "" {
		return nil, fmt.Errorf("%w: no directory is named", ErrInvalid)
	}
	if err := opts.check(); err != nil {
		return nil, err
	}
	o := opts.withDefaults()
	recovery, err := eventlog.Begin(dir, eventlog.Options{
		MustExist: o.MustExist, LockTimeout: o.LockTimeout, SegmentSize: o.SegmentSize, NoSync: o.NoSync, Now: o.Now,
	})
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
		return nil, errors.Join(fmt.Errorf("read %s: %w", dir, err), recovery.Abandon())
	}
	report := fold.Report()
	if o.OnDamage == RefuseDamage && slices.ContainsFunc(report.Damage, func(d replay.Damage) bool { return !d.OfSnapshot() }) {
		return nil, errors.Join(&DamagedError{Report: report}, recovery.Abandon())
	}
	log, err := recovery.Finish(fold.Last())
	if err != nil {
		return nil, err
	}
	report.Quarantined = recovery.Quarantined()
	s := &Store{dir: dir, opts: o, report: report, log: log}
	s.queue = groupcommit.New(s.commitBatch)
	s.view.Store(fold.View)
	s.snapshots.segment = log.Last().Segment
	s.snapshots.seq = report.SnapshotSeq
	s.stats.LastSeq = log.NextSeq() - 1
	s.stats.DurableThrough = s.stats.LastSeq // Finish synced what was found
	s.logReport()
	return s, nil
}

// namedInDoubt is how many migrations in doubt the logger is told one by one.
const namedInDoubt = 10

func (s *Store) logReport() {
	for _, d := range s.report.Damage {
		s.opts.Logger.Warn("migrationlog is damaged", "dir", s.dir, "damage", d.String())
	}
	if d := s.report.TornTail; d != nil {
		s.opts.Logger.Warn("migrationlog's last write was cut short", "dir", s.dir, "damage", d.String())
	}
	for i, id := range s.report.InDoubt {
		if i == namedInDoubt {
			s.opts.Logger.Warn("more migrations are in doubt: see Store.Report", "dir", s.dir, "migrations", len(s.report.InDoubt)-i)
			break
		}
		s.opts.Logger.Warn("migration is in doubt: a lost event may have been its last", "dir", s.dir, "migration", id)
	}
	s.opts.Logger.Info("migrationlog is open", "dir", s.dir, "rows", s.Len(), "last_seq", s.stats.LastSeq, "snapshot_seq", s.report.SnapshotSeq, "events_read", s.report.FramesOK)
}

// Upsert makes the checkpoint the latest row of its migration. It returns when
// the event is durable and visible. Where the latest row has the same phase and
// attempt nothing is written, and the receipt says Duplicate (see Confirm).
//
// It does not hold the checkpoint against the protocol: a run may be restarted,
// so an earlier phase or a lower attempt is accepted, and after an abort or a removal
// the same id begins a new life. IfSeq, IfVShardFree and Strict are guards.
//
// It returns ErrInvalid (with the cause, from package checkpoint), ErrTooLarge,
// ErrConflict, ErrMigrationInProgress, ErrNeedsRepair if no sequence number is left, ErrClosed or
// ErrFailed. After ErrFailed the outcome is unknown; after the others nothing was written.
func (s *Store) Upsert(c checkpoint.Checkpoint, opts ...WriteOption) (Receipt, error) {
	w := newWrite(opts)
	if w.err = w.options.checkUpsert(); w.err == nil {
		w.setUpsert(c)
	}
	return s.write(w)
}

// Abort records that a migration was given up, and why, and what undid it in
// which order. After it the migration has no row, so it comes last: carry the
// compensations out first, each so that it may be done again, and then record the abort. Who
// crashes in between finds the row and does both once more. After a Cutover there is no way back.
//
// A migration without a row is left so: nothing is written, and the receipt's Seq is 0
// (see Confirm). Its errors are Upsert's.
func (s *Store) Abort(id checkpoint.MigrationID, reason string, comps []checkpoint.Compensation, opts ...WriteOption) (Receipt, error) {
	w := newWrite(opts)
	if w.err = w.options.checkEnd("Abort"); w.err == nil {
		w.setEvent(checkpoint.Aborted{MigrationID: id, Reason: reason, Compensations: comps, TimestampMS: s.timestampMS(w)})
	}
	return s.write(w)
}

// Remove records that a finished migration was cleaned up. After it the
// migration has no row. A migration without a row is left so, as by Abort. Its
// errors are Upsert's.
func (s *Store) Remove(id checkpoint.MigrationID, opts ...WriteOption) (Receipt, error) {
	w := newWrite(opts)
	if w.err = w.options.checkEnd("Remove"); w.err == nil {
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

// write commits what has been encoded, and lets go of it.
func (s *Store) write(w *write) (Receipt, error) {
	defer w.release()
	if w.err == nil {
		s.commit(w)
	}
	return w.receipt, w.err
}

// WriteAll writes the events in their order, each as Upsert, Abort or Remove would with
// these options, but with one sync for up to a thousand: for an import, or for a
// node that is drained of many shards at once. Each option applies to every
// event, except Strict, which applies only to upserts. WriteAll returns ErrInvalid and writes
// nothing if it is given WithTimestamp, or IfVShardFree and an event that is not an upsert.
//
// It ends with the first event that is refused. The receipts are those of the events
// before it, which are durable and visible, and the error is that event's, one of Upsert's. It is no
// transaction: others see a part of the events before the rest, and a crash may leave the
// first of them alone. After ErrFailed the outcome of those without a receipt is unknown.
func (s *Store) WriteAll(events []checkpoint.Event, opts ...WriteOption) ([]Receipt, error) {
	if err := checkAll(events, opts); err != nil { //mutant:options-of-all
		return nil, err
	}
	receipts := make([]Receipt, 0, len(events))
	for len(receipts) < len(events) {
		first, err := newChain(events[len(receipts):], opts)
		if first != nil {
			s.commit(first)
		}
		for w, next := first, (*write)(nil); w != nil; w = next {
			if w.err != nil {
				err = w.err
				break // those after it were not decided
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

// Get returns a migration's latest checkpoint. Where the log has lost events,
// Doubt says whether to trust it.
func (s *Store) Get(id checkpoint.MigrationID) (checkpoint.Checkpoint, bool) {
	row := s.view.Load().Latest(id)
	if row == nil {
		return checkpoint.Checkpoint{}, false
	}
	return row.Checkpoint, true
}

// Row returns a migration's latest checkpoint with what its history adds: the
// event's number, what earlier phases told, and what lost events mean for it.
func (s *Store) Row(id checkpoint.MigrationID) (projection.Row, bool) {
	return s.view.Load().Get(id)
}

// Doubt is what the events that the log has lost mean for a migration. One
// without a row is in doubt as long as there is a lost event of which nobody
// knows whose it was. Who has found out what is true of a migration in doubt
// writes that, with Confirm, and so ends the doubt.
func (s *Store) Doubt(id checkpoint.MigrationID) projection.Doubt {
	return s.view.Load().Doubt(id)
}

// All returns the latest checkpoints of all migrations that have one, in the
// order of their ids. The slice is the caller's.
func (s *Store) All() []checkpoint.Checkpoint {
	view := s.view.Load()
	all := make([]checkpoint.Checkpoint, 0, view.Len())
	for row := range view.Rows() {
		all = append(all, row.Checkpoint)
	}
	return all
}

// Rows yields what All returns, with what each migration's history adds: the rows of
// the moment at which the iteration began.
func (s *Store) Rows() iter.Seq[projection.Row] {
	return func(yield func(projection.Row) bool) { s.view.Load().Rows()(yield) }
}

// RowsByVShard returns the rows of one vShard's migrations, in the order of their ids.
func (s *Store) RowsByVShard(vshardID uint32) []projection.Row {
	return s.view.Load().RowsByVShard(vshardID)
}

// Len is the number of migrations that have a row.
func (s *Store) Len() int {
	return s.view.Load().Len()
}

// History yields all records of one migration in order, read from the log's files, up to the last
// event that was visible when the iteration started. It also yields the damage of the log, because
// a lost event may have been one of the migration's. An I/O error or ctx's error is yielded last,
// with a zero Record. Reading costs time in proportion to the whole log.
func (s *Store) History(ctx context.Context, id checkpoint.MigrationID) iter.Seq2[replay.Record, error] {
	return func(yield func(replay.Record, error) bool) {
		visible := s.view.Load().LastSeq() // the files may already hold newer events, not yet durable
		if visible == 0 {
			return
		}
		reader, err := replay.Open(s.dir)
		if err != nil {
			yield(replay.Record{}, fmt.Errorf("history of %s: %w", id, err))
			return
		}
		q := replay.Query{Migrations: []checkpoint.MigrationID{id}, ToSeq: visible}
		for r, err := range reader.Records(ctx, q) {
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

// Report returns what Open found, skipped and repaired. Open does not read what a snapshot
// tells, unless Options.VerifyAll or OnDamage asks for it; Scrub reads all of it later.
func (s *Store) Report() replay.Report { return s.report.Clone() }

// Health is nil as long as no write or sync has failed. After one that has it is that
// ErrFailed, until the store is closed and opened again.
func (s *Store) Health() error {
	s.statsMu.Lock()
	defer s.statsMu.Unlock()
	return s.failed
}

// Stats returns what the store has done since it was opened.
func (s *Store) Stats() Stats {
	s.statsMu.Lock()
	stats := s.stats
	s.statsMu.Unlock()
	stats.Rows = s.Len()
	return stats
}

// Close waits for the writes that have begun, makes everything durable and lets
// go of the lock. Reads go on from memory. It returns the error of the last
// sync, or the one that failed the store; a second Close returns the same.
func (s *Store) Close() error {
	var snapshot, failure error
	s.closeOnce.Do(func() {
		s.queue.Close()
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
