package oracle_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/google/uuid"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/internal/oracle"
	"migrationlog/replay"
)

// history is a random sequence of steps on one log, and the facts that must hold for the log.
type history struct {
	r       *rand.Rand
	dir     string // the log
	scratch string // directory for copies of the log
	opts    migrationlog.Options
	ids     []uuid.UUID // the last one never has an event
	clock   uint64      // timestamp of the last event; each event has its own

	steps          []string // descriptions of the steps so far
	acknowledged   map[uint64]eventKey
	seen           map[uint64]string // the body of each number that was ever read
	forked         bool              // files of a diverged or older copy were put into the log
	weakWatermarks bool              // the watermarks were lost or too low, so a number may be used again
	heals          []heal
	saved          []image // copies of the log at earlier times
	refused        bool    // an opening returned ErrNeedsRepair, and the history ended
}

// eventKey identifies an event.
type eventKey struct {
	id     uuid.UUID
	timeMS uint64
}

// heal undoes a damage. Its function returns false if that is not possible any more.
type heal struct {
	name string
	do   func() (bool, error)
}

// difference is the error of a history in which a result is wrong.
type difference struct{ lines []string }

func (d difference) Error() string { return strings.Join(d.lines, "\n") }

func newHistory(dir string, seed, number uint64) *history {
	h := &history{
		r: rand.New(rand.NewPCG(seed, number)), dir: filepath.Join(dir, "log"), scratch: filepath.Join(dir, "copy"),
		clock: 1_000, acknowledged: map[uint64]eventKey{}, seen: map[uint64]string{},
	}
	h.opts = migrationlog.Options{SegmentSize: 300 + h.r.IntN(1700), NoSync: h.chance(8)}
	for i := range 2 + h.r.IntN(4) {
		h.ids = append(h.ids, uuid.UUID{byte(i + 1)})
	}
	return h
}

// chance returns true with a probability of 1/oneIn.
func (h *history) chance(oneIn int) bool { return h.r.IntN(oneIn) == 0 }

func (h *history) note(format string, args ...any) {
	h.steps = append(h.steps, fmt.Sprintf(format, args...))
}

// run executes the history. It returns a difference, or another error if the history cannot
// continue.
func (h *history) run() error {
	rounds := 2 + h.r.IntN(4)
	for round := range rounds {
		if err := h.round(); err != nil || h.refused {
			return err
		}
		if round+1 < rounds {
			if err := h.disturb(); err != nil {
				return err
			}
		}
	}
	for len(h.heals) > 0 {
		if err := h.heal(); err != nil {
			return err
		}
	}
	return h.round()
}

// round checks every reading of the log, opens the log, writes, and then closes or kills the store.
func (h *history) round() error {
	opts := h.opts
	opts.VerifyAll = h.chance(2)
	l, err := h.checkReadings(opts.VerifyAll)
	if err != nil || h.refused {
		return err
	}
	h.note("open (segments of %d bytes, read all %t, no sync %t)", opts.SegmentSize, opts.VerifyAll, opts.NoSync)
	s, err := h.open(h.dir, opts)
	if err != nil || h.refused {
		return err
	}
	if l != nil {
		err = h.compareStore(sourceOf(opts), s, l)
	}
	before, loaded := loadFolders(h.dir, "snapshots")
	if err = errors.Join(err, loaded); err == nil {
		err = h.session(s, before)
	}
	return errors.Join(err, s.Close())
}

// open opens the log in dir. If Open returns ErrNeedsRepair, the history ends without an error. It
// does so if all segments are missing, or if a segment is named beyond the end of the log.
func (h *history) open(dir string, opts migrationlog.Options) (*migrationlog.Store, error) {
	s, err := migrationlog.Open(dir, &opts)
	if errors.Is(err, migrationlog.ErrNeedsRepair) {
		h.note("refused: %v", err)
		h.refused = true
		return nil, nil
	}
	return s, err
}

