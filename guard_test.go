package migrationlog_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
)

// The later phases of the move that addLearner begins.
var (
	promote  = checkpoint.PromoteLearner{VShardID: 22, TargetNode: 3, SourceGroup: 9}
	transfer = checkpoint.LeadershipTransfer{VShardID: 22, TargetIsVoter: true, NewLeaderNodeID: 3, SourceGroup: 9}
	cutover  = checkpoint.Cutover{VShardID: 22, NewLeaderNodeID: 3, SourceGroup: 9}
)

// IfSeq compares the last event of any kind, and not the event of the row.
func TestIfSeq_ComparesTheLastEvent(t *testing.T) {
	id := checkpoint.NewMigrationID()
	for name, event := range map[string]checkpoint.Event{
		"abort_begun":  checkpoint.AbortBegun{MigrationID: id, Compensations: undoSteps},
		"compensated":  checkpoint.Compensated{MigrationID: id, Step: 7},
		"epoch_raised": checkpoint.EpochRaised{MigrationID: id, Epoch: 2},
	} {
		t.Run(name, func(t *testing.T) {
			prepare := func(t testing.TB) (*migrationlog.Store, string) {
				dir := filepath.Join(memDir(t), "log")
				s := open(t, dir, nil)
				upsert(t, s, id, 0, addLearner)
				_, err := s.WriteAll([]checkpoint.Event{event})
				require.NoError(t, err)
				return s, dir
			}
			states(t, prepare, func(t *testing.T, s *migrationlog.Store) {
				_, err := s.Abort(id, "late", nil, migrationlog.IfSeq(1))
				require.ErrorIs(t, err, migrationlog.ErrConflict)
				require.ErrorContains(t, err, "is at seq 2 (AddLearner, attempt 0), the write expects seq 1")
				_, err = s.Upsert(row(t, id, 0, catchUp), migrationlog.Confirm(), migrationlog.IfSeq(1))
				require.ErrorIs(t, err, migrationlog.ErrConflict)
				receipt, err := s.Upsert(row(t, id, 0, catchUp), migrationlog.Confirm(), migrationlog.IfSeq(2))
				require.NoError(t, err)
				require.Equal(t, migrationlog.Receipt{Seq: 3}, receipt)
			})
		})
	}
}

// A migration without a row has no last event for IfSeq, also if other events have its id.
func TestIfSeq_WithoutARow(t *testing.T) {
	s, id := open(t, memDir(t), nil), checkpoint.NewMigrationID()
	_, err := s.Remove(id, migrationlog.Epoch(1)) // appends epoch_raised
	require.NoError(t, err)
	require.EqualValues(t, 1, s.Stats().LastSeq)
	_, err = s.Upsert(row(t, id, 0, addLearner), migrationlog.IfSeq(1))
	require.ErrorIs(t, err, migrationlog.ErrConflict)
	receipt, err := s.Upsert(row(t, id, 0, addLearner), migrationlog.IfSeq(0), migrationlog.InOrder())
	require.NoError(t, err)
	require.EqualValues(t, 2, receipt.Seq)
	require.EqualValues(t, 1, historyOf(t, s, id)[1].PrevSeq, "the events of an id are linked")
}

