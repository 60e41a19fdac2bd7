package migrationlog_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/recovery"
	clustermodel "migrationlog/recovery/model"
	"migrationlog/replay"
)

// present is the time in these tests.
var present = time.UnixMilli(1795399697649)

func presentTime() time.Time { return present }

// beginMove writes the checkpoints of migration n, of vShard n, up to a phase. Its rows have an age.
func beginMove(t testing.TB, s *migrationlog.Store, n byte, upTo checkpoint.Phase, age time.Duration) checkpoint.MigrationID {
	m := clustermodel.Move{MigrationID: checkpoint.MigrationID{15: n}, VShardID: uint32(n), Group: 10 * uint64(n), Source: 1, Target: 3}
	for phase := checkpoint.PhaseAddLearner; phase <= upTo; phase++ {
		c, err := checkpoint.New(m.MigrationID, 0, m.Payload(phase), uint64(present.Add(-age).UnixMilli()))
		require.NoError(t, err)
		_, err = s.Upsert(c)
		require.NoError(t, err)
	}
	return m.MigrationID
}

func openRecovery(t testing.TB) *migrationlog.Store {
	return open(t, filepath.Join(memDir(t), "log"), &migrationlog.Options{Now: presentTime})
}

// calls notes the calls of handlers, which succeed.
type calls struct {
	mu   sync.Mutex
	list []string
}

func (c *calls) add(format string, args ...any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, fmt.Sprintf(format, args...))
	return nil
}

// handlers handle one migration at a time, so that the order of the calls is known.
func (c *calls) handlers(epoch uint64) migrationlog.Handlers {
	handler := func(name string) func(context.Context, recovery.Decision, uint64) error {
		return func(_ context.Context, d recovery.Decision, epoch uint64) error {
			return c.add("%s %d %s, epoch %d", name, d.MigrationID()[15], d.Reason, epoch)
		}
	}
	return migrationlog.Handlers{
		Epoch: epoch, Concurrency: 1, CleanUp: handler("clean up"), Resume: handler("resume"), Ask: handler("ask"),
		Compensate: func(_ context.Context, s migrationlog.Step) error {
			return c.add("compensate %d %s %d: %s %d of group %d, epoch %d", s.MigrationID[15], s.Reason, s.Step, s.Compensation.Kind, s.Compensation.PeerID, s.Compensation.GroupID, s.Epoch)
		},
	}
}

// fromSource is a policy by which node 1 leads every group.
var fromSource = recovery.Policy{Leader: func(uint64) (uint64, bool) { return 1, true }}

// recordsOf returns all records of the store's log.
func recordsOf(t testing.TB, dir string) (records []replay.Record) {
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		records = append(records, r)
	}
	return records
}

// kindsOf returns the kinds of the events of a migration after its checkpoints.
func kindsOf(t testing.TB, s *migrationlog.Store, id checkpoint.MigrationID) (kinds []string) {
	for _, r := range historyOf(t, s, id) {
		if kind := checkpoint.KindOf(r.Event); kind != checkpoint.KindUpserted {
			kinds = append(kinds, fmt.Sprintf("%s, epoch %d", kind, checkpoint.EpochOf(r.Event)))
		}
	}
	return kinds
}

// Recover carries out every decision, with one result for each, in the order of the plan.
func TestRecover_CarriesOutThePlan(t *testing.T) {
	s := openRecovery(t)
	complete := beginMove(t, s, 1, checkpoint.PhaseComplete, 0)
	stale := beginMove(t, s, 2, checkpoint.PhaseLeadershipTransfer, 2*time.Hour)
	beginMove(t, s, 3, checkpoint.PhaseCatchUp, 0)
	asked := beginMove(t, s, 4, checkpoint.PhaseCutover, 0)
	_, err := s.Upsert(row(t, asked, 1, checkpoint.CatchUp{VShardID: 4}))
	require.NoError(t, err)

	var c calls
	results, err := s.Recover(t.Context(), fromSource, c.handlers(7))
	require.NoError(t, err)
	require.Equal(t, []string{
		"clean up 1 complete, epoch 7",
		"compensate 2 stale 0: RemoveVoter 3 of group 20, epoch 7",
		"compensate 2 stale 1: RestoreLeaderHint 1 of group 20, epoch 7",
		"resume 3 fresh, epoch 7",
		"ask 4 regressed_past_cutover, epoch 7",
	}, c.list)
	require.Len(t, results, 4)
	for i, result := range results {
		require.EqualValues(t, i+1, result.Decision.MigrationID()[15])
		require.True(t, result.Done)
		require.NoError(t, result.Err)
		require.Nil(t, result.FailedStep)
	}
	require.Equal(t, []string{"removed, epoch 7"}, kindsOf(t, s, complete))
	require.Equal(t, []string{"abort_begun, epoch 7", "compensated, epoch 7", "compensated, epoch 7", "aborted, epoch 7"}, kindsOf(t, s, stale))
	history := historyOf(t, s, stale)
	end := history[len(history)-1].Event.(checkpoint.Aborted)
	require.Equal(t, "stale", end.Reason)
	require.Len(t, end.Compensations, 2)
	require.Equal(t, 2, s.Len())
	require.EqualValues(t, 7, s.Epoch())
}

