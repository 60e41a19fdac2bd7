package migrationlog_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
)

// undoSteps are the compensations of the aborts in these tests.
var undoSteps = []checkpoint.Compensation{
	{Kind: checkpoint.RemoveVoter, GroupID: 9, PeerID: 3}, {Kind: checkpoint.RestoreLeaderHint, GroupID: 9, PeerID: 5},
}

// abortBegun returns an open log and its directory. Migration id is at CatchUp (seq 2), its abort was
// begun (seq 3), and step 1 was recorded (seq 4).
func abortBegun(t testing.TB, id checkpoint.MigrationID) (*migrationlog.Store, string) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, nil)
	upsert(t, s, id, 0, addLearner)
	upsert(t, s, id, 0, catchUp)
	receipt, err := s.BeginAbort(id, "stale", undoSteps, migrationlog.WithTimestamp(7))
	require.NoError(t, err)
	require.Equal(t, migrationlog.Receipt{Seq: 3}, receipt)
	receipt, err = s.Compensated(id, 1, migrationlog.WithTimestamp(8))
	require.NoError(t, err)
	require.Equal(t, migrationlog.Receipt{Seq: 4}, receipt)
	return s, dir
}

// states calls test with the log that prepare returns: as it is, opened again from a snapshot, and
// opened again after a kill, without a snapshot.
func states(t *testing.T, prepare func(t testing.TB) (*migrationlog.Store, string), test func(t *testing.T, s *migrationlog.Store)) {
	for name, again := range map[string]func(*migrationlog.Store, string) *migrationlog.Store{
		"live": func(s *migrationlog.Store, _ string) *migrationlog.Store { return s },
		"from a snapshot": func(s *migrationlog.Store, dir string) *migrationlog.Store {
			last := s.Stats().LastSeq
			s = reopen(t, s, dir)
			require.Equal(t, last, s.Report().SnapshotSeq)
			return s
		},
		"after a kill": func(_ *migrationlog.Store, dir string) *migrationlog.Store {
			killed := open(t, copyDir(t, dir), nil)
			require.Zero(t, killed.Report().SnapshotSeq)
			return killed
		},
	} {
		t.Run(name, func(t *testing.T) { test(t, again(prepare(t))) })
	}
}

