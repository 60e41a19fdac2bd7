package summary_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/summary"
	"migrationlog/replay"
	"migrationlog/replay/histogram"
	"migrationlog/replay/story"
)

// recording writes the events of the recording to a log with segments of that size.
func recording(t testing.TB, segmentSize int) (dir string) {
	dir = filepath.Join(t.TempDir(), "log")
	s, err := migrationlog.Open(dir, &migrationlog.Options{NoSync: true, SegmentSize: segmentSize})
	require.NoError(t, err)
	file, err := os.Open("../../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	defer file.Close()
	var events []checkpoint.Event
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var r replay.Record
		require.NoError(t, json.Unmarshal(lines.Bytes(), &r))
		events = append(events, r.Event)
	}
	_, err = s.WriteAll(events)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, os.RemoveAll(filepath.Join(dir, segment.SummaryDir)))
	return dir
}

// logID returns the UUID of a log.
func logID(t testing.TB, dir string) uuid.UUID {
	m, _, err := segment.ReadManifest(os.DirFS(dir))
	require.NoError(t, err)
	return m.UUID
}

// build builds and writes the summaries of all segments of a log, in order, and returns them.
func build(t testing.TB, dir string) (all []*summary.Summary) {
	fsys, log := os.DirFS(dir), logID(t, dir)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, segment.SummaryDir), 0o750))
	names, err := segment.Names(fsys)
	require.NoError(t, err)
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(dir, segment.WALDir, name))
		require.NoError(t, err)
		first, _ := segment.ParseName(name)
		built, ok := summary.Build(data, log, first, summary.NewIndex(fsys, log).Migration)
		require.True(t, ok, name)
		require.NoError(t, os.WriteFile(filepath.Join(dir, segment.SummaryDir, name), built.Encode(log), 0o640))
		opened, ok := summary.Open(fsys, log, name)
		require.True(t, ok, name)
		require.True(t, opened.IsIntact())
		inMemory, ok := summary.Of(built)
		require.True(t, ok)
		require.Equal(t, inMemory.Totals(), opened.Totals())
		matches, err := opened.Matches(fsys, log)
		require.NoError(t, err)
		require.True(t, matches)
		all = append(all, opened)
	}
	return all
}

// The summaries of the recording have the same counts, stays and migrations as its full history,
// whatever the size of the segments is.
func TestSummary_AgreesWithTheHistory(t *testing.T) {
	for _, size := range []int{8 << 10, 100 << 10, 0} { // 0: one segment
		dir := recording(t, size)
		all := build(t, dir)
		requireSmall(t, dir, all)
		reader, err := replay.Open(dir)
		require.NoError(t, err)
		tracker, want := story.NewTracker(story.Options{}), story.Baseline{}
		at := -1
		var frames summary.Frames
		var migrations summary.Migrations
		begun, aborted, removed := uint64(0), uint64(0), uint64(0)
		for r, err := range reader.Records(t.Context(), replay.Query{}) {
			require.NoError(t, err)
			change := tracker.Add(r)
			if change.Stay != nil {
				want.Add(*change.Stay)
			}
			i := change.Incarnation
			for at < 0 || r.Seq > all[at].LastSeq {
				at++
				var ok bool
				frames, ok = all[at].Frames()
				require.True(t, ok)
				migrations, ok = all[at].Migrations()
				require.True(t, ok)
			}
			f, ok := frames.At(r.Seq)
			require.True(t, ok)
			if r.Seq%50 == 0 {
				require.True(t, slices.Contains(slices.Collect(migrations.Find(i.ID)), f.Migration))
			}
			requireFrame(t, f, migrations.At(f.Migration), r, i)
			requireListed(t, all[at], i)
			if change.Began {
				begun++
			}
			if r.Kind() == replay.KindAbort {
				aborted++
			}
			if change.Ended && i.Outcome == story.Removed {
				removed++
			}
		}
		require.Equal(t, len(all)-1, at)
		var sum summary.Totals
		var stays [checkpoint.PhaseComplete + 1]histogram.Histogram
		for _, s := range all {
			totals := s.Totals()
			require.Equal(t, s.LastSeq-s.FirstSeq+1, totals.Events)
			sum.Begun, sum.RemovedDone, sum.Aborted, sum.Retries = sum.Begun+totals.Begun, sum.RemovedDone+totals.RemovedDone, sum.Aborted+totals.Aborted, sum.Retries+totals.Retries
			own, ok := s.Stays()
			require.True(t, ok)
			for phase := range own {
				stays[phase].MergeEncoded(own[phase])
			}
		}
		require.Equal(t, summary.Totals{Begun: begun, RemovedDone: removed, Aborted: aborted, Retries: 128}, sum)
		for phase := checkpoint.PhaseAddLearner; phase <= checkpoint.PhaseComplete; phase++ {
			require.Equal(t, want.Phase(phase).Append(nil), stays[phase].Append(nil), "%s", phase)
		}
	}
}

