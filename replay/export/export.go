package export

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/story"
)

// Format is the format of the output.
type Format string

// The formats.
const (
	SQL    Format = "sql"
	CSV    Format = "csv"
	NDJSON Format = "ndjson"
)

// Formats lists all formats.
var Formats = []Format{NDJSON, CSV, SQL}

// Options select the output.
type Options struct {
	Format Format
	// Table is the only table that is written. If it is empty, SQL has all tables, and the other
	// formats have Event.
	Table Table
	// Query selects events. A stay is written if the event that begins it is selected, and a move if
	// any of its events is. If Filtered is false, everything is written.
	Query    replay.Query
	Filtered bool
}

// Summary counts the rows that were written.
type Summary struct {
	Rows map[Table]uint64 `json:"rows"`
	// TooLarge counts the numbers above 2^63-1 that SQL cannot hold. They were written as NULL.
	TooLarge uint64 `json:"too_large"`
}

// Exporter writes the tables. Each row is one Write of whole characters. It is not safe for
// concurrent use.
type Exporter struct {
	w       io.Writer
	options Options
	matcher *replay.Matcher // nil: everything is selected
	tracker *story.Tracker
	moves   map[*story.Incarnation]*moveState // those that have not ended
	buf     []byte
	summary Summary
}

// moveState has the values of a move that its incarnation does not have.
type moveState struct {
	selected bool   // any event is selected
	stayFrom uint64 // the last selected checkpoint
	doneMS   uint64 // clock of the first Complete
	isDone   bool
}

// New returns an exporter, and writes the beginning of the output.
func New(w io.Writer, o Options) (*Exporter, error) {
	if o.Format != SQL && o.Table == "" {
		o.Table = Event
	}
	e := &Exporter{w: w, options: o, tracker: story.NewTracker(story.Options{}), moves: map[*story.Incarnation]*moveState{}, summary: Summary{Rows: map[Table]uint64{}}}
	if o.Filtered {
		e.matcher = replay.NewMatcher(o.Query)
	}
	for _, t := range Tables {
		if e.has(t) {
			e.summary.Rows[t] = 0
		}
	}
	switch o.Format {
	case SQL:
		return e, e.beginSQL()
	case CSV:
		return e, e.writeHeading()
	}
	return e, nil
}

func (e *Exporter) has(t Table) bool { return e.options.Table == "" || e.options.Table == t }

// Add writes the rows of the next record of the history. Damage must be added too.
func (e *Exporter) Add(r replay.Record) error {
	selected := e.matcher == nil || e.matcher.Match(r)
	c := e.tracker.Add(r)
	if r.Damage != nil {
		if !selected {
			return nil
		}
		if e.has(Event) && e.options.Format == NDJSON { // import counts the damage
			return e.writeRecord(r)
		}
		return e.addDamage(r)
	}
	if c.EndLost != nil {
		if err := e.addMove(c.EndLost, true); err != nil {
			return err
		}
	}
	var state *moveState
	if i := c.Incarnation; i != nil {
		if state = e.moves[i]; state == nil {
			state = &moveState{}
			e.moves[i] = state
		}
		state.selected = state.selected || selected
		if i.Outcome == story.Done && !state.isDone {
			state.isDone, state.doneMS = true, r.WallMS()
		}
	}
	if c.Stay != nil && e.has(Stay) && (e.matcher == nil || state.stayFrom == c.Stay.From.Seq) {
		if err := e.addStay(c.Incarnation, c.Stay.From, signedCell(c.Stay.MS), textCell(nextName(c.Stay.To))); err != nil {
			return err
		}
	}
	if selected {
		if _, isRow := r.Checkpoint(); state != nil && isRow {
			state.stayFrom = r.Seq
		}
		if err := e.addEvent(r, c.Incarnation); err != nil {
			return err
		}
	}
	if c.Ended {
		return e.addMove(c.Incarnation, false)
	}
	return nil
}

// nextName returns the phase or the kind of the event that ends a stay.
func nextName(s story.Step) string {
	if s.Kind == replay.KindCheckpoint {
		return s.Phase.String()
	}
	return string(s.Kind)
}

// Finish writes the moves that have not ended, their open stays, and the end of the output.
func (e *Exporter) Finish() (Summary, error) {
	for _, i := range e.tracker.Live() {
		from, isOpen := i.OpenStay(i.LastMS)
		if isOpen && e.has(Stay) && (e.matcher == nil || e.moves[i].stayFrom == from.From.Seq) {
			if err := e.addStay(i, from.From, cell{}, cell{}); err != nil {
				return e.summary, err
			}
		}
		if err := e.addMove(i, false); err != nil {
			return e.summary, err
		}
	}
	if e.options.Format == SQL {
		return e.summary, e.endSQL()
	}
	return e.summary, nil
}

