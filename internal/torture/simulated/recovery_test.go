//go:build simulated

package simulated

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gofrs/flock"
	"github.com/stretchr/testify/require"

	"migrationlog/eventlog"
	"migrationlog/internal/torture/simos"
)

// D7, D4: a fault, a kill or a power cut interrupts Open at any of its calls. The next Open
// succeeds, finds every intact event, and reports the same losses. The bytes that a repair replaced
// still exist somewhere. All this also holds after a power cut that loses all unsynced bytes. If
// two cases lead to the same state of the disk, only the first one continues from there.
func TestD7_FaultInRecovery(t *testing.T) {
	tried := newTally()
	var cases []func(n int, dir string) error
	for _, w := range corruptions(t) {
		calls, ops := w.observe(t)
		for _, f := range waysToFail(calls) {
			cases = append(cases, func(n int, dir string) error {
				tried.add("a fault")
				return w.tryFault(f, n, dir, tried)
			})
		}
		for call := range calls {
			cases = append(cases, func(n int, dir string) error {
				tried.add("a kill")
				return w.tryKill(call+1, n, dir, tried)
			})
		}
		for at := range ops + 1 {
			for _, luck := range []string{"none", "full", "drawn", "drawn", "drawn", "drawn"} {
				cases = append(cases, func(n int, dir string) error {
					tried.add("a power cut")
					return w.tryCut(at, luck, n, dir, tried)
				})
			}
		}
	}
	eachCase(t, len(cases), func(n int, dir string) error { return cases[n](n, dir) })
	t.Logf("%d cases:\n%s", len(cases), tried)
}

// observe opens the damaged log without a fault. It returns the number of calls and of operations
// of this Open.
func (w corruption) observe(t *testing.T) (calls, ops int) {
	dir := filepath.Join(memDir(t), "disk")
	p, err := w.prepare(dir)
	require.NoError(t, err, w.name)
	defer p.disk.Stop()
	s, err := openStore(p.dir, &p.opts)
	require.NoError(t, err, w.name)
	calls, ops = p.disk.Calls(), len(p.disk.Ops())
	require.NoError(t, s.Close())
	require.NoError(t, p.check(), "%s: Open without a fault", w.name)
	return calls, ops
}

// damagedLog is a log with a corruption, and the writer that opens it.
type damagedLog struct {
	*writer
	corruption corruption
	disk       *simos.Disk
	hole       bool // a power cut left zeros at the start of the torn write, and other bytes after them
}

func (w corruption) prepare(dir string) (*damagedLog, error) {
	if err := w.image.Write(dir); err != nil {
		return nil, err
	}
	disk := simos.WatchImage(dir, w.image)
	writer := newWriter(dir, disk, rand.New(rand.NewPCG(1, 2)), w.known.clone())
	return &damagedLog{writer: writer, corruption: w, disk: disk}, nil
}

func (w corruption) tryFault(f failure, n int, dir string, tried *tally) error {
	p, err := w.prepare(filepath.Join(dir, "disk"))
	if err != nil {
		return err
	}
	p.disk.FailAt(f.call, f.err, f.sticky)
	if err := p.interruptAndRecover(n, dir, tried); err != nil {
		_, last := p.disk.Fired()
		return fmt.Errorf("%s: %v (%s): %w", w.name, f, last, err)
	}
	return nil
}

func (w corruption) tryKill(call, n int, dir string, tried *tally) error {
	p, err := w.prepare(filepath.Join(dir, "disk"))
	if err != nil {
		return err
	}
	p.disk.KillAt(call)
	if err := p.interruptAndRecover(n, dir, tried); err != nil {
		return fmt.Errorf("%s: killed at call %d: %w", w.name, call, err)
	}
	return nil
}

func (w corruption) tryCut(at int, luck string, n int, dir string, tried *tally) error {
	p, err := w.prepare(filepath.Join(dir, "disk"))
	if err != nil {
		return err
	}
	if err := p.interrupt(); err != nil {
		return err
	}
	how := map[string]simos.Luck{"none": {}, "full": simos.FullLuck(), "drawn": simos.DrawLuck(draw(n))}[luck]
	p.disk.Stop()
	after := w
	after.image = p.disk.Cut(at, how)
	next, err := after.prepare(filepath.Join(dir, "next"))
	if err != nil || !tried.see(w.name, next.disk.Hash()) {
		return err
	}
	if next.hole, err = next.hasHole(); err != nil {
		return err
	}
	if err := next.recover(filepath.Join(dir, "cut"), n); err != nil {
		return fmt.Errorf("%s: a power cut after operation %d of the first Open, luck %s: %w", w.name, at, luck, err)
	}
	return nil
}