// Recover continues an abort with the first step that is not recorded, with the list and the reason
// of the abort.
func TestRecover_ContinuesAnAbort(t *testing.T) {
	s := openRecovery(t)
	id := beginMove(t, s, 1, checkpoint.PhaseCatchUp, 0) // fresh: without the abort it would resume
	steps := []checkpoint.Compensation{
		{Kind: checkpoint.RemoveLearner, GroupID: 10, PeerID: 3}, {Kind: checkpoint.RemoveLearner, GroupID: 10, PeerID: 4}, {Kind: checkpoint.RemoveLearner, GroupID: 10, PeerID: 5},
	}
	_, err := s.BeginAbort(id, "node lost", steps)
	require.NoError(t, err)
	_, err = s.Compensated(id, 1)
	require.NoError(t, err)

	var c calls
	results, err := s.Recover(t.Context(), recovery.Policy{}, c.handlers(0))
	require.NoError(t, err)
	require.True(t, results[0].Done)
	require.Equal(t, []string{
		"compensate 1 node lost 0: RemoveLearner 3 of group 10, epoch 0",
		"compensate 1 node lost 2: RemoveLearner 5 of group 10, epoch 0",
	}, c.list)
	require.Equal(t, []string{"abort_begun, epoch 0", "compensated, epoch 0", "compensated, epoch 0", "compensated, epoch 0", "aborted, epoch 0"}, kindsOf(t, s, id))
	history := historyOf(t, s, id)
	end := history[len(history)-1].Event.(checkpoint.Aborted)
	require.Equal(t, steps, end.Compensations)
	require.Equal(t, "node lost", end.Reason)
}

// If a handler fails, its migration stops there, and the others continue. The next Recover continues
// with the failed step.
func TestRecover_FailedHandler(t *testing.T) {
	s := openRecovery(t)
	aborted := beginMove(t, s, 1, checkpoint.PhasePromoteLearner, 2*time.Hour)
	complete := beginMove(t, s, 2, checkpoint.PhaseComplete, 0)
	beginMove(t, s, 3, checkpoint.PhaseCatchUp, 0)
	other := beginMove(t, s, 4, checkpoint.PhaseCatchUp, 2*time.Hour)
	broken := errors.New("no quorum")

	var c calls
	h := c.handlers(7)
	h.CleanUp = func(context.Context, recovery.Decision, uint64) error { return broken }
	h.Resume = h.CleanUp
	compensate := h.Compensate
	h.Compensate = func(ctx context.Context, s migrationlog.Step) error {
		if s.MigrationID == aborted && s.Step == 1 {
			return broken
		}
		return compensate(ctx, s)
	}
	results, err := s.Recover(t.Context(), fromSource, h)
	require.NoError(t, err, "the errors are in the results")
	for i, want := range []string{
		"migration 00000000-0000-0000-0000-000000000001 (abort, stale): compensation 1 (RestoreLeaderHint, group 10, peer 1): no quorum",
		"migration 00000000-0000-0000-0000-000000000002 (clean_up, complete): no quorum",
		"migration 00000000-0000-0000-0000-000000000003 (resume, fresh): no quorum",
	} {
		require.ErrorIs(t, results[i].Err, broken)
		require.EqualError(t, results[i].Err, want)
		require.False(t, results[i].Done)
	}
	require.EqualValues(t, 1, *results[0].FailedStep)
	require.Nil(t, results[1].FailedStep)
	require.True(t, results[3].Done)
	require.Empty(t, kindsOf(t, s, complete), "its rest is still in the cluster")
	require.Equal(t, []string{"abort_begun, epoch 7", "compensated, epoch 7"}, kindsOf(t, s, aborted))
	_, found := s.Row(other)
	require.False(t, found)

	c.list = nil
	results, err = s.Recover(t.Context(), fromSource, c.handlers(8))
	require.NoError(t, err)
	require.Equal(t, []string{"compensate 1 stale 1: RestoreLeaderHint 1 of group 10, epoch 8", "clean up 2 complete, epoch 8", "resume 3 fresh, epoch 8"}, c.list)
	require.True(t, results[0].Done)
	require.Equal(t, []string{"abort_begun, epoch 7", "compensated, epoch 7", "compensated, epoch 8", "aborted, epoch 8"}, kindsOf(t, s, aborted))
}