// While an abort is under way, each call has the result in the documentation of BeginAbort. A call
// that is refused appends nothing.
func TestAbort_CallsWhileItIsUnderWay(t *testing.T) {
	id := checkpoint.NewMigrationID()
	upserted := func(attempt uint32, p checkpoint.Payload) checkpoint.Event {
		return checkpoint.Upserted{Checkpoint: row(t, id, attempt, p)}
	}
	other := []checkpoint.Compensation{undoSteps[1], undoSteps[0]}
	begun := func(reason string, list []checkpoint.Compensation) checkpoint.Event {
		return checkpoint.AbortBegun{MigrationID: id, Reason: reason, Compensations: list, TimestampMS: 9}
	}
	step := func(n uint32) checkpoint.Event {
		return checkpoint.Compensated{MigrationID: id, Step: n, TimestampMS: 9}
	}
	aborted := func(list []checkpoint.Compensation) checkpoint.Event {
		return checkpoint.Aborted{MigrationID: id, Reason: "stale", Compensations: list, TimestampMS: 9}
	}
	appended, duplicate := migrationlog.Receipt{Seq: 5}, migrationlog.Receipt{Seq: 3, Duplicate: true}
	confirm := migrationlog.Confirm()
	for name, tc := range map[string]struct {
		event checkpoint.Event
		opts  []migrationlog.WriteOption
		want  migrationlog.Receipt
		err   error
		inLog checkpoint.Event // nil: the event itself
	}{
		"upsert of the next phase":                {event: upserted(0, complete), err: migrationlog.ErrAborting},
		"upsert that repeats the row":             {event: upserted(0, catchUp), err: migrationlog.ErrAborting},
		"confirmed upsert of the row":             {event: upserted(0, catchUp), opts: []migrationlog.WriteOption{confirm}, want: appended},
		"confirmed upsert with another key":       {event: upserted(1, addLearner), opts: []migrationlog.WriteOption{confirm}, want: appended},
		"confirmed upsert with IfSeq":             {event: upserted(0, catchUp), opts: []migrationlog.WriteOption{confirm, migrationlog.IfSeq(4)}, want: appended},
		"confirmed upsert from before the abort":  {event: upserted(0, catchUp), opts: []migrationlog.WriteOption{confirm, migrationlog.IfSeq(1)}, err: migrationlog.ErrConflict},
		"removal":                                 {event: checkpoint.Removed{MigrationID: id}, err: migrationlog.ErrAborting},
		"confirmed removal":                       {event: checkpoint.Removed{MigrationID: id}, opts: []migrationlog.WriteOption{confirm}, err: migrationlog.ErrAborting},
		"begin again":                             {event: begun("stale", undoSteps), want: duplicate},
		"begin again with an old seq":             {event: begun("stale", undoSteps), opts: []migrationlog.WriteOption{migrationlog.IfSeq(2)}, want: duplicate},
		"begin again with another reason":         {event: begun("late", undoSteps), want: migrationlog.Receipt{Seq: 3, Duplicate: true, Differs: true}},
		"begin again, confirmed":                  {event: begun("late", undoSteps), opts: []migrationlog.WriteOption{confirm}, want: appended},
		"begin again, confirmed, retried":         {event: begun("stale", undoSteps), opts: []migrationlog.WriteOption{confirm, migrationlog.IfSeq(2)}, want: duplicate},
		"begin with another list":                 {event: begun("stale", other), err: migrationlog.ErrConflict},
		"begin with a shorter list":               {event: begun("stale", undoSteps[:1]), err: migrationlog.ErrConflict},
		"begin with no list":                      {event: begun("stale", nil), err: migrationlog.ErrConflict},
		"the next step":                           {event: step(0), want: appended},
		"the next step with IfSeq":                {event: step(0), opts: []migrationlog.WriteOption{migrationlog.IfSeq(4)}, want: appended},
		"the next step with the seq of the row":   {event: step(0), opts: []migrationlog.WriteOption{migrationlog.IfSeq(2)}, err: migrationlog.ErrConflict},
		"the same step":                           {event: step(1), want: duplicate},
		"the same step with an old seq":           {event: step(1), opts: []migrationlog.WriteOption{migrationlog.IfSeq(3)}, want: duplicate},
		"the same step, confirmed":                {event: step(1), opts: []migrationlog.WriteOption{confirm}, want: appended},
		"a step after the list":                   {event: step(2), err: migrationlog.ErrInvalid},
		"a step far after the list":               {event: step(1 << 31), err: migrationlog.ErrInvalid},
		"abort with the same list":                {event: aborted(undoSteps), want: appended},
		"abort with nil":                          {event: aborted(nil), want: appended, inLog: aborted(undoSteps)},
		"abort with no list":                      {event: aborted([]checkpoint.Compensation{}), want: appended, inLog: aborted(undoSteps)},
		"abort with nil, IfSeq and an epoch":      {event: aborted(nil), opts: []migrationlog.WriteOption{migrationlog.IfSeq(4), migrationlog.Epoch(6), migrationlog.InOrder()}, want: appended, inLog: withEpoch(aborted(undoSteps), 6)},
		"abort with another list":                 {event: aborted(other), err: migrationlog.ErrConflict},
		"confirmed abort with another list":       {event: aborted(other[:1]), opts: []migrationlog.WriteOption{confirm}, err: migrationlog.ErrConflict},
		"abort with the seq of the row":           {event: aborted(nil), opts: []migrationlog.WriteOption{migrationlog.IfSeq(2)}, err: migrationlog.ErrConflict},
		"upsert with a guard that holds":          {event: upserted(0, complete), opts: []migrationlog.WriteOption{migrationlog.IfSeq(4)}, err: migrationlog.ErrAborting},
		"upsert with another payload and Confirm": {event: upserted(0, checkpoint.CatchUp{VShardID: 22}), opts: []migrationlog.WriteOption{confirm, migrationlog.Strict()}, err: migrationlog.ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			states(t, func(t testing.TB) (*migrationlog.Store, string) { return abortBegun(t, id) }, func(t *testing.T, s *migrationlog.Store) {
				receipt, err := write(s, tc.event, tc.opts...)
				require.Equal(t, tc.want, receipt)
				row, exists := s.Row(id)
				if tc.err != nil {
					require.ErrorIs(t, err, tc.err)
				} else {
					require.NoError(t, err)
				}
				if tc.want != appended {
					require.EqualValues(t, 4, s.Stats().LastSeq)
					require.EqualValues(t, 4, row.LastSeq)
					return
				}
				records := historyOf(t, s, id)
				want := tc.event
				if tc.inLog != nil {
					want = tc.inLog
				}
				require.Equal(t, want, records[4].Event)
				if _, ends := tc.event.(checkpoint.Aborted); ends {
					require.False(t, exists)
					return
				}
				require.NotNil(t, row.Facts.Abort, "the abort stays")
				require.True(t, row.Facts.Abort.Done[1], "and its steps")
			})
		})
	}
}

func withEpoch(e checkpoint.Event, epoch uint64) checkpoint.Event {
	a := e.(checkpoint.Aborted)
	a.Epoch = epoch
	return a
}

