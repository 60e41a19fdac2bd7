package main

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// eventHashes has a hash of each event that a log had before an import, in ascending order. It
// needs 12 bytes per event. If a new event happens to have the hash of another one, import stops
// although it could append it: this is very improbable, and --confirm appends it.
type eventHashes struct {
	seed   maphash.Seed
	hashes []uint64
	taken  []uint32 // at the first of equal hashes: the number of input lines that have this event
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
	h.taken = make([]uint32, len(h.hashes))
	return h, nil
}

// take reports whether the log has the event with this encoding. An event that the log has n times
// can be taken n times, because an input may have it more often than the log.
func (h *eventHashes) take(body []byte) bool {
	hash := maphash.Bytes(h.seed, body)
	first, found := slices.BinarySearch(h.hashes, hash)
	if !found {
		return false
	}
	next := first + int(h.taken[first]) + 1
	if next > len(h.hashes) || h.hashes[next-1] != hash {
		return false
	}
	h.taken[first]++
	return true
}

// repetition is the error of an import whose next event is in the log already. It counts the events
// from that line on, and those of them that are in the log. It has the lines up to lastLine that
// the log lacks. The operator may skip the lines up to lastLine only if the log lacks none of them.
type repetition struct {
	firstLine, lastLine uint64 // the first and the last line that is in the log
	inLog, read         uint64
	toEnd               bool // all of the input was read

	lines           prediction // finds the lines that append nothing after the lines before them
	absent, pending ranges     // the lines that are not in the log, before and after lastLine
}

func newRepetition(line uint64) *repetition {
	return &repetition{firstLine: line, lines: prediction{changed: map[checkpoint.MigrationID]predictedRow{}}}
}

// add counts the event of a line.
func (r *repetition) add(line uint64, e checkpoint.Event, isInLog bool) {
	r.read++
	_, known := r.lines.changed[e.Migration()]
	o, _, err := r.lines.next(line, e)
	switch {
	case isInLog:
		r.inLog++
		r.lastLine = line
		r.absent.join(r.pending)
		r.pending = ranges{}
	case err == nil && known && o.effect != effectAppend: // an import of all lines skips it too
	default:
		r.pending.add(line)
	}
}

func (r *repetition) Error() string {
	text := fmt.Sprintf("line %d: this event is in the log already. If it is appended again, its migration may go back to an earlier phase. ", r.firstLine)
	input := "the input that was read"
	if r.toEnd {
		input = "the input"
	}
	text += fmt.Sprintf("From this line to the end of %s, the log has %d of %s, the last on line %d. ", input, r.inLog, count(r.read, "event"), r.lastLine)
	if r.absent.count == 0 && r.pending.count == 0 && r.toEnd {
		return text + "Nothing is left to import. To append an event again on purpose, use --confirm"
	}
	if r.absent.count == 0 {
		return text + fmt.Sprintf("To continue, import only the lines after line %d. To append an event again on purpose, use --confirm", r.lastLine)
	}
	return text + fmt.Sprintf("Before that line, the log lacks %s: %s. Do not skip them. "+
		"If the log has no later event of their migrations, import exactly these lines, and then the lines after line %d. "+
		"Otherwise import the whole input into a new log, and compare the rows of both logs with 'replay-tool state'. "+
		"Do not use --confirm: it appends all events again", count(r.absent.count, "event"), r.absent, r.lastLine)
}

// ranges is a set of ascending line numbers. It keeps only the first maxShownRanges ranges.
type ranges struct {
	count uint64 // of all lines
	shown [][2]uint64
	lines uint64 // in shown
}

const maxShownRanges = 10

func (r *ranges) add(line uint64) { r.join(ranges{1, [][2]uint64{{line, line}}, 1}) }

// join adds the lines of other, which follow those of r.
func (r *ranges) join(other ranges) {
	isComplete := r.lines == r.count
	r.count += other.count
	for _, next := range other.shown {
		last := len(r.shown) - 1
		switch {
		case !isComplete:
			return
		case last >= 0 && r.shown[last][1]+1 == next[0]:
			r.shown[last][1] = next[1]
		case len(r.shown) < maxShownRanges:
			r.shown = append(r.shown, next)
		default:
			return
		}
		r.lines += next[1] - next[0] + 1
	}
}

func (r ranges) String() string {
	var parts []string
	for _, p := range r.shown {
		part := fmt.Sprint(p[0])
		if p[1] > p[0] {
			part += fmt.Sprintf("-%d", p[1])
		}
		parts = append(parts, part)
	}
	text := "line " + strings.Join(parts, ", ")
	if r.count > 1 {
		text = "lines " + strings.Join(parts, ", ")
	}
	if more := r.count - r.lines; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
