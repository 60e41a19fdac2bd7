package recovery

import (
	"encoding/json"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// decisionJSON has all keys of a decision about a row, in the order in which they are printed. A
// list is never null.
type decisionJSON struct {
	MigrationID   checkpoint.MigrationID `json:"migration_id"`
	VShardID      uint32                 `json:"vshard_id"`
	Seq           uint64                 `json:"seq"`
	Phase         checkpoint.Phase       `json:"phase"`
	Attempt       uint32                 `json:"attempt"`
	Action        Action                 `json:"decision"`
	Reason        Reason                 `json:"reason"`
	NextPhase     *checkpoint.Phase      `json:"next_phase"`
	Compensations []compensationJSON     `json:"compensations"`
	Compensated   []compensationJSON     `json:"compensated"`
	Asks          []Ask                  `json:"asks"`
	Inputs        inputsJSON             `json:"inputs"`
}

// unnamedJSON has the keys of the decision without a row.
type unnamedJSON struct {
	MigrationID *checkpoint.MigrationID `json:"migration_id"` // always null
	Action      Action                  `json:"decision"`
	Reason      Reason                  `json:"reason"`
	Asks        []Ask                   `json:"asks"`
}

// compensationJSON has the keys of a compensation in NDJSON.
type compensationJSON struct {
	Kind     checkpoint.CompensationKind `json:"kind"`
	GroupID  uint64                      `json:"group_id"`
	PeerID   uint64                      `json:"peer_id"`
	VShardID uint32                      `json:"vshard_id,omitempty"`
}

type targetJSON struct {
	GroupID uint64 `json:"group_id"`
	PeerID  uint64 `json:"peer_id"`
}

type inputsJSON struct {
	NowMS           uint64           `json:"now_ms"`
	TSMS            uint64           `json:"ts_ms"`
	AgeMS           uint64           `json:"age_ms"`
	AbortTimeoutMS  uint64           `json:"abort_timeout_ms"`
	SourceNode      *uint64          `json:"source_node"`
	TargetNode      *uint64          `json:"target_node"`
	SourceGroup     *uint64          `json:"source_group"`
	FurthestPhase   checkpoint.Phase `json:"furthest_phase"`
	TargetMember    *bool            `json:"target_member"`
	GroupLeader     *uint64          `json:"group_leader"`
	Doubt           string           `json:"doubt"`
	SourceUncertain bool             `json:"source_uncertain"`
	TargetUncertain bool             `json:"target_uncertain"`
}

// MarshalJSON returns the decision as one object, which docs/TOOL.md describes.
func (d Decision) MarshalJSON() ([]byte, error) {
	if d.Reason == UnnamedInDoubt {
		return json.Marshal(unnamedJSON{nil, d.Action, d.Reason, d.Asks})
	}
	c, in := d.Row.Checkpoint, d.Inputs
	out := decisionJSON{
		MigrationID: c.MigrationID, VShardID: c.Payload.Shard(), Seq: d.Row.Seq, Phase: c.Phase(), Attempt: c.Attempt,
		Action: d.Action, Reason: d.Reason,
		Compensations: compensationsJSON(d.Compensations), Compensated: compensationsJSON(d.Compensated),
		Asks: append([]Ask{}, d.Asks...),
		Inputs: inputsJSON{
			in.NowMS, in.TSMS, in.AgeMS, in.AbortTimeoutMS, in.SourceNode, in.TargetNode, in.SourceGroup,
			in.FurthestPhase, in.TargetMember, in.GroupLeader, in.Doubt.String(), in.SourceUncertain, in.TargetUncertain,
		},
	}
	if d.NextPhase != 0 {
		out.NextPhase = &d.NextPhase
	}
	return json.Marshal(out)
}

func compensationsJSON(list []checkpoint.Compensation) []compensationJSON {
	out := make([]compensationJSON, len(list))
	for i, c := range list {
		out[i] = compensationJSON(c)
	}
	return out
}

// askJSON has the keys of all topics. A key that does not belong to the topic is left out.
type askJSON struct {
	Topic      Topic                    `json:"what"`
	Seq        *uint64                  `json:"seq,omitempty"`
	Node       *uint64                  `json:"node,omitempty"`
	GroupID    *uint64                  `json:"group_id,omitempty"`
	PeerID     *uint64                  `json:"peer_id,omitempty"`
	VShardID   *uint32                  `json:"vshard_id,omitempty"`
	Seen       []targetJSON             `json:"seen,omitempty"`
	SharedWith []checkpoint.MigrationID `json:"shared_with,omitempty"`
}

// MarshalJSON returns the question with the keys of its topic.
func (a Ask) MarshalJSON() ([]byte, error) {
	out := askJSON{Topic: a.Topic, Seen: targetsJSON(a.Seen), SharedWith: a.SharedWith}
	switch a.Topic {
	case TopicEvent:
		out.Seq = &a.Seq
	case TopicMembership:
		out.Node = &a.Node
	case TopicLeader:
		out.GroupID = &a.GroupID
	case TopicPeer:
		out.GroupID, out.PeerID = &a.GroupID, &a.PeerID
	case TopicVShard:
		out.VShardID = &a.VShardID
	}
	return json.Marshal(out)
}

func targetsJSON(list []projection.Target) []targetJSON {
	out := make([]targetJSON, len(list))
	for i, t := range list {
		out[i] = targetJSON(t)
	}
	return out
}