// requireFrame requires that the summary has the frame of a record and its incarnation.
func requireFrame(t *testing.T, f summary.Frame, m summary.Migration, r replay.Record, i *story.Incarnation) {
	t.Helper()
	require.Equal(t, r.WallMS(), f.WallMS)
	require.Equal(t, checkpoint.KindOf(r.Event), f.Kind)
	require.Equal(t, i.ID, m.ID)
	require.False(t, m.Partial || m.Several)
	require.Equal(t, []any{i.VShardID, i.SourceNode, i.TargetNode, i.SourceGroup}, []any{m.VShardID, m.SourceNode, m.TargetNode, m.SourceGroup})
	if u, ok := r.Event.(checkpoint.Upserted); ok {
		require.Equal(t, u.Checkpoint.Phase(), f.Phase)
		require.Equal(t, u.Checkpoint.Attempt > 0, f.Retried)
	}
}

// requireListed requires that the filter and the lists of a summary have the incarnation.
func requireListed(t *testing.T, s *summary.Summary, i *story.Incarnation) {
	t.Helper()
	require.True(t, s.MayContain(i.ID))
	totals := s.Totals()
	require.True(t, slices.Contains(totals.VShards, i.VShardID))
	require.True(t, slices.Contains(totals.Nodes, i.SourceNode) && slices.Contains(totals.Nodes, i.TargetNode))
}

// requireSmall requires that the summaries take at most 20 % of the log, and with segments that are
// not tiny at most 16 %.
func requireSmall(t *testing.T, dir string, all []*summary.Summary) {
	var log, index int64
	for _, s := range all {
		info, err := os.Stat(filepath.Join(dir, segment.SummaryDir, s.Name()))
		require.NoError(t, err)
		log, index = log+s.SizeBytes, index+info.Size()
	}
	share := float64(index) / float64(log)
	t.Logf("%d segments: %d bytes of %d, %.1f %%", len(all), index, log, 100*share)
	require.Less(t, share, 0.20)
	if len(all) < 20 {
		require.Less(t, share, 0.16)
	}
}

func BenchmarkBuild(b *testing.B) {
	dir := recording(b, 0)
	log := logID(b, dir)
	data, err := os.ReadFile(filepath.Join(dir, segment.WALDir, segment.Name(1)))
	require.NoError(b, err)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		_, ok := summary.Build(data, log, 1, nil)
		require.True(b, ok)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/9502, "ns/event")
}