// A retry of a confirmed upsert during an abort is a duplicate. After the abort, a new incarnation
// is independent of it, and the retries of its calls have no effect.
func TestAbort_Retries(t *testing.T) {
	id := checkpoint.NewMigrationID()
	s, _ := abortBegun(t, id)
	confirmed := func() (migrationlog.Receipt, error) {
		return s.Upsert(row(t, id, 0, catchUp), migrationlog.Confirm(), migrationlog.IfSeq(4))
	}
	receipt, err := confirmed()
	require.NoError(t, err)
	require.Equal(t, migrationlog.Receipt{Seq: 5}, receipt)
	receipt, err = confirmed()
	require.NoError(t, err)
	require.Equal(t, migrationlog.Receipt{Seq: 5, Duplicate: true}, receipt)

	abort := func() (migrationlog.Receipt, error) {
		return s.Abort(id, "stale", nil, migrationlog.IfSeq(5), migrationlog.InOrder())
	}
	receipt, err = abort()
	require.NoError(t, err)
	require.Equal(t, migrationlog.Receipt{Seq: 6}, receipt)
	receipt, err = abort()
	require.NoError(t, err)
	require.Equal(t, migrationlog.Receipt{}, receipt)
	_, err = s.BeginAbort(id, "stale", undoSteps)
	require.ErrorIs(t, err, migrationlog.ErrConflict, "without a row there is nothing to undo")
	_, err = s.BeginAbort(id, "stale", undoSteps, migrationlog.Confirm())
	require.ErrorIs(t, err, migrationlog.ErrConflict)
	_, err = s.Compensated(id, 0)
	require.ErrorIs(t, err, migrationlog.ErrInvalid)

	require.Equal(t, migrationlog.Receipt{Seq: 7}, upsert(t, s, id, 0, addLearner), "a new incarnation")
	_, err = s.Compensated(id, 0)
	require.ErrorIs(t, err, migrationlog.ErrInvalid, "its abort was not begun")
	receipt, err = s.Abort(id, "at once", undoSteps[:1])
	require.NoError(t, err)
	require.Equal(t, migrationlog.Receipt{Seq: 8}, receipt, "an abort may have any list if none was begun")
}

// A migration is in flight until its abort has ended.
func TestAbort_VShardIsNotFree(t *testing.T) {
	states(t, func(t testing.TB) (*migrationlog.Store, string) { return abortBegun(t, checkpoint.MigrationID{1}) }, func(t *testing.T, s *migrationlog.Store) {
		next := row(t, checkpoint.NewMigrationID(), 0, addLearner)
		_, err := s.Upsert(next, migrationlog.IfVShardFree())
		require.ErrorIs(t, err, migrationlog.ErrMigrationInProgress)
		_, err = s.Abort(checkpoint.MigrationID{1}, "stale", nil)
		require.NoError(t, err)
		_, err = s.Upsert(next, migrationlog.IfVShardFree())
		require.NoError(t, err)
	})
}

// An abort without compensations can be begun and finished.
func TestAbort_WithoutCompensations(t *testing.T) {
	s, id := open(t, memDir(t), nil), checkpoint.NewMigrationID()
	upsert(t, s, id, 0, addLearner)
	for _, want := range []migrationlog.Receipt{{Seq: 2}, {Seq: 2, Duplicate: true}} {
		receipt, err := s.BeginAbort(id, "stale", nil)
		require.NoError(t, err)
		require.Equal(t, want, receipt)
	}
	_, err := s.Compensated(id, 0)
	require.ErrorIs(t, err, migrationlog.ErrInvalid)
	_, err = s.Abort(id, "stale", undoSteps)
	require.ErrorIs(t, err, migrationlog.ErrConflict)
	_, err = s.Abort(id, "stale", nil)
	require.NoError(t, err)
	require.Zero(t, s.Len())
}

