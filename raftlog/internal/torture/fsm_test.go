package torture

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
	"migrationlog/raftlog"
	"migrationlog/raftlog/internal/cluster"
)

// entries makes committed entries for tests without raft.
type entries struct {
	t     testing.TB
	r     *rand.Rand
	index uint64
	term  uint64
}

func newEntries(t testing.TB, r *rand.Rand) *entries { return &entries{t: t, r: r, term: 1} }

// command returns the next entry, with an event and its guards.
func (e *entries) command(event checkpoint.Event, opts ...raftlog.Option) *raft.Log {
	data, err := raftlog.EncodeEntry(event, opts...)
	require.NoError(e.t, err)
	return e.raw(raft.LogCommand, data)
}

func (e *entries) raw(kind raft.LogType, data []byte) *raft.Log {
	e.index++
	return &raft.Log{Index: e.index, Term: e.term, Type: kind, Data: data, AppendedAt: time.UnixMilli(firstMS)}
}

// upsert returns the next entry, with a phase of the migration with a number.
func (e *entries) upsert(n uint64, phase checkpoint.Phase, opts ...raftlog.Option) *raft.Log {
	return e.command(checkpoint.Upserted{Checkpoint: upsertOf(idOf(1, n), phase, uint32(n))}, opts...)
}

// random returns entries with events of all kinds, of a few migrations. Their guards often refuse
// them. Sometimes raft has entries of its own in between.
func (e *entries) random(n, migrations int) (logs []*raft.Log) {
	for range n {
		if e.r.IntN(20) == 0 {
			e.index++ // a barrier, which raft does not deliver
		}
		if e.r.IntN(50) == 0 {
			e.term++
		}
		event := e.event(migrations)
		logs = append(logs, e.command(event, e.guards(event)...))
	}
	return logs
}

func (e *entries) event(migrations int) checkpoint.Event {
	n := e.r.Uint64N(uint64(migrations))
	id, ms := idOf(1, n), firstMS+e.r.Uint64N(1_000_000)
	switch e.r.IntN(12) {
	case 0:
		return checkpoint.Aborted{MigrationID: id, Reason: e.reason(), TimestampMS: ms}
	case 1:
		return checkpoint.Removed{MigrationID: id, TimestampMS: ms}
	case 2:
		return checkpoint.AbortBegun{MigrationID: id, Reason: e.reason(), TimestampMS: ms, Compensations: compensations}
	case 3:
		return checkpoint.Compensated{MigrationID: id, Step: e.r.Uint32N(2), TimestampMS: ms}
	}
	u := upsertOf(id, checkpoint.Phase(1+e.r.IntN(6)), uint32(n%7))
	u.Attempt = e.r.Uint32N(3)
	return checkpoint.Upserted{Checkpoint: u}
}

// reason returns the reason of an abort. A few are almost as long as they may be.
func (e *entries) reason() string {
	if e.r.IntN(30) == 0 {
		return strings.Repeat("a test ", 8_000)
	}
	return strings.Repeat("a test ", e.r.IntN(20))
}

// guards returns random guards, which are all valid for the event.
func (e *entries) guards(event checkpoint.Event) (opts []raftlog.Option) {
	add := func(oneIn int, option raftlog.Option) {
		if e.r.IntN(oneIn) == 0 {
			opts = append(opts, option)
		}
	}
	add(4, raftlog.IfIndex(e.index-min(e.index, e.r.Uint64N(20))))
	add(8, raftlog.Term(max(1, e.term-min(e.term, e.r.Uint64N(2)))))
	add(8, raftlog.InOrder())
	add(8, raftlog.Confirm())
	if _, ok := event.(checkpoint.Upserted); ok {
		add(4, raftlog.IfVShardFree())
		add(8, raftlog.Strict())
	}
	return opts
}

// openFSM opens a member's state machine without raft. A failure of the member fails the test.
func openFSM(t testing.TB, dir string, opts raftlog.Options) *raftlog.FSM {
	if opts.OnFailure == nil {
		opts.OnFailure = func(err error) { t.Errorf("the member must stop: %v", err) }
	}
	fsm, err := raftlog.Open(dir, &opts)
	require.NoError(t, err)
	t.Cleanup(func() { fsm.Close() })
	require.NoError(t, raftlog.Configure(raft.DefaultConfig(), raft.NewDiscardSnapshotStore(), fsm))
	return fsm
}

