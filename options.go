package migrationlog

import (
	"fmt"
	"log/slog"
	"time"

	"migrationlog/checkpoint"
	"migrationlog/eventlog"
)

// DamagePolicy decides how Open treats a damaged log.
type DamagePolicy uint8

const (
	// SkipDamage opens the log with all intact events. Store.Report lists the damage.
	SkipDamage DamagePolicy = iota
	// RefuseDamage makes Open return a *DamagedError and leave the log unchanged if a finding loses
	// or endangers events. A torn tail is harmless: it is the rest of a write that was interrupted
	// and not acknowledged. A stray file that tidwall/wal ignores, a damaged snapshot, and one
	// damaged copy of MANIFEST or WATERMARK are harmless too.
	RefuseDamage
)

// Options configures Open. A nil *Options or the zero value selects the defaults.
type Options struct {
	MustExist   bool             // do not create a log (the directory may be mistyped); return fs.ErrNotExist; set it at every start except the first
	OnDamage    DamagePolicy     // SkipDamage (default) or RefuseDamage
	VerifyAll   bool             // verify the whole log in Open instead of starting from the newest snapshot; implied by RefuseDamage
	LockTimeout time.Duration    // wait this long for another writer to close the log; 0: fail at once with ErrLocked
	SegmentSize int              // bytes after which a new segment starts; 0: 4 MiB
	NoSync      bool             // acknowledge writes before they are durable, for bulk loads and benchmarks; Close syncs
	ScrubRate   int              // bytes per second that Scrub reads; 0: 32 MiB
	SlowSync    time.Duration    // log a sync, an Open or a Close that takes longer, and again each time that its duration has doubled; 0: 1 s
	StallAfter  time.Duration    // Store.Health returns an error while a write has waited longer; 0: never
	Logger      *slog.Logger     // nil: discard
	Now         func() time.Time // clock of the timestamps; nil: time.Now; the writing goroutines call it, also concurrently
}

// check returns ErrInvalid if an option has a value without a meaning.
func (o *Options) check() error {
	if o == nil {
		return nil
	}
	if o.OnDamage > RefuseDamage {
		return fmt.Errorf("%w: Options.OnDamage is %d: use SkipDamage or RefuseDamage", ErrInvalid, o.OnDamage)
	}
	for _, option := range []struct {
		name     string
		value    any
		negative bool
	}{
		{"SegmentSize", o.SegmentSize, o.SegmentSize < 0},
		{"ScrubRate", o.ScrubRate, o.ScrubRate < 0},
		{"LockTimeout", o.LockTimeout, o.LockTimeout < 0},
		{"SlowSync", o.SlowSync, o.SlowSync < 0},
		{"StallAfter", o.StallAfter, o.StallAfter < 0},
	} {
		if option.negative {
			return fmt.Errorf("%w: Options.%s is %v, which is negative: use 0 for the default", ErrInvalid, option.name, option.value)
		}
	}
	return nil
}

