package eventgen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"

	"migrationlog/checkpoint"
)

// Op is one write of a coordinator.
type Op struct {
	ID    checkpoint.MigrationID
	Event checkpoint.Event
	Value []byte // the encoded event; nil before Encode
	Ends  bool   // the migration has no row after this event
}

// Encode sets Value to the encoded event.
func (o *Op) Encode() error {
	value, err := checkpoint.EncodeEvent(o.Event)
	o.Value = value
	return err
}

// IDOf returns the migration of an encoded event, and whether the event ends it. It reads fixed
// offsets, which is the least work that a log of such events could do per entry. It returns an
// error if the value does not begin like an event.
func IDOf(value []byte) (id checkpoint.MigrationID, ends bool, err error) {
	if len(value) < 21 || value[1] != 1 || value[3] != 2 || value[4] != 0x50 {
		return id, false, fmt.Errorf("%x is not the beginning of an event", value[:min(len(value), 21)])
	}
	return checkpoint.MigrationID(value[5:21]), value[2] != 1, nil
}

// epochMS is the start of each sequence's clock, in Unix milliseconds.
const epochMS = 1_795_399_697_649

// About one migration in 20 is aborted. One step in 16 is retried before the next step.
const (
	abortOneIn = 20
	retryOneIn = 16
)

// secondStepLag is the number of migrations that begin between the first and the second event of
// one migration in the sequence of NextUnended.
const secondStepLag = 1000

// Generator yields an endless sequence of ops over a fixed number of slots, each of which holds one
// migration at a time. The first ops begin a migration in each slot. After that, each op is the
// next step of a random slot. If a migration has ended, the next op begins a new migration in its
// slot. No op has the same phase and attempt as the previous op of its migration, so no op is a
// duplicate. The seed and the methods called determine the sequence. A Generator is not safe for
// concurrent use.
type Generator struct {
	rng     *rand.Rand
	slots   []migration
	started int // slots in which a migration has begun
	ended   int // slot in which the next op begins a new migration; -1: none
	clockMS uint64

	second int // NextUnended: the slot whose migration takes its second step next
}

// migration is the state of one migration.
type migration struct {
	id      checkpoint.MigrationID
	phase   checkpoint.Phase // of the latest row
	attempt uint32
	shard   uint32
	source  uint64
	target  uint64
	group   uint64
}

// New returns the generator of a seed with that many slots.
func New(seed uint64, migrations int) *Generator {
	return &Generator{
		rng: rand.New(rand.NewPCG(seed, 0x6d6c6f67)), slots: make([]migration, migrations),
		ended: -1, clockMS: epochMS, second: 1,
	}
}

// Live returns the number of migrations that have a row after the ops so far.
func (g *Generator) Live() int {
	if g.ended >= 0 {
		return g.started - 1
	}
	return g.started
}

// ID returns the id of the latest migration in a slot.
func (g *Generator) ID(slot int) checkpoint.MigrationID { return g.slots[slot].id }

// Next returns the next op, not encoded.
func (g *Generator) Next() (Op, error) {
	g.clockMS += g.rng.Uint64N(3)
	switch {
	case g.started < len(g.slots):
		g.started++
		return g.begin(&g.slots[g.started-1])
	case g.ended >= 0:
		m := &g.slots[g.ended]
		g.ended = -1
		return g.begin(m)
	}
	slot := g.rng.IntN(len(g.slots))
	m := &g.slots[slot]
	switch {
	case m.phase == checkpoint.PhaseComplete:
		g.ended = slot
		return Op{ID: m.id, Ends: true, Event: checkpoint.Removed{MigrationID: m.id, TimestampMS: g.clockMS}}, nil
	case m.phase < checkpoint.PhaseCutover && g.rng.IntN(4*abortOneIn) == 0:
		g.ended = slot
		return g.abort(m), nil
	case g.rng.IntN(retryOneIn) == 0:
		m.attempt++
	default:
		m.phase, m.attempt = m.phase+1, 0
	}
	return g.upsert(m)
}

// NextAddLearner returns an op that begins a migration. Once every slot has a migration, it
// returns a retry of one of their AddLearner steps.
func (g *Generator) NextAddLearner() (Op, error) {
	if g.started < len(g.slots) {
		return g.Next()
	}
	g.clockMS += g.rng.Uint64N(3)
	m := &g.slots[g.rng.IntN(len(g.slots))]
	m.attempt++
	return g.upsert(m)
}