// apply applies entries in batches of random sizes, and returns the responses.
func apply(t testing.TB, r *rand.Rand, fsm *raftlog.FSM, logs []*raft.Log) (responses []any) {
	for len(logs) > 0 {
		n := min(len(logs), 1+r.IntN(64))
		got := fsm.ApplyBatch(logs[:n])
		require.Len(t, got, n)
		responses, logs = append(responses, got...), logs[n:]
	}
	return responses
}

// memorySink is a raft.SnapshotSink in memory.
type memorySink struct {
	bytes.Buffer
	fail             error // of Write
	closed, canceled bool
}

func (s *memorySink) Write(b []byte) (int, error) {
	if s.fail != nil {
		return 0, s.fail
	}
	return s.Buffer.Write(b)
}

func (s *memorySink) ID() string    { return "memory" }
func (s *memorySink) Close() error  { s.closed = true; return nil }
func (s *memorySink) Cancel() error { s.canceled = true; return nil }

// snapshotOf returns the bytes of a snapshot at the last applied index.
func snapshotOf(t testing.TB, fsm *raftlog.FSM) []byte {
	snapshot, err := fsm.Snapshot()
	require.NoError(t, err)
	defer snapshot.Release()
	var sink memorySink
	require.NoError(t, snapshot.Persist(&sink))
	return sink.Bytes()
}

func restore(fsm *raftlog.FSM, r io.Reader) error { return fsm.Restore(io.NopCloser(r)) }

func digestOf(fsm *raftlog.FSM) (d struct {
	Index uint64
	Sum   [32]byte
}) {
	d.Index, d.Sum = fsm.Digest()
	return d
}

// rowsOf returns the rows without what is local to a member.
func rowsOf(fsm *raftlog.FSM) map[checkpoint.MigrationID]projection.Row {
	rows := map[checkpoint.MigrationID]projection.Row{}
	for row := range fsm.Store().Rows() {
		row.Seq, row.PrevSeq, row.LastSeq, row.Facts.BeganSeq = 0, 0, 0, 0
		if row.Facts.Abort != nil {
			abort := *row.Facts.Abort
			abort.Seq = 0
			row.Facts.Abort = &abort
		}
		rows[row.Checkpoint.MigrationID] = row
	}
	return rows
}

// 4: a Restore whose reader fails, ends early or has a wrong byte at any position returns an error
// and leaves the state and the history as they were. The next Restore succeeds.
func TestRaft04_FailedRestore(t *testing.T) {
	t.Parallel()
	r := newRand(t)
	dir := newDir(t)
	source, target := openFSM(t, filepath.Join(dir, "source"), raftlog.Options{}), openFSM(t, filepath.Join(dir, "target"), raftlog.Options{})
	from := newEntries(t, r)
	apply(t, r, source, from.random(400, 60))
	ours := newEntries(t, r)
	apply(t, r, target, ours.random(100, 20))
	snapshot := snapshotOf(t, source)

	before, beforeLog, beforeRows := digestOf(target), readLog(t, "target", filepath.Join(dir, "target")), rowsOf(target)
	changed := slices.Clone(snapshot)
	grid := max(1, len(snapshot)/count(40, 20_000))
	for k := 0; k < len(snapshot); k += grid {
		changed[k] ^= 1 << r.IntN(8)
		for name, reader := range map[string]io.Reader{
			"fails":            io.MultiReader(bytes.NewReader(snapshot[:k]), iotest.ErrReader(io.ErrClosedPipe)),
			"ends":             bytes.NewReader(snapshot[:k]),
			"has a wrong byte": bytes.NewReader(changed),
		} {
			require.Error(t, restore(target, reader), "the reader %s at %d", name, k)
			require.NoError(t, target.Health())
			require.Equal(t, before, digestOf(target), "the reader %s at %d", name, k)
		}
		copy(changed, snapshot)
	}
	require.Error(t, restore(target, bytes.NewReader(append(slices.Clone(snapshot), 0))), "bytes after the end")
	require.Equal(t, beforeRows, rowsOf(target))
	require.Equal(t, beforeLog, readLog(t, "target", filepath.Join(dir, "target")))
	require.ElementsMatch(t, []string{"source", "target"}, names(t, dir), "nothing is left behind")
	apply(t, r, target, ours.random(10, 20))

	require.NoError(t, restore(target, bytes.NewReader(snapshot)))
	require.Equal(t, digestOf(source), digestOf(target))
	require.Equal(t, rowsOf(source), rowsOf(target))
	require.Equal(t, digestOf(source).Index, target.AppliedIndex())
	require.Len(t, setAside(t, filepath.Join(dir, "target")), 1)
	require.NoError(t, target.Close())
	target = openFSM(t, filepath.Join(dir, "target"), raftlog.Options{})
	require.Equal(t, digestOf(source), digestOf(target), "after a restart")
	require.Equal(t, rowsOf(source), rowsOf(target))

	// The restored member decides about every later entry as the other one does.
	more := from.random(count(1500, 20_000), 60)
	require.Equal(t, texts(apply(t, r, source, more)), texts(apply(t, r, target, more)))
	require.Equal(t, digestOf(source), digestOf(target))
	require.Equal(t, rowsOf(source), rowsOf(target))
	a, b := readLog(t, "source", filepath.Join(dir, "source")), readLog(t, "target", filepath.Join(dir, "target"))
	require.Empty(t, cluster.Compare(a.bodies, b.bodies))
	require.Contains(t, b.digests, uint64(1023))
	for index, d := range b.digests {
		if index%1024 == 1023 {
			require.Equal(t, a.digests[index], d, "digest at %d", index)
		}
	}
}

