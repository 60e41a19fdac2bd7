package migrationlog

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"migrationlog/checkpoint"
	"migrationlog/eventlog"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// A Replica is one member's copy of a store whose writes are ordered by a consensus engine, such as
// Raft. The engine calls Apply with the committed entries, on one goroutine at a time. Every other
// method may be called concurrently with Apply, except Replace.
//
// All members that have applied the same entries have the same rows and the same digests, whatever
// their clocks and options are. Sequence numbers are local to a member.
type Replica struct {
	opts ReplicaOptions

	mu        sync.RWMutex // held for reading by a call that writes to the store, and for writing by Replace and Close
	closed    bool
	store     atomic.Pointer[Store]
	replacing atomic.Bool           // a Replace is under way: the store may be closed
	failed    atomic.Pointer[error] // the error of a Replace that left no store open

	stopSync chan struct{}
	syncing  sync.WaitGroup
}

// ReplicaOptions configures OpenReplica. A nil pointer or the zero value selects the defaults.
type ReplicaOptions struct {
	Store Options // NoSync and OnDamage must be zero

	// RelaxedSync syncs at intervals and in Record, instead of with each Apply. The engine must be
	// able to deliver all entries after AppliedIndex again. After a crash the member has the events
	// up to the last sync.
	RelaxedSync  bool
	SyncInterval time.Duration // with RelaxedSync; 0: 1 s

	// AcceptLoss continues with the rows that are left if the log has lost events. It starts a new
	// log with these rows, and sets the damaged one aside. The manifest of the new log has the word
	// accepted-loss. Set it on one member only, and restore the others from that one.
	AcceptLoss bool
}

// check returns ErrInvalid if an option does not apply to a replica, or is not valid.
func (o *ReplicaOptions) check() error {
	switch {
	case o.Store.NoSync:
		return fmt.Errorf("%w: Options.NoSync does not apply to a replica: use ReplicaOptions.RelaxedSync", ErrInvalid)
	case o.Store.OnDamage != SkipDamage:
		return fmt.Errorf("%w: Options.OnDamage does not apply to a replica, which never opens with lost events: leave it out", ErrInvalid)
	case o.SyncInterval < 0:
		return fmt.Errorf("%w: ReplicaOptions.SyncInterval is %v, which is negative: use 0 for the default", ErrInvalid, o.SyncInterval)
	case o.SyncInterval > 0 && !o.RelaxedSync:
		return fmt.Errorf("%w: ReplicaOptions.SyncInterval applies only with RelaxedSync, because each Apply syncs otherwise: set RelaxedSync, or leave it out", ErrInvalid)
	}
	return o.Store.check()
}

func (o *ReplicaOptions) withDefaults() ReplicaOptions {
	var opts ReplicaOptions
	if o != nil {
		opts = *o
	}
	opts.Store = opts.Store.withDefaults()
	if opts.SyncInterval == 0 {
		opts.SyncInterval = time.Second
	}
	return opts
}

// ErrReplicated is returned by the writes, and by Recover and Close, of the Store of a Replica. The
// events of this Store come from a consensus engine: propose the event there. Nothing was appended.
// Open returns ErrReplicated for the log of a Replica.
var ErrReplicated = eventlog.ErrReplicated

// errReplicated returns ErrReplicated with the directory.
func (s *Store) errReplicated() error {
	return fmt.Errorf("%w: the events of %s come from a consensus engine: propose the event there", ErrReplicated, s.dir)
}

// ErrUnfit is returned, as an *UnfitError, if a member's log has lost events. The member must not
// apply entries to an incomplete state, because its results could differ from those of other
// members.
var ErrUnfit = errors.New("member is unfit")

// UnfitError is the error of OpenReplica for a log that has lost events. errors.Is finds ErrUnfit
// in it. The log was not changed, except that unsynced events were moved to quarantine/.
type UnfitError struct {
	Dir    string
	Report replay.Report
	Reason string
}

func (e *UnfitError) Error() string {
	return fmt.Sprintf("%v: %s: %s. The member must not apply entries to an incomplete state. "+
		"Rename the directory, keep it, and start the member again: the consensus engine then restores the member from a snapshot, or delivers all entries again. "+
		"If every member is unfit, choose the one that has lost the fewest events, and open it with AcceptLoss", ErrUnfit, e.Dir, e.Reason)
}

// Unwrap returns ErrUnfit.
func (e *UnfitError) Unwrap() error { return ErrUnfit }