// session writes to an open store. It ends with Close or with a kill.
func (h *history) session(s *migrationlog.Store, before image) error {
	keep := before.names("")
	for range h.r.IntN(9) {
		if err := h.write(s); err != nil {
			return err
		}
		if h.chance(30) {
			if err := h.addSnapshot(); err != nil {
				return err
			}
			now, err := loadFolders(h.scratch, "snapshots")
			if err != nil {
				return err
			}
			maps.Copy(before, now)
			keep = before.names("")
		}
	}
	l, err := oracle.Read(h.dir)
	if err != nil {
		return err
	}
	if err := h.compareStore("live", s, l); err != nil {
		return err
	}
	kill := h.chance(2)
	killed := image{}
	if kill {
		h.note("kill")
		h.weakWatermarks = h.weakWatermarks || h.opts.NoSync
		if killed, err = load(h.dir); err != nil {
			return err
		}
	}
	if err := s.Close(); err != nil {
		return err
	}
	if kill {
		err = killed.store(h.dir)
	} else {
		h.note("close")
		keep = append(keep, snapshotName(s.Stats().LastSeq))
	}
	return errors.Join(err, h.keepSnapshots(before, keep))
}

// keepSnapshots keeps only the three newest of the snapshots with these names. The store also
// writes other snapshots in the background. Their times depend on the clock, so they are removed.
func (h *history) keepSnapshots(before image, keep []string) error {
	now, err := loadFolders(h.dir, "snapshots")
	if err != nil {
		return err
	}
	want := image{}
	for _, name := range keep {
		if b := cmp.Or(string(now[name]), string(before[name])); b != "" {
			want[name] = []byte(b)
		}
	}
	names := want.names("")
	for _, name := range names[:max(len(names)-3, 0)] {
		delete(want, name)
	}
	for _, name := range now.names("") {
		if want[name] == nil {
			err = errors.Join(err, os.Remove(filepath.Join(h.dir, name)))
		}
	}
	for _, name := range want.names("") {
		if now[name] == nil {
			err = errors.Join(err, os.MkdirAll(filepath.Join(h.dir, "snapshots"), 0o700))
			err = errors.Join(err, os.WriteFile(filepath.Join(h.dir, name), want[name], 0o600))
		}
	}
	return err
}

// addSnapshot opens and closes a copy of the log. The snapshot that this writes stands for one that
// the store writes in the background.
func (h *history) addSnapshot() error {
	h.note("snapshot")
	files, err := load(h.dir)
	if err != nil {
		return err
	}
	if err := files.store(h.scratch); err != nil {
		return err
	}
	s, err := migrationlog.Open(h.scratch, &h.opts)
	if err != nil {
		return err
	}
	return s.Close()
}