// A restored member answers a repeated call as the others do, also during an abort in which the row was
// confirmed.
func TestRaft04_DuplicatesAfterRestore(t *testing.T) {
	t.Parallel()
	r := newRand(t)
	dir := newDir(t)
	source, target := openFSM(t, filepath.Join(dir, "source"), raftlog.Options{}), openFSM(t, filepath.Join(dir, "target"), raftlog.Options{})
	all := newEntries(t, r)
	id := idOf(1, 1)
	begin := checkpoint.AbortBegun{MigrationID: id, Reason: "a test", Compensations: compensations, TimestampMS: firstMS}
	confirmed := checkpoint.Upserted{Checkpoint: upsertOf(id, checkpoint.PhaseAddLearner, 1)}
	apply(t, r, source, []*raft.Log{all.command(confirmed), all.command(begin), all.command(confirmed, raftlog.Confirm())})
	last := all.index
	require.NoError(t, restore(target, bytes.NewReader(snapshotOf(t, source))))
	again := all.command(begin)
	for _, fsm := range []*raftlog.FSM{source, target} {
		require.Equal(t, raftlog.Receipt{Index: last, Duplicate: true}, fsm.Apply(again))
	}
}

// texts returns responses in a form that can be compared. The messages of errors may have numbers
// that are local to a member.
func texts(responses []any) (found []string) {
	for _, response := range responses {
		found = append(found, class(response))
	}
	return found
}

// class describes a response: a receipt, or the kind of an error.
func class(response any) string {
	err, ok := response.(error)
	if !ok {
		return fmt.Sprintf("%+v", response)
	}
	for _, kind := range []error{migrationlog.ErrConflict, migrationlog.ErrFenced, migrationlog.ErrOutOfOrder, migrationlog.ErrAborting,
		migrationlog.ErrMigrationInProgress, migrationlog.ErrInvalid, migrationlog.ErrTooLarge, raftlog.ErrMalformed} {
		if errors.Is(err, kind) {
			return kind.Error()
		}
	}
	return err.Error()
}

func names(t testing.TB, dir string) (found []string) {
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range list {
		found = append(found, e.Name())
	}
	return found
}

