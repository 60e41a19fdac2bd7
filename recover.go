package migrationlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/recovery"
)

// defaultConcurrency is the default of Handlers.Concurrency.
const defaultConcurrency = 8

// The parameters and the results of Recover are types of package recovery, because they belong to
// every kind of log.
type (
	Handlers  = recovery.Handlers
	Step      = recovery.Step
	Recovered = recovery.Recovered
)

// Recover plans with recovery.Plan and carries out each decision. Call it at the start of a
// coordinator, before it begins new migrations.
//
//   - CleanUp: Recover calls Handlers.CleanUp, and removes the row. If a question of another migration
//     is whether this one uses a peer (recovery.PeerShared), the row stays until a later Recover.
//     Without the row, the next plan would abort the other migration and remove the peer.
//   - Abort: Recover records the list of compensations with BeginAbort. It then calls
//     Handlers.Compensate for each, and records it with Compensated. At the end it records the Abort.
//   - Resume, AskFirst: Recover calls the handler. The row stays.
//
// If the process ends at any point, the next Recover continues. It does not repeat a recorded step.
// For each migration that was being handled, it may repeat one step that was carried out and not
// recorded. It calls Resume and Ask again for each row that is still there.
//
// Recover returns one result for each decision, in the order of Plan. If a handler or a write
// fails, that migration stops, its result has the error, and the others continue. Call Recover
// again to continue with it. ErrConflict in a result means that another writer has changed the row
// since the plan. These errors stop everything before the next step, and Recover returns them with
// the results: ErrFenced if a coordinator with a higher epoch has written to the log or the cluster
// has refused an effect, ErrFailed, ErrClosed, and the error of ctx. If the epoch cannot be raised,
// or a field of Handlers is invalid (ErrInvalid), Recover returns no results.
//
// Recover first raises the log's epoch to Handlers.Epoch, if that is higher. After that, the log
// refuses every write with a lower epoch. It does not refuse a write without the option Epoch. Only
// then Recover calls the functions of the policy. Policy.Leader must fence the group with the epoch
// before it reads the leader. Otherwise a transfer of an earlier coordinator can commit after the
// abort was decided. Recover sets Policy.UnnamedInDoubt if the Report has it, or if a migration
// without a row is in doubt. Ages are measured by Options.Now.
//
// Up to Handlers.Concurrency migrations are handled at the same time. The migrations of one vShard
// are handled one after another. Aborts and clean-ups come first, because they free the vShard for a
// migration that resumes. If an abort fails, the vShard is not free, and the result of the migration
// that would resume has an error.
//
// ctx is checked before an abort begins and before each handler call. The handlers receive a ctx
// that also ends if everything stops. A step that was carried out is recorded even if ctx has ended.
// Do not call Recover twice at the same time with one epoch.
func (s *Store) Recover(ctx context.Context, p recovery.Policy, h Handlers) ([]Recovered, error) {
	if s.member != nil {
		return nil, fmt.Errorf("recover: %w", s.errReplicated())
	}
	missing := len(s.view.Load().InDoubtWithoutRow()) > 0
	p.UnnamedInDoubt = p.UnnamedInDoubt || s.report.UnnamedInDoubt || missing //mutant:recover-unnamed
	return RecoverOn(ctx, recoveredStore{s}, p, h)
}

// A RecoveryLog is a log on which RecoverOn carries out a plan. A position identifies an event. It is
// the sequence number in a Store, and the index in the log of a consensus engine.
type RecoveryLog interface {
	Rows() iter.Seq[projection.Row] // as Store.Rows
	Row(id checkpoint.MigrationID) (row projection.Row, ok bool)
	Epoch() uint64  // the highest epoch of the log
	Now() time.Time // the clock of the plan and of the events
	// Position returns the position of a row's last event of any kind, and 0 for the zero Row.
	Position(row projection.Row) uint64
	// Check returns an error if this process must write no more, for example because the log has
	// failed, or because another process now leads. RecoverOn then stops before the next step.
	Check(ctx context.Context) error
	// Write writes an event, and returns its position. The write fails with ErrConflict unless the
	// migration's last event has the position last, which is 0 for no row. If epoch is above 0, the
	// write fails with ErrFenced if the log has a higher one.
	Write(ctx context.Context, e checkpoint.Event, last, epoch uint64) (position uint64, err error)
}

