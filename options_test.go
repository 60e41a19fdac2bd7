package migrationlog_test

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
)

// No option is ignored. If an option does not apply to a call, the call returns ErrInvalid, names
// both, and appends nothing. All other options apply.
func TestOptions_AreNotIgnored(t *testing.T) {
	s, id := open(t, t.TempDir(), nil), checkpoint.NewMigrationID()
	upsert(t, s, id, 0, addLearner)
	other := addLearner
	other.VShardID++
	options := map[string]migrationlog.WriteOption{
		"WithTimestamp": migrationlog.WithTimestamp(7), "Strict": migrationlog.Strict(), "IfVShardFree": migrationlog.IfVShardFree(),
		"Confirm": migrationlog.Confirm(), "IfSeq": migrationlog.IfSeq(0), "Epoch": migrationlog.Epoch(1), "InOrder": migrationlog.InOrder(),
		"Epoch(0)": migrationlog.Epoch(0),
	}
	_, err := s.WriteAll([]checkpoint.Event{checkpoint.AbortBegun{MigrationID: id, Compensations: undoSteps}, checkpoint.Compensated{MigrationID: id}})
	require.NoError(t, err)
	upserted := func() checkpoint.Checkpoint {
		other.VShardID++
		return row(t, checkpoint.NewMigrationID(), 0, other)
	}
	removed := func() checkpoint.Event { return checkpoint.Removed{MigrationID: checkpoint.NewMigrationID()} }
	for _, tc := range []struct {
		call, named string
		refused     map[string]bool
		write       func(opts ...migrationlog.WriteOption) error
	}{
		{"Upsert", "Upsert", map[string]bool{"WithTimestamp": true}, func(opts ...migrationlog.WriteOption) error {
			_, err := s.Upsert(upserted(), opts...)
			return err
		}},
		{"Abort", "Abort", map[string]bool{"Strict": true, "IfVShardFree": true}, func(opts ...migrationlog.WriteOption) error {
			_, err := s.Abort(checkpoint.NewMigrationID(), "reason", nil, opts...)
			return err
		}},
		{"Remove", "Remove", map[string]bool{"Strict": true, "IfVShardFree": true}, func(opts ...migrationlog.WriteOption) error {
			_, err := s.Remove(checkpoint.NewMigrationID(), opts...)
			return err
		}},
		{"BeginAbort", "BeginAbort", map[string]bool{"Strict": true, "IfVShardFree": true}, func(opts ...migrationlog.WriteOption) error {
			_, err := s.BeginAbort(id, "", undoSteps, opts...)
			return err
		}},
		{"Compensated", "Compensated", map[string]bool{"Strict": true, "IfVShardFree": true}, func(opts ...migrationlog.WriteOption) error {
			_, err := s.Compensated(id, 0, opts...)
			return err
		}},
		{"WriteAll of upserts", "WriteAll", map[string]bool{"WithTimestamp": true}, func(opts ...migrationlog.WriteOption) error {
			_, err := s.WriteAll([]checkpoint.Event{checkpoint.Upserted{Checkpoint: upserted()}, checkpoint.Upserted{Checkpoint: upserted()}}, opts...)
			return err
		}},
		{"WriteAll of both", "WriteAll", map[string]bool{"WithTimestamp": true, "IfVShardFree": true}, func(opts ...migrationlog.WriteOption) error {
			_, err := s.WriteAll([]checkpoint.Event{checkpoint.Upserted{Checkpoint: upserted()}, removed()}, opts...)
			return err
		}},
		{"WriteAll of removals", "WriteAll", map[string]bool{"WithTimestamp": true, "IfVShardFree": true}, func(opts ...migrationlog.WriteOption) error {
			_, err := s.WriteAll([]checkpoint.Event{removed()}, opts...)
			return err
		}},
		{"WriteAll of nothing", "WriteAll", map[string]bool{"WithTimestamp": true}, func(opts ...migrationlog.WriteOption) error {
			_, err := s.WriteAll(nil, opts...)
			return err
		}},
	} {
		for name, option := range options {
			before := s.Stats().LastSeq
			err := tc.write(option)
			if name == "Epoch(0)" {
				require.ErrorIs(t, err, migrationlog.ErrInvalid, tc.call)
				require.ErrorContains(t, err, "option Epoch has epoch 0")
				require.Equal(t, before, s.Stats().LastSeq)
				continue
			}
			if !tc.refused[name] {
				require.NoError(t, err, "%s with %s", tc.call, name)
				continue
			}
			require.ErrorIs(t, err, migrationlog.ErrInvalid, "%s with %s", tc.call, name)
			require.ErrorContains(t, err, "option "+name+" does not apply to ")
			require.ErrorContains(t, err, tc.named)
			require.Equal(t, before, s.Stats().LastSeq, "%s with %s", tc.call, name)
		}
	}
}

