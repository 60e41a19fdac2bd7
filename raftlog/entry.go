package raftlog

import (
	"bytes"
	"errors"
	"fmt"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/internal/detcbor"
)

// This file encodes and decodes the entries of raft's log, which docs/FORMAT.md describes. An entry
// has one valid encoding. Everything else is malformed, on every member and in every version, so
// that all members refuse the same entries.

// entryVersion is the version of the entries that this package proposes, and the highest that it
// knows.
const entryVersion = 1

// The keys of an entry. Every later version keeps the first three.
const (
	keyVersion byte = 1
	keyFlags   byte = 2 // left out if 0
	keyEvent   byte = 3 // the event as it is stored in the log, without epoch, index and term
	keyIfIndex byte = 4 // left out if the guard is not set
	keyGuards  byte = 5 // left out if 0
	keyEpoch   byte = 6 // left out if 0
)

// flagNoEffect marks an entry of a later version that changes no row, no fact and no epoch. Members
// that do not know the version record its event as it is, and continue.
const flagNoEffect = 1 << 0

// The bits of keyGuards.
const (
	guardStrict       = 1 << 0
	guardInOrder      = 1 << 1
	guardIfVShardFree = 1 << 2
	guardConfirm      = 1 << 3
	allGuards         = guardStrict | guardInOrder | guardIfVShardFree | guardConfirm
)

// An Option is a guard of a proposal, or sets its timestamp. The guards are those of package
// migrationlog, and each is valid with the same calls.
type Option func(*entry)

// IfIndex makes the proposal conditional. It fails with migrationlog.ErrConflict unless the
// migration's last event, of any kind, has this raft index. Pass Row.LastIndex, or the Index of a
// Receipt. If the migration has no row, the index must be 0. See migrationlog.IfSeq for retries.
func IfIndex(index uint64) Option { return func(e *entry) { e.index, e.hasIndex = index, true } }

// Term gives the proposal the epoch of the coordinator. The proposal fails with
// migrationlog.ErrFenced if the log has a higher epoch. The term is at least 1. If the coordinator
// runs in the process of the leader, pass Proposer.Epoch. Otherwise each start of a coordinator
// needs a higher number than all starts before it. See migrationlog.Epoch.
func Term(term uint64) Option { return func(e *entry) { e.epoch, e.hasEpoch = term, true } }

// IfVShardFree makes an upsert fail with migrationlog.ErrMigrationInProgress if another migration
// of the same vShard is in flight. See migrationlog.IfVShardFree.
func IfVShardFree() Option { return func(e *entry) { e.guards |= guardIfVShardFree } }

// Strict makes an upsert fail with migrationlog.ErrConflict if the row has the same phase and
// attempt but another payload. See migrationlog.Strict.
func Strict() Option { return func(e *entry) { e.guards |= guardStrict } }

// InOrder makes the proposal fail with migrationlog.ErrOutOfOrder if it does not follow the
// protocol. See migrationlog.InOrder.
func InOrder() Option { return func(e *entry) { e.guards |= guardInOrder } }

// Confirm appends the event even if it changes nothing. See migrationlog.Confirm.
func Confirm() Option { return func(e *entry) { e.guards |= guardConfirm } }

// WithTimestamp sets the wall clock of an event other than an upsert, in Unix milliseconds. The
// default is ProposerOptions.Now. For an upsert, and in EncodeEntry, set the timestamp in the
// event.
func WithTimestamp(timestampMS uint64) Option {
	return func(e *entry) { e.timestampMS, e.hasTimestamp = timestampMS, true }
}

// scratchBytes is enough for every encoded upsert.
const scratchBytes = 192

// entry is one entry of raft's log, decoded.
type entry struct {
	event    checkpoint.Event // nil for an opaque entry
	opaque   []byte           // the encoded event of an entry of a later version without an effect
	hasIndex bool
	index    uint64
	guards   uint64
	hasEpoch bool
	epoch    uint64

	// Only the proposer uses these.
	hasTimestamp bool
	timestampMS  uint64
}

func newEntry(opts []Option) *entry {
	e := new(entry)
	for _, opt := range opts {
		if opt != nil {
			opt(e)
		}
	}
	return e
}

