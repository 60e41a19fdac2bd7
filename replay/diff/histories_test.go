package diff_test

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
	"migrationlog/replay/diff"
)

// upsert is an entry with the first checkpoint of migration n.
func upsert(t *testing.T, n uint32, p checkpoint.Payload) checkpoint.Event {
	id := checkpoint.MigrationID{1}
	binary.BigEndian.PutUint32(id[12:], n)
	c, err := checkpoint.New(id, 0, p, base+uint64(n))
	require.NoError(t, err)
	return checkpoint.Upserted{Checkpoint: c}
}

func added(t *testing.T, n uint32) checkpoint.Event {
	return upsert(t, n, checkpoint.AddLearner{VShardID: n % 64, SourceNode: 1, TargetNode: 2, SourceGroup: 7})
}

func ended(n uint32) checkpoint.Event {
	id := checkpoint.MigrationID{1}
	binary.BigEndian.PutUint32(id[12:], n)
	return checkpoint.Aborted{MigrationID: id, Reason: "no reason", TimestampMS: base + uint64(n)}
}

// fill applies the same entries to all members: each second one ends the move before it.
func fill(t *testing.T, through uint64, members ...*member) {
	for _, m := range members {
		for m.index < through {
			n := uint32(m.index + 1)
			if n%2 == 0 {
				m.apply(ended(n - 1))
			} else {
				m.apply(added(t, n))
			}
		}
	}
}

func histories(t *testing.T, a, b *member) diff.Histories {
	h, _, err := diff.CompareHistories(t.Context(), open(t, a.close()), open(t, b.close()))
	require.NoError(t, err)
	return h
}

const smallSegment = 16 << 10

// Members with the same entries have the same history, whatever their ends and their segments.
func TestHistories_Same(t *testing.T) {
	a, b := newMember(t, smallSegment, nil), newMember(t, 100<<10, nil)
	fill(t, 5000, a, b)
	fill(t, 7000, b)
	for _, h := range []diff.Histories{histories(t, a, b), histories(t, b, a)} {
		require.Equal(t, diff.Same, h.Agreement)
		require.EqualValues(t, 5000, h.SameThrough)
		require.EqualValues(t, 5000, h.Through)
		require.EqualValues(t, 4095, h.StatesAt)
		require.EqualValues(t, 4095, h.DigestsThrough)
		require.True(t, h.StatesEqual)
		require.Less(t, h.Events, 2000, "only the events after the last common digest are compared")
	}
}

// The first difference is found at each position relative to the digests, and at both ends.
func TestHistories_FirstDifference(t *testing.T) {
	for _, at := range []uint64{1, 2, 1022, 1023, 1024, 1025, 2047, 2048, 3000, 4999, 5000} {
		a, b := newMember(t, smallSegment, nil), newMember(t, 5<<10, nil)
		fill(t, at-1, a, b)
		a.apply(added(t, 900_000))
		b.apply(added(t, 900_001))
		fill(t, 5000, a, b)
		h := histories(t, a, b)
		require.Equal(t, diff.Differs, h.Agreement, at)
		require.Equal(t, at, h.Index)
		require.Equal(t, at-1, h.SameThrough)
		for i, n := range []uint32{900_000, 900_001} {
			require.Equal(t, added(t, n), h.Members[i].Event.Event, at)
			require.Equal(t, at, h.Members[i].Event.RaftIndex)
		}
		require.Equal(t, at > h.StatesAt, h.StatesEqual)
	}
}

// An entry that appended an event on one member only is a difference, and so is another term.
func TestHistories_MissingEvent(t *testing.T) {
	a, b := newMember(t, smallSegment, nil), newMember(t, smallSegment, nil)
	fill(t, 2100, a, b)
	a.skip(1)
	fill(t, 4000, a, b)
	h := histories(t, a, b)
	require.Equal(t, diff.Differs, h.Agreement)
	require.EqualValues(t, 2101, h.Index)
	require.Nil(t, h.Members[0].Event)
	require.NotNil(t, h.Members[1].Event)

	a, b = newMember(t, smallSegment, nil), newMember(t, smallSegment, nil)
	b.term = 2
	fill(t, 10, a, b)
	h = histories(t, a, b)
	require.EqualValues(t, 1, h.Index)
	require.Equal(t, h.Members[0].Event.Event, h.Members[1].Event.Event)
	require.EqualValues(t, 2, h.Members[1].Event.RaftTerm)
}

// Two states can become equal again. The chained digests still differ.
func TestHistories_EqualAgain(t *testing.T) {
	a, b := newMember(t, smallSegment, nil), newMember(t, smallSegment, nil)
	fill(t, 2100, a, b)
	a.apply(added(t, 900_000))
	a.apply(ended(900_000))
	b.skip(2)
	fill(t, 9000, a, b)
	h := histories(t, a, b)
	require.Equal(t, diff.Differs, h.Agreement)
	require.EqualValues(t, 2101, h.Index)
	require.EqualValues(t, 8191, h.StatesAt)
	require.True(t, h.StatesEqual)
}

// The number of digests that are looked up grows with the logarithm of the number of events.
func TestHistories_Logarithmic(t *testing.T) {
	const events = 100_000
	for _, at := range []uint64{50, 49_000, 99_990} {
		a, b := newMember(t, 256<<10, nil), newMember(t, 256<<10, nil)
		fill(t, at, a, b)
		b.skip(1)
		fill(t, events, a, b)
		h := histories(t, a, b)
		require.EqualValues(t, at+1, h.Index)
		require.LessOrEqual(t, float64(h.DigestReads), 2*math.Log2(events), at)
		require.Less(t, h.Events, 2*digestEvery, at)
	}
}

