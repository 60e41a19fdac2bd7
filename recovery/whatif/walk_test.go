package whatif

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/recovery"
)

const startMS = 1_795_399_697_649

func migration(n int) checkpoint.MigrationID { return checkpoint.MigrationID{0: 1, 15: byte(n)} }

// history is a random history whose migrations share vShards and peers. A walk follows it, and a
// naive copy plans all rows at every millisecond.
type history struct {
	t      *testing.T
	random *rand.Rand
	view   *projection.View
	walk   *Walk
	policy []recovery.Policy
	seq    uint64
	nowMS  uint64
	last   map[checkpoint.MigrationID]uint64
	lossy  bool // events may be lost from now on
	naive  []*naive
}

// naive has the decisions of one policy by a simple method.
type naive struct {
	aborts    map[checkpoint.MigrationID]string          // the first abort of each open incarnation
	asked     map[checkpoint.MigrationID]map[string]bool // the questions about each open incarnation
	completed map[checkpoint.MigrationID]bool
	wrongly   []string
	earlier   []string
	questions []string
}

func newHistory(t *testing.T, seed uint64, policies ...recovery.Policy) *history {
	h := &history{
		t: t, random: rand.New(rand.NewPCG(seed, 17)), view: projection.New(), walk: New(policies...), policy: policies,
		nowMS: startMS, last: map[checkpoint.MigrationID]uint64{},
	}
	for range policies {
		h.naive = append(h.naive, &naive{
			aborts: map[checkpoint.MigrationID]string{}, asked: map[checkpoint.MigrationID]map[string]bool{}, completed: map[checkpoint.MigrationID]bool{},
		})
	}
	return h
}

// step adds a random event.
func (h *history) step() {
	clockMS := h.nowMS + uint64(h.random.IntN(8))
	if h.random.IntN(10) == 0 {
		clockMS -= uint64(h.random.IntN(12))
	}
	for h.nowMS < clockMS {
		h.nowMS++
		h.planAll()
	}
	h.nowMS = clockMS
	h.seq++
	id := migration(1 + h.random.IntN(6))
	row, has := h.view.Get(id)
	e := Event{Seq: h.seq, ClockMS: clockMS, MigrationID: id}
	switch n := h.random.IntN(20); {
	case h.lossy && h.random.IntN(20) == 0:
		h.view.MarkLost(h.seq, h.seq)
		h.last[id] = h.seq
		e.MigrationID = checkpoint.MigrationID{}
	case n == 0 && has:
		h.apply(checkpoint.Removed{MigrationID: id, TimestampMS: clockMS})
	case n == 1 && has:
		e.Abort = true
		h.apply(checkpoint.Aborted{MigrationID: id, TimestampMS: clockMS})
	case n == 2 && has:
		h.apply(checkpoint.AbortBegun{MigrationID: id, TimestampMS: clockMS, Compensations: []checkpoint.Compensation{
			{Kind: checkpoint.RemoveVoter, GroupID: uint64(h.random.IntN(2)), PeerID: uint64(h.random.IntN(3))},
			{Kind: checkpoint.RemoveLearner, GroupID: uint64(h.random.IntN(2)), PeerID: uint64(h.random.IntN(3))},
		}})
	case n == 3 && has && row.Facts.Abort != nil:
		h.apply(checkpoint.Compensated{MigrationID: id, Step: uint32(h.random.IntN(2)), TimestampMS: clockMS})
	case n == 4 && has:
		h.view.ApplyUnknown(h.seq, h.last[id], id)
		h.last[id] = h.seq
	default:
		phase := checkpoint.PhaseAddLearner
		if has {
			phase = min(row.Checkpoint.Phase()+1, checkpoint.PhaseComplete)
		}
		if h.random.IntN(12) == 0 {
			phase = checkpoint.Phase(1 + h.random.IntN(6))
		}
		c, err := checkpoint.New(id, uint32(h.seq), h.payload(row, phase), clockMS)
		require.NoError(h.t, err)
		h.apply(checkpoint.Upserted{Checkpoint: c})
	}
	now, has := h.view.Get(id)
	if has {
		e.Row = &now
	}
	if h.lossy {
		h.walk.Replace(e, h.view.All())
	} else {
		h.walk.Add(e)
	}
	h.ended(id, e, now)
	h.planAll()
	for i, r := range h.walk.runs {
		require.Equal(h.t, brief(recovery.Plan(h.view.All(), h.policy[i], h.nowMS)), brief(r.tracker.decisions()), "after #%d", h.seq)
	}
}

func (h *history) apply(e checkpoint.Event) {
	h.view.Apply(h.seq, h.last[e.Migration()], e)
	h.last[e.Migration()] = h.seq
	if checkpoint.KindOf(e).Effect() == checkpoint.EffectEnd {
		delete(h.last, e.Migration())
	}
}

