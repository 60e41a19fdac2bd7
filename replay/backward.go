package replay

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"migrationlog/eventlog/segment"
)

// Backward yields records from the newest to the oldest. It first reads the whole log forward and
// calls visit with each record. visit reports whether Backward yields that record later. Backward
// then reads the segments again in reverse order. It holds the records of one segment in memory.
// Records that a writer appends meanwhile are not visited. If reading fails or ctx is canceled, the
// error is yielded last.
func (r *Reader) Backward(ctx context.Context, visit func(Record) bool) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		scan := segment.NewScan(r.fsys, r.dir, segment.ScanOptions{})
		pages, err := visitPages(ctx, scan, visit)
		for _, p := range slices.Backward(pages) {
			records := p.records
			if err == nil && records == nil && p.selected.any() {
				records, err = p.read(ctx, scan)
			}
			if err != nil {
				break
			}
			for _, rec := range slices.Backward(records) {
				if !yield(rec, nil) {
					return
				}
			}
		}
		if err != nil {
			yield(Record{}, err)
		}
	}
}

// page is the part of a history that is in one segment. The damage outside the segments is one
// page.
type page struct {
	segment  string // file name; "" for the damage outside the segments
	count    int
	selected bitset   // of its records, in order
	records  []Record // the selected records, if they need not be read again
}

// visitPages reads the log forward. The first page has the damage outside the segments, which
// Scan.Again cannot yield. The last segment may change. The first and the last page therefore keep
// their records, and are not read again.
func visitPages(ctx context.Context, scan *segment.Scan, visit func(Record) bool) ([]*page, error) {
	pages := []*page{{}}
	for item, err := range scan.Items() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		rec := Decode(item)
		p := pages[len(pages)-1]
		if _, inSegment := segment.ParseName(rec.Segment); inSegment && rec.Segment != p.segment {
			if p.segment != "" {
				p.records = nil
			}
			p = &page{segment: rec.Segment}
			pages = append(pages, p)
		}
		selected := visit(rec)
		p.selected.append(p.count, selected)
		p.count++
		if selected {
			p.records = append(p.records, rec)
		}
	}
	return pages, nil
}

// read reads the segment again and returns the selected records.
func (p *page) read(ctx context.Context, scan *segment.Scan) (records []Record, err error) {
	n := 0
	for item, err := range scan.Again(p.segment) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if n < p.count && p.selected.has(n) {
			records = append(records, Decode(item))
		}
		n++
	}
	if n != p.count {
		return nil, fmt.Errorf("segment %s changed while it was read: a repair is running, try again", p.segment)
	}
	return records, nil
}

// bitset is a list of bits.
type bitset []byte

// append adds bit n. The bitset must have n bits.
func (b *bitset) append(n int, set bool) {
	if n%8 == 0 {
		*b = append(*b, 0)
	}
	if set {
		(*b)[n/8] |= 1 << (n % 8)
	}
}

func (b bitset) has(n int) bool { return b[n/8]&(1<<(n%8)) != 0 }

func (b bitset) any() bool { return slices.ContainsFunc(b, func(bits byte) bool { return bits != 0 }) }
