package main

import (
	"errors"
	"fmt"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/replay"
)

// effect is the effect of one event of an import.
type effect uint8

const (
	effectAppend    effect = iota
	effectDuplicate        // the latest row has its phase and attempt
	effectAbsent           // an abort or a removal of a migration without a row
)

// outcome is the predicted effect of an event. For a duplicate it has the row.
type outcome struct {
	effect effect
	row    projection.Row
	line   uint64 // the line of the row, if it is not in the log yet
}

func (o outcome) differs(e checkpoint.Event) bool {
	c, ok := checkpointOf(e)
	return ok && o.effect == effectDuplicate && o.row.Checkpoint.Payload != c.Payload
}

// checkpointOf returns the checkpoint of an event that sets a row.
func checkpointOf(e checkpoint.Event) (checkpoint.Checkpoint, bool) {
	return replay.Record{Event: e}.Checkpoint()
}

// receipt returns the receipt that the store would return. For an event that would be appended, its
// Seq is only a placeholder.
func (o outcome) receipt(e checkpoint.Event) migrationlog.Receipt {
	switch o.effect {
	case effectDuplicate:
		return migrationlog.Receipt{Seq: o.row.Seq, Duplicate: true, Differs: o.differs(e)}
	case effectAbsent:
		return migrationlog.Receipt{}
	}
	return migrationlog.Receipt{Seq: 1}
}

// prediction predicts the effects of events before they are written. It follows the rules of
// Store.WriteAll without options, or with Confirm. A test compares it with the store. With Confirm
// it also refuses another payload, as the guard Strict would. But WriteAll with a guard would not
// accept every order of events.
type prediction struct {
	confirm bool
	row     func(checkpoint.MigrationID) (projection.Row, bool) // before the predicted events; nil: no rows
	changed map[checkpoint.MigrationID]predictedRow             // after the predicted events
	body    []byte
}

// predictedRow is a row after the predicted events.
type predictedRow struct {
	exists bool
	row    projection.Row
	line   uint64
}

// reset forgets the predicted events. The caller writes them to the store, which then has their rows.
func (p *prediction) reset() { clear(p.changed) }

// next returns the effect of the next event, and its encoding, which is valid until the next call.
// It returns the error of an event that the store rejects.
func (p *prediction) next(line uint64, e checkpoint.Event) (outcome, []byte, error) {
	var err error
	if p.body, err = checkpoint.AppendEvent(p.body[:0], e); err == nil {
		err = checkpoint.CheckContentSize(e, len(p.body))
	}
	if err != nil {
		if !errors.Is(err, migrationlog.ErrTooLarge) {
			err = fmt.Errorf("%w: %w", migrationlog.ErrInvalid, err)
		}
		return outcome{}, nil, err
	}
	id := e.Migration()
	latest := p.latest(id)
	c, isRow := checkpointOf(e)
	ends := checkpoint.KindOf(e).Effect() == checkpoint.EffectEnd
	switch {
	case ends && !latest.exists && !p.confirm:
		return outcome{effect: effectAbsent}, p.body, nil
	case isRow && latest.exists && latest.row.Checkpoint.Phase() == c.Phase() && latest.row.Checkpoint.Attempt == c.Attempt:
		o := outcome{effectDuplicate, latest.row, latest.line}
		if !p.confirm {
			return o, p.body, nil
		}
		if o.differs(e) {
			return outcome{}, nil, fmt.Errorf("%w: migration %s has %s, attempt %d, with another payload at %s",
				migrationlog.ErrConflict, id, c.Phase(), c.Attempt, o.place())
		}
	}
	if isRow || ends {
		p.changed[id] = predictedRow{exists: isRow, row: projection.Row{Checkpoint: c}, line: line}
	}
	return outcome{}, p.body, nil
}

// latest returns the row of a migration after the predicted events.
func (p *prediction) latest(id checkpoint.MigrationID) predictedRow {
	if planned, ok := p.changed[id]; ok {
		return planned
	}
	if p.row == nil {
		return predictedRow{}
	}
	row, ok := p.row(id)
	return predictedRow{exists: ok, row: row}
}

// place names the row of a duplicate by its seq or its line.
func (o outcome) place() string {
	if o.line > 0 {
		return fmt.Sprintf("line %d", o.line)
	}
	return fmt.Sprintf("seq %d", o.row.Seq)
}
