package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"migrationlog/projection"
	"migrationlog/replay"
	"migrationlog/replay/diff"
)

// runHistories compares the histories of two members of a consensus group. It returns false if the
// logs have no raft indexes, or if a flag asks for a comparison of the rows.
func (d *diffCommand) runHistories(ctx context.Context, readers [2]*replay.Reader) (isDone bool, err error) {
	if d.all || d.filters.anySet() {
		return false, nil
	}
	h, folds, err := diff.CompareHistories(ctx, readers[0], readers[1])
	switch {
	case errors.Is(err, replay.ErrNoPositions):
		return false, nil
	case err != nil:
		return true, err
	}
	if err := d.writeValue(d.historiesJSON(h), func() { d.historiesText(h) }); err != nil {
		return true, err
	}
	d.statusf("the segments that were not needed were not checked. To check them, run: replay-tool verify")
	return true, d.verdict(h.Equal(), folds[:])
}

// The output of `diff -o json` for two members of a consensus group.
type (
	historiesJSON struct {
		Agreement    diff.Agreement `json:"agreement"`
		RaftIndex    *uint64        `json:"raft_index"`      // the first index at which the histories differ; null: none is known
		SameThrough  uint64         `json:"same_through"`    // raft index
		ByDigests    uint64         `json:"same_by_digests"` // raft index up to which equal digests showed that; 0: none
		DiffersAt    *uint64        `json:"differs_at"`      // raft index of the first digest that is known to differ, or null
		Through      uint64         `json:"through"`         // raft index at the end of the shorter log
		BeginUnknown bool           `json:"begin_unknown"`   // it is not known whether the histories differ before the later beginning
		StatesAt     *uint64        `json:"states_at"`       // raft index of the last digest that both logs have, or null
		StatesEqual  *bool          `json:"states_equal"`    // there
		DigestReads  int            `json:"digest_reads"`    // look-ups of digests
		EventsRead   int            `json:"events_compared"` // one by one
		Members      [2]memberJSON  `json:"members"`
	}
	memberJSON struct {
		Dir       string            `json:"dir"`
		Begins    *beginningJSON    `json:"history_begins"` // null: the log has all of its history
		LastIndex uint64            `json:"last_raft_index"`
		Event     *replay.Record    `json:"event"` // at raft_index; null: none
		Lost      []replay.SeqRange `json:"lost"`  // in the part that was compared one by one
		Unmatched uint64            `json:"unmatched"`
	}
)

func (d *diffCommand) historiesJSON(h diff.Histories) historiesJSON {
	out := historiesJSON{
		Agreement: h.Agreement, RaftIndex: numberOrNull(h.Index), SameThrough: h.SameThrough, ByDigests: h.DigestsThrough, DiffersAt: numberOrNull(h.DiffersAt), Through: h.Through,
		BeginUnknown: h.BeginUnknown, StatesAt: numberOrNull(h.StatesAt), DigestReads: h.DigestReads, EventsRead: h.Events,
	}
	if h.StatesAt > 0 {
		out.StatesEqual = &h.StatesEqual
	}
	for i, m := range h.Members {
		out.Members[i] = memberJSON{
			Dir: d.dirs[i], Begins: beginningOf(m.Begin), LastIndex: m.LastIndex, Event: m.Event,
			Lost: append([]replay.SeqRange{}, m.Lost...), Unmatched: m.Unmatched,
		}
	}
	return out
}

func numberOrNull(n uint64) *uint64 {
	if n == 0 {
		return nil
	}
	return &n
}

