package replay

import (
	"context"
	"iter"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
)

// PeriodOptions select a part of a history by its clocks, in Unix milliseconds. The part begins with the
// first record with a clock of at least SinceMS, and ends before the first record with a clock above
// UntilMS, as with a Point; UntilMS 0 is no bound.
type PeriodOptions struct {
	SinceMS, UntilMS uint64
	Later            bool      // with the later records of the migrations that have a row at the end of the part
	Covered          *Coverage // set when the sequence ends, unless it is nil
}

// Period yields the records of a part of the history and, before them, the records of the migrations that
// have a row at its beginning. It yields all damage of the segments that it reads. Before the part it may
// yield other records too. If an event before the part is lost, it reads the whole log. It does not yield
// records that a writer has appended since it began.
func (r *Reader) Period(ctx context.Context, o PeriodOptions) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		p, err := r.newPeriod(ctx, o)
		if err != nil {
			yield(Record{}, err)
			return
		}
		scan := segment.NewScan(r.fsys, r.dir, segment.ScanOptions{CheckEnds: true, Only: p.only})
		if o.Covered != nil {
			defer func() { *o.Covered = coverageOf(scan) }()
		}
		for rec, err := range all(ctx, scan) {
			if err != nil {
				yield(Record{}, err)
				return
			}
			if !o.Later && p.endsBefore(rec) {
				return
			}
			if p.includes(rec) && !yield(rec, nil) {
				return
			}
		}
	}
}

// period selects the records of a part of a history.
type period struct {
	picker
	from, to   uint64                          // the numbers of the part
	bounded    bool                            // otherwise it ends with the log, and to is 0
	live, last map[checkpoint.MigrationID]bool // with a row before the part, and at its end
	whole      bool                            // every record is selected
}

func (r *Reader) newPeriod(ctx context.Context, o PeriodOptions) (p *period, err error) {
	p = &period{picker: picker{reader: r}, from: 1}
	if o.UntilMS > 0 {
		later, err := r.firstLater(ctx, Point{TimeMS: o.UntilMS})
		if err != nil {
			return nil, err
		}
		if p.bounded = later > 0; p.bounded {
			p.to = later - 1
		}
	}
	if o.SinceMS > 1 {
		if p.from, err = r.firstLater(ctx, Point{TimeMS: o.SinceMS - 1}); err != nil {
			return nil, err
		}
	}
	if p.whole = p.from == 0 || p.from == 1 && !p.bounded || p.bounded && p.to == 0; p.whole {
		return p, nil
	}
	if p.from > 1 {
		if p.live, err = p.rowsAfter(ctx, p.from-1); err != nil {
			return nil, err
		}
	}
	if p.bounded && o.Later {
		if p.last, err = p.rowsAfter(ctx, p.to); err != nil {
			return nil, err
		}
	}
	p.picker.query = Query{FromSeq: p.from, ToSeq: p.to}
	p.picker.before, p.picker.after = p.live, p.last
	return p, nil
}

// rowsAfter returns the migrations with a row after an event. If the log had to be read completely for
// this, the period is the whole log.
func (p *period) rowsAfter(ctx context.Context, seq uint64) (map[checkpoint.MigrationID]bool, error) {
	fold, err := p.reader.FoldTo(ctx, Point{Seq: seq})
	if err != nil {
		return nil, err
	}
	p.whole = p.whole || fold.Coverage().Unchecked == 0
	rows := make(map[checkpoint.MigrationID]bool)
	for row := range fold.View.Rows() {
		rows[row.Checkpoint.MigrationID] = true
	}
	return rows, nil
}

// only is the function for segment.ScanOptions.Only.
func (p *period) only(name string) (seqs []uint64, lastSeq uint64, ok bool) {
	if p.whole {
		return nil, 0, false
	}
	return p.picker.only(name)
}

func (p *period) endsBefore(rec Record) bool {
	return p.bounded && rec.Damage == nil && rec.Seq > p.to || p.to > 0 && (Point{Seq: p.to}).Before(rec)
}

func (p *period) includes(rec Record) bool {
	if p.whole || rec.Damage != nil {
		return true
	}
	id, _ := rec.Migration()
	switch {
	case p.isLater(rec):
		return false
	case rec.Seq < p.from:
		return p.live[id]
	case p.bounded && rec.Seq > p.to:
		return p.last[id]
	}
	return true
}