// newUnfitError returns the error for a log with these findings.
func newUnfitError(dir string, report replay.Report, reason string) *UnfitError {
	for _, d := range report.Damage {
		if d.Severity == segment.LosesEvents {
			reason = fmt.Sprintf("%s. The first finding: %s", reason, d)
			break
		}
	}
	return &UnfitError{Dir: dir, Report: report, Reason: reason}
}

// OpenReplica opens or creates the log in dir. Events that were written and not synced before a
// crash are moved to quarantine/, because the engine delivers their entries again. If an earlier
// Replace was interrupted, OpenReplica finishes or discards it.
//
// In addition to the errors of Open it returns ErrUnfit, as an *UnfitError, if the log has lost
// events, and ErrInvalid if a Store that is not replicated has written the log.
func OpenReplica(dir string, opts *ReplicaOptions) (*Replica, error) {
	if dir == "" {
		return nil, errNoDir()
	}
	if opts != nil {
		if err := opts.check(); err != nil {
			return nil, err
		}
	}
	r := &Replica{opts: opts.withDefaults(), stopSync: make(chan struct{})}
	s, err := r.open(dir)
	if err != nil {
		return nil, err
	}
	r.store.Store(s)
	if r.opts.RelaxedSync {
		r.syncing.Go(r.syncAtIntervals)
	}
	return r, nil
}

// open opens the log in dir. With AcceptLoss it first replaces a log that has lost events.
func (r *Replica) open(dir string) (*Store, error) {
	if err := eventlog.FinishSwap(dir, r.opts.Store.LockTimeout); err != nil {
		return nil, err
	}
	s, err := r.openLog(dir, r.opts.AcceptLoss)
	switch {
	case errors.Is(err, eventlog.ErrNotReplicated):
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	case !errors.Is(err, errLossAccepted):
		return s, err
	}
	replaced, err := eventlog.SwapDir(dir)
	if err != nil {
		return nil, fmt.Errorf("accept the loss of %s: %w", dir, err)
	}
	r.opts.Store.Logger.Warn("migrationlog continues with the rows that are left after a loss: restore the other members from this one", "dir", dir, "damaged_log", replaced)
	return r.openLog(dir, false)
}

// errLossAccepted is returned by openLog if a new log with the remaining rows is complete.
var errLossAccepted = errors.New("the loss is accepted")

// openLog opens the log in dir. If the log has lost events and acceptLoss is set, it writes a new
// log next to it, for SwapDir, and returns errLossAccepted.
func (r *Replica) openLog(dir string, acceptLoss bool) (*Store, error) {
	o := r.opts.Store
	o.NoSync = r.opts.RelaxedSync
	log := o.logOptions()
	log.Replicated = true //mutant:unsynced-dropped
	return openStore(dir, o, log, func(recovery *eventlog.Recovery, fold *replay.Fold) (*member, error) {
		at, err := readApplied(recovery, fold)
		if errors.Is(err, ErrUnfit) && acceptLoss {
			at, err = readRemaining(recovery, fold)
			if err == nil {
				err = r.opts.writeReplacement(recovery.Dir(), &State{at: at}, segment.OriginAcceptedLoss)
			}
			if err == nil {
				err = errLossAccepted
			}
		}
		if err != nil {
			return nil, err
		}
		return newMember(at, r.opts.RelaxedSync), nil
	})
}

// Entry is one committed entry of the consensus engine's log.
type Entry struct {
	Index, Term uint64 // at least 1
	// Event is the event to append. If Event and Opaque are nil, the entry appends no event, and only
	// the applied index rises. An example is a change of the group's configuration. If the event has
	// an epoch, the entry is fenced as with the option Epoch.
	Event checkpoint.Event
	// Opaque is an encoded event of a kind that this version does not know, and that has no effect
	// on the rows. It is recorded as it is, with the entry's position. Event must be nil. If the
	// option Epoch is set, the encoded event must have this epoch.
	Opaque []byte
	// Options are the guards of the entry: IfIndex, IfVShardFree, Strict, InOrder, Epoch and Confirm.
	// IfSeq and WithTimestamp are not allowed.
	Options []WriteOption
}

// Applied is the result of one entry.
type Applied struct {
	Receipt Receipt
	Index   uint64 // of the appended event; of the migration's last event for a duplicate; otherwise 0
	Skipped bool   // the entry had been applied before: the other fields are zero
	Err     error  // the entry was refused, because a guard did not hold or it is invalid; the same on every member
}