// 5: a snapshot has the state of the moment at which it was taken, although entries are applied
// before and during Persist.
func TestRaft05_SnapshotDuringApply(t *testing.T) {
	t.Parallel()
	r := newRand(t)
	dir := newDir(t)
	for _, relaxed := range []bool{false, true} {
		opts := raftlog.Options{RelaxedSync: relaxed}
		name := map[bool]string{false: "a", true: "relaxed"}[relaxed]
		fsm := openFSM(t, filepath.Join(dir, name), opts)
		all := newEntries(t, r)
		var after []*raft.Log
		for round := range count(3, 20) {
			apply(t, r, fsm, all.random(500, 100))
			snapshot, err := fsm.Snapshot()
			require.NoError(t, err)
			at, rows := digestOf(fsm), rowsOf(fsm)
			apply(t, r, fsm, all.random(1000, 100))
			after = all.random(1000, 100)
			applied := make(chan struct{})
			go func() {
				apply(t, r, fsm, after)
				close(applied)
			}()
			var sink memorySink
			require.NoError(t, snapshot.Persist(&sink))
			require.GreaterOrEqual(t, fsm.AppliedIndex(), at.Index, "Persist makes durable what raft may discard")
			snapshot.Release()
			<-applied

			other := openFSM(t, filepath.Join(dir, fmt.Sprintf("%s-restored-%d", name, round)), raftlog.Options{})
			require.NoError(t, restore(other, &sink.Buffer))
			require.Equal(t, at, digestOf(other))
			require.Equal(t, rows, rowsOf(other))
		}

		// A copy of the directory is what a crash leaves. It has at least the last snapshot's entries,
		// and raft delivers the others again.
		crashed := filepath.Join(dir, name+"-crashed")
		copyLive(t, filepath.Join(dir, name), crashed)
		again := openFSM(t, crashed, opts)
		require.LessOrEqual(t, again.AppliedIndex(), digestOf(fsm).Index)
		apply(t, r, again, after)
		require.Equal(t, digestOf(fsm), digestOf(again))
		require.Equal(t, rowsOf(fsm), rowsOf(again))
	}
}

// 6: a snapshot that is released without Persist, and a Persist that fails, leave no goroutine and no
// lock behind.
func TestRaft06_ReleasedSnapshot(t *testing.T) {
	r := newRand(t)
	dir := newDir(t)
	fsm := openFSM(t, filepath.Join(dir, "a"), raftlog.Options{})
	all := newEntries(t, r)
	apply(t, r, fsm, all.random(2000, 1000))
	goroutines := runtime.NumGoroutine()
	for range count(50, 1000) {
		released, err := fsm.Snapshot()
		require.NoError(t, err)
		released.Release()
		failed, err := fsm.Snapshot()
		require.NoError(t, err)
		sink := memorySink{fail: io.ErrClosedPipe}
		require.ErrorIs(t, failed.Persist(&sink), io.ErrClosedPipe)
		require.True(t, sink.canceled, "Persist cancels the sink")
		require.False(t, sink.closed)
		failed.Release()
		apply(t, r, fsm, all.random(5, 1000))
	}
	cluster.Wait(t, "the goroutines of the snapshots end", func() bool { return runtime.NumGoroutine() <= goroutines })
	older := snapshotOf(t, fsm)
	apply(t, r, fsm, []*raft.Log{all.upsert(5000, checkpoint.PhaseAddLearner)})
	require.NoError(t, restore(fsm, bytes.NewReader(older)), "no lock is held")
	require.NoError(t, fsm.Close())
	require.Equal(t, []string{"a", "a.replaced-1"}, names(t, dir))
}

// 6: writes during a Persist of a million rows are not slowed down. Only the full run has enough rows
// to measure that.
func TestRaft06_WritesDuringPersist(t *testing.T) {
	if !*fullFlag {
		t.Skip("it measures times, which only -full does")
	}
	r := newRand(t)
	fsm := openFSM(t, filepath.Join(newDir(t), "a"), raftlog.Options{})
	all := newEntries(t, r)
	const rows = 1_000_000
	for n := uint64(0); n < rows; {
		var logs []*raft.Log
		for ; len(logs) < 4096 && n < rows; n++ {
			logs = append(logs, all.upsert(n, checkpoint.PhaseAddLearner))
		}
		fsm.ApplyBatch(logs)
	}
	require.Equal(t, rows, fsm.Store().Len())
	runtime.GC()
	next := uint64(0)
	// writeUntil applies single entries until done is closed, and returns the 99th percentile of their
	// times.
	writeUntil := func(done <-chan struct{}) (p99 time.Duration, writes int) {
		var took []time.Duration
		for {
			select {
			case <-done:
				slices.Sort(took)
				return took[len(took)*99/100], len(took)
			default:
			}
			logs := []*raft.Log{all.upsert(next%rows, checkpoint.PhaseCatchUp)}
			next++
			begin := time.Now()
			fsm.ApplyBatch(logs)
			took = append(took, time.Since(begin))
		}
	}
	after := func(d time.Duration) <-chan struct{} {
		done := make(chan struct{})
		time.AfterFunc(d, func() { close(done) })
		return done
	}
	writeUntil(after(10 * time.Second)) // the store and the disk still work on the million rows
	var ratios []float64
	for range 9 {
		without, n := writeUntil(after(3 * time.Second))
		snapshot, err := fsm.Snapshot()
		require.NoError(t, err)
		persisted := make(chan struct{})
		go func() {
			defer close(persisted)
			if err := snapshot.Persist(&discardSink{}); err != nil {
				t.Error(err)
			}
		}()
		begin := time.Now()
		during, m := writeUntil(persisted)
		snapshot.Release()
		ratios = append(ratios, float64(during)/float64(without))
		t.Logf("p99 of %d writes %s; of %d during a Persist of %s: %s", n, without, m, time.Since(begin).Round(time.Millisecond), during)
	}
	slices.Sort(ratios)
	require.LessOrEqual(t, ratios[len(ratios)/2], 2.0, "median ratio of %v", ratios)
}

