//go:build simulated

package simulated

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/internal/torture/simos"
	"migrationlog/replay"
)

// numberedEvent is an event, encoded, at a number.
type numberedEvent struct {
	seq  uint64
	body string
}

// history is what may be in a log and what must be.
type history struct {
	must map[uint64]string      // acknowledged, or shown by a store that was opened
	may  map[numberedEvent]bool // handed to the log
	lost map[uint64]bool        // to damage, not to a power cut: a report may say they had been acknowledged
}

func newHistory() history {
	return history{must: map[uint64]string{}, may: map[numberedEvent]bool{}}
}

func (h history) clone() history {
	return history{must: maps.Clone(h.must), may: maps.Clone(h.may), lost: h.lost}
}

// hand notes an event that may be in the log from now on.
func (h history) mayHave(seq uint64, body string) { h.may[numberedEvent{seq, body}] = true }

// brokenError says which promise is broken. No fault excuses it.
type brokenError struct{ error }

func broken(format string, arguments ...any) error {
	return brokenError{fmt.Errorf(format, arguments...)}
}

// isBug reports whether an error is one that no fault explains.
func isBug(err error) bool {
	return errors.As(err, &brokenError{}) || errors.As(err, &simos.EndlessError{})
}

// promise notes what must be in the log from now on. It returns an error where
// the number had another event before.
func (h history) promise(seq uint64, body string) error {
	if had, ok := h.must[seq]; ok && had != body {
		return broken("D3: seq %d was %s and is now %s", seq, describe(had), describe(body))
	}
	h.must[seq] = body
	h.mayHave(seq, body)
	return nil
}

// check holds what a log shows against what it may and must.
func (h history) check(found map[uint64]string) error {
	var wrong []error
	for _, seq := range sortedKeys(h.must) {
		switch body, ok := found[seq]; {
		case !ok:
			wrong = append(wrong, broken("D1: seq %d is gone, %s", seq, describe(h.must[seq])))
		case body != h.must[seq]:
			wrong = append(wrong, broken("D3: seq %d was %s and is now %s", seq, describe(h.must[seq]), describe(body)))
		}
	}
	for _, seq := range sortedKeys(found) {
		if !h.may[numberedEvent{seq, found[seq]}] {
			wrong = append(wrong, broken("D3: seq %d is invented, %s", seq, describe(found[seq])))
		}
	}
	return errors.Join(wrong...)
}

// promises is a mark in a disk's record: from here on these must be there.
type promises map[uint64]string

// promisedAt adds the promises among the operations.
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

// eventsIn are the whole events of a log by their numbers, encoded.
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
			return nil, broken("D3: seq %d is there twice", r.Seq)
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

// told is an event as a person reads it.
func describe(body string) string {
	e, err := checkpoint.DecodeEvent([]byte(body))
	if err != nil {
		return fmt.Sprintf("%x", body)
	}
	return fmt.Sprintf("%.120q", fmt.Sprintf("%T%v", e, e))
}

// openStore opens a log whose opening may never end.
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

// openAndCheck opens a log that must open and must hold what the history says.
// What it shows is promised from then on.
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
	for _, r := range s.Report().AcknowledgedLost {
		for seq := r.First; seq <= r.Last; seq++ {
			if !h.lost[seq] {
				return broken("D5: seq %d is said to have been acknowledged and lost", seq)
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

// checkRows holds what the store shows against the events of its log.
func checkRows(s *migrationlog.Store, found map[uint64]string) error {
	want := map[checkpoint.MigrationID]checkpoint.Checkpoint{}
	for _, seq := range sortedKeys(found) {
		e, err := checkpoint.DecodeEvent([]byte(found[seq]))
		if err != nil {
			return err
		}
		if upserted, ok := e.(checkpoint.Upserted); ok {
			want[e.Migration()] = upserted.Checkpoint
		} else {
			delete(want, e.Migration())
		}
	}
	rows := s.All()
	for _, row := range rows {
		if want[row.MigrationID] != row {
			return broken("D8: begun with snapshot %d, the store shows %v, and the log tells %v", s.Report().SnapshotSeq, row, want[row.MigrationID])
		}
	}
	if len(rows) != len(want) {
		return broken("D8: begun with snapshot %d, the store shows %d rows, and the log tells %d", s.Report().SnapshotSeq, len(rows), len(want))
	}
	return nil
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
