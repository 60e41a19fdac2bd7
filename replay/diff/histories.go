package diff

import (
	"bytes"
	"context"
	"errors"
	"iter"

	"migrationlog/replay"
)

// Agreement is the result of a comparison of the histories of two members of a consensus group.
type Agreement string

// The agreements.
const (
	// Same: all events that both members have are the same.
	Same Agreement = "same"
	// Differs: the members have different events at an index.
	Differs Agreement = "differs"
	// NotKept: the chained digests differ at the index at which the history of one member begins. The
	// first different event is before this index, and that member does not have it.
	NotKept Agreement = "not_kept"
	// Apart: the history of one member begins after the end of the other one.
	Apart Agreement = "apart"
	// Unknown: the chained digests differ, but the first different event is lost.
	Unknown Agreement = "lost"
)

// Member describes the log of one member.
type Member struct {
	Begin     replay.Beginning
	LastIndex uint64 // the highest index of an event
	// Event is the event at Histories.Index, or nil if the member has none there.
	Event *replay.Record
	// Lost has the lost events in the part of the histories that was compared one by one.
	Lost []replay.SeqRange
	// Unmatched is the number of events of the other member at indexes at which this one has lost
	// events.
	Unmatched uint64
}

// Histories is the comparison of the histories of two members of a consensus group. All indexes are
// those of the group's log.
type Histories struct {
	Agreement Agreement
	Members   [2]Member
	// Index is the first index at which the histories differ. It is set if Agreement is Differs.
	Index uint64
	// SameThrough is the highest index up to which no difference was found. This includes the history
	// before the beginning of a log, because the chained digests cover it.
	SameThrough uint64
	// DigestsThrough is the highest index at which equal chained digests showed that the histories are
	// the same. The events up to it were not compared one by one. It is 0 if no digests were equal.
	DigestsThrough uint64
	// DiffersAt is the lowest index that was found at which the chained digests differ, or 0.
	DiffersAt uint64
	// Through is the end of the comparison: the lower one of the two members' last indexes.
	Through uint64
	// BeginUnknown is true if it is not known whether the histories are the same before the later one
	// of the two beginnings, because a member has lost events there. An earlier difference is
	// possible.
	BeginUnknown bool
	// StatesAt is the last index at which both members have a state digest, or 0. StatesEqual reports
	// whether these digests are equal. Two histories that differ can lead to equal states.
	StatesAt    uint64
	StatesEqual bool
	// The costs of the comparison: the digests that were looked up, and the events that were compared.
	DigestReads, Events int
}

// Equal reports whether no difference was found.
func (h Histories) Equal() bool { return h.Agreement == Same || h.Agreement == Apart }

// CompareHistories finds the first index at which the histories of two members differ. It compares
// the chained digests that both logs contain, with a binary search, and then the events between the
// last equal digest and the first different one. Equal states are no evidence: two states can
// differ and become equal again.
//
// It returns replay.ErrNoPositions if a log has events without a raft index, an I/O error, or ctx's
// error. The folds have only the damage that was found on the way.
func CompareHistories(ctx context.Context, first, second *replay.Reader) (Histories, [2]*replay.Fold, error) {
	c := comparison{folds: [2]*replay.Fold{first.NewPartialFold(), second.NewPartialFold()}}
	for i, r := range []*replay.Reader{first, second} {
		var err error
		if c.members[i], err = r.Positions(); err != nil {
			return Histories{}, c.folds, err
		}
		m := &c.result.Members[i]
		if m.Begin, err = r.Beginning(); err != nil {
			return Histories{}, c.folds, err
		}
		if m.LastIndex, err = c.members[i].LastIndex(); err != nil {
			return Histories{}, c.folds, err
		}
	}
	err := c.run(ctx)
	c.result.DigestReads = c.members[0].Reads() + c.members[1].Reads()
	return c.result, c.folds, err
}

// comparison is one call of CompareHistories.
type comparison struct {
	members [2]*replay.Positions
	folds   [2]*replay.Fold
	result  Histories
}

func (c *comparison) run(ctx context.Context) error {
	r := &c.result
	r.Through = min(r.Members[0].LastIndex, r.Members[1].LastIndex)
	begin := max(r.Members[0].Begin.Index, r.Members[1].Begin.Index)
	if r.Through < begin {
		r.Agreement = Apart
		return nil
	}
	isSame, err := c.compareBeginnings(ctx, begin)
	if err != nil {
		return err
	}
	last, found, err := c.commonDigest(begin, r.Through+1, r.Through)
	if err != nil {
		return err
	}
	if found {
		r.StatesAt, r.StatesEqual = last[0].Index, last[0].State == last[1].State
	}
	if !isSame {
		r.Agreement, r.DiffersAt = NotKept, begin
		return nil
	}
	r.SameThrough = begin
	if found {
		if err := c.bisect(last); err != nil {
			return err
		}
	}
	if !r.BeginUnknown {
		r.DigestsThrough = r.SameThrough
	}
	return c.compareEvents(ctx)
}

