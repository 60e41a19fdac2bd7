package raftlog

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"migrationlog"
)

// Configure decides if raft restores its newest snapshot at the start, and sets
// conf.NoSnapshotRestoreOnStart. Call it before raft.NewRaft, with the same configuration,
// snapshots and FSM.
//
//   - If the store is at or past the snapshot, raft does not restore it. The store keeps its
//     history.
//   - If the store is behind the snapshot, raft restores it. Otherwise raft would adopt the index
//     of the snapshot, and the entries up to it would be missing without an error (raft #340,
//     rqlite #2747).
//   - If the store is behind the snapshot, and the snapshot cannot be read, Configure returns an
//     error. Raft would restore an older snapshot, and miss the entries between the two (raft #85).
//
// If the store is past a snapshot that cannot be read, Configure logs an error, because raft sends
// this snapshot to members that are far behind.
func Configure(conf *raft.Config, snaps raft.SnapshotStore, fsm *FSM) error {
	all, err := snaps.List() // the newest first
	if err != nil {
		return fmt.Errorf("list raft's snapshots: %w", err)
	}
	conf.NoSnapshotRestoreOnStart = false
	fsm.start = start{continues: true}
	if len(all) == 0 {
		return nil
	}
	newest, applied := all[0], fsm.AppliedIndex()
	if applied >= newest.Index {
		fsm.keepState(conf, newest)
		if _, source, err := snaps.Open(newest.ID); err != nil {
			fsm.logger.Error("raft's newest snapshot cannot be opened: take another one, for members that are far behind",
				"snapshot", newest.ID, "snapshot_index", newest.Index, "error", err)
		} else if err := source.Close(); err != nil {
			return fmt.Errorf("close raft snapshot %s: %w", newest.ID, err)
		}
		return nil
	}
	digest, err := readDigest(snaps, newest.ID)
	if err != nil {
		return newestLostError(newest, applied, err)
	}
	// The index of a snapshot is that of raft's last entry, and raft does not pass all of its own
	// entries to the FSM. The store can therefore have the state of a snapshot with a higher index.
	if fsm.hasState(digest) {
		fsm.keepState(conf, newest)
		return nil
	}
	fsm.start.snapshot = &digest
	fsm.logger.Info("the store is behind raft's newest snapshot: raft restores it", "index", applied, "snapshot", newest.ID, "snapshot_index", newest.Index)
	return nil
}

// readDigest reads a snapshot to its end, and returns the digest of its state.
func readDigest(snaps raft.SnapshotStore, id string) (migrationlog.Digest, error) {
	_, source, err := snaps.Open(id)
	if err != nil {
		return migrationlog.Digest{}, err
	}
	state, err := migrationlog.ReadState(source)
	if err = errors.Join(err, source.Close()); err != nil {
		return migrationlog.Digest{}, err
	}
	return state.Digest(), nil
}

// newestLostError returns the error for a member whose store is behind a snapshot that cannot be
// read.
func newestLostError(newest *raft.SnapshotMeta, applied uint64, err error) error {
	advice := "Remove this server from raft's configuration, empty its raft directory and its store, and add it again: the leader then sends its own snapshot"
	if errors.Is(err, migrationlog.ErrNewerFormat) {
		advice = "Upgrade this member"
	}
	return fmt.Errorf("raft's newest snapshot %s has index %d and cannot be read (%w), and the store is at index %d. Raft would restore an older snapshot, and miss entries. %s",
		newest.ID, newest.Index, err, applied, advice)
}

// keepState makes raft continue after its newest snapshot without restoring it. Raft does not deliver
// the entries up to there again, and labels the next snapshot with a higher index.
func (f *FSM) keepState(conf *raft.Config, newest *raft.SnapshotMeta) {
	conf.NoSnapshotRestoreOnStart = true
	f.delivered = newest.Index
}
