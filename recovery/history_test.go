package recovery

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

const (
	startMS   = 1795399697649
	timeoutMS = 3_600_000
)

// history is a view that grows by one event at a time.
type history struct {
	t    *testing.T
	view *projection.View
	last map[checkpoint.MigrationID]uint64 // seq of the last event of the incarnation
	seq  uint64
}

func newHistory(t *testing.T) *history {
	return &history{t: t, view: projection.New(), last: map[checkpoint.MigrationID]uint64{}}
}

// migration returns the id with this number. Ids have the order of their numbers.
func migration(n byte) checkpoint.MigrationID { return checkpoint.MigrationID{0: 1, 15: n} }

func (h *history) add(e checkpoint.Event) {
	h.seq++
	id := e.Migration()
	h.view.Apply(h.seq, h.last[id], e)
	h.last[id] = h.seq
	switch e.(type) {
	case checkpoint.Aborted, checkpoint.Removed:
		delete(h.last, id)
	}
}

func (h *history) upsert(id checkpoint.MigrationID, attempt uint32, p checkpoint.Payload) {
	c, err := checkpoint.New(id, attempt, p, startMS)
	require.NoError(h.t, err)
	h.add(checkpoint.Upserted{Checkpoint: c})
}

func (h *history) abort(id checkpoint.MigrationID) {
	h.add(checkpoint.Aborted{MigrationID: id, Reason: "x", TimestampMS: startMS})
}

// unknown adds an event of an unknown kind.
func (h *history) unknown(id checkpoint.MigrationID) {
	h.seq++
	h.view.ApplyUnknown(h.seq, h.last[id], id)
	h.last[id] = h.seq
}

// lose adds an event that is lost.
func (h *history) lose() {
	h.seq++
	h.view.MarkLost(h.seq, h.seq)
}

// move is a move of a vShard, whose phases a history records one after another.
type move struct {
	vshardID              uint32
	source, target, group uint64
}

// usual is the move of most tests.
var usual = move{vshardID: 7, source: 1, target: 3, group: 9}

func (m move) payload(p checkpoint.Phase) checkpoint.Payload {
	return []checkpoint.Payload{
		checkpoint.AddLearner{VShardID: m.vshardID, SourceNode: m.source, TargetNode: m.target, SourceGroup: m.group},
		checkpoint.CatchUp{VShardID: m.vshardID, LearnerLogIndexAtAdd: 42},
		checkpoint.PromoteLearner{VShardID: m.vshardID, TargetNode: m.target, SourceGroup: m.group},
		checkpoint.LeadershipTransfer{VShardID: m.vshardID, TargetIsVoter: true, NewLeaderNodeID: m.target, SourceGroup: m.group},
		checkpoint.Cutover{VShardID: m.vshardID, NewLeaderNodeID: m.target, SourceGroup: m.group},
		checkpoint.Complete{VShardID: m.vshardID, GhostStubInstalled: true},
	}[p-1]
}

// run records the phases of a move up to a phase.
func (h *history) run(id checkpoint.MigrationID, m move, through checkpoint.Phase) {
	for p := checkpoint.PhaseAddLearner; p <= through; p++ {
		h.upsert(id, 0, m.payload(p))
	}
}

// plan returns the decisions in short form, one line each.
func (h *history) plan(p Policy, ageMS int64) string {
	var lines []string
	for _, d := range Plan(h.view.All(), p, uint64(startMS+ageMS)) {
		lines = append(lines, brief(d))
	}
	return strings.Join(lines, "\n")
}

// brief returns the decision in a short form, such as "abort stale RemoveLearner 9/3".
func brief(d Decision) string {
	text := fmt.Sprintf("%s %s", d.Action, d.Reason)
	if d.NextPhase != 0 {
		text += " " + d.NextPhase.String()
	}
	for _, c := range d.Compensations {
		text += fmt.Sprintf(" %s %d/%d", c.Kind, c.GroupID, c.PeerID)
	}
	for _, c := range d.Compensated {
		text += fmt.Sprintf(" done:%s", c.Kind)
	}
	for _, a := range d.Asks {
		b, err := a.MarshalJSON()
		if err != nil {
			panic(err)
		}
		text += " " + strings.ReplaceAll(strings.Trim(string(b), "{}"), `"`, "")
	}
	return text
}
