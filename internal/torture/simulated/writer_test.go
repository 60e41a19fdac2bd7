//go:build simulated

package simulated

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/internal/torture/simos"
)

// writer draws random events, passes them to a store, and records which are acknowledged.
type writer struct {
	dir  string // directory of the log
	disk *simos.Disk
	rng  *rand.Rand
	opts migrationlog.Options

	store *migrationlog.Store
	mu    sync.Mutex
	known history
}

// logPath is the path of a log on a disk. Its parent directory does not exist at first either.
const logPath = "coordinator/log"

func newWriter(disk string, watch *simos.Disk, rng *rand.Rand, known history) *writer {
	return &writer{dir: filepath.Join(disk, logPath), disk: watch, rng: rng, opts: migrationlog.Options{SegmentSize: 1 + rng.IntN(1500), Now: noon}, known: known}
}

// noon is the time of every event, so that the same writes produce the same bytes.
func noon() time.Time { return time.UnixMilli(1795399697649) }

// open opens the log and checks it against the known history.
func (w *writer) open() (err error) {
	w.store, err = openAndCheck(w.dir, w.disk, &w.opts, w.known)
	return err
}

func (w *writer) close() error {
	s := w.store
	w.store = nil
	return s.Close()
}

// drawEvent draws an event of one of a few migrations. Its size is at most two sectors.
func (w *writer) drawEvent() checkpoint.Event {
	id := checkpoint.MigrationID{1 + byte(w.rng.IntN(4))}
	switch w.rng.IntN(11) {
	case 0:
		return checkpoint.Aborted{MigrationID: id, Reason: strings.Repeat("x", w.rng.IntN(1000)), TimestampMS: w.drawTimestampMS()}
	case 1:
		return checkpoint.Removed{MigrationID: id, TimestampMS: w.drawTimestampMS()}
	case 2:
		steps := []checkpoint.Compensation{{Kind: checkpoint.RemoveVoter, GroupID: 9, PeerID: 3}, {Kind: checkpoint.RestoreLeaderHint, GroupID: 9, PeerID: 5}}
		return checkpoint.AbortBegun{
			MigrationID: id, Reason: strings.Repeat("x", w.rng.IntN(1000)), Compensations: steps, TimestampMS: w.drawTimestampMS(), Epoch: w.rng.Uint64N(3),
		}
	case 3:
		return checkpoint.Compensated{MigrationID: id, Step: w.rng.Uint32N(2), TimestampMS: w.drawTimestampMS(), Epoch: w.rng.Uint64N(3)}
	case 4:
		return checkpoint.EpochRaised{MigrationID: id, TimestampMS: w.drawTimestampMS(), Epoch: 1 + w.rng.Uint64N(9)}
	}
	return w.drawUpsert(id)
}

func (w *writer) drawTimestampMS() uint64 { return w.rng.Uint64N(checkpoint.MaxTimestampMS + 1) }

func (w *writer) drawUpsert(id checkpoint.MigrationID) checkpoint.Event {
	n := w.rng.Uint64()
	payloads := []checkpoint.Payload{
		checkpoint.AddLearner{VShardID: uint32(n), SourceNode: n}, checkpoint.CatchUp{LearnerLogIndexAtAdd: n},
		checkpoint.PromoteLearner{TargetNode: n}, checkpoint.LeadershipTransfer{SourceGroup: n},
		checkpoint.Cutover{NewLeaderNodeID: n}, checkpoint.Complete{ActualPauseUS: n},
	}
	c, err := checkpoint.New(id, w.rng.Uint32(), payloads[w.rng.IntN(len(payloads))], w.drawTimestampMS())
	if err != nil {
		panic(err)
	}
	return checkpoint.Upserted{Checkpoint: c}
}

// write passes one event to the store. Other goroutines may write at the same time. An acknowledged
// event must exist from then on. If the write fails, the event may exist at one of the free
// numbers.
func (w *writer) write(e checkpoint.Event) error {
	body := encode(e)
	free := w.store.Stats().LastSeq + 1
	r, err := submit(w.store, e)
	if errors.Is(err, migrationlog.ErrFailed) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for seq := range uint64(maxTogether) {
			w.known.mayHave(free+seq, body)
		}
	}
	if err != nil || !r.Appended() {
		return err
	}
	w.disk.Mark(promises{r.Seq: body})
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known.promise(r.Seq, body)
}

