//go:build simulated

package simulated

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/torture/simos"
)

// cutsPerSession is the number of power cuts of one session of a member, at depth 1.
const cutsPerSession = 5

// memberSessions returns the number of sessions of members of a replicated store. The cuts of the
// sessions are about a tenth of all power cuts. The cuts at depth 2 and 3 are about half of them.
func memberSessions() int { return max(1, *cutsFlag/10/(2*cutsPerSession)) }

// D11: a member of a replicated store writes with or without syncs, makes its events durable at
// random moments, and the power is cut at any operation, also during an opening that drops unsynced
// events. The next opening has exactly the events 1 to W, where W is at least the number that was
// last made durable. It finds no damage.
func TestD11_PowerCut(t *testing.T) {
	begin := time.Now()
	tried := newTally()
	var cuts, openings atomic.Int64
	eachCase(t, memberSessions(), func(n int, dir string) error {
		c := &memberCase{dir: dir, rng: draw(n), tried: tried}
		err := c.try()
		cuts.Add(c.cuts)
		openings.Add(c.openings)
		return err
	})
	t.Logf("%d power cuts, %d openings in %.1f s; by the operation before the cut:\n%s", cuts.Load(), openings.Load(), time.Since(begin).Seconds(), tried)
}

// member is the writer of a log of a replicated store.
type member struct {
	dir   string
	disk  *simos.Disk
	rng   *rand.Rand
	opts  eventlog.Options
	log   *eventlog.Log // nil: closed
	fired int           // number of faults before the last opening
	memberState
}

// memberState is the knowledge about a member's log. It is also a mark among the recorded operations.
type memberState struct {
	events  []string // event i has the number i+1; a log has the first ones of them
	durable uint64   // the events up to this number must stay
}

// open opens the log and checks that it has a part of the events, from the first on.
func (m *member) open() (err error) {
	defer func() {
		if endless, ok := recover().(simos.EndlessError); ok {
			err = endless
		}
	}()
	m.fired, _ = m.disk.Fired()
	r, err := eventlog.Begin(m.dir, m.opts)
	if err != nil {
		return err
	}
	last, err := m.check(r)
	if err != nil {
		return errors.Join(err, r.Abandon())
	}
	if m.log, err = r.Finish(last); err != nil {
		return err
	}
	if got := m.log.NextSeq() - 1; got != last.Seq {
		return broken("D11: the log continues after %d, but its last event is %d", got, last.Seq)
	}
	m.events = m.events[:last.Seq:last.Seq]
	m.markDurable()
	return nil
}

// check compares the events that an opening finds with the events that were written.
func (m *member) check(r *eventlog.Recovery) (last segment.FrameID, err error) {
	for item, err := range r.Scan(segment.ScanAll) {
		switch {
		case err != nil:
			return last, err
		case item.Damage != nil:
			if fired, _ := m.disk.Fired(); fired > m.fired { // by a fault, for example in reading snapshots/
				return last, fmt.Errorf("%v", item.Damage)
			}
			return last, broken("D11: %v", item.Damage)
		case item.Frame.Seq != last.Seq+1:
			return last, broken("D11: event %d follows event %d", item.Frame.Seq, last.Seq)
		case item.Frame.Seq > uint64(len(m.events)) || m.events[last.Seq] != string(item.Frame.Body):
			return last, broken("D3: event %d was never written: %.40q", item.Frame.Seq, item.Frame.Body)
		}
		last = item.Frame.ID()
	}
	if last.Seq < m.durable {
		return last, broken("D11: the log ends with event %d, but %d were durable", last.Seq, m.durable)
	}
	if w := r.Directory().Watermark; m.opts.Replicated && last.Seq != w {
		return last, broken("D11: the log ends with event %d, and its watermark is %d", last.Seq, w)
	}
	for _, s := range r.Snapshots() {
		if s.Last.Seq > last.Seq {
			return last, broken("D11: the log ends with event %d, and has a snapshot of event %d", last.Seq, s.Last.Seq)
		}
	}
	return last, nil
}

// markDurable records that all events must stay.
func (m *member) markDurable() {
	m.durable = uint64(len(m.events))
	m.disk.Mark(m.memberState)
}

// write writes some events in one batch.
func (m *member) write() error {
	entries := make([]eventlog.Entry, 1+m.rng.IntN(6))
	for i := range entries {
		body := append(bytes.Repeat([]byte{'x'}, m.rng.IntN(700)), fmt.Sprint(m.rng.Uint64())...)
		entries[i].Body = segment.NewBody(body)
		m.events = append(m.events, string(body)) // may be in the log from now on
	}
	m.disk.Mark(m.memberState)
	if err := m.log.Write(entries); err != nil {
		return err
	}
	return m.log.Sync()
}