// The epoch of a write is checked first, stored in its event, and kept over restarts.
func TestEpoch(t *testing.T) {
	id, absent := checkpoint.NewMigrationID(), checkpoint.NewMigrationID()
	prepare := func(t testing.TB) (*migrationlog.Store, string) {
		dir := filepath.Join(memDir(t), "log")
		s := open(t, dir, nil)
		receipt, err := s.Upsert(row(t, id, 0, addLearner), migrationlog.Epoch(3))
		require.NoError(t, err)
		require.Equal(t, migrationlog.Receipt{Seq: 1}, receipt)
		return s, dir
	}
	duplicate := migrationlog.Receipt{Seq: 1, Duplicate: true}
	raised := func(id checkpoint.MigrationID, timestampMS, epoch uint64) checkpoint.Event {
		return checkpoint.EpochRaised{MigrationID: id, TimestampMS: timestampMS, Epoch: epoch}
	}
	same, next := checkpoint.Upserted{Checkpoint: row(t, id, 0, addLearner)}, checkpoint.Upserted{Checkpoint: row(t, id, 0, catchUp)}
	removal := checkpoint.Removed{MigrationID: absent, TimestampMS: 7}
	for name, tc := range map[string]struct {
		event checkpoint.Event
		epoch uint64 // 0: without the guard
		more  []migrationlog.WriteOption
		want  migrationlog.Receipt
		err   error
		inLog checkpoint.Event // the new event; nil: none
		after uint64
	}{
		"lower":                     {event: next, epoch: 2, err: migrationlog.ErrFenced, after: 3},
		"lower, a duplicate":        {event: same, epoch: 2, err: migrationlog.ErrFenced, after: 3},
		"lower, confirmed":          {event: same, epoch: 2, more: []migrationlog.WriteOption{migrationlog.Confirm()}, err: migrationlog.ErrFenced, after: 3},
		"lower, nothing to remove":  {event: removal, epoch: 1, err: migrationlog.ErrFenced, after: 3},
		"lower, another conflict":   {event: next, epoch: 2, more: []migrationlog.WriteOption{migrationlog.IfSeq(9)}, err: migrationlog.ErrFenced, after: 3},
		"lower, begin an abort":     {event: checkpoint.AbortBegun{MigrationID: id}, epoch: 2, err: migrationlog.ErrFenced, after: 3},
		"lower, a step":             {event: checkpoint.Compensated{MigrationID: id}, epoch: 2, err: migrationlog.ErrFenced, after: 3},
		"equal":                     {event: next, epoch: 3, want: migrationlog.Receipt{Seq: 2}, inLog: checkpoint.Upserted{Checkpoint: next.Checkpoint, Epoch: 3}, after: 3},
		"equal, a duplicate":        {event: same, epoch: 3, want: duplicate, after: 3},
		"equal, nothing to remove":  {event: removal, epoch: 3, after: 3},
		"higher":                    {event: next, epoch: 4, want: migrationlog.Receipt{Seq: 2}, inLog: checkpoint.Upserted{Checkpoint: next.Checkpoint, Epoch: 4}, after: 4},
		"higher, a duplicate":       {event: same, epoch: 4, want: duplicate, inLog: raised(id, same.WallMS(), 4), after: 4},
		"higher, with an old seq":   {event: same, epoch: 4, more: []migrationlog.WriteOption{migrationlog.IfSeq(0)}, want: duplicate, inLog: raised(id, same.WallMS(), 4), after: 4},
		"higher, confirmed":         {event: same, epoch: 4, more: []migrationlog.WriteOption{migrationlog.Confirm()}, want: migrationlog.Receipt{Seq: 2}, inLog: checkpoint.Upserted{Checkpoint: same.Checkpoint, Epoch: 4}, after: 4},
		"higher, nothing to remove": {event: removal, epoch: 1 << 63, inLog: raised(absent, 7, 1<<63), after: 1 << 63},
		"higher, but refused":       {event: next, epoch: 4, more: []migrationlog.WriteOption{migrationlog.IfSeq(9)}, err: migrationlog.ErrConflict, after: 3},
		"without the guard":         {event: next, want: migrationlog.Receipt{Seq: 2}, inLog: next, after: 3},
	} {
		t.Run(name, func(t *testing.T) {
			states(t, prepare, func(t *testing.T, s *migrationlog.Store) {
				require.EqualValues(t, 3, s.Epoch())
				opts := tc.more
				if tc.epoch > 0 {
					opts = append([]migrationlog.WriteOption{migrationlog.Epoch(tc.epoch)}, opts...)
				}
				receipt, err := write(s, tc.event, opts...)
				require.ErrorIs(t, err, tc.err)
				require.Equal(t, tc.want, receipt)
				require.Equal(t, tc.after, s.Epoch())
				if tc.inLog == nil {
					require.EqualValues(t, 1, s.Stats().LastSeq)
					return
				}
				require.EqualValues(t, 2, s.Stats().LastSeq)
				records := historyOf(t, s, tc.event.Migration())
				require.Equal(t, tc.inLog, records[len(records)-1].Event)
			})
		})
	}
}