// event returns a new event of a random migration.
func (h *history) event() checkpoint.Event {
	h.clock++
	id := h.ids[h.r.IntN(len(h.ids)-1)]
	epoch := uint64(0)
	if h.chance(6) {
		epoch = 1 + h.r.Uint64N(9)
	}
	switch h.r.IntN(16) {
	case 0, 1:
		return checkpoint.Aborted{MigrationID: id, Reason: "no", TimestampMS: h.clock, Epoch: epoch}
	case 2:
		return checkpoint.Removed{MigrationID: id, TimestampMS: h.clock, Epoch: epoch}
	case 3:
		steps := []checkpoint.Compensation{
			{Kind: checkpoint.RemoveVoter, GroupID: 7, PeerID: 1 + h.r.Uint64N(2)}, {Kind: checkpoint.RestoreLeaderHint, GroupID: 7, PeerID: 5},
		}
		return checkpoint.AbortBegun{MigrationID: id, Reason: "stale", Compensations: steps[h.r.IntN(2):], TimestampMS: h.clock, Epoch: epoch}
	case 4, 5:
		return checkpoint.Compensated{MigrationID: id, Step: h.r.Uint32N(3), TimestampMS: h.clock, Epoch: epoch}
	case 6:
		return checkpoint.EpochRaised{MigrationID: id, TimestampMS: h.clock, Epoch: max(epoch, 1)}
	case 14:
		return checkpoint.Digest{State: [32]byte{byte(h.clock)}, Chain: [32]byte{byte(h.clock)}, TimestampMS: h.clock, Epoch: epoch}
	case 15:
		return h.restored(id, epoch)
	}
	n := 1 + h.r.Uint64N(3)
	payload := []checkpoint.Payload{
		checkpoint.AddLearner{
			VShardID: uint32(n), SourceNode: n, TargetNode: n + 10, SourceGroup: n + 20, WritePauseBudgetUS: n + 30,
			StartedAtHLC: checkpoint.HLC{WallNS: n + 40, Logical: uint32(n) + 50},
		},
		checkpoint.CatchUp{VShardID: uint32(n), LearnerLogIndexAtAdd: n},
		checkpoint.PromoteLearner{VShardID: uint32(n), TargetNode: n + 60, SourceGroup: n + 70},
		checkpoint.LeadershipTransfer{VShardID: uint32(n), TargetIsVoter: true, NewLeaderNodeID: n + 80, SourceGroup: n + 90},
		checkpoint.Cutover{VShardID: uint32(n), NewLeaderNodeID: n + 100, SourceGroup: n + 110},
		checkpoint.Complete{VShardID: uint32(n), ActualPauseUS: n, GhostStubInstalled: true},
	}[h.r.IntN(6)]
	c, err := checkpoint.New(id, h.r.Uint32N(3), payload, h.clock)
	if err != nil {
		panic(err) // cannot happen: the payload is valid
	}
	return checkpoint.Upserted{Checkpoint: c, Epoch: epoch}
}

// restored returns a restored event at CatchUp with random facts.
func (h *history) restored(id uuid.UUID, epoch uint64) checkpoint.Event {
	n := h.r.Uint64N(3)
	c, err := checkpoint.New(id, h.r.Uint32N(3), checkpoint.CatchUp{VShardID: uint32(n), LearnerLogIndexAtAdd: n}, h.clock)
	if err != nil {
		panic(err) // cannot happen: the payload is valid
	}
	f := checkpoint.RestoredFacts{
		FurthestPhase: checkpoint.PhaseCatchUp, RecordedPhases: 0b10, HighestAttempt: [6]uint32{1: c.Attempt + h.r.Uint32N(2)},
	}
	if h.chance(2) {
		f.FurthestPhase, f.RecordedPhases, f.HighestAttempt[3] = checkpoint.PhaseLeadershipTransfer, 0b1011, h.r.Uint32N(2)
	}
	if h.chance(2) {
		f.HasSource, f.SourceNode, f.WritePauseBudgetUS, f.StartedAtHLC = true, n, n, checkpoint.HLC{WallNS: n, Logical: uint32(n)}
	}
	if h.chance(2) {
		f.HasTarget, f.TargetNode, f.SourceGroup = true, n+60, n+70
		if h.chance(2) {
			f.Targets = []checkpoint.Target{{GroupID: n + 70, PeerID: 1}, {GroupID: n + 70, PeerID: n + 60}}
		}
	}
	if h.chance(3) {
		steps := []checkpoint.Compensation{{Kind: checkpoint.RemoveVoter, GroupID: 7, PeerID: 1 + h.r.Uint64N(2)}, {Kind: checkpoint.RestoreLeaderHint, GroupID: 7, PeerID: 5}}
		f.Abort = &checkpoint.RestoredAbort{
			Reason: "stale", Compensations: steps, Done: []bool{h.chance(2), h.chance(2)}, TimestampMS: n, BeforeCheckpoint: h.chance(2),
		}
	}
	return checkpoint.Restored{Checkpoint: c, Facts: f, Epoch: epoch}
}

