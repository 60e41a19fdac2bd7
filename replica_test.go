package migrationlog_test

import (
	"encoding/binary"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
)

func openReplica(t testing.TB, dir string, opts *migrationlog.ReplicaOptions) *migrationlog.Replica {
	r, err := migrationlog.OpenReplica(dir, opts)
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

func reopenReplica(t testing.TB, r *migrationlog.Replica, dir string) *migrationlog.Replica {
	require.NoError(t, r.Close())
	return openReplica(t, dir, nil)
}

// apply applies entries in batches of random sizes. It returns the results.
func apply(t testing.TB, r *migrationlog.Replica, entries []migrationlog.Entry, split *rand.Rand) (results []migrationlog.Applied) {
	for len(entries) > 0 {
		n := len(entries)
		if split != nil {
			n = 1 + split.IntN(min(n, 100))
		}
		applied, err := r.Apply(entries[:n])
		require.NoError(t, err)
		require.Len(t, applied, n)
		results, entries = append(results, applied...), entries[n:]
	}
	return results
}

// entryMaker makes random entries for a few migrations. It knows the index of the last event of each,
// so that many guards hold.
type entryMaker struct {
	random *rand.Rand
	next   uint64 // index
	term   uint64
	epoch  uint64
	timeMS uint64
	phase  map[checkpoint.MigrationID]checkpoint.Phase
	last   map[checkpoint.MigrationID]uint64
}

func newEntryMaker(seed uint64) *entryMaker {
	return &entryMaker{
		random: rand.New(rand.NewPCG(seed, 1)), next: 1, term: 1, timeMS: 1795399697649,
		phase: map[checkpoint.MigrationID]checkpoint.Phase{}, last: map[checkpoint.MigrationID]uint64{},
	}
}

func numberedID(n int) (id checkpoint.MigrationID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n)+1)
	return id
}

func payloadOf(p checkpoint.Phase, vshard uint32, node uint64) checkpoint.Payload {
	return []checkpoint.Payload{
		checkpoint.AddLearner{VShardID: vshard, SourceNode: 1, TargetNode: node, SourceGroup: 7, WritePauseBudgetUS: 9, StartedAtHLC: checkpoint.HLC{WallNS: 5, Logical: 3}},
		checkpoint.CatchUp{VShardID: vshard, LearnerLogIndexAtAdd: 44},
		checkpoint.PromoteLearner{VShardID: vshard, TargetNode: node, SourceGroup: 7},
		checkpoint.LeadershipTransfer{VShardID: vshard, TargetIsVoter: true, NewLeaderNodeID: node, SourceGroup: 7},
		checkpoint.Cutover{VShardID: vshard, NewLeaderNodeID: node, SourceGroup: 7},
		checkpoint.Complete{VShardID: vshard, ActualPauseUS: 6, GhostStubInstalled: true},
	}[p-1]
}

var replicaSteps = []checkpoint.Compensation{
	{Kind: checkpoint.RemoveLearner, GroupID: 7, PeerID: 2, VShardID: 3},
	{Kind: checkpoint.RemoveLearner, GroupID: 7, PeerID: 3, VShardID: 3},
}