// hasHole reports whether the torn write has lost its beginning, but not all of the rest. A scan
// cannot distinguish such a write from a damaged frame.
func (p *damagedLog) hasHole() (bool, error) {
	torn := p.corruption.torn
	if torn == nil {
		return false, nil
	}
	b, err := os.ReadFile(filepath.Join(p.dir, "wal", torn.Segment))
	if err != nil || int64(len(b)) <= torn.Offset {
		return false, err
	}
	rest := b[torn.Offset-1:] // starts with the last byte of the length prefix
	return rest[0] == 0 && len(bytes.Trim(rest, "\x00")) > 0, nil
}

func (p *damagedLog) interruptAndRecover(n int, dir string, tried *tally) error {
	defer p.disk.Stop()
	if err := p.interrupt(); err != nil || !tried.see(p.corruption.name, p.disk.Hash()) {
		return err
	}
	return p.recover(filepath.Join(dir, "cut"), n)
}

// interrupt opens the log while a call may fail, and then ends the fault. The log must not stay
// locked.
func (p *damagedLog) interrupt() error {
	s, err := openStore(p.dir, &p.opts)
	if err != nil && isBug(err) {
		return err
	}
	if err == nil {
		s.Close()
	}
	p.disk.Heal()
	lock := flock.New(filepath.Join(p.dir, eventlog.LockName), flock.SetFlag(os.O_RDWR))
	defer lock.Close()
	if free, err := lock.TryLock(); err == nil && !free {
		return broken("D7: the log stays locked")
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// recover opens the log, writes, and cuts the power.
func (p *damagedLog) recover(cutDir string, n int) error {
	defer p.disk.Stop()
	if err := p.check(); err != nil {
		return err
	}
	if err := p.open(); err != nil {
		return err
	}
	if err := p.append(2); err != nil {
		return err
	}
	ops := len(p.disk.Ops())
	for _, luck := range []simos.Luck{{}, simos.DrawLuck(draw(n))} {
		image := p.disk.Cut(ops, luck)
		if err := p.corruption.checkOriginals(image); err != nil {
			return fmt.Errorf("after a power cut: %w", err)
		}
		if err := checkCut(cutDir, image, p.known.clone()); err != nil {
			return err
		}
	}
	if err := p.close(); err != nil {
		return err
	}
	return p.check()
}

// check opens the log and compares its report with the corruption.
func (p *damagedLog) check() error {
	p.opts.VerifyAll = true // damage before a snapshot is otherwise not reported
	defer func() { p.opts.VerifyAll = false }()
	if err := p.open(); err != nil {
		return err
	}
	report := p.store.Report()
	if err := p.close(); err != nil {
		return err
	}
	if p.hole && slices.Equal(report.Lost, p.corruption.withTorn) {
		p.corruption.lost = p.corruption.withTorn // see docs/DURABILITY.md: a power cut can leave a hole in the last write
	}
	if !slices.Equal(report.Lost, p.corruption.lost) {
		return broken("D5: %v are reported as lost, but %v are lost", report.Lost, p.corruption.lost)
	}
	if !slices.Equal(report.AcknowledgedLost, p.corruption.acknowledged) {
		return broken("D5: %v are reported as acknowledged and lost, but %v are", report.AcknowledgedLost, p.corruption.acknowledged)
	}
	return p.corruption.checkOriginals(simos.ReadImage(filepath.Dir(filepath.Dir(p.dir))))
}

// checkOriginals returns an error if any of the original bytes exist nowhere on the disk.
func (w corruption) checkOriginals(image *simos.Image) error {
	for _, original := range w.originals {
		if !contains(image, []byte(original)) {
			return broken("D4: the disk no longer contains %.60q", original)
		}
	}
	return nil
}

func contains(image *simos.Image, b []byte) bool {
	for _, entry := range image.Entries {
		if contains(entry, b) {
			return true
		}
	}
	return bytes.Contains(image.Bytes, b)
}