// write writes one event, or several in one call.
func (h *history) write(s *migrationlog.Store) error {
	events := []checkpoint.Event{h.event()}
	for h.chance(5) && len(events) < 5 {
		events = append(events, h.event())
	}
	var opts []migrationlog.WriteOption
	if h.chance(3) {
		opts = append(opts, migrationlog.Confirm())
	}
	var receipts []migrationlog.Receipt
	var err error
	if len(events) > 1 {
		receipts, err = s.WriteAll(events, opts...)
	} else {
		var receipt migrationlog.Receipt
		receipt, err = writeOne(s, events[0], opts)
		receipts = append(receipts, receipt)
	}
	if err != nil {
		return err
	}
	for i, receipt := range receipts {
		if receipt.Appended() {
			h.acknowledged[receipt.Seq] = eventKey{events[i].Migration(), events[i].WallMS()}
		}
		h.note("  #%d %s", receipt.Seq, describe(events[i]))
	}
	return nil
}

// writeOne writes an event with the method for its kind. If the method refuses the event because of
// an abort under way, or if there is no such method, it uses WriteAll, which accepts every order.
func writeOne(s *migrationlog.Store, e checkpoint.Event, opts []migrationlog.WriteOption) (receipt migrationlog.Receipt, err error) {
	switch u, isUpsert := e.(checkpoint.Upserted); {
	case checkpoint.EpochOf(e) > 0 || checkpoint.KindOf(e) > checkpoint.KindRemoved:
		err = migrationlog.ErrAborting
	case isUpsert:
		receipt, err = s.Upsert(u.Checkpoint, opts...)
	default:
		receipt, err = end(s, e, append(opts, migrationlog.WithTimestamp(e.WallMS())))
	}
	if errors.Is(err, migrationlog.ErrAborting) || errors.Is(err, migrationlog.ErrConflict) {
		receipts, err := s.WriteAll([]checkpoint.Event{e}, opts...)
		return append(receipts, migrationlog.Receipt{})[0], err
	}
	return receipt, err
}

func end(s *migrationlog.Store, e checkpoint.Event, opts []migrationlog.WriteOption) (migrationlog.Receipt, error) {
	if e, ok := e.(checkpoint.Aborted); ok {
		return s.Abort(e.MigrationID, e.Reason, e.Compensations, opts...)
	}
	return s.Remove(e.Migration(), opts...)
}

func describe(e checkpoint.Event) string {
	if u, ok := e.(checkpoint.Upserted); ok {
		return fmt.Sprintf("%s %s attempt %d time %d", label(e.Migration()), u.Checkpoint.Phase(), u.Checkpoint.Attempt, e.WallMS())
	}
	return fmt.Sprintf("%s %T time %d", label(e.Migration()), e, e.WallMS())
}

// checkReadings compares the replay reader and an opening of a copy with the oracle. The opening
// verifies the whole log if readAll is false, because the caller then opens the log without this
// option. checkReadings also checks the promises that do not depend on the fold. It returns the log
// as the oracle has read it, or nil if there is no log yet.
func (h *history) checkReadings(readAll bool) (*oracle.Log, error) {
	if _, err := os.Stat(h.dir); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	// The oracle does not read summaries, with which the store attributes more lost events.
	if err := os.RemoveAll(filepath.Join(h.dir, "index")); err != nil {
		return nil, err
	}
	l, err := oracle.Read(h.dir)
	if err != nil {
		return nil, err
	}
	if err := h.checkPromises(l); err != nil {
		return nil, err
	}
	if err := h.compareReplay(l); err != nil {
		return nil, err
	}
	files, err := load(h.dir)
	if err != nil {
		return nil, err
	}
	if err := files.store(h.scratch); err != nil {
		return nil, err
	}
	opts := h.opts
	opts.VerifyAll = !readAll
	s, err := h.open(h.scratch, opts)
	if err != nil || h.refused {
		return nil, err
	}
	if err := errors.Join(h.compareStore(sourceOf(opts), s, l), s.Close()); err != nil {
		return nil, err
	}
	return l, nil
}

func sourceOf(opts migrationlog.Options) string {
	if opts.VerifyAll {
		return "read-all open"
	}
	return "default open"
}