// historiesText prints the comparison for people.
func (d *diffCommand) historiesText(h diff.Histories) {
	line := func(format string, args ...any) { d.sentence(stylePlain, 2, fmt.Sprintf(format, args...)) }
	a, b := quoted(d.dirs[0]), quoted(d.dirs[1])
	switch h.Agreement {
	case diff.Same:
		line("%s and %s have the same history up to raft index %d", a, b, h.SameThrough)
		for i, m := range h.Members {
			if m.LastIndex > h.Through {
				line("  %s continues to raft index %d", quoted(d.dirs[i]), m.LastIndex)
			}
		}
	case diff.Apart:
		line("%s and %s have no part of the history in common", a, b)
	case diff.NotKept:
		line("%s and %s have different digests at raft index %d, where the history of a log begins. The first different event is before it, and is not kept here: compare members that have this history", a, b, h.DiffersAt)
	case diff.Unknown:
		line("%s and %s have the same history up to raft index %d, and different digests at raft index %d. The first different event is between them, and is lost", a, b, h.SameThrough, h.DiffersAt)
	case diff.Differs:
		d.differenceText(h)
	}
	if h.DigestsThrough > 0 {
		line("  up to raft index %d by their digests: these events were not compared one by one", h.DigestsThrough)
	}
	d.membersText(h)
	if h.StatesAt > 0 && h.StatesAt >= h.Index && h.Agreement != diff.Same {
		states := "are not equal"
		if h.StatesEqual {
			states = "are equal"
		}
		if h.StatesEqual && h.StatesAt > max(h.Index, h.DiffersAt) {
			states += " again"
		}
		line("at raft index %d, the last digest that both have, their states %s", h.StatesAt, states)
	}
}

// differenceText prints the first difference, with the events of both sides.
func (d *diffCommand) differenceText(h diff.Histories) {
	text := fmt.Sprintf("%s and %s differ at raft index %d", quoted(d.dirs[0]), quoted(d.dirs[1]), h.Index)
	if h.SameThrough == h.Index-1 {
		text += ", and have the same history before it"
	} else {
		text += fmt.Sprintf(", and have the same history up to raft index %d. An event between these two indexes is lost, so an earlier difference is possible", h.SameThrough)
	}
	d.sentence(styleError, 2, text)
	clock := d.clock()
	g := d.newGrid(
		column{title: "LOG"}, column{title: "SEQ", right: true, rank: 3}, column{title: "TERM", right: true, rank: 2}, column{title: clock.title(), rank: 4},
		column{title: "VSHARD", right: true, rank: 1}, column{title: "STEP"}, column{title: "DETAIL", free: true, rank: 5}, column{title: "MIGRATION", rank: 6, style: styleDim})
	for i, m := range h.Members {
		r := m.Event
		if r == nil {
			g.add(styleWarning, d.dirs[i], "", "", "", "", "no event", "")
			continue
		}
		vshard, migration := "", ""
		if c, ok := r.Checkpoint(); ok {
			vshard = strconv.FormatUint(uint64(c.Payload.Shard()), 10)
		}
		if id, ok := r.Migration(); ok {
			migration = id.String()
		}
		detail, _ := recordDetailOf(*r, moveFacts{facts: projection.Facts{}})
		g.addDay(clock, r.WallMS())
		g.add(stylePlain, d.dirs[i], "#"+strconv.FormatUint(r.Seq, 10), strconv.FormatUint(r.RaftTerm, 10), clock.short(r.WallMS()), vshard, stepOf(*r), printable(detail), migration)
	}
	g.print()
}

// membersText prints the parts of the histories that the logs do not have.
func (d *diffCommand) membersText(h diff.Histories) {
	for i, m := range h.Members {
		dir := quoted(d.dirs[i])
		if text := d.beginningText(m.Begin); text != "" {
			d.sentence(stylePlain, 2, fmt.Sprintf("  %s: %s", dir, text))
		}
		if len(m.Lost) > 0 {
			d.sentence(styleWarning, 2, fmt.Sprintf("  %s has lost %s, which could not be compared", dir, rangesText(m.Lost)))
		}
	}
	if h.BeginUnknown {
		d.sentence(styleWarning, 2, "  an event before the later one of the two beginnings is lost, so an earlier difference is possible")
	}
}
