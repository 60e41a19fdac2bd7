package main

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// eventHashes has a hash of each event that a log had before an import, in ascending order. It needs
// 8 bytes per event.
type eventHashes struct {
	seed   maphash.Seed
	hashes []uint64
}

// readEventHashes reads all events of a log. If dir is empty, there is no log.
func readEventHashes(ctx context.Context, dir string) (*eventHashes, error) {
	h := &eventHashes{seed: maphash.MakeSeed()}
	if dir == "" {
		return h, nil
	}
	reader, err := replay.Open(dir)
	if err != nil {
		return nil, err
	}
	var body []byte
	for r, err := range reader.Records(ctx, replay.Query{}) {
		if err != nil {
			return nil, err
		}
		if r.Event == nil {
			continue
		}
		if body, err = checkpoint.AppendEvent(body[:0], r.Event); err == nil {
			h.hashes = append(h.hashes, maphash.Bytes(h.seed, body))
		}
	}
	slices.Sort(h.hashes)
	return h, nil
}

// has reports whether the log has the event with this encoding.
func (h *eventHashes) has(body []byte) bool {
	_, found := slices.BinarySearch(h.hashes, maphash.Bytes(h.seed, body))
	return found
}

// repetition is the error of an import whose next event is in the log already. It counts the events
// from that line on, and those of them that are in the log.
type repetition struct {
	firstLine, lastLine uint64 // of those in the log
	inLog, read         uint64
	toEnd               bool // all of the input was read
}

// add counts the event of a line.
func (r *repetition) add(line uint64, isInLog bool) {
	r.read++
	if isInLog {
		r.inLog++
		r.lastLine = line
	}
}

func (r *repetition) Error() string {
	text := fmt.Sprintf("line %d: this event is in the log already. If it is appended again, its migration may go back to an earlier phase. ", r.firstLine)
	input := "the input that was read"
	if r.toEnd {
		input = "the input"
	}
	text += fmt.Sprintf("From this line to the end of %s, %d of %s are in the log, the last on line %d. ", input, r.inLog, count(r.read, "event"), r.lastLine)
	return text + fmt.Sprintf("To continue, import only the lines after line %d. To append an event again on purpose, use --confirm", r.lastLine)
}