// The second of two writes in one batch sees the epoch of the first one. So do the events of
// WriteAll.
func TestEpoch_InOneBatch(t *testing.T) {
	s := open(t, memDir(t), nil)
	events := []checkpoint.Event{
		checkpoint.Upserted{Checkpoint: row(t, checkpoint.NewMigrationID(), 0, addLearner)},
		checkpoint.Removed{MigrationID: checkpoint.NewMigrationID()},
		checkpoint.Removed{MigrationID: checkpoint.NewMigrationID()},
	}
	receipts, err := s.WriteAll(append(events[1:], events[0]), migrationlog.Epoch(2))
	require.NoError(t, err)
	require.Equal(t, []migrationlog.Receipt{{}, {}, {Seq: 2}}, receipts)
	require.EqualValues(t, 2, s.Stats().LastSeq, "the first removal raises the epoch, the second does not")

	resume := s.HoldCommits()
	results := make(chan error, 2)
	for i, epoch := range []uint64{9, 8} {
		c := row(t, checkpoint.NewMigrationID(), 0, addLearner)
		go func() {
			_, err := s.Upsert(c, migrationlog.Epoch(epoch))
			results <- err
		}()
		require.Eventually(t, func() bool { return s.Waiting() == i+1 }, time.Minute, time.Millisecond)
	}
	resume()
	require.ErrorIs(t, errors.Join(<-results, <-results), migrationlog.ErrFenced)
	require.EqualValues(t, 3, s.Stats().LastSeq)
	require.EqualValues(t, 9, s.Epoch())

	// Without the guard, the events keep their epochs, also lower ones.
	_, err = s.WriteAll([]checkpoint.Event{
		checkpoint.Upserted{Checkpoint: row(t, checkpoint.NewMigrationID(), 0, addLearner), Epoch: 4},
		checkpoint.EpochRaised{MigrationID: checkpoint.NewMigrationID(), Epoch: 12},
	})
	require.NoError(t, err)
	require.EqualValues(t, 12, s.Epoch())
	_, err = s.WriteAll([]checkpoint.Event{checkpoint.EpochRaised{MigrationID: checkpoint.NewMigrationID(), Epoch: 13}}, migrationlog.Epoch(14))
	require.ErrorIs(t, err, migrationlog.ErrInvalid)
	require.ErrorContains(t, err, "option Epoch(14) does not apply to events[0] of WriteAll, which already has epoch 13")
	receipts, err = s.WriteAll([]checkpoint.Event{checkpoint.EpochRaised{MigrationID: checkpoint.NewMigrationID(), Epoch: 14}}, migrationlog.Epoch(14))
	require.NoError(t, err)
	require.Equal(t, []migrationlog.Receipt{{Seq: 6}}, receipts)
}

// If a lost event may have had a higher epoch, the report says so.
func TestEpoch_UncertainAfterALoss(t *testing.T) {
	dir, _, ends := abortLog(t)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots")))
	flip(t, segmentPath(dir, firstSegment), ends[3]-1) // it has the highest epoch
	s := open(t, dir, nil)
	require.EqualValues(t, 2, s.Epoch())
	require.True(t, s.Report().EpochUncertain)
	_, err := s.Remove(checkpoint.NewMigrationID(), migrationlog.Epoch(3))
	require.NoError(t, err)
	require.EqualValues(t, 3, s.Epoch())
}

// orderTest is one write with InOrder after a history.
type orderTest struct {
	before []checkpoint.Event
	event  checkpoint.Event
	more   []migrationlog.WriteOption
	err    bool // ErrOutOfOrder
	none   bool // the write succeeds and appends nothing
}

