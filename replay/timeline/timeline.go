package timeline

import (
	"encoding/json"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/replay/story"
)

// Timeline has the moves of a history in a range of time, in lanes.
type Timeline struct {
	By     By     `json:"by"`
	FromMS uint64 `json:"from_ms"` // the range, Unix milliseconds
	ToMS   uint64 `json:"to_ms"`
	// EndMS is the highest clock of the history. The bars of moves in flight end there.
	EndMS uint64 `json:"end_ms"`
	Lanes []Lane `json:"lanes"`
	Marks []Mark `json:"findings"`
	Lost  []Loss `json:"lost"`
	// Moves counts the incarnations in the lanes. A move of one node to another is in two lanes by
	// node, and counts once.
	Moves int `json:"moves"`
	// ClockBack counts the moves during which the clock went back. Their bars are too long or too
	// short, and they may seem to overlap other moves.
	ClockBack int `json:"clock_back"`
}

// By is the property by which moves are grouped in lanes.
type By string

// The properties. A move between two nodes is in the lanes of both.
const (
	ByVShard    By = "vshard"
	ByNode      By = "node"
	ByMigration By = "migration"
)

// Lane is one row of the picture. Its moves do not overlap. If moves of one key overlap, the key
// has several lanes.
type Lane struct {
	Key    string  `json:"key"`    // the number of the vShard or of the node, or the id; "?" if it is not known
	Label  string  `json:"-"`      // the name of the lane in the picture
	Number int     `json:"number"` // 1 for the first lane of the key
	Moves  []*Move `json:"moves"`  // by time
}

// Move is one incarnation with its place in the picture.
type Move struct {
	*story.Incarnation
	Bars []Bar
	// FromMS and ToMS are the ends of the move's flight: its first record, and its abort, removal
	// or Complete, or the end of the history. If it is in doubt, ToMS is the beginning of the loss.
	FromMS, ToMS uint64
	EndSeq       uint64 // of the record that ended the flight, or the first lost one; 0 if it goes on
	// EndLost reports whether a lost event ended the incarnation: the id began again without an
	// end.
	EndLost bool
	// InDoubt reports whether lost events follow the last record of a move in flight, so that it
	// may have gone on.
	InDoubt bool

	clockBack bool
}

// Bar is the time that a move spent after one checkpoint before Complete.
type Bar struct {
	Phase   checkpoint.Phase `json:"phase"`
	Attempt uint32           `json:"attempt"`
	FromMS  uint64           `json:"from_ms"` // never before the bar before it, even if the clock went back
	ToMS    uint64           `json:"to_ms"`
}

// Loss is a range of lost events at its place in time.
type Loss struct {
	FirstSeq uint64 `json:"first_seq"`
	LastSeq  uint64 `json:"last_seq"`
	// FromMS and ToMS are the clocks of the records before and after the lost ones, or the ends of
	// the range if there are none.
	FromMS uint64 `json:"from_ms"`
	ToMS   uint64 `json:"to_ms"`
	// Moves are the moves with a record that links to a lost event. If All is true, records link to
	// every lost event of the range, so no other move is affected.
	Moves []*Move `json:"-"`
	All   bool    `json:"all_attributed"`

	named map[uint64]bool // the lost numbers to which records link
}

// may reports whether an event of the loss may belong to the move.
func (l *Loss) may(m *Move) bool {
	return !l.All || slices.Contains(l.Moves, m)
}

// Finding is a violation of a rule, found by a linter.
type Finding struct {
	Rule     string
	Severity string // error, warning or info
	Message  string
	Seqs     []uint64 // the records that show it
}

// Mark is a finding at its place in the picture.
type Mark struct {
	Finding
	Places []Place // one for each move that has a record of the finding
}

// Place is a point of a move.
type Place struct {
	Move *Move
	AtMS uint64
}

// moveJSON is the form of a move in JSON.
type moveJSON struct {
	MigrationID checkpoint.MigrationID `json:"migration_id"`
	Incarnation int                    `json:"incarnation"`
	VShardID    uint32                 `json:"vshard_id"`
	SourceNode  *uint64                `json:"source_node"`
	TargetNode  *uint64                `json:"target_node"`
	SourceGroup *uint64                `json:"source_group"`
	Outcome     story.Outcome          `json:"outcome"`
	Reason      string                 `json:"reason,omitempty"`
	FromSeq     uint64                 `json:"from_seq"`
	ToSeq       uint64                 `json:"to_seq"`
	FromMS      uint64                 `json:"from_ms"`
	ToMS        uint64                 `json:"to_ms"`
	EndLost     bool                   `json:"end_lost"`
	InDoubt     bool                   `json:"in_doubt"`
	Bars        []Bar                  `json:"bars"`
}

// MarshalJSON writes the move without the events of its steps, which `log -o json` prints.
func (m *Move) MarshalJSON() ([]byte, error) {
	out := moveJSON{
		MigrationID: m.ID, Incarnation: m.Number, VShardID: m.VShardID, Outcome: m.Outcome, Reason: m.Reason,
		FromSeq: m.FirstSeq, ToSeq: m.LastSeq, FromMS: m.FromMS, ToMS: m.ToMS, EndLost: m.EndLost, InDoubt: m.InDoubt,
		Bars: append([]Bar{}, m.Bars...),
	}
	if m.HasSource {
		out.SourceNode = &m.SourceNode
	}
	if m.HasTarget {
		out.TargetNode, out.SourceGroup = &m.TargetNode, &m.SourceGroup
	}
	return json.Marshal(out)
}

// MarshalJSON writes the finding with the ids of its moves.
func (m Mark) MarshalJSON() ([]byte, error) {
	type place struct {
		MigrationID checkpoint.MigrationID `json:"migration_id"`
		Incarnation int                    `json:"incarnation"`
		AtMS        uint64                 `json:"at_ms"`
	}
	places := []place{}
	for _, p := range m.Places {
		places = append(places, place{p.Move.ID, p.Move.Number, p.AtMS})
	}
	return json.Marshal(struct {
		Rule     string   `json:"rule"`
		Severity string   `json:"severity"`
		Message  string   `json:"message"`
		Seqs     []uint64 `json:"seqs"`
		Places   []place  `json:"places"`
	}{m.Rule, m.Severity, m.Message, append([]uint64{}, m.Seqs...), places})
}