// NextUnended returns the next op of a sequence in which no migration ends. One migration begins in
// each slot. Every second one takes a second step after secondStepLag more have begun, or after all
// have begun. The sequence has UnendedOps ops. After those NextUnended returns an error.
func (g *Generator) NextUnended() (Op, error) {
	g.clockMS += g.rng.Uint64N(3)
	allBegun := g.started == len(g.slots)
	switch {
	case g.second < g.started && (allBegun || g.second+secondStepLag <= g.started):
		m := &g.slots[g.second]
		g.second += 2
		m.phase, m.attempt = m.phase+1, 0
		return g.upsert(m)
	case allBegun:
		return Op{}, errors.New("every migration has taken its steps")
	}
	g.started++
	return g.begin(&g.slots[g.started-1])
}

// UnendedOps returns the number of ops that NextUnended yields for that many migrations.
func UnendedOps(migrations int) int { return migrations + migrations/2 }

func (g *Generator) begin(m *migration) (Op, error) {
	*m = migration{
		id: g.newID(), phase: checkpoint.PhaseAddLearner, shard: g.rng.Uint32N(4096),
		source: 1 + g.rng.Uint64N(64), target: 1 + g.rng.Uint64N(64), group: 1 + g.rng.Uint64N(256),
	}
	return g.upsert(m)
}

// newID returns a UUIDv7 (RFC 9562) with the time of the generator's clock.
func (g *Generator) newID() (id checkpoint.MigrationID) {
	binary.BigEndian.PutUint64(id[:], g.clockMS<<16|7<<12|g.rng.Uint64N(1<<12))
	binary.BigEndian.PutUint64(id[8:], 2<<62|g.rng.Uint64()>>2)
	return id
}

func (g *Generator) upsert(m *migration) (Op, error) {
	c, err := checkpoint.New(m.id, m.attempt, g.payload(m), g.clockMS)
	return Op{ID: m.id, Event: checkpoint.Upserted{Checkpoint: c}}, err
}

func (g *Generator) payload(m *migration) checkpoint.Payload {
	switch m.phase {
	case checkpoint.PhaseAddLearner:
		return checkpoint.AddLearner{
			VShardID: m.shard, SourceNode: m.source, TargetNode: m.target, SourceGroup: m.group,
			WritePauseBudgetUS: 500_000, StartedAtHLC: checkpoint.HLC{WallNS: g.clockMS*1_000_000 + g.rng.Uint64N(1_000_000)},
		}
	case checkpoint.PhaseCatchUp:
		return checkpoint.CatchUp{VShardID: m.shard, LearnerLogIndexAtAdd: g.rng.Uint64N(1 << 24)}
	case checkpoint.PhasePromoteLearner:
		return checkpoint.PromoteLearner{VShardID: m.shard, TargetNode: m.target, SourceGroup: m.group}
	case checkpoint.PhaseLeadershipTransfer:
		return checkpoint.LeadershipTransfer{VShardID: m.shard, TargetIsVoter: true, NewLeaderNodeID: m.target, SourceGroup: m.group}
	case checkpoint.PhaseCutover:
		return checkpoint.Cutover{VShardID: m.shard, NewLeaderNodeID: m.target, SourceGroup: m.group}
	}
	return checkpoint.Complete{VShardID: m.shard, ActualPauseUS: g.rng.Uint64N(100_000), GhostStubInstalled: true}
}

func (g *Generator) abort(m *migration) Op {
	comps := []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: m.group, PeerID: m.target}}
	if m.phase >= checkpoint.PhasePromoteLearner {
		comps = []checkpoint.Compensation{
			{Kind: checkpoint.RemoveVoter, GroupID: m.group, PeerID: m.target},
			{Kind: checkpoint.RestoreLeaderHint, GroupID: m.group, PeerID: m.source},
		}
	}
	return Op{ID: m.id, Ends: true, Event: checkpoint.Aborted{
		MigrationID: m.id, Reason: "target left the cluster", Compensations: comps, TimestampMS: g.clockMS,
	}}
}
