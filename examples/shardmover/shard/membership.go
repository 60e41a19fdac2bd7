package shard

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"migrationlog/examples/shardmover/wire"
)

// changeTimeout is the time that a membership change may wait for the one before it.
const changeTimeout = 2 * time.Second

// View is the membership of a group at the time of a fence.
type View struct {
	Leader      ReplicaID   `json:"leader"`
	Voters      []ReplicaID `json:"voters"`
	Learners    []ReplicaID `json:"learners"`
	ConfigIndex uint64      `json:"config_index"` // of the membership; it is the prevIndex of a change
	CommitIndex uint64      `json:"commit_index"`
}

// Progress shows how far a replica has applied the log.
type Progress struct {
	LastIndex    uint64 `json:"last_index"`    // of its log
	AppliedIndex uint64 `json:"applied_index"` // of its machine
}

// Progress returns the replica's progress.
func (r *Replica) Progress() Progress {
	applied, _ := r.machine.indexes()
	return Progress{LastIndex: r.raft.LastIndex(), AppliedIndex: applied}
}

// ChangeKind is the kind of a membership change.
type ChangeKind string

// The kinds.
const (
	AddLearner ChangeKind = "add_learner"
	Promote    ChangeKind = "promote"
	Remove     ChangeKind = "remove"
)

// Change is one change of the membership.
type Change struct {
	Kind    ChangeKind `json:"kind"`
	Replica ReplicaID  `json:"replica"`
	// PrevIndex is View.ConfigIndex of the membership for which the change was chosen. The group
	// refuses the change if the membership has changed since then. A late change of a dead
	// coordinator can therefore not follow a newer change.
	PrevIndex uint64 `json:"prev_index"`
}

// Fence makes the group refuse all effects with a lower epoch, and returns the membership after
// that. It commits an entry, so all changes that an earlier leader has committed are applied.
func (r *Replica) Fence(epoch uint64) (View, error) {
	r.effects.Lock()
	defer r.effects.Unlock()
	return r.fence(epoch)
}

func (r *Replica) fence(epoch uint64) (View, error) {
	highest, err := r.apply(command{Epoch: epoch})
	if err != nil {
		return View{}, err
	}
	if highest > epoch {
		return View{}, wire.Errorf(wire.Fenced, "", "group %d has seen epoch %d, and the coordinator has epoch %d", r.ID.Group, highest, epoch)
	}
	return r.view()
}

// View returns the membership after all changes that were committed before the call. Only the
// leader can return it.
func (r *Replica) View() (View, error) {
	if err := r.raft.Barrier(applyTimeout).Error(); err != nil {
		return View{}, r.failure(err)
	}
	return r.view()
}

func (r *Replica) view() (View, error) {
	configuration := r.raft.GetConfiguration()
	if err := configuration.Error(); err != nil {
		return View{}, r.failure(err)
	}
	_, configIndex := r.machine.indexes()
	view := View{Leader: r.Leader(), ConfigIndex: configIndex, CommitIndex: r.raft.CommitIndex()}
	for _, server := range configuration.Configuration().Servers {
		id, err := ParseReplicaID(string(server.ID))
		if err != nil {
			return View{}, err
		}
		if server.Suffrage == raft.Voter {
			view.Voters = append(view.Voters, id)
		} else {
			view.Learners = append(view.Learners, id)
		}
	}
	return view, nil
}

// Change fences the group and changes its membership. It returns the index of the new
// configuration.
func (r *Replica) Change(epoch uint64, c Change) (index uint64, err error) {
	r.effects.Lock()
	defer r.effects.Unlock()
	if _, err := r.fence(epoch); err != nil {
		return 0, err
	}
	if c.PrevIndex == 0 { // raft would not compare it
		return 0, fmt.Errorf("the change of %s has no PrevIndex", c.Replica)
	}
	id, address := raft.ServerID(c.Replica.String()), raft.ServerAddress(c.Replica.String())
	var future raft.IndexFuture
	switch c.Kind {
	case AddLearner:
		future = r.raft.AddNonvoter(id, address, c.PrevIndex, changeTimeout)
	case Promote:
		future = r.raft.AddVoter(id, address, c.PrevIndex, changeTimeout)
	case Remove:
		future = r.raft.RemoveServer(id, c.PrevIndex, changeTimeout)
	default:
		return 0, fmt.Errorf("unknown change %q", c.Kind)
	}
	if err := future.Error(); err != nil {
		if strings.Contains(err.Error(), "configuration changed since") { // raft has no variable for this error
			return 0, wire.Errorf(wire.ConfigurationChanged, "", "%s: %v", r.ID, err)
		}
		return 0, r.failure(err)
	}
	return future.Index(), nil
}

// Transfer fences the group and asks raft to make another replica the leader. The error does not
// show whether the transfer has succeeded: ask the group which replica leads.
func (r *Replica) Transfer(epoch uint64, to ReplicaID) error {
	r.effects.Lock()
	defer r.effects.Unlock()
	if _, err := r.fence(epoch); err != nil {
		return err
	}
	if err := r.raft.LeadershipTransferToServer(raft.ServerID(to.String()), raft.ServerAddress(to.String())).Error(); err != nil {
		return r.failure(err)
	}
	return nil
}
