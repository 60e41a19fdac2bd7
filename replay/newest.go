package replay

import (
	"context"

	"migrationlog/eventlog/segment"
)

// Newest returns the last n records of the log, and the number of segments that it did not have to
// read. Of each of these segments it checks only the name, the last header, and the size if there is
// a summary, or else the first header. ok is false if Newest found damage other than a torn tail, or
// if it could not skip any segment. The caller must then read the whole log with Records.
func (r *Reader) Newest(ctx context.Context, n int) (records []Record, unread int, ok bool, err error) {
	lastSeq, ok, err := r.lastSeq()
	if err != nil || !ok {
		return nil, 0, false, err
	}
	fromSeq := uint64(1)
	if lastSeq > uint64(n) {
		fromSeq = lastSeq - uint64(n) + 1
	}
	scan := segment.NewScan(r.fsys, r.dir, segment.ScanOptions{
		From: fromSeq, CheckEnds: true, Only: r.index.onlyRange(fromSeq, 0),
	})
	for item, err := range scan.Items() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, 0, false, err
		}
		rec := Decode(item)
		if rec.Damage != nil && !rec.Damage.Torn || rec.Damage == nil && scan.Unread() == 0 {
			return nil, 0, false, nil
		}
		if records = append(records, rec); len(records)-n >= max(n, extraRecords) {
			records = records[:copy(records, records[len(records)-n:])]
		}
	}
	return records[max(0, len(records)-n):], scan.Unread(), true, nil
}

// extraRecords limits the memory of Newest: it holds at most 2n+extraRecords records.
const extraRecords = 1024

// lastSeq returns the number of the log's last event. If the last segment has no event, its name
// shows the number. ok is false if the last segment is damaged, or if the log has no event.
func (r *Reader) lastSeq() (seq uint64, ok bool, err error) {
	scan := segment.NewScan(r.fsys, r.dir, segment.ScanOptions{Scope: segment.ScanTail})
	for item, err := range scan.Items() {
		switch {
		case err != nil:
			return 0, false, err
		case item.Damage != nil && !item.Damage.Torn:
			return 0, false, nil
		}
	}
	seq = scan.Tail().NextSeq - 1
	return seq, seq > 0, nil
}
