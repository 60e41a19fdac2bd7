package storetest

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// history is the list of a log's events that were seen so far.
type history struct {
	bodies [][]byte // encoded events; the event with seq n is at n-1
	lines  []string
}

// read reads the log up to a number, or all of it if the number is 0. It passes the events that are
// new to visit. It returns an error if the log is damaged, or if an event that was seen before is
// missing or different.
func (h *history) read(dir string, through uint64, visit func(checkpoint.Event)) error {
	reader, err := replay.Open(dir)
	if err != nil {
		return err
	}
	next := uint64(1)
	if through > 0 {
		next = uint64(len(h.bodies)) + 1
	}
	for record, err := range reader.Records(context.Background(), replay.Query{FromSeq: next, ToSeq: through}) {
		if err != nil {
			return err
		}
		if d := record.Damage; d != nil {
			if d.Torn {
				continue
			}
			return fmt.Errorf("the log is damaged: %s", d)
		}
		if record.Seq != next {
			return fmt.Errorf("the log has no event %d: the next one is %d", next, record.Seq)
		}
		if err := h.add(record, visit); err != nil {
			return err
		}
		next++
	}
	if n := max(through, uint64(len(h.bodies))); next <= n {
		return fmt.Errorf("the log ends with event %d, and event %d was acknowledged", next-1, n)
	}
	return nil
}

func (h *history) add(record replay.Record, visit func(checkpoint.Event)) error {
	body, err := checkpoint.EncodeEvent(record.Event)
	if err != nil {
		return err
	}
	if record.Seq <= uint64(len(h.bodies)) {
		if !bytes.Equal(body, h.bodies[record.Seq-1]) {
			return fmt.Errorf("the log has another event %d than before", record.Seq)
		}
		return nil
	}
	h.bodies = append(h.bodies, body)
	h.lines = append(h.lines, fmt.Sprintf("%6d %s", record.Seq, describe(record.Event)))
	visit(record.Event)
	return nil
}

func describe(e checkpoint.Event) string {
	id := e.Migration()
	switch e := e.(type) {
	case checkpoint.Upserted:
		return fmt.Sprintf("%s %s", id, e.Checkpoint.Phase())
	case checkpoint.AbortBegun:
		return fmt.Sprintf("%s abort begun: %s", id, e.Reason)
	case checkpoint.Compensated:
		return fmt.Sprintf("%s compensated step %d", id, e.Step)
	case checkpoint.Aborted:
		return fmt.Sprintf("%s aborted: %s", id, e.Reason)
	case checkpoint.Removed:
		return fmt.Sprintf("%s removed", id)
	case checkpoint.EpochRaised:
		return fmt.Sprintf("epoch %d", e.Epoch)
	case checkpoint.Restored:
		return fmt.Sprintf("%s restored at %s", id, e.Checkpoint.Phase())
	case checkpoint.Digest:
		return "digest"
	}
	return fmt.Sprintf("%s %T", id, e)
}

// maxLines is the number of events that a failure shows.
const maxLines = 40

// String returns the last events, one a line.
func (h *history) String() string {
	return strings.Join(h.lines[max(0, len(h.lines)-maxLines):], "\n")
}