// The history before the beginning of a member's log is not kept. It is never called different, but
// the chained digest proves whether it is the same.
func TestHistories_NotKept(t *testing.T) {
	a, b := newMember(t, smallSegment, nil), newMember(t, smallSegment, nil)
	fill(t, 3000, a, b)
	c := newMember(t, smallSegment, &segment.History{Index: 3000, Term: 1, Origin: segment.OriginRestored})
	c.restoreFrom(b, base+3000)
	fill(t, 6000, a, c)
	for _, h := range []diff.Histories{histories(t, a, c), histories(t, c, a)} {
		require.Equal(t, diff.Same, h.Agreement)
		require.EqualValues(t, 6000, h.SameThrough)
	}

	fill(t, 2500, a)
	d := newMember(t, smallSegment, nil)
	fill(t, 2500, d)
	d.skip(1)
	fill(t, 6500, d)
	for i, h := range []diff.Histories{histories(t, d, c), histories(t, c, d)} {
		require.Equal(t, diff.NotKept, h.Agreement)
		require.EqualValues(t, 3000, h.DiffersAt)
		require.Zero(t, h.Index)
		require.EqualValues(t, 3000, h.Members[1-i].Begin.Index)
		require.Equal(t, uint64(base+3000), h.Members[1-i].Begin.TimeMS)
	}

	e := newMember(t, smallSegment, nil) // differs after the beginning
	fill(t, 3100, e)
	e.skip(1)
	fill(t, 6000, e)
	h := histories(t, c, e)
	require.Equal(t, diff.Differs, h.Agreement)
	require.EqualValues(t, 3101, h.Index)

	short := newMember(t, smallSegment, nil)
	fill(t, 2000, short)
	require.Equal(t, diff.Apart, histories(t, short, c).Agreement)
}

// In the log of a, all events before the beginning of c are damaged, up to the length prefix of the
// event at that index. A difference there could not be proved.
func TestHistories_DamagedUpToTheBeginning(t *testing.T) {
	for last := uint64(1); last <= 12; last++ {
		a, b := newMember(t, smallSegment, nil), newMember(t, smallSegment, nil)
		fill(t, 10, a, b)
		c := newMember(t, smallSegment, &segment.History{Index: 10, Term: 1, Origin: segment.OriginRestored})
		c.restoreFrom(b, base+10)
		fill(t, 13, a, c)
		file := filepath.Join(a.close(), segment.WALDir, segment.Name(1))
		a.damaged = true
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		end := 0
		segment.Walk(data, a.manifest.UUID, 1, func(h segment.Header, frame []byte) {
			if h.Seq <= last {
				end += segment.EntryBytes(len(frame))
			}
		})
		clear(data[min(end, 60) : end+1])
		require.NoError(t, os.WriteFile(file, data, 0o600))
		require.NotEqual(t, diff.Differs, histories(t, a, c).Agreement, last)
		require.NotEqual(t, diff.Differs, histories(t, c, a).Agreement, last)
	}
}

// A lost event is no difference. If the only difference is lost, Agreement is Unknown.
func TestHistories_Lost(t *testing.T) {
	build := func() (a, b *member) {
		a, b = newMember(t, smallSegment, nil), newMember(t, smallSegment, nil)
		fill(t, 2100, a, b)
		b.apply(added(t, 900_000))
		a.skip(1)
		fill(t, 5000, a, b)
		return a, b
	}
	seqOf := func(m *member, index uint64) uint64 { return index + index/digestEvery }

	a, b := build()
	b.damage(seqOf(b, 2101)) // the only difference
	h := histories(t, a, b)
	require.Equal(t, diff.Unknown, h.Agreement)
	require.EqualValues(t, 2047, h.SameThrough)
	require.EqualValues(t, 3071, h.DiffersAt)
	require.Len(t, h.Members[1].Lost, 1)

	a, b = build()
	b.damage(seqOf(b, 2090)) // before the difference
	h = histories(t, a, b)
	require.Equal(t, diff.Differs, h.Agreement)
	require.EqualValues(t, 2101, h.Index)
	require.EqualValues(t, 1, h.Members[1].Unmatched)
	require.EqualValues(t, 2047, h.SameThrough, "the lost event may have differed")

	a, b = build()
	b.damage(3072 + 2) // the digest at 3071
	h = histories(t, a, b)
	require.EqualValues(t, 2101, h.Index)
	require.EqualValues(t, 4095, h.DiffersAt)

	a, b = newMember(t, smallSegment, nil), newMember(t, smallSegment, nil)
	fill(t, 5000, a, b)
	b.damage(seqOf(b, 5000-1))
	h = histories(t, a, b)
	require.Equal(t, diff.Same, h.Agreement)
	require.EqualValues(t, 1, h.Members[1].Unmatched)
}

// A log that a Store wrote has no positions.
func TestHistories_NoPositions(t *testing.T) {
	a := newMember(t, smallSegment, nil)
	fill(t, 10, a)
	plain := smallLog(t)
	_, _, err := diff.CompareHistories(t.Context(), open(t, a.close()), open(t, plain))
	require.ErrorIs(t, err, replay.ErrNoPositions)
}
