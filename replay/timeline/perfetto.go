package timeline

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"migrationlog/replay"
	"migrationlog/replay/story"
)

// trace is the JSON form of a trace that Perfetto and chrome://tracing open. All times are in
// microseconds after t0.
type trace struct {
	out  *bufio.Writer
	t0MS uint64
	any  bool // an event was written
	err  error
}

type traceEvent struct {
	Phase     string         `json:"ph"` // X: a slice, i: an instant, M: metadata
	Name      string         `json:"name"`
	PID       int            `json:"pid"`           // the key of the lane
	TID       int            `json:"tid,omitempty"` // the number of the lane of that key
	TS        uint64         `json:"ts"`
	Dur       *uint64        `json:"dur,omitempty"`
	Scope     string         `json:"s,omitempty"`
	Category  string         `json:"cat,omitempty"`
	Arguments map[string]any `json:"args,omitempty"`
}

// WritePerfetto writes the timeline as a trace. A process is a key, such as a vShard, and a thread
// is a lane. A move is a slice with a slice for each bar in it. Aborts and removals are instants.
// Slices of one lane do not overlap. All times are after the t0_ms in otherData.
func (t *Timeline) WritePerfetto(w io.Writer) error {
	tr := &trace{out: bufio.NewWriter(w), t0MS: t.FromMS}
	for _, l := range t.Lanes {
		for _, m := range l.Moves {
			tr.t0MS = min(tr.t0MS, m.FromMS)
		}
	}
	tr.out.WriteString(`{"traceEvents":[`)
	pid := 0
	for _, l := range t.Lanes {
		if l.Number == 1 {
			pid++
			tr.event(traceEvent{Phase: "M", Name: "process_name", PID: pid, Arguments: map[string]any{"name": string(t.By) + " " + l.Label}})
		} else {
			tr.event(traceEvent{Phase: "M", Name: "thread_name", PID: pid, TID: l.Number, Arguments: map[string]any{"name": "overlapping moves"}})
		}
		for _, m := range l.Moves {
			tr.move(pid, l.Number, m)
		}
	}
	fmt.Fprintf(tr.out, "\n],\n\"displayTimeUnit\":\"ms\",\"otherData\":{\"t0_ms\":%d}}\n", tr.t0MS)
	if tr.err != nil {
		return tr.err
	}
	return tr.out.Flush() // returns the first error
}

// move writes the slices and the instants of a move. A slice comes before the slices in it.
func (tr *trace) move(pid, tid int, m *Move) {
	slice := func(name, category string, fromMS, toMS uint64, arguments map[string]any) {
		dur := (toMS - fromMS) * 1000
		tr.event(traceEvent{
			Phase: "X", Name: name, PID: pid, TID: tid, TS: tr.microseconds(fromMS), Dur: &dur, Category: category, Arguments: arguments,
		})
	}
	arguments := map[string]any{"migration_id": m.ID, "incarnation": m.Number, "outcome": m.Outcome}
	if m.Reason != "" {
		arguments["reason"] = m.Reason
	}
	slice(m.nodes(), "move", m.FromMS, m.ToMS, arguments)
	for _, b := range m.Bars {
		name := b.Phase.String()
		if b.Attempt > 0 {
			name = fmt.Sprintf("%s, try %d", name, story.TryNumber(b.Attempt))
		}
		slice(name, "phase", b.FromMS, b.ToMS, nil)
	}
	for _, s := range m.Steps {
		if s.Kind == replay.KindAbort || s.Kind == replay.KindRemove {
			tr.event(traceEvent{
				Phase: "i", Name: string(s.Kind), PID: pid, TID: tid, TS: tr.microseconds(max(s.AtMS, m.FromMS)), Scope: "t",
				Arguments: map[string]any{"migration_id": m.ID, "seq": s.Seq},
			})
		}
	}
}

// microseconds returns the time of a trace event. No move begins before t0.
func (tr *trace) microseconds(ms uint64) uint64 { return (ms - tr.t0MS) * 1000 }

func (tr *trace) event(e traceEvent) {
	b, err := json.Marshal(e)
	if err != nil {
		tr.err = err
		return
	}
	if tr.any {
		tr.out.WriteByte(',')
	}
	tr.any = true
	tr.out.WriteByte('\n')
	tr.out.Write(b)
}
