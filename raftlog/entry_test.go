package raftlog

import (
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
)

var (
	testID    = checkpoint.MigrationID{15: 7}
	testComps = []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 20, PeerID: 3, VShardID: 2}}
)

func testCheckpoint(t testing.TB) checkpoint.Checkpoint {
	c, err := checkpoint.New(testID, 1, checkpoint.AddLearner{VShardID: 2, SourceNode: 1, TargetNode: 3, SourceGroup: 20}, 1700000000000)
	require.NoError(t, err)
	return c
}

// testEvents returns one event of each kind that can be proposed.
func testEvents(t testing.TB) []checkpoint.Event {
	return []checkpoint.Event{
		checkpoint.Upserted{Checkpoint: testCheckpoint(t)},
		checkpoint.Aborted{MigrationID: testID, Reason: "stale", Compensations: testComps, TimestampMS: 5},
		checkpoint.Removed{MigrationID: testID, TimestampMS: 6},
		checkpoint.AbortBegun{MigrationID: testID, Reason: "stale", Compensations: testComps, TimestampMS: 7},
		checkpoint.Compensated{MigrationID: testID, Step: 1, TimestampMS: 8},
	}
}

// encodeMap encodes an entry with another encoder than the code under test.
func encodeMap(t testing.TB, m map[uint64]any) []byte {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	require.NoError(t, err)
	b, err := mode.Marshal(m)
	require.NoError(t, err)
	return b
}

func encodeEvent(t testing.TB, e checkpoint.Event) []byte {
	b, err := checkpoint.EncodeEvent(e)
	require.NoError(t, err)
	return b
}

// unknownEvent returns an event of a kind of a later version.
func unknownEvent(t testing.TB, more ...uint64) []byte {
	m := map[uint64]any{1: 200, 2: testID[:], 3: 9}
	for _, key := range more {
		m[key] = 4
	}
	return encodeMap(t, m)
}

// An entry has the form of docs/FORMAT.md, and is decoded to what was proposed.
func TestEntry_Form(t *testing.T) {
	for _, event := range testEvents(t) {
		_, upserts := event.(checkpoint.Upserted)
		t.Run(checkpoint.KindOf(event).String(), func(t *testing.T) {
			plain := map[uint64]any{1: 1, 3: encodeEvent(t, event)}
			b, err := EncodeEntry(event)
			require.NoError(t, err)
			require.Equal(t, encodeMap(t, plain), b)

			opts := []Option{IfIndex(0), InOrder(), Confirm(), Term(300)}
			want := map[uint64]any{1: 1, 3: encodeEvent(t, event), 4: 0, 5: 0b1010, 6: 300}
			if upserts {
				opts = append(opts, Strict(), IfVShardFree())
				want[5] = 0b1111
			}
			b, err = EncodeEntry(event, opts...)
			require.NoError(t, err)
			require.Equal(t, encodeMap(t, want), b)

			e, err := decodeEntry(b, nil)
			require.NoError(t, err)
			require.Equal(t, event, e.event)
			require.Nil(t, e.opaque)
			require.True(t, e.hasIndex)
			require.Zero(t, e.index)
			require.EqualValues(t, want[5], e.guards)
			require.EqualValues(t, 300, e.epoch)
			require.Len(t, e.writeOptions(), len(opts))
		})
	}
}

// goldenEntry is an entry of version 1. It is also in docs/FORMAT.md.
const goldenEntry = "a4" + "0101" + "035819a4" + "0105" + "0250" + "00000000000000000000000000000007" + "0308" + "0a01" + "041903e8" + "0602"

// The bytes of an entry never change, because they are in the logs of all members.
func TestEntry_Golden(t *testing.T) {
	b, err := EncodeEntry(checkpoint.Compensated{MigrationID: testID, Step: 1, TimestampMS: 8}, IfIndex(1000), Term(2))
	require.NoError(t, err)
	require.Equal(t, goldenEntry, hex.EncodeToString(b))
}