// A coordinator that another one has superseded calls no handler and writes nothing.
func TestRecover_Fenced(t *testing.T) {
	s := openRecovery(t)
	beginMove(t, s, 1, checkpoint.PhaseCatchUp, 2*time.Hour)
	beginMove(t, s, 2, checkpoint.PhaseComplete, 0)
	beginMove(t, s, 3, checkpoint.PhaseCatchUp, 0)
	_, err := s.Remove(checkpoint.MigrationID{1}, migrationlog.Epoch(7))
	require.NoError(t, err)
	last := s.Stats().LastSeq
	for _, epoch := range []uint64{0, 1, 6} {
		var c calls
		results, err := s.Recover(t.Context(), recovery.Policy{}, c.handlers(epoch))
		require.ErrorIs(t, err, migrationlog.ErrFenced)
		require.Empty(t, results)
		require.Empty(t, c.list)
	}
	require.Equal(t, last, s.Stats().LastSeq)

	// The other coordinator takes over while a compensation is carried out.
	var c calls
	h := c.handlers(8)
	h.Compensate = func(ctx context.Context, _ migrationlog.Step) error {
		_, err := s.Remove(checkpoint.MigrationID{1}, migrationlog.Epoch(9))
		require.NoError(t, err)
		return nil
	}
	results, err := s.Recover(t.Context(), recovery.Policy{}, h)
	require.ErrorIs(t, err, migrationlog.ErrFenced)
	require.Empty(t, c.list, "nothing is done after that")
	require.Len(t, results, 3)
	for _, result := range results {
		require.ErrorIs(t, result.Err, migrationlog.ErrFenced)
		require.False(t, result.Done)
	}
	require.EqualValues(t, 0, *results[0].FailedStep)
	require.ErrorContains(t, err, "recover: migration 00000000-0000-0000-0000-000000000001 (abort, stale): compensation 0 (RemoveLearner, group 10, peer 3): fenced: ")
	require.ErrorContains(t, results[1].Err, "migration 00000000-0000-0000-0000-000000000002 (clean_up, complete): not carried out: migration 00000000-0000-0000-0000-000000000001 ")
	require.Equal(t, []string{"abort_begun, epoch 8"}, kindsOf(t, s, results[0].Decision.MigrationID()))
	require.Equal(t, 3, s.Len())

	// The cluster refuses the effect of a handler.
	h = c.handlers(10)
	h.Compensate = func(ctx context.Context, _ migrationlog.Step) error {
		return fmt.Errorf("group 10: %w", migrationlog.ErrFenced)
	}
	results, err = s.Recover(t.Context(), recovery.Policy{}, h)
	require.ErrorIs(t, err, migrationlog.ErrFenced)
	require.Empty(t, c.list)
	require.Len(t, results, 3)
}

