package checkpoint

import (
	"bytes"
	"fmt"
	"math/bits"
	"slices"

	"migrationlog/internal/detcbor"
)

// RestoredFacts holds the values that the events of one incarnation of a migration have recorded.
// It has no value that differs between the members of a consensus group, such as a seq.
type RestoredFacts struct {
	SourceNode         uint64
	TargetNode         uint64
	SourceGroup        uint64
	WritePauseBudgetUS uint64 // microseconds
	StartedAtHLC       HLC
	HasTarget          bool // TargetNode and SourceGroup are known
	HasSource          bool // SourceNode, WritePauseBudgetUS and StartedAtHLC are known

	FurthestPhase  Phase                 // the highest phase of a checkpoint of the incarnation
	RecordedPhases uint8                 // bit phase-1 is set if a checkpoint has the phase
	HighestAttempt [PhaseComplete]uint32 // of the checkpoints with a phase, at index phase-1
	Targets        []Target              // the first MaxTargets targets, or nil if there is at most one
	Abort          *RestoredAbort        // the abort that was begun and is not finished; nil: none
}

// MaxTargets limits the number of targets of a migration that are kept. The targets of a migration
// do not change normally. The limit bounds the memory if a caller changes them with each
// checkpoint.
const MaxTargets = 16

// Target is a peer that a migration adds to a group.
type Target struct{ GroupID, PeerID uint64 }

// RestoredAbort is an abort that was begun and is not finished.
type RestoredAbort struct {
	Reason        string // valid UTF-8
	Compensations []Compensation
	Done          []bool // for each compensation: it was carried out
	TimestampMS   uint64 // of the event that began the abort
	// BeforeCheckpoint is true if the migration's latest checkpoint was recorded during the abort.
	BeforeCheckpoint bool
}

// check returns ErrInvalidFacts if the facts contradict each other or the latest checkpoint of
// their migration. targets is the number of targets.
func (f *RestoredFacts) check(phase Phase, attempt uint32, targets int) error {
	if phase == 0 || f.RecordedPhases>>(phase-1)&1 == 0 || int(f.FurthestPhase) != bits.Len8(f.RecordedPhases) || !f.FurthestPhase.known() {
		return fmt.Errorf("%w: the checkpoint is at %s, the recorded phases are %06b, and the furthest is %s",
			ErrInvalidFacts, phase, f.RecordedPhases, f.FurthestPhase)
	}
	for i, highest := range f.HighestAttempt {
		if p := Phase(i + 1); highest > 0 && f.RecordedPhases>>i&1 == 0 || p == phase && highest < attempt {
			return fmt.Errorf("%w: the highest attempt of %s is %d, and the checkpoint is attempt %d of %s", ErrInvalidFacts, p, highest, attempt, phase)
		}
	}
	switch {
	case !f.HasTarget && (f.TargetNode != 0 || f.SourceGroup != 0):
		return fmt.Errorf("%w: HasTarget is false, and the target is node %d in group %d", ErrInvalidFacts, f.TargetNode, f.SourceGroup)
	case !f.HasSource && (f.SourceNode != 0 || f.WritePauseBudgetUS != 0 || f.StartedAtHLC != HLC{}):
		return fmt.Errorf("%w: HasSource is false, and the source is node %d", ErrInvalidFacts, f.SourceNode)
	case targets == 1 || targets > MaxTargets || targets > 0 && !f.HasTarget:
		return fmt.Errorf("%w: Targets has %d targets: it is empty, or has 2 to %d and HasTarget is true", ErrInvalidFacts, targets, MaxTargets)
	}
	return nil
}

// The keys of encoded facts are those of the facts of a row in a snapshot. A key whose value is
// zero is left out.
const (
	keyAttempts = 12
	keyTargets  = 13
	keyAbort    = 14

	factNumbers = 9 // keys 1 to 9 are numbers

	factHasTarget = 1 << 0 // bits of key 1
	factHasSource = 1 << 1

	keyAbortBody   = 2 // in the map of keyAbort: the abort_begun event without epoch and position
	keyAbortBefore = 4 // 1 if the checkpoint is newer
	keyAbortDone   = 5 // bytes: bit i%8 of byte i/8 is set if step i is finished

	targetElements = 2
	stepsPerByte   = 8
)

