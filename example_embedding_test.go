package migrationlog_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// openLog opens a log that was created before.
func openLog(dir string, logger *slog.Logger) (*migrationlog.Store, error) {
	return migrationlog.Open(dir, &migrationlog.Options{
		MustExist:   true,            // a mistyped directory is an error and does not become a new log
		LockTimeout: 5 * time.Second, // the predecessor may still be closing the log
		StallAfter:  5 * time.Second, // Health then returns an error for a disk that hangs; 0 would mean never
		Logger:      logger,          // the runbook lists the messages
	})
}

// writeAge returns the time for which the oldest write has waited, or 0 if no write waits.
func writeAge(store *migrationlog.Store) time.Duration {
	since := store.Stats().OldestWriteSince
	if since.IsZero() {
		return 0
	}
	return time.Since(since)
}

// advance writes the next phase of a migration. seq is the LastSeq of the row, or 0 before the
// first phase. advance returns the new LastSeq. With an error it returns the old one, so that the
// call can be repeated.
func advance(store *migrationlog.Store, c checkpoint.Checkpoint, seq uint64) (uint64, error) {
	receipt, err := store.Upsert(c, migrationlog.Strict(), migrationlog.IfSeq(seq), migrationlog.IfVShardFree())
	if err != nil {
		return seq, err
	}
	if row, _ := store.Row(c.MigrationID); receipt.Duplicate && row.Seq == receipt.Seq {
		return row.LastSeq, nil // a later event that is no checkpoint may follow the row
	}
	return receipt.Seq, nil
}

// groups is the coordinator's access to the raft groups of the cluster.
type groups interface {
	// fence returns when no earlier proposal of the migration can commit in the group any more.
	fence(group uint64, id checkpoint.MigrationID) error
	// member returns the membership that the migration has given to the node in the group.
	member(group, node uint64, id checkpoint.MigrationID) (membership, error)
	leader(group uint64) (node uint64, err error)
	// carryOut succeeds if there is nothing left to undo.
	carryOut(checkpoint.Compensation) error
}

type membership int

const (
	absent membership = iota
	learner
	voter
)

var errPastTransfer = errors.New("the leadership may have been transferred: do not undo the move")

// undo ends a move that has not transferred the leadership. The row's facts must be known and
// certain.
func undo(store *migrationlog.Store, g groups, row projection.Row, reason string) error {
	id, phase, facts := row.Checkpoint.MigrationID, row.Checkpoint.Phase(), row.Facts
	if err := g.fence(facts.SourceGroup, id); err != nil {
		return err
	}
	target, err := g.member(facts.SourceGroup, facts.TargetNode, id) // only after the fence is this final
	if err != nil {
		return err
	}
	leader, err := g.leader(facts.SourceGroup)
	if err != nil {
		return err
	}
	if phase >= checkpoint.PhaseCutover || phase == checkpoint.PhaseLeadershipTransfer && leader != facts.SourceNode {
		return errPastTransfer
	}
	steps := compensations(phase, target, facts)
	for _, step := range steps { // before Abort: after it, there is no row
		if err := g.carryOut(step); err != nil {
			return err
		}
	}
	_, err = store.Abort(id, reason, steps, migrationlog.IfSeq(row.LastSeq))
	return err
}

// compensations returns the steps that undo a move before its transfer, in order. The phase alone
// is not enough: a promotion that timed out may have made the target a voter.
func compensations(phase checkpoint.Phase, target membership, facts projection.Facts) []checkpoint.Compensation {
	if phase < checkpoint.PhasePromoteLearner && target != voter {
		return []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: facts.SourceGroup, PeerID: facts.TargetNode}}
	}
	return []checkpoint.Compensation{
		{Kind: checkpoint.RemoveVoter, GroupID: facts.SourceGroup, PeerID: facts.TargetNode},
		{Kind: checkpoint.RestoreLeaderHint, GroupID: facts.SourceGroup, PeerID: facts.SourceNode},
	}
}

// settling is an attempt that advance never writes. A row with it shows that settle was interrupted.
const settling = math.MaxUint32

