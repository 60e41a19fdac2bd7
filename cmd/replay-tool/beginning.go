package main

import (
	"fmt"

	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// beginningJSON describes the state with which the history of a log begins. It is null in the output
// if the log has all of its history.
type beginningJSON struct {
	RaftIndex uint64 `json:"raft_index"` // of the last entry before the history; 0: not known
	RaftTerm  uint64 `json:"raft_term"`
	Origin    string `json:"origin"`        // restored or accepted-loss; "" if it is not known
	Rows      uint64 `json:"restored_rows"` // the events 1 to Rows
	TSMS      uint64 `json:"ts_ms"`         // clock of the last event before the history; 0: not known
}

func beginningOf(b replay.Beginning) *beginningJSON {
	if b.IsWhole() {
		return nil
	}
	return &beginningJSON{b.Index, b.Term, b.Origin, b.Rows, b.TimeMS}
}

// notKept states which part of the history the log does not have. It is empty if the log has all of
// it.
func notKept(b replay.Beginning) string {
	switch {
	case b.IsWhole():
		return ""
	case b.Index == 0:
		return fmt.Sprintf("history before the %s is not kept here", count(b.Rows, "restored row"))
	}
	return fmt.Sprintf("history before raft index %d is not kept here", b.Index)
}

// statusBeginning prints which part of the history a log does not have.
func (t *tool) statusBeginning(dir string) {
	reader, err := replay.Open(dir)
	if err != nil {
		return // the command has returned the error
	}
	if b, err := reader.Beginning(); err == nil && !b.IsWhole() {
		t.statusf("%s", t.beginningText(b))
	}
}

// beginningText describes the beginning of a history in one line.
func (t *tool) beginningText(b replay.Beginning) string {
	text := notKept(b)
	if text == "" {
		return ""
	}
	if b.Index > 0 {
		text += fmt.Sprintf(" (term %d", b.Term)
		if b.TimeMS > 0 {
			text += ", " + t.isoTime(b.TimeMS)
		}
		text += ")"
	}
	rows := count(b.Rows, "restored row")
	if b.Origin == segment.OriginAcceptedLoss {
		rows += ", which were left after a loss that an operator accepted"
	}
	if b.Index > 0 {
		text += ": the log begins with " + rows
	}
	return text
}