// AppendRestored appends the encoded restored event of a checkpoint, without an epoch. If index is
// not 0, the event has it as the index of its position. Two events with the same content have the
// same bytes. AppendRestored allocates only if dst is too small. It returns the errors of
// EncodeEvent.
func AppendRestored(dst []byte, c *Checkpoint, f *RestoredFacts, index uint64) ([]byte, error) {
	b, err := appendCheckpoint(dst, KindRestored, c)
	if err != nil {
		return dst, err
	}
	if err := f.check(c.Phase(), c.Attempt, len(f.Targets)); err != nil {
		return dst, fmt.Errorf("migration %s: %w", c.MigrationID, err)
	}
	b = detcbor.AppendNonzero(b, len(dst), keyIndex, index)
	if b, err = f.append(append(b, keyFacts), c.MigrationID); err != nil {
		return dst, err
	}
	if n := len(b) - len(dst); n > MaxEventBytes {
		return dst, fmt.Errorf("%w: migration %s: %d bytes encoded, at most %d", ErrTooLarge, c.MigrationID, n, MaxEventBytes)
	}
	return b, nil
}

// append appends the encoded facts.
func (f *RestoredFacts) append(b []byte, id MigrationID) ([]byte, error) {
	b, head := detcbor.BeginMap(b)
	flags := uint64(0)
	if f.HasTarget {
		flags |= factHasTarget
	}
	if f.HasSource {
		flags |= factHasSource
	}
	for i, n := range [factNumbers]uint64{
		flags, f.SourceNode, f.TargetNode, f.SourceGroup, f.WritePauseBudgetUS, f.StartedAtHLC.WallNS, uint64(f.StartedAtHLC.Logical),
		uint64(f.FurthestPhase), uint64(f.RecordedPhases),
	} {
		b = detcbor.AppendNonzero(b, head, byte(i+1), n)
	}
	if f.HighestAttempt != [PhaseComplete]uint32{} {
		b[head]++
		b = detcbor.AppendHead(append(b, keyAttempts), detcbor.MajorArray, uint64(PhaseComplete))
		for _, n := range f.HighestAttempt {
			b = detcbor.AppendHead(b, detcbor.MajorUint, uint64(n))
		}
	}
	if len(f.Targets) > 0 {
		b[head]++
		b = detcbor.AppendHead(append(b, keyTargets), detcbor.MajorArray, uint64(len(f.Targets)))
		for _, t := range f.Targets {
			b = detcbor.AppendHead(b, detcbor.MajorArray, targetElements)
			b = detcbor.AppendHead(b, detcbor.MajorUint, t.GroupID)
			b = detcbor.AppendHead(b, detcbor.MajorUint, t.PeerID)
		}
	}
	if f.Abort == nil {
		return b, nil
	}
	b[head]++
	return f.Abort.append(append(b, keyAbort), id)
}

// append appends the encoded abort.
func (a *RestoredAbort) append(b []byte, id MigrationID) ([]byte, error) {
	if len(a.Done) != len(a.Compensations) {
		return b, fmt.Errorf("%w: migration %s: the abort has %d compensations, and Done has %d", ErrInvalidFacts, id, len(a.Compensations), len(a.Done))
	}
	b, head := detcbor.BeginMap(b)
	b[head]++
	b = append(b, keyAbortBody)
	bodyAt := len(b)
	aborted := Aborted{MigrationID: id, Reason: a.Reason, Compensations: a.Compensations, TimestampMS: a.TimestampMS}
	b, err := appendAborted(b, KindAbortBegun, &aborted)
	if err != nil {
		return b, err
	}
	var scratch [9]byte
	b = slices.Insert(b, bodyAt, detcbor.AppendHead(scratch[:0], detcbor.MajorBytes, uint64(len(b)-bodyAt))...)
	if a.BeforeCheckpoint {
		b = detcbor.AppendNonzero(b, head, keyAbortBefore, 1)
	}
	if !slices.Contains(a.Done, true) {
		return b, nil
	}
	b[head]++
	size := doneBytes(len(a.Done))
	b = detcbor.AppendHead(append(b, keyAbortDone), detcbor.MajorBytes, uint64(size))
	doneAt := len(b)
	b = slices.Grow(b, size)[:doneAt+size]
	clear(b[doneAt:])
	for i, done := range a.Done {
		if done {
			b[doneAt+i/stepsPerByte] |= 1 << (i % stepsPerByte)
		}
	}
	return b, nil
}

