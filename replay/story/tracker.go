package story

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// Options select the details that a Tracker keeps. The zero value keeps no steps.
type Options struct {
	// KeepSteps selects the migrations whose steps are kept. Nil selects none.
	KeepSteps func(checkpoint.MigrationID) bool
}

// Tracker groups records into incarnations. It needs memory for each incarnation that has not
// ended, and about 16 bytes for each one that has. It is not safe for concurrent use.
type Tracker struct {
	options Options
	live    map[checkpoint.MigrationID]*Incarnation
	noRow   map[checkpoint.MigrationID]uint64 // the latest seq of ids that have records but no incarnation
	ended   endings
	lost    []replay.SeqRange // ascending
	endMS   uint64
}

// NewTracker returns a tracker at the beginning of a history.
func NewTracker(o Options) *Tracker {
	return &Tracker{options: o, live: map[checkpoint.MigrationID]*Incarnation{}, noRow: map[checkpoint.MigrationID]uint64{}, ended: newEndings()}
}

// Change is the effect of one record.
type Change struct {
	// Incarnation is the incarnation of the record. It is nil for damage, for a digest, and for an event
	// that needs a row and has none. The tracker continues to change it until it ends.
	Incarnation *Incarnation
	Began       bool  // the record is the first one of the incarnation
	Ended       bool  // the record is the abort or the removal of the incarnation
	Stay        *Stay // the stay that the record ends, or nil
	// EndLost is the id's incarnation before this one, if its abort or removal is lost. It is nil
	// otherwise.
	EndLost *Incarnation
}

// Add applies the next record of the history. Damage must be added too.
func (t *Tracker) Add(r replay.Record) Change {
	if r.Damage != nil {
		if r.Damage.Lost() > 0 {
			t.lost = append(t.lost, replay.SeqRange{First: r.Damage.FirstSeq, Last: r.Damage.LastSeq})
		}
		return Change{}
	}
	t.endMS = max(t.endMS, r.WallMS())
	if r.Kind() == replay.KindDigest {
		return Change{}
	}
	s := stepOf(r)
	id, _ := r.Migration()
	i, isLive := t.live[id]
	var endLost *Incarnation
	if isLive && s.PrevSeq == 0 {
		endLost, isLive = i, false
		delete(t.live, id)
		t.ended.add(id, i.Number, "")
	}
	if !isLive {
		if i = t.begin(id, s); i == nil {
			return Change{EndLost: endLost}
		}
	}
	keep := t.options.KeepSteps != nil && t.options.KeepSteps(id)
	change := Change{Incarnation: i, Began: !isLive, Stay: i.add(s, keep), EndLost: endLost}
	if i.Ended() {
		change.Ended = true
		delete(t.live, id)
		t.ended.add(id, i.Number, s.Kind)
	}
	return change
}

// begin returns a new incarnation of the id that begins with the step. It returns nil if the step
// does not begin one: it is not a checkpoint, and no event of an incarnation before it is lost.
func (t *Tracker) begin(id checkpoint.MigrationID, s Step) *Incarnation {
	before, hasRecords := t.noRow[id]
	known := s.PrevSeq == 0 || hasRecords && s.PrevSeq == before
	isRow := s.Kind == replay.KindCheckpoint || s.Kind == replay.KindRestored
	if s.Kind == replay.KindEpochRaised || known && !isRow {
		t.noRow[id] = s.Seq
		return nil
	}
	delete(t.noRow, id)
	number, after := t.ended.next(id)
	i := &Incarnation{ID: id, Number: number, After: after, Outcome: InFlight, BeginningLost: !known, Restored: s.Kind == replay.KindRestored}
	t.live[id] = i
	return i
}

// Live returns the incarnations that have not ended, by the seq of their first record.
func (t *Tracker) Live() []*Incarnation {
	list := make([]*Incarnation, 0, len(t.live))
	for _, i := range t.live {
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b *Incarnation) int { return cmp.Compare(a.FirstSeq, b.FirstSeq) })
	return list
}

// OpenStay returns the stay of an incarnation that has not ended, up to the time nowMS. If the
// incarnation has no open stay, OpenStay returns false.
func (i *Incarnation) OpenStay(nowMS uint64) (Stay, bool) {
	return Stay{Incarnation: i, From: i.since, MS: int64(nowMS - i.since.AtMS)}, i.since.Seq != 0
}

// EndMS returns the highest wall clock so far.
func (t *Tracker) EndMS() uint64 { return t.endMS }

// LostBetween reports whether an event with a seq in [first, last] is lost.
func (t *Tracker) LostBetween(first, last uint64) bool {
	i, _ := slices.BinarySearchFunc(t.lost, first, func(r replay.SeqRange, first uint64) int { return cmp.Compare(r.Last, first) })
	return i < len(t.lost) && t.lost[i].First <= last
}

// endings holds the ends of incarnations as 64-bit hashes, because ids take three times the memory.
// Two of n incarnations share a hash with a probability of about n*n/2^65.
type endings struct {
	seed   maphash.Seed
	hashes map[uint64]struct{}
}

func newEndings() endings {
	return endings{seed: maphash.MakeSeed(), hashes: map[uint64]struct{}{}}
}

func (e *endings) add(id checkpoint.MigrationID, number int, kind replay.Kind) {
	e.hashes[e.hash(id, number, kind)] = struct{}{}
}

// next returns the number of the id's next incarnation, and the kind that ended the one before it,
// or "" if there is none or its end is lost. An id may have been used many times, so next searches
// for the number in doubling and then in halving steps.
func (e *endings) next(id checkpoint.MigrationID) (number int, after replay.Kind) {
	var below int // the highest number whose end is known
	ended := func(number int) bool {
		kind, ok := e.kind(id, number)
		if ok {
			below, after = number, kind
		}
		return ok
	}
	number = 1
	for ended(number) {
		number *= 2
	}
	for below+1 < number {
		if middle := below + (number-below)/2; !ended(middle) {
			number = middle
		}
	}
	return number, after
}

// kind returns the kind that ended an incarnation. It returns false if none was added.
func (e *endings) kind(id checkpoint.MigrationID, number int) (replay.Kind, bool) {
	for _, kind := range []replay.Kind{replay.KindAbort, replay.KindRemove, ""} {
		if _, ok := e.hashes[e.hash(id, number, kind)]; ok {
			return kind, true
		}
	}
	return "", false
}

func (e *endings) hash(id checkpoint.MigrationID, number int, kind replay.Kind) uint64 {
	var b [checkpointIDBytes + 8 + 1]byte
	copy(b[:], id[:])
	binary.LittleEndian.PutUint64(b[checkpointIDBytes:], uint64(number))
	switch kind {
	case replay.KindAbort:
		b[len(b)-1] = 1
	case "": // the end is lost
		b[len(b)-1] = 2
	}
	return maphash.Bytes(e.seed, b[:])
}

const checkpointIDBytes = len(checkpoint.MigrationID{})