// WriteAll without guards reproduces every history, also one that the methods would refuse. With a
// guard it checks each event like the method for its kind. Strict is a guard too.
func TestAbort_WriteAll(t *testing.T) {
	id := checkpoint.NewMigrationID()
	for name, tc := range map[string]struct {
		event   checkpoint.Event
		guarded error // with a guard
	}{
		"upsert":     {checkpoint.Upserted{Checkpoint: row(t, id, 1, catchUp)}, migrationlog.ErrAborting},
		"removal":    {checkpoint.Removed{MigrationID: id}, migrationlog.ErrAborting},
		"other list": {checkpoint.AbortBegun{MigrationID: id, Reason: "r"}, migrationlog.ErrConflict},
		"other end":  {checkpoint.Aborted{MigrationID: id, Reason: "r", Compensations: undoSteps[:1]}, migrationlog.ErrConflict},
		"other step": {checkpoint.Compensated{MigrationID: id, Step: 7}, migrationlog.ErrInvalid},
		"abort":      {checkpoint.Aborted{MigrationID: id, Reason: "r"}, nil},
		"same step":  {checkpoint.Compensated{MigrationID: id, Step: 1}, nil},
		"epoch":      {checkpoint.EpochRaised{MigrationID: id, Epoch: 4}, nil},
	} {
		for option, opts := range map[string][]migrationlog.WriteOption{
			"none": nil, "Confirm": {migrationlog.Confirm()}, "Epoch": {migrationlog.Epoch(4)}, "IfSeq": {migrationlog.IfSeq(4)},
			"Strict": {migrationlog.Strict()}, "IfVShardFree": {migrationlog.IfVShardFree()},
			"InOrder": {migrationlog.InOrder()},
		} {
			s, _ := abortBegun(t, id)
			_, isUpsert := tc.event.(checkpoint.Upserted)
			receipts, err := s.WriteAll([]checkpoint.Event{tc.event}, opts...)
			want := tc.guarded
			switch {
			case option == "none" || option == "Confirm":
				want = nil
			case option == "IfVShardFree" && !isUpsert:
				want = migrationlog.ErrInvalid
			}
			if want != nil {
				require.ErrorIs(t, err, want, "%s with %s", name, option)
				require.Empty(t, receipts)
				require.EqualValues(t, 4, s.Stats().LastSeq)
				continue
			}
			require.NoError(t, err, "%s with %s", name, option)
			guarded := !slices.Contains([]string{"none", "Confirm"}, option)
			if name == "same step" && guarded {
				require.Equal(t, []migrationlog.Receipt{{Seq: 3, Duplicate: true}}, receipts)
				continue
			}
			require.Equal(t, []migrationlog.Receipt{{Seq: 5}}, receipts, "%s with %s", name, option)
			if name != "abort" {
				require.NotNil(t, historyOf(t, s, id)[4].Event)
				continue
			}
			written := historyOf(t, s, id)[4].Event.(checkpoint.Aborted)
			require.Equal(t, guarded, len(written.Compensations) == 2, "a reproduced abort stays as it is")
		}
	}
}

// A caller's event may take 64 KiB minus 128 bytes, without its epoch. The epoch that the store
// adds always fits. The store does not append an abort that becomes too large with the whole list.
func TestAbort_LargestEvent(t *testing.T) {
	s, id := open(t, memDir(t), nil), checkpoint.NewMigrationID()
	upsert(t, s, id, 0, addLearner)
	const highest = 1<<64 - 1
	sized := func(sizeBytes int, epoch uint64) checkpoint.AbortBegun {
		e := checkpoint.AbortBegun{MigrationID: id, Reason: strings.Repeat("x", 60_000), TimestampMS: 1, Epoch: epoch}
		body, err := checkpoint.EncodeEvent(checkpoint.AbortBegun{MigrationID: id, Reason: e.Reason, TimestampMS: 1})
		require.NoError(t, err)
		e.Reason += strings.Repeat("x", sizeBytes-len(body))
		return e
	}
	const limit = 64<<10 - 128
	for _, extra := range []int{0, 1, 127, 128} {
		e := sized(limit+extra, 0)
		_, err := s.BeginAbort(id, e.Reason, nil, migrationlog.WithTimestamp(1), migrationlog.Epoch(highest), migrationlog.Confirm())
		_, errAll := s.WriteAll([]checkpoint.Event{sized(limit+extra, highest)})
		if extra == 0 {
			require.NoError(t, err)
			require.NoError(t, errAll, "the epoch of an event does not count")
			require.EqualValues(t, 3, s.Stats().LastSeq)
			continue
		}
		require.ErrorIs(t, err, migrationlog.ErrTooLarge)
		require.ErrorIs(t, errAll, migrationlog.ErrTooLarge)
		require.ErrorContains(t, err, "at most 65408")
	}
	require.EqualValues(t, 3, s.Stats().LastSeq)

	large := checkpoint.NewMigrationID()
	upsert(t, s, large, 0, addLearner)
	list := slices.Repeat(undoSteps[:1], 10_000)
	_, err := s.BeginAbort(large, "", list)
	require.NoError(t, err)
	_, err = s.Abort(large, strings.Repeat("x", 60_000), nil)
	require.ErrorIs(t, err, migrationlog.ErrTooLarge)
	_, ok := s.Row(large)
	require.True(t, ok)
	_, err = s.Abort(large, "short", nil)
	require.NoError(t, err)
	_, ok = s.Row(large)
	require.False(t, ok)
}