// doneBytes returns the number of bytes with one bit for each step.
func doneBytes(steps int) int { return (steps + stepsPerByte - 1) / stepsPerByte }

// areDoneBits reports whether b has one bit for each step, and at least one step is finished.
func areDoneBits(b []byte, steps int) bool {
	if len(b) == 0 || len(b) != doneBytes(steps) {
		return false
	}
	unused := len(b)*stepsPerByte - steps
	return b[len(b)-1]>>(stepsPerByte-unused) == 0 && len(bytes.Trim(b, "\x00")) > 0
}

// readRestored decodes a restored event.
func readRestored(b []byte) (Restored, bool) {
	var r restoredReader
	if !r.read(b) {
		return Restored{}, false
	}
	c, ok := r.checkpoint()
	r.build()
	return Restored{c, r.facts, r.epoch}, ok
}

// restoredReader reads a restored event. read allocates nothing and checks everything except the
// payload. build then decodes the lists.
type restoredReader struct {
	upsertedHead
	facts       RestoredFacts // its lists and its abort are nil until build
	targets     detcbor.Cursor
	targetCount int
	abortBody   []byte // nil: no abort
	abort       RestoredAbort
	done        []byte
}

// read reads the event. It reports whether the event is in the encoding that AppendRestored writes.
func (r *restoredReader) read(b []byte) bool {
	if len(b) > MaxEventBytes || !r.readCheckpoint(b, KindRestored) {
		return false
	}
	r.epoch = r.readAdded()
	r.Key(keyFacts)
	r.readFacts()
	return r.Done() && r.facts.check(r.phase, r.attempt, r.targetCount) == nil
}

// readFacts reads the facts. The cursor fails if they are not in the deterministic encoding.
func (r *restoredReader) readFacts() {
	var numbers [factNumbers]uint64
	last := uint64(0)
	for pairs := r.Head(detcbor.MajorMap); pairs > 0 && !r.Failed(); pairs-- {
		key := r.Head(detcbor.MajorUint)
		if key <= last {
			r.Fail()
		}
		switch last = key; {
		case key <= factNumbers && key > 0:
			if numbers[key-1] = r.Head(detcbor.MajorUint); numbers[key-1] == 0 {
				r.Fail()
			}
		case key == keyAttempts:
			r.readAttempts()
		case key == keyTargets:
			r.readTargets()
		case key == keyAbort:
			r.readAbortMap()
		default:
			r.Fail()
		}
	}
	f, flags := &r.facts, numbers[0]
	f.HasTarget, f.HasSource = flags&factHasTarget != 0, flags&factHasSource != 0
	f.SourceNode, f.TargetNode, f.SourceGroup, f.WritePauseBudgetUS = numbers[1], numbers[2], numbers[3], numbers[4]
	f.StartedAtHLC = HLC{WallNS: numbers[5], Logical: r.Fits32(numbers[6])}
	f.FurthestPhase, f.RecordedPhases = Phase(numbers[7]), uint8(numbers[8])
	if flags > factHasTarget|factHasSource || uint64(f.FurthestPhase) != numbers[7] || uint64(f.RecordedPhases) != numbers[8] {
		r.Fail()
	}
}

