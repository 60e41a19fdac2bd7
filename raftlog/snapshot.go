package raftlog

import (
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"migrationlog"
)

// Snapshot returns the state at the last applied index. The state never changes, because raft
// writes it while it applies further entries (go-libp2p-raft #69).
//
// After a start, raft delivers entries again that the store has applied. Until it has delivered all
// of them, Snapshot returns an error, and raft tries again later. Raft would otherwise give the
// snapshot a lower index than that of the state. A member of another cluster that restores it would
// skip new entries.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) {
	if err := f.stopReason(); err != nil {
		return nil, err
	}
	state := f.replica.State()
	if index, _ := state.Position(); f.delivered < index {
		return nil, fmt.Errorf("raft has delivered entries up to %d since the start, and the store has applied entry %d: raft takes the snapshot later", f.delivered, index)
	}
	return &snapshot{fsm: f, state: state}, nil
}

// snapshot is a state that raft may write into a snapshot. Raft calls Persist at most once, while
// it applies further entries. It calls Release in every case.
type snapshot struct {
	fsm   *FSM
	state *migrationlog.State
}

// Persist writes the state. Raft deletes the entries of the snapshot from its log after Persist has
// returned. Persist therefore makes them durable in the store first, together with the applied
// index, which is otherwise behind if the last entries have appended no event.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.persist(sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return nil
}

func (s *snapshot) persist(sink raft.SnapshotSink) error {
	if _, err := s.state.WriteTo(sink); err != nil {
		return fmt.Errorf("write raft snapshot %s: %w", sink.ID(), err)
	}
	if err := s.fsm.replica.Record(); err != nil {
		return s.fsm.stop(fmt.Errorf("the store has failed: %w", err))
	}
	return sink.Close()
}

// Release drops the state.
func (s *snapshot) Release() { s.state = nil }

// Restore replaces the state by that of a raft snapshot. Raft calls it at a start, if the leader
// sends its snapshot, and if an operator restores a backup. A backup is older than the state, and
// Raft does not show which of these three cases it is. Restore therefore also replaces a newer
// state. It keeps the state only if state and history are those of the snapshot.
//
// If Restore returns an error, the old state is in use, unless the member has stopped. (Rqlite
// #2759: after a failed Restore the leader panics and a follower continues.)
func (f *FSM) Restore(source io.ReadCloser) error {
	if err := f.stopReason(); err != nil {
		return err
	}
	state, err := migrationlog.ReadState(source)
	if err != nil {
		return fmt.Errorf("read raft snapshot: %w", err)
	}
	restored := positionOf(state)
	if first := f.start.snapshot; first != nil && state.Digest() != *first {
		// Raft tries an older snapshot if it cannot restore the newest, and then misses the entries
		// between the two (raft #85).
		return fmt.Errorf("this raft snapshot has the state at index %d, and the newest one has the state at index %d, which raft did not restore: "+
			"raft's messages have the reason", restored.index, first.Index)
	}
	if f.hasState(state.Digest()) {
		f.logger.Info("the store has the state of a raft snapshot already", "index", restored.index)
	} else if err := f.replace(state, restored.index); err != nil {
		return err
	}
	f.last = restored
	f.delivered = restored.index
	f.start = start{continues: true, restored: restored.index}
	return nil
}

// hasState reports whether the store has this state, with this history.
func (f *FSM) hasState(d migrationlog.Digest) bool {
	index, term := f.replica.State().Position()
	return d.Index == index && d.Term == term && d == f.replica.Digest()
}

// replace replaces the state of the store by one at this index.
func (f *FSM) replace(state *migrationlog.State, index uint64) error {
	present, _ := f.replica.State().Position()
	err := f.replica.Replace(state)
	if errors.Is(err, migrationlog.ErrFailed) || errors.Is(err, migrationlog.ErrClosed) {
		return f.stop(fmt.Errorf("the store has failed while it restored a raft snapshot: %w", err))
	}
	if err != nil {
		f.last = positionOf(f.replica.State())
		f.logger.Error("a raft snapshot was not restored: the store keeps its state", "state_index", index, "index", present, "error", err)
		return fmt.Errorf("restore the state at index %d: %w", index, err)
	}
	f.logger.Info("a raft snapshot was restored: the old log was set aside, and the history now begins at its index",
		"state_index", index, "rows", state.Len(), "old_index", present)
	return nil
}