// events writes events to a log with small segments, and returns its directory.
func events(t *testing.T, all ...checkpoint.Event) (dir string) {
	dir = filepath.Join(t.TempDir(), "log")
	s, err := migrationlog.Open(dir, &migrationlog.Options{NoSync: true, SegmentSize: 1})
	require.NoError(t, err)
	for _, e := range all { // one segment each
		_, err := s.WriteAll([]checkpoint.Event{e}, migrationlog.Confirm())
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	require.NoError(t, os.RemoveAll(filepath.Join(dir, segment.SummaryDir)))
	return dir
}

func upserted(t *testing.T, id byte, attempt uint32, atMS uint64, p checkpoint.Payload) checkpoint.Event {
	c, err := checkpoint.New(checkpoint.MigrationID{id}, attempt, p, atMS)
	require.NoError(t, err)
	return checkpoint.Upserted{Checkpoint: c}
}

// migrationIn returns the only migration of a summary.
func migrationIn(t *testing.T, s *summary.Summary) summary.Migration {
	m, ok := s.Migrations()
	require.True(t, ok)
	require.Equal(t, 1, m.Len())
	return m.At(0)
}

// The state of a migration passes from summary to summary, through events of every kind. If a summary
// in between is missing, the later ones are partial and list any node, until the next incarnation.
func TestSummary_StatePassesFromSegmentToSegment(t *testing.T) {
	id := checkpoint.MigrationID{7}
	steps := []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 4, PeerID: 3}}
	dir := events(t,
		upserted(t, 7, 0, 1000, checkpoint.AddLearner{VShardID: 5, SourceNode: 1, TargetNode: 3, SourceGroup: 4}),
		checkpoint.EpochRaised{MigrationID: id, Epoch: 9, TimestampMS: 1001},
		upserted(t, 7, 2, 1010, checkpoint.CatchUp{VShardID: 5}),
		checkpoint.AbortBegun{MigrationID: id, Reason: "stuck", Compensations: steps, TimestampMS: 1015},
		checkpoint.Compensated{MigrationID: id, TimestampMS: 1016},
		checkpoint.Aborted{MigrationID: id, Reason: "stuck", Compensations: steps, TimestampMS: 1030},
		upserted(t, 7, 0, 1040, checkpoint.AddLearner{VShardID: 5, SourceNode: 1, TargetNode: 2, SourceGroup: 4}),
		upserted(t, 7, 0, 1050, checkpoint.PromoteLearner{VShardID: 5, TargetNode: 8, SourceGroup: 4}),
		checkpoint.Removed{MigrationID: id, TimestampMS: 1060},
	)
	all := build(t, dir)
	want := summary.Migration{
		ID: id, Began: true, HasVShard: true, HasSource: true, HasTarget: true, VShardID: 5, SourceNode: 1, TargetNode: 3, SourceGroup: 4,
		Phase: checkpoint.PhaseAddLearner, Furthest: checkpoint.PhaseAddLearner, InPhase: true, CheckpointMS: 1000,
	}
	require.Equal(t, want, migrationIn(t, all[0]))
	want.Began = false
	require.Equal(t, want, migrationIn(t, all[1]), "a raised epoch changes nothing")
	want.Phase, want.Furthest, want.CheckpointMS = checkpoint.PhaseCatchUp, checkpoint.PhaseCatchUp, 1010
	require.Equal(t, want, migrationIn(t, all[2]))
	want.InPhase, want.CheckpointMS, want.StayMS = false, 0, 5
	require.Equal(t, want, migrationIn(t, all[3]))
	require.Equal(t, want, migrationIn(t, all[4]))
	want.Ended = true
	require.Equal(t, want, migrationIn(t, all[5]))
	require.Equal(t, []summary.AbortGroup{{
		Reason: "stuck", Phase: checkpoint.PhaseCatchUp, HasTarget: true, TargetNode: 3, Count: 1, MinMS: 5, MaxMS: 5,
	}}, all[5].Totals().Aborts)
	require.EqualValues(t, 1, all[2].Totals().Retries)
	stays, ok := all[2].Stays()
	require.True(t, ok)
	stay, _, err := histogram.Decode(stays[checkpoint.PhaseAddLearner])
	require.NoError(t, err)
	require.EqualValues(t, 10, stay.Max(), "the raised epoch does not end the stay")
	require.True(t, migrationIn(t, all[6]).Began)
	require.Equal(t, []uint64{1, 2}, all[6].Totals().Nodes)
	require.True(t, migrationIn(t, all[7]).Several, "another target")
	require.True(t, all[7].Totals().AnyNode)

	require.NoError(t, os.Remove(filepath.Join(dir, segment.SummaryDir, all[2].Name())))
	data, err := os.ReadFile(filepath.Join(dir, segment.WALDir, all[3].Name()))
	require.NoError(t, err)
	fsys, log := os.DirFS(dir), logID(t, dir)
	built, ok := summary.Build(data, log, all[3].FirstSeq, summary.NewIndex(fsys, log).Migration)
	require.True(t, ok)
	partial, ok := summary.Of(built)
	require.True(t, ok)
	require.Equal(t, summary.Migration{ID: id, Partial: true}, migrationIn(t, partial))
	require.True(t, partial.Totals().AnyVShard && partial.Totals().AnyNode)
}

