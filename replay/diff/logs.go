package diff

import (
	"context"
	"iter"
	"math"

	"migrationlog/replay"
)

// Relation is the relation of two logs.
type Relation string

// The relations of two logs.
const (
	// Identical: both logs have the same events.
	Identical Relation = "identical"
	// FirstIsPrefix: the second log continues the first one.
	FirstIsPrefix Relation = "first_is_prefix"
	// SecondIsPrefix: the first log continues the second one.
	SecondIsPrefix Relation = "second_is_prefix"
	// Incomplete: both logs are copies of one log, and one has lost events that the other has.
	Incomplete Relation = "incomplete"
	// Diverged: both logs are copies of one log, and each has events that the other does not have.
	Diverged Relation = "diverged"
	// Different: the logs were created separately, so that their events cannot be compared.
	Different Relation = "different_logs"
)

// Copies describes which events two logs have in common.
type Copies struct {
	Relation Relation
	// CommonSeq is the last event up to which the logs do not differ; 0 if there is none. Events that
	// one of the logs has lost are not compared.
	CommonSeq uint64
	// OnlyFirst and OnlySecond count the events that only one log has. An event that the other log
	// has lost is one of them.
	OnlyFirst, OnlySecond Counts
}

// Logs compares the ends of two logs. It reads both forward in one pass, and calls visit after each
// number. It returns the folds of the two logs. The error is the first one of either log, or ctx's.
func Logs(ctx context.Context, first, second *replay.Reader, o Options, visit func(seq uint64)) (r Result, folds [2]*replay.Fold, err error) {
	l := logs{sides: [2]*side{newSide(first.NewFold(), Options{}), newSide(second.NewFold(), o)}}
	l.comparable = first.Manifest().UUID == second.Manifest().UUID
	if err := l.read(ctx, first, second, visit); err != nil {
		return Result{}, folds, err
	}
	copies := l.copies()
	before, from := l.sides[0].rows()
	after, to := l.sides[1].rows()
	r = Result{From: from, To: to, Between: copies.OnlySecond, Copies: &copies}
	r.compare(before, after, l.comparable, l.sides[1])
	if copies.Relation == Incomplete {
		r.explainLosses(l.sides[0], l.sides[1].fold.Report().Lost)
		r.sort()
	}
	return r, [2]*replay.Fold{l.sides[0].fold, l.sides[1].fold}, nil
}

// logs is the comparison of two logs.
type logs struct {
	sides      [2]*side
	comparable bool // the logs have the same UUID
	diverged   bool // an event differs
	commonSeq  uint64
}

// cursor is the next record of one log.
type cursor struct {
	next   func() (replay.Record, error, bool)
	record replay.Record
	seq    uint64 // of the record, or the first one of a damaged range; 0 for other damage; above all numbers at the end
}

const atEnd = math.MaxUint64

func (c *cursor) advance() (err error) {
	r, err, ok := c.next()
	switch {
	case err != nil:
		return err
	case !ok:
		c.record, c.seq = replay.Record{}, atEnd
	case r.Damage != nil:
		c.record, c.seq = r, r.Damage.FirstSeq
	default:
		c.record, c.seq = r, r.Seq
	}
	return nil
}

func (l *logs) read(ctx context.Context, first, second *replay.Reader, visit func(uint64)) error {
	var cursors [2]cursor
	for i, reader := range []*replay.Reader{first, second} {
		next, stop := iter.Pull2(reader.Records(ctx, replay.Query{}))
		defer stop()
		cursors[i].next = next
		if err := cursors[i].advance(); err != nil {
			return err
		}
	}
	for a, b := &cursors[0], &cursors[1]; a.seq != atEnd || b.seq != atEnd; {
		takeFirst, takeSecond := a.seq <= b.seq, b.seq <= a.seq
		common := takeFirst && takeSecond && l.compare(a.record, b.record)
		for i, take := range []bool{takeFirst, takeSecond} {
			if take {
				l.add(i, cursors[i].record, common)
				if err := cursors[i].advance(); err != nil {
					return err
				}
			}
		}
		if next := min(a.seq, b.seq); next != atEnd {
			visit(next)
		}
	}
	return nil
}

// compare compares two records with the same number, and reports whether they are the same event.
func (l *logs) compare(a, b replay.Record) bool {
	if !l.comparable || l.diverged || a.Damage != nil || b.Damage != nil {
		return false
	}
	if a.HeaderCRC32C != b.HeaderCRC32C { // the header has the checksum of the body
		l.diverged = true
		return false
	}
	l.commonSeq = a.Seq
	return true
}

// add adds a record to one side, and counts it if the other side does not have it.
func (l *logs) add(i int, r replay.Record, common bool) {
	s := l.sides[i]
	s.counting = !common
	if common {
		s.startSeq = r.Seq
	}
	s.add(r)
}

func (l *logs) copies() Copies {
	c := Copies{CommonSeq: l.commonSeq, OnlyFirst: l.sides[0].counts, OnlySecond: l.sides[1].counts}
	first, second := c.OnlyFirst.Events > 0, c.OnlySecond.Events > 0
	switch {
	case !l.comparable:
		c.Relation = Different
	case l.diverged:
		c.Relation = Diverged
	case first && c.OnlySecond.Lost > 0, second && c.OnlyFirst.Lost > 0:
		c.Relation = Incomplete
	case first && second:
		c.Relation = Diverged
	case second:
		c.Relation = FirstIsPrefix
	case first:
		c.Relation = SecondIsPrefix
	default:
		c.Relation = Identical
	}
	return c
}
