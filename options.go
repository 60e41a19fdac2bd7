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

// WriteOption changes one write. A nil WriteOption changes nothing. If an option does not apply to
// a call, the call returns ErrInvalid and appends nothing. The exception is Strict in WriteAll,
// which applies to the upserts only.
type WriteOption func(*writeOptions)

type writeOptions struct {
	ifSeq       *uint64
	ifFree      bool
	strict      bool
	confirm     bool
	timestampMS *uint64
}

// IfSeq makes the write conditional. The write fails with ErrConflict unless the migration's latest
// row has this Seq (from Store.Row, or the Receipt of the upsert that wrote the row). If the
// migration has no row, also after an abort or a removal, an upsert must have IfSeq(0). A late
// writer can then not overwrite a row that it has not seen.
//
// Retrying a call that succeeded succeeds again. A retried upsert is a Duplicate with the row's Seq.
// An abort or a removal of a migration without a row appends nothing, for any seq. This does not
// apply to a migration in doubt, because the expected row may be lost: a seq that is not 0 is then a
// conflict.
func IfSeq(seq uint64) WriteOption {
	return func(o *writeOptions) { o.ifSeq = &seq }
}

// IfVShardFree makes an upsert fail with ErrMigrationInProgress if another migration of the same
// vShard is in flight. It is in flight if its row has a phase before Complete. Only one of two
// coordinators can therefore start to move a vShard. A retry that finds its own row is still
// reported as a Duplicate. The check cannot see migrations whose events were lost. While
// Report.UnnamedInDoubt is true, also ask the cluster if the vShard is being moved. Abort and
// Remove return ErrInvalid for this option.
func IfVShardFree() WriteOption {
	return func(o *writeOptions) { o.ifFree = true }
}

// Strict makes an upsert fail with ErrConflict if the latest row has the same phase and attempt but
// another payload. Without Strict such an upsert returns a Duplicate that Differs, and the row
// keeps its payload. Abort and Remove return ErrInvalid for this option. WriteAll applies it to the
// upserts among its events.
func Strict() WriteOption {
	return func(o *writeOptions) { o.strict = true }
}

// Confirm appends an event even if the write changes nothing: an upsert equal to the latest row, or
// an abort or removal of a migration without a row. The exception is a retry with IfSeq: if seq is
// that of an older row, the write appends nothing. Use Confirm to clear InDoubt after you have
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

// WithTimestamp sets the wall clock of an abort or a removal, in Unix milliseconds. The default is
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

// checkUpsert returns ErrInvalid if Upsert would ignore one of the options.
func (o *writeOptions) checkUpsert() error {
	if o.timestampMS != nil {
		return fmt.Errorf("%w: option WithTimestamp does not apply to Upsert: set the checkpoint's TimestampMS instead", ErrInvalid)
	}
	return nil
}

// checkEnd returns ErrInvalid if a call that ends a migration would ignore one of the options.
func (o *writeOptions) checkEnd(call string) error {
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
	if o.timestampMS != nil {
		return fmt.Errorf("%w: option WithTimestamp does not apply to WriteAll: set the timestamp of each event instead", ErrInvalid)
	}
	if o.ifSeq != nil {
		if err := checkOneEventEach(events); err != nil {
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