// Apply applies entries in the order of their indexes, as one group commit. It skips entries at or
// below the applied index. It returns one result per entry. A refused entry does not affect the
// others. Every 1,024 indexes, Apply also appends an event with the digests.
//
// Apply returns ErrFailed if the store has failed, and ErrClosed if it is closed. The outcome of
// all entries is then unknown, and the member must stop. If the indexes do not ascend, or if an
// index or a term is 0, Apply returns ErrInvalid, and applies nothing.
func (r *Replica) Apply(entries []Entry) ([]Applied, error) {
	if err := checkIndexes(entries); err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if err := r.failure(); err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, nil
	}
	first := newEntryChain(entries)
	r.store.Load().commit(first)
	results, err := make([]Applied, 0, len(entries)), first.commitError()
	for w, next := first, (*write)(nil); w != nil; w = next {
		if w.entry.skipped {
			results = append(results, Applied{Skipped: true})
		} else {
			results = append(results, Applied{Receipt: w.receipt, Index: w.entry.lastIndex, Err: w.err})
		}
		next = w.next
		w.release()
	}
	if err != nil {
		return nil, err
	}
	return results, nil
}

// checkIndexes returns ErrInvalid if the indexes do not ascend, or if an index or a term is 0.
func checkIndexes(entries []Entry) error {
	last := uint64(0)
	for i, e := range entries {
		if e.Index <= last || e.Term == 0 {
			return fmt.Errorf("%w: entries[%d] of Apply has index %d and term %d after index %d: both begin with 1, and the indexes ascend",
				ErrInvalid, i, e.Index, e.Term, last)
		}
		last = e.Index
	}
	return nil
}

// AppliedIndex returns the index of the last durable event. All entries up to this index are
// applied. If the last entries appended no event, AppliedIndex includes them only after Record.
// After the process was killed, the index is not lower. After a power cut it can be lower, because
// the watermark files are not synced with each Apply. It is never lower than at the end of the last
// Record, so the engine must keep all entries after that index.
func (r *Replica) AppliedIndex() uint64 { return r.store.Load().member.durable.Load() }

// Digest returns the digest at the last applied index, which may be above AppliedIndex.
func (r *Replica) Digest() Digest { return r.State().Digest() }

// State returns the state at the last applied index. It takes no lock and copies nothing.
func (r *Replica) State() *State {
	return &State{at: *r.store.Load().member.published.Load()}
}

// Store returns the store for reads. Every write on it returns ErrReplicated. After Replace it is
// another Store, and the old one keeps its old rows.
func (r *Replica) Store() *Store { return r.store.Load() }

// Record makes all applied entries durable, together with the applied index, even if the last
// entries appended no event. It may run concurrently with Apply. A member must call it before the
// engine discards the entries from its log.
func (r *Replica) Record() error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.run(recordNow)
}

// run commits a write that has no entry. The caller must hold mu.
func (r *Replica) run(task entryTask) error {
	if err := r.failure(); err != nil {
		return err
	}
	w := newWrite(nil)
	defer w.release()
	w.entry.task = task
	r.store.Load().commit(w)
	return w.commitError()
}

// syncAtIntervals makes the events durable at intervals, until the replica is closed.
func (r *Replica) syncAtIntervals() {
	ticker := time.NewTicker(r.opts.SyncInterval)
	defer ticker.Stop()
	for {
		select {
		case <-r.stopSync:
			return
		case <-ticker.C:
			r.mu.RLock()
			if m := r.store.Load().member; m.published.Load().eventIndex > m.durable.Load() {
				_ = r.run(makeDurable) // a failed store also fails the next Apply, and Health has the error
			}
			r.mu.RUnlock()
		}
	}
}

// failure returns the error of a Replace after which no store is open, or nil.
func (r *Replica) failure() error {
	if failed := r.failed.Load(); failed != nil {
		return *failed
	}
	return nil
}

// Health returns the error that stopped the replica, or nil. After it, the replica applies no
// entry. Health never waits for the disk, and returns nil during a Replace. See Store.Health.
func (r *Replica) Health() error {
	if err := r.failure(); err != nil {
		return err
	}
	s := r.store.Load()
	err := s.Health()
	if err == nil {
		if err = s.member.published.Load().rows.base.peek(); err != nil {
			err = fmt.Errorf("%w: %w", ErrFailed, err)
		}
	}
	if r.replacing.Load() || r.store.Load() != s { // Replace opens another store
		return nil
	}
	return err
}

// Close makes all applied entries durable and closes the log. A second call returns nil.
func (r *Replica) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	err := r.failure()
	if err == nil {
		err = errors.Join(r.run(recordNow), r.store.Load().close())
	}
	r.mu.Unlock()
	close(r.stopSync)
	r.syncing.Wait()
	return err
}
