package migrationlog_test

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
)

// bodiesOf returns the bodies of all events of a log.
func bodiesOf(t testing.TB, dir string) (bodies [][]byte) {
	fsys := os.DirFS(dir)
	found, err := segment.ReadDirectory(fsys)
	require.NoError(t, err)
	for item, err := range segment.NewScan(fsys, found, segment.ScanOptions{}).Items() {
		require.NoError(t, err)
		require.Nil(t, item.Damage)
		bodies = append(bodies, bytes.Clone(item.Frame.Body))
	}
	return bodies
}

// A replica and a reader of its log compute the same digests. If a state is read again, its sum is
// computed from its rows.
func TestDigest_IsThatOfTheEvents(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		maker := newEntryMaker(rapid.Uint64().Draw(rt, "seed"))
		maker.next = rapid.SampledFrom([]uint64{1, 900, 1020, 5000}).Draw(rt, "index")
		dir := filepath.Join(memDir(t), "log")
		r := openReplica(t, dir, nil)
		maker.history(t, r, rapid.IntRange(1, 300).Draw(rt, "entries"))
		s, err := migrationlog.ReadState(bytes.NewReader(stateBytes(t, r.State())))
		require.NoError(t, err)
		require.Equal(t, r.Digest(), s.Digest())

		var chain [32]byte
		for _, body := range bodiesOf(t, dir) {
			e, _ := checkpoint.DecodeEvent(body)
			if d, ok := e.(checkpoint.Digest); ok {
				require.Equal(t, chain, d.Chain)
				continue
			}
			chain = sha256.Sum256(append(chain[:], body...))
		}
		require.Equal(t, chain, r.Digest().Chain)
		require.NoError(t, r.Close())
	})
}

// One entry that differs, is missing, is doubled or comes in another order gives another chain, also
// if the rows are the same.
func TestDigest_ChainOfOtherHistories(t *testing.T) {
	maker := newEntryMaker(3)
	first := openReplica(t, filepath.Join(memDir(t), "log"), nil)
	entries := []migrationlog.Entry{}
	for i := range 8 {
		c := row(t, numberedID(i), 0, payloadOf(checkpoint.PhaseAddLearner, uint32(i), 2))
		entries = append(entries, migrationlog.Entry{Index: uint64(i + 1), Term: 1, Event: checkpoint.Upserted{Checkpoint: c}})
	}
	last := migrationlog.Entry{Index: 10, Term: 1, Options: []migrationlog.WriteOption{migrationlog.Confirm()}}
	last.Event = checkpoint.Upserted{Checkpoint: row(t, numberedID(7), 0, payloadOf(checkpoint.PhaseCatchUp, 7, 2))}
	again := last
	again.Index = 11
	apply(t, first, append(entries, last, again), maker.random)
	want := first.Digest()

	differs := func(name string, sameState bool, entries ...migrationlog.Entry) {
		other := openReplica(t, filepath.Join(memDir(t), "log"), nil)
		apply(t, other, entries, nil)
		got := other.Digest()
		require.Equal(t, want.Index, got.Index, name)
		require.Equal(t, sameState, want.State == got.State, name)
		require.NotEqual(t, want.Chain, got.Chain, name)
	}
	doubled := last
	doubled.Index = 9
	differs("doubled", true, append(entries, doubled, last, again)...)
	differs("missing", true, append(entries, again)...)
	other := last
	other.Event = checkpoint.Upserted{Checkpoint: row(t, numberedID(7), 1, payloadOf(checkpoint.PhaseCatchUp, 7, 2))}
	differs("differs", false, append(entries, other, again)...)
	swapped := append([]migrationlog.Entry{}, entries...)
	swapped[0].Event, swapped[1].Event = swapped[1].Event, swapped[0].Event
	differs("swapped", false, append(swapped, last, again)...)
	shifted := last
	shifted.Index = 9
	differs("at another index", true, append(entries, shifted, again)...)
}

// kindsAt returns the index and the kind of each event.
func kindsAt(t testing.TB, dir string) (kinds []string, indexes []uint64) {
	for _, body := range bodiesOf(t, dir) {
		kind, _ := checkpoint.PeekKind(body)
		index, _ := checkpoint.PositionOf(body)
		kinds, indexes = append(kinds, kind.String()), append(indexes, index)
	}
	return kinds, indexes
}

func removedAt(index uint64) migrationlog.Entry {
	e := migrationlog.Entry{Index: index, Term: 1, Event: checkpoint.Removed{MigrationID: numberedID(99), TimestampMS: index}}
	e.Options = []migrationlog.WriteOption{migrationlog.Confirm()}
	return e
}

