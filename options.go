package migrationlog

import (
	"fmt"
	"log/slog"
	"time"

	"migrationlog/checkpoint"
	"migrationlog/eventlog"
)

// DamagePolicy says what Open does with a damaged log.
type DamagePolicy uint8

const (
	// SkipDamage serves what is whole and reports the rest: see Store.Report.
	SkipDamage DamagePolicy = iota
	// RefuseDamage leaves the log as it is and returns a *DamagedError. A torn
	// tail is no damage: a killed process leaves one, of a write that it had not
	// acknowledged. Nor is a damaged snapshot, without which a sound log is as good.
	RefuseDamage
)

// Options are the choices of whoever opens a store. The zero value is safe, and
// so is nil.
type Options struct {
	MustExist   bool             // refuse to create a log, as for a mistyped directory: fs.ErrNotExist
	OnDamage    DamagePolicy     // SkipDamage (default) or RefuseDamage
	VerifyAll   bool             // check all of the history, where else a snapshot spares reading what is before it; RefuseDamage does so as well
	LockTimeout time.Duration    // how long to wait for another writer; 0: fail at once with ErrLocked
	SegmentSize int              // bytes; 0 is 4 MiB
	NoSync      bool             // acknowledge before durable, for bulk loads and benchmarks; Close syncs
	ScrubRate   int              // bytes per second that Scrub reads; 0 is 32 MiB
	Logger      *slog.Logger     // nil: discard
	Now         func() time.Time // nil: time.Now; called from the goroutines that write
}

// check returns ErrInvalid for a value that has no meaning.
func (o *Options) check() error {
	switch {
	case o == nil:
		return nil
	case o.OnDamage > RefuseDamage:
		return fmt.Errorf("%w: Options.OnDamage is %d: use SkipDamage or RefuseDamage", ErrInvalid, o.OnDamage)
	case o.SegmentSize < 0, o.ScrubRate < 0, o.LockTimeout < 0:
		return fmt.Errorf("%w: Options.SegmentSize, ScrubRate and LockTimeout must not be negative: use 0 for the default", ErrInvalid)
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
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return opts
}

// WriteOption is a choice for one write; nil is none. A call returns ErrInvalid for an option that it
// would ignore, and writes nothing. The exception is Strict in WriteAll, which applies to the
// upserts, if there are any.
type WriteOption func(*writeOptions)

type writeOptions struct {
	ifSeq       *uint64
	ifFree      bool
	strict      bool
	confirm     bool
	timestampMS *uint64
}

// IfSeq makes a write depend on the migration's latest row being the one with
// this Seq (of Store.Row, or of the receipt of who wrote it), 0 for no row. Otherwise it is
// refused with ErrConflict: a late writer cannot overwrite what it has not seen. A
// duplicate is a duplicate all the same, so that a write may be tried again; its receipt has no
// Seq.
func IfSeq(seq uint64) WriteOption {
	return func(o *writeOptions) { o.ifSeq = &seq }
}

// IfVShardFree makes an upsert depend on no other migration of its vShard having a row, however
// far that has come. Otherwise it is refused with ErrMigrationInProgress: of two
// coordinators' threads that begin to move one vShard one fails. A duplicate is a duplicate all the
// same. Of migrations whose events are lost it knows nothing (see Store.Doubt). Abort and
// Remove return ErrInvalid for this option.
func IfVShardFree() WriteOption {
	return func(o *writeOptions) { o.ifFree = true }
}

// Strict makes an upsert of the same phase and attempt as the latest row with
// another payload an ErrConflict. Without it such a write is a duplicate that
// Differs, and its payload is not written. Abort and Remove return ErrInvalid for this option.
// WriteAll applies it to the upserts among its events.
func Strict() WriteOption {
	return func(o *writeOptions) { o.strict = true }
}

// Confirm makes an event of a write that changes nothing: of an upsert like the
// latest row, or of the abort or removal of a migration without a row. It says that
// what the write says is true, and ends a doubt. An upsert of the latest row's phase and attempt
// with another payload takes the row's place, unless it is Strict: then only what the
// store shows already can be confirmed.
func Confirm() WriteOption {
	return func(o *writeOptions) { o.confirm = true }
}

// WithTimestamp records this wall clock, in Unix milliseconds, with an abort or a removal
// in place of Options.Now. Upsert and WriteAll return ErrInvalid for this option: a checkpoint and
// an event have a timestamp of their own.
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