// Each rule of InOrder, with the writes next to its limit.
func TestInOrder(t *testing.T) {
	id := checkpoint.NewMigrationID()
	up := func(attempt uint32, p checkpoint.Payload) checkpoint.Event {
		return checkpoint.Upserted{Checkpoint: row(t, id, attempt, p)}
	}
	all := []checkpoint.Event{up(0, addLearner), up(0, catchUp), up(0, promote), up(0, transfer), up(0, cutover), up(0, complete)}
	abort, begin := checkpoint.Aborted{MigrationID: id, TimestampMS: 7}, checkpoint.AbortBegun{MigrationID: id, Compensations: undoSteps, TimestampMS: 7}
	removal := checkpoint.Removed{MigrationID: id, TimestampMS: 7}
	confirm := []migrationlog.WriteOption{migrationlog.Confirm()}
	otherNode, otherGroup := addLearner, addLearner
	otherNode.TargetNode++
	otherGroup.SourceGroup++
	otherSource := addLearner
	otherSource.SourceNode++
	for name, tc := range map[string]orderTest{
		"AddLearner first":                        {event: all[0]},
		"CatchUp first":                           {event: all[1], err: true},
		"Complete first, confirmed":               {event: all[5], more: confirm, err: true},
		"AddLearner after an abort":               {before: []checkpoint.Event{all[0], all[1], abort}, event: all[0]},
		"CatchUp after an abort":                  {before: []checkpoint.Event{all[0], all[1], abort}, event: all[1], err: true},
		"the next phase":                          {before: all[:1], event: all[1]},
		"PromoteLearner after CatchUp":            {before: all[:2], event: all[2]},
		"LeadershipTransfer after PromoteLearner": {before: all[:3], event: all[3]},
		"Cutover after LeadershipTransfer":        {before: all[:4], event: all[4]},
		"Complete after Cutover":                  {before: all[:5], event: all[5]},
		"two phases above":                        {before: all[:1], event: all[2], err: true},
		"two above the row, one the furthest":     {before: append(all[:2:2], up(1, addLearner)), event: all[2]},
		"a duplicate":                             {before: all[:2], event: all[1], none: true},
		"an earlier phase, same attempt":          {before: all[:2], event: all[0], err: true},
		"an earlier phase, higher attempt":        {before: all[:2], event: up(1, addLearner)},
		"an earlier phase, higher than the row's": {before: append(all[:1:1], up(5, addLearner), up(0, catchUp)), event: up(1, addLearner), err: true},
		"the same phase, higher attempt":          {before: all[:2], event: up(1, catchUp)},
		"the same phase, lower attempt":           {before: append(all[:1:1], up(4, catchUp)), event: up(3, catchUp), err: true},
		"again after a step back":                 {before: append(all[:2:2], up(1, addLearner)), event: up(0, catchUp), err: true},
		"again with a higher attempt":             {before: append(all[:2:2], up(1, addLearner)), event: up(1, catchUp)},
		"a phase that was skipped":                {before: []checkpoint.Event{all[0], all[2]}, event: up(0, catchUp)},
		"back from Cutover":                       {before: all[:5], event: up(9, transfer), err: true},
		"back from Complete":                      {before: all, event: up(9, addLearner), err: true},
		"back, although the row is before":        {before: append(all[:5:5], up(1, catchUp)), event: up(9, promote), err: true},
		"Cutover again":                           {before: all[:5], event: up(1, cutover)},
		"Cutover after Complete":                  {before: all, event: up(1, cutover)},
		"another target":                          {before: all[:1], event: up(1, otherNode), err: true},
		"another group":                           {before: all[:1], event: up(1, otherGroup), err: true},
		"another source":                          {before: all[:1], event: up(1, otherSource)},
		"another target, promoted":                {before: all[:2], event: up(0, checkpoint.PromoteLearner{VShardID: 22, TargetNode: 4, SourceGroup: 9}), err: true},
		"another leader":                          {before: all[:3], event: up(0, checkpoint.LeadershipTransfer{VShardID: 22, NewLeaderNodeID: 5, SourceGroup: 9}), err: true},
		"another leader, confirmed": {
			before: all[:4], event: up(0, checkpoint.LeadershipTransfer{VShardID: 22, NewLeaderNodeID: 5, SourceGroup: 9}), more: confirm, err: true},
		"another group at Cutover":              {before: all[:4], event: up(0, checkpoint.Cutover{VShardID: 22, NewLeaderNodeID: 3, SourceGroup: 8}), err: true},
		"another target in a new incarnation":   {before: []checkpoint.Event{all[0], removal}, event: up(0, otherNode)},
		"a confirmed row":                       {before: all[:2], event: all[1], more: confirm},
		"a confirmed row at Cutover":            {before: all[:5], event: all[4], more: confirm},
		"a confirmed earlier row":               {before: all[:2], event: all[0], more: confirm, err: true},
		"abort at LeadershipTransfer":           {before: all[:4], event: abort},
		"abort at Cutover":                      {before: all[:5], event: abort, err: true},
		"abort at Complete":                     {before: all, event: abort, err: true},
		"abort after Cutover, before it again":  {before: append(all[:5:5], up(1, catchUp)), event: abort, err: true},
		"abort without a row":                   {event: abort, none: true},
		"abort without a row, confirmed":        {event: abort, more: confirm},
		"begin an abort":                        {before: all[:4], event: begin},
		"begin an abort at Cutover":             {before: all[:5], event: begin, err: true},
		"a step of an abort":                    {before: []checkpoint.Event{all[0], begin}, event: checkpoint.Compensated{MigrationID: id, TimestampMS: 7}},
		"removal at Cutover":                    {before: all[:5], event: removal, err: true},
		"removal at Complete":                   {before: all, event: removal},
		"removal after a step back":             {before: append(all[:6:6], up(1, catchUp)), event: removal, err: true},
		"removal without a row":                 {event: removal, none: true},
		"abort in a new incarnation":            {before: append(all[:5:5], removal, all[0]), event: abort},
		"the phases of another migration":       {before: []checkpoint.Event{checkpoint.Upserted{Checkpoint: row(t, checkpoint.NewMigrationID(), 0, catchUp)}}, event: all[1], err: true},
		"after a retry of an earlier upsert":    {before: all[:3], event: all[1], err: true},
		"the next phase with a higher attempt":  {before: all[:1], event: up(7, catchUp)},
		"the first checkpoint with any attempt": {event: up(7, addLearner)},
	} {
		t.Run(name, func(t *testing.T) { tc.run(t) })
	}
}

