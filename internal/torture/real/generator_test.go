package real_test

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
)

// generator generates events. A generator never generates two equal events, and two generators with
// different origins have no event in common.
type generator struct {
	r         *rand.Rand
	clock     uint64 // timestamp of the last event; it makes each event unique
	longEvery int    // on average, one abort in longEvery has a long reason; if it is 0, none has
}

func newGenerator(r *rand.Rand, origin uint64) *generator {
	return &generator{r: r, clock: origin << 32}
}

func (a *generator) id() checkpoint.MigrationID {
	return checkpoint.MigrationID{byte(1 + a.r.IntN(8))}
}

func (a *generator) event() checkpoint.Event {
	a.clock++
	epoch := uint64(0)
	if a.r.IntN(8) == 0 {
		epoch = 1 + a.r.Uint64N(9)
	}
	switch k := a.r.IntN(24); {
	case k < 3:
		return checkpoint.Aborted{MigrationID: a.id(), Reason: a.reason(), TimestampMS: a.clock, Compensations: a.compensations(), Epoch: epoch}
	case k < 5:
		return checkpoint.Removed{MigrationID: a.id(), TimestampMS: a.clock, Epoch: epoch}
	case k < 6:
		return checkpoint.AbortBegun{MigrationID: a.id(), Reason: a.reason(), TimestampMS: a.clock, Compensations: a.compensations(), Epoch: epoch}
	case k < 8:
		return checkpoint.Compensated{MigrationID: a.id(), Step: a.r.Uint32N(3), TimestampMS: a.clock, Epoch: epoch}
	case k < 9:
		return checkpoint.EpochRaised{MigrationID: a.id(), TimestampMS: a.clock, Epoch: max(epoch, 1)}
	}
	u := a.upsert().(checkpoint.Upserted)
	u.Epoch = epoch
	return u
}

func (a *generator) upsert() checkpoint.Event {
	n := a.r.Uint64N(1 << uint(1+a.r.IntN(60)))
	payloads := []checkpoint.Payload{
		checkpoint.AddLearner{VShardID: uint32(n), SourceNode: n, TargetNode: n / 2, SourceGroup: n / 3},
		checkpoint.CatchUp{VShardID: uint32(n), LearnerLogIndexAtAdd: n},
		checkpoint.PromoteLearner{VShardID: uint32(n), TargetNode: n},
		checkpoint.LeadershipTransfer{NewLeaderNodeID: n, SourceGroup: n},
		checkpoint.Cutover{NewLeaderNodeID: n},
		checkpoint.Complete{ActualPauseUS: n, GhostStubInstalled: true},
	}
	c, err := checkpoint.New(a.id(), a.r.Uint32N(1000), payloads[a.r.IntN(len(payloads))], a.clock)
	if err != nil {
		panic(err) // cannot happen: the checkpoint is valid
	}
	return checkpoint.Upserted{Checkpoint: c}
}

func (a *generator) reason() string {
	sizeBytes := a.r.IntN(60)
	if a.longEvery > 0 && a.r.IntN(a.longEvery) == 0 {
		sizeBytes = a.r.IntN(40_000)
	}
	return strings.Repeat("unreachable ", sizeBytes/12)
}

func (a *generator) compensations() []checkpoint.Compensation {
	if a.r.IntN(2) == 0 {
		return nil
	}
	return []checkpoint.Compensation{
		{Kind: checkpoint.RemoveVoter, GroupID: a.r.Uint64N(100), PeerID: 3},
		{Kind: checkpoint.RestoreLeaderHint, GroupID: 9, PeerID: a.r.Uint64N(100)},
	}
}

// write passes the event to the store. An abort under way refuses some events, and changes an abort.
// WriteAll accepts every event as it is.
func write(s *migrationlog.Store, event checkpoint.Event) (migrationlog.Receipt, error) {
	if u, ok := event.(checkpoint.Upserted); ok && u.Epoch == 0 {
		receipt, err := s.Upsert(u.Checkpoint)
		if !errors.Is(err, migrationlog.ErrAborting) {
			return receipt, err
		}
	}
	return writeAll(s, event)
}

// writeAll writes an event of any kind.
func writeAll(s *migrationlog.Store, event checkpoint.Event) (migrationlog.Receipt, error) {
	receipts, err := s.WriteAll([]checkpoint.Event{event})
	if err != nil {
		return migrationlog.Receipt{}, err
	}
	return receipts[0], nil
}

// ends reports whether a migration has no row after the event.
func ends(e checkpoint.Event) bool { return checkpoint.KindOf(e).Effect() == checkpoint.EffectEnd }

// body returns the encoded event, as a frame contains it.
func body(e checkpoint.Event) string {
	b, err := checkpoint.EncodeEvent(e)
	if err != nil {
		panic(err) // cannot happen: all generated events are valid
	}
	return string(b)
}

// bodies returns the bodies of the intact frames of a log, by their numbers.
func bodies(t testing.TB, dir string) map[uint64]string {
	fsys := os.DirFS(dir)
	held, err := segment.ReadDirectory(fsys)
	require.NoError(t, err)
	found := map[uint64]string{}
	for item, err := range segment.NewScan(fsys, held, segment.ScanOptions{}).Items() {
		require.NoError(t, err)
		if item.Damage == nil {
			require.NotContains(t, found, item.Frame.Seq)
			found[item.Frame.Seq] = string(item.Frame.Body)
		}
	}
	return found
}

// rowsOf applies the events in the order of their numbers and returns the resulting rows.
func rowsOf(t testing.TB, found map[uint64]string) map[checkpoint.MigrationID]checkpoint.Checkpoint {
	rows := map[checkpoint.MigrationID]checkpoint.Checkpoint{}
	for seq := uint64(1); seq <= lastOf(found); seq++ {
		b, ok := found[seq]
		if !ok {
			continue
		}
		event, err := checkpoint.DecodeEvent([]byte(b))
		require.NoError(t, err)
		apply(rows, event)
	}
	return rows
}

func lastOf(found map[uint64]string) (last uint64) {
	for seq := range found {
		last = max(last, seq)
	}
	return last
}

// apply applies an event to the rows.
func apply(rows map[checkpoint.MigrationID]checkpoint.Checkpoint, event checkpoint.Event) {
	if e, ok := event.(checkpoint.Upserted); ok {
		rows[e.Checkpoint.MigrationID] = e.Checkpoint
	} else if ends(event) {
		delete(rows, event.Migration())
	}
}

// rows returns the rows of a store in the same form.
func rows(s *migrationlog.Store) map[checkpoint.MigrationID]checkpoint.Checkpoint {
	rows := map[checkpoint.MigrationID]checkpoint.Checkpoint{}
	for _, c := range s.All() {
		rows[c.MigrationID] = c
	}
	return rows
}

// entry returns a frame with its length prefix, as the log stores it.
func entry(frame []byte) []byte {
	return append(binary.AppendUvarint(nil, uint64(len(frame))), frame...)
}

// files returns the contents of all files below dir.
func files(t testing.TB, dir string) map[string][]byte {
	found := map[string][]byte{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		found[filepath.ToSlash(name)], err = os.ReadFile(path)
		return err
	}))
	return found
}
