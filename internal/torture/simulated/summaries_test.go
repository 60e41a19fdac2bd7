//go:build simulated

package simulated

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
	"migrationlog/internal/summary"
	"migrationlog/internal/torture/simos"
)

// Summaries are not synced. After a power cut a summary may be missing, cut short, or zeros in places.
// No such summary counts as intact, and the next opening writes it again.
func TestSummaries_PowerCut(t *testing.T) {
	var missing, torn atomic.Int64
	eachCase(t, max(10, *cutsFlag/100), func(n int, dir string) error {
		c := &summaryCase{dir: dir, missing: &missing, torn: &torn}
		return c.try(n)
	})
	t.Logf("after the cuts, %d summaries were missing and %d were torn", missing.Load(), torn.Load())
	if *caseFlag < 0 {
		require.Positive(t, missing.Load())
		require.Positive(t, torn.Load())
	}
}

// summaryCase is a log, and power cuts while its summaries are written.
type summaryCase struct {
	dir           string
	missing, torn *atomic.Int64
	whole         string // directory of the log with all summaries
}

func (c *summaryCase) try(n int) error {
	const cuts = 4
	rng := draw(n)
	disk := filepath.Join(c.dir, "first")
	if err := os.Mkdir(disk, 0o750); err != nil {
		return err
	}
	w := newWriter(disk, simos.Watch(disk), rng, newHistory())
	defer w.disk.Stop()
	if err := w.open(); err != nil {
		return err
	}
	if err := errors.Join(w.append(20), w.close()); err != nil {
		return err
	}
	if err := w.open(); err != nil { // for the summary of a segment that the last write has sealed
		return err
	}
	if err := errors.Join(awaitSummaries(w.dir), w.close()); err != nil {
		return err
	}
	c.whole = w.dir
	ops := w.disk.Ops()
	first := slices.IndexFunc(ops, func(op simos.Op) bool { return filepath.Base(filepath.Dir(op.Path)) == segment.SummaryDir })
	for i := range cuts {
		at := first + rng.IntN(len(ops)-first+1)
		image := w.disk.Cut(at, simos.DrawLuck(rng))
		known, err := newHistory().promisedAt(ops[:at])
		if err != nil {
			return err
		}
		for event := range w.known.may {
			known.may[event] = true
		}
		if err := c.openAfterCut(filepath.Join(c.dir, fmt.Sprint(i)), image, w, known); err != nil {
			return fmt.Errorf("cut after operation %d of %d%s:\n%w", at, len(ops), keep(image), err)
		}
	}
	return nil
}

// openAfterCut opens the log on a disk after a power cut, waits until all sealed segments have a summary,
// and compares the summaries with the events.
func (c *summaryCase) openAfterCut(disk string, image *simos.Image, before *writer, known history) error {
	if err := image.Write(disk); err != nil {
		return err
	}
	w := newWriter(disk, simos.WatchImage(disk, image), before.rng, known)
	defer w.disk.Stop()
	w.opts = before.opts
	missing, torn, err := summariesIn(w.dir)
	if err == nil {
		err = c.compare(w.dir)
	}
	if err != nil {
		return err
	}
	c.missing.Add(int64(missing))
	c.torn.Add(int64(torn))
	if err := w.open(); err != nil { // compares the intact summaries with the events
		return err
	}
	if err := errors.Join(awaitSummaries(w.dir), w.close()); err != nil {
		return err
	}
	found, err := eventsIn(w.dir)
	if err != nil {
		return err
	}
	return checkSummaries(w.dir, found)
}

// compare returns an error if a summary after the cut counts as intact, and has other sections than the
// whole one.
func (c *summaryCase) compare(dir string) error {
	fsys, whole := os.DirFS(dir), os.DirFS(c.whole)
	manifest, _, err := segment.ReadManifest(whole)
	if err != nil {
		return err
	}
	names, err := segment.SummaryNames(fsys)
	for _, name := range names {
		if !isIntactSummary(fsys, manifest.UUID, name) {
			continue
		}
		got, _ := segment.OpenSummary(fsys, name, manifest.UUID)
		want, ok := segment.OpenSummary(whole, name, manifest.UUID)
		for i := 0; ok && i < segment.SummarySections; i++ {
			a, _ := got.Section(i)
			if b, _ := want.Section(i); !bytes.Equal(a, b) {
				return broken("summary %s counts as intact, and section %d is not the whole one", name, i)
			}
		}
	}
	return err
}

// awaitSummaries waits until each segment but the last has an intact summary.
func awaitSummaries(dir string) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		missing, torn, err := summariesIn(dir)
		if err != nil || missing+torn == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return broken("%d summaries are missing and %d are torn", missing, torn)
		}
	}
}

// summariesIn counts the segments, except the last one, that have no summary, and those whose summary is
// not intact.
func summariesIn(dir string) (missing, torn int, err error) {
	fsys := os.DirFS(dir)
	names, err := segment.Names(fsys)
	if err != nil || len(names) == 0 {
		return 0, 0, err
	}
	manifest, _, err := segment.ReadManifest(fsys)
	if err != nil {
		return 0, 0, err
	}
	for _, name := range names[:len(names)-1] {
		if _, err := os.Stat(filepath.Join(dir, segment.SummaryDir, name)); err != nil {
			missing++
		} else if !isIntactSummary(fsys, manifest.UUID, name) {
			torn++
		}
	}
	return missing, torn, nil
}

func isIntactSummary(fsys fs.FS, log uuid.UUID, name string) bool {
	s, ok := summary.Open(fsys, log, name)
	if !ok || !s.IsIntact() {
		return false
	}
	matches, err := s.Matches(fsys, log)
	return err == nil && matches
}