func (tc orderTest) run(t *testing.T) {
	prepare := func(t testing.TB) (*migrationlog.Store, string) {
		dir := filepath.Join(memDir(t), "log")
		s := open(t, dir, nil)
		upsert(t, s, checkpoint.NewMigrationID(), 0, addLearner) // so that there is an event
		_, err := s.WriteAll(tc.before)
		require.NoError(t, err)
		return s, dir
	}
	check := func(t *testing.T, before uint64, s *migrationlog.Store, receipt migrationlog.Receipt, err error) {
		if tc.err {
			require.ErrorIs(t, err, migrationlog.ErrOutOfOrder)
			require.Equal(t, migrationlog.Receipt{}, receipt)
		} else {
			require.NoError(t, err)
			require.Equal(t, !tc.none, receipt.Appended())
		}
		if tc.err || tc.none {
			require.Equal(t, before, s.Stats().LastSeq)
			return
		}
		require.Equal(t, before+1, s.Stats().LastSeq)
	}
	opts := append([]migrationlog.WriteOption{migrationlog.InOrder()}, tc.more...)
	states(t, prepare, func(t *testing.T, s *migrationlog.Store) {
		before := s.Stats().LastSeq
		receipt, err := write(s, tc.event, opts...)
		check(t, before, s, receipt, err)
	})
	t.Run("WriteAll", func(t *testing.T) {
		s, _ := prepare(t)
		before := s.Stats().LastSeq
		receipts, err := s.WriteAll([]checkpoint.Event{tc.event}, opts...)
		check(t, before, s, append(receipts, migrationlog.Receipt{})[0], err)
	})
}

// WriteAll with InOrder checks each event with the events before it.
func TestInOrder_WholeMove(t *testing.T) {
	s, id := open(t, memDir(t), nil), checkpoint.NewMigrationID()
	var events []checkpoint.Event
	for _, p := range []checkpoint.Payload{addLearner, catchUp, promote, transfer, cutover, complete} {
		events = append(events, checkpoint.Upserted{Checkpoint: row(t, id, 0, p)})
	}
	events = append(events, checkpoint.Removed{MigrationID: id})
	receipts, err := s.WriteAll(events, migrationlog.InOrder(), migrationlog.Strict(), migrationlog.Epoch(1))
	require.NoError(t, err)
	require.Len(t, receipts, 7)
	receipts, err = s.WriteAll([]checkpoint.Event{events[0], events[2]}, migrationlog.InOrder())
	require.ErrorIs(t, err, migrationlog.ErrOutOfOrder)
	require.Len(t, receipts, 1)
}