// make returns the next entry.
func (m *entryMaker) make(t testing.TB) migrationlog.Entry {
	r := m.random
	e := migrationlog.Entry{Index: m.next, Term: m.term}
	m.next += 1 + uint64(r.IntN(8)/7)
	m.term += uint64(r.IntN(200) / 199)
	m.timeMS += uint64(r.IntN(1000))
	id := numberedID(r.IntN(6))
	if r.IntN(3) == 0 {
		e.Options = append(e.Options, migrationlog.IfIndex(m.last[id]))
	}
	if r.IntN(4) == 0 {
		m.epoch += uint64(r.IntN(20) / 19)
		e.Options = append(e.Options, migrationlog.Epoch(max(1, m.epoch-min(m.epoch, uint64(r.IntN(8)/7)))))
	}
	if r.IntN(6) == 0 {
		e.Options = append(e.Options, migrationlog.Confirm())
	}
	if r.IntN(6) == 0 {
		e.Options = append(e.Options, migrationlog.InOrder())
	}
	switch kind := r.IntN(24); {
	case kind < 13:
		p := min(m.phase[id]+1, checkpoint.PhaseComplete)
		if r.IntN(4) == 0 {
			p = checkpoint.Phase(1 + r.IntN(6))
		}
		m.phase[id] = p
		c, err := checkpoint.New(id, uint32(r.IntN(3)), payloadOf(p, uint32(1+r.IntN(4)), uint64(2+r.IntN(2))), m.timeMS)
		require.NoError(t, err)
		e.Event = checkpoint.Upserted{Checkpoint: c}
		if r.IntN(5) == 0 {
			e.Options = append(e.Options, migrationlog.IfVShardFree(), migrationlog.Strict())
		}
	case kind < 15:
		m.phase[id] = 0
		e.Event = checkpoint.Removed{MigrationID: id, TimestampMS: m.timeMS}
	case kind < 17:
		m.phase[id] = 0
		e.Event = checkpoint.Aborted{MigrationID: id, Reason: "stalled", Compensations: replicaSteps[:r.IntN(3)], TimestampMS: m.timeMS}
	case kind < 19:
		e.Event = checkpoint.AbortBegun{MigrationID: id, Reason: "stalled", Compensations: replicaSteps[:1+r.IntN(2)], TimestampMS: m.timeMS}
	case kind < 21:
		e.Event = checkpoint.Compensated{MigrationID: id, Step: uint32(r.IntN(2)), TimestampMS: m.timeMS}
	case kind < 22:
		e.Event = checkpoint.EpochRaised{MigrationID: id, TimestampMS: m.timeMS, Epoch: max(1, m.epoch)}
		e.Options = nil
	case kind < 23:
		e.Options, e.Opaque = nil, opaqueEvent(id, m.timeMS)
	default:
		e.Options = nil
	}
	return e
}

// opaqueEvent encodes an event of the unknown kind 20 with one key of its own.
func opaqueEvent(id checkpoint.MigrationID, timeMS uint64) []byte {
	b := append([]byte{0xA4, 1, 20, 2, 0x50}, id[:]...)
	b = binary.BigEndian.AppendUint64(append(b, 3, 0x1B), timeMS)
	return append(b, 22, 5)
}

// history returns n entries and their results, which a first replica has.
func (m *entryMaker) history(t testing.TB, r *migrationlog.Replica, n int) (entries []migrationlog.Entry, results []migrationlog.Applied) {
	for range n {
		e := m.make(t)
		applied, err := r.Apply([]migrationlog.Entry{e})
		require.NoError(t, err)
		entries, results = append(entries, e), append(results, applied...)
		if e.Event == nil && e.Opaque == nil {
			continue
		}
		for i := range 6 {
			row, _ := r.Store().Row(numberedID(i))
			m.last[numberedID(i)] = row.LastIndex
		}
	}
	return entries, results
}

// The digests depend on the entries, and not on the batches and the restarts.
func TestReplica_DigestsOfAnySplit(t *testing.T) {
	for seed := range uint64(3) {
		first := openReplica(t, filepath.Join(memDir(t), "log"), nil)
		maker := newEntryMaker(seed)
		entries, results := maker.history(t, first, 3000)
		want := first.Digest()
		require.Equal(t, entries[len(entries)-1].Index, want.Index)

		random := rand.New(rand.NewPCG(seed, 2))
		dir := filepath.Join(memDir(t), "log")
		r := openReplica(t, dir, nil)
		for at := 0; at < len(entries); {
			end := min(len(entries), at+1+random.IntN(400))
			begin := at - random.IntN(at+1)/4 // some entries come again
			begin = max(begin, 0)
			again := apply(t, r, entries[begin:end], random)
			for i, got := range again {
				wanted := results[begin+i]
				if got.Skipped {
					continue
				}
				require.Equal(t, wanted.Index, got.Index, begin+i)
				require.Equal(t, wanted.Receipt.Duplicate, got.Receipt.Duplicate)
				require.Equal(t, wanted.Receipt.Differs, got.Receipt.Differs)
				if wanted.Err == nil {
					require.NoError(t, got.Err)
				} else {
					require.EqualError(t, got.Err, wanted.Err.Error())
				}
			}
			at = end
			if random.IntN(2) == 0 {
				r = reopenReplica(t, r, dir)
			}
		}
		require.Equal(t, want, r.Digest())
		require.Equal(t, slices.Collect(first.Store().Rows())[0].LastIndex, slices.Collect(r.Store().Rows())[0].LastIndex)
		accepted := 0
		for _, result := range results {
			if result.Receipt.Appended() {
				accepted++
			}
		}
		require.Greater(t, accepted, 700)
	}
}