// checkPromises checks that each number has only one event (D3). It also checks that each
// acknowledged event exists or is reported as acknowledged and lost (D5).
func (h *history) checkPromises(l *oracle.Log) error {
	if h.forked || h.weakWatermarks {
		return nil
	}
	var lines []string
	at := map[uint64]oracle.Event{}
	for _, e := range l.Events {
		at[e.Seq] = e
		if body, again := h.seen[e.Seq]; again && body != string(e.Body) {
			lines = append(lines, fmt.Sprintf("files: two events: seq %d was %x and is %x", e.Seq, body, e.Body))
		}
		h.seen[e.Seq] = string(e.Body)
	}
	for _, seq := range slices.Sorted(maps.Keys(h.acknowledged)) {
		e, intact := at[seq]
		want := h.acknowledged[seq]
		switch {
		case intact && (eventKey{e.Migration, e.TimeMS}) != want:
			lines = append(lines, fmt.Sprintf("files: another event: seq %d is %s %d, acknowledged was %s %d",
				seq, label(e.Migration), e.TimeMS, label(want.id), want.timeMS))
		case !intact && !oracle.Overlap(l.Acknowledged, seq-1, seq):
			lines = append(lines, fmt.Sprintf("files: unreported: seq %d was acknowledged, but it neither exists nor is it reported as lost", seq))
		}
	}
	return differenceOf(lines)
}

func differenceOf(lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	return difference{lines}
}

func (h *history) compareReplay(l *oracle.Log) error {
	reader, err := replay.Open(h.dir)
	if err != nil {
		return err
	}
	ctx := context.Background()
	fold, err := reader.FoldAllTo(ctx, replay.Point{})
	if err != nil {
		return err
	}
	if err := h.comparePoint(reader, l); err != nil {
		return err
	}
	v := reading{rows: fold.View.Rows(), row: fold.View.Get, doubt: fold.View.Doubt, report: fold.Report()}
	if err := h.compare("replay", v, l, false); err != nil {
		return err
	}
	if err := compareFolds(ctx, reader, fold); err != nil || !h.chance(8) {
		return err
	}
	view, err := reader.StateAt(ctx, replay.Point{})
	if err != nil {
		return err
	}
	report, err := reader.Verify(ctx)
	if err != nil {
		return err
	}
	return h.compare("verify", reading{rows: view.Rows(), row: view.Get, doubt: view.Doubt, report: report}, l, false)
}

// compareFolds compares the fold of every record with that of FoldAll, which reads an intact log in
// another way.
func compareFolds(ctx context.Context, reader *replay.Reader, want *replay.Fold) error {
	got, err := reader.FoldAll(ctx, nil)
	if err != nil {
		return err
	}
	var lines []string
	if g, w := got.Report(), want.Report(); !reflect.DeepEqual(g, w) {
		lines = append(lines, fmt.Sprintf("fold all: the report is %+v, of every record %+v", g, w))
	}
	if g, w := got.View.All(), want.View.All(); !reflect.DeepEqual(g, w) {
		lines = append(lines, fmt.Sprintf("fold all: the rows are %+v, of every record %+v", g, w))
	}
	v, err := reader.VerifyAll(ctx, nil)
	if err != nil {
		return err
	}
	if w := want.Report(); !reflect.DeepEqual(v.Report, w) {
		lines = append(lines, fmt.Sprintf("verify all: the report is %+v, of every record %+v", v.Report, w))
	}
	return differenceOf(lines)
}

