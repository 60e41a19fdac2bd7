package eventgen

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"migrationlog/checkpoint"
)

// Op is one write of a coordinator.
type Op struct {
	ID    checkpoint.MigrationID
	Event checkpoint.Event
	Value []byte // the encoded event, once Encode has been called
	Ends  bool   // the migration has no row after it
}

// Encode sets Value to the bytes that a log keeps of the event.
func (o *Op) Encode() error {
	value, err := checkpoint.EncodeEvent(o.Event)
	o.Value = value
	return err
}

// IDOf returns the migration that an encoded event is about, and whether it ends
// it. It reads fixed places, which is the least that a log of such events could
// spend on each, and refuses what has another beginning.
func IDOf(value []byte) (id checkpoint.MigrationID, ends bool, err error) {
	if len(value) < 21 || value[1] != 1 || value[3] != 2 || value[4] != 0x50 {
		return id, false, fmt.Errorf("%x is not the beginning of an event", value[:min(len(value), 21)])
	}
	return checkpoint.MigrationID(value[5:21]), value[2] != 1, nil
}

// epochMS is when the first migration of each sequence begins, Unix milliseconds.
const epochMS = 1_795_399_697_649

// About one move in 20 is given up, one step in 16 is tried again before the next.
const (
	abortOneIn = 20
	retryOneIn = 16
)

// Generator is an endless sequence of ops over a fixed number of migrations. The
// first ops begin them; from then on one of them at random takes its next step,
// and one that has ended is followed by the beginning of another. No op repeats
// the phase and attempt of the one before it in the same migration, so none is a
// duplicate.
type Generator struct {
	rng     *rand.Rand
	slots   []migration
	started int // slots that have been begun
	ended   int // the slot to be begun anew with the next op; -1: none
	clockMS uint64
}

// migration is where one of them stands.
type migration struct {
	id      checkpoint.MigrationID
	phase   checkpoint.Phase // of the latest row
	attempt uint32
	shard   uint32
	source  uint64
	target  uint64
	group   uint64
}

// New returns the sequence of that seed over that many migrations.
func New(seed uint64, migrations int) *Generator {
	return &Generator{
		rng: rand.New(rand.NewPCG(seed, 0x6d6c6f67)), slots: make([]migration, migrations),
		ended: -1, clockMS: epochMS,
	}
}

// Live is the number of migrations that have a row after the ops so far.
func (l *Generator) Live() int {
	if l.ended >= 0 {
		return l.started - 1
	}
	return l.started
}

// ID is the id of a migration that has begun, by its place.
func (l *Generator) ID(place int) checkpoint.MigrationID { return l.slots[place].id }

// Next returns the next op, not encoded.
func (l *Generator) Next() (Op, error) {
	l.clockMS += l.rng.Uint64N(3)
	switch {
	case l.started < len(l.slots):
		l.started++
		return l.begin(&l.slots[l.started-1])
	case l.ended >= 0:
		m := &l.slots[l.ended]
		l.ended = -1
		return l.begin(m)
	}
	place := l.rng.IntN(len(l.slots))
	m := &l.slots[place]
	switch {
	case m.phase == checkpoint.PhaseComplete:
		l.ended = place
		return Op{ID: m.id, Ends: true, Event: checkpoint.Removed{MigrationID: m.id, TimestampMS: l.clockMS}}, nil
	case m.phase < checkpoint.PhaseCutover && l.rng.IntN(4*abortOneIn) == 0:
		l.ended = place
		return l.abort(m), nil
	case l.rng.IntN(retryOneIn) == 0:
		m.attempt++
	default:
		m.phase, m.attempt = m.phase+1, 0
	}
	return l.upsert(m)
}

// NextAddLearner returns an op that begins a migration or, once all have begun,
// tries to begin one of them again.
func (l *Generator) NextAddLearner() (Op, error) {
	if l.started < len(l.slots) {
		return l.Next()
	}
	l.clockMS += l.rng.Uint64N(3)
	m := &l.slots[l.rng.IntN(len(l.slots))]
	m.attempt++
	return l.upsert(m)
}

func (l *Generator) begin(m *migration) (Op, error) {
	*m = migration{
		id: l.newID(), phase: checkpoint.PhaseAddLearner, shard: l.rng.Uint32N(4096),
		source: 1 + l.rng.Uint64N(64), target: 1 + l.rng.Uint64N(64), group: 1 + l.rng.Uint64N(256),
	}
	return l.upsert(m)
}

// newID is a UUIDv7 (RFC 9562) of the sequence's clock.
func (l *Generator) newID() (id checkpoint.MigrationID) {
	binary.BigEndian.PutUint64(id[:], l.clockMS<<16|7<<12|l.rng.Uint64N(1<<12))
	binary.BigEndian.PutUint64(id[8:], 2<<62|l.rng.Uint64()>>2)
	return id
}

func (l *Generator) upsert(m *migration) (Op, error) {
	c, err := checkpoint.New(m.id, m.attempt, l.payload(m), l.clockMS)
	return Op{ID: m.id, Event: checkpoint.Upserted{Checkpoint: c}}, err
}

func (l *Generator) payload(m *migration) checkpoint.Payload {
	switch m.phase {
	case checkpoint.PhaseAddLearner:
		return checkpoint.AddLearner{
			VShardID: m.shard, SourceNode: m.source, TargetNode: m.target, SourceGroup: m.group,
			WritePauseBudgetUS: 500_000, StartedAtHLC: checkpoint.HLC{WallNS: l.clockMS*1_000_000 + l.rng.Uint64N(1_000_000)},
		}
	case checkpoint.PhaseCatchUp:
		return checkpoint.CatchUp{VShardID: m.shard, LearnerLogIndexAtAdd: l.rng.Uint64N(1 << 24)}
	case checkpoint.PhasePromoteLearner:
		return checkpoint.PromoteLearner{VShardID: m.shard, TargetNode: m.target, SourceGroup: m.group}
	case checkpoint.PhaseLeadershipTransfer:
		return checkpoint.LeadershipTransfer{VShardID: m.shard, TargetIsVoter: true, NewLeaderNodeID: m.target, SourceGroup: m.group}
	case checkpoint.PhaseCutover:
		return checkpoint.Cutover{VShardID: m.shard, NewLeaderNodeID: m.target, SourceGroup: m.group}
	}
	return checkpoint.Complete{VShardID: m.shard, ActualPauseUS: l.rng.Uint64N(100_000), GhostStubInstalled: true}
}

func (l *Generator) abort(m *migration) Op {
	comps := []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: m.group, PeerID: m.target}}
	if m.phase >= checkpoint.PhasePromoteLearner {
		comps = []checkpoint.Compensation{
			{Kind: checkpoint.RemoveVoter, GroupID: m.group, PeerID: m.target},
			{Kind: checkpoint.RestoreLeaderHint, GroupID: m.group, PeerID: m.source},
		}
	}
	return Op{ID: m.id, Ends: true, Event: checkpoint.Aborted{
		MigrationID: m.id, Reason: "target left the cluster", Compensations: comps, TimestampMS: l.clockMS,
	}}
}
