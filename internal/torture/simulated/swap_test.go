//go:build simulated

package simulated

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/torture/simos"
)

// replacement replaces a log by another one. The events of the old log begin with "old", those of
// the new one with "new".
type replacement struct {
	dir  string
	disk *simos.Disk
}

const replacementEvents = 4

// replacementMark is a mark among the recorded operations of a replacement.
type replacementMark string

const (
	swapBegins replacementMark = "the old log is in use"
	swapEnds   replacementMark = "the new log is in use"
)

func newReplacement(dir string, disk *simos.Disk) replacement {
	return replacement{filepath.Join(dir, logPath), disk}
}

// makeOld makes the log that will be replaced.
func (r replacement) makeOld() error {
	return errors.Join(writeLog(r.dir, "old", eventlog.Options{Replicated: true}), syncAll(filepath.Dir(r.dir)))
}

// run replaces the log as a member of a replicated store does.
func (r replacement) run() error {
	r.disk.Mark(swapBegins)
	restoring, err := eventlog.BeginSwap(r.dir)
	if err != nil {
		return err
	}
	opts := eventlog.Options{NoSync: true, Replicated: true, History: &segment.History{Index: 5, Term: 1, Origin: segment.OriginRestored}}
	if err := writeLog(restoring, "new", opts); err != nil {
		return err
	}
	if _, err := eventlog.SwapDir(r.dir); err != nil {
		if errors.Is(err, eventlog.ErrFailed) {
			return fmt.Errorf("%w: %w", errUnknownOutcome, err)
		}
		return err
	}
	r.disk.Mark(swapEnds)
	return nil
}

// errUnknownOutcome is the error of a replacement after which either log may be in use.
var errUnknownOutcome = errors.New("either log may be in use")

// writeLog makes a closed log with a few events in several segments.
func writeLog(dir, prefix string, opts eventlog.Options) error {
	opts.SegmentSize = 80
	r, err := eventlog.Begin(dir, opts)
	if err != nil {
		return err
	}
	for _, err := range r.Scan(segment.ScanAll) {
		if err != nil {
			return errors.Join(err, r.Abandon())
		}
	}
	log, err := r.Finish(segment.FrameID{})
	if err != nil {
		return err
	}
	for i := range replacementEvents {
		err = errors.Join(err, log.Write([]eventlog.Entry{{Body: segment.NewBody(fmt.Appendf(nil, "%s %d", prefix, i))}}), log.Sync())
	}
	return errors.Join(err, log.Close())
}

// contentOf returns "old" or "new", if the directory has the whole log of this name.
func contentOf(dir string) (prefix string, err error) {
	r, err := eventlog.Begin(dir, eventlog.Options{MustExist: true, Replicated: true})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, r.Abandon()) }()
	n := 0
	for item, err := range r.Scan(segment.ScanAll) {
		if err != nil {
			return "", err
		}
		if item.Damage != nil {
			return "", broken("D12: %v", item.Damage)
		}
		prefix, _, _ = strings.Cut(string(item.Frame.Body), " ")
		if want := fmt.Sprintf("%s %d", prefix, n); string(item.Frame.Body) != want {
			return "", broken("D12: event %d is %q, not %q", item.Frame.Seq, item.Frame.Body, want)
		}
		n++
	}
	if n != replacementEvents {
		return "", broken("D12: the %s log has %d events", prefix, n)
	}
	if isNew := r.Directory().Manifest.History != nil; isNew != (prefix == "new") {
		return "", broken("D12: the %s log has the history %v", prefix, r.Directory().Manifest.History)
	}
	return prefix, nil
}