// EncodeEntry returns the entry that a Proposer proposes for an event and its guards. It is for a
// program that calls raft.Apply itself. The response of raft's future is a Receipt or an error, see
// FSM.ApplyBatch. The event must not have an epoch: use Term. EncodeEntry returns
// migrationlog.ErrInvalid or ErrTooLarge.
func EncodeEntry(event checkpoint.Event, opts ...Option) ([]byte, error) {
	e := newEntry(opts)
	e.event = event
	if e.hasTimestamp {
		return nil, fmt.Errorf("%w: option WithTimestamp does not apply to EncodeEntry: set the event's timestamp instead", migrationlog.ErrInvalid)
	}
	return e.encode()
}

// encode checks the entry and returns its encoding.
func (e *entry) encode() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	var scratch [scratchBytes]byte
	event, err := checkpoint.AppendEvent(scratch[:0], e.event)
	if err == nil {
		err = checkpoint.CheckContentSize(e.event, len(event))
	}
	if errors.Is(err, migrationlog.ErrTooLarge) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", migrationlog.ErrInvalid, err)
	}
	return e.append(make([]byte, 0, len(event)+32), event), nil
}

// append appends the encoding of an entry with this encoded event.
func (e *entry) append(b, event []byte) []byte {
	pairs, start := uint64(2), len(b)
	b = detcbor.AppendHead(b, detcbor.MajorMap, pairs)
	b = detcbor.AppendUint(b, keyVersion, entryVersion)
	b = detcbor.AppendBytes(b, keyEvent, event)
	if e.hasIndex {
		b = detcbor.AppendUint(b, keyIfIndex, e.index)
		pairs++
	}
	if e.guards != 0 {
		b = detcbor.AppendUint(b, keyGuards, e.guards)
		pairs++
	}
	if e.hasEpoch {
		b = detcbor.AppendUint(b, keyEpoch, e.epoch)
		pairs++
	}
	b[start] = detcbor.MajorMap | byte(pairs)
	return b
}

// check returns ErrInvalid for an event or an option that every member would refuse. An invalid
// proposal is then not written to raft's log.
func (e *entry) check() error {
	switch e.event.(type) {
	case checkpoint.Upserted, checkpoint.Aborted, checkpoint.Removed, checkpoint.AbortBegun, checkpoint.Compensated:
	case nil:
		return fmt.Errorf("%w: the event is nil", migrationlog.ErrInvalid)
	default:
		return fmt.Errorf("%w: an event of type %T cannot be proposed: it belongs to the store", migrationlog.ErrInvalid, e.event)
	}
	_, upserts := e.event.(checkpoint.Upserted)
	switch ts := e.event.WallMS(); {
	case checkpoint.EpochOf(e.event) != 0:
		return fmt.Errorf("%w: the event has epoch %d: leave it out, and use the option Term", migrationlog.ErrInvalid, checkpoint.EpochOf(e.event))
	case e.hasEpoch && e.epoch == 0:
		return fmt.Errorf("%w: option Term has term 0, which means that an event has no epoch: begin with 1", migrationlog.ErrInvalid)
	case !upserts && e.guards&guardStrict != 0:
		return fmt.Errorf("%w: option Strict applies only to an upsert, which has a payload: leave the option out", migrationlog.ErrInvalid)
	case !upserts && e.guards&guardIfVShardFree != 0:
		return fmt.Errorf("%w: option IfVShardFree applies only to an upsert, which has a vShard: leave the option out", migrationlog.ErrInvalid)
	case ts > checkpoint.MaxTimestampMS:
		return fmt.Errorf("%w: timestamp %d lies after the year 9999: pass Unix milliseconds", migrationlog.ErrInvalid, ts)
	}
	if _, removes := e.event.(checkpoint.Removed); removes && e.event.Migration() == checkpoint.StoreID {
		return nil // with Term it raises the epoch, and changes no row
	}
	if err := checkpoint.CheckMigrationID(e.event.Migration()); err != nil {
		return fmt.Errorf("%w: %w", migrationlog.ErrInvalid, err)
	}
	return nil
}

