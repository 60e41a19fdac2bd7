package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/recovery"
	"migrationlog/recovery/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a store, a cluster, and the coordinators that move vShards. At most one coordinator runs
// at a time, up to its next step, so a run depends only on the choices of the test. A step is one
// effect in the cluster or one write to the store. After each step the world is checked.
type world struct {
	t       testing.TB
	dir     string
	store   *migrationlog.Store
	cluster *model.Cluster
	lanes   []*lane
	now     time.Time
	newID   func() checkpoint.MigrationID
	epochs  uint64 // given to coordinators
	live    []*coordinator
	running *coordinator // nil: none

	unfencedLeader bool // coordinators read the leader of a group without fencing the group
	fence          uint64
	applied        uint // bit e is set if effect e of a move was carried out
	executed       map[stepKey]int
	asked          map[recovery.Reason]int
	steps          []string

	crashes          int // of coordinators
	crashesInRecover int // before Recover had returned
	crashesInAbort   int // before the end of an abort that was begun
	fenced           int // errors

	failure string // the first condition that did not hold
}

// stepKey identifies a compensation.
type stepKey struct {
	migration checkpoint.MigrationID
	step      uint32
}

// lane is a vShard in a group of its own, with its moves. Each begins after the one before it has
// ended.
type lane struct {
	vshardID uint32
	groupID  uint64
	left     int // number of moves to come
	moves    []*move
}

// move is a migration, with its events.
type move struct {
	model.Move
	events []string
	row    projection.Row // the last one
	hasRow bool
}

func (m *move) begun() bool { return len(m.events) > 0 }

func (m *move) ended() bool { return m.begun() && !m.hasRow }

func newWorld(t testing.TB, lanes, moves int) *world {
	w := &world{
		t: t, cluster: model.New(), now: time.UnixMilli(1795399697649),
		executed: map[stepKey]int{}, asked: map[recovery.Reason]int{},
	}
	w.cluster.Fence = true
	for i := range lanes {
		l := &lane{vshardID: uint32(i + 1), groupID: uint64(10 * (i + 1)), left: moves}
		w.cluster.AddGroup(l.groupID, 1, 1, 2)
		w.lanes = append(w.lanes, l)
	}
	n := byte(0)
	w.newID = func() checkpoint.MigrationID { n++; return checkpoint.MigrationID{15: n} }
	return w
}

// open opens the world's store. No test cuts the power, so nothing is synced.
func (w *world) open(dir string, clock func() time.Time) {
	store, err := migrationlog.Open(dir, &migrationlog.Options{Now: clock, SegmentSize: 16 << 10, NoSync: true})
	require.NoError(w.t, err)
	w.dir, w.store = dir, store
}

// reopen abandons the store, as the end of its process does, and opens a copy of its directory.
func (w *world) reopen() {
	require.Empty(w.t, w.live)
	copied := w.dir + "+"
	require.NoError(w.t, os.CopyFS(copied, os.DirFS(w.dir)))
	require.NoError(w.t, w.store.Close())
	require.NoError(w.t, os.RemoveAll(w.dir))
	w.open(copied, w.clock)
}

// clock is the store's Options.Now. The store calls it for each write but an upsert, before it
// queues the write. Recover also calls it before it plans.
func (w *world) clock() time.Time {
	if w.running != nil {
		w.running.pause("clock")
	}
	return w.now
}

// last returns the last move, or nil.
func (l *lane) last() *move {
	if len(l.moves) == 0 {
		return nil
	}
	return l.moves[len(l.moves)-1]
}

// next returns the move to begin, or nil if one is in progress or none is left.
func (w *world) next(l *lane) *move {
	if m := l.last(); m != nil && !m.ended() {
		if m.begun() {
			return nil
		}
		return m
	}
	if l.left == 0 {
		return nil
	}
	source, _ := w.cluster.Leader(l.groupID)
	peers := append(w.cluster.Voters(l.groupID), w.cluster.Learners(l.groupID)...)
	target := uint64(1)
	for slices.Contains(peers, target) {
		target++
	}
	m := &move{Move: model.Move{MigrationID: w.newID(), VShardID: l.vshardID, Group: l.groupID, Source: source, Target: target}}
	l.moves, l.left = append(l.moves, m), l.left-1
	return m
}

