package timeline

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/story"
)

// The page is one file: page.html with page.css, page.js and the data in it.
var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string
)

// PageOptions are the options of WritePage.
type PageOptions struct {
	Log      string // UUID of the log
	Command  string // shows a migration if its id follows, such as "replay-tool show log "
	Location *time.Location
}

// MaxPageMoves is the number of moves up to which a browser shows a page without delay.
const MaxPageMoves = 50_000

// WritePage writes the timeline as one HTML file, which needs no other file and no network. The
// hashes in its content security policy allow its own script and style, and nothing else.
func (t *Timeline) WritePage(w io.Writer, o PageOptions) error {
	data, err := json.Marshal(t.pageData(o))
	if err != nil {
		return err
	}
	_, err = strings.NewReplacer(
		"{{policy}}", fmt.Sprintf("default-src 'none'; script-src %s; style-src %s; base-uri 'none'; form-action 'none'", hashSource(pageJS), hashSource(pageCSS)),
		"{{style}}", pageCSS, "{{script}}", pageJS,
		"{{data}}", string(data), // json.Marshal escapes <, so the data cannot end its element
	).WriteString(w, pageHTML)
	return err
}

// hashSource returns the entry of a content security policy that allows an inline element.
func hashSource(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// pageData is the data of the page. Times are milliseconds after T0. Long lists are arrays, whose
// items the comments of page.js name in the same order.
type pageData struct {
	Log           string          `json:"log"`
	Command       string          `json:"command"`
	By            By              `json:"by"`
	T0            uint64          `json:"t0"` // Unix milliseconds
	From          int64           `json:"from"`
	To            int64           `json:"to"`
	End           int64           `json:"end"`
	ClockBack     int             `json:"clockBack"`
	Zones         [][]any         `json:"zones"` // from, offset in seconds, name
	Phases        []string        `json:"phases"`
	Compensations []string        `json:"compensations"`
	Outcomes      []story.Outcome `json:"outcomes"`
	Kinds         []replay.Kind   `json:"kinds"`
	Reasons       []string        `json:"reasons"`
	Moves         [][]any         `json:"moves"`
	Lanes         [][]any         `json:"lanes"`    // label, indexes of moves
	Findings      [][]any         `json:"findings"` // rule, severity, message, [move, time, …]
	Lost          [][]any         `json:"lost"`     // first, last, from, to, all attributed, indexes of moves
}

// outcomes and stepKinds are the lists to which the data refers by index.
var (
	outcomes  = []story.Outcome{story.InFlight, story.Done, story.Aborted, story.Removed, story.RemovedUnfinished}
	stepKinds = []replay.Kind{
		replay.KindCheckpoint, replay.KindAbort, replay.KindRemove, replay.KindAbortBegun, replay.KindCompensated,
		replay.KindEpochRaised, replay.KindUnknown, replay.KindRestored,
	}
)

// pageEncoder has the indexes to which the data refers.
type pageEncoder struct {
	t0MS    uint64
	moves   map[*Move]int
	reasons map[string]int
	data    *pageData
}

func (t *Timeline) pageData(o PageOptions) *pageData {
	d := &pageData{
		Log: o.Log, Command: o.Command, By: t.By, T0: t.FromMS, ClockBack: t.ClockBack,
		Outcomes: outcomes, Kinds: stepKinds, Reasons: []string{}, Moves: [][]any{}, Lanes: [][]any{}, Findings: [][]any{}, Lost: [][]any{},
	}
	for p := checkpoint.PhaseAddLearner; p <= checkpoint.PhaseComplete; p++ {
		d.Phases = append(d.Phases, p.String())
	}
	for k := checkpoint.RemoveLearner; k <= checkpoint.RemoveGhostStub; k++ {
		d.Compensations = append(d.Compensations, k.String())
	}
	e := &pageEncoder{t0MS: t.FromMS, moves: map[*Move]int{}, reasons: map[string]int{}, data: d}
	d.To, d.End = e.after(t.ToMS), e.after(t.EndMS)
	d.Zones = e.zones(t.FromMS, max(t.ToMS, t.EndMS), o.Location)
	for _, l := range t.Lanes {
		indexes := make([]int, len(l.Moves))
		for i, m := range l.Moves {
			indexes[i] = e.move(m)
		}
		d.Lanes = append(d.Lanes, []any{l.Label, indexes})
	}
	for _, m := range t.Marks {
		places := []int64{}
		for _, p := range m.Places {
			places = append(places, int64(e.moves[p.Move]), e.after(p.AtMS))
		}
		d.Findings = append(d.Findings, []any{m.Rule, m.Severity, m.Message, places})
	}
	for i := range t.Lost {
		l := &t.Lost[i]
		indexes := []int{}
		for _, m := range l.Moves {
			if index, ok := e.moves[m]; ok {
				indexes = append(indexes, index)
			}
		}
		d.Lost = append(d.Lost, []any{number(l.FirstSeq), number(l.LastSeq), e.after(l.FromMS), e.after(l.ToMS), flag(l.All), indexes})
	}
	return d
}

// after returns a time as milliseconds after t0. Times after the year 9999 are that year's end,
// because JavaScript has no later ones.
func (e *pageEncoder) after(ms uint64) int64 {
	return int64(min(ms, checkpoint.MaxTimestampMS)) - int64(min(e.t0MS, checkpoint.MaxTimestampMS))
}

// zones lists the offsets of the time zone in the range of the page.
func (e *pageEncoder) zones(fromMS, toMS uint64, in *time.Location) (zones [][]any) {
	if in == nil {
		in = time.UTC
	}
	at := time.UnixMilli(int64(min(fromMS, checkpoint.MaxTimestampMS))).In(in)
	last := time.UnixMilli(int64(min(toMS, checkpoint.MaxTimestampMS)))
	for {
		name, offset := at.Zone()
		zones = append(zones, []any{at.UnixMilli() - int64(min(e.t0MS, checkpoint.MaxTimestampMS)), offset, name})
		_, next := at.ZoneBounds()
		if next.IsZero() || next.After(last) {
			return zones
		}
		at = next
	}
}

// move adds a move to the data, unless it has it already, and returns its index.
func (e *pageEncoder) move(m *Move) int {
	if index, ok := e.moves[m]; ok {
		return index
	}
	index := len(e.moves)
	e.moves[m] = index
	compensations := []any{}
	for _, c := range m.Compensations {
		compensations = append(compensations, int(c.Kind-checkpoint.RemoveLearner), number(c.GroupID), number(c.PeerID), c.VShardID)
	}
	reason := -1
	if m.Reason != "" {
		var ok bool
		if reason, ok = e.reasons[m.Reason]; !ok {
			reason = len(e.data.Reasons)
			e.reasons[m.Reason] = reason
			e.data.Reasons = append(e.data.Reasons, m.Reason)
		}
	}
	e.data.Moves = append(e.data.Moves, []any{
		strings.ReplaceAll(m.ID.String(), "-", ""), m.Number, known(uint64(m.VShardID), m.Phase != 0), known(m.SourceNode, m.HasSource), known(m.TargetNode, m.HasTarget),
		known(m.SourceGroup, m.HasTarget), known(m.PauseBudgetUS, m.HasSource), slices.Index(outcomes, m.Outcome),
		flag(m.BeginningLost) | flag(m.EndLost)<<1 | flag(m.InDoubt)<<2,
		reason, compensations, e.after(m.FromMS), e.after(m.ToMS), number(m.FirstSeq), e.after(m.StartedMS), e.steps(m),
	})
	return index
}

// steps returns three or four items for each record of a move: a code, the differences of seq and
// time to the record before it, and a detail if the code has the bit for it. The lowest digit of
// the code in base 16 is the phase of a checkpoint, or 6 plus the kind of another record. The
// next bit is set if a detail follows. The other bits are the attempt.
func (e *pageEncoder) steps(m *Move) []any {
	list := make([]any, 0, 4*len(m.Steps))
	seq, atMS := m.FirstSeq, e.after(m.StartedMS)
	for _, s := range m.Steps {
		code := uint64(s.Phase)
		if s.Kind != replay.KindCheckpoint {
			code = uint64(checkpoint.PhaseComplete) + uint64(slices.Index(stepKinds, s.Kind))
		}
		detail := detailOf(s, m)
		code |= uint64(s.Attempt) << 5
		if detail != nil {
			code |= 1 << 4
		}
		list = append(list, code, number(s.Seq-seq), e.after(s.AtMS)-atMS)
		if detail != nil {
			list = append(list, detail)
		}
		seq, atMS = s.Seq, e.after(s.AtMS)
	}
	return list
}

// detailOf returns the part of a record that the move does not have: a log index, a pause in
// microseconds, the number of a compensation, or a text. It returns nil if there is none.
func detailOf(s story.Step, m *Move) any {
	switch e := s.Event.(type) {
	case checkpoint.Compensated:
		return number(uint64(e.Step))
	case checkpoint.EpochRaised:
		return number(e.Epoch)
	case checkpoint.Restored:
		return "row at " + e.Checkpoint.Phase().String()
	case checkpoint.Upserted:
		switch p := e.Checkpoint.Payload.(type) {
		case checkpoint.CatchUp:
			return number(p.LearnerLogIndexAtAdd)
		case checkpoint.Complete:
			if !p.GhostStubInstalled {
				return fmt.Sprintf("paused %d us, no stub", p.ActualPauseUS)
			}
			return number(p.ActualPauseUS)
		case checkpoint.AddLearner:
			if p.SourceNode != m.SourceNode || p.TargetNode != m.TargetNode || p.SourceGroup != m.SourceGroup || p.WritePauseBudgetUS != m.PauseBudgetUS {
				return fmt.Sprintf("node %d -> %d, group %d, budget %d us", p.SourceNode, p.TargetNode, p.SourceGroup, p.WritePauseBudgetUS)
			}
		case checkpoint.PromoteLearner:
			return otherTarget(p.TargetNode, p.SourceGroup, m, "votes")
		case checkpoint.LeadershipTransfer:
			if !p.TargetIsVoter {
				return fmt.Sprintf("to node %d in group %d, not a voter", p.NewLeaderNodeID, p.SourceGroup)
			}
			return otherTarget(p.NewLeaderNodeID, p.SourceGroup, m, "is to lead")
		case checkpoint.Cutover:
			return otherTarget(p.NewLeaderNodeID, p.SourceGroup, m, "leads")
		}
	}
	return nil
}

// otherTarget returns the detail of a checkpoint that names a target, if it is not the move's.
func otherTarget(node, group uint64, m *Move, verb string) any {
	if node == m.TargetNode && group == m.SourceGroup {
		return nil
	}
	return fmt.Sprintf("node %d %s in group %d", node, verb, group)
}

// maxExact is the highest number up to which JavaScript holds all numbers exactly.
const maxExact = 1 << 53

// number returns a number, or its digits if JavaScript would round it.
func number(n uint64) any {
	if n > maxExact {
		return strconv.FormatUint(n, 10)
	}
	return n
}

// known returns a number, or nil if it is not known.
func known(n uint64, is bool) any {
	if !is {
		return nil
	}
	return number(n)
}

// flag returns 1 for true.
func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
