package check

import (
	"fmt"
	"slices"

	"migrationlog/examples/shardmover/coordinator"
	"migrationlog/replay/diff"
)

// Report is the result of a run, as -o json prints it.
type Report struct {
	Moves                    int      `json:"moves"`
	Complete                 int      `json:"complete"`
	Aborted                  int      `json:"aborted"`
	Kills                    int      `json:"kills"`
	Recovered                int      `json:"recovered"` // moves that a successor has continued
	ClientWritesAcknowledged uint64   `json:"client_writes_acknowledged"`
	ClientWritesLost         int      `json:"client_writes_lost"`
	LeakedLearners           int      `json:"leaked_learners"`
	ReplicaCountWrong        int      `json:"replica_count_wrong"` // groups
	InFlight                 int      `json:"in_flight"`
	CompensationsTwice       int      `json:"compensations_twice"` // carried out again although they were recorded
	DigestsEqual             bool     `json:"digests_equal"`
	Violations               []string `json:"violations"`
}

// Passed reports whether all checks have passed.
func (r Report) Passed() bool {
	return r.ClientWritesLost == 0 && r.LeakedLearners == 0 && r.ReplicaCountWrong == 0 && r.InFlight == 0 &&
		r.CompensationsTwice == 0 && r.DigestsEqual && len(r.Violations) == 0
}

// Run checks the evidence.
func Run(e Evidence) Report {
	h := readHistory(e.History)
	r := Report{
		Moves: len(e.Moves), Kills: e.Kills, Recovered: len(h.takenOver()),
		ClientWritesLost: lostWrites(e), LeakedLearners: leakedLearners(e), ReplicaCountWrong: wrongReplicaCounts(e),
		InFlight: inFlight(e), CompensationsTwice: h.compensationsTwice(e.Compensations), DigestsEqual: digestsEqual(e),
		Violations: []string{},
	}
	for _, c := range e.Clients {
		r.ClientWritesAcknowledged += c.Acknowledged
	}
	for _, m := range e.Moves {
		switch m.Outcome {
		case coordinator.Complete:
			r.Complete++
		case coordinator.Aborted:
			r.Aborted++
		}
	}
	r.Violations = append(r.Violations, slices.Concat(e.Violations, h.violations, h.wrongOutcomes(e.Moves), differences(e), replicaViolations(e))...)
	return r
}

// lostWrites counts the acknowledged writes that the group does not have.
func lostWrites(e Evidence) (lost int) {
	for _, c := range e.Clients {
		has := map[uint64]bool{}
		for _, g := range e.Groups {
			if g.ID == c.Group {
				for _, write := range g.State.Writes[c.Name] {
					has[write] = true
				}
			}
		}
		for write := uint64(1); write <= c.Acknowledged; write++ {
			if !has[write] {
				lost++
			}
		}
	}
	return lost
}

// leakedLearners counts the replicas that are learners at the end.
func leakedLearners(e Evidence) (leaked int) {
	for _, g := range e.Groups {
		leaked += len(g.View.Learners)
	}
	return leaked
}

// wrongReplicaCounts counts the groups that do not have the number of voters that they must have.
func wrongReplicaCounts(e Evidence) (wrong int) {
	for _, g := range e.Groups {
		if len(g.View.Voters) != g.Replicas {
			wrong++
		}
	}
	return wrong
}

// replicaViolations compares the replicas that the nodes host with the members of the groups, and
// their states with that of the leader.
func replicaViolations(e Evidence) (violations []string) {
	for _, g := range e.Groups {
		hosted := 0
		for _, local := range g.Local {
			if !slices.Contains(g.View.Voters, local.Hosted) && !slices.Contains(g.View.Learners, local.Hosted) {
				violations = append(violations, fmt.Sprintf("%s is hosted and is no member of its group", local.Hosted))
				continue
			}
			hosted++
			if fmt.Sprint(local.State) != fmt.Sprint(g.State) {
				violations = append(violations, fmt.Sprintf("%s has another state than its leader", local.Hosted))
			}
		}
		if members := len(g.View.Voters) + len(g.View.Learners); hosted != members {
			violations = append(violations, fmt.Sprintf("group %d has %d members, of which %d are hosted", g.ID, members, hosted))
		}
	}
	return violations
}

// differences returns the members of the metadata group that have another history than the first
// one. Equal digests of the states are not enough, because two histories can lead to the same
// state.
func differences(e Evidence) (violations []string) {
	for i, h := range e.Histories {
		if h.Agreement != diff.Same {
			violations = append(violations, fmt.Sprintf("the histories of members 1 and %d: %s, the same through raft index %d", i+2, h.Agreement, h.SameThrough))
		}
	}
	return violations
}

// inFlight returns the highest number of rows of a member of the metadata group.
func inFlight(e Evidence) (rows int) {
	for _, m := range e.Members {
		rows = max(rows, m.InFlight)
	}
	return rows
}

// digestsEqual reports whether all members have the same digest at the same index.
func digestsEqual(e Evidence) bool {
	for _, m := range e.Members {
		if m.DigestIndex != e.Members[0].DigestIndex || m.Digest != e.Members[0].Digest {
			return false
		}
	}
	return len(e.Members) > 0
}
