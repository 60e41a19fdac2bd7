package recovery

import (
	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// Action is the kind of a decision.
type Action string

// The actions.
const (
	CleanUp  Action = "clean_up" // remove the row of a finished migration
	Abort    Action = "abort"    // carry out the compensations, in order, and end the migration
	Resume   Action = "resume"   // continue with the step after the row
	AskFirst Action = "ask"      // the history and the policy are not enough for a decision: answer the questions in Asks
)

// Reason is the rule that made a decision.
type Reason string

// The reasons, in the order of the rules. Of the rules up to Fresh, the first one that matches
// decides. PeerShared and VShardShared then replace an Abort or a Resume. UnnamedInDoubt adds a
// decision without a row.
const (
	InDoubt               Reason = "in_doubt"                 // a lost event may have been the migration's last
	UnknownEvent          Reason = "unknown_event"            // an event of an unknown kind follows the row
	AbortUnfinished       Reason = "abort_unfinished"         // an abort was begun
	Complete              Reason = "complete"                 // the row is at Complete
	RegressedPastCutover  Reason = "regressed_past_cutover"   // the row is before Cutover, and the furthest phase is Cutover or Complete
	TargetUnknown         Reason = "target_unknown"           // the history lacks the target, or it is uncertain
	TargetChanged         Reason = "target_changed"           // the incarnation has recorded several targets
	TargetGonePastCutover Reason = "target_gone_past_cutover" // the target leads or should lead, and is no member
	PastCutover           Reason = "past_cutover"             // the row is at Cutover: only forward
	TransferCommitted     Reason = "transfer_committed"       // the target leads: only forward
	TransferUnknown       Reason = "transfer_unknown"         // the transfer may have committed
	Stale                 Reason = "stale"                    // the row is older than the abort timeout
	TargetGone            Reason = "target_gone"              // the target is no member
	Fresh                 Reason = "fresh"                    // no other rule matches
	PeerShared            Reason = "peer_shared"              // an abort would remove the target of another migration
	VShardShared          Reason = "vshard_shared"            // two migrations of one vShard would resume
	UnnamedInDoubt        Reason = "unnamed_in_doubt"         // a lost event may belong to a migration without a row
)

// Decision is the decision about one row. MarshalJSON returns the object that `replay-tool plan`
// prints.
type Decision struct {
	// Row is the row that was decided on. It is zero if Reason is UnnamedInDoubt.
	Row       projection.Row
	Action    Action
	Reason    Reason
	NextPhase checkpoint.Phase // Resume: the next checkpoint to be written; otherwise 0
	// Compensations has the steps of an Abort that are not recorded as carried out, in order. Each
	// must be safe to carry out again, because a crash can come before its record.
	Compensations []checkpoint.Compensation
	// Compensated has the recorded steps of an abort that was begun and is not finished.
	Compensated []checkpoint.Compensation
	Asks        []Ask // AskFirst: the facts to find out; otherwise empty
	Inputs      Inputs
}

// MigrationID returns the id of the row. It is nil if Reason is UnnamedInDoubt.
func (d *Decision) MigrationID() checkpoint.MigrationID { return d.Row.Checkpoint.MigrationID }

// Topic is the kind of a question.
type Topic string

// The topics, each with the fields of Ask that it uses.
const (
	TopicRow        Topic = "row"        // the true row of the migration
	TopicEvent      Topic = "event"      // Seq: the meaning of this event
	TopicTarget     Topic = "target"     // the group and the target; Seen: the first 16 recorded targets, if there are several
	TopicMembership Topic = "membership" // Node: whether it is a member of the cluster
	TopicLeader     Topic = "leader"     // GroupID: the node that leads it
	TopicPeer       Topic = "peer"       // GroupID, PeerID: whether the migrations in SharedWith still need this peer
	TopicVShard     Topic = "vshard"     // VShardID: which one of this migration and those in SharedWith may move it
	TopicMigrations Topic = "migrations" // the moves of the cluster that have no row
)

// Ask is one question whose answer decides what to do with a row.
type Ask struct {
	Topic      Topic
	Seq        uint64
	Node       uint64
	GroupID    uint64
	PeerID     uint64
	VShardID   uint32
	Seen       []projection.Target      // in the order of their first record
	SharedWith []checkpoint.MigrationID // ascending
}

// Inputs has the values from which a decision was made, besides the row itself.
type Inputs struct {
	NowMS          uint64 // Unix milliseconds
	TSMS           uint64 // the clock of the row, Unix milliseconds
	AgeMS          uint64 // NowMS - TSMS, or 0 if the clock of the row is later
	AbortTimeoutMS uint64
	SourceNode     *uint64 // nil if it is missing from the history, as are the next two
	TargetNode     *uint64
	SourceGroup    *uint64
	FurthestPhase  checkpoint.Phase // of the incarnation
	TargetMember   *bool            // nil if membership is not tested, or the target is unknown
	GroupLeader    *uint64          // nil if the leader or the group is unknown
	Doubt          projection.Doubt
	// The source or the target may be of an earlier incarnation, see projection.Facts.
	SourceUncertain, TargetUncertain bool
}
