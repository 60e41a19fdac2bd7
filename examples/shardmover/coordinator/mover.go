package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/examples/shardmover/shard"
	"migrationlog/projection"
	"migrationlog/raftlog"
)

const (
	catchUpTimeout  = 2 * time.Second       // after it, the move of a learner that is behind is aborted
	transferTimeout = 3 * time.Second       // after it, the move of a voter that does not become the leader is aborted
	maxLag          = 64                    // entries that a learner may be behind when it is promoted
	abortTimeout    = 10 * time.Second      // after it, a successor aborts a move that it could resume
	retryPause      = 20 * time.Millisecond // after a step that has failed
	searchPause     = 5 * time.Millisecond  // between two requests in a search for the leader
)

// mover carries out the moves of one leadership.
type mover struct {
	ctx      context.Context // ends with the leadership
	epoch    uint64
	proposer *raftlog.Proposer
	fsm      *raftlog.FSM
	groups   *groups
	log      *slog.Logger
	report   func(Progress)

	drivers sync.WaitGroup
	mu      sync.Mutex
	driven  map[checkpoint.MigrationID]bool
	pauses  map[checkpoint.MigrationID]time.Duration // of the transfers that this leadership has seen
}

// moveOf returns the move of a row.
func moveOf(row projection.Row) Move {
	f := row.Facts
	return Move{ID: row.Checkpoint.MigrationID, Group: f.SourceGroup, Source: f.SourceNode, Target: f.TargetNode}
}

// replica returns the replica that a move adds.
func (m Move) replica() shard.ReplicaID {
	return shard.ReplicaID{Node: m.Target, Group: m.Group, Tag: m.ID.String()}
}

// begin records a new move, and starts it. It can be repeated until the move has ended.
func (m *mover) begin(move Move) error {
	started := checkpoint.HLC{WallNS: uint64(time.Now().UnixNano())}
	receipt, err := m.upsert(m.ctx, move.ID, 0, checkpoint.AddLearner{
		VShardID: uint32(move.Group), SourceNode: move.Source, TargetNode: move.Target, SourceGroup: move.Group,
		WritePauseBudgetUS: uint64(transferTimeout.Microseconds()), StartedAtHLC: started,
	}, raftlog.IfVShardFree())
	if err == nil && !receipt.Duplicate {
		m.report(Progress{Step: checkpoint.PhaseAddLearner.String(), ID: move.ID, Group: move.Group})
	}
	if err == nil {
		m.start(move.ID)
	}
	return err
}

// upsert writes the next checkpoint of a migration. lastIndex is that of the row, or 0.
func (m *mover) upsert(ctx context.Context, id checkpoint.MigrationID, lastIndex uint64, p checkpoint.Payload, opts ...raftlog.Option) (raftlog.Receipt, error) {
	c, err := checkpoint.New(id, 0, p, uint64(time.Now().UnixMilli()))
	if err != nil {
		return raftlog.Receipt{}, err
	}
	return m.proposer.Upsert(ctx, c, append(opts, raftlog.IfIndex(lastIndex), raftlog.Term(m.epoch), raftlog.InOrder())...)
}

// record writes the checkpoint that follows the row.
func (m *mover) record(ctx context.Context, row projection.Row, p checkpoint.Payload) error {
	if _, err := m.upsert(ctx, row.Checkpoint.MigrationID, row.LastIndex, p); err != nil {
		return err
	}
	m.report(Progress{Step: p.Phase().String(), ID: row.Checkpoint.MigrationID, Group: row.Facts.SourceGroup})
	return nil
}

// start starts the goroutine that carries out a move, if there is none.
func (m *mover) start(id checkpoint.MigrationID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.driven[id] || m.ctx.Err() != nil {
		return
	}
	m.driven[id] = true
	m.drivers.Go(func() { m.drive(id) })
}

// wait waits until no move is carried out. The context must have ended.
func (m *mover) wait() { m.drivers.Wait() }

// drive carries out a move, step by step, until it has ended or another coordinator leads. Each
// step begins with the row, so a step that has failed is repeated, and a successor continues at the
// same place.
func (m *mover) drive(id checkpoint.MigrationID) {
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.driven, id)
	}()
	for m.ctx.Err() == nil {
		row, found := m.fsm.Store().Row(id)
		if !found {
			return
		}
		err := m.step(m.ctx, row)
		var hopeless *hopelessError
		if errors.As(err, &hopeless) {
			err = m.abort(m.ctx, row, hopeless.reason)
		}
		if errors.Is(err, migrationlog.ErrFenced) || m.ctx.Err() != nil {
			return // another coordinator continues with the move
		}
		if err != nil {
			m.log.Info("a step is repeated", "migration", id, "phase", row.Checkpoint.Phase().String(), "error", err)
			_ = sleep(m.ctx, retryPause)
		}
	}
}

// hopelessError is returned by a step that will not succeed. The move is then aborted.
type hopelessError struct{ reason string }

func (e *hopelessError) Error() string { return e.reason }

// hopeless returns a hopelessError if the step's time has passed while the coordinator leads.
func (m *mover) hopeless(step context.Context, format string, args ...any) error {
	if m.ctx.Err() == nil && step.Err() != nil {
		return &hopelessError{fmt.Sprintf(format, args...)}
	}
	return context.Cause(step)
}

// step carries out the step that follows the row, and records it. It can be repeated.
func (m *mover) step(ctx context.Context, row projection.Row) error {
	if row.Facts.Abort != nil {
		return m.finishAbort(ctx, row)
	}
	switch row.Checkpoint.Phase() {
	case checkpoint.PhaseAddLearner:
		return m.addLearner(ctx, row)
	case checkpoint.PhaseCatchUp:
		return m.catchUp(ctx, row)
	case checkpoint.PhasePromoteLearner:
		return m.announceTransfer(ctx, row)
	case checkpoint.PhaseLeadershipTransfer:
		return m.transfer(ctx, row)
	case checkpoint.PhaseCutover:
		return m.cutOver(ctx, row)
	default:
		return m.remove(ctx, row)
	}
}