// A row in doubt refuses every write with InOrder, also a retry, except one with Confirm.
func TestInOrder_InDoubt(t *testing.T) {
	dir, events, ends := smallLog(t)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots")))
	flip(t, segmentPath(dir, firstSegment), ends[4]-1) // the last event of a
	s, a := open(t, dir, nil), events[0].Migration()
	latest, _ := s.Get(a)
	for name, call := range map[string]func(...migrationlog.WriteOption) (migrationlog.Receipt, error){
		"duplicate": func(opts ...migrationlog.WriteOption) (migrationlog.Receipt, error) { return s.Upsert(latest, opts...) },
		"next phase": func(opts ...migrationlog.WriteOption) (migrationlog.Receipt, error) {
			return s.Upsert(row(t, a, 0, promote), opts...)
		},
		"abort": func(opts ...migrationlog.WriteOption) (migrationlog.Receipt, error) {
			return s.Abort(a, "", nil, opts...)
		},
		"begin": func(opts ...migrationlog.WriteOption) (migrationlog.Receipt, error) {
			return s.BeginAbort(a, "", nil, opts...)
		},
		"removal": func(opts ...migrationlog.WriteOption) (migrationlog.Receipt, error) { return s.Remove(a, opts...) },
	} {
		_, err := call(migrationlog.InOrder())
		require.ErrorIs(t, err, migrationlog.ErrOutOfOrder, name)
		require.ErrorContains(t, err, "is in doubt", name)
	}
	_, err := s.Upsert(row(t, checkpoint.NewMigrationID(), 0, addLearner), migrationlog.InOrder())
	require.NoError(t, err, "a migration without a row may begin")
	_, err = s.Upsert(row(t, a, 0, transfer), migrationlog.InOrder(), migrationlog.Confirm())
	require.ErrorIs(t, err, migrationlog.ErrOutOfOrder, "the other rules stay")
	receipt, err := s.Upsert(latest, migrationlog.InOrder(), migrationlog.Confirm())
	require.NoError(t, err)
	require.True(t, receipt.Appended())
	_, err = s.Upsert(row(t, a, 0, promote), migrationlog.InOrder())
	require.NoError(t, err, "the doubt has ended")
}

