package stats

import (
	"cmp"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/replay/story"
)

// SlowStay is one of the longest stays in a phase. Seq is the event that began it.
type SlowStay struct {
	Seq         uint64                 `json:"seq"`
	VShardID    uint32                 `json:"vshard_id"`
	SourceNode  *uint64                `json:"source_node"` // null if it is not known, as is TargetNode
	TargetNode  *uint64                `json:"target_node"`
	Phase       checkpoint.Phase       `json:"phase"`
	Attempt     uint32                 `json:"attempt"`
	StayedMS    uint64                 `json:"stayed_ms"`
	MigrationID checkpoint.MigrationID `json:"migration_id"`
}

// slowest keeps the longest stays of a history, at most limit.
type slowest struct {
	limit int
	stays []SlowStay // up to twice the limit
	minMS uint64     // shorter stays are not among the longest
}

// add adds a stay, unless a clock went back in it.
func (s *slowest) add(stay story.Stay) {
	if s.limit == 0 || stay.MS < 0 || uint64(stay.MS) < s.minMS {
		return
	}
	i := stay.Incarnation
	slow := SlowStay{
		Seq: stay.From.Seq, VShardID: i.VShardID, Phase: stay.From.Phase, Attempt: stay.From.Attempt,
		StayedMS: uint64(stay.MS), MigrationID: i.ID,
	}
	if i.HasSource {
		slow.SourceNode = new(i.SourceNode)
	}
	if i.HasTarget {
		slow.TargetNode = new(i.TargetNode)
	}
	if s.stays = append(s.stays, slow); len(s.stays) >= 2*s.limit {
		s.stays = s.sorted()
		s.minMS = s.stays[s.limit-1].StayedMS
	}
}

// sorted returns the longest stays. Of equal ones the first come first.
func (s *slowest) sorted() []SlowStay {
	slices.SortFunc(s.stays, func(a, b SlowStay) int {
		return cmp.Or(cmp.Compare(b.StayedMS, a.StayedMS), cmp.Compare(a.Seq, b.Seq))
	})
	return s.stays[:min(len(s.stays), s.limit)]
}