// decodeEntry decodes an entry of raft's log. It returns ErrMalformed, or a *NewerEntryError
// without the index. The result refers to b. scratch is only memory for decodeEntry.
func decodeEntry(b, scratch []byte) (e entry, err error) {
	version, flags, event, ok := decodePrefix(b)
	if !ok || version == 0 {
		return e, fmt.Errorf("%w: %d bytes that are not an entry of this package", ErrMalformed, len(b))
	}
	if version <= entryVersion && flags&^flagNoEffect != 0 {
		return e, fmt.Errorf("%w: version %d has no flags %#x", ErrMalformed, version, flags)
	}
	known, err := checkpoint.DecodeEvent(event)
	var unknown *checkpoint.UnknownKindError
	switch isUnknown := errors.As(err, &unknown); {
	case isUnknown && unknown.Epoch == 0 && flags&flagNoEffect != 0:
		return entry{opaque: event}, nil
	case version > entryVersion:
		return e, &NewerEntryError{Version: version}
	case isUnknown:
		return e, &NewerEntryError{Version: version, Err: err}
	case err != nil:
		return e, fmt.Errorf("%w: the event: %w", ErrMalformed, err)
	}
	if e, ok = decodeGuards(b); !ok {
		return e, fmt.Errorf("%w: the entry of version %d has an unknown key or guard, or is not in the deterministic encoding", ErrMalformed, version)
	}
	e.event = known
	return e, e.checkDecoded(event, scratch)
}

// decodePrefix decodes the part of an entry that all versions share: a map with ascending unsigned
// keys, of which the keys version and event are required.
func decodePrefix(b []byte) (version, flags uint64, event []byte, ok bool) {
	c := detcbor.NewCursor(b)
	pairs, last := c.Head(detcbor.MajorMap), uint64(0)
	for ; pairs > 0 && !c.Failed(); pairs-- {
		key := c.Head(detcbor.MajorUint)
		if key <= last {
			return 0, 0, nil, false
		}
		last = key
		switch key {
		case uint64(keyVersion):
			version = c.Head(detcbor.MajorUint)
		case uint64(keyFlags):
			flags = c.Head(detcbor.MajorUint)
		case uint64(keyEvent):
			event = c.Span(detcbor.MajorBytes)
		default:
			c.Skip()
		}
	}
	return version, flags, event, c.Done() && len(event) > 0
}

// decodeGuards decodes the guards of an entry of version 1.
func decodeGuards(b []byte) (e entry, ok bool) {
	c := detcbor.NewCursor(b)
	for pairs := c.Head(detcbor.MajorMap); pairs > 0 && !c.Failed(); pairs-- {
		switch key := c.Head(detcbor.MajorUint); key {
		case uint64(keyVersion):
			c.Head(detcbor.MajorUint)
		case uint64(keyEvent):
			c.Span(detcbor.MajorBytes)
		case uint64(keyIfIndex):
			e.index, e.hasIndex = c.Head(detcbor.MajorUint), true
		case uint64(keyGuards):
			if e.guards = c.Head(detcbor.MajorUint); e.guards == 0 {
				c.Fail() // without guards the key is left out
			}
		case uint64(keyEpoch):
			e.epoch, e.hasEpoch = c.Head(detcbor.MajorUint), true
		default: // also the flags, because every event of version 1 has an effect
			return entry{}, false
		}
	}
	return e, c.Done() && e.guards&^allGuards == 0
}

// checkDecoded returns ErrMalformed if no Proposer writes the entry. event is its encoded event.
func (e *entry) checkDecoded(event, scratch []byte) error {
	if err := e.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	again, err := checkpoint.AppendEvent(scratch[:0], e.event)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !bytes.Equal(again, event) {
		return fmt.Errorf("%w: the event is not in its deterministic encoding, or has an index", ErrMalformed)
	}
	return nil
}

// writeOptions returns the guards as options of the store.
func (e *entry) writeOptions() []migrationlog.WriteOption {
	var opts []migrationlog.WriteOption
	if e.hasIndex {
		opts = append(opts, migrationlog.IfIndex(e.index))
	}
	if e.hasEpoch {
		opts = append(opts, migrationlog.Epoch(e.epoch))
	}
	for _, guard := range [...]struct {
		bit    uint64
		option migrationlog.WriteOption
	}{
		{guardStrict, strict}, {guardInOrder, inOrder}, {guardIfVShardFree, ifVShardFree}, {guardConfirm, confirm},
	} {
		if e.guards&guard.bit != 0 {
			opts = append(opts, guard.option)
		}
	}
	return opts
}

var (
	strict       = migrationlog.Strict()
	inOrder      = migrationlog.InOrder()
	ifVShardFree = migrationlog.IfVShardFree()
	confirm      = migrationlog.Confirm()
)
