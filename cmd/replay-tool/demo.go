package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"migrationlog"
	"migrationlog/checkpoint"
)

func (t *tool) demo() *cobra.Command {
	return &cobra.Command{
		Use:     "demo [DIR]",
		Short:   "Run migrations in a new log, kill their coordinator, resume them, and show the history",
		Example: `  replay-tool demo`,
		Args:    argCount(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			dir := ""
			if len(args) > 0 {
				dir = args[0]
			}
			return t.runDemo(c.Context(), dir)
		},
	}
}

// coordinator returns the hidden command whose process the demo kills.
func (t *tool) coordinator() *cobra.Command {
	return &cobra.Command{
		Use:    "demo-coordinator DIR",
		Hidden: true,
		Args:   argCount(1, 1),
		RunE:   func(c *cobra.Command, args []string) error { return t.runCoordinator(c.Context(), args[0]) },
	}
}

// readyLine is the last line that the coordinator prints. Then it waits until the demo kills it.
const readyLine = "ready"

func (t *tool) runDemo(ctx context.Context, dir string) error {
	dir, err := demoDir(dir)
	if err != nil {
		return err
	}
	t.warnOwner(dir)
	fmt.Fprintf(t.stdout, "1. A coordinator process moves four shards. Its log is in %s\n\n", quoted(dir))
	if err := t.killCoordinator(ctx, dir); err != nil {
		return fmt.Errorf("coordinator: %w", err)
	}
	fmt.Fprintf(t.stdout, "\n2. It was killed (SIGKILL) in the middle of two migrations. Its successor opens the same log:\n\n")
	interrupted, err := t.resume(dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(t.stdout, "\n3. The whole history, from the files (replay-tool log):\n\n")
	if code := run(ctx, t.sameWidth("log", dir), t.stdin, t.stdout, t.stderr); code != exitClean {
		return silentExit{code}
	}
	fmt.Fprintf(t.stdout, "\n4. One of the interrupted migrations (replay-tool show):\n\n")
	if code := run(ctx, t.sameWidth("show", dir, interrupted.String()), t.stdin, t.stdout, t.stderr); code != exitClean {
		return silentExit{code}
	}
	fmt.Fprintf(t.stdout, `
What to try next (the demo does not delete its log):
  go run ./cmd/replay-tool triage   %[1]s
  go run ./cmd/replay-tool state    %[1]s --at '#9'  # the rows after event 9
  go run ./cmd/replay-tool timeline %[1]s
  go run ./cmd/replay-tool verify   %[1]s
`, quoted(dir))
	return nil
}

// sameWidth adds the width of this command to the arguments of another one.
func (t *tool) sameWidth(args ...string) []string {
	if width := t.width(); width > 0 {
		return append(args, "--width", strconv.Itoa(width))
	}
	return args
}

// demoDir returns the directory for the new log. It returns an error if dir is not empty.
func demoDir(dir string) (string, error) {
	if dir == "" {
		parent, err := os.MkdirTemp("", "migrationlog-demo-")
		return filepath.Join(parent, "log"), err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if len(entries) > 0 {
		return "", usageErrorf("%s is not empty: the demo creates a new log, give a new or empty directory", quoted(dir))
	}
	return dir, nil
}

// killCoordinator starts the coordinator, prints its output, and kills it in the middle of two
// migrations.
func (t *tool) killCoordinator(ctx context.Context, dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.CommandContext(ctx, self, "demo-coordinator", dir)
	child.Stderr = t.stderr
	out, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	isReady := false
	lines := bufio.NewScanner(out)
	for !isReady && lines.Scan() {
		if isReady = lines.Text() == readyLine; !isReady {
			fmt.Fprintln(t.stdout, lines.Text())
		}
	}
	if isReady {
		err = child.Process.Kill()
	}
	waitErr := child.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !isReady {
		return errors.Join(errors.New("the process ended before the demo killed it"), lines.Err(), waitErr)
	}
	return err
}

// move is one migration of the demo.
type move struct {
	id               checkpoint.MigrationID
	vshard           uint32
	group            uint64
	source, target   uint64
	learnerLogIndex  uint64
	pauseUS, startNS uint64
}

func newMove(vshard uint32, source, target uint64) move {
	return move{
		id: checkpoint.NewMigrationID(), vshard: vshard, group: 100 + uint64(vshard), source: source, target: target,
		learnerLogIndex: 40_000 + uint64(vshard), pauseUS: 180 + uint64(vshard), startNS: uint64(time.Now().UnixNano()),
	}
}

// moveOf returns the move of a migration, from its row and its facts.
func moveOf(store *migrationlog.Store, id checkpoint.MigrationID) move {
	row, _ := store.Row(id)
	vshard, f := row.Checkpoint.Payload.Shard(), row.Facts
	return move{
		id: id, vshard: vshard, group: f.SourceGroup, source: f.SourceNode, target: f.TargetNode,
		learnerLogIndex: 40_000 + uint64(vshard), pauseUS: 180 + uint64(vshard), startNS: f.StartedAtHLC.WallNS,
	}
}

// payload returns the payload that the coordinator records for a phase.
func (m move) payload(phase checkpoint.Phase) checkpoint.Payload {
	switch phase {
	case checkpoint.PhaseAddLearner:
		return checkpoint.AddLearner{
			VShardID: m.vshard, SourceNode: m.source, TargetNode: m.target, SourceGroup: m.group,
			WritePauseBudgetUS: 500_000, StartedAtHLC: checkpoint.HLC{WallNS: m.startNS},
		}
	case checkpoint.PhaseCatchUp:
		return checkpoint.CatchUp{VShardID: m.vshard, LearnerLogIndexAtAdd: m.learnerLogIndex}
	case checkpoint.PhasePromoteLearner:
		return checkpoint.PromoteLearner{VShardID: m.vshard, TargetNode: m.target, SourceGroup: m.group}
	case checkpoint.PhaseLeadershipTransfer:
		return checkpoint.LeadershipTransfer{VShardID: m.vshard, TargetIsVoter: true, NewLeaderNodeID: m.target, SourceGroup: m.group}
	case checkpoint.PhaseCutover:
		return checkpoint.Cutover{VShardID: m.vshard, NewLeaderNodeID: m.target, SourceGroup: m.group}
	}
	return checkpoint.Complete{VShardID: m.vshard, ActualPauseUS: m.pauseUS, GhostStubInstalled: true}
}

// stepDuration is the time between two phases in the demo.
const stepDuration = 15 * time.Millisecond

// record writes a checkpoint for each phase from first to last.
func (m move) record(store *migrationlog.Store, first, last checkpoint.Phase) error {
	for phase := first; phase <= last; phase++ {
		c, err := checkpoint.New(m.id, 0, m.payload(phase), uint64(time.Now().UnixMilli()))
		if err != nil {
			return err
		}
		if _, err := store.Upsert(c); err != nil {
			return err
		}
		time.Sleep(stepDuration)
	}
	return nil
}

func (t *tool) runCoordinator(ctx context.Context, dir string) error {
	store, err := migrationlog.Open(dir, nil)
	if err != nil {
		return err
	}
	defer store.Close()

	finished, aborted := newMove(7, 1, 4), newMove(12, 2, 5)
	atCatchUp, atCutover := newMove(21, 3, 6), newMove(30, 1, 5)
	if err := finished.record(store, checkpoint.PhaseAddLearner, checkpoint.PhaseComplete); err != nil {
		return err
	}
	if _, err := store.Remove(finished.id); err != nil {
		return err
	}
	fmt.Fprintln(t.stdout, "   vshard  7: node 1 -> 4  all six phases, removed")

	if err := aborted.record(store, checkpoint.PhaseAddLearner, checkpoint.PhaseCatchUp); err != nil {
		return err
	}
	undo := []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: aborted.group, PeerID: aborted.target}}
	if _, err := store.Abort(aborted.id, "target node unreachable during catch-up", undo); err != nil {
		return err
	}
	fmt.Fprintln(t.stdout, "   vshard 12: node 2 -> 5  aborted in CatchUp, its learner removed")

	if err := atCatchUp.record(store, checkpoint.PhaseAddLearner, checkpoint.PhaseCatchUp); err != nil {
		return err
	}
	fmt.Fprintln(t.stdout, "   vshard 21: node 3 -> 6  has reached CatchUp")
	if err := atCutover.record(store, checkpoint.PhaseAddLearner, checkpoint.PhaseCutover); err != nil {
		return err
	}
	fmt.Fprintln(t.stdout, "   vshard 30: node 1 -> 5  has reached Cutover")
	fmt.Fprintln(t.stdout, readyLine)
	<-ctx.Done()
	return ctx.Err()
}

