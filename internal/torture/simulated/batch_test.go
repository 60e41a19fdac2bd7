//go:build simulated

package simulated

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"migrationlog/eventlog"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/torture/simos"
)

// D6, D1, D3: batches that span several segments are appended, and any one call fails. After a
// power cut, all acknowledged batches exist. No batch is acknowledged after the failed one. Of the
// failed batch, only complete frames exist.
func TestD6_EveryFaultOfABatch(t *testing.T) {
	dir := memDir(t)
	disk := simos.Watch(dir)
	if _, err := appendBatches(dir); err != nil {
		t.Fatal(err)
	}
	disk.Stop()
	tried := newTally()
	ways := waysToFail(disk.Calls())
	eachCase(t, len(ways), func(n int, dir string) error {
		disk, err := watchNew(filepath.Join(dir, "disk"))
		if err != nil {
			return err
		}
		defer disk.Stop()
		f := ways[n]
		disk.FailAt(f.call, f.err, f.sticky)
		acknowledged, err := appendBatches(filepath.Join(dir, "disk"))
		disk.Heal()
		if err != nil && isBug(err) {
			return err
		}
		if fired, _ := disk.Fired(); fired > 0 && err == nil {
			tried.add("a call failed, but no error was returned")
		}
		for _, luck := range []simos.Luck{{}, simos.FullLuck(), simos.DrawLuck(draw(n))} {
			cut := filepath.Join(dir, "cut")
			image := disk.Cut(len(disk.Ops()), luck)
			if err := image.Write(cut); err != nil {
				return err
			}
			if err := checkBatches(cut, acknowledged, tried); err != nil {
				return fmt.Errorf("%v: %w", f, err)
			}
			if err := os.RemoveAll(cut); err != nil {
				return err
			}
		}
		return nil
	})
	t.Logf("%d calls, %d ways to fail:\n%s", disk.Calls(), len(ways), tried)
}

// batches has the number of entries of each batch. A segment holds three or four entries.
var batches = []int{1, 10, 3, 9, 1}

const batchSegmentBytes = 300

// batchBody returns the body of the frame with that number.
func batchBody(seq uint64) string { return fmt.Sprintf("%d%s", seq, strings.Repeat(".", 40)) }

// appendBatches creates a log and appends all batches, even after one of them fails. It returns the
// last acknowledged number.
func appendBatches(disk string) (acknowledged uint64, err error) {
	log, err := openLog(disk)
	if err != nil {
		return 0, err
	}
	var failed error
	for _, n := range batches {
		var entries []eventlog.Entry
		for i := range n {
			entries = append(entries, eventlog.Entry{Body: segment.NewBody([]byte(batchBody(log.NextSeq() + uint64(i))))})
		}
		err := errors.Join(log.Write(entries), log.Sync())
		switch {
		case err != nil:
			failed = err
		case failed != nil:
			return 0, broken("D6: an append succeeded after an append that failed with: %w", failed)
		default:
			acknowledged = log.NextSeq() - 1
		}
	}
	if err := log.Close(); err != nil {
		return acknowledged, err
	}
	return acknowledged, failed
}

func openLog(disk string) (*eventlog.Log, error) {
	r, err := eventlog.Begin(filepath.Join(disk, logPath), eventlog.Options{SegmentSize: batchSegmentBytes})
	if err != nil {
		return nil, err
	}
	for _, err := range r.Scan(segment.ScanAll) {
		if err != nil {
			r.Abandon()
			return nil, err
		}
	}
	return r.Finish(segment.FrameID{})
}

// checkBatches opens the disk after a power cut and compares the frames with the acknowledged ones.
func checkBatches(disk string, acknowledged uint64, tried *tally) error {
	log, err := openLog(disk)
	if err != nil {
		return broken("D7: %w", err)
	}
	if err := log.Close(); err != nil {
		return err
	}
	fsys := os.DirFS(filepath.Join(disk, logPath))
	dir, err := segment.ReadDirectory(fsys)
	if err != nil {
		return err
	}
	scan := segment.NewScan(fsys, dir, segment.ScanOptions{})
	found := map[uint64]bool{}
	for item, err := range scan.Items() {
		if err != nil {
			return err
		}
		if item.Damage != nil {
			continue
		}
		if string(item.Frame.Body) != batchBody(item.Frame.Seq) {
			return broken("D3: frame %d has the body %q", item.Frame.Seq, item.Frame.Body)
		}
		found[item.Frame.Seq] = true
	}
	for seq := range acknowledged {
		if !found[seq+1] {
			return broken("D1: frame %d is missing, but frames up to %d were acknowledged", seq+1, acknowledged)
		}
	}
	if lost := scan.Losses().Acknowledged(); len(lost) > 0 {
		return broken("D5: %v are reported as acknowledged and lost", lost)
	}
	tried.add(fmt.Sprintf("%d frames after the last acknowledged one", uint64(len(found))-acknowledged))
	return nil
}