// IfSeq cannot hold for two events of one migration.
func TestWriteAll_IfSeqOnceForEachMigration(t *testing.T) {
	s, id := open(t, t.TempDir(), nil), checkpoint.NewMigrationID()
	upsert(t, s, id, 0, catchUp)
	events := []checkpoint.Event{
		checkpoint.Upserted{Checkpoint: row(t, id, 0, addLearner)},
		checkpoint.Removed{MigrationID: checkpoint.NewMigrationID()},
		checkpoint.Upserted{Checkpoint: row(t, id, 1, catchUp)},
	}
	_, err := s.WriteAll(events, migrationlog.Confirm(), migrationlog.IfSeq(1))
	require.ErrorIs(t, err, migrationlog.ErrInvalid)
	require.ErrorContains(t, err, "events[2] of WriteAll, which belongs to the same migration as events[0]")
	require.EqualValues(t, 1, s.Stats().LastSeq)
	_, err = s.WriteAll([]checkpoint.Event{nil, nil}, migrationlog.IfSeq(0))
	require.ErrorIs(t, err, migrationlog.ErrInvalid)
}

// A timestamp after the year 9999 is refused with a hint at its unit. WriteAll accepts it, because
// old logs may have such events, and logs a warning. The store's own clock is never refused.
func TestTimestamps_AfterTheYear9999(t *testing.T) {
	var log bytes.Buffer
	late := time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
	s := open(t, t.TempDir(), &migrationlog.Options{
		Logger: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return late },
	})
	id, now := checkpoint.NewMigrationID(), time.Unix(1_700_000_000, 0)
	at := func(timestampMS uint64) checkpoint.Checkpoint {
		c := row(t, id, 0, addLearner)
		c.TimestampMS = timestampMS
		return c
	}
	for unit, timestampMS := range map[string]uint64{
		"microseconds": uint64(now.UnixMicro()), "nanoseconds": uint64(now.UnixNano()),
	} {
		for call, write := range map[string]func() (migrationlog.Receipt, error){
			"Upsert": func() (migrationlog.Receipt, error) { return s.Upsert(at(timestampMS)) },
			"Abort": func() (migrationlog.Receipt, error) {
				return s.Abort(id, "", nil, migrationlog.Confirm(), migrationlog.WithTimestamp(timestampMS))
			},
			"Remove": func() (migrationlog.Receipt, error) {
				return s.Remove(id, migrationlog.Confirm(), migrationlog.WithTimestamp(timestampMS))
			},
		} {
			_, err := write()
			require.ErrorIs(t, err, migrationlog.ErrInvalid, call)
			require.ErrorContains(t, err, "pass Unix milliseconds (the value may be in "+unit+")", call)
		}
	}
	require.Zero(t, s.Stats().LastSeq)

	_, err := s.Upsert(at(checkpoint.MaxTimestampMS))
	require.NoError(t, err)
	require.NotContains(t, log.String(), "after the year")
	_, err = s.WriteAll([]checkpoint.Event{checkpoint.Removed{MigrationID: id, TimestampMS: uint64(now.UnixNano())}})
	require.NoError(t, err)
	require.Contains(t, log.String(), "events have timestamps after the year 9999")
	require.Contains(t, log.String(), id.String())
	receipt, err := s.Remove(id, migrationlog.Confirm())
	require.NoError(t, err, "Options.Now is after the year 9999")
	require.True(t, receipt.Appended())
}

// WriteAll with Strict checks the upserts among its events, and writes the others.
func TestWriteAll_StrictAmongOthers(t *testing.T) {
	s, id := open(t, t.TempDir(), nil), checkpoint.NewMigrationID()
	upsert(t, s, id, 0, addLearner)
	changed := addLearner
	changed.TargetNode++
	receipts, err := s.WriteAll([]checkpoint.Event{
		checkpoint.Aborted{MigrationID: checkpoint.NewMigrationID(), Reason: "not there"},
		checkpoint.Upserted{Checkpoint: row(t, id, 0, changed)},
	}, migrationlog.Strict(), migrationlog.Confirm())
	require.ErrorIs(t, err, migrationlog.ErrConflict)
	require.Len(t, receipts, 1)
	require.EqualValues(t, 2, receipts[0].Seq)
}

// Options without a meaning are refused before a file is created. A nil WriteOption changes
// nothing.
func TestOptions_WithoutMeaning(t *testing.T) {
	for message, opts := range map[string]*migrationlog.Options{
		"Options.OnDamage is 9":       {OnDamage: 9},
		"Options.SegmentSize is -1,":  {SegmentSize: -1},
		"Options.ScrubRate is -1,":    {ScrubRate: -1},
		"Options.LockTimeout is -1s,": {LockTimeout: -time.Second},
		"Options.SlowSync is -1s,":    {SlowSync: -time.Second},
		"Options.StallAfter is -1s,":  {StallAfter: -time.Second},
	} {
		dir := filepath.Join(memDir(t), "log")
		_, err := migrationlog.Open(dir, opts)
		require.ErrorIs(t, err, migrationlog.ErrInvalid)
		require.ErrorContains(t, err, message)
		require.NoDirExists(t, dir)
	}
	s := open(t, filepath.Join(memDir(t), "log"), nil)
	_, err := s.Upsert(row(t, checkpoint.NewMigrationID(), 0, addLearner), nil)
	require.NoError(t, err)
	_, err = s.WriteAll([]checkpoint.Event{checkpoint.Removed{MigrationID: checkpoint.NewMigrationID()}}, nil, migrationlog.Confirm())
	require.NoError(t, err)
}