func (r *restoredReader) readAttempts() {
	r.HeadOf(detcbor.MajorArray, uint64(PhaseComplete))
	for i := range r.facts.HighestAttempt {
		r.facts.HighestAttempt[i] = r.Fits32(r.Head(detcbor.MajorUint))
	}
	if r.facts.HighestAttempt == [PhaseComplete]uint32{} {
		r.Fail()
	}
}

// readTargets reads the targets, and keeps their place for build.
func (r *restoredReader) readTargets() {
	n := r.Head(detcbor.MajorArray)
	if n == 0 || n > MaxTargets {
		r.Fail()
		return
	}
	r.targets, r.targetCount = r.Cursor, int(n)
	for range n {
		readTarget(&r.Cursor)
	}
}

func readTarget(c *detcbor.Cursor) Target {
	c.HeadOf(detcbor.MajorArray, targetElements)
	return Target{GroupID: c.Head(detcbor.MajorUint), PeerID: c.Head(detcbor.MajorUint)}
}

// readAbortMap reads the abort under way.
func (r *restoredReader) readAbortMap() {
	pairs := r.Head(detcbor.MajorMap)
	r.Key(keyAbortBody)
	r.abortBody = r.Span(detcbor.MajorBytes)
	var body eventCursor
	_, steps, ok := body.readAbort(r.abortBody, KindAbortBegun)
	if !ok || body.id != r.id || body.added > 0 {
		r.Fail()
		return
	}
	for range steps {
		body.readCompensation()
	}
	if pairs--; pairs > 0 && r.nextKey() == keyAbortBefore {
		pairs--
		r.abort.BeforeCheckpoint = r.Uint(keyAbortBefore) == 1
		if !r.abort.BeforeCheckpoint {
			r.Fail()
		}
	}
	if pairs > 0 {
		pairs--
		r.done = r.String(keyAbortDone, detcbor.MajorBytes)
		if !areDoneBits(r.done, int(steps)) {
			r.Fail()
		}
	}
	if pairs != 0 || !body.Done() {
		r.Fail()
	}
}

// nextKey returns the key of the next pair, or 0 if there is none below 24.
func (c *eventCursor) nextKey() byte {
	if left := c.Left(); len(left) > 0 && left[0] <= detcbor.MaxDirect {
		return left[0]
	}
	return 0
}

// build decodes the lists, which read has checked.
func (r *restoredReader) build() {
	if r.targetCount > 0 {
		r.facts.Targets = make([]Target, r.targetCount)
	}
	for i := range r.facts.Targets {
		r.facts.Targets[i] = readTarget(&r.targets)
	}
	if r.abortBody == nil {
		return
	}
	begun, _ := readAborted(r.abortBody, KindAbortBegun)
	r.facts.Abort = restoredAbortOf(AbortBegun(begun), r.abort.BeforeCheckpoint, r.done)
}

// restoredAbortOf returns the abort that an event has begun. done has the bits of the finished
// steps.
func restoredAbortOf(e AbortBegun, beforeCheckpoint bool, done []byte) *RestoredAbort {
	a := &RestoredAbort{Reason: e.Reason, Compensations: e.Compensations, TimestampMS: e.TimestampMS, BeforeCheckpoint: beforeCheckpoint}
	if n := len(e.Compensations); n > 0 {
		a.Done = make([]bool, n)
	}
	for i := range min(len(a.Done), len(done)*stepsPerByte) {
		a.Done[i] = done[i/stepsPerByte]>>(i%stepsPerByte)&1 == 1
	}
	return a
}

// readDigest decodes a digest.
func (c *eventCursor) readDigest(b []byte) (e Digest, ok bool) {
	c.readHead(b, KindDigest)
	e.Epoch = c.readAdded()
	state, chain := c.String(keyStateDigest, detcbor.MajorBytes), c.String(keyChainDigest, detcbor.MajorBytes)
	if len(state) != len(e.State) || len(chain) != len(e.Chain) || c.id != StoreID || !c.Done() {
		return Digest{}, false
	}
	e.State, e.Chain, e.TimestampMS = [32]byte(state), [32]byte(chain), c.timeMS
	return e, true
}