// settle replaces a row that is in doubt or that lacks certain facts. The caller has found start and
// truth in the cluster. seq is the LastSeq of the row, or 0 if the migration has no row. An abort
// under way stays, and must be finished afterwards.
func settle(store *migrationlog.Store, seq uint64, start checkpoint.AddLearner, truth checkpoint.Checkpoint) error {
	mark, err := checkpoint.New(truth.MigrationID, settling, start, truth.TimestampMS)
	if err != nil {
		return err
	}
	receipt, err := store.Upsert(mark, migrationlog.Confirm(), migrationlog.IfSeq(seq), migrationlog.IfVShardFree())
	if err != nil {
		return err
	}
	_, err = store.Upsert(truth, migrationlog.Confirm(), migrationlog.Strict(), migrationlog.IfSeq(receipt.Seq), migrationlog.IfVShardFree())
	return err
}

// move is a move that a coordinator found in the cluster.
type move struct {
	start checkpoint.AddLearner
	truth checkpoint.Checkpoint
}

// answer ends the question about a row. cluster has all moves that the cluster shows, each with the
// id that it was begun with.
func answer(store *migrationlog.Store, row projection.Row, cluster []move) error {
	id := row.Checkpoint.MigrationID
	for _, m := range cluster {
		if m.truth.MigrationID == id {
			return settle(store, row.LastSeq, m.start, m.truth)
		}
	}
	_, err := store.Abort(id, "the cluster has no trace of it", nil, migrationlog.Confirm(), migrationlog.IfSeq(row.LastSeq))
	return err
}

// adopt writes a row for each move of the cluster that has none in the log. One that fails does not
// keep the others from being written.
func adopt(store *migrationlog.Store, cluster []move) error {
	var failed []error
	for _, m := range cluster {
		if _, found := store.Row(m.truth.MigrationID); found {
			continue
		}
		if err := settle(store, 0, m.start, m.truth); err != nil {
			failed = append(failed, fmt.Errorf("adopt %s: %w", m.truth.MigrationID, err))
		}
	}
	return errors.Join(failed...)
}