func (e *Exporter) addEvent(r replay.Record, i *story.Incarnation) error {
	if !e.has(Event) {
		return nil
	}
	if e.options.Format == NDJSON {
		return e.writeRecord(r)
	}
	id, hasID := r.Migration()
	incarnation, attempt, phase, vshard, crc := cell{}, cell{}, cell{}, cell{}, cell{}
	if i != nil {
		incarnation = numberCell(uint64(i.Number))
		vshard = known(i.Phase != 0, numberCell(uint64(i.VShardID)))
	}
	if r.Event != nil {
		sum, err := checkpoint.EventCRC32C(r.Event)
		if err != nil {
			return err
		}
		crc = numberCell(uint64(sum))
	}
	if c, ok := r.Checkpoint(); ok {
		attempt, phase = numberCell(uint64(c.Attempt)), textCell(c.Phase().String())
	}
	if u, ok := r.Event.(checkpoint.Upserted); ok {
		crc = numberCell(uint64(u.Checkpoint.CRC32C))
	}
	payload, err := payloadOf(r)
	if err != nil {
		return err
	}
	return e.write(Event,
		numberCell(r.Seq), textCell(string(r.Kind())), known(hasID, textCell(id.String())), incarnation, attempt, phase,
		vshard, numberCell(r.WallMS()), payload, crc, known(r.Epoch() != 0, numberCell(r.Epoch())),
		known(r.RaftIndex != 0, numberCell(r.RaftIndex)), known(r.RaftTerm != 0, numberCell(r.RaftTerm)))
}

// payloadOf returns the part of an event that depends on its kind, in the form of NDJSON.
func payloadOf(r replay.Record) (cell, error) {
	type compensation struct {
		Kind     checkpoint.CompensationKind `json:"kind"`
		GroupID  uint64                      `json:"group_id"`
		PeerID   uint64                      `json:"peer_id"`
		VShardID uint32                      `json:"vshard_id,omitempty"`
	}
	type abort struct {
		Reason        string         `json:"reason"`
		Compensations []compensation `json:"compensations"`
	}
	abortOf := func(reason string, list []checkpoint.Compensation) abort {
		a := abort{reason, []compensation{}}
		for _, c := range list {
			a.Compensations = append(a.Compensations, compensation(c))
		}
		return a
	}
	var v any
	switch e := r.Event.(type) {
	case checkpoint.Upserted:
		v = e.Checkpoint.Payload
	case checkpoint.Restored:
		v = e.Checkpoint.Payload
	case checkpoint.Digest:
		v = struct {
			State string `json:"state"`
			Chain string `json:"chain"`
		}{hex.EncodeToString(e.State[:]), hex.EncodeToString(e.Chain[:])}
	case checkpoint.Aborted:
		v = abortOf(e.Reason, e.Compensations)
	case checkpoint.AbortBegun:
		v = abortOf(e.Reason, e.Compensations)
	case checkpoint.Compensated:
		v = struct {
			Step uint32 `json:"step"`
		}{e.Step}
	case nil:
		v = struct {
			KindCode uint64 `json:"kind_code"`
		}{r.Unknown.Kind}
	default:
		return cell{}, nil
	}
	b, err := json.Marshal(v)
	return cell{kind: document, s: string(b)}, err
}

func (e *Exporter) addStay(i *story.Incarnation, from story.Step, ms, next cell) error {
	return e.write(Stay, textCell(i.ID.String()), numberCell(uint64(i.Number)), textCell(from.Phase.String()), numberCell(uint64(from.Attempt)), numberCell(from.Seq), ms, next)
}

// EndLost is the outcome of a move whose abort or removal is lost.
const EndLost = "end_lost"

