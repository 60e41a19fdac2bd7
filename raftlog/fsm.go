package raftlog

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/hashicorp/raft"

	"migrationlog"
)

// FSM is raft's state machine on one member: a replica of the store. It implements raft.FSM,
// raft.BatchingFSM and raft.ConfigurationStore. The program may call the other methods at any time.
type FSM struct {
	replica   *migrationlog.Replica
	logger    *slog.Logger
	onFailure func(error) // nil: panic

	// Raft calls the methods of its interfaces on one goroutine at a time, before NewRaft returns and
	// after. Only these methods use the following fields.
	entries []migrationlog.Entry
	scratch [scratchBytes]byte
	last    position // of the last entry that the store has applied
	start   start
	// delivered is the index up to which raft has delivered entries since the start, or that of the
	// snapshot after which raft continues.
	delivered uint64

	mu      sync.Mutex // not held during I/O
	stats   Stats
	stopped error // the reason for which the member applies nothing more
}

// position is the place of an entry in raft's log.
type position struct{ index, term uint64 }

// start describes how raft begins to deliver entries.
type start struct {
	// continues is true if no entry is missing between the store and the next entry that raft
	// delivers. Raft does not deliver some entries of its own.
	continues bool
	// restored is the index of the last restored state. Raft delivers no entry up to it.
	restored uint64
	// snapshot is the state that raft must restore first, or nil.
	snapshot *migrationlog.Digest
}

// Open opens or creates the store in dir. Before raft.NewRaft, call Configure. A nil opts selects
// the defaults. In addition to the errors of migrationlog.Open it returns migrationlog.ErrUnfit if
// the store has lost events. The page docs/REPLICATION.md has the steps for such a member.
func Open(dir string, opts *Options) (*FSM, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.NodeID != "" {
		o.Logger = o.Logger.With("node", o.NodeID)
	}
	o.Store.Logger = cmp.Or(o.Store.Logger, o.Logger)
	replica, err := migrationlog.OpenReplica(dir, &migrationlog.ReplicaOptions{
		Store: o.Store, RelaxedSync: o.RelaxedSync, AcceptLoss: o.AcceptLoss,
	})
	if err != nil {
		return nil, err
	}
	f := &FSM{replica: replica, logger: o.Logger.With("dir", dir), onFailure: o.OnFailure}
	f.last = positionOf(replica.State())
	return f, nil
}

func positionOf(s *migrationlog.State) position {
	index, term := s.Position()
	return position{index, term}
}

// Store returns the store for reads. Every write on it returns ErrReplicated. After a Restore it is
// another Store, so call this method again for each read. If a read must have all committed events,
// call raft.Barrier on the leader first, also after an election (raft #146).
func (f *FSM) Store() *migrationlog.Store { return f.replica.Store() }

// AppliedIndex returns the raft index up to which all entries are applied and durable. While the
// member runs, it becomes lower only if an older backup is restored. See Replica.AppliedIndex.
func (f *FSM) AppliedIndex() uint64 { return f.replica.AppliedIndex() }

// Digest returns the digest of the state at the last applied index. Members at the same index have
// the same digest.
func (f *FSM) Digest() (index uint64, sum [32]byte) {
	d := f.replica.Digest()
	return d.Index, d.State
}

// Health returns nil, or the error after which the member applies no entry. It never waits for the
// disk.
func (f *FSM) Health() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return cmp.Or(f.stopped, f.replica.Health())
}

// Stats counts the entries since Open. Each entry is counted once.
type Stats struct {
	Appended   uint64 // entries that appended an event
	Duplicates uint64 // entries whose event the log had already
	Unchanged  uint64 // entries that appended nothing: configurations, and ends of migrations without a row
	Refused    uint64 // entries that a guard or a check has refused, without the malformed ones
	Malformed  uint64 // entries that are not in the form of docs/FORMAT.md
	Opaque     uint64 // entries of a later version without an effect on the state, recorded as they are
	Skipped    uint64 // entries that the store had applied before, which raft delivers again after a start
}

