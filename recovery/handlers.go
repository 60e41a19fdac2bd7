package recovery

import (
	"context"

	"migrationlog/checkpoint"
)

// Handlers has the functions through which the method Recover of a log acts on the cluster. The log
// is a migrationlog.Store, or a Proposer of a replicated log. Recover calls the functions from several
// goroutines at the same time. Two migrations of one vShard are handled one after the other.
//
// Every handler must guarantee two things:
//
//   - It can be repeated. If the coordinator ends after an effect and before its record, the next
//     Recover calls the handler again. Removing a peer that is not there must succeed.
//   - Its effects are fenced. The cluster must refuse an effect with an epoch below the highest one
//     that it has seen. Recover compares the epoch before each call, but a call that is already
//     under way can be late. If the cluster refuses, the handler returns an error that wraps
//     migrationlog.ErrFenced, and Recover stops.
type Handlers struct {
	// Epoch is the term of this coordinator. Every write of Recover has it, and every handler
	// receives it. Each start of a coordinator must have an epoch of its own, higher than all before
	// it. If the lock of the log separates the coordinators, that is Store.Epoch() + 1. If
	// Report.EpochUncertain is true, the log may have lost a higher epoch, so also ask the cluster for
	// the highest one that it has seen. In a Store the value 0 is allowed only if the log has no
	// epochs. In a replicated log, 0 selects raft's term, because each term has one leader.
	Epoch uint64

	// Concurrency is the maximum number of migrations that are handled at the same time. The value 0
	// selects 8.
	Concurrency int

	// Compensate carries out one compensation of an abort. It is required. No step of the move that
	// was proposed earlier may take effect after Compensate has returned nil. RemoveLearner must
	// also remove a peer that has become a voter.
	Compensate func(ctx context.Context, s Step) error

	// CleanUp removes the rest of a completed migration from the cluster, before Recover removes its
	// row. If it is nil, Recover only removes the row.
	CleanUp func(ctx context.Context, d Decision, epoch uint64) error

	// Resume continues a migration with the step after its row, or starts a goroutine that does so.
	// Such a goroutine needs another context, because ctx ends when Recover returns. Its writes must
	// have the Epoch, and IfSeq with the LastSeq of d.Row (in a replicated log IfIndex with its
	// LastIndex). If Resume is nil, the caller resumes the migrations of the result.
	Resume func(ctx context.Context, d Decision, epoch uint64) error

	// Ask passes the questions of a decision to a person or to the cluster. If the decision's reason
	// is UnnamedInDoubt, it has no row. If Ask is nil, the caller reads the questions from the result.
	Ask func(ctx context.Context, d Decision, epoch uint64) error
}

// Step is one compensation of an abort that is under way.
type Step struct {
	MigrationID  checkpoint.MigrationID
	Step         uint32 // index in the compensations of the abort
	Compensation checkpoint.Compensation
	Reason       string   // of the abort
	Epoch        uint64   // Handlers.Epoch
	Decision     Decision // made before the abort was begun, or before it was continued
}

// Recovered is the result of one decision.
type Recovered struct {
	Decision Decision
	// Done is true if the row was cleaned up or aborted, or if the handler of a Resume or an
	// AskFirst returned nil. It is false without such a handler. It is also false, without an error,
	// for a CleanUp that waits for the answer to another migration's question, see Recover.
	Done bool
	// FailedStep is the compensation at which an abort stopped, or nil. It is an index in the
	// compensations of the abort.
	FailedStep *uint32
	Err        error // nil if nothing failed
}
