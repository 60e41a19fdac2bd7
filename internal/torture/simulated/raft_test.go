//go:build simulated

package simulated

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/torture/simos"
	"migrationlog/replay"
)

// D11, D12: a replica with relaxed sync is a member of a simulated consensus engine. The engine's
// log and its newest snapshot are durable, and it discards entries up to the snapshot. The power is
// cut at any operation of the replica, also while it replaces its state. Then the engine delivers
// every entry after the applied index again. The replica has never lost an entry that the engine has
// discarded. At the end, its digests are those of a run without a power cut, and its log has each
// index once.
func TestD11_Redelivery(t *testing.T) {
	begin := time.Now()
	tried := newTally()
	var cuts, openings atomic.Int64
	eachCase(t, memberSessions(), func(n int, dir string) error {
		c := &engineCase{dir: dir, rng: draw(n), tried: tried}
		err := c.try()
		cuts.Add(c.cuts)
		openings.Add(c.openings)
		return err
	})
	t.Logf("%d power cuts, %d openings in %.1f s; by the operation before the cut:\n%s", cuts.Load(), openings.Load(), time.Since(begin).Seconds(), tried)
}

// committed is the log of the engine, and the result of a run without a power cut.
type committed struct {
	entries  []migrationlog.Entry
	appended map[uint64]bool   // the indexes of the events
	states   map[uint64][]byte // snapshots of other members, by index
	digest   migrationlog.Digest
}

// newCommitted makes the entries and applies them.
func newCommitted(dir string, rng *rand.Rand) (*committed, error) {
	r, err := migrationlog.OpenReplica(dir, &migrationlog.ReplicaOptions{RelaxedSync: true, SyncInterval: time.Hour})
	if err != nil {
		return nil, err
	}
	c := &committed{appended: map[uint64]bool{}, states: map[uint64][]byte{}}
	maker := entryMaker{rng: rng, index: rng.Uint64N(1100), term: 1}
	for range 60 + rng.IntN(60) {
		e := maker.next(r)
		if _, err := r.Apply([]migrationlog.Entry{e}); err != nil {
			return nil, errors.Join(err, r.Close())
		}
		c.entries = append(c.entries, e)
		if rng.IntN(20) == 0 {
			var b bytes.Buffer
			if _, err := r.State().WriteTo(&b); err != nil {
				return nil, errors.Join(err, r.Close())
			}
			c.states[e.Index] = b.Bytes()
		}
	}
	c.digest = r.Digest()
	if err := r.Close(); err != nil {
		return nil, err
	}
	indexes, _, err := indexesIn(dir)
	for _, index := range indexes {
		c.appended[index] = true
	}
	return c, errors.Join(err, os.RemoveAll(dir))
}

// indexesIn returns the indexes of the events in the log of a replica, in their order, and the index
// at which its history begins.
func indexesIn(dir string) (indexes []uint64, began uint64, err error) {
	reader, err := replay.Open(dir)
	if err != nil {
		return nil, 0, err
	}
	manifest, _, err := segment.ReadManifest(os.DirFS(dir))
	if err != nil {
		return nil, 0, err
	}
	if manifest.History != nil {
		began = manifest.History.Index
	}
	for r, err := range reader.Records(context.Background(), replay.Query{}) {
		if err != nil {
			return nil, 0, err
		}
		switch r.Event.(type) {
		case checkpoint.Restored, checkpoint.Digest:
		default:
			indexes = append(indexes, r.RaftIndex)
		}
	}
	return indexes, began, nil
}

// entryMaker makes random entries for a few migrations. Some of them are refused or append nothing.
type entryMaker struct {
	rng         *rand.Rand
	index, term uint64
	epoch       uint64
	timeMS      uint64
}