// Aborts with too many different reasons are counted together.
func TestSummary_ManyReasons(t *testing.T) {
	var all []checkpoint.Event
	for n := range byte(100) {
		all = append(all, upserted(t, n+1, 0, 1000, checkpoint.AddLearner{TargetNode: 3}))
	}
	for n := range byte(100) {
		reason := strings.Repeat("ü", int(n)+100) // above 256 bytes they begin alike, so there are 29 of them
		if n >= 50 {
			reason = fmt.Sprint("reason ", n)
		}
		all = append(all, checkpoint.Aborted{MigrationID: checkpoint.MigrationID{n + 1}, Reason: reason, TimestampMS: 1000 + uint64(n)})
	}
	all = append(all, checkpoint.Aborted{MigrationID: checkpoint.MigrationID{200}, Reason: "no row", TimestampMS: 2000})
	dir := filepath.Join(t.TempDir(), "log")
	s, err := migrationlog.Open(dir, &migrationlog.Options{NoSync: true})
	require.NoError(t, err)
	_, err = s.WriteAll(all, migrationlog.Confirm())
	require.NoError(t, err)
	require.NoError(t, s.Close())
	totals := build(t, dir)[0].Totals()
	require.EqualValues(t, 100, totals.Begun)
	require.EqualValues(t, 100, totals.Aborted, "not the one without a row")
	counted := uint64(0)
	for _, g := range totals.Aborts {
		require.True(t, utf8.ValidString(g.Reason))
		require.LessOrEqual(t, len(g.Reason), 256)
		counted += g.Count
	}
	require.EqualValues(t, 100, counted)
	require.Len(t, totals.Aborts, 64+1)
	require.Equal(t, summary.AbortGroup{
		Other: true, Phase: checkpoint.PhaseAddLearner, HasTarget: true, TargetNode: 3, Count: 29 + 50 - 64, MinMS: 85, MaxMS: 99,
	}, totals.Aborts[64])
}

// A summary that is damaged anywhere is refused, or the damaged part is.
func TestSummary_EveryBit(t *testing.T) {
	dir := events(t, upserted(t, 7, 0, 1000, checkpoint.AddLearner{VShardID: 5, SourceNode: 1, TargetNode: 3, SourceGroup: 4}))
	s := build(t, dir)[0]
	name := segment.SummaryDir + "/" + s.Name()
	content, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	log := logID(t, dir)
	intact := func() bool {
		s, ok := summary.Open(fstest.MapFS{name: {Data: content}}, log, s.Name())
		return ok && s.IsIntact()
	}
	require.True(t, intact())
	for bit := range 8 * len(content) {
		content[bit/8] ^= 1 << (bit % 8)
		require.False(t, intact(), "bit %d", bit)
		content[bit/8] ^= 1 << (bit % 8)
	}
}

// Of any sections, also of impossible ones with right checksums, nothing panics.
func FuzzOf(f *testing.F) {
	dir := recording(f, 8<<10)
	built := build(f, dir)[0]
	content, err := os.ReadFile(filepath.Join(dir, segment.SummaryDir, built.Name()))
	require.NoError(f, err)
	f.Add(content[104:], uint16(10), uint16(20), uint16(30), uint16(40))
	f.Fuzz(func(t *testing.T, b []byte, c1, c2, c3, c4 uint16) {
		var s segment.Summary
		s.FirstSeq, s.LastSeq = 1, built.LastSeq
		rest := b
		for i, n := range []uint16{c1, c2, c3, c4} {
			n := min(int(n), len(rest))
			s.Sections[i], rest = rest[:n], rest[n:]
		}
		s.Sections[4] = rest
		opened, ok := summary.Of(s)
		if !ok || !opened.IsIntact() {
			return
		}
		opened.MayContain(checkpoint.MigrationID{1})
		frames, _ := opened.Frames()
		migrations, _ := opened.Migrations()
		for seq := s.FirstSeq; seq <= s.LastSeq; seq++ {
			frame, _ := frames.At(seq)
			migrations.At(frame.Migration)
		}
	})
}

// A filter has no false negatives for any number of migrations, and few false positives.
func TestSummary_Filter(t *testing.T) {
	for n := 1; n <= 40; n += 1 + n/4 {
		dir := filepath.Join(t.TempDir(), "log")
		s, err := migrationlog.Open(dir, &migrationlog.Options{NoSync: true})
		require.NoError(t, err)
		var all []checkpoint.Event
		for i := range n {
			all = append(all, upserted(t, byte(i+1), 0, 1000, checkpoint.CatchUp{}))
		}
		_, err = s.WriteAll(all)
		require.NoError(t, err)
		require.NoError(t, s.Close())
		built := build(t, dir)[0]
		wrong := 0
		for i := range 200 {
			may := built.MayContain(checkpoint.MigrationID{byte(i + 1)})
			if i < n {
				require.True(t, may)
			} else if may {
				wrong++
			}
		}
		require.Less(t, wrong, 15)
	}
}

