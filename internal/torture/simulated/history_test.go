//go:build simulated

package simulated

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"sync/atomic"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/summary"
	"migrationlog/internal/torture/simos"
	"migrationlog/projection"
	"migrationlog/replay"
)

// numberedEvent is an encoded event and its sequence number.
type numberedEvent struct {
	seq  uint64
	body string
}

// history is the set of events with which a log is compared: it may contain some, and must contain
// others.
type history struct {
	must map[uint64]string      // acknowledged, or read from the log after an opening
	may  map[numberedEvent]bool // passed to the log
	lost map[uint64]bool        // lost to damage, not to a power cut: a report may list them as acknowledged
}

func newHistory() history {
	return history{must: map[uint64]string{}, may: map[numberedEvent]bool{}}
}

func (h history) clone() history {
	return history{must: maps.Clone(h.must), may: maps.Clone(h.may), lost: h.lost}
}

// mayHave records an event that the log may contain from now on.
func (h history) mayHave(seq uint64, body string) { h.may[numberedEvent{seq, body}] = true }

// brokenError is the error of a broken promise. No fault explains it.
type brokenError struct{ error }

func broken(format string, arguments ...any) error {
	return brokenError{fmt.Errorf(format, arguments...)}
}

// isBug reports whether no fault can explain the error.
func isBug(err error) bool {
	return errors.As(err, &brokenError{}) || errors.As(err, &simos.EndlessError{})
}

// promise records an event that the log must contain from now on. It returns an error if its number
// had another event before.
func (h history) promise(seq uint64, body string) error {
	if had, ok := h.must[seq]; ok && had != body {
		return broken("D3: seq %d was %s and is now %s", seq, describe(had), describe(body))
	}
	h.must[seq] = body
	h.mayHave(seq, body)
	return nil
}

// check compares the events of a log with the history.
func (h history) check(found map[uint64]string) error {
	var wrong []error
	for _, seq := range sortedKeys(h.must) {
		switch body, ok := found[seq]; {
		case !ok:
			wrong = append(wrong, broken("D1: seq %d is missing; it was %s", seq, describe(h.must[seq])))
		case body != h.must[seq]:
			wrong = append(wrong, broken("D3: seq %d was %s and is now %s", seq, describe(h.must[seq]), describe(body)))
		}
	}
	for _, seq := range sortedKeys(found) {
		if !h.may[numberedEvent{seq, found[seq]}] {
			wrong = append(wrong, broken("D3: seq %d was never written; it is %s", seq, describe(found[seq])))
		}
	}
	return errors.Join(wrong...)
}

// promises is a mark among the recorded operations of a disk. From this mark on, the log must
// contain these events.
type promises map[uint64]string

// promisedAt returns the history with the promises among the operations.
func (h history) promisedAt(ops []simos.Op) (history, error) {
	h = h.clone()
	for _, op := range ops {
		if p, ok := op.Mark.(promises); ok {
			for seq, body := range p {
				if err := h.promise(seq, body); err != nil {
					return h, err
				}
			}
		}
	}
	return h, nil
}

// eventsIn returns the encoded events of the intact frames, by their numbers.
func eventsIn(dir string) (map[uint64]string, error) {
	reader, err := replay.Open(dir)
	if err != nil {
		return nil, err
	}
	found := map[uint64]string{}
	for r, err := range reader.Records(context.Background(), replay.Query{}) {
		if err != nil {
			return nil, err
		}
		if r.Event == nil {
			continue
		}
		if _, twice := found[r.Seq]; twice {
			return nil, broken("D3: seq %d exists twice", r.Seq)
		}
		found[r.Seq] = encode(r.Event)
	}
	return found, nil
}

func encode(e checkpoint.Event) string {
	body, err := checkpoint.EncodeEvent(e)
	if err != nil {
		panic(err)
	}
	return string(body)
}

// describe returns an event as text for a person.
func describe(body string) string {
	e, err := checkpoint.DecodeEvent([]byte(body))
	if err != nil {
		return fmt.Sprintf("%x", body)
	}
	return fmt.Sprintf("%.120q", fmt.Sprintf("%T%v", e, e))
}

// openStore opens a log. If Open makes calls without end, openStore returns simos.EndlessError.
func openStore(dir string, opts *migrationlog.Options) (s *migrationlog.Store, err error) {
	defer func() {
		if r := recover(); r != nil {
			endless, ok := r.(simos.EndlessError)
			if !ok {
				panic(r)
			}
			err = endless
		}
	}()
	return migrationlog.Open(dir, opts)
}