// check finishes an interrupted replacement and checks that the old or the new log is in use. allowed
// has the logs that may be in use.
func (r replacement) check(allowed ...string) error {
	if err := eventlog.FinishSwap(r.dir, 0); err != nil {
		return fmt.Errorf("D12: %w", err)
	}
	content, err := contentOf(r.dir)
	if err != nil {
		return fmt.Errorf("the log in use: %w", err)
	}
	if !slices.Contains(allowed, content) {
		return broken("D12: the %s log is in use, but only %q may be", content, allowed)
	}
	want := []string{"log"}
	if content == "new" {
		want = append(want, "log.replaced-1")
		if set, err := contentOf(r.dir + ".replaced-1"); err != nil || set != "old" {
			return broken("D12: the log that was set aside: %q, %w", set, err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(r.dir))
	if err != nil {
		return err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, want) {
		return broken("D12: with the %s log in use, the directory has %q, not %q", content, names, want)
	}
	return nil
}

// syncAll makes the names in a directory and above it durable.
func syncAll(dir string) error {
	for range 3 {
		f, err := simos.Open(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
		dir = filepath.Dir(dir)
	}
	return nil
}

// D12: the power is cut at any operation of a replacement, and again while it is finished. The old or
// the new log is in use, whole. If the replacement had not begun to exchange the names, it is the old
// one, and after the replacement it is the new one.
func TestD12_PowerCut(t *testing.T) {
	disk, _, from := recordReplacement(t)
	ops := disk.Ops()
	tried := newTally()
	const draws = 5
	eachCase(t, (len(ops)-from)*draws, func(n int, dir string) error {
		rng := draw(n)
		at := from + 1 + n/draws
		luck := []simos.Luck{{}, simos.FullLuck(), simos.DrawLuck(rng), simos.DrawLuck(rng), simos.DrawLuck(rng)}[n%draws]
		if err := cutReplacement(dir, disk, at, luck, rng, tried, allowedAfter(ops[from:at]), 1); err != nil {
			return fmt.Errorf("a power cut after operation %d (%v): %w", at, ops[at-1], err)
		}
		return nil
	})
	t.Logf("%d operations:\n%s", len(ops)-from, tried)
}

// recordReplacement records a replacement. It returns the disk, its content before the
// replacement, and the number of the operations before it.
func recordReplacement(t *testing.T) (disk *simos.Disk, image *simos.Image, from int) {
	dir := filepath.Join(memDir(t), "disk")
	disk, err := watchNew(dir)
	require.NoError(t, err)
	defer disk.Stop()
	r := newReplacement(dir, disk)
	require.NoError(t, r.makeOld())
	image = disk.Cut(len(disk.Ops()), simos.Luck{})
	from = len(disk.Ops())
	require.NoError(t, r.run())
	return disk, image, from
}

// allowedAfter returns the logs that may be in use after these operations.
func allowedAfter(ops []simos.Op) []string {
	allowed := []string{"old"}
	for _, op := range ops {
		switch {
		case op.Kind == simos.OpRename && strings.HasSuffix(op.Path, ".replaced-1"):
			allowed = []string{"old", "new"}
		case op.Mark == swapEnds:
			allowed = []string{"new"}
		}
	}
	return allowed
}

// cutReplacement continues with the disk after a power cut. It cuts the power again while the
// replacement is finished.
func cutReplacement(dir string, disk *simos.Disk, at int, luck simos.Luck, rng *rand.Rand, tried *tally, allowed []string, depth int) error {
	image := disk.Cut(at, luck)
	if !tried.see(fmt.Sprintf("depth %d, %q may be in use", depth, allowed), image.Hash()) {
		return nil
	}
	r, err := replacementOn(dir, image, rng)
	if err != nil {
		return err
	}
	defer r.disk.Stop()
	if err := r.check(allowed...); err != nil {
		return fmt.Errorf("depth %d%s: %w", depth, keep(image), err)
	}
	if depth == maxDepth {
		return nil
	}
	content, err := contentOf(r.dir)
	if err != nil {
		return err
	}
	ops := len(r.disk.Ops())
	if parent := image.Entries[path.Dir(logPath)]; parent.Entries["log"] != nil && parent.Entries["log.restored"] != nil { // FinishSwap removed the new log
		for at := range ops + 1 {
			if err := checkWithoutOld(dir, r.disk.Cut(at, simos.DrawLuck(rng)), rng); err != nil {
				return err
			}
		}
	}
	if err := cutReplacement(dir, r.disk, ops, simos.Luck{}, rng, tried, []string{content}, maxDepth); err != nil {
		return fmt.Errorf("the log in use was not durable: %w", err)
	}
	return cutReplacement(dir, r.disk, rng.IntN(ops+1), simos.DrawLuck(rng), rng, tried, allowed, depth+1)
}

func replacementOn(dir string, image *simos.Image, rng *rand.Rand) (replacement, error) {
	d := filepath.Join(dir, fmt.Sprint(rng.Uint64()))
	err := os.MkdirAll(dir, 0o750)
	if err == nil {
		err = image.Write(d)
	}
	return newReplacement(d, simos.WatchImage(d, image)), err
}

// checkWithoutOld removes the log in use, as a person may do, and finishes the replacement. Then the
// whole new log is in use, or none.
func checkWithoutOld(dir string, image *simos.Image, rng *rand.Rand) error {
	r, err := replacementOn(dir, image, rng)
	if err != nil {
		return err
	}
	defer r.disk.Stop()
	if err := simos.RemoveAll(r.dir); err != nil {
		return err
	}
	if err := eventlog.FinishSwap(r.dir, 0); err != nil {
		return err
	}
	if _, err := os.Stat(r.dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if content, err := contentOf(r.dir); err != nil || content != "new" {
		return fmt.Errorf("D12: without the old log%s, the %q log is in use: %w", keep(image), content, err)
	}
	return nil
}

// D12, D6: any one call of a replacement fails, or the process is killed there. If an error other
// than ErrFailed is returned, the old log is in use at once. FinishSwap and the next replacement
// succeed.
func TestD12_EveryFault(t *testing.T) {
	_, image, _ := recordReplacement(t)
	dir := filepath.Join(memDir(t), "disk")
	require.NoError(t, image.Write(dir))
	r := newReplacement(dir, simos.WatchImage(dir, image))
	require.NoError(t, r.run())
	calls := r.disk.Calls()
	r.disk.Stop()
	tried := newTally()
	ways := waysToFail(calls)
	eachCase(t, len(ways)+calls, func(n int, dir string) error {
		r, err := replacementOn(dir, image, draw(n))
		if err != nil {
			return err
		}
		defer r.disk.Stop()
		how := fmt.Sprintf("killed at call %d", n-len(ways)+1)
		if n < len(ways) {
			how = ways[n].String()
			r.disk.FailAt(ways[n].call, ways[n].err, ways[n].sticky)
		} else {
			r.disk.KillAt(n - len(ways) + 1)
		}
		err = r.run()
		fired, last := r.disk.Fired()
		r.disk.Heal()
		if fired == 0 { // a full disk does not fail this call
			return err
		}
		if !tried.see(fmt.Sprintf("error %t, outcome unknown %t, killed %t", err != nil, errors.Is(err, errUnknownOutcome), n >= len(ways)), r.disk.Hash()) {
			return nil
		}
		if err := r.checkAfterFault(err, n >= len(ways)); err != nil {
			return fmt.Errorf("%s (%s): %w", how, last, err)
		}
		return nil
	})
	t.Logf("%d calls, %d ways to fail:\n%s", calls, len(ways)+calls, tried)
}

// checkAfterFault checks the logs after a replacement that returned an error.
func (r replacement) checkAfterFault(err error, killed bool) error {
	allowed := []string{"old"}
	switch {
	case killed || errors.Is(err, errUnknownOutcome):
		allowed = []string{"old", "new"}
	case err == nil:
		allowed = []string{"new"}
	default:
		if content, opened := contentOf(r.dir); opened != nil || content != "old" {
			return broken("D12: after the error %q, the %q log is in use: %w", err, content, opened)
		}
	}
	if err := r.check(allowed...); err != nil {
		return err
	}
	if content, err := contentOf(r.dir); err != nil || content == "new" {
		return err
	}
	if err := r.run(); err != nil {
		return fmt.Errorf("the next replacement: %w", err)
	}
	return r.check("new")
}