// addMove writes a move that has ended, or that has not ended at the end of the history.
func (e *Exporter) addMove(i *story.Incarnation, isEndLost bool) error {
	state := e.moves[i]
	delete(e.moves, i)
	if !e.has(Move) || e.matcher != nil && !state.selected {
		return nil
	}
	outcome := string(i.Outcome)
	ended := known(i.Ended(), numberCell(i.LastMS))
	if isEndLost && i.InFlight() {
		outcome = EndLost
	}
	if state.isDone {
		ended = numberCell(state.doneMS)
	}
	return e.write(Move,
		textCell(i.ID.String()), numberCell(uint64(i.Number)), known(i.Phase != 0, numberCell(uint64(i.VShardID))),
		known(i.HasSource, nameCell(i.SourceNode)), known(i.HasTarget, nameCell(i.TargetNode)), known(i.HasTarget, nameCell(i.SourceGroup)),
		known(i.HasBeginning(), numberCell(i.StartedMS)), ended, textCell(outcome), known(i.Outcome == story.Aborted, textCell(i.Reason)),
		known(i.Phase != 0, textCell(i.Phase.String())), numberCell(uint64(i.Retries)), numberCell(i.FirstSeq), numberCell(i.LastSeq))
}

func (e *Exporter) addDamage(r replay.Record) error {
	if !e.has(Damage) {
		return nil
	}
	if e.options.Format == NDJSON {
		return e.writeRecord(r)
	}
	d := r.Damage
	torn := uint64(0)
	if d.Torn {
		torn = 1
	}
	return e.write(Damage,
		numberCell(e.summary.Rows[Damage]+1), known(d.FirstSeq != 0, numberCell(d.FirstSeq)), known(d.FirstSeq != 0, numberCell(d.LastSeq)),
		textCell(d.Segment), signedCell(d.Offset), signedCell(d.Length), textCell(d.Reason), textCell(d.Severity.String()), numberCell(torn))
}

// writeRecord writes a record as one line of NDJSON, which import reads.
func (e *Exporter) writeRecord(r replay.Record) error {
	b, err := r.MarshalJSON()
	if err != nil {
		return err
	}
	t := Event
	if r.Damage != nil {
		t = Damage
	}
	e.summary.Rows[t]++
	_, err = e.w.Write(append(b, '\n'))
	return err
}

// write writes one row in the format of the options.
func (e *Exporter) write(t Table, row ...cell) error {
	if !e.has(t) {
		return nil
	}
	b := e.buf[:0]
	switch e.options.Format {
	case SQL:
		b = append(append(append(b, "INSERT INTO "...), t...), " VALUES("...)
		for i, c := range row {
			if i > 0 {
				b = append(b, ',')
			}
			if b = c.appendSQL(b); !c.fitsSQL() {
				e.summary.TooLarge++
			}
		}
		b = append(b, ");\n"...)
	case CSV:
		for i, c := range row {
			if i > 0 {
				b = append(b, ',')
			}
			b = c.appendCSV(b)
		}
		b = append(b, '\n')
	default:
		var err error
		if b, err = appendObject(b, columns[t], row); err != nil {
			return err
		}
	}
	e.buf = b
	e.summary.Rows[t]++
	_, err := e.w.Write(b)
	return err
}

func appendObject(b []byte, names []column, row []cell) ([]byte, error) {
	for i, c := range row {
		sep := byte(',')
		if i == 0 {
			sep = '{'
		}
		b = append(append(append(b, sep, '"'), names[i].name...), `":`...)
		var err error
		if b, err = c.appendJSON(b); err != nil {
			return nil, err
		}
	}
	return append(b, "}\n"...), nil
}

func (e *Exporter) writeHeading() error {
	b := e.buf[:0]
	for i, c := range columns[e.options.Table] {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, c.name...)
	}
	e.buf = append(b, '\n')
	_, err := e.w.Write(e.buf)
	return err
}

func (e *Exporter) beginSQL() error {
	if _, err := fmt.Fprint(e.w, "BEGIN;\n"); err != nil {
		return err
	}
	for _, t := range Tables {
		if !e.has(t) {
			continue
		}
		b := append(e.buf[:0], "CREATE TABLE "...)
		b = append(append(b, t...), '(')
		for _, c := range columns[t] {
			b = fmt.Appendf(b, "%s %s, ", c.name, c.sqlType)
		}
		e.buf = fmt.Appendf(b, "PRIMARY KEY(%s));\n", keys[t])
		if _, err := e.w.Write(e.buf); err != nil {
			return err
		}
	}
	return nil
}

func (e *Exporter) endSQL() error {
	for _, i := range indexes {
		if e.has(i.table) {
			if _, err := fmt.Fprintf(e.w, "CREATE INDEX %s_%s ON %s(%s);\n", i.table, strings.ReplaceAll(i.columns, ", ", "_"), i.table, i.columns); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprint(e.w, "COMMIT;\n")
	return err
}
