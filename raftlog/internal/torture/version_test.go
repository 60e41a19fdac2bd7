package torture

import (
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/internal/detcbor"
	"migrationlog/raftlog"
)

// entryOf returns the bytes of an entry with this version, these flags and this event, as
// docs/FORMAT.md describes them.
func entryOf(version, flags uint64, event []byte) []byte {
	if flags == 0 {
		b := detcbor.AppendUint(detcbor.AppendHead(nil, detcbor.MajorMap, 2), 1, version)
		return detcbor.AppendBytes(b, 3, event)
	}
	b := detcbor.AppendUint(detcbor.AppendHead(nil, detcbor.MajorMap, 3), 1, version)
	return detcbor.AppendBytes(detcbor.AppendUint(b, 2, flags), 3, event)
}

// laterEvent returns an event of a kind that this version does not know.
func laterEvent(t testing.TB, id checkpoint.MigrationID) []byte {
	b, err := checkpoint.EncodeEvent(checkpoint.Removed{MigrationID: id, TimestampMS: firstMS})
	require.NoError(t, err)
	require.Equal(t, byte(checkpoint.KindRemoved), b[2], "the kind is the value of the first key")
	b[2] = 23
	return b
}

// 8: a member stops at an entry of a version, or with an event, that it does not know, and names the
// version. It applies the entries before it, and none after it, also after a restart. An entry that is
// marked as having no effect on the state is recorded as it is. Every member does the same.
func TestRaft08_NewerVersion(t *testing.T) {
	t.Parallel()
	r := newRand(t)
	for name, test := range map[string]struct {
		entry   []byte
		version uint64
		opaque  bool
	}{
		"a later version":                                {entry: entryOf(2, 2, laterEvent(t, idOf(1, 3))), version: 2},
		"a later version of a known event":               {entry: entryOf(7, 2, bodyOf(t, 3)), version: 7},
		"a later event":                                  {entry: entryOf(1, 0, laterEvent(t, idOf(1, 3))), version: 1},
		"a later version without effect":                 {entry: entryOf(2, 1, laterEvent(t, idOf(1, 3))), opaque: true},
		"a later version without effect, with new flags": {entry: entryOf(2, 5, laterEvent(t, idOf(1, 3))), opaque: true},
	} {
		t.Run(name, func(t *testing.T) {
			all := newEntries(t, r)
			var logs []*raft.Log
			for n := range uint64(5) {
				logs = append(logs, all.upsert(n, checkpoint.PhaseAddLearner))
			}
			newer := all.raw(raft.LogCommand, test.entry)
			logs = append(logs, newer, all.upsert(3, checkpoint.PhaseCatchUp))
			dir := newDir(t)
			var digests [3]any
			for i, member := range []string{"a", "b", "c"} {
				var reason error
				opts := raftlog.Options{OnFailure: func(err error) { reason = err }}
				fsm := openFSM(t, filepath.Join(dir, member), opts)
				if i == 0 {
					fsm.ApplyBatch(logs)
				} else {
					apply(t, r, fsm, logs)
				}
				digests[i] = digestOf(fsm)
				require.Equal(t, digests[0], digests[i], "member %s", member)
				if test.opaque {
					require.NoError(t, reason)
					require.EqualValues(t, 1, fsm.Stats().Opaque)
					require.Equal(t, logs[6].Index, digestOf(fsm).Index)
					kept := readLog(t, member, filepath.Join(dir, member))
					require.Len(t, kept.bodies.Entries, 7)
					require.Equal(t, newer.Index, kept.bodies.Entries[5].Index)
					continue
				}
				var error *raftlog.NewerEntryError
				require.ErrorAs(t, reason, &error)
				require.Equal(t, newer.Index, error.Index)
				require.Equal(t, test.version, error.Version)
				require.ErrorIs(t, fsm.Health(), raftlog.ErrNewerEntry)
				require.Equal(t, logs[4].Index, digestOf(fsm).Index, "nothing after the entry is applied")
				_, err := fsm.Snapshot()
				require.Error(t, err, "raft must not discard the entry")
				require.NoError(t, fsm.Close())

				// A restart does not skip it either.
				reason = nil
				fsm = openFSM(t, filepath.Join(dir, member), opts)
				require.Equal(t, logs[4].Index, fsm.AppliedIndex())
				apply(t, r, fsm, logs[2:])
				require.ErrorIs(t, reason, raftlog.ErrNewerEntry)
				require.Equal(t, logs[4].Index, digestOf(fsm).Index)
			}
		})
	}
}

func bodyOf(t testing.TB, n uint64) []byte {
	b, err := checkpoint.EncodeEvent(checkpoint.Upserted{Checkpoint: upsertOf(idOf(1, n), checkpoint.PhaseCatchUp, uint32(n))})
	require.NoError(t, err)
	return b
}