// append writes an upsert for each of n migrations. It returns an error if the store does not
// acknowledge all of them.
func (w *writer) append(n int) error {
	before := len(w.known.must)
	for i := range n {
		if err := w.write(w.drawUpsert(checkpoint.MigrationID{0xff, byte(i)})); err != nil {
			return err
		}
	}
	if got := len(w.known.must) - before; got != n {
		return broken("D1: of %d new events only %d were acknowledged", n, got)
	}
	return nil
}

// submit writes one event. Another goroutine may begin an abort meanwhile, and only WriteAll accepts
// every event during an abort.
func submit(s *migrationlog.Store, e checkpoint.Event) (migrationlog.Receipt, error) {
	if u, ok := e.(checkpoint.Upserted); ok {
		receipt, err := s.Upsert(u.Checkpoint)
		if !errors.Is(err, migrationlog.ErrAborting) {
			return receipt, err
		}
	}
	receipts, err := s.WriteAll([]checkpoint.Event{e})
	if err != nil {
		return migrationlog.Receipt{}, err
	}
	return receipts[0], nil
}

// maxTogether is the largest number of events that are written to a store concurrently.
const maxTogether = 4

// writeTogether writes several events concurrently.
func (w *writer) writeTogether(n int) error {
	var writing sync.WaitGroup
	failures := make([]error, n)
	for i := range n {
		e := w.drawEvent()
		writing.Go(func() { failures[i] = w.write(e) })
	}
	writing.Wait()
	return errors.Join(failures...)
}

// writeAll writes several events in one call.
func (w *writer) writeAll(n int) error {
	events := make([]checkpoint.Event, n)
	for i := range events {
		events[i] = w.drawEvent()
	}
	free := w.store.Stats().LastSeq + 1
	receipts, err := w.store.WriteAll(events)
	if errors.Is(err, migrationlog.ErrFailed) {
		for i, e := range events {
			for seq := range uint64(i + 1) { // some events before it may have been duplicates
				w.known.mayHave(free+seq, encode(e))
			}
		}
	}
	promised := promises{}
	for i, r := range receipts {
		if r.Appended() {
			promised[r.Seq] = encode(events[i])
		}
	}
	w.disk.Mark(promised)
	for seq, body := range promised {
		err = errors.Join(err, w.known.promise(seq, body))
	}
	return err
}

// step does one random action of a coordinator.
func (w *writer) step() error {
	if w.store == nil {
		return w.open()
	}
	switch w.rng.IntN(8) {
	case 0:
		return w.writeTogether(2 + w.rng.IntN(maxTogether-1))
	case 2:
		return w.writeAll(2 + w.rng.IntN(10))
	case 1:
		if err := w.close(); err != nil {
			return err
		}
		return w.open()
	}
	return w.write(w.drawEvent())
}

// stop kills the program, or fails one of its calls, at a random moment of its next steps. Then it
// starts the program again.
func (w *writer) stop() error {
	if err := failSoon(w.disk, w.rng, 60, w.step); err != nil {
		return err
	}
	if w.store != nil {
		w.close() // releases the lock, as the system does for a dead process
	}
	w.disk.Heal()
	return w.open()
}

// failSoon kills the program or fails one of its calls, at a random one of its next calls. It calls
// step until that has happened, at most three times. It returns the errors that have another cause.
func failSoon(disk *simos.Disk, rng *rand.Rand, withinCalls int, step func() error) error {
	before, _ := disk.Fired()
	at := disk.Calls() + 1 + rng.IntN(withinCalls)
	switch rng.IntN(4) {
	case 0:
		disk.FailAt(at, syscall.EIO, rng.IntN(2) == 0)
	case 1:
		disk.FailAt(at, syscall.ENOSPC, rng.IntN(2) == 0)
	default:
		disk.KillAt(at)
	}
	for range 3 {
		err := step()
		if fired, _ := disk.Fired(); err != nil && fired == before || isBug(err) {
			return err
		}
		if err != nil {
			break
		}
	}
	return nil
}