// A restored row counts like a checkpoint. Its migration has the facts of the event, and later events
// continue them. The digests of a segment name no node and need no earlier segment.
func TestSummary_RestoredRow(t *testing.T) {
	id := checkpoint.MigrationID{7}
	row := upserted(t, 7, 3, 1000, checkpoint.CatchUp{VShardID: 5}).(checkpoint.Upserted).Checkpoint
	restored := checkpoint.Restored{Checkpoint: row, Facts: checkpoint.RestoredFacts{
		SourceNode: 1, TargetNode: 3, SourceGroup: 4, HasSource: true, HasTarget: true, HighestAttempt: [6]uint32{1: 3},
		FurthestPhase: checkpoint.PhasePromoteLearner, RecordedPhases: 0b111,
	}}
	undone := restored
	undone.Checkpoint.MigrationID = checkpoint.MigrationID{8}
	undone.Facts.Abort = &checkpoint.RestoredAbort{Reason: "stuck", TimestampMS: 1007}
	dir := events(t,
		restored,
		checkpoint.Digest{TimestampMS: 1000},
		upserted(t, 7, 0, 1020, checkpoint.LeadershipTransfer{VShardID: 5, NewLeaderNodeID: 3, SourceGroup: 4}),
		checkpoint.Digest{TimestampMS: 1020},
		undone,
		checkpoint.Aborted{MigrationID: undone.Checkpoint.MigrationID, Reason: "stuck", TimestampMS: 1030},
	)
	all := build(t, dir)
	want := summary.Migration{
		ID: id, Began: true, HasVShard: true, HasSource: true, HasTarget: true, VShardID: 5, SourceNode: 1, TargetNode: 3, SourceGroup: 4,
		Phase: checkpoint.PhaseCatchUp, Furthest: checkpoint.PhasePromoteLearner, InPhase: true, CheckpointMS: 1000,
	}
	require.Equal(t, want, migrationIn(t, all[0]))
	totals := all[0].Totals()
	require.Equal(t, []uint64{1, 3}, totals.Nodes)
	require.Equal(t, []uint32{5}, totals.VShards)
	require.EqualValues(t, 1, totals.Kinds[checkpoint.KindRestored])
	require.EqualValues(t, 1, totals.Phases[checkpoint.PhaseCatchUp])
	require.EqualValues(t, 1, totals.Begun)
	require.Zero(t, totals.Retries, "the tries before the row are not in the log")
	frames, ok := all[0].Frames()
	require.True(t, ok)
	f, ok := frames.At(1)
	require.True(t, ok)
	require.Equal(t, checkpoint.KindRestored, f.Kind)
	require.Equal(t, checkpoint.PhaseCatchUp, f.Phase)
	require.True(t, all[0].MayContain(id))

	want.Began, want.Phase, want.Furthest, want.CheckpointMS = false, checkpoint.PhaseLeadershipTransfer, checkpoint.PhaseLeadershipTransfer, 1020
	require.Equal(t, want, migrationIn(t, all[2]))
	stays, ok := all[2].Stays()
	require.True(t, ok)
	stay, _, err := histogram.Decode(stays[checkpoint.PhaseAddLearner])
	require.NoError(t, err)
	require.Zero(t, stay.Count())

	for _, digest := range []*summary.Summary{all[1], all[3]} {
		require.Equal(t, summary.Migration{ID: checkpoint.StoreID, Began: true}, migrationIn(t, digest))
		require.False(t, digest.Totals().AnyNode || digest.Totals().AnyVShard)
	}
	m := migrationIn(t, all[4])
	require.False(t, m.InPhase, "the abort has ended the stay")
	require.EqualValues(t, 7, m.StayMS)
	require.Equal(t, []summary.AbortGroup{{
		Reason: "stuck", Phase: checkpoint.PhaseCatchUp, HasTarget: true, TargetNode: 3, Count: 1, MinMS: 7, MaxMS: 7,
	}}, all[5].Totals().Aborts)
}