// Bytes that no Proposer writes are malformed.
func TestEntry_Malformed(t *testing.T) {
	removed := encodeEvent(t, checkpoint.Removed{MigrationID: testID, TimestampMS: 6})
	late := encodeEvent(t, checkpoint.Removed{MigrationID: testID, TimestampMS: checkpoint.MaxTimestampMS + 1})
	valid := encodeMap(t, map[uint64]any{1: 1, 3: removed})
	for name, b := range map[string][]byte{
		"nothing":                       nil,
		"text":                          []byte("set x = 1"),
		"an event without an entry":     removed,
		"cut short":                     valid[:len(valid)-1],
		"more bytes":                    append(append([]byte(nil), valid...), 0),
		"no version":                    encodeMap(t, map[uint64]any{3: removed}),
		"version 0":                     encodeMap(t, map[uint64]any{1: 0, 3: removed}),
		"no event":                      encodeMap(t, map[uint64]any{1: 1}),
		"a later version, no event":     encodeMap(t, map[uint64]any{1: 2}),
		"an empty event":                encodeMap(t, map[uint64]any{1: 1, 3: []byte{}}),
		"an event that is a text":       encodeMap(t, map[uint64]any{1: 1, 3: "removed"}),
		"a longer head":                 append([]byte{0xb8, 2}, valid[1:]...),
		"keys in another order":         append(append([]byte{0xa2}, valid[3:]...), 1, 1),
		"an unknown key":                encodeMap(t, map[uint64]any{1: 1, 3: removed, 7: 1}),
		"an unknown guard":              encodeMap(t, map[uint64]any{1: 1, 3: removed, 5: 16}),
		"an unknown flag":               encodeMap(t, map[uint64]any{1: 1, 2: 2, 3: unknownEvent(t)}),
		"the guards 0":                  encodeMap(t, map[uint64]any{1: 1, 3: removed, 5: 0}),
		"the flags 0":                   encodeMap(t, map[uint64]any{1: 1, 2: 0, 3: removed}),
		"the epoch 0":                   encodeMap(t, map[uint64]any{1: 1, 3: removed, 6: 0}),
		"no effect, but a known event":  encodeMap(t, map[uint64]any{1: 1, 2: 1, 3: removed}),
		"a guard that does not apply":   encodeMap(t, map[uint64]any{1: 1, 3: removed, 5: guardStrict}),
		"another that does not apply":   encodeMap(t, map[uint64]any{1: 1, 3: removed, 5: guardIfVShardFree}),
		"an event with an epoch":        encodeMap(t, map[uint64]any{1: 1, 3: checkpoint.AppendEpoch(append([]byte(nil), removed...), 3)}),
		"an event with an index":        encodeMap(t, map[uint64]any{1: 1, 3: checkpoint.AppendPosition(append([]byte(nil), removed...), 3, 1)}),
		"a raised epoch":                encodeMap(t, map[uint64]any{1: 1, 3: encodeEvent(t, checkpoint.EpochRaised{MigrationID: testID, Epoch: 3})}),
		"a digest":                      encodeMap(t, map[uint64]any{1: 1, 3: checkpoint.AppendPosition(encodeEvent(t, checkpoint.Digest{}), 3, 1)}),
		"the reserved id":               encodeMap(t, map[uint64]any{1: 1, 3: encodeMap(t, map[uint64]any{1: 5, 2: checkpoint.StoreID[:], 3: 1, 10: 0})}),
		"the id 0":                      encodeMap(t, map[uint64]any{1: 1, 3: encodeMap(t, map[uint64]any{1: 3, 2: make([]byte, 16), 3: 1})}),
		"a timestamp in microseconds":   encodeMap(t, map[uint64]any{1: 1, 3: late}),
		"an event that is not an event": encodeMap(t, map[uint64]any{1: 1, 3: []byte("removed")}),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeEntry(b, nil)
			require.ErrorIs(t, err, ErrMalformed)
			require.NotErrorIs(t, err, ErrNewerEntry)
		})
	}
}