func (m *entryMaker) next(r *migrationlog.Replica) migrationlog.Entry {
	m.index += 1 + m.rng.Uint64N(9)/8*m.rng.Uint64N(400) // other entries are in the gaps
	m.term += m.rng.Uint64N(20) / 19
	m.timeMS += m.rng.Uint64N(1000)
	id := checkpoint.MigrationID{1 + byte(m.rng.IntN(4))}
	row, _ := r.Store().Row(id)
	e := migrationlog.Entry{Index: m.index, Term: m.term}
	if m.rng.IntN(3) == 0 {
		e.Options = append(e.Options, migrationlog.IfIndex(row.LastIndex-min(row.LastIndex, m.rng.Uint64N(4)/3)))
	}
	if m.rng.IntN(5) == 0 {
		m.epoch += m.rng.Uint64N(4) / 3
		e.Options = append(e.Options, migrationlog.Epoch(max(1, m.epoch)))
	}
	steps := []checkpoint.Compensation{{Kind: checkpoint.RemoveVoter, GroupID: 9, PeerID: 3}, {Kind: checkpoint.RemoveLearner, GroupID: 9, PeerID: 5}}
	switch m.rng.IntN(12) {
	case 0:
		e.Event = checkpoint.Removed{MigrationID: id, TimestampMS: m.timeMS}
	case 1:
		e.Event = checkpoint.Aborted{MigrationID: id, Reason: "stalled", TimestampMS: m.timeMS}
	case 2:
		e.Event = checkpoint.AbortBegun{MigrationID: id, Reason: "stalled", Compensations: steps, TimestampMS: m.timeMS}
	case 3:
		e.Event = checkpoint.Compensated{MigrationID: id, Step: m.rng.Uint32N(2), TimestampMS: m.timeMS}
	case 4:
		e.Options = nil // an entry of the engine itself, such as a change of its configuration
	case 5:
		e.Options, e.Opaque = nil, unknownEvent(id, m.timeMS)
	default:
		payloads := []checkpoint.Payload{
			checkpoint.AddLearner{VShardID: 1, SourceNode: 2}, checkpoint.CatchUp{VShardID: 1}, checkpoint.Cutover{VShardID: 1}, checkpoint.Complete{VShardID: 1},
		}
		c, err := checkpoint.New(id, m.rng.Uint32N(3), payloads[m.rng.IntN(len(payloads))], m.timeMS)
		if err != nil {
			panic(err)
		}
		e.Event = checkpoint.Upserted{Checkpoint: c}
	}
	return e
}

// unknownEvent encodes an event of a kind that this version does not know.
func unknownEvent(id checkpoint.MigrationID, timeMS uint64) []byte {
	b := append([]byte{0xa3, 1, 20, 2, 0x50}, id[:]...)
	return binary.BigEndian.AppendUint64(append(b, 3, 0x1b), timeMS)
}

// engine is what the consensus engine has on its own disk, which the power cut does not change. It is
// also a mark among the recorded operations.
type engine struct {
	recorded      uint64 // the replica must not fall below this index
	snapshot      []byte
	snapshotIndex uint64
	first         uint64 // entries below this index are discarded
}

// replica is a member of the engine.
type replica struct {
	dir  string
	disk *simos.Disk
	rng  *rand.Rand
	opts migrationlog.ReplicaOptions
	log  *committed
	engine

	open *migrationlog.Replica // nil: not started
	at   int                   // number of entries that were delivered since the start
}

// start opens the replica. If it is behind the engine's snapshot, it is restored from the snapshot.
func (r *replica) start() (err error) {
	defer func() {
		if endless, ok := recover().(simos.EndlessError); ok {
			err = endless
		}
	}()
	fired, _ := r.disk.Fired()
	if r.open, err = migrationlog.OpenReplica(r.dir, &r.opts); err != nil {
		r.open = nil
		if now, _ := r.disk.Fired(); now == fired {
			return broken("D11: %w", err)
		}
		return err
	}
	applied := r.open.AppliedIndex()
	if applied < r.recorded {
		return broken("D11: the applied index is %d, but %d was recorded", applied, r.recorded)
	}
	r.record(applied) // an opening makes the events durable that it finds
	if applied < r.snapshotIndex {
		if err := r.restore(); err != nil {
			return err
		}
		applied = r.open.AppliedIndex()
	}
	if applied < r.snapshotIndex || applied+1 < r.first {
		return broken("D11: the applied index is %d, but the engine has only the entries from %d on", applied, r.first)
	}
	for r.at = 0; r.at < len(r.log.entries) && r.log.entries[r.at].Index <= applied; r.at++ {
	}
	return nil
}