// discardSink is a raft.SnapshotSink that keeps nothing.
type discardSink struct{}

func (*discardSink) Write(b []byte) (int, error) { return len(b), nil }
func (*discardSink) ID() string                  { return "discarded" }
func (*discardSink) Close() error                { return nil }
func (*discardSink) Cancel() error               { return nil }

// 7: a batch with commands, configurations and malformed entries gets one response per entry, in
// order. A malformed entry is refused in the same way on every member, and appends nothing.
func TestRaft07_MixedBatch(t *testing.T) {
	t.Parallel()
	r := newRand(t)
	dir := newDir(t)
	all := newEntries(t, r)
	valid, err := raftlog.EncodeEntry(checkpoint.Upserted{Checkpoint: upsertOf(idOf(1, 900), checkpoint.PhaseAddLearner, 900)})
	require.NoError(t, err)
	configuration := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "m0", Address: "m0"}}})
	var batch []*raft.Log
	var kinds []string
	for range count(200, 10_000) {
		switch r.IntN(5) {
		case 0:
			batch, kinds = append(batch, all.raw(raft.LogConfiguration, configuration)), append(kinds, "configuration")
		case 1:
			broken := slices.Clone(valid[:r.IntN(len(valid))])
			if r.IntN(2) == 0 {
				broken = make([]byte, r.IntN(40))
				for i := range broken {
					broken[i] = byte(r.Uint32())
				}
				broken = append([]byte{0xff}, broken...) // no CBOR item begins with this byte
			}
			batch, kinds = append(batch, all.raw(raft.LogCommand, broken)), append(kinds, "malformed")
		default:
			n := uint64(len(batch))
			batch, kinds = append(batch, all.upsert(n, checkpoint.PhaseAddLearner)), append(kinds, "command")
		}
	}
	batch, kinds = append(batch, all.raw(raft.LogConfiguration, configuration)), append(kinds, "configuration")

	var first []any
	for _, member := range []string{"a", "b", "c"} {
		fsm := openFSM(t, filepath.Join(dir, member), raftlog.Options{NodeID: member})
		var responses []any
		if member == "a" {
			responses = fsm.ApplyBatch(batch)
		} else {
			responses = apply(t, r, fsm, batch)
		}
		require.Len(t, responses, len(batch))
		var malformed uint64
		for i, response := range responses {
			switch kinds[i] {
			case "configuration":
				require.Nil(t, response)
			case "command":
				require.Equal(t, raftlog.Receipt{Index: batch[i].Index}, response)
			case "malformed":
				malformed++
				require.ErrorIs(t, response.(error), raftlog.ErrMalformed)
				responses[i] = response.(error).Error()
			}
		}
		if first == nil {
			first = responses
		}
		require.Equal(t, first, responses, "the same responses on every member")
		require.Equal(t, malformed, fsm.Stats().Malformed)
		require.Equal(t, batch[len(batch)-1].Index, digestOf(fsm).Index, "the configuration's index is stored")
		require.NoError(t, fsm.Close())
		again := openFSM(t, filepath.Join(dir, member), raftlog.Options{})
		require.Equal(t, batch[len(batch)-1].Index, again.AppliedIndex())
	}
	a, b := readLog(t, "a", filepath.Join(dir, "a")), readLog(t, "b", filepath.Join(dir, "b"))
	require.Empty(t, cluster.Compare(a.bodies, b.bodies))
	require.Len(t, a.keys.Entries, len(slices.DeleteFunc(slices.Clone(kinds), func(k string) bool { return k != "command" })))
}