// Of a thousand concurrent callers of each guard, exactly one wins: one receipt has a Seq and is no
// duplicate. The others get a duplicate or the error of the guard, whether the calls are in one batch
// or in many.
func TestGuards_OneOfAThousandWins(t *testing.T) {
	const callers = 1000
	id := checkpoint.NewMigrationID()
	moveTo := func(n int) checkpoint.AddLearner {
		p := addLearner
		p.TargetNode = uint64(n)
		return p
	}
	for name, tc := range map[string]struct {
		before []checkpoint.Event
		call   func(s *migrationlog.Store, n int) (migrationlog.Receipt, error)
		lost   []error // of the other callers; nil: a duplicate
		events uint64  // in the log; 0: any number
	}{
		"IfSeq": {call: func(s *migrationlog.Store, n int) (migrationlog.Receipt, error) {
			return s.Upsert(row(t, id, uint32(n), addLearner), migrationlog.IfSeq(0))
		}, lost: []error{migrationlog.ErrConflict}, events: 1},
		"IfSeq of an abort": {
			before: []checkpoint.Event{checkpoint.Upserted{Checkpoint: row(t, id, 0, addLearner)}},
			call: func(s *migrationlog.Store, n int) (migrationlog.Receipt, error) {
				if n%2 == 0 {
					return s.Upsert(row(t, id, uint32(1+n), addLearner), migrationlog.IfSeq(1))
				}
				return s.Abort(id, "stale", nil, migrationlog.IfSeq(1), migrationlog.Confirm())
			}, lost: []error{migrationlog.ErrConflict, nil}, events: 2},
		"IfVShardFree": {call: func(s *migrationlog.Store, n int) (migrationlog.Receipt, error) {
			return s.Upsert(row(t, checkpoint.NewMigrationID(), 0, addLearner), migrationlog.IfVShardFree())
		}, lost: []error{migrationlog.ErrMigrationInProgress}, events: 1},
		"Strict": {call: func(s *migrationlog.Store, n int) (migrationlog.Receipt, error) {
			return s.Upsert(row(t, id, 0, moveTo(n)), migrationlog.Strict())
		}, lost: []error{migrationlog.ErrConflict}, events: 1},
		"Epoch": {call: func(s *migrationlog.Store, n int) (migrationlog.Receipt, error) {
			return s.Upsert(row(t, id, 0, addLearner), migrationlog.Epoch(uint64(1+n)))
		}, lost: []error{migrationlog.ErrFenced, nil}},
		"Epoch, the same": {call: func(s *migrationlog.Store, n int) (migrationlog.Receipt, error) {
			return s.Upsert(row(t, id, 0, addLearner), migrationlog.Epoch(4))
		}, lost: []error{nil}, events: 1},
		"InOrder": {call: func(s *migrationlog.Store, n int) (migrationlog.Receipt, error) {
			return s.Upsert(row(t, id, uint32(n), moveTo(n)), migrationlog.InOrder())
		}, lost: []error{migrationlog.ErrOutOfOrder}, events: 1},
		"BeginAbort": {
			before: []checkpoint.Event{checkpoint.Upserted{Checkpoint: row(t, id, 0, addLearner)}},
			call: func(s *migrationlog.Store, n int) (migrationlog.Receipt, error) {
				return s.BeginAbort(id, "stale", []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, PeerID: uint64(n)}})
			}, lost: []error{migrationlog.ErrConflict}, events: 2},
		"BeginAbort or go on": {
			before: []checkpoint.Event{checkpoint.Upserted{Checkpoint: row(t, id, 0, addLearner)}},
			call: func(s *migrationlog.Store, n int) (migrationlog.Receipt, error) {
				if n%2 == 0 {
					return s.Upsert(row(t, id, uint32(n), catchUp), migrationlog.IfSeq(1))
				}
				return s.BeginAbort(id, "stale", undoSteps, migrationlog.IfSeq(1))
			}, lost: []error{migrationlog.ErrConflict, migrationlog.ErrAborting, nil}, events: 2},
		"Compensated": {
			before: []checkpoint.Event{checkpoint.Upserted{Checkpoint: row(t, id, 0, addLearner)}, checkpoint.AbortBegun{MigrationID: id, Compensations: undoSteps}},
			call: func(s *migrationlog.Store, n int) (migrationlog.Receipt, error) {
				return s.Compensated(id, 1)
			}, lost: []error{nil}, events: 3},
	} {
		for _, together := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				s := open(t, memDir(t), &migrationlog.Options{NoSync: true})
				_, err := s.WriteAll(tc.before)
				require.NoError(t, err)
				resume := func() {}
				if together {
					resume = s.HoldCommits()
				}
				var won, wrong []any
				var mu sync.Mutex
				var calls sync.WaitGroup
				for n := range callers {
					calls.Go(func() {
						receipt, err := tc.call(s, n)
						mu.Lock()
						defer mu.Unlock()
						known := func(want error) bool { return err == want || want != nil && errors.Is(err, want) }
						switch {
						case err == nil && receipt.Appended():
							won = append(won, receipt)
						case !slices.ContainsFunc(tc.lost, known):
							wrong = append(wrong, receipt, err)
						}
					})
				}
				if together {
					require.Eventually(t, func() bool { return s.Waiting() == callers }, time.Minute, time.Millisecond)
				}
				resume()
				calls.Wait()
				require.Len(t, won, 1)
				require.Empty(t, wrong)
				if tc.events > 0 {
					require.Equal(t, tc.events, s.Stats().LastSeq)
				}
				if name == "Epoch" {
					require.EqualValues(t, callers, s.Epoch(), "the highest epoch is recorded, also if its write was a duplicate")
				}
			})
		}
	}
}