// An entry of a later version is recorded only if its flags mark it as having no effect.
func TestEntry_LaterVersion(t *testing.T) {
	removed := encodeEvent(t, checkpoint.Removed{MigrationID: testID, TimestampMS: 6})
	for name, test := range map[string]struct {
		entry   map[uint64]any
		version uint64 // for which a member stops; 0: the entry is opaque
	}{
		"another version":                         {map[uint64]any{1: 2, 3: removed}, 2},
		"with unknown keys":                       {map[uint64]any{1: 1000, 3: removed, 9: "x", 70: []int{1}}, 1000},
		"with an event of an unknown kind":        {map[uint64]any{1: 2, 3: unknownEvent(t)}, 2},
		"with an event that this one cannot read": {map[uint64]any{1: 2, 2: 1, 3: []byte("x")}, 2},
		"no effect, but a kind that has one":      {map[uint64]any{1: 2, 2: 1, 3: removed}, 2},
		"no effect, but an epoch":                 {map[uint64]any{1: 2, 2: 1, 3: unknownEvent(t, 11)}, 2},
		"this version, an unknown kind":           {map[uint64]any{1: 1, 3: unknownEvent(t)}, 1},
		"no effect":                               {map[uint64]any{1: 2, 2: 1, 3: unknownEvent(t)}, 0},
		"no effect, and more flags and keys":      {map[uint64]any{1: 3, 2: 5, 3: unknownEvent(t, 20), 8: 1}, 0},
		"no effect in this version":               {map[uint64]any{1: 1, 2: 1, 3: unknownEvent(t)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := decodeEntry(encodeMap(t, test.entry), nil)
			if test.version == 0 {
				require.NoError(t, err)
				require.Equal(t, test.entry[3], e.opaque)
				require.Nil(t, e.event)
				return
			}
			var newer *NewerEntryError
			require.ErrorAs(t, err, &newer)
			require.ErrorIs(t, err, ErrNewerEntry)
			require.Equal(t, test.version, newer.Version)
			require.Contains(t, newer.Error(), fmt.Sprintf("version %d", test.version))
			require.NotErrorIs(t, err, ErrMalformed)
		})
	}
}

// A proposal that all members would refuse is not written to raft's log.
func TestEncodeEntry_Invalid(t *testing.T) {
	removed := checkpoint.Removed{MigrationID: testID, TimestampMS: 6}
	broken := testCheckpoint(t)
	broken.CRC32C++
	for name, test := range map[string]struct {
		event checkpoint.Event
		opts  []Option
		want  error
	}{
		"nil":                  {nil, nil, migrationlog.ErrInvalid},
		"no id":                {checkpoint.Removed{TimestampMS: 6}, nil, checkpoint.ErrNilMigrationID},
		"the reserved id":      {checkpoint.Compensated{MigrationID: checkpoint.StoreID}, nil, checkpoint.ErrReservedID},
		"a pointer":            {&removed, nil, migrationlog.ErrInvalid},
		"another checksum":     {checkpoint.Upserted{Checkpoint: broken}, nil, checkpoint.ErrCRCMismatch},
		"an epoch":             {checkpoint.Removed{MigrationID: testID, Epoch: 4}, nil, migrationlog.ErrInvalid},
		"an event of a store":  {checkpoint.EpochRaised{MigrationID: testID, Epoch: 4}, nil, migrationlog.ErrInvalid},
		"the year 10000":       {checkpoint.Removed{MigrationID: testID, TimestampMS: checkpoint.MaxTimestampMS + 1}, nil, migrationlog.ErrInvalid},
		"a reason of 64 KiB":   {checkpoint.Aborted{MigrationID: testID, Reason: string(make([]byte, 1<<16))}, nil, migrationlog.ErrTooLarge},
		"term 0":               {removed, []Option{Term(0)}, migrationlog.ErrInvalid},
		"strict removal":       {removed, []Option{Strict()}, migrationlog.ErrInvalid},
		"removal, vShard free": {removed, []Option{IfVShardFree()}, migrationlog.ErrInvalid},
		"a timestamp":          {removed, []Option{WithTimestamp(3)}, migrationlog.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := EncodeEntry(test.event, test.opts...)
			require.ErrorIs(t, err, test.want)
			require.True(t, errors.Is(err, migrationlog.ErrInvalid) != errors.Is(err, migrationlog.ErrTooLarge))
		})
	}
	_, err := EncodeEntry(removed, nil, IfIndex(1<<64-1)) // a nil Option changes nothing
	require.NoError(t, err)
}

// Every entry that is accepted has exactly one encoding.
func FuzzDecodeEntry(f *testing.F) {
	for _, event := range testEvents(f) {
		b, err := EncodeEntry(event, IfIndex(3), Term(2), Confirm())
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add(encodeMap(f, map[uint64]any{1: 2, 2: 1, 3: unknownEvent(f)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEntry(b, nil)
		switch {
		case err != nil:
			require.True(t, errors.Is(err, ErrMalformed) != errors.Is(err, ErrNewerEntry), err)
		case e.opaque == nil:
			again, err := e.encode()
			require.NoError(t, err)
			require.Equal(t, b, again)
		}
	})
}