// Random entries, delivered in other batches, again from earlier positions, and with restarts in
// between, lead to the same log and the same digest. Entries that were refused or appended nothing
// are decided again in the same way.
func TestRaft_Redelivery(t *testing.T) {
	t.Parallel()
	r := newRand(t)
	for range count(5, 200) {
		dir := newDir(t)
		logs := newEntries(t, r).random(200+r.IntN(2000), 30)
		once := openFSM(t, filepath.Join(dir, "once"), raftlog.Options{})
		want := apply(t, r, once, logs)

		opts := raftlog.Options{RelaxedSync: r.IntN(2) == 0}
		opts.Store.SegmentSize = 500 + r.IntN(20_000)
		again := openFSM(t, filepath.Join(dir, "again"), opts)
		next := 0 // position of the first entry that was not delivered yet
		for lives := 0; next < len(logs); lives++ {
			from := max(0, next-r.IntN(100))
			if before, _ := slices.BinarySearchFunc(logs, again.AppliedIndex(), func(l *raft.Log, index uint64) int { return int(l.Index) - int(index) - 1 }); before < from {
				from = before // raft delivers everything that is not durable
			}
			to := min(len(logs), max(next, from)+1+r.IntN(300))
			got := apply(t, r, again, logs[from:to])
			for i, response := range got {
				if n := from + i; n >= next && response != nil {
					require.Equal(t, class(want[n]), class(response), "entry %d", logs[n].Index)
				}
			}
			next = max(next, to)
			switch r.IntN(3) {
			case 0: // raft goes on
			case 1:
				require.NoError(t, again.Close())
				again = openFSM(t, filepath.Join(dir, "again"), opts)
			case 2: // a power cut: what is in the directory now is left, and of the unsynced events any part
				durable := again.AppliedIndex()
				crashed := filepath.Join(dir, "crashed", strconv.Itoa(lives))
				copyLive(t, filepath.Join(dir, "again"), crashed)
				loseUnsynced(t, r, crashed)
				require.NoError(t, again.Close())
				require.NoError(t, os.RemoveAll(filepath.Join(dir, "again")))
				require.NoError(t, os.Rename(crashed, filepath.Join(dir, "again")))
				again = openFSM(t, filepath.Join(dir, "again"), opts)
				require.GreaterOrEqual(t, again.AppliedIndex(), durable, "entries that were durable are lost")
				require.LessOrEqual(t, again.AppliedIndex(), logs[next-1].Index)
				at, _ := slices.BinarySearchFunc(logs, again.AppliedIndex(), func(l *raft.Log, index uint64) int { return int(l.Index) - int(index) - 1 })
				apply(t, r, again, logs[min(at, next):next])
			}
		}
		require.Equal(t, digestOf(once), digestOf(again))
		require.Equal(t, rowsOf(once), rowsOf(again))
		a, b := readLog(t, "once", filepath.Join(dir, "once")), readLog(t, "again", filepath.Join(dir, "again"))
		require.Equal(t, a.bodies.Entries, b.bodies.Entries)
		for index, d := range a.digests {
			require.Equal(t, d, b.digests[index], "digest at %d", index)
		}
		once.Close()
		again.Close()
	}
}

// loseUnsynced overwrites some events that were not synced with zeros, as a power cut can leave them.
func loseUnsynced(t testing.TB, r *rand.Rand, dir string) {
	fsys := os.DirFS(dir)
	held, err := segment.ReadDirectory(fsys)
	require.NoError(t, err)
	for item, err := range segment.NewScan(fsys, held, segment.ScanOptions{}).Items() {
		require.NoError(t, err)
		if item.Damage != nil || item.Frame.Seq <= held.Watermark || r.IntN(4) > 0 {
			continue
		}
		file, err := os.OpenFile(filepath.Join(dir, segment.WALDir, item.Frame.Segment), os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = file.WriteAt(make([]byte, item.Frame.Length()), item.Frame.Offset)
		require.NoError(t, err)
		require.NoError(t, file.Close())
	}
}