func (w *world) move(id checkpoint.MigrationID) *move {
	for _, l := range w.lanes {
		for _, m := range l.moves {
			if m.MigrationID == id {
				return m
			}
		}
	}
	panic("unknown migration " + id.String())
}

func (w *world) failf(format string, args ...any) {
	if w.failure == "" {
		w.failure = fmt.Sprintf(format, args...)
	}
}

// start starts a coordinator, which pauses before its first step.
func (w *world) start(c coordinator) *coordinator {
	w.epochs++
	c.w, c.epoch, c.paused, c.proceed = w, w.epochs, make(chan string), make(chan bool)
	w.live = append(w.live, &c)
	go func() {
		defer close(c.paused)
		c.pause("start")
		c.run()
	}()
	w.await(&c)
	return &c
}

// step lets a coordinator carry out one step. All rows are older than the step.
func (w *world) step(c *coordinator) {
	w.now = w.now.Add(time.Millisecond)
	w.steps = append(w.steps, fmt.Sprintf("epoch %d: %s", c.epoch, c.trace[len(c.trace)-1]))
	if c.trace[len(c.trace)-1] == "clock" {
		c.trace = append(c.trace, w.observed()) // Recover may plan now
	}
	w.running = c
	c.proceed <- true
	w.await(c)
}

// crash ends a coordinator before its next step.
func (w *world) crash(c *coordinator) {
	w.steps = append(w.steps, fmt.Sprintf("epoch %d: crash before: %s", c.epoch, c.trace[len(c.trace)-1]))
	w.crashes++
	if c.recovering {
		w.crashesInRecover++
	}
	if slices.ContainsFunc(w.lanes, func(l *lane) bool { m := l.last(); return m != nil && m.row.Facts.Abort != nil }) {
		w.crashesInAbort++
	}
	c.proceed <- false
	w.await(c)
}

func (w *world) crashAll() {
	for len(w.live) > 0 {
		w.crash(w.live[0])
	}
}

// await waits until the coordinator pauses or ends, and checks the world.
func (w *world) await(c *coordinator) {
	label, paused := <-c.paused
	w.running = nil
	if paused {
		c.trace = append(c.trace, label)
	} else {
		w.live = slices.DeleteFunc(w.live, func(other *coordinator) bool { return other == c })
	}
	for _, l := range w.lanes {
		if m := l.last(); m != nil {
			w.observe(m)
		}
	}
	for _, v := range append(w.cluster.Violations(), w.cluster.Leaks()...) {
		w.failf("migration %s %s", v.MigrationID, v)
	}
}

// observe notes the event that the last step has appended, and passes it to the cluster.
func (w *world) observe(m *move) {
	before, had := m.row, m.hasRow
	m.row, m.hasRow = w.store.Row(m.MigrationID)
	switch {
	case had && !m.hasRow && before.Facts.Abort != nil:
		m.events = append(m.events, "aborted")
		w.cluster.End(m.MigrationID)
	case had && !m.hasRow:
		m.events = append(m.events, "removed")
		w.cluster.End(m.MigrationID)
	case before.LastSeq == m.row.LastSeq:
	case before.Seq != m.row.Seq:
		w.cluster.Begin(m.Move)
		m.events = append(m.events, m.row.Checkpoint.Phase().String())
	case before.Facts.Abort == nil:
		w.cluster.BeginAbort(m.MigrationID)
		m.events = append(m.events, "abort begun")
	default:
		for i, done := range m.row.Facts.Abort.Done {
			if done && !before.Facts.Abort.Done[i] {
				m.events = append(m.events, "step "+strconv.Itoa(i))
				if w.executed[stepKey{m.MigrationID, uint32(i)}] == 0 {
					w.failf("migration %s: step %d was recorded and not carried out", m.MigrationID, i)
				}
			}
		}
	}
}

// observed returns the events of the moves in progress.
func (w *world) observed() string {
	var all []string
	for _, l := range w.lanes {
		if m := l.last(); m != nil {
			all = append(all, strings.Join(m.events, ","))
		}
	}
	return strings.Join(all, ";")
}