// A digest event is before the first entry at or above each multiple of 1024, on each member, wherever
// a member was restarted or recorded its index.
func TestDigest_EventsAtIntervals(t *testing.T) {
	for name, test := range map[string]struct {
		entries []migrationlog.Entry
		record  map[int]bool // before the entry with this number
		want    []uint64     // the indexes of the digest events, with that of Close
	}{
		"every index":         {[]migrationlog.Entry{removedAt(1022), removedAt(1023), removedAt(1024), removedAt(1025)}, nil, []uint64{1023}},
		"the index before":    {[]migrationlog.Entry{removedAt(1022), removedAt(1024)}, nil, []uint64{1023}},
		"far above":           {[]migrationlog.Entry{removedAt(5), removedAt(5000), removedAt(5001)}, nil, []uint64{1023}},
		"the first":           {[]migrationlog.Entry{removedAt(2000), removedAt(2047), removedAt(2048)}, nil, []uint64{2047}},
		"recorded at the end": {[]migrationlog.Entry{removedAt(1), {Index: 1023, Term: 1}, removedAt(1024)}, map[int]bool{2: true}, []uint64{1023}},
		"recorded twice":      {[]migrationlog.Entry{removedAt(1), {Index: 7, Term: 1}, {Index: 9, Term: 1}, removedAt(1024)}, map[int]bool{2: true, 3: true}, []uint64{7, 9, 1023}},
		"recorded event":      {[]migrationlog.Entry{removedAt(1), removedAt(1023), removedAt(1024)}, map[int]bool{1: true, 2: true}, []uint64{1023}},
		"closed":              {[]migrationlog.Entry{removedAt(1), {Index: 3, Term: 1}}, nil, []uint64{3}},
		"no event":            {[]migrationlog.Entry{{Index: 3, Term: 1}, {Index: 1024, Term: 1}, {Index: 1025, Term: 1}}, nil, []uint64{1023, 1025}},
	} {
		for _, restart := range []bool{false, true} {
			dir := filepath.Join(memDir(t), "log")
			r := openReplica(t, dir, nil)
			for i, e := range test.entries {
				if test.record[i] {
					require.NoError(t, r.Record())
				}
				apply(t, r, []migrationlog.Entry{e}, nil)
				if restart && e.Event != nil {
					r = reopenReplica(t, r, dir)
				}
			}
			require.NoError(t, r.Close())
			kinds, indexes := kindsAt(t, dir)
			var got []uint64
			for i, kind := range kinds {
				if kind == "digest" {
					got = append(got, indexes[i])
				}
			}
			require.Equal(t, test.want, got, "%s, restart %v", name, restart)
			reopened := openReplica(t, dir, nil)
			require.Equal(t, r.Digest(), reopened.Digest(), name)
			require.Equal(t, indexes[len(indexes)-1], reopened.AppliedIndex())
		}
	}
}

// A crash can be between a digest event and the event after it, which were written together. The digest
// event is then not written again.
func TestDigest_CrashAfterDigestEvent(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	r := openReplica(t, dir, nil)
	apply(t, r, []migrationlog.Entry{removedAt(1020), {Index: 1022, Term: 1}}, nil)
	cut := copyDir(t, dir) // as after a crash
	apply(t, r, []migrationlog.Entry{removedAt(1024)}, nil)
	want := r.Digest()

	// The second event of the batch is missing.
	before, after := copyDir(t, dir), filepath.Join(dir, "wal", firstSegment)
	b, err := os.ReadFile(after)
	require.NoError(t, err)
	frames := bodiesOf(t, dir)
	require.Len(t, frames, 3)
	at := bytes.Index(b, frames[2])
	require.NoError(t, os.WriteFile(filepath.Join(before, "wal", firstSegment), b[:at-segment.HeaderBytes-1], 0o600))
	for _, name := range []string{segment.WatermarkName, segment.WatermarkCopyName} {
		m, err := segment.ReadDirectory(os.DirFS(before))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(before, name), segment.AppendWatermark(nil, m.Manifest.UUID, 2), 0o600))
	}
	torn := openReplica(t, before, nil)
	require.EqualValues(t, 1023, torn.AppliedIndex())
	results := apply(t, torn, []migrationlog.Entry{removedAt(1020), {Index: 1022, Term: 1}, removedAt(1024)}, nil)
	require.Equal(t, []bool{true, true, false}, []bool{results[0].Skipped, results[1].Skipped, results[2].Skipped})
	require.Equal(t, want, torn.Digest())
	kinds, _ := kindsAt(t, before)
	require.Equal(t, []string{"removed", "digest", "removed"}, kinds)

	// The whole batch is missing, and the applied index is that of the last event.
	lost := openReplica(t, cut, nil)
	require.EqualValues(t, 1020, lost.AppliedIndex())
	apply(t, lost, []migrationlog.Entry{{Index: 1022, Term: 1}, removedAt(1024)}, nil)
	require.Equal(t, want, lost.Digest())
}