// A coordinator that takes over between two handlers is noticed before the second one.
func TestRecover_FencedBetweenHandlers(t *testing.T) {
	s := openRecovery(t)
	beginMove(t, s, 1, checkpoint.PhaseCatchUp, 0)
	beginMove(t, s, 2, checkpoint.PhaseCatchUp, 0)
	resumed := 0
	results, err := s.Recover(t.Context(), recovery.Policy{}, migrationlog.Handlers{
		Epoch: 1, Concurrency: 1, Compensate: func(context.Context, migrationlog.Step) error { return nil },
		Resume: func(context.Context, recovery.Decision, uint64) error {
			resumed++
			_, err := s.Remove(checkpoint.MigrationID{1}, migrationlog.Epoch(2))
			return err
		},
	})
	require.ErrorIs(t, err, migrationlog.ErrFenced)
	require.True(t, results[0].Done)
	require.ErrorIs(t, results[1].Err, migrationlog.ErrFenced)
	require.Equal(t, 1, resumed)
}

// The epoch is raised before the plan is made, so that the state which the policy sees is final.
func TestRecover_RaisesTheEpochBeforeThePlan(t *testing.T) {
	s := openRecovery(t)
	id := beginMove(t, s, 1, checkpoint.PhaseCatchUp, 0)
	before, _ := s.Row(id)
	asked := false
	policy := recovery.Policy{Leader: func(uint64) (uint64, bool) {
		asked = true
		require.EqualValues(t, 7, s.Epoch())
		_, err := s.BeginAbort(id, "late", nil, migrationlog.Epoch(6))
		require.ErrorIs(t, err, migrationlog.ErrFenced)
		return 1, true
	}}
	var c calls
	results, err := s.Recover(t.Context(), policy, c.handlers(7))
	require.NoError(t, err)
	require.True(t, asked)
	require.Equal(t, before.LastSeq, results[0].Decision.Row.LastSeq, "the event belongs to no migration")
	require.Equal(t, []string{"resume 1 fresh, epoch 7"}, c.list)
}

// A row that another writer has changed since the plan is left alone.
func TestRecover_LateWriter(t *testing.T) {
	for name, phase := range map[string]checkpoint.Phase{"resume": checkpoint.PhasePromoteLearner, "clean up": checkpoint.PhaseComplete} {
		s := openRecovery(t)
		beginMove(t, s, 1, checkpoint.PhaseCatchUp, 2*time.Hour)
		late := beginMove(t, s, 2, phase, 0)
		var c calls
		h := c.handlers(0)
		h.Compensate = func(context.Context, migrationlog.Step) error {
			_, err := s.Upsert(row(t, late, 9, checkpoint.CatchUp{VShardID: 2}))
			return err
		}
		results, err := s.Recover(t.Context(), fromSource, h)
		require.NoError(t, err)
		require.True(t, results[0].Done)
		require.ErrorIs(t, results[1].Err, migrationlog.ErrConflict, name)
		require.Empty(t, c.list, "%s: the decision may be wrong now", name)
	}

	// The row of a completed migration changes while its handler runs.
	s := openRecovery(t)
	id := beginMove(t, s, 1, checkpoint.PhaseComplete, 0)
	h := new(calls).handlers(0)
	h.CleanUp = func(context.Context, recovery.Decision, uint64) error {
		_, err := s.Upsert(row(t, id, 9, checkpoint.Complete{VShardID: 1}))
		return err
	}
	results, err := s.Recover(t.Context(), recovery.Policy{}, h)
	require.NoError(t, err)
	require.ErrorIs(t, results[0].Err, migrationlog.ErrConflict)
	_, found := s.Row(id)
	require.True(t, found)
}

// ctx is checked before each step. A step that was carried out is recorded.
func TestRecover_ContextStopsBetweenSteps(t *testing.T) {
	s := openRecovery(t)
	id := beginMove(t, s, 1, checkpoint.PhasePromoteLearner, 2*time.Hour)
	beginMove(t, s, 2, checkpoint.PhaseComplete, 0)
	ctx, cancel := context.WithCancel(t.Context())
	var c calls
	h := c.handlers(1)
	h.Compensate = func(ctx context.Context, s migrationlog.Step) error {
		cancel()
		require.Error(t, ctx.Err(), "a handler receives the context")
		return c.add("step %d", s.Step)
	}
	results, err := s.Recover(ctx, fromSource, h)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []string{"step 0"}, c.list)
	require.EqualValues(t, 1, *results[0].FailedStep)
	require.ErrorIs(t, results[0].Err, context.Canceled)
	require.ErrorIs(t, results[1].Err, context.Canceled)
	require.Equal(t, []string{"abort_begun, epoch 1", "compensated, epoch 1"}, kindsOf(t, s, id))

	results, err = s.Recover(ctx, fromSource, h)
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, results, 2)
	require.Equal(t, []string{"step 0"}, c.list)
}

