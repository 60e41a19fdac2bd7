package recovery

import (
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// askAboutSharedPeers changes an abort into a question if one of its remaining steps would remove a
// peer that another migration moves to.
func askAboutSharedPeers(decisions []Decision) {
	users := peerUsers(decisions)
	for i := range decisions {
		d := &decisions[i]
		if d.Action != Abort {
			continue
		}
		if asks := d.sharedPeers(users); len(asks) > 0 {
			d.Action, d.Reason, d.Asks, d.Compensations = AskFirst, PeerShared, asks, nil
		}
	}
}

// peerUsers returns the rows that are not aborted, by their targets. If a migration has recorded
// several targets, it may use any of them.
func peerUsers(decisions []Decision) map[projection.Target][]*projection.Row {
	users := make(map[projection.Target][]*projection.Row, len(decisions))
	for i := range decisions {
		row := &decisions[i].Row
		facts := &row.Facts
		switch {
		case decisions[i].Action == Abort || !facts.HasTarget: //mutant:plan-user-aborted
		case len(facts.Targets) > 1: //mutant:plan-user-targets
			for _, target := range facts.Targets {
				users[target] = append(users[target], row)
			}
		default:
			target := projection.Target{GroupID: facts.SourceGroup, PeerID: facts.TargetNode}
			users[target] = append(users[target], row)
		}
	}
	return users
}

// sharedPeers returns a question for each peer that an abort would remove and that another
// migration uses. A migration that was complete before the aborted one began no longer moves the
// peer: the aborted one has added it again.
func (d *Decision) sharedPeers(users map[projection.Target][]*projection.Row) []Ask {
	var asks []Ask
	for _, c := range d.Compensations {
		peer := projection.Target{GroupID: c.GroupID, PeerID: c.PeerID}
		if !removesPeer(c.Kind) || slices.ContainsFunc(asks, func(a Ask) bool { return a.GroupID == peer.GroupID && a.PeerID == peer.PeerID }) {
			continue
		}
		var sharedWith []checkpoint.MigrationID
		for _, row := range users[peer] {
			if row.Checkpoint.Phase() == checkpoint.PhaseComplete && row.Seq < d.Row.Facts.BeganSeq { //mutant:plan-complete-before
				continue
			}
			sharedWith = append(sharedWith, row.Checkpoint.MigrationID)
		}
		if len(sharedWith) > 0 {
			asks = append(asks, Ask{Topic: TopicPeer, GroupID: c.GroupID, PeerID: c.PeerID, SharedWith: sharedWith})
		}
	}
	return asks
}

func removesPeer(k checkpoint.CompensationKind) bool {
	return k == checkpoint.RemoveLearner || k == checkpoint.RemoveVoter //mutant:plan-removes-peer
}

// askAboutSharedVShards changes each resume into a question if another migration of the same vShard
// would resume too.
func askAboutSharedVShards(decisions []Decision) {
	resumes := map[uint32][]int{} // indexes of the decisions, by vShard
	for i := range decisions {
		if decisions[i].Action == Resume { //mutant:plan-vshard-resumes
			vshardID := decisions[i].Row.Checkpoint.Payload.Shard()
			resumes[vshardID] = append(resumes[vshardID], i)
		}
	}
	for vshardID, shared := range resumes { // the order does not matter: each decision is in one list
		if len(shared) < 2 {
			continue
		}
		for _, i := range shared {
			var others []checkpoint.MigrationID
			for _, j := range shared {
				if j != i {
					others = append(others, decisions[j].MigrationID())
				}
			}
			decisions[i].NextPhase = 0
			decisions[i].ask(VShardShared, Ask{Topic: TopicVShard, VShardID: vshardID, SharedWith: others})
		}
	}
}
