//go:build simulated

package simulated

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/internal/torture/simos"
)

// failure describes how one call fails.
type failure struct {
	call   int // number of the call, from 1
	err    syscall.Errno
	sticky bool
}

func (f failure) String() string {
	how := "once"
	if f.sticky {
		how = "and so do all later calls"
	}
	return fmt.Sprintf("call %d fails with %v %s", f.call, f.err, how)
}

// waysToFail returns the ways in which each of the calls can fail.
func waysToFail(calls int) (all []failure) {
	for n := range calls {
		for _, err := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
			for _, sticky := range []bool{false, true} {
				all = append(all, failure{n + 1, err, sticky})
			}
		}
	}
	return all
}

// D6, D1, D3, D7: any one call of a writer fails, in any way. Nothing is acknowledged after a
// failed write. Every acknowledged event exists when the log is opened again, also after a power
// cut that loses all unsynced bytes.
func TestD6_EveryFault(t *testing.T) {
	dir := memDir(t)
	disk := simos.Watch(dir)
	require.NoError(t, newScript(dir, disk).run())
	disk.Stop()
	tried := newTally()
	ways := waysToFail(disk.Calls())
	eachCase(t, len(ways), func(n int, dir string) error {
		f := ways[n]
		disk, err := watchNew(filepath.Join(dir, "disk"))
		if err != nil {
			return err
		}
		defer disk.Stop()
		disk.FailAt(f.call, f.err, f.sticky)
		s := newScript(filepath.Join(dir, "disk"), disk)
		s.tried, s.cutDir = tried, filepath.Join(dir, "cut")
		err = s.run()
		if err == nil {
			err = s.recover(n)
		}
		_, last := disk.Fired()
		if err != nil {
			return fmt.Errorf("%v (%s): %w", f, last, err)
		}
		return nil
	})
	t.Logf("%d calls, %d ways to fail:\n%s", disk.Calls(), len(ways), tried)
}

// watchNew creates a directory and watches it.
func watchNew(dir string) (*simos.Disk, error) {
	if err := os.Mkdir(dir, 0o750); err != nil {
		return nil, err
	}
	return simos.Watch(dir), nil
}

// script is a writer that makes each kind of call. It creates a log, fills segments, closes the
// log, opens it and continues.
type script struct {
	*writer
	tried  *tally
	cutDir string // directory for the disk after a power cut
}

const scriptSegmentBytes = 300 // two or three events

func newScript(dir string, disk *simos.Disk) *script {
	w := newWriter(dir, disk, draw(0), newHistory()) // the same events in every case
	w.opts.SegmentSize = scriptSegmentBytes
	return &script{writer: w, tried: newTally()}
}

// run executes the script until a call fails. Then it checks that the store behaves as it must
// after a failure.
func (s *script) run() error {
	defer s.disk.Heal()
	for _, writes := range []int{7, 5} {
		if err := s.open(); err != nil {
			s.tried.add("Open failed")
			return s.unexplained(err)
		}
		for range writes {
			err := s.write(s.drawEvent())
			if err != nil {
				s.tried.add("a write failed")
				return errors.Join(s.unexplained(err), s.checkAfterFailure(err))
			}
		}
		if err := s.close(); err != nil {
			s.tried.add("Close failed")
			return s.unexplained(err)
		}
	}
	if fired, _ := s.disk.Fired(); fired > 0 {
		s.tried.add("a call failed, but no error was returned")
	} else {
		s.tried.add("the call does not fail on a full disk")
	}
	return nil
}

// unexplained returns the error if no injected fault explains it.
func (s *script) unexplained(err error) error {
	if fired, _ := s.disk.Fired(); fired == 0 || isBug(err) {
		return err
	}
	return nil
}

// checkAfterFailure checks that the store accepts nothing after a write has failed.
func (s *script) checkAfterFailure(first error) error {
	if !errors.Is(first, migrationlog.ErrFailed) {
		return broken("D6: the write failed with %w, which is not ErrFailed", first)
	}
	for range 2 {
		if _, err := submit(s.store, s.drawEvent()); !errors.Is(err, migrationlog.ErrFailed) {
			return broken("D6: a write after the failed one returned %v", err)
		}
		if err := s.store.Health(); !errors.Is(err, migrationlog.ErrFailed) {
			return broken("D6: after the failed write Health returns %v", err)
		}
		s.disk.Heal()
	}
	return nil
}

// recover opens the log after the faults have ended, writes, and cuts the power.
func (s *script) recover(n int) error {
	if s.store != nil {
		s.close()
	}
	unknown := len(s.known.may) > len(s.known.must)
	acknowledged := len(s.known.must)
	if err := s.open(); err != nil {
		return err
	}
	if unknown && len(s.known.must) > acknowledged {
		s.tried.add("the failed write exists")
	} else if unknown {
		s.tried.add("the failed write does not exist")
	}
	if err := s.append(4); err != nil {
		return err
	}
	if err := s.cutAndCheck(simos.Luck{}); err != nil {
		return err
	}
	if err := s.cutAndCheck(simos.DrawLuck(draw(n))); err != nil {
		return err
	}
	return s.close()
}

// cutAndCheck cuts the power now and checks the log.
func (s *script) cutAndCheck(luck simos.Luck) error {
	return checkCut(s.cutDir, s.disk.Cut(len(s.disk.Ops()), luck), s.known.clone())
}

// checkCut opens the log of a disk after a power cut and checks it against the known history.
func checkCut(dir string, image *simos.Image, known history) error {
	if err := image.Write(dir); err != nil {
		return err
	}
	defer removeAll(dir)
	disk := simos.WatchImage(dir, image)
	defer disk.Stop()
	store, err := openAndCheck(filepath.Join(dir, logPath), disk, nil, known)
	if err != nil {
		return fmt.Errorf("after a power cut: %w", err)
	}
	return store.Close()
}