// finish lets one coordinator after another run alone and without a crash, until every move has
// ended.
func (w *world) finish(stale bool) {
	for round := 0; w.failure == "" && !w.done(); round++ {
		if round == 6 {
			w.failf("six coordinators in a row did not end all moves")
		}
		w.runAlone(w.start(coordinator{stale: stale}))
	}
	w.crashAll()
	if w.failure != "" {
		return
	}
	for _, l := range w.lanes {
		for _, m := range l.moves {
			w.checkEnd(m)
		}
	}
}

func (w *world) runAlone(c *coordinator) {
	for w.failure == "" && slices.Contains(w.live, c) {
		w.step(c)
	}
}

func (w *world) done() bool {
	return !slices.ContainsFunc(w.lanes, func(l *lane) bool { return l.left > 0 || l.last() != nil && !l.last().ended() })
}

// checkEnd checks a move that has ended. A completed move leads at its target. An aborted one has
// recorded each compensation once, in order.
func (w *world) checkEnd(m *move) {
	if m.events[len(m.events)-1] == "removed" {
		if m.events[len(m.events)-2] != checkpoint.PhaseComplete.String() || !w.cluster.HasStub(m.VShardID, m.Source) || !slices.Contains(w.cluster.Voters(m.Group), m.Target) {
			w.failf("migration %s was removed before it was complete", m.MigrationID)
		}
		return
	}
	want := []string{"abort begun", "step 0", "aborted"}
	if slices.Contains(m.events, "step 1") {
		want = []string{"abort begun", "step 0", "step 1", "aborted"}
	}
	if got := m.events[slices.Index(m.events, "abort begun"):]; !slices.Equal(want, got) {
		w.failf("migration %s: the events of the abort are %q", m.MigrationID, got)
	}
	if slices.Contains(w.cluster.Voters(m.Group), m.Target) && w.last(m) {
		w.failf("migration %s was aborted and its target is a voter", m.MigrationID)
	}
}

// last reports whether the move is the last of its lane.
func (w *world) last(m *move) bool { return w.lanes[m.VShardID-1].last() == m }

// coordinator recovers, and then carries out the moves that are left.
type coordinator struct {
	w      *world
	epoch  uint64
	stale  bool // it takes every row as stale
	blind  bool // it does not know who leads a group
	rewind bool // it goes back once, from PromoteLearner to CatchUp

	paused     chan string // the next step
	proceed    chan bool   // false: crash
	crashed    bool
	recovering bool     // it has called Recover, and Recover has not returned
	trace      []string // the steps, and the events that were there when Recover may have planned
}

// pause lets the test choose when the step is carried out, and if the coordinator crashes before it.
func (c *coordinator) pause(label string) {
	c.paused <- label
	if !<-c.proceed {
		c.crashed = true
		runtime.Goexit() // as deep in Recover as it is
	}
}

func (c *coordinator) run() {
	w := c.w
	policy := recovery.Policy{Member: w.cluster.Member, Leader: c.leader}
	if c.stale {
		policy.AbortTimeout = 1
	}
	c.recovering = true
	results, err := w.store.Recover(context.Background(), policy, migrationlog.Handlers{
		Epoch: c.epoch, Concurrency: 1, Compensate: c.compensate, Resume: c.resume, Ask: c.ask,
	})
	if c.crashed {
		return
	}
	c.recovering = false
	for _, result := range results {
		c.check(result.Err)
	}
	if c.check(err); err != nil {
		return
	}
	for _, l := range w.lanes {
		m := w.next(l)
		if m == nil {
			continue
		}
		row, err := c.upsert(m, checkpoint.PhaseAddLearner, 0, 0, migrationlog.IfVShardFree())
		if err == nil {
			err = c.drive(m, row)
		}
		if c.check(err); errors.Is(err, migrationlog.ErrFenced) {
			return
		}
	}
}

// check fails for an error that no coordinator may receive.
func (c *coordinator) check(err error) {
	if errors.Is(err, migrationlog.ErrFenced) {
		c.w.fenced++
	} else if err != nil && !errors.Is(err, model.ErrUnreachable) {
		c.w.failf("the coordinator with epoch %d: %v", c.epoch, err)
	}
}