// compareBeginnings reports whether the histories are the same up to the later one of the two
// beginnings, or may be.
func (c *comparison) compareBeginnings(ctx context.Context, begin uint64) (isSame bool, err error) {
	if begin == 0 {
		return true, nil
	}
	var chains [2][32]byte
	for i, p := range c.members {
		var ok bool
		if chains[i], ok, err = p.ChainAt(ctx, begin); err != nil {
			return false, err
		}
		if !ok {
			c.result.BeginUnknown = true
			return true, nil
		}
	}
	return chains[0] == chains[1], nil
}

// bisect narrows the range between SameThrough and the last common digest.
func (c *comparison) bisect(last [2]replay.Digest) error {
	r := &c.result
	if last[0].Chain == last[1].Chain {
		r.SameThrough, r.BeginUnknown = last[0].Index, false
		return nil
	}
	r.DiffersAt = last[0].Index
	for {
		middle := r.SameThrough + (r.DiffersAt-r.SameThrough)/2
		found, ok, err := c.commonDigest(r.SameThrough, r.DiffersAt, middle)
		if err != nil || !ok {
			return err
		}
		if found[0].Chain == found[1].Chain {
			r.SameThrough, r.BeginUnknown = found[0].Index, false
		} else {
			r.DiffersAt = found[0].Index
		}
	}
}

// commonDigest returns the digests of both members at one index, which is above after and below
// before. It chooses the highest such index up to near or, if there is none, the lowest one above
// near.
func (c *comparison) commonDigest(after, before, near uint64) (found [2]replay.Digest, ok bool, err error) {
	for at := near; at > after; {
		if found, ok, err = c.digests(at, (*replay.Positions).DigestBelow); err != nil || !ok {
			break
		}
		if found[0].Index == found[1].Index {
			if found[0].Index > after {
				return found, true, nil
			}
			break
		}
		at = min(found[0].Index, found[1].Index)
	}
	for at := max(near, after+1); err == nil && at < before; {
		if found, ok, err = c.digests(at, (*replay.Positions).DigestAbove); err != nil || !ok {
			break
		}
		if found[0].Index == found[1].Index {
			return found, found[0].Index < before, nil
		}
		at = max(found[0].Index, found[1].Index)
	}
	return found, false, err
}

// digests looks up a digest of each member.
func (c *comparison) digests(index uint64, find func(*replay.Positions, uint64) (replay.Digest, bool, error)) (found [2]replay.Digest, ok bool, err error) {
	for i, p := range c.members {
		if found[i], ok, err = find(p, index); err != nil || !ok {
			return found, false, err
		}
	}
	return found, true, nil
}

// compareEvents compares the events after SameThrough one by one, up to the first different digest
// or to the end.
func (c *comparison) compareEvents(ctx context.Context) error {
	r := &c.result
	through := r.Through
	if r.DiffersAt > 0 {
		through = r.DiffersAt
	}
	var cursors [2]eventCursor
	for i, p := range c.members {
		next, stop := iter.Pull2(p.Range(ctx, r.SameThrough, through))
		defer stop()
		cursors[i] = eventCursor{next: next, member: &r.Members[i], fold: c.folds[i]}
		if err := cursors[i].advance(); err != nil {
			return err
		}
	}
	a, b := &cursors[0], &cursors[1]
	for a.index != atEnd || b.index != atEnd {
		r.Events++
		var err error
		switch {
		case a.index == b.index && bytes.Equal(a.event.Body, b.event.Body):
			err = errors.Join(a.advance(), b.advance())
		case a.index < b.index && b.afterLoss:
			b.member.Unmatched++
			err = a.advance()
		case b.index < a.index && a.afterLoss:
			a.member.Unmatched++
			err = b.advance()
		default:
			c.differs(a, b)
			return nil
		}
		if err != nil {
			return err
		}
	}
	r.Agreement = Same
	if r.DiffersAt > 0 {
		r.Agreement = Unknown
		return nil
	}
	r.SameThrough = r.Through
	return nil
}

// differs records the first difference.
func (c *comparison) differs(cursors ...*eventCursor) {
	r := &c.result
	r.Agreement, r.Index = Differs, min(cursors[0].index, cursors[1].index)
	for _, cursor := range cursors {
		if cursor.index == r.Index {
			cursor.member.Event = &cursor.event.Record
		}
	}
	if unmatched := r.Members[0].Unmatched + r.Members[1].Unmatched; unmatched == 0 {
		r.SameThrough = r.Index - 1
	}
}

// eventCursor is the next event of one member.
type eventCursor struct {
	next      func() (replay.Positioned, error, bool)
	member    *Member
	fold      *replay.Fold
	event     replay.Positioned
	index     uint64 // of the event; atEnd after the last one
	afterLoss bool   // events between it and the event before it are lost
}

func (c *eventCursor) advance() error {
	c.afterLoss = false
	for {
		e, err, ok := c.next()
		switch {
		case err != nil:
			return err
		case !ok:
			c.index = atEnd
			return nil
		case e.Damage == nil:
			c.event, c.index = e, e.RaftIndex
			return nil
		}
		c.fold.AddDamage(*e.Damage)
		if e.Damage.Lost() > 0 {
			c.afterLoss = true
			c.member.Lost = append(c.member.Lost, replay.SeqRange{First: e.Damage.FirstSeq, Last: e.Damage.LastSeq})
		}
	}
}