// openAndCheck opens a log. It returns an error if the log does not open or differs from the
// history. From then on, the log must keep all events that it had.
func openAndCheck(dir string, disk *simos.Disk, opts *migrationlog.Options, h history) (*migrationlog.Store, error) {
	s, err := openStore(dir, opts)
	if err != nil {
		return nil, fmt.Errorf("D7: %w", err)
	}
	if err := checkOpen(dir, disk, s, h); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func checkOpen(dir string, disk *simos.Disk, s *migrationlog.Store, h history) error {
	found, err := eventsIn(dir)
	if err != nil {
		return err
	}
	if err := h.check(found); err != nil {
		return err
	}
	if err := checkSummaries(dir, found); err != nil {
		return err
	}
	for _, r := range s.Report().AcknowledgedLost {
		for seq := r.First; seq <= r.Last; seq++ {
			if !h.lost[seq] {
				return broken("D5: seq %d is reported as acknowledged and lost, but it is not lost", seq)
			}
		}
	}
	if len(h.lost) == 0 && len(s.Report().Lost) == 0 {
		if err := checkRows(s, found); err != nil {
			return err
		}
	}
	disk.Mark(promises(found))
	for seq, body := range found {
		if err := h.promise(seq, body); err != nil {
			return err
		}
	}
	return nil
}

// checkSummaries compares the intact summaries that match their segments with the events of the log.
func checkSummaries(dir string, found map[uint64]string) error {
	fsys := os.DirFS(dir)
	manifest, _, err := segment.ReadManifest(fsys)
	if err != nil {
		return err
	}
	names, err := segment.SummaryNames(fsys)
	if err != nil {
		return err
	}
	for _, name := range names {
		s, ok := summary.Open(fsys, manifest.UUID, name)
		if !ok || !s.IsIntact() {
			continue
		}
		if matches, err := s.Matches(fsys, manifest.UUID); err != nil || !matches {
			continue
		}
		frames, _ := s.Frames()
		migrations, _ := s.Migrations()
		for seq := s.FirstSeq; seq <= s.LastSeq; seq++ {
			body, ok := found[seq]
			if !ok { // lost since
				continue
			}
			e, err := checkpoint.DecodeEvent([]byte(body))
			if err != nil {
				return err
			}
			f, _ := frames.At(seq)
			if id := migrations.ID(f.Migration); id != e.Migration() || f.WallMS != e.WallMS() || f.Kind != checkpoint.KindOf(e) {
				return broken("summary %s: seq %d is %+v of %s, but the log has %+v", name, seq, f, id, e)
			}
		}
		summariesChecked.Add(1)
	}
	return nil
}

// summariesChecked counts the summaries that checkSummaries has compared.
var summariesChecked atomic.Int64

// checkRows compares the rows of the store with the events of its log, and the aborts under way and
// the epoch with those of a fold of all events.
func checkRows(s *migrationlog.Store, found map[uint64]string) error {
	want := map[checkpoint.MigrationID]checkpoint.Checkpoint{}
	view := projection.New()
	for _, seq := range sortedKeys(found) {
		e, err := checkpoint.DecodeEvent([]byte(found[seq]))
		if err != nil {
			return err
		}
		if upserted, ok := e.(checkpoint.Upserted); ok {
			want[e.Migration()] = upserted.Checkpoint
		} else if checkpoint.KindOf(e).Effect() == checkpoint.EffectEnd {
			delete(want, e.Migration())
		}
		view.Apply(seq, view.Slot(e.Migration()).LastSeq(), e)
	}
	for row := range s.Rows() {
		if abort := view.Slot(row.Checkpoint.MigrationID).Facts().Abort; !reflect.DeepEqual(row.Facts.Abort, abort) {
			return broken("D8: started from snapshot %d, the store has the abort %+v, but the log leads to %+v", s.Report().SnapshotSeq, row.Facts.Abort, abort)
		}
	}
	if got := s.Report().Epoch; got != view.Epoch() {
		return broken("D8: started from snapshot %d, the store has epoch %d, but the log leads to %d", s.Report().SnapshotSeq, got, view.Epoch())
	}
	rows := s.All()
	for _, row := range rows {
		if want[row.MigrationID] != row {
			return broken("D8: started from snapshot %d, the store has the row %v, but the log leads to %v", s.Report().SnapshotSeq, row, want[row.MigrationID])
		}
	}
	if len(rows) != len(want) {
		return broken("D8: started from snapshot %d, the store has %d rows, but the log leads to %d", s.Report().SnapshotSeq, len(rows), len(want))
	}
	return nil
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
