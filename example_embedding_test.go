package migrationlog_test

import (
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
		Logger:      logger,          // the runbook lists the messages
	})
}

// advance writes the next phase of a migration. seq is the Seq of the row, or 0 before the first
// phase. advance returns the new Seq.
func advance(store *migrationlog.Store, c checkpoint.Checkpoint, seq uint64) (uint64, error) {
	receipt, err := store.Upsert(c, migrationlog.Strict(), migrationlog.IfSeq(seq), migrationlog.IfVShardFree())
	return receipt.Seq, err
}

// settling is an attempt that advance never writes. A row with it shows that settle was interrupted.
const settling = math.MaxUint32

// settle replaces a row that is in doubt or that lacks certain facts. The caller has found start and
// truth in the cluster. seq is the Seq of the row, or 0 if the migration has no row.
func settle(store *migrationlog.Store, seq uint64, start checkpoint.AddLearner, truth checkpoint.Checkpoint) error {
	mark, err := checkpoint.New(truth.MigrationID, settling, start, truth.TimestampMS)
	if err != nil {
		return err
	}
	receipt, err := store.Upsert(mark, migrationlog.Confirm(), migrationlog.IfSeq(seq), migrationlog.IfVShardFree())
	if err != nil {
		return err
	}
	_, err = advance(store, truth, receipt.Seq)
	return err
}

// move is a move that a coordinator found in the cluster.
type move struct {
	start checkpoint.AddLearner
	truth checkpoint.Checkpoint
}

// adopt writes a row for each move of the cluster that has none in the log.
func adopt(store *migrationlog.Store, cluster []move) error {
	for _, m := range cluster {
		if _, found := store.Row(m.truth.MigrationID); found {
			continue
		}
		if err := settle(store, 0, m.start, m.truth); err != nil {
			return err
		}
	}
	return nil
}

// A coordinator clears the doubts after damage: it finds the true state in the cluster and writes it.
// After that, and after a restart, no row needs a question any more.
func ExampleConfirm() {
	dir, _ := os.MkdirTemp("", "coordinator-")
	defer os.RemoveAll(dir)
	cluster := damagedLog(dir) // the last event of the log is lost

	store, err := openLog(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	for row := range store.Rows() {
		if err := takeOver(store, row); err != nil {
			panic(err)
		}
		for _, m := range cluster {
			if m.truth.MigrationID == row.Checkpoint.MigrationID {
				if err := settle(store, row.Seq, m.start, m.truth); err != nil {
					panic(err)
				}
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
	for row := range store.Rows() {
		if err := takeOver(store, row); err != nil {
			panic(err)
		}
	}
	// Output:
	// vShard 1: ask: a lost event may have been its last
	// vShard 2: ask: a lost event may have been its last
	// after a restart:
	// vShard 1: resume with PromoteLearner, the target is node 4
	// vShard 2: resume with LeadershipTransfer, the target is node 4
	// vShard 3: resume with CatchUp, the target is node 4
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

// damagedLog writes a log of three moves and damages its last event, which is the only one of the
// third move. It returns the state of the cluster.
func damagedLog(dir string) (cluster []move) {
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
			checkpoint.AddLearner{VShardID: 3, SourceNode: 1, TargetNode: 4, SourceGroup: 30},
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
		cluster = append(cluster, m)
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