// step does one random action.
func (m *member) step() error {
	if m.log == nil {
		return m.open()
	}
	switch m.rng.IntN(12) {
	case 0, 1, 2:
		if err := m.log.MakeDurable(); err != nil {
			return err
		}
		m.markDurable()
	case 3:
		if m.log.Last().Seq == 0 {
			return nil
		}
		// With syncs, the events up to the last one are durable, and the snapshot proves it.
		return m.log.SaveSnapshot(segment.Snapshot{Version: segment.SnapshotVersion, Last: m.log.Last(), Synced: !m.opts.NoSync, Body: []byte("rows")})
	case 4:
		return m.close()
	default:
		return m.write()
	}
	return nil
}

func (m *member) close() error {
	log := m.log
	m.log = nil
	if err := log.Close(); err != nil {
		return err
	}
	m.markDurable()
	return nil
}

// stop kills the program or fails one of its calls at a random moment of its next steps, and starts
// it again.
func (m *member) stop() error {
	if err := failSoon(m.disk, m.rng, 60, m.step); err != nil {
		return err
	}
	if m.log != nil {
		m.log.Close() // releases the lock, as the system does for a dead process
		m.log = nil
	}
	m.disk.Heal()
	return m.open()
}

// memberCase is a session of a member, and power cuts at random moments of it.
type memberCase struct {
	dir            string
	rng            *rand.Rand
	tried          *tally
	cuts, openings int64
	dirs           int
}

// memberSession is the work of a member from the moment at which it opened the log.
type memberSession struct {
	disk   *simos.Disk
	before memberState
	opts   eventlog.Options
}

