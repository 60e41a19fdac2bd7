package raftlog

import (
	"log/slog"

	"migrationlog"
)

// Options configures Open. A nil *Options or the zero value selects the defaults.
type Options struct {
	// Store configures the store. NoSync and OnDamage must be zero. If Store.Logger is nil, the
	// store uses Logger.
	Store migrationlog.Options

	// NodeID is the member's name in the messages of the logger, for example its raft.ServerID.
	NodeID string

	// Logger receives the messages of this package. If it is nil, they are discarded. Raft has a
	// logger of its own, in raft.Config.
	Logger *slog.Logger

	// OnFailure is called once, with the reason, if the member must stop: the store has failed, an
	// entry needs a newer version, or raft's log does not belong to the store. It is called on raft's
	// own goroutine, so it may call raft.Shutdown, but it must not wait for the future. After it has
	// returned, the FSM applies no entry, and each response is an ErrUnknownOutcome with the reason.
	// If OnFailure is nil, the FSM logs the reason and panics, which ends the process.
	OnFailure func(error)

	// RelaxedSync syncs the store at intervals and before each raft snapshot, instead of with each
	// batch. Raft delivers the entries after the last sync again.
	RelaxedSync bool

	// AcceptLoss continues with the rows that are left if the store has lost events. Use it only if no
	// raft snapshot can restore the store. The other members must be restored from this one: see
	// docs/REPLICATION.md. The manifest of the new log records the accepted loss.
	AcceptLoss bool
}