// resume does the work of a coordinator after a crash. It opens the log and continues each
// migration that has a row with its next phase. It returns the migration that was in the earliest
// phase.
func (t *tool) resume(dir string) (earliest checkpoint.MigrationID, err error) {
	logger, stopLogging := t.storeLogger()
	defer stopLogging()
	store, err := migrationlog.Open(dir, &migrationlog.Options{MustExist: true, Logger: logger})
	if err != nil {
		return earliest, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()

	report := store.Report()
	fmt.Fprintf(t.stdout, "   %d events read, %d lost, %d migrations in flight\n", report.FramesOK, report.LostCount(), store.Len())
	lowest := checkpoint.PhaseComplete
	for _, c := range store.All() {
		m := moveOf(store, c.MigrationID)
		fmt.Fprintf(t.stdout, "   vshard %d: was at %s; from node %d to %d, group %d (known from its AddLearner event); resuming\n",
			m.vshard, c.Phase(), m.source, m.target, m.group)
		if err := m.record(store, c.Phase()+1, checkpoint.PhaseComplete); err != nil {
			return earliest, err
		}
		if _, err := store.Remove(m.id); err != nil {
			return earliest, err
		}
		if c.Phase() < lowest {
			lowest, earliest = c.Phase(), c.MigrationID
		}
	}
	return earliest, nil
}