// Stats returns the counts of entries since Open.
func (f *FSM) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

// Close makes all applied entries durable and closes the store. First shut raft down, and wait for
// the future of raft.Shutdown. Reads still work after Close.
func (f *FSM) Close() error {
	f.mu.Lock()
	f.stopped = cmp.Or(f.stopped, error(migrationlog.ErrClosed))
	f.mu.Unlock()
	return f.replica.Close()
}

// stop makes the member apply no more entries, and reports the reason once. It returns the reason
// of the first call.
func (f *FSM) stop(reason error) error {
	f.mu.Lock()
	first := f.stopped == nil
	f.stopped = cmp.Or(f.stopped, reason)
	reason = f.stopped
	f.mu.Unlock()
	if first {
		f.logger.Error("this member stops: it applies no more entries until it is started again", "error", reason)
		if f.onFailure == nil {
			panic(fmt.Sprintf("raftlog: this member stops: %v", reason))
		}
		f.onFailure(reason)
	}
	return reason
}

// stopReason returns the reason for which the member has stopped, or nil.
func (f *FSM) stopReason() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stopped
}

// notApplied sets the responses to entries that a stopped member does not apply. The other members
// may apply them.
func notApplied(responses []any, reason error) []any {
	for i := range responses {
		responses[i] = fmt.Errorf("%w: this member has stopped: %w", ErrUnknownOutcome, reason)
	}
	return responses
}

// Receipt is the result of a proposal that was applied.
type Receipt struct {
	Index     uint64 // raft's index of the appended event, or of the migration's last event for a Duplicate; 0: no row exists and nothing was appended
	Duplicate bool   // the log had the event already: the row has this phase and attempt, or the abort has this list or step
}

// Apply applies one entry. Raft calls ApplyBatch instead, except in raft.RecoverCluster.
func (f *FSM) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// StoreConfiguration raises the applied index. Raft calls it only if a state machine has no
// ApplyBatch. For this FSM, raft passes configurations to ApplyBatch (raft's fsm.go). The method is
// needed nevertheless. Without it, an idle group could not take a snapshot after a change of its
// configuration (raft's snapshot.go).
func (f *FSM) StoreConfiguration(index uint64, _ raft.Configuration) {
	f.Apply(&raft.Log{Index: index, Term: max(1, f.last.term), Type: raft.LogConfiguration})
}

// ApplyBatch applies committed entries as one group commit. It returns one response for each entry,
// in order, because raft panics otherwise (raft's fsm.go). A response is
//
//   - a Receipt if the entry was applied
//   - an error if the entry was refused: an error of the store's guards, or ErrMalformed. All members
//     refuse the same entries. The Response of raft's future is this error, and its Error is nil
//   - nil for a configuration, and for an entry that the store had applied before
//   - an error that wraps ErrUnknownOutcome if this member has stopped
//
// ApplyBatch does not read a clock, so that members with different clocks have equal states
// (nomad #13725).
func (f *FSM) ApplyBatch(logs []*raft.Log) []any {
	responses := make([]any, len(logs))
	if reason := f.stopReason(); reason != nil {
		return notApplied(responses, reason)
	}
	var stats Stats
	reason := f.decode(logs, responses, &stats)
	if n := len(f.entries); n > 0 {
		applied, err := f.replica.Apply(f.entries)
		if err != nil {
			return notApplied(responses, f.stop(fmt.Errorf("the store has failed: %w", err)))
		}
		for i := range applied {
			if responses[i] == nil {
				responses[i] = f.respond(logs[i], f.entries[i].Opaque != nil, &applied[i], &stats)
			}
		}
		f.setDelivered(logs[n-1])
	}
	f.addStats(&stats)
	if reason != nil { // the entries before the one that stops the member are applied
		notApplied(responses[len(f.entries):], f.stop(reason))
	}
	return responses
}

// setDelivered records the last entry of a batch.
func (f *FSM) setDelivered(l *raft.Log) {
	f.delivered = l.Index
	if l.Index > f.last.index {
		f.last = position{l.Index, l.Term}
	}
}