// After the store has failed or was closed, no further step is carried out in the cluster.
func TestRecover_FailedOrClosedStore(t *testing.T) {
	for name, tc := range map[string]struct {
		end  func(s *migrationlog.Store, dir string) error
		want error
	}{
		"closed": {func(s *migrationlog.Store, _ string) error { return s.Close() }, migrationlog.ErrClosed},
		"failed": {func(s *migrationlog.Store, dir string) error {
			err := os.Remove(filepath.Join(dir, "LOCK"))
			_, failed := s.Upsert(row(t, checkpoint.MigrationID{1}, 0, addLearner))
			require.ErrorIs(t, failed, migrationlog.ErrFailed)
			return err
		}, migrationlog.ErrFailed},
	} {
		dir := filepath.Join(memDir(t), "log")
		s := open(t, dir, &migrationlog.Options{Now: presentTime})
		beginMove(t, s, 1, checkpoint.PhaseCatchUp, 0)
		beginMove(t, s, 2, checkpoint.PhaseCatchUp, 0)
		var c calls
		h := c.handlers(0)
		h.Resume = func(_ context.Context, d recovery.Decision, _ uint64) error {
			require.NoError(t, tc.end(s, dir))
			return c.add("resume %d", d.MigrationID()[15])
		}
		results, err := s.Recover(t.Context(), recovery.Policy{}, h)
		require.ErrorIs(t, err, tc.want, name)
		require.Equal(t, []string{"resume 1"}, c.list, name)
		require.ErrorIs(t, results[1].Err, tc.want, name)
	}
}

// At most Concurrency migrations are handled at the same time. The migrations of one vShard are
// handled one after another. The migrations that end come first.
func TestRecover_Concurrency(t *testing.T) {
	s := openRecovery(t)
	for n := range byte(12) {
		beginMove(t, s, n+1, checkpoint.PhaseCatchUp, 0)
	}
	// These have the vShards of the first two, and higher ids.
	ended := beginMove(t, s, 101, checkpoint.PhaseAddLearner, 0)
	move := clustermodel.Move{MigrationID: ended, VShardID: 1, Group: 5, Source: 1, Target: 6}
	_, err := s.Upsert(row(t, ended, 1, move.Payload(checkpoint.PhaseComplete)))
	require.NoError(t, err)

	var c calls
	var mu sync.Mutex
	running, most := 0, 0
	full := make(chan struct{}) // closed after three handlers run at the same time
	closing := sync.OnceFunc(func() {
		time.AfterFunc(10*time.Millisecond, func() { close(full) }) // a fourth one would run by then
	})
	h := c.handlers(0)
	h.Concurrency = 3
	h.CleanUp = func(context.Context, recovery.Decision, uint64) error { return c.add("clean up") }
	h.Resume = func(_ context.Context, d recovery.Decision, _ uint64) error {
		mu.Lock()
		running++
		if most = max(most, running); running == 3 {
			closing()
		}
		mu.Unlock()
		<-full
		mu.Lock()
		running--
		mu.Unlock()
		return c.add("resume %d", d.MigrationID()[15])
	}
	results, err := s.Recover(t.Context(), recovery.Policy{}, h)
	require.NoError(t, err)
	require.Len(t, results, 13)
	require.Equal(t, 3, most)
	require.Less(t, slices.Index(c.list, "clean up"), slices.Index(c.list, "resume 1"), "its vShard must be free")
}