// RecoverOn carries out a plan on any kind of log, as Store.Recover does on a Store. Embedders of a
// consensus engine call it on the leader, after the leader has applied all committed entries.
func RecoverOn(ctx context.Context, log RecoveryLog, p recovery.Policy, h Handlers) ([]Recovered, error) {
	if h.Compensate == nil {
		return nil, fmt.Errorf("recover: %w: Handlers.Compensate is nil: set the function that carries out a compensation", ErrInvalid)
	}
	if h.Concurrency < 0 {
		return nil, fmt.Errorf("recover: %w: Handlers.Concurrency is %d, which is negative: use 0 for the default", ErrInvalid, h.Concurrency)
	}
	if err := claimEpoch(ctx, log, h.Epoch); err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	decisions := recovery.Plan(slices.Collect(log.Rows()), p, nowMS(log))

	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r := &recoverer{log: log, handlers: h, ctx: ctx, stop: stop, inQuestion: inQuestion(decisions)}
	results := r.carryOutAll(decisions)
	failed := slices.ContainsFunc(results, func(result Recovered) bool { return result.Err != nil })
	if failed && ctx.Err() != nil {
		return results, fmt.Errorf("recover: %w", context.Cause(ctx))
	}
	return results, nil
}

// nowMS returns the time of the log's clock, in Unix milliseconds.
func nowMS(log RecoveryLog) uint64 { return uint64(max(0, log.Now().UnixMilli())) }

// recoveredStore is a Store as a RecoveryLog.
type recoveredStore struct{ *Store }

func (s recoveredStore) Now() time.Time { return s.opts.Now() }

func (s recoveredStore) Position(row projection.Row) uint64 { return row.LastSeq }

func (s recoveredStore) Check(context.Context) error {
	if err := s.Health(); errors.Is(err, ErrFailed) || errors.Is(err, ErrClosed) { //mutant:recover-health-checked
		return err
	}
	return nil
}

func (s recoveredStore) Write(_ context.Context, e checkpoint.Event, last, epoch uint64) (position uint64, err error) {
	guards := []WriteOption{IfSeq(last)} //mutant:recover-if-seq
	if epoch > 0 {                       //mutant:recover-epoch-written
		guards = append(guards, Epoch(epoch))
	}
	w := newWrite(guards)
	w.setEvent(e)
	receipt, err := s.write(w)
	return receipt.Seq, err
}

// claimEpoch raises the log's epoch. It returns ErrFenced if the log's epoch is higher. A
// coordinator without an epoch is refused on a log that has one, because nothing would fence it. The
// event belongs to no migration, so that it changes no row.
func claimEpoch(ctx context.Context, log RecoveryLog, epoch uint64) error {
	if epoch == 0 {
		return checkEpoch(log, epoch) //mutant:recover-needs-epoch
	}
	for id := checkpoint.StoreID; ; id = uuid.New() {
		_, err := log.Write(ctx, checkpoint.Removed{MigrationID: id, TimestampMS: nowMS(log)}, 0, epoch) //mutant:recover-claims-epoch
		if !errors.Is(err, ErrConflict) && !errors.Is(err, ErrAborting) {
			return err
		}
		// An earlier version accepted a row with this id, which must stay.
	}
}

// checkEpoch returns ErrFenced if the log has an epoch above this one.
func checkEpoch(log RecoveryLog, epoch uint64) error {
	if current := log.Epoch(); current > epoch {
		return fmt.Errorf("%w: the log has epoch %d and this coordinator has epoch %d: end this coordinator, or start it with a higher epoch", ErrFenced, current, epoch)
	}
	return nil
}

// recoverer carries out the decisions of one plan.
type recoverer struct {
	log      RecoveryLog
	handlers Handlers
	ctx      context.Context
	stop     context.CancelCauseFunc // ends everything before the next step
	// inQuestion has the migrations of which a question asks if they use a peer.
	inQuestion map[checkpoint.MigrationID]bool
}

// inQuestion returns the migrations of which a question asks if they use a peer.
func inQuestion(decisions []recovery.Decision) map[checkpoint.MigrationID]bool {
	ids := map[checkpoint.MigrationID]bool{}
	for i := range decisions {
		for _, ask := range decisions[i].Asks {
			if ask.Topic == recovery.TopicPeer {
				for _, id := range ask.SharedWith {
					ids[id] = true
				}
			}
		}
	}
	return ids
}