// decode sets f.entries to the entries of a batch that this member applies: all of them, or those
// before the entry at which it must stop. It returns the reason for the stop, and sets the
// responses to malformed entries.
func (f *FSM) decode(logs []*raft.Log, responses []any, stats *Stats) (reason error) {
	f.entries = f.entries[:0]
	for i, l := range logs {
		if err := f.checkContinues(l); err != nil {
			return err
		}
		next := migrationlog.Entry{Index: l.Index, Term: l.Term}
		if l.Type == raft.LogCommand && l.Index > f.last.index {
			e, err := decodeEntry(l.Data, f.scratch[:0])
			if newer := (*NewerEntryError)(nil); errors.As(err, &newer) {
				newer.Index = l.Index
				return newer
			}
			if err != nil {
				f.logger.Error("an entry was refused on all members: does another program write to this raft group?", "index", l.Index, "error", err)
				responses[i] = err
				stats.Malformed++
			} else {
				next.Event, next.Opaque, next.Options = e.event, e.opaque, e.writeOptions()
			}
		}
		f.entries = append(f.entries, next)
	}
	return nil
}

// checkContinues returns ErrForeignLog if an entry cannot follow the entries that the store has
// applied.
func (f *FSM) checkContinues(l *raft.Log) error {
	switch last := f.last; {
	case l.Index <= f.start.restored:
		return fmt.Errorf("%w: raft delivers entry %d after it has restored a snapshot of index %d. The snapshot was given to raft.Restore with a lower index: "+
			"restore it again with its own raft.SnapshotMeta", ErrForeignLog, l.Index, f.start.restored)
	case l.Index == last.index && l.Term != last.term, l.Index < last.index && l.Term > last.term:
		return fmt.Errorf("%w: raft delivers entry %d of term %d again, and the store has applied entry %d of term %d. "+
			"Rename the store's directory, and start the member again: raft then restores the store", ErrForeignLog, l.Index, l.Term, last.index, last.term)
	case f.start.snapshot != nil:
		return fmt.Errorf("%w: Configure found that raft must restore its newest snapshot, with the state at index %d, and raft delivers entry %d instead. "+
			"Do not change raft.Config.NoSnapshotRestoreOnStart after Configure", ErrForeignLog, f.start.snapshot.Index, l.Index)
	case !f.start.continues && l.Index > last.index+1:
		// Raft has adopted the index of a snapshot that the store does not have (raft #340).
		return fmt.Errorf("%w: the store has applied entry %d, and raft continues with entry %d. "+
			"Call Configure before raft.NewRaft. It finds out whether the store has the entries in between", ErrForeignLog, last.index, l.Index)
	}
	f.start.continues = true
	return nil
}

// respond returns the response to an applied entry, and counts it.
func (f *FSM) respond(l *raft.Log, opaque bool, a *migrationlog.Applied, stats *Stats) any {
	switch {
	case a.Skipped:
		stats.Skipped++
		return nil
	case a.Err != nil:
		stats.Refused++
		return a.Err
	case l.Type != raft.LogCommand:
		stats.Unchanged++
		return nil
	case a.Receipt.Duplicate:
		stats.Duplicates++
	case !a.Receipt.Appended():
		stats.Unchanged++
	case opaque:
		f.logger.Warn("an entry of a later version was recorded as it is: upgrade this member", "index", l.Index)
		stats.Opaque++
	default:
		stats.Appended++
	}
	return Receipt{Index: a.Index, Duplicate: a.Receipt.Duplicate}
}

func (f *FSM) addStats(s *Stats) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.Appended += s.Appended
	f.stats.Duplicates += s.Duplicates
	f.stats.Unchanged += s.Unchanged
	f.stats.Refused += s.Refused
	f.stats.Malformed += s.Malformed
	f.stats.Opaque += s.Opaque
	f.stats.Skipped += s.Skipped
}

var (
	_ raft.BatchingFSM        = (*FSM)(nil)
	_ raft.ConfigurationStore = (*FSM)(nil)
)