// Whatever handlers fail while many run at the same time, every abort ends with each of its steps
// carried out at least once and recorded once. No two migrations of a vShard are handled together.
func TestRecover_ManyMigrationsWithFailures(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, &migrationlog.Options{Now: presentTime})
	const migrations = 200 // two of each vShard
	for n := range byte(migrations) {
		id, vshardID := checkpoint.MigrationID{15: n + 1}, uint32(n/2)
		m := clustermodel.Move{MigrationID: id, VShardID: vshardID, Group: uint64(vshardID), Source: 1, Target: 3}
		for _, phase := range []checkpoint.Phase{checkpoint.PhaseAddLearner, checkpoint.PhasePromoteLearner} {
			c, err := checkpoint.New(id, 0, m.Payload(phase), uint64(present.Add(-2*time.Hour).UnixMilli()))
			require.NoError(t, err)
			_, err = s.Upsert(c)
			require.NoError(t, err)
		}
	}
	var handled [migrations / 2]atomic.Int32
	var executed [migrations + 1][2]atomic.Int32
	var calls atomic.Uint32
	for epoch := uint64(1); s.Len() > 0; epoch++ {
		require.Less(t, epoch, uint64(100))
		_, err := s.Recover(t.Context(), fromSource, migrationlog.Handlers{
			Epoch: epoch,
			Compensate: func(_ context.Context, step migrationlog.Step) error {
				vshardID := step.Decision.Row.Checkpoint.Payload.Shard()
				if handled[vshardID].Add(1) > 1 {
					t.Errorf("vShard %d is handled twice at the same time", vshardID)
				}
				defer handled[vshardID].Add(-1)
				runtime.Gosched()
				if calls.Add(1)%3 == 0 {
					return errors.New("no quorum")
				}
				executed[step.MigrationID[15]][step.Step].Add(1)
				return nil
			},
		})
		require.NoError(t, err)
	}
	recorded := map[string]int{}
	for _, r := range recordsOf(t, dir) {
		if e, ok := r.Event.(checkpoint.Compensated); ok {
			recorded[fmt.Sprint(e.MigrationID[15], e.Step)]++
			require.EqualValues(t, 1, executed[e.MigrationID[15]][e.Step].Load(), "no process ended, so no step is repeated")
		}
	}
	require.Len(t, recorded, 2*migrations)
	for step, times := range recorded {
		require.Equal(t, 1, times, step)
	}
}

// A completed migration keeps its row while a question asks if it uses a peer that an abort would
// remove. Without the row, the next plan would remove the peer.
func TestRecover_KeepsARowInQuestion(t *testing.T) {
	s := openRecovery(t)
	write := func(m clustermodel.Move, upTo checkpoint.Phase, age time.Duration) {
		for phase := checkpoint.PhaseAddLearner; phase <= upTo; phase++ {
			c, err := checkpoint.New(m.MigrationID, 0, m.Payload(phase), uint64(present.Add(-age).UnixMilli()))
			require.NoError(t, err)
			_, err = s.Upsert(c)
			require.NoError(t, err)
		}
	}
	stale := clustermodel.Move{MigrationID: checkpoint.MigrationID{15: 1}, VShardID: 1, Group: 10, Source: 1, Target: 3}
	complete := clustermodel.Move{MigrationID: checkpoint.MigrationID{15: 2}, VShardID: 2, Group: 10, Source: 1, Target: 3}
	write(stale, checkpoint.PhaseCatchUp, 2*time.Hour)
	write(complete, checkpoint.PhaseComplete, time.Minute)
	for epoch := range uint64(2) {
		c := &calls{}
		results, err := s.Recover(t.Context(), fromSource, c.handlers(epoch+1))
		require.NoError(t, err)
		require.Equal(t, []string{fmt.Sprintf("ask 1 peer_shared, epoch %d", epoch+1)}, c.list)
		require.Equal(t, recovery.CleanUp, results[1].Decision.Action)
		require.False(t, results[1].Done)
		require.NoError(t, results[1].Err)
		require.Equal(t, 2, s.Len())
	}
}

// If an abort fails, its migration still moves the vShard. Another migration of the vShard is not
// resumed.
func TestRecover_VShardOfAFailedAbort(t *testing.T) {
	s := openRecovery(t)
	for n, age := range []time.Duration{2 * time.Hour, time.Minute} {
		m := clustermodel.Move{MigrationID: checkpoint.MigrationID{15: byte(n + 1)}, VShardID: 7, Group: 10, Source: 1, Target: uint64(3 + n)}
		c, err := checkpoint.New(m.MigrationID, 0, m.Payload(checkpoint.PhaseAddLearner), uint64(present.Add(-age).UnixMilli()))
		require.NoError(t, err)
		_, err = s.Upsert(c)
		require.NoError(t, err)
	}
	c := &calls{}
	h := c.handlers(1)
	h.Compensate = func(context.Context, migrationlog.Step) error { return errors.New("unreachable") }
	results, err := s.Recover(t.Context(), fromSource, h)
	require.NoError(t, err)
	require.ErrorContains(t, results[0].Err, "unreachable")
	require.ErrorIs(t, results[1].Err, migrationlog.ErrMigrationInProgress)
	require.Empty(t, c.list)

	results, err = s.Recover(t.Context(), fromSource, c.handlers(2))
	require.NoError(t, err)
	require.True(t, results[0].Done && results[1].Done)
	require.Equal(t, []string{"compensate 1 stale 0: RemoveLearner 3 of group 10, epoch 2", "resume 2 fresh, epoch 2"}, c.list)
}