// comparePoint compares the state at a random point with the fold of all events before it. The
// former may start from a snapshot. It may then not have read a misplaced header before the
// snapshot.
func (h *history) comparePoint(reader *replay.Reader, l *oracle.Log) error {
	if l.InPlace != nil {
		return nil
	}
	p := replay.Point{}
	if !h.chance(4) {
		p.Seq = h.r.Uint64N(l.Reached + 2)
	}
	if h.chance(2) && h.clock > 1000 {
		p.TimeMS = 1000 + h.r.Uint64N(h.clock-999)
	}
	want, err := reader.FoldAllTo(context.Background(), p)
	if errors.Is(err, replay.ErrNotKept) && l.Events[0].Kind == uint64(checkpoint.KindRestored) {
		_, err := reader.FoldTo(context.Background(), p)
		if !errors.Is(err, replay.ErrNotKept) {
			return fmt.Errorf("FoldTo of a point that FoldAllTo does not have: %w", err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	got, err := reader.FoldTo(context.Background(), p)
	if err != nil {
		return err
	}
	report := want.Report() // only the views must be equal
	source := fmt.Sprintf("at %+v, after snapshot %d", p, got.SnapshotSeq())
	a := reading{rows: got.View.Rows(), row: got.View.Get, doubt: got.View.Doubt, report: report}.picture(h.ids)
	b := reading{rows: want.View.Rows(), row: want.View.Get, doubt: want.View.Doubt, report: report}.picture(h.ids)
	return differenceOf(a.differences(source, b))
}

// compareStore compares an open store with the log as the oracle has read it, either before the
// store was opened or while it is open.
func (h *history) compareStore(source string, s *migrationlog.Store, l *oracle.Log) error {
	return h.compare(source, reading{rows: s.Rows(), row: s.Row, doubt: s.Doubt, report: s.Report()}, l, source == "live")
}

// compare compares a reading with the oracle. A store that has started from a snapshot may not have
// read a misplaced header before the snapshot. The reading may then equal l.InPlace.
func (h *history) compare(source string, v reading, l *oracle.Log, live bool) error {
	err := h.compareWith(source, v, l, live)
	if err != nil && l.InPlace != nil && (live || source == "default open" && v.report.SnapshotSeq > 0) {
		return h.compareWith(source, v, l.InPlace, live)
	}
	return err
}

func (h *history) compareWith(source string, v reading, l *oracle.Log, live bool) error {
	state := oracle.Fold(l)
	got, want := v.picture(h.ids), pictureOf(l, state, h.ids)
	if live { // the report describes the log at the opening
		for _, name := range []string{"unnamed", "lost", "acknowledged", "epoch"} {
			delete(got, name)
			delete(want, name)
		}
	} else if v.report.SnapshotSeq > 0 {
		got, want = onlyAfter(v.report.SnapshotSeq, got, want, v.report, l)
	}
	lines := append(got.differences(source, want), h.checkLatest(source, v, l, state)...)
	if source == "replay" || source == "read-all open" {
		lines = append(lines, checkMismatched(source, v.report, l, state)...)
	}
	return differenceOf(lines)
}

// checkMismatched checks that exactly the mismatched snapshots are reported as damaged. Such a
// snapshot is intact, but a segment before it was replaced.
func checkMismatched(source string, report replay.Report, l *oracle.Log, s *oracle.State) []string {
	var reported []uint64
	for _, d := range report.Damage {
		for _, snapshot := range l.Snapshots {
			if d.Segment == snapshotName(snapshot.Seq) {
				reported = append(reported, snapshot.Seq)
			}
		}
	}
	slices.Sort(reported)
	if slices.Equal(reported, s.Mismatched) {
		return nil
	}
	return []string{fmt.Sprintf("%s: mismatched: the reported snapshots are %v, oracle %v", source, reported, s.Mismatched)}
}

// checkLatest checks D1 without the fold of the oracle. The last intact event of each migration
// decides whether the migration has a row, and which event the row is from. Events before an
// adopted snapshot are not checked.
func (h *history) checkLatest(source string, v reading, l *oracle.Log, s *oracle.State) (lines []string) {
	for id, e := range l.LatestEvents() {
		row, has := v.row(id)
		want := e.Kind == oracle.KindUpserted || e.Kind == oracle.KindRestored
		if e.Seq > s.SnapshotSeq && (has != want || has && row.Seq != e.Seq) {
			lines = append(lines, fmt.Sprintf("%s: missing: %s has a row %t with seq %d; its last intact event is seq %d of kind %d",
				source, label(id), has, row.Seq, e.Seq, e.Kind))
		}
	}
	return lines
}
