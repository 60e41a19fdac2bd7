//go:build simulated

package simulated

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"migrationlog/internal/torture/simos"
)

const (
	cutsPerRecord = 40 // cuts at depth 1; deeper cuts are additional
	maxDepth      = 3
)

// D1, D3, D7: a power cut loses any part of the unsynced data. Then Open succeeds, every
// acknowledged event exists, and every other event was written. This also holds if the power is cut
// again during that Open or later, with kills and faults in between.
func TestD1_PowerCut(t *testing.T) {
	begin := time.Now()
	tried := newTally()
	var cuts, openings atomic.Int64
	eachCase(t, (*cutsFlag+2*cutsPerRecord-1)/(2*cutsPerRecord), func(n int, dir string) error {
		c := &cutCase{dir: dir, rng: draw(n), tried: tried}
		err := c.try()
		cuts.Add(c.cuts)
		openings.Add(c.openings)
		return err
	})
	seconds := time.Since(begin).Seconds()
	t.Logf("%d power cuts, %d openings, %d summaries, %.0f cuts a second; by the operation before the cut:\n%s",
		cuts.Load(), openings.Load(), summariesChecked.Load(), float64(cuts.Load())/seconds, tried)
}

// cutCase is the session of one writer, and power cuts at random moments of it.
type cutCase struct {
	dir            string
	rng            *rand.Rand
	tried          *tally
	cuts, openings int64
	dirs           int
}

func (c *cutCase) try() error {
	first, err := c.runSession(1, &simos.Image{Entries: map[string]*simos.Image{}}, newHistory(), 3+c.rng.IntN(10))
	if err != nil {
		return err
	}
	for range cutsPerRecord {
		if err := c.cut(first, 1); err != nil {
			return err
		}
	}
	return nil
}

// session is the work of a writer from the moment at which it opened the log.
type session struct {
	disk   *simos.Disk
	before history // at the start of the session
	after  history
}

// runSession writes the image into a directory, opens the log in it and continues to write.
func (c *cutCase) runSession(depth int, image *simos.Image, before history, steps int) (s session, err error) {
	c.dirs++
	dir := filepath.Join(c.dir, fmt.Sprint(c.dirs))
	if err := image.Write(dir); err != nil {
		return s, err
	}
	s = session{disk: simos.WatchImage(dir, image), before: before}
	w := newWriter(dir, s.disk, c.rng, before.clone())
	defer func() {
		s.disk.Stop()
		s.after = w.known
		if w.store != nil {
			w.store.Close()
		}
		if removed := os.RemoveAll(dir); err == nil {
			err = removed
		}
	}()
	c.openings++
	begin := w.open
	if c.rng.IntN(8) == 0 {
		begin = w.stop
	}
	if err := begin(); err != nil {
		return s, err
	}
	report := w.store.Report()
	for range steps {
		do := w.step
		if c.rng.IntN(6) == 0 {
			do = w.stop
		}
		if err := do(); err != nil {
			return s, err
		}
	}
	if err := w.close(); err != nil || depth == 1 {
		return s, err
	}
	c.openings++
	if err := w.open(); err != nil {
		return s, err
	}
	again := w.store.Report()
	if !reflect.DeepEqual(report.Lost, again.Lost) || !reflect.DeepEqual(report.AcknowledgedLost, again.AcknowledgedLost) {
		return s, broken("D7: the first Open reports %v lost and %v of them acknowledged, the second %v and %v",
			report.Lost, report.AcknowledgedLost, again.Lost, again.AcknowledgedLost)
	}
	return s, w.close()
}

// cut cuts the power at a random moment of a session. The next session starts with the disk after
// the cut.
func (c *cutCase) cut(s session, depth int) error {
	done, kind, image := drawCut(s.disk, c.rng)
	c.cuts++
	c.tried.see(fmt.Sprintf("depth %d, after %s", depth, kind), image.Hash())
	known, err := s.before.promisedAt(done)
	if err != nil {
		return err
	}
	for event := range s.after.may {
		known.may[event] = true
	}
	next, err := c.runSession(depth+1, image, known, c.rng.IntN(3))
	if err != nil {
		return fmt.Errorf("cut %d of depth %d, after operation %d (%s)%s:\n%w", c.cuts, depth, len(done), kind, keep(image), err)
	}
	if depth < maxDepth && c.rng.IntN(3) > 0 {
		return c.cut(next, depth+1)
	}
	return nil
}

// drawCut cuts the power at a random moment of a session. It returns the operations before the cut, the
// kind of the last of them, and the disk after it.
func drawCut(disk *simos.Disk, rng *rand.Rand) (done []simos.Op, kind simos.OpKind, image *simos.Image) {
	ops := disk.Ops()
	at := rng.IntN(len(ops) + 1)
	image = disk.Cut(at, simos.DrawLuck(rng))
	if at == 0 {
		return nil, "nothing", image
	}
	return ops[:at], ops[at-1].Kind, image
}

// keep saves the disk after a power cut for a person, if only one case runs.
func keep(image *simos.Image) string {
	if *caseFlag < 0 {
		return ""
	}
	dir, err := os.MkdirTemp("", "torture-kept-")
	if err == nil {
		err = image.Write(filepath.Join(dir, "disk"))
	}
	if err != nil {
		return fmt.Sprintf(" (the disk could not be saved: %v)", err)
	}
	return " (the disk is saved in " + dir + ")"
}