// The event that raises the epoch has an id of its own, with which no row can be written any more. If
// an old log has such a row, it stays until it is ended.
func TestRecover_MigrationWithTheIDOfTheEpoch(t *testing.T) {
	s := openRecovery(t)
	id := checkpoint.StoreID
	m := clustermodel.Move{MigrationID: id, VShardID: 1, Group: 10, Source: 1, Target: 3}
	c, err := checkpoint.New(id, 0, m.Payload(checkpoint.PhaseAddLearner), uint64(present.UnixMilli()))
	require.NoError(t, err)
	_, err = s.Upsert(c)
	require.ErrorIs(t, err, checkpoint.ErrReservedID)
	require.ErrorIs(t, err, migrationlog.ErrInvalid)
	_, err = s.WriteAll([]checkpoint.Event{checkpoint.Upserted{Checkpoint: c}}, migrationlog.Strict())
	require.ErrorIs(t, err, checkpoint.ErrReservedID)
	_, err = s.WriteAll([]checkpoint.Event{checkpoint.Upserted{Checkpoint: c}})
	require.NoError(t, err)
	results, err := s.Recover(t.Context(), fromSource, (&calls{}).handlers(1))
	require.NoError(t, err)
	require.Equal(t, recovery.Fresh, results[0].Decision.Reason)
	require.EqualValues(t, 1, s.Epoch())

	_, err = s.BeginAbort(id, "by hand", nil)
	require.NoError(t, err)
	_, err = s.Recover(t.Context(), fromSource, (&calls{}).handlers(7))
	require.NoError(t, err)
	require.EqualValues(t, 7, s.Epoch())
	require.Zero(t, s.Len(), "the abort is finished")
}

// A handler that is missing leaves its decisions to the caller. Compensate is required.
func TestRecover_MissingHandlers(t *testing.T) {
	s := openRecovery(t)
	complete := beginMove(t, s, 1, checkpoint.PhaseComplete, 0)
	beginMove(t, s, 2, checkpoint.PhaseCatchUp, 0)
	_, err := s.Recover(t.Context(), recovery.Policy{}, migrationlog.Handlers{})
	require.ErrorIs(t, err, migrationlog.ErrInvalid)
	h := migrationlog.Handlers{Compensate: func(context.Context, migrationlog.Step) error { return nil }, Concurrency: -1}
	_, err = s.Recover(t.Context(), recovery.Policy{}, h)
	require.ErrorIs(t, err, migrationlog.ErrInvalid)

	h.Concurrency = 0
	results, err := s.Recover(t.Context(), recovery.Policy{}, h)
	require.NoError(t, err)
	require.True(t, results[0].Done)
	require.Equal(t, []string{"removed, epoch 0"}, kindsOf(t, s, complete))
	require.False(t, results[1].Done)
	require.NoError(t, results[1].Err)
}

// If a lost event may belong to a migration without a row, the last decision asks about it.
func TestRecover_UnnamedInDoubt(t *testing.T) {
	dir, _, ends := smallLog(t)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots")))
	flip(t, segmentPath(dir, firstSegment), ends[4]-1)
	s := open(t, dir, &migrationlog.Options{Now: presentTime})
	require.True(t, s.Report().UnnamedInDoubt)
	var c calls
	results, err := s.Recover(t.Context(), recovery.Policy{TrustDoubt: true}, c.handlers(1))
	require.NoError(t, err)
	require.Len(t, results, 2)
	require.Equal(t, recovery.UnnamedInDoubt, results[1].Decision.Reason)
	require.True(t, results[1].Done)
	require.Equal(t, "ask 0 unnamed_in_doubt, epoch 1", c.list[1])
}
