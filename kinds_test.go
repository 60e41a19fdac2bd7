package migrationlog_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/replay"
)

// exampleOf returns an event of a kind, for a migration that is at CatchUp.
func exampleOf(t testing.TB, kind checkpoint.Kind, id checkpoint.MigrationID) checkpoint.Event {
	switch kind {
	case checkpoint.KindUpserted:
		return checkpoint.Upserted{Checkpoint: row(t, id, 1, catchUp)}
	case checkpoint.KindAborted:
		return checkpoint.Aborted{
			MigrationID: id, Reason: "node lost", TimestampMS: 7,
			Compensations: []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 9, PeerID: 3}},
		}
	case checkpoint.KindRemoved:
		return checkpoint.Removed{MigrationID: id, TimestampMS: 7}
	case checkpoint.KindAbortBegun:
		return checkpoint.AbortBegun{
			MigrationID: id, Reason: "node lost", TimestampMS: 7, Epoch: 3,
			Compensations: []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 9, PeerID: 3}},
		}
	case checkpoint.KindCompensated:
		return checkpoint.Compensated{MigrationID: id, Step: 0, TimestampMS: 7, Epoch: 3}
	case checkpoint.KindEpochRaised:
		return checkpoint.EpochRaised{MigrationID: id, TimestampMS: 7, Epoch: 3}
	case checkpoint.KindDigest:
		return checkpoint.Digest{State: [32]byte{1}, Chain: [32]byte{31: 2}, TimestampMS: 7, Epoch: 3}
	case checkpoint.KindRestored:
		comps := []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 9, PeerID: 3}}
		return checkpoint.Restored{Checkpoint: row(t, id, 1, catchUp), Epoch: 3, Facts: checkpoint.RestoredFacts{
			SourceNode: 5, TargetNode: 3, SourceGroup: 9, WritePauseBudgetUS: 1, StartedAtHLC: checkpoint.HLC{WallNS: 2, Logical: 4}, HasTarget: true, HasSource: true,
			FurthestPhase: checkpoint.PhaseCatchUp, RecordedPhases: 0b11, HighestAttempt: [6]uint32{2, 1}, Targets: []checkpoint.Target{{GroupID: 9, PeerID: 2}, {GroupID: 9, PeerID: 3}},
			Abort: &checkpoint.RestoredAbort{Reason: "node lost", Compensations: comps, Done: []bool{true}, TimestampMS: 6, BeforeCheckpoint: true},
		}}
	}
	t.Fatalf("kind %s has no example: a new kind needs one here", kind)
	return nil
}

// Every layer knows every kind of event: a new kind cannot be left out of one, nor be mistaken for
// the end of its migration.
func TestKinds_AreKnownToEveryLayer(t *testing.T) {
	id := checkpoint.NewMigrationID()
	format, err := os.ReadFile("docs/FORMAT.md")
	require.NoError(t, err)
	tool, err := os.ReadFile("docs/TOOL.md")
	require.NoError(t, err)
	for _, kind := range checkpoint.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			event := exampleOf(t, kind, id)
			require.Equal(t, kind, checkpoint.KindOf(event))

			body, err := checkpoint.EncodeEvent(event)
			require.NoError(t, err)
			decoded, err := checkpoint.DecodeEvent(body)
			require.NoError(t, err)
			require.Equal(t, event, decoded)
			peeked, migration, ok := checkpoint.Peek(body)
			require.True(t, ok)
			require.Equal(t, kind, peeked)
			require.Equal(t, event.Migration(), migration)

			record := replay.Record{Seq: 3, Event: event}
			require.Contains(t, replay.Kinds, record.Kind())
			require.NotContains(t, []replay.Kind{replay.KindUnknown, replay.KindDamage}, record.Kind())
			line, err := json.Marshal(record)
			require.NoError(t, err)
			var read replay.Record
			require.NoError(t, json.Unmarshal(line, &read))
			require.Equal(t, record, read)

			view := projection.New()
			view.Apply(1, 0, checkpoint.Upserted{Checkpoint: row(t, id, 0, catchUp)})
			view.Apply(2, view.Slot(event.Migration()).LastSeq(), event)
			require.Equal(t, kind.Effect() != checkpoint.EffectEnd, view.Len() == 1, "only an end removes the row")

			dir := filepath.Join(memDir(t), "log")
			s := open(t, dir, nil)
			upsert(t, s, id, 0, catchUp)
			_, err = s.WriteAll([]checkpoint.Event{event})
			require.NoError(t, err)
			require.Equal(t, view.All(), rowsOf(s))
			killed := copyDir(t, dir) // it has no snapshot: the opening reads both events
			require.NoError(t, s.Close())
			for _, dir := range []string{killed, dir} {
				s := open(t, dir, nil)
				require.Equal(t, view.All(), rowsOf(s))
				require.NoError(t, s.Close())
			}

			require.Contains(t, string(format), fmt.Sprintf("%d %s", kind, kind), "docs/FORMAT.md lists the kinds under key 1")
			require.Contains(t, string(tool), fmt.Sprintf(`"kind":"%s"`, record.Kind()), "docs/TOOL.md shows a line of each kind")
		})
	}
}

// rowsOf returns the store's rows.
func rowsOf(s *migrationlog.Store) []projection.Row {
	return slices.AppendSeq([]projection.Row{}, s.Rows())
}