// act carries out an effect in the cluster.
func (c *coordinator) act(effect func() error) error {
	err := effect()
	if errors.Is(err, model.ErrFenced) {
		return fmt.Errorf("%w: %w", migrationlog.ErrFenced, err)
	}
	c.w.fence = max(c.w.fence, c.epoch)
	return err
}

// leader fences the group, so that no transfer of an earlier coordinator can commit any more, and
// returns the leader.
func (c *coordinator) leader(group uint64) (uint64, bool) {
	c.pause("fence the group and read its leader")
	l := c.w.lanes[group/10-1]
	if !c.w.unfencedLeader && c.act(func() error { return c.w.cluster.Drive(l.last().Move, c.epoch) }) != nil || c.blind {
		return 0, false
	}
	leader, ok := c.w.cluster.Leader(group)
	c.trace = append(c.trace, fmt.Sprint(leader))
	return leader, ok
}

func (c *coordinator) compensate(_ context.Context, s migrationlog.Step) error {
	c.pause("compensate " + strconv.Itoa(int(s.Step)))
	w := c.w
	m := w.move(s.MigrationID)
	if err := c.act(func() error { return w.cluster.Compensate(m.Move, s.Compensation, s.Epoch) }); err != nil {
		return err
	}
	switch abort := m.row.Facts.Abort; {
	case w.store.Epoch() > c.epoch: // the other coordinator may have recorded the step since Recover looked
	case !m.hasRow || abort == nil:
		w.failf("migration %s: step %d was carried out and no abort was begun", s.MigrationID, s.Step)
	case abort.Done[s.Step]:
		w.failf("migration %s: step %d was recorded and is carried out again", s.MigrationID, s.Step)
	}
	w.executed[stepKey{s.MigrationID, s.Step}]++
	return nil
}

func (c *coordinator) resume(_ context.Context, d recovery.Decision, _ uint64) error {
	return c.drive(c.w.move(d.MigrationID()), d.Row)
}

// ask counts the question. The node that the move needs comes back.
func (c *coordinator) ask(_ context.Context, d recovery.Decision, _ uint64) error {
	c.w.asked[d.Reason]++
	if d.Reason == recovery.TargetGonePastCutover {
		c.w.cluster.RestoreNode(d.Row.Facts.TargetNode)
	}
	return nil
}

// drive carries out the rest of a move, from its row on.
func (c *coordinator) drive(m *move, row projection.Row) (err error) {
	for row.Checkpoint.Phase() != checkpoint.PhaseComplete {
		for _, e := range model.EffectsAfter(row.Checkpoint.Phase()) {
			c.pause(e.String())
			if err := c.act(func() error { return c.w.cluster.Do(m.Move, e, c.epoch) }); err != nil {
				return err
			}
			c.w.applied |= 1 << e
		}
		next, attempt := row.Checkpoint.Phase()+1, uint32(0)
		if c.rewind && next == checkpoint.PhaseLeadershipTransfer && row.Facts.FurthestPhase < next {
			c.rewind, next = false, checkpoint.PhaseCatchUp
		}
		if row.Facts.RecordedPhases&(1<<(next-1)) != 0 {
			attempt = row.Facts.HighestAttempt[next-1] + 1
		}
		if row, err = c.upsert(m, next, attempt, row.LastSeq); err != nil {
			return err
		}
	}
	_, err = c.w.store.Remove(m.MigrationID, migrationlog.IfSeq(row.LastSeq), migrationlog.Epoch(c.epoch), migrationlog.InOrder())
	return err
}

// upsert writes the checkpoint of a phase, and returns the row.
func (c *coordinator) upsert(m *move, phase checkpoint.Phase, attempt uint32, seq uint64, opts ...migrationlog.WriteOption) (row projection.Row, err error) {
	c.pause("write " + phase.String())
	next, err := checkpoint.New(m.MigrationID, attempt, m.Payload(phase), uint64(c.w.now.UnixMilli()))
	if err != nil {
		return row, err
	}
	_, err = c.w.store.Upsert(next, append(opts, migrationlog.IfSeq(seq), migrationlog.Epoch(c.epoch), migrationlog.InOrder(), migrationlog.Strict())...)
	row, _ = c.w.store.Row(m.MigrationID)
	return row, err
}