func (h *history) payload(row projection.Row, p checkpoint.Phase) checkpoint.Payload {
	shard, group, target := uint32(h.random.IntN(3)), uint64(h.random.IntN(2)), uint64(h.random.IntN(3))
	if row.Facts.HasTarget && h.random.IntN(15) > 0 {
		shard, group, target = row.Checkpoint.Payload.Shard(), row.Facts.SourceGroup, row.Facts.TargetNode
	}
	return []checkpoint.Payload{
		checkpoint.AddLearner{VShardID: shard, SourceNode: 1, TargetNode: target, SourceGroup: group},
		checkpoint.CatchUp{VShardID: shard},
		checkpoint.PromoteLearner{VShardID: shard, TargetNode: target, SourceGroup: group},
		checkpoint.LeadershipTransfer{VShardID: shard, NewLeaderNodeID: target, SourceGroup: group},
		checkpoint.Cutover{VShardID: shard, NewLeaderNodeID: target, SourceGroup: group},
		checkpoint.Complete{VShardID: shard},
	}[p-1]
}

// planAll plans all rows at this moment, and keeps the first abort and the questions.
func (h *history) planAll() {
	for i, n := range h.naive {
		for _, d := range recovery.Plan(h.view.All(), h.policy[i], h.nowMS) {
			id, text := d.MigrationID(), moment(d, h.seq)
			switch {
			case d.Action == recovery.Abort && d.Reason != recovery.AbortUnfinished && n.aborts[id] == "":
				n.aborts[id] = text
			case d.Action == recovery.AskFirst:
				key := short(d)
				if n.asked[id] == nil {
					n.asked[id] = map[string]bool{}
				}
				if !n.asked[id][key] {
					n.asked[id][key] = true
					n.questions = append(n.questions, text)
				}
			}
		}
	}
}

func (h *history) ended(id checkpoint.MigrationID, e Event, row projection.Row) {
	for _, n := range h.naive {
		switch {
		case e.Row == nil:
			n.finish(id)
		case row.Checkpoint.Phase() == checkpoint.PhaseComplete:
			n.completed[id] = true
		}
	}
}

func (n *naive) finish(id checkpoint.MigrationID) {
	switch abort := n.aborts[id]; {
	case abort == "":
	case n.completed[id]:
		n.wrongly = append(n.wrongly, abort)
	default:
		n.earlier = append(n.earlier, abort)
	}
	delete(n.aborts, id)
	delete(n.asked, id)
	delete(n.completed, id)
}

// short returns a decision without its time.
func short(d recovery.Decision) string {
	return fmt.Sprintf("%s %s %s #%d/%d %v %v %+v", d.MigrationID(), d.Action, d.Reason, d.Row.Seq, d.Row.LastSeq, d.NextPhase, d.Compensations, d.Asks)
}

func brief(all []recovery.Decision) (texts []string) {
	for _, d := range all {
		texts = append(texts, short(d))
	}
	return texts
}

// moment returns a decision with its time.
func moment(d recovery.Decision, seq uint64) string {
	return fmt.Sprintf("%s at %d after #%d", short(d), d.Inputs.NowMS, seq)
}

func moments[D any](all []D, of func(D) Decision) (texts []string) {
	for _, d := range all {
		m := of(d)
		texts = append(texts, moment(m.Decision, m.AfterSeq))
	}
	return texts
}

// A walk finds the same first aborts and the same questions as a plan of all rows at every
// millisecond. Its decisions after each event are those of a plan of all rows.
func TestWalk_EqualsPlanAtEveryMoment(t *testing.T) {
	members := recovery.MemberOf(0, 1)
	targetLeads := func(group uint64) (uint64, bool) { return 2, group == 1 }
	wrongly, earlier, questions, disagreements := 0, 0, 0, 0
	for seed := range uint64(40) {
		policies := []recovery.Policy{{AbortTimeout: 5e6}, {AbortTimeout: 9e6, Member: members, Leader: targetLeads}}
		h := newHistory(t, seed, policies...)
		for n := range 60 {
			h.lossy = seed%3 == 0 && n > 20
			h.step()
		}
		end := h.nowMS + 20
		for h.nowMS < end {
			h.nowMS++
			h.planAll()
		}
		result := h.walk.Finish(end)
		require.Equal(t, end, result.EndMS)
		for i, n := range h.naive {
			ids := slices.Collect(maps.Keys(h.walk.incarnations))
			for _, id := range ids {
				n.finish(id)
			}
			r := result.Policies[i]
			difference := func(d Difference) Decision { return d.Decision }
			require.ElementsMatch(t, n.wrongly, moments(r.WronglyAborted, difference), "seed %d", seed)
			require.ElementsMatch(t, n.earlier, moments(r.EndedEarlier, difference), "seed %d", seed)
			require.ElementsMatch(t, n.questions, moments(r.Questions, func(d Decision) Decision { return d }), "seed %d", seed)
			wrongly, earlier, questions = wrongly+len(n.wrongly), earlier+len(n.earlier), questions+len(n.questions)
		}
		disagreements += len(result.Disagreements)
	}
	require.Greater(t, wrongly, 10)
	require.Greater(t, earlier, 10)
	require.Greater(t, questions, 100)
	require.Greater(t, disagreements, 100)
}