// carryOutAll returns one result for each decision, in the same order.
func (r *recoverer) carryOutAll(decisions []recovery.Decision) []Recovered {
	results := make([]Recovered, len(decisions))
	queues := queuesByVShard(decisions)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(cmp.Or(r.handlers.Concurrency, defaultConcurrency), len(queues)) { //mutant:recover-concurrency
		workers.Go(func() {
			for n := next.Add(1); int(n) <= len(queues); n = next.Add(1) {
				r.carryOutQueue(queues[n-1], decisions, results)
			}
		})
	}
	workers.Wait()
	return results
}

// carryOutQueue carries out the decisions about one vShard. If an abort fails, its migration still
// moves the vShard, so no other migration of the vShard is resumed.
func (r *recoverer) carryOutQueue(queue []int, decisions []recovery.Decision, results []Recovered) {
	var inFlight *recovery.Decision
	for _, i := range queue {
		d := decisions[i]
		if d.Action == recovery.Resume && inFlight != nil { //mutant:recover-vshard-not-free
			results[i] = Recovered{Decision: d, Err: fmt.Errorf("migration %s (%s, %s): %w: the abort of migration %s of the same vShard has failed",
				d.MigrationID(), d.Action, d.Reason, ErrMigrationInProgress, inFlight.MigrationID())}
			continue
		}
		results[i] = r.carryOut(d)
		if d.Action == recovery.Abort && results[i].Err != nil {
			inFlight = &results[i].Decision
		}
	}
}

// queuesByVShard returns the indexes of the decisions in one queue for each vShard. In a queue the
// migrations that end come first. Their vShard is then free for one that resumes. A decision without
// a row has a queue of its own.
func queuesByVShard(decisions []recovery.Decision) [][]int {
	var queues [][]int
	queueOf := map[uint32]int{}
	for i := range decisions {
		payload := decisions[i].Row.Checkpoint.Payload
		if payload == nil {
			queues = append(queues, []int{i})
			continue
		}
		n, found := queueOf[payload.Shard()]
		if !found { //mutant:recover-vshard-queue
			n = len(queues)
			queueOf[payload.Shard()], queues = n, append(queues, nil)
		}
		queues[n] = append(queues[n], i)
	}
	for _, queue := range queues {
		slices.SortStableFunc(queue, func(i, j int) int { return cmp.Compare(turn(&decisions[i]), turn(&decisions[j])) }) //mutant:recover-ends-first
	}
	return queues
}

// turn orders the migrations of one vShard.
func turn(d *recovery.Decision) int {
	if d.Action == recovery.CleanUp || d.Action == recovery.Abort {
		return 0
	}
	return 1
}

// carryOut carries out one decision. If an error concerns all migrations, it stops them.
func (r *recoverer) carryOut(d recovery.Decision) Recovered {
	result := Recovered{Decision: d, Done: true}
	switch d.Action {
	case recovery.CleanUp:
		result.Done, result.Err = r.cleanUp(&d)
	case recovery.Abort:
		result.FailedStep, result.Err = r.abort(&d)
	case recovery.Resume:
		result.Done, result.Err = r.pass(&d, r.handlers.Resume)
	case recovery.AskFirst:
		result.Done, result.Err = r.pass(&d, r.handlers.Ask)
	}
	if err := result.Err; err != nil {
		result.Done, result.Err = false, fmt.Errorf("migration %s (%s, %s): %w", d.MigrationID(), d.Action, d.Reason, err)
		if errors.Is(err, ErrFenced) || r.log.Check(r.ctx) != nil { //mutant:recover-stops-all
			r.stop(result.Err)
		}
	}
	return result
}