// A coordinator clears the doubts after damage: it finds the true state in the cluster and writes it.
// After that, and after a restart, no row needs a question any more.
func ExampleConfirm() {
	dir, _ := os.MkdirTemp("", "coordinator-")
	defer os.RemoveAll(dir)
	cluster := damagedLog(dir) // the last event of the log is lost
	raft := newFakeGroups()
	raft.targets[10], raft.targets[20], raft.targets[40] = learner, voter, learner

	store, err := openLog(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	takeOverAll(store, raft) // ends the moves that must end, so that their vShards are free
	for row := range store.Rows() {
		if question(row) != "" {
			if err := answer(store, row, cluster); err != nil {
				panic(err)
			}
		}
	}
	if store.Report().UnnamedInDoubt { // some migration may have lost its only event
		if err := adopt(store, cluster); err != nil {
			panic(err)
		}
	}
	store.Close()

	fmt.Println("after a restart:")
	if store, err = openLog(dir, slog.New(slog.DiscardHandler)); err != nil {
		panic(err)
	}
	defer store.Close()
	takeOverAll(store, raft)
	// Output:
	// vShard 1: ask: a lost event may have been its last
	// vShard 2: ask: a lost event may have been its last
	// vShard 3: ask: a lost event may have been its last
	// after a restart:
	// vShard 1: resume at CatchUp, the target is node 4
	// vShard 2: resume at PromoteLearner, the target is node 4
	// vShard 4: resume at AddLearner, the target is node 4
}

// A kill between the two writes of settle leaves a row that needs a question again.
func TestEmbedding_InterruptedSettle(t *testing.T) {
	dir := t.TempDir()
	cluster := damagedLog(dir)
	id, start := cluster[0].truth.MigrationID, cluster[0].start
	store := open(t, dir, nil)
	before, _ := store.Row(id)
	require.NotEmpty(t, question(before))
	_, err := store.Upsert(row(t, id, settling, start), migrationlog.Confirm(), migrationlog.IfSeq(before.Seq))
	require.NoError(t, err)

	store = reopen(t, store, dir)
	marked, _ := store.Row(id)
	require.NotEqual(t, projection.InDoubt, marked.Doubt)
	require.Equal(t, "settle was interrupted", question(marked))
	require.NoError(t, settle(store, marked.Seq, start, cluster[0].truth))
	settled, _ := store.Row(id)
	require.Empty(t, question(settled))
	require.Equal(t, cluster[0].truth, settled.Checkpoint)
	require.False(t, settled.Facts.SourceUncertain || settled.Facts.TargetUncertain)
	require.ErrorIs(t, settle(store, before.Seq, start, cluster[0].truth), migrationlog.ErrConflict, "the row is a newer one")
}

// If the AddLearner of a move is lost, a later phase still names the target. The source is unknown,
// and the move cannot be finished without it. The row needs a question, although it is not in doubt.
func TestEmbedding_LostSource(t *testing.T) {
	dir := t.TempDir()
	store, id := open(t, dir, nil), checkpoint.NewMigrationID()
	start := checkpoint.AddLearner{VShardID: 1, SourceNode: 1, TargetNode: 4, SourceGroup: 10}
	first := upsert(t, store, id, 0, start)
	upsert(t, store, id, 0, checkpoint.CatchUp{VShardID: 1})
	truth := row(t, id, 0, checkpoint.PromoteLearner{VShardID: 1, TargetNode: 4, SourceGroup: 10})
	last, err := store.Upsert(truth)
	require.NoError(t, err)
	damageEvent(t, store, dir, id, first.Seq)
	require.NoError(t, store.Close())
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots"))) // Close wrote one, with all facts

	store = open(t, dir, nil)
	damaged, _ := store.Row(id)
	require.Equal(t, projection.Superseded, damaged.Doubt)
	require.True(t, damaged.Facts.HasTarget)
	require.False(t, damaged.Facts.TargetUncertain || damaged.Facts.SourceUncertain)
	require.Equal(t, "the history does not name the source", question(damaged))
	require.NoError(t, settle(store, last.Seq, start, truth))
	settled, _ := store.Row(id)
	require.Empty(t, question(settled))
	require.EqualValues(t, 1, settled.Facts.SourceNode)
}

// damageEvent damages event seq in the file of an open store.
func damageEvent(t *testing.T, store *migrationlog.Store, dir string, id checkpoint.MigrationID, seq uint64) {
	t.Helper()
	for _, r := range historyOf(t, store, id) {
		if r.Seq != seq {
			continue
		}
		f, err := os.OpenFile(segmentPath(dir, r.Segment), os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte("damaged"), r.Offset+r.Length-7)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
}

// A proposal of the dead coordinator commits late: the learner is added after its successor has
// read the membership. undo must remove it too, because after Abort no row shows the learner.
func TestEmbedding_LateProposal(t *testing.T) {
	store, id := open(t, t.TempDir(), nil), checkpoint.NewMigrationID()
	upsert(t, store, id, 0, checkpoint.AddLearner{VShardID: 1, SourceNode: 1, TargetNode: 4, SourceGroup: 10})
	raft := newFakeGroups()
	raft.late = func() { raft.targets[10] = learner }
	before, _ := store.Row(id)
	require.NoError(t, undo(store, raft, before, "the target is no member"))
	raft.commitLate()
	require.Zero(t, store.Len())
	require.Empty(t, raft.targets, "the learner has no row any more")
}

// A coordinator gives up a move after its promotion has timed out. The row is at CatchUp, but the
// promotion has committed, so undo must remove a voter.
func TestEmbedding_UndoAfterATimedOutPromotion(t *testing.T) {
	store, id := open(t, t.TempDir(), nil), checkpoint.NewMigrationID()
	upsert(t, store, id, 0, checkpoint.AddLearner{VShardID: 1, SourceNode: 1, TargetNode: 4, SourceGroup: 10})
	upsert(t, store, id, 0, checkpoint.CatchUp{VShardID: 1})
	raft := newFakeGroups()
	raft.targets[10] = learner
	raft.late = func() { raft.targets[10] = voter }
	before, _ := store.Row(id)
	require.NoError(t, undo(store, raft, before, "the promotion timed out"))
	require.Empty(t, raft.targets)
	require.Equal(t, checkpoint.RemoveVoter, raft.carriedOut[0].Kind)
	require.Equal(t, checkpoint.Compensation{Kind: checkpoint.RestoreLeaderHint, GroupID: 10, PeerID: 1}, raft.carriedOut[1])
}

// If the source leads after the fence, a move at LeadershipTransfer can be undone.
func TestEmbedding_UndoWhileTheSourceLeads(t *testing.T) {
	store, id := open(t, t.TempDir(), nil), checkpoint.NewMigrationID()
	upsert(t, store, id, 0, checkpoint.AddLearner{VShardID: 1, SourceNode: 1, TargetNode: 4, SourceGroup: 10})
	upsert(t, store, id, 0, checkpoint.LeadershipTransfer{VShardID: 1, TargetIsVoter: true, NewLeaderNodeID: 4, SourceGroup: 10})
	raft := newFakeGroups()
	raft.targets[10], raft.leaders[10] = voter, 1
	before, _ := store.Row(id)
	require.NoError(t, undo(store, raft, before, "the transfer timed out"))
	require.Empty(t, raft.targets)
	require.Zero(t, store.Len())
}

// A transfer that timed out may have committed. The move then goes forward.
func TestEmbedding_NoUndoAfterTheTransfer(t *testing.T) {
	store, id := open(t, t.TempDir(), nil), checkpoint.NewMigrationID()
	upsert(t, store, id, 0, checkpoint.AddLearner{VShardID: 1, SourceNode: 1, TargetNode: 4, SourceGroup: 10})
	upsert(t, store, id, 0, checkpoint.LeadershipTransfer{VShardID: 1, TargetIsVoter: true, NewLeaderNodeID: 4, SourceGroup: 10})
	raft := newFakeGroups()
	raft.targets[10] = voter
	raft.late = func() { raft.leaders[10] = 4 }
	before, _ := store.Row(id)
	require.ErrorIs(t, undo(store, raft, before, "the transfer timed out"), errPastTransfer)
	require.Equal(t, voter, raft.targets[10])
	require.Empty(t, raft.carriedOut)
	require.Equal(t, 1, store.Len())

	raft.leaders[10] = 1
	upsert(t, store, id, 0, checkpoint.Cutover{VShardID: 1, NewLeaderNodeID: 4, SourceGroup: 10})
	after, _ := store.Row(id)
	require.ErrorIs(t, undo(store, raft, after, "never at Cutover"), errPastTransfer)
}

// If one move cannot be adopted, the others are.
func TestEmbedding_AdoptContinuesAfterAnError(t *testing.T) {
	store := open(t, t.TempDir(), nil)
	upsert(t, store, checkpoint.NewMigrationID(), 0, checkpoint.AddLearner{VShardID: 1})
	cluster := make([]move, 2)
	for i := range cluster {
		start := checkpoint.AddLearner{VShardID: uint32(i + 1), SourceNode: 1, TargetNode: 4, SourceGroup: 10}
		cluster[i] = move{start, row(t, checkpoint.NewMigrationID(), 0, start)}
	}
	err := adopt(store, cluster)
	require.ErrorIs(t, err, migrationlog.ErrMigrationInProgress)
	require.ErrorContains(t, err, cluster[0].truth.MigrationID.String())
	_, found := store.Row(cluster[1].truth.MigrationID)
	require.True(t, found)
}

// A call of advance that returned an error can be repeated with the seq that it returned.
func TestEmbedding_AdvanceKeepsTheSeq(t *testing.T) {
	store, id := open(t, t.TempDir(), nil), checkpoint.NewMigrationID()
	seq, err := advance(store, row(t, id, 0, checkpoint.AddLearner{VShardID: 1}), 0)
	require.NoError(t, err)
	other := checkpoint.NewMigrationID()
	blocking := upsert(t, store, other, 0, checkpoint.AddLearner{VShardID: 1})
	next := row(t, id, 0, checkpoint.CatchUp{VShardID: 1})
	seq, err = advance(store, next, seq)
	require.ErrorIs(t, err, migrationlog.ErrMigrationInProgress)
	_, err = store.Abort(other, "", nil, migrationlog.IfSeq(blocking.Seq))
	require.NoError(t, err)
	seq, err = advance(store, next, seq)
	require.NoError(t, err)

	// A repeated call returns the seq of the last event, also if that is not the row.
	_, err = store.Upsert(next, migrationlog.Epoch(1))
	require.NoError(t, err)
	repeated, err := advance(store, next, seq)
	require.NoError(t, err)
	require.Equal(t, seq+1, repeated)
	_, err = advance(store, row(t, id, 0, checkpoint.PromoteLearner{VShardID: 1}), repeated)
	require.NoError(t, err)
}

// The age of the oldest write is 0 if no write waits. (The zero time would be centuries old.)
func TestEmbedding_WriteAge(t *testing.T) {
	require.Zero(t, writeAge(open(t, t.TempDir(), nil)))
}

// A log with a lost event that no snapshot covers gets no snapshot any more, even if all doubts are
// settled. A clean Close then does not keep the facts of an AddLearner that was lost meanwhile.
func TestEmbedding_CloseAfterALossWritesNoSnapshot(t *testing.T) {
	dir := t.TempDir()
	cluster := damagedLog(dir)
	store := open(t, dir, nil)
	for r := range store.Rows() {
		require.NoError(t, answer(store, r, cluster))
	}
	require.NoError(t, adopt(store, cluster))
	id := checkpoint.NewMigrationID()
	first := upsert(t, store, id, 0, checkpoint.AddLearner{VShardID: 5, SourceNode: 1, TargetNode: 4, SourceGroup: 50})
	upsert(t, store, id, 0, checkpoint.CatchUp{VShardID: 5})
	damageEvent(t, store, dir, id, first.Seq)
	before, _ := store.Row(id)
	require.True(t, before.Facts.HasTarget)

	store = reopen(t, store, dir)
	require.NoDirExists(t, filepath.Join(dir, "snapshots"))
	after, _ := store.Row(id)
	require.False(t, after.Facts.HasTarget)
}

// damagedLog writes a log of four moves and damages its last event, which is the only one of the
// fourth move. The third move never began in the cluster. damagedLog returns the moves of the
// cluster.
func damagedLog(dir string) (cluster []move) {
	const neverBegan = 3
	store, err := migrationlog.Open(dir, nil)
	if err != nil {
		panic(err)
	}
	for _, steps := range [][]checkpoint.Payload{
		{
			checkpoint.AddLearner{VShardID: 1, SourceNode: 1, TargetNode: 4, SourceGroup: 10},
			checkpoint.CatchUp{VShardID: 1, LearnerLogIndexAtAdd: 42},
		},
		{
			checkpoint.AddLearner{VShardID: 2, SourceNode: 1, TargetNode: 4, SourceGroup: 20},
			checkpoint.CatchUp{VShardID: 2, LearnerLogIndexAtAdd: 42},
			checkpoint.PromoteLearner{VShardID: 2, TargetNode: 4, SourceGroup: 20},
		},
		{
			checkpoint.AddLearner{VShardID: neverBegan, SourceNode: 1, TargetNode: 4, SourceGroup: 30},
		},
		{
			checkpoint.AddLearner{VShardID: 4, SourceNode: 1, TargetNode: 4, SourceGroup: 40},
		},
	} {
		id := checkpoint.NewMigrationID()
		m, seq := move{start: steps[0].(checkpoint.AddLearner)}, uint64(0)
		for _, step := range steps {
			if m.truth, err = checkpoint.New(id, 0, step, 1795399697649); err != nil {
				panic(err)
			}
			if seq, err = advance(store, m.truth, seq); err != nil {
				panic(err)
			}
		}
		if m.start.VShardID != neverBegan {
			cluster = append(cluster, m)
		}
	}
	if err := store.Close(); err != nil {
		panic(err)
	}
	segment := filepath.Join(dir, "wal", firstSegment)
	content, err := os.ReadFile(segment)
	if err != nil {
		panic(err)
	}
	content[len(content)-1] ^= 1
	if err := os.WriteFile(segment, content, 0o600); err != nil {
		panic(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "snapshots")); err != nil { // it has all rows
		panic(err)
	}
	return cluster
}
