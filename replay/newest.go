package replay

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"migrationlog/eventlog/segment"
	"migrationlog/internal/intact"
)

// Newest returns the last n records of the log, and the number of segments that it did not have to
// read. It checks only the name and the last header of each of these segments, and its size if it
// has a summary, or else its first header. ok is false if Newest found damage other than a torn
// tail, or if it could not skip any segment. The caller must then read the whole log with Records.
func (r *Reader) Newest(ctx context.Context, n int) (records []Record, unread int, ok bool, err error) {
	names, err := segment.Names(r.fsys)
	if err != nil || len(names) == 0 {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, 0, false, err
	}
	from, _ := segment.ParseName(names[len(names)-1])
	records, unread, ok, err = r.newestFrom(ctx, from, n)
	if missing := uint64(n - len(records)); ok && missing > 0 && from > 1 {
		return r.newestFrom(ctx, from-min(missing, from-1), n)
	}
	return records, unread, ok, err
}

// newestFrom returns the last n records of the segments that have an event from this number on.
func (r *Reader) newestFrom(ctx context.Context, from uint64, n int) (records []Record, unread int, ok bool, err error) {
	scan := segment.NewScan(r.fsys, r.dir, segment.ScanOptions{
		From: from, CheckEnds: true, Only: r.index.onlyRange(from, 0),
	})
	var last []segment.Item // their bodies share the memory of the segments that were read
	for item, err := range scan.Items() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, 0, false, err
		}
		if item.Damage != nil && !item.Damage.Torn || item.Damage == nil && scan.Unread() == 0 {
			return nil, 0, false, nil
		}
		if last = append(last, item); len(last)-n >= max(n, extraRecords) {
			if !areEvents(last[:len(last)-n]) {
				return nil, 0, false, nil
			}
			last = last[:copy(last, last[len(last)-n:])]
		}
	}
	first := max(0, len(last)-n)
	if !areEvents(last[:first]) {
		return nil, 0, false, nil
	}
	for _, item := range last[first:] {
		rec := Decode(item)
		if rec.Damage != nil && !rec.Damage.Torn {
			return nil, 0, false, nil
		}
		records = append(records, rec)
	}
	return records, scan.Unread(), scan.Unread() > 0, nil
}

// extraRecords limits the memory of Newest: it holds at most 2n+extraRecords records.
const extraRecords = 1024

// areEvents reports whether the bodies of all frames are events.
func areEvents(items []segment.Item) bool {
	return !slices.ContainsFunc(items, func(i segment.Item) bool {
		return i.Damage == nil && intact.CheckBody(i.Frame.Seq, i.Frame.Body) != nil
	})
}