// record records an index below which the replica must not fall.
func (r *replica) record(index uint64) {
	r.recorded = index
	r.disk.Mark(r.engine)
}

// deliver delivers the next entries, and sometimes some earlier ones again.
func (r *replica) deliver(n int) error {
	end := min(len(r.log.entries), r.at+n)
	from := max(0, r.at-r.rng.IntN(3))
	applied, err := r.open.Apply(r.log.entries[from:end])
	if err != nil {
		return err
	}
	for i, a := range applied {
		if index := r.log.entries[from+i].Index; a.Skipped != (from+i < r.at) {
			return broken("D11: the entry with index %d was skipped: %t", index, a.Skipped)
		}
	}
	r.at = end
	return nil
}

// takeSnapshot makes a snapshot as raft does: the state, Record, the snapshot, and the engine discards
// entries.
func (r *replica) takeSnapshot() error {
	state := r.open.State()
	var b bytes.Buffer
	if _, err := state.WriteTo(&b); err != nil {
		return err
	}
	if state.Digest().Index == 0 {
		return nil
	}
	if err := r.open.Record(); err != nil {
		return err
	}
	index := state.Digest().Index
	if applied := r.open.AppliedIndex(); applied < index {
		return broken("D11: after Record the applied index is %d, below %d", applied, index)
	}
	r.snapshot, r.snapshotIndex = b.Bytes(), index
	r.first = max(r.first, index+1-min(index, r.rng.Uint64N(4)))
	r.record(index)
	return nil
}

// install gets the snapshot of another member.
func (r *replica) install() error {
	for index, snapshot := range r.log.states {
		if index > r.open.Digest().Index && index > r.snapshotIndex {
			r.snapshot, r.snapshotIndex, r.first = snapshot, index, index+1
			r.disk.Mark(r.engine)
			return r.restore()
		}
	}
	return nil
}

// restore replaces the state by the engine's snapshot.
func (r *replica) restore() error {
	state, err := migrationlog.ReadState(bytes.NewReader(r.snapshot))
	if err != nil {
		return err
	}
	if err := r.open.Replace(state); err != nil {
		return err
	}
	if index := r.open.AppliedIndex(); index != r.snapshotIndex {
		return broken("D12: after the replacement the applied index is %d, not %d", index, r.snapshotIndex)
	}
	r.record(r.snapshotIndex)
	for r.at = 0; r.at < len(r.log.entries) && r.log.entries[r.at].Index <= r.snapshotIndex; r.at++ {
	}
	return nil
}

// step does one random action.
func (r *replica) step() error {
	if r.open == nil {
		return r.start()
	}
	switch r.rng.IntN(16) {
	case 0, 1:
		return r.takeSnapshot()
	case 2:
		if err := r.open.Record(); err != nil {
			return err
		}
		r.record(r.open.AppliedIndex())
	case 3:
		return r.stop()
	case 4:
		return r.install()
	default:
		return r.deliver(1 + r.rng.IntN(12))
	}
	return nil
}

// stop closes the replica.
func (r *replica) stop() error {
	open := r.open
	r.open = nil
	if open == nil {
		return nil
	}
	err := open.Close()
	if err == nil {
		r.record(max(r.recorded, open.Digest().Index))
	}
	return err
}

// fail kills the program or fails one of its calls at a random moment of its next steps, and starts it
// again.
func (r *replica) fail() error {
	if err := failSoon(r.disk, r.rng, 80, r.step); err != nil {
		return err
	}
	if r.open != nil {
		r.open.Close() // releases the lock, as the system does for a dead process
		r.open = nil
	}
	r.disk.Heal()
	return r.start()
}