func (c *memberCase) try() error {
	opts := eventlog.Options{SegmentSize: 1 + c.rng.IntN(1500), NoSync: c.rng.IntN(4) > 0, Replicated: true}
	empty := &simos.Image{Entries: map[string]*simos.Image{}}
	first, err := c.runSession(empty, opts, memberState{}, 10+c.rng.IntN(20))
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

// runSession writes the image into a directory, opens the log in it and continues to write.
func (c *memberCase) runSession(image *simos.Image, opts eventlog.Options, before memberState, steps int) (s memberSession, err error) {
	c.dirs++
	dir := filepath.Join(c.dir, fmt.Sprint(c.dirs))
	if err := image.Write(dir); err != nil {
		return s, err
	}
	s = memberSession{disk: simos.WatchImage(dir, image), before: before, opts: opts}
	m := &member{dir: filepath.Join(dir, logPath), disk: s.disk, rng: c.rng, opts: opts, memberState: before}
	defer func() {
		if m.log != nil {
			m.log.Close()
		}
		s.disk.Stop() // records nothing more, so the log must be closed
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	c.openings++
	begin := m.open
	if c.rng.IntN(8) == 0 {
		begin = m.stop
	}
	if err := begin(); err != nil {
		return s, err
	}
	for range steps {
		do := m.step
		if c.rng.IntN(10) == 0 {
			do = m.stop
		}
		if err := do(); err != nil {
			return s, err
		}
	}
	return s, nil
}

// cut cuts the power at a random moment of a session. The next session starts with the disk after
// the cut.
func (c *memberCase) cut(s memberSession, depth int) error {
	done, kind, image := drawCut(s.disk, c.rng)
	c.cuts++
	c.tried.see(fmt.Sprintf("depth %d, after %s", depth, kind), image.Hash())
	known := s.before
	for _, op := range done {
		if state, ok := op.Mark.(memberState); ok {
			known = state
		}
	}
	known.events = known.events[:len(known.events):len(known.events)]
	next, err := c.runSession(image, s.opts, known, c.rng.IntN(8))
	if err != nil {
		return fmt.Errorf("cut %d of depth %d, after operation %d (%s)%s:\n%w", c.cuts, depth, len(done), kind, keep(image), err)
	}
	if depth < maxDepth && c.rng.IntN(3) > 0 {
		return c.cut(next, depth+1)
	}
	return nil
}

// D11, D4: a fault, a kill or a power cut interrupts an opening that drops unsynced events, at any of
// its calls. The next opening has the same durable events, and every unsynced event is still on the
// disk, also after a power cut that loses all unsynced bytes.
func TestD11_FaultInDrop(t *testing.T) {
	image, known := unsyncedLog(t)
	recorded, err := memberOn(filepath.Join(memDir(t), "disk"), image, known)
	require.NoError(t, err)
	require.NoError(t, recorded.open())
	calls, ops := recorded.disk.Calls(), recorded.disk.Ops()
	recorded.stopWriting()
	recorded.disk.Stop()

	tried := newTally()
	ways := waysToFail(calls)
	const draws = 6
	eachCase(t, len(ways)+calls+len(ops)*draws, func(n int, dir string) error {
		dir = filepath.Join(dir, "disk")
		if cut := n - len(ways) - calls; cut >= 0 {
			at, rng := cut/draws, draw(n)
			luck := []simos.Luck{{}, simos.FullLuck(), simos.DrawLuck(rng), simos.DrawLuck(rng), simos.DrawLuck(rng), simos.DrawLuck(rng)}[cut%draws]
			m, err := memberOn(dir, recorded.disk.Cut(at+1, luck), known)
			if err == nil {
				err = m.reopenAndCheck(known, tried)
			}
			return located(err, fmt.Sprintf("a power cut after operation %d (%v)", at+1, ops[at]))
		}
		m, err := memberOn(dir, image, known)
		if err != nil {
			return err
		}
		how := fmt.Sprintf("killed at call %d", n-len(ways)+1)
		if n < len(ways) {
			how = ways[n].String()
			m.disk.FailAt(ways[n].call, ways[n].err, ways[n].sticky)
		} else {
			m.disk.KillAt(n - len(ways) + 1)
		}
		if err := m.open(); err != nil && isBug(err) {
			return located(err, how)
		}
		m.disk.Heal()
		m.stopWriting()
		return located(m.reopenAndCheck(known, tried), how)
	})
	t.Logf("%d calls, %d operations:\n%s", calls, len(ops), tried)
}

func located(err error, how string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", how, err)
}

// unsyncedLog returns a disk with a log after a power cut. The watermark is in the third of six
// segments, and there are snapshots and summaries of later events.
func unsyncedLog(t *testing.T) (*simos.Image, memberState) {
	dir := filepath.Join(memDir(t), "disk")
	require.NoError(t, os.Mkdir(dir, 0o750))
	log := filepath.Join(dir, logPath)
	m := &member{dir: log, disk: simos.Watch(dir), opts: eventlog.Options{SegmentSize: 400, NoSync: true, Replicated: true}}
	require.NoError(t, m.open())
	for i := range 12 {
		body := bytes.Repeat([]byte{byte('a' + i)}, 150)
		m.events = append(m.events, string(body))
		require.NoError(t, m.log.Write([]eventlog.Entry{{Body: segment.NewBody(body)}}))
		if i%2 == 0 {
			require.NoError(t, m.log.SaveSnapshot(segment.Snapshot{Version: segment.SnapshotVersion, Last: m.log.Last(), Synced: true, Body: []byte("rows")}))
		}
	}
	require.NoError(t, m.close())
	m.disk.Stop()
	manifest, _, err := segment.ReadManifest(os.DirFS(log))
	require.NoError(t, err)
	const durable = 5
	for _, name := range segment.WatermarkNames {
		require.NoError(t, os.WriteFile(filepath.Join(log, name), segment.AppendWatermark(nil, manifest.UUID, durable), 0o640))
	}
	names, err := segment.Names(os.DirFS(log))
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(log, segment.SummaryDir), 0o750))
	for _, name := range names {
		require.NoError(t, os.WriteFile(filepath.Join(log, segment.SummaryDir, name), []byte("a summary"), 0o640))
	}
	return simos.ReadImage(dir), memberState{events: m.events, durable: durable}
}

// memberOn returns a member whose log is on that disk.
func memberOn(dir string, image *simos.Image, known memberState) (*member, error) {
	if err := image.Write(dir); err != nil {
		return nil, err
	}
	known.events = known.events[:len(known.events):len(known.events)]
	opts := eventlog.Options{SegmentSize: 400, NoSync: true, Replicated: true}
	return &member{dir: filepath.Join(dir, logPath), disk: simos.WatchImage(dir, image), opts: opts, memberState: known}, nil
}

// reopenAndCheck opens the log after an interrupted opening. Every event must still be on the disk.
func (m *member) reopenAndCheck(known memberState, tried *tally) error {
	defer m.disk.Stop()
	if !tried.see("states", m.disk.Hash()) {
		return nil
	}
	m.memberState = known
	if err := m.open(); err != nil {
		return err
	}
	if m.durable != known.durable {
		return broken("D11: the log has %d events, and %d were durable", m.durable, known.durable)
	}
	after := m.disk.Cut(len(m.disk.Ops()), simos.Luck{})
	m.stopWriting()
	for i, body := range known.events {
		if !contains(after, []byte(body)) {
			return broken("D4: event %d is not on the disk any more", i+1)
		}
	}
	return nil
}

// stopWriting closes the log, as the system does for a dead process.
func (m *member) stopWriting() {
	if m.log != nil {
		m.log.Close()
		m.log = nil
	}
}
