package oracle

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"
)

// Snapshot is a valid snapshot file of version 1 or 2.
type Snapshot struct {
	Seq, Segment uint64
	HeaderCRC    uint32 // checksum of the header of its last frame
	Version      int
	states       map[uuid.UUID]*migration
}

// isOf reports whether the event is the last event of the snapshot.
func (s Snapshot) isOf(e Event) bool {
	return s.Seq == e.Seq && s.Segment == e.Segment && s.HeaderCRC == e.HeaderCRC
}

func (l *Log) readSnapshots(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	for _, e := range entries {
		n, ok := segmentNumber(e.Name())
		if !ok || !e.Type().IsRegular() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if os.IsNotExist(err) { // a writer removed it after ReadDir
			continue
		}
		if err != nil {
			return err
		}
		l.readSnapshot(b, n)
	}
	return nil
}

// readSnapshot decodes the content of a snapshot file. The file's name has the number named. If the
// snapshot is not valid, it is ignored.
func (l *Log) readSnapshot(b []byte, named uint64) {
	if len(b) < headerBytes || string(b[:3]) != "\xf7MS" {
		return
	}
	le := binary.LittleEndian
	s := Snapshot{Version: int(b[3]), HeaderCRC: le.Uint32(b[4:]), Seq: le.Uint64(b[8:]), Segment: le.Uint64(b[16:])}
	length := le.Uint64(b[24:])
	if le.Uint32(b[36:]) != mixedCRC(b[:36], l.UUID) || s.Version == 0 || s.Seq == 0 || s.Seq > maxSeq {
		return
	}
	if s.Version > 1 {
		flags := b[31]
		length &= 1<<56 - 1
		if flags&1 != 0 {
			l.Durable = max(l.Durable, s.Seq)
		}
	}
	body := b[headerBytes:]
	if s.Version > 2 || s.Seq != named || length != uint64(len(body)) || crc32.Checksum(body, castagnoli) != le.Uint32(b[32:]) {
		return
	}
	var ok bool
	if s.Version == 1 {
		s.states, ok = decodeRowsV1(body)
	} else {
		s.states, ok = decodeRowsV2(body)
	}
	if ok {
		l.Snapshots = append(l.Snapshots, s)
	}
}

func decodeRowsV1(body []byte) (map[uuid.UUID]*migration, bool) {
	states := map[uuid.UUID]*migration{}
	for len(body) > 0 {
		var row []any
		rest, err := cbor.UnmarshalFirst(body, &row)
		if err != nil || len(row) < 5 {
			return nil, false
		}
		body = rest
		f, _ := row[4].([]any)
		if len(f) < 10 {
			return nil, false
		}
		e := Event{}
		e.Body, _ = row[3].([]byte)
		if !e.decodeBody() || e.Kind != KindUpserted {
			return nil, false
		}
		number := func(list []any, i int) uint64 { n, _ := list[i].(uint64); return n }
		flag := func(i int) bool { b, _ := f[i].(bool); return b }
		m := &migration{
			row: &e, rowSeq: number(row, 0), rowPrev: number(row, 1), last: number(row, 2),
			facts: Facts{
				SourceNode: number(f, 0), TargetNode: number(f, 1), SourceGroup: number(f, 2), WritePauseBudgetUS: number(f, 3),
				WallNS: number(f, 4), Logical: number(f, 5), HasTarget: flag(6), HasSource: flag(7),
			},
		}
		m.target.broken, m.source.broken = flag(8), flag(9)
		states[e.Migration] = m
	}
	return states, true
}

func decodeRowsV2(body []byte) (map[uuid.UUID]*migration, bool) {
	var store map[uint64]any
	body, err := cbor.UnmarshalFirst(body, &store)
	if err != nil {
		return nil, false
	}
	states := map[uuid.UUID]*migration{}
	for len(body) > 0 {
		var row map[uint64]any
		if body, err = cbor.UnmarshalFirst(body, &row); err != nil {
			return nil, false
		}
		number := func(key uint64) uint64 { n, _ := row[key].(uint64); return n }
		m := &migration{rowSeq: number(1), rowPrev: number(2), last: number(3)}
		id, _ := row[7].([]byte)
		if frame, ok := row[4].([]byte); ok {
			m.row = &Event{Body: frame}
			if !m.row.decodeBody() || m.row.Kind != KindUpserted {
				return nil, false
			}
			id = m.row.Migration[:]
		}
		if len(id) != 16 {
			return nil, false
		}
		m.begin.broken, m.rowSource.broken = number(6)&1 != 0, number(6)&2 != 0
		facts, _ := row[5].(map[any]any)
		fact := func(key uint64) uint64 { n, _ := facts[key].(uint64); return n }
		m.facts = Facts{fact(2), fact(3), fact(4), fact(5), fact(6), fact(7), fact(1)&1 != 0, fact(1)&2 != 0}
		m.target.broken, m.source.broken = fact(1)&4 != 0, fact(1)&8 != 0
		states[uuid.UUID(id)] = m
	}
	return states, uint64(len(states)) == asNumber(store[1])
}

// EncodeV1 returns the snapshot as a file of version 1 of the format. It returns false if version 1
// cannot represent the snapshot.
func (s Snapshot) EncodeV1(log uuid.UUID) ([]byte, bool) {
	var body []byte
	ids := slices.SortedFunc(maps.Keys(s.states), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		m, f := s.states[id], s.states[id].facts
		if m.row == nil || m.begin.broken || m.rowSource.broken || m.target.broken || m.source.broken {
			return nil, false
		}
		row, err := cbor.Marshal([]any{m.rowSeq, m.rowPrev, m.last, m.row.Body, []any{
			f.SourceNode, f.TargetNode, f.SourceGroup, f.WritePauseBudgetUS, f.WallNS, f.Logical, f.HasTarget, f.HasSource, false, false,
		}})
		if err != nil {
			return nil, false
		}
		body = append(body, row...)
	}
	le := binary.LittleEndian
	b := le.AppendUint32([]byte("\xf7MS\x01"), s.HeaderCRC)
	b = le.AppendUint64(le.AppendUint64(b, s.Seq), s.Segment)
	b = le.AppendUint32(le.AppendUint64(b, uint64(len(body))), crc32.Checksum(body, castagnoli))
	return append(le.AppendUint32(b, mixedCRC(b, log)), body...), true
}

func asNumber(v any) uint64 { n, _ := v.(uint64); return n }