// finish delivers all entries and compares the replica with the run without a power cut.
func (r *replica) finish() error {
	for r.open == nil || r.at < len(r.log.entries) {
		do := func() error { return r.deliver(20) }
		if r.open == nil {
			do = r.start
		}
		if err := do(); err != nil {
			return err
		}
	}
	if got := r.open.Digest(); got != r.log.digest {
		return broken("D11: the digest is %+v, but that of the run without a power cut is %+v", got, r.log.digest)
	}
	if err := r.stop(); err != nil {
		return err
	}
	return r.checkIndexes()
}

// checkIndexes checks that the log has the event of each entry once, from the beginning of its history
// on.
func (r *replica) checkIndexes() error {
	indexes, began, err := indexesIn(r.dir)
	if err != nil {
		return err
	}
	last := began
	has := map[uint64]bool{}
	for _, index := range indexes {
		if index <= last || !r.log.appended[index] {
			return broken("D11: the log has index %d after index %d, and in the run without a power cut: %t", index, last, r.log.appended[index])
		}
		last, has[index] = index, true
	}
	for index := range r.log.appended {
		if index > began && !has[index] {
			return broken("D11: the log has no event with index %d. Its history begins after %d", index, began)
		}
	}
	return nil
}

// engineCase is a session of a replica, and power cuts at random moments of it.
type engineCase struct {
	dir            string
	rng            *rand.Rand
	tried          *tally
	log            *committed
	opts           migrationlog.ReplicaOptions
	cuts, openings int64
	dirs           int
}

// engineSession is the work of a replica from its start on.
type engineSession struct {
	disk   *simos.Disk
	before engine
}

func (c *engineCase) try() (err error) {
	if c.log, err = newCommitted(filepath.Join(c.dir, "other"), c.rng); err != nil {
		return err
	}
	c.opts = migrationlog.ReplicaOptions{
		RelaxedSync: c.rng.IntN(8) > 0, Store: migrationlog.Options{SegmentSize: 300 + c.rng.IntN(3000)},
	}
	if c.opts.RelaxedSync {
		c.opts.SyncInterval = time.Hour // Record is called instead
	}
	first, err := c.runSession(&simos.Image{Entries: map[string]*simos.Image{}}, engine{first: 1}, 10+c.rng.IntN(20))
	if err != nil {
		return err
	}
	for range cutsPerSession {
		if err := c.cut(first, 1); err != nil {
			return err
		}
	}
	return nil
}

func (c *engineCase) runSession(image *simos.Image, before engine, steps int) (s engineSession, err error) {
	c.dirs++
	dir := filepath.Join(c.dir, fmt.Sprint(c.dirs))
	if err := image.Write(dir); err != nil {
		return s, err
	}
	s = engineSession{disk: simos.WatchImage(dir, image), before: before}
	r := &replica{dir: filepath.Join(dir, logPath), disk: s.disk, rng: c.rng, opts: c.opts, log: c.log, engine: before}
	defer func() {
		if r.open != nil {
			r.open.Close()
		}
		s.disk.Stop() // records nothing more, so the replica must be closed
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	c.openings++
	if err := r.start(); err != nil {
		return s, err
	}
	for range steps {
		do := r.step
		if c.rng.IntN(10) == 0 {
			do = r.fail
		}
		if err := do(); err != nil {
			return s, err
		}
	}
	return s, r.finish()
}

// cut cuts the power at a random moment of a session. The next session starts with the disk after the
// cut.
func (c *engineCase) cut(s engineSession, depth int) error {
	done, kind, image := drawCut(s.disk, c.rng)
	c.cuts++
	c.tried.see(fmt.Sprintf("depth %d, after %s", depth, kind), image.Hash())
	known := s.before
	for _, op := range done {
		if mark, ok := op.Mark.(engine); ok {
			known = mark
		}
	}
	next, err := c.runSession(image, known, c.rng.IntN(6))
	if err != nil {
		return fmt.Errorf("cut %d of depth %d, after operation %d (%s)%s:\n%w", c.cuts, depth, len(done), kind, keep(image), err)
	}
	if depth < maxDepth && c.rng.IntN(3) > 0 {
		return c.cut(next, depth+1)
	}
	return nil
}