// checkStep returns an error if the next step of a migration must not be carried out. last is the
// position of the migration's last event that the coordinator knows. If there is a later event,
// another writer has changed the migration, and the decision may be wrong.
func (r *recoverer) checkStep(d *recovery.Decision, last uint64) error {
	if r.ctx.Err() != nil { //mutant:recover-ctx-checked
		return fmt.Errorf("not carried out: %w", context.Cause(r.ctx))
	}
	if err := checkEpoch(r.log, r.handlers.Epoch); err != nil { //mutant:recover-epoch-checked
		return err
	}
	if err := r.log.Check(r.ctx); err != nil { //mutant:recover-log-checked
		return err
	}
	row, _ := r.log.Row(d.MigrationID())
	if found := r.log.Position(row); found != last { //mutant:recover-row-checked
		return fmt.Errorf("%w: another writer has changed the migration: its last event is %d (0: it has ended), Recover expects %d. Call Recover again", ErrConflict, found, last)
	}
	return nil
}

// write writes an event that follows the event at position last. A step that was carried out is
// recorded even if ctx has ended.
func (r *recoverer) write(e checkpoint.Event, last uint64) (position uint64, err error) {
	return r.log.Write(context.WithoutCancel(r.ctx), e, last, r.handlers.Epoch)
}

// pass passes a decision to a handler. It reports whether there is a handler.
func (r *recoverer) pass(d *recovery.Decision, handle func(context.Context, recovery.Decision, uint64) error) (passed bool, err error) {
	if handle == nil {
		return false, nil
	}
	if err := r.checkStep(d, r.log.Position(d.Row)); err != nil {
		return false, err
	}
	return true, handle(r.ctx, *d, r.handlers.Epoch)
}

// cleanUp cleans up a completed migration. It reports whether it has done so.
func (r *recoverer) cleanUp(d *recovery.Decision) (done bool, err error) {
	if r.inQuestion[d.MigrationID()] { //mutant:recover-in-question
		return false, nil
	}
	last := r.log.Position(d.Row)
	if err := r.checkStep(d, last); err != nil {
		return false, err
	}
	if r.handlers.CleanUp != nil { //mutant:recover-clean-up-first
		if err := r.handlers.CleanUp(r.ctx, *d, r.handlers.Epoch); err != nil { //mutant:recover-clean-up-failed
			return false, err
		}
	}
	_, err = r.write(checkpoint.Removed{MigrationID: d.MigrationID(), TimestampMS: nowMS(r.log)}, last)
	return err == nil, err
}

// abort carries out an abort from its first step that is not recorded. If it stops at a
// compensation, it returns the step.
func (r *recoverer) abort(d *recovery.Decision) (failedStep *uint32, err error) {
	id, abort, last := d.MigrationID(), d.Row.Facts.Abort, r.log.Position(d.Row)
	if abort == nil {
		if err := r.checkStep(d, last); err != nil {
			return nil, err
		}
		abort = &projection.AbortProgress{Reason: string(d.Reason), Compensations: d.Compensations, Done: make([]bool, len(d.Compensations))}
		begun := checkpoint.AbortBegun{MigrationID: id, Reason: abort.Reason, Compensations: abort.Compensations, TimestampMS: nowMS(r.log)}
		if last, err = r.write(begun, last); err != nil { //mutant:recover-abort-begun
			return nil, err
		}
	}
	for i, c := range abort.Compensations {
		if abort.Done[i] { //mutant:recover-recorded-step
			continue
		}
		step := Step{MigrationID: id, Step: uint32(i), Compensation: c, Reason: abort.Reason, Epoch: r.handlers.Epoch, Decision: *d}
		if last, err = r.compensate(step, last); err != nil { //mutant:recover-step-failed
			return &step.Step, fmt.Errorf("compensation %d (%s, group %d, peer %d): %w", i, c.Kind, c.GroupID, c.PeerID, err)
		}
	}
	ended := checkpoint.Aborted{MigrationID: id, Reason: abort.Reason, Compensations: abort.Compensations, TimestampMS: nowMS(r.log)}
	_, err = r.write(ended, last)
	return nil, err
}

// compensate carries out one compensation and records it. It returns the position of the record.
func (r *recoverer) compensate(step Step, last uint64) (position uint64, err error) {
	if err := r.checkStep(&step.Decision, last); err != nil {
		return 0, err
	}
	if err := r.handlers.Compensate(r.ctx, step); err != nil { //mutant:recover-step-first
		return 0, err
	}
	position, err = r.write(checkpoint.Compensated{MigrationID: step.MigrationID, Step: step.Step, TimestampMS: nowMS(r.log)}, last) //mutant:recover-step-recorded
	return position, err
}