func (o *Options) withDefaults() Options {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.SegmentSize == 0 {
		opts.SegmentSize = eventlog.DefaultSegmentBytes
	}
	if opts.ScrubRate == 0 {
		opts.ScrubRate = 32 << 20
	}
	if opts.SlowSync == 0 {
		opts.SlowSync = time.Second
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return opts
}

// logOptions returns the options of the log.
func (o *Options) logOptions() eventlog.Options {
	return eventlog.Options{
		MustExist: o.MustExist, LockTimeout: o.LockTimeout, SegmentSize: o.SegmentSize, NoSync: o.NoSync, Now: o.Now,
	}
}

// WriteOption changes one write. A nil WriteOption changes nothing. If an option does not apply to
// a call, the call returns ErrInvalid and appends nothing. The exception is Strict in WriteAll,
// which applies to the upserts only.
//
// IfSeq, IfVShardFree, Strict, Epoch and InOrder are guards. The store checks them in the order of
// the commits, with all earlier writes. Each has a table of the calls and of the other guards with
// which it is valid. Confirm is valid with every guard, and so is WithTimestamp, except in Upsert and
// WriteAll.
type WriteOption func(*writeOptions)

type writeOptions struct {
	hasIfSeq    bool
	hasIfIndex  bool
	expects     uint64 // the argument of IfSeq or IfIndex; otherwise 0
	ifFree      bool
	strict      bool
	inOrder     bool
	hasEpoch    bool
	epoch       uint64 // 0 if hasEpoch is false
	confirm     bool
	timestampMS *uint64
	reproduces  bool // a write of WriteAll without guards, which reproduces a history
	replicated  bool // an entry of Replica.Apply
}

// guarded reports whether the options have a guard.
func (o *writeOptions) guarded() bool {
	return o.hasIfSeq || o.hasIfIndex || o.ifFree || o.strict || o.inOrder || o.hasEpoch
}

// expectsLast reports whether the options have a guard on the migration's last event.
func (o *writeOptions) expectsLast() bool { return o.hasIfSeq || o.hasIfIndex }

// IfSeq makes the write conditional. The write fails with ErrConflict unless the migration's last
// event, of any kind, has this Seq. It is Row.LastSeq, or the Seq of the receipt of the write that
// appended this event. The receipt of a duplicate has the Seq of the row or of the begun abort.
// Later events may follow it, so read Row.LastSeq after a duplicate. If the migration has no row,
// also after an abort or a removal, seq must be 0. A late writer can then not overwrite a state
// that it has not seen.
//
//	call                     valid with              retry of a call that succeeded
//	Upsert                   all other guards        a duplicate with the row's Seq, if the row
//	                                                 is still the same. ErrAborting during an
//	                                                 abort. Otherwise ErrConflict
//	Abort, Remove            Epoch, InOrder          a no-op, if the migration has no row
//	BeginAbort               Epoch, InOrder          a duplicate with the Seq of the begun abort,
//	                                                 while it is under way. After it has ended
//	                                                 ErrConflict
//	Compensated              Epoch, InOrder          the same, but after the end ErrInvalid
//	WriteAll                 all other guards, if    as for each of the calls
//	                         no two events belong
//	                         to the same migration
//
// If the migration has ended since the first call, an upsert with IfSeq(0) begins a new
// incarnation. It is then no retry.
//
// An abort or a removal of a migration without a row appends nothing, for any seq. This does not
// apply to a migration in doubt, because the expected row may be lost: a seq that is not 0 is then a
// conflict.
func IfSeq(seq uint64) WriteOption {
	return func(o *writeOptions) { o.expects, o.hasIfSeq = seq, true }
}

// IfIndex makes an entry of Replica.Apply conditional, as IfSeq does for a write on a Store that is
// not replicated. index is the consensus engine's index of the migration's last event, of any kind.
// It is Row.LastIndex, or Applied.Index of the entry that appended this event. It is 0 if the
// migration has no row. The table of IfSeq applies. Every other call returns ErrInvalid for this
// option, because its events have no index.
func IfIndex(index uint64) WriteOption {
	return func(o *writeOptions) { o.expects, o.hasIfIndex = index, true }
}

// IfVShardFree makes an upsert fail with ErrMigrationInProgress if another migration of the same
// vShard is in flight. It is in flight if its row has a phase before Complete, also while it is
// aborted. Only one of two coordinators can therefore start to move a vShard. The check cannot see
// migrations whose events were lost. While Report.UnnamedInDoubt is true, and while Report.InDoubt has
// a migration without a row, also ask the cluster if the vShard is being moved.
//
//	call                       valid with         retry of a call that succeeded
//	Upsert                     all other guards   a duplicate, even if the vShard is not free now
//	Abort, Remove, BeginAbort, ErrInvalid
//	Compensated
//	WriteAll                   all other guards,  as for Upsert
//	                           if all events are
//	                           upserts
func IfVShardFree() WriteOption {
	return func(o *writeOptions) { o.ifFree = true }
}

// Strict makes an upsert fail with ErrConflict if the latest row has the same phase and attempt but
// another payload. Without Strict such an upsert returns a Duplicate that Differs, and the row
// keeps its payload.
//
//	call                       valid with         retry of a call that succeeded
//	Upsert                     all other guards   a duplicate, because the payload is the same
//	Abort, Remove, BeginAbort, ErrInvalid
//	Compensated
//	WriteAll                   all other guards   as for Upsert. Strict checks only the upserts
func Strict() WriteOption {
	return func(o *writeOptions) { o.strict = true }
}

// Epoch makes the write fail with ErrFenced if the log has a higher epoch. The epoch is the term of
// the coordinator, for example of its leader election. It is at least 1: Epoch(0) is ErrInvalid.
// Each event of the write stores the epoch, so the writes of an older coordinator are fenced for
// good, also after the log was opened again. If the write succeeds and appends no event, for example
// because it is a duplicate, and the epoch is higher than that of the log, the store appends the
// event epoch_raised. A refused write does not raise the epoch. A write without Epoch is never
// fenced.
//
//	call                       valid with               retry of a call that succeeded
//	Upsert                     all other guards         the same as without Epoch, but ErrFenced if
//	Abort, Remove, BeginAbort, IfSeq, InOrder           the log has a higher epoch meanwhile
//	Compensated
//	WriteAll                   all other guards, if no  as for each of the calls
//	                           event has another epoch
//
// The receipt of a write that appended only epoch_raised is the same as if it had appended nothing.
// The event belongs to the migration of the write. Row.LastSeq has its number.
//
// Lost events may have had a higher epoch. Report.EpochUncertain is then true. An older coordinator
// may not be fenced until the next write with the present term.
func Epoch(n uint64) WriteOption {
	return func(o *writeOptions) { o.epoch, o.hasEpoch = n, true }
}

// InOrder makes the write fail with ErrOutOfOrder if it does not follow the protocol:
//
//   - The first checkpoint of an incarnation is AddLearner.
//   - A checkpoint is at most one phase above the furthest phase of its incarnation.
//   - An earlier phase than the furthest, or the same phase again, needs an attempt above the
//     highest attempt of that phase.
//   - After Cutover was recorded, no phase before Cutover follows.
//   - The target node and the group do not change.
//   - A migration that has been at Cutover is not aborted, and an abort of it does not begin.
//   - A migration is removed only if its row is at Complete.
//   - If a row is in doubt, each write fails, except one with Confirm. A retry fails too.
//
// These rules do not need the caller to have read the row. Combine InOrder with IfSeq to be sure
// that no other writer has written meanwhile.
//
//	call                       valid with         retry of a call that succeeded
//	Upsert                     all other guards   a duplicate, if the row is still the same.
//	                                              ErrAborting during an abort. ErrOutOfOrder if a
//	                                              later checkpoint follows
//	Abort, Remove              IfSeq, Epoch       a no-op, if the migration has no row
//	BeginAbort                 IfSeq, Epoch       a duplicate, while the abort is under way. After
//	                                              it has ended ErrConflict
//	Compensated                IfSeq, Epoch       the same, but after the end ErrInvalid
//	WriteAll                   all other guards   as for each of the calls. Each event is checked
//	                                              with the events before it
//
// If the migration has ended since the first call, a repeated AddLearner begins a new incarnation.
// IfSeq prevents this, unless seq is 0. Repeat an AddLearner with IfSeq(0) only if no other call
// can have ended the migration.
//
// With Confirm, an upsert that repeats the phase and the attempt of the row is allowed. The other
// rules stay. To correct the facts of a row after a loss, leave InOrder out.
func InOrder() WriteOption {
	return func(o *writeOptions) { o.inOrder = true }
}

// Confirm appends an event even if the write changes nothing: an upsert equal to the latest row, an
// abort or removal of a migration without a row, or the beginning or a step of an abort that is
// recorded already. The exception is a retry with IfSeq: if seq is that of an older event, the write
// appends nothing. Use Confirm to clear InDoubt after you have
// checked the cluster. If an upsert has the phase and attempt of the latest row but another
// payload, it replaces the row. Add Strict to refuse that with ErrConflict.
//
// Confirm does not restore lost facts, because only AddLearner names the nodes and the group. If
// the facts are uncertain or unknown, write the AddLearner first, and then the true row with the
// Seq of the first receipt as IfSeq. If the process ends between the two, the row is at AddLearner,
// so continue from the state of the cluster and not from the row. docs/EMBEDDING.md has a function
// that marks the row until both are written.
func Confirm() WriteOption {
	return func(o *writeOptions) { o.confirm = true }
}

// WithTimestamp sets the wall clock of a write other than an upsert, in Unix milliseconds. The default is
// Options.Now. A timestamp after the year 9999 is ErrInvalid. Upsert and WriteAll return ErrInvalid
// for this option, because their checkpoints and events already have timestamps.
func WithTimestamp(timestampMS uint64) WriteOption {
	return func(o *writeOptions) { o.timestampMS = &timestampMS }
}

func (o *writeOptions) apply(opts []WriteOption) {
	for _, opt := range opts {
		if opt != nil {
			opt(o)
		}
	}
}

// checkTimestamp returns ErrInvalid for a timestamp after the year 9999.
func checkTimestamp(timestampMS uint64) error {
	if timestampMS <= checkpoint.MaxTimestampMS {
		return nil
	}
	unit := "microseconds"
	if timestampMS/1000 > checkpoint.MaxTimestampMS {
		unit = "nanoseconds"
	}
	return fmt.Errorf("%w: timestamp %d lies after the year 9999: pass Unix milliseconds (the value may be in %s)", ErrInvalid, timestampMS, unit)
}

// checkCommon returns ErrInvalid if an option is not valid or does not apply. Some options apply only
// to an entry of Replica.Apply, and some to every call except that one.
func (o *writeOptions) checkCommon() error {
	switch {
	case o.hasEpoch && o.epoch == 0: // it would fence no writer
		return fmt.Errorf("%w: option Epoch has epoch 0, which means that an event has no epoch: begin with 1", ErrInvalid)
	case !o.replicated && o.hasIfIndex:
		return fmt.Errorf("%w: option IfIndex applies only to an entry of Replica.Apply: use IfSeq", ErrInvalid)
	case o.replicated && o.hasIfSeq: //mutant:no-local-number
		return fmt.Errorf("%w: option IfSeq does not apply to an entry of Replica.Apply, because each member has its own sequence numbers: use IfIndex", ErrInvalid)
	case o.replicated && o.timestampMS != nil:
		return fmt.Errorf("%w: option WithTimestamp does not apply to an entry of Replica.Apply: set the timestamp of the event", ErrInvalid)
	}
	return nil
}

// checkUpsert returns ErrInvalid if Upsert would ignore one of the options.
func (o *writeOptions) checkUpsert() error {
	if err := o.checkCommon(); err != nil {
		return err
	}
	if o.timestampMS != nil {
		return fmt.Errorf("%w: option WithTimestamp does not apply to Upsert: set the checkpoint's TimestampMS instead", ErrInvalid)
	}
	return nil
}

// checkEventOptions returns ErrInvalid if a call other than Upsert and WriteAll would ignore one of
// the options.
func (o *writeOptions) checkEventOptions(call string) error {
	if err := o.checkCommon(); err != nil {
		return err
	}
	switch {
	case o.strict:
		return fmt.Errorf("%w: option Strict does not apply to %s, which has no payload: leave the option out", ErrInvalid, call)
	case o.ifFree:
		return fmt.Errorf("%w: option IfVShardFree does not apply to %s, which has no vShard: leave the option out", ErrInvalid, call)
	case o.timestampMS != nil:
		return checkTimestamp(*o.timestampMS)
	}
	return nil
}

// checkAll returns ErrInvalid if WriteAll would ignore one of the options for one of the events.
// Strict is allowed: its documentation says that it applies only to upserts.
func checkAll(events []checkpoint.Event, opts []WriteOption) error {
	var o writeOptions
	o.apply(opts)
	if err := o.checkCommon(); err != nil {
		return err
	}
	if o.timestampMS != nil {
		return fmt.Errorf("%w: option WithTimestamp does not apply to WriteAll: set the timestamp of each event instead", ErrInvalid)
	}
	if o.hasIfSeq {
		if err := checkOneEventEach(events); err != nil {
			return err
		}
	}
	if o.hasEpoch {
		if err := checkEpochs(events, o.epoch); err != nil {
			return err
		}
	}
	if !o.ifFree {
		return nil
	}
	for i, e := range events {
		if _, ok := e.(checkpoint.Upserted); !ok {
			return fmt.Errorf("%w: option IfVShardFree does not apply to events[%d] of WriteAll, which is not an upsert: "+
				"call WriteAll without the option, or split the events before and after each abort or removal and keep their order", ErrInvalid, i)
		}
	}
	return nil
}

// checkEpochs returns ErrInvalid if one of the events has another epoch than the option Epoch.
func checkEpochs(events []checkpoint.Event, epoch uint64) error {
	for i, e := range events {
		if e == nil {
			continue // refused later, by the encoder
		}
		if own := checkpoint.EpochOf(e); own != 0 && own != epoch { //mutant:epochs-of-events
			return fmt.Errorf("%w: option Epoch(%d) does not apply to events[%d] of WriteAll, which already has epoch %d: "+
				"call WriteAll without the option to keep the epochs of a history", ErrInvalid, epoch, i, own)
		}
	}
	return nil
}

// checkOneEventEach returns ErrInvalid if two events belong to one migration. The first one would
// change the row's Seq, so IfSeq could hold for only one of them.
func checkOneEventEach(events []checkpoint.Event) error {
	first := make(map[checkpoint.MigrationID]int, len(events))
	for i, e := range events {
		if e == nil {
			continue // refused later, by the encoder
		}
		if earlier, found := first[e.Migration()]; found {
			return fmt.Errorf("%w: option IfSeq does not apply to events[%d] of WriteAll, which belongs to the same migration as events[%d]: "+
				"write them one after the other, each with the Seq of the receipt before it", ErrInvalid, i, earlier)
		}
		first[e.Migration()] = i
	}
	return nil
}
