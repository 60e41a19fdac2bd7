package driver

import (
	"math/rand/v2"
	"slices"
	"time"

	"migrationlog/checkpoint"
	"migrationlog/examples/shardmover/coordinator"
	"migrationlog/examples/shardmover/shard"
)

// plan has every decision of a run that does not depend on the time. The same options give the same
// plan.
type plan struct {
	first  [][]shard.ReplicaID // replicas of each group at the beginning
	moves  [][]plannedMove     // of each group, one after another
	kills  []plannedKill
	faults *rand.Rand
}

// plannedMove is one move. Its source is the leader of the group at that time.
type plannedMove struct {
	id     checkpoint.MigrationID
	choice int // of the target, among the nodes without a replica
	hangs  hangs
}

// hangs is the failure that the driver chooses for the target of a move.
type hangs uint8

const (
	never     hangs = iota
	asLearner       // the learner never catches up
	asVoter         // the voter never becomes the leader
)

// plannedKill is one kill of the leading coordinator.
type plannedKill struct {
	steps int                    // after so many steps of all coordinators; or,
	abort checkpoint.MigrationID // if it is not zero, in the abort of this migration,
	after string                 // after this step
	delay time.Duration
}

// replicas is the number of replicas of each group.
const replicas = 3

// hangsOneIn is the number of moves of which one fails.
const hangsOneIn = 10

func newPlan(o Options) plan {
	random := rand.New(rand.NewPCG(uint64(o.Seed), 19))
	p := plan{faults: rand.New(rand.NewPCG(uint64(o.Seed), 20)), moves: make([][]plannedMove, o.Groups)}
	for group := range o.Groups {
		var ids []shard.ReplicaID
		for _, i := range random.Perm(o.Nodes)[:replicas] {
			ids = append(ids, shard.ReplicaID{Node: uint64(i + 1), Group: uint64(group + 1), Tag: shard.FirstTag})
		}
		p.first = append(p.first, ids)
	}
	var aborts []checkpoint.MigrationID
	for i := range o.Moves {
		m := plannedMove{id: newID(random), choice: random.IntN(1 << 16)}
		if i%hangsOneIn == hangsOneIn/2 {
			m.hangs = asLearner + hangs(random.IntN(2))
			aborts = append(aborts, m.id)
		}
		p.moves[i%o.Groups] = append(p.moves[i%o.Groups], m)
	}
	p.kills = planKills(o, random, aborts)
	return p
}

// planKills distributes the kills over the run. One in five hits an abort.
func planKills(o Options, random *rand.Rand, aborts []checkpoint.MigrationID) (kills []plannedKill) {
	inAborts := min((o.Kills+4)/5, len(aborts))
	for i, id := range aborts[:inAborts] {
		after := []string{coordinator.StepAbortBegun, coordinator.StepCompensated}[i%2]
		kills = append(kills, plannedKill{abort: id, after: after, delay: time.Duration(random.IntN(6)) * time.Millisecond})
	}
	// A move takes seven steps, and an aborted one fewer. The last kill must not come after the end.
	last := max(1, o.Moves*6)
	for range o.Kills - inAborts {
		kills = append(kills, plannedKill{steps: random.IntN(last), delay: time.Duration(random.IntN(40)) * time.Millisecond})
	}
	slices.SortStableFunc(kills, func(a, b plannedKill) int { return a.steps - b.steps })
	return kills
}

// newID returns a version 4 UUID from the plan's random numbers.
func newID(random *rand.Rand) (id checkpoint.MigrationID) {
	for i := range id {
		id[i] = byte(random.Uint32())
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}
