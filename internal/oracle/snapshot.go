package oracle

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"
)

// Snapshot is a valid snapshot file of version 1, 2 or 3.
type Snapshot struct {
	Seq, Segment uint64
	HeaderCRC    uint32 // checksum of the header of its last frame
	Version      int
	epoch        uint64
	states       map[uuid.UUID]*migration
	body         []byte // of a snapshot that was read
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
	if s.Version > 3 || s.Seq != named || length != uint64(len(body)) || crc32.Checksum(body, castagnoli) != le.Uint32(b[32:]) {
		return
	}
	s.body = body
	var ok bool
	if s.Version == 1 {
		s.states, ok = decodeRowsV1(body)
	} else {
		ok = s.decodeRows()
	}
	if ok && s.Version < 3 {
		s.deriveFacts()
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

// deriveFacts sets the facts that versions 1 and 2 do not have, as far as the rows show them.
func (s *Snapshot) deriveFacts() {
	for _, m := range s.states {
		if m.facts.HasTarget {
			m.facts = m.facts.withTarget(m.facts.SourceGroup, m.facts.TargetNode)
		}
		if m.row != nil {
			m.facts = m.facts.withPhase(*m.row)
			m.facts.Phases[phaseAddLearner-1] = m.facts.Phases[phaseAddLearner-1] || m.facts.HasSource
			if m.last > m.rowSeq {
				m.facts.Unknown = m.last
			}
		}
	}
}

// decodeRows decodes the body of a snapshot of version 2 or 3.
func (s *Snapshot) decodeRows() bool {
	var store map[uint64]any
	body, err := cbor.UnmarshalFirst(s.body, &store)
	if err != nil {
		return false
	}
	s.epoch = asNumber(store[3])
	s.states = map[uuid.UUID]*migration{}
	for len(body) > 0 {
		var row map[uint64]any
		if body, err = cbor.UnmarshalFirst(body, &row); err != nil {
			return false
		}
		number := func(key uint64) uint64 { n, _ := row[key].(uint64); return n }
		m := &migration{rowSeq: number(1), rowPrev: number(2), last: number(3), index: number(8)}
		id, _ := row[7].([]byte)
		if frame, ok := row[4].([]byte); ok {
			m.row = &Event{Body: frame}
			if !m.row.decodeBody() || m.row.Kind != KindUpserted {
				return false
			}
			id = m.row.Migration[:]
		}
		if len(id) != 16 {
			return false
		}
		m.begin.broken, m.rowSource.broken = number(6)&1 != 0, number(6)&2 != 0
		facts, _ := row[5].(map[any]any)
		var flags uint64
		var ok bool
		if m.facts, flags, ok = decodeFacts(facts); !ok {
			return false
		}
		if m.row != nil { // the attempt of the latest checkpoint is not repeated in the facts
			attempt := &m.facts.Attempts[m.row.Phase-1]
			*attempt = max(*attempt, m.row.Attempt)
		}
		m.target.broken, m.source.broken = flags&4 != 0, flags&8 != 0
		s.states[uuid.UUID(id)] = m
	}
	return uint64(len(s.states)) == asNumber(store[1])
}

// decodeFacts decodes the facts of a row, and their flags.
func decodeFacts(m map[any]any) (f Facts, flags uint64, ok bool) {
	fact := func(key uint64) uint64 { return asNumber(m[key]) }
	flags = fact(1)
	f = Facts{
		SourceNode: fact(2), TargetNode: fact(3), SourceGroup: fact(4), WritePauseBudgetUS: fact(5), WallNS: fact(6), Logical: fact(7),
		HasTarget: flags&1 != 0, HasSource: flags&2 != 0, Furthest: fact(8), Began: fact(10), Unknown: fact(11),
	}
	attempts, _ := m[uint64(12)].([]any)
	for i := range f.Phases {
		f.Phases[i] = fact(9)>>i&1 == 1
		if i < len(attempts) {
			f.Attempts[i] = asNumber(attempts[i])
		}
	}
	targets, _ := m[uint64(13)].([]any)
	if targets == nil && f.HasTarget {
		f = f.withTarget(f.SourceGroup, f.TargetNode)
	} else {
		for _, t := range targets {
			pair, _ := t.([]any)
			if len(pair) != 2 {
				return Facts{}, 0, false
			}
			f.Targets = strings.TrimSpace(fmt.Sprintf("%s %d:%d", f.Targets, pair[0], pair[1]))
		}
	}
	abort, _ := m[uint64(14)].(map[any]any)
	if abort == nil {
		return f, flags, true
	}
	var begun Event
	begun.Body, _ = abort[uint64(2)].([]byte)
	if !begun.decodeBody() || begun.Kind != KindAbortBegun {
		return Facts{}, 0, false
	}
	begun.Seq = asNumber(abort[uint64(1)])
	f = f.afterAbortEvent(begun)
	done, _ := abort[uint64(3)].([]any)
	for _, step := range done {
		f = f.afterAbortEvent(Event{Kind: KindCompensated, Step: asNumber(step)})
	}
	return f, flags, true
}

// EncodeV2 returns a snapshot of version 3 as a file of version 2 of the format, without the facts,
// the epoch and the indexes that version 2 does not have. It returns false for another version.
func (s Snapshot) EncodeV2(log uuid.UUID) ([]byte, bool) {
	if s.Version != 3 {
		return nil, false
	}
	encode := func(m map[uint64]any) []byte {
		mode, err := cbor.CoreDetEncOptions().EncMode()
		if err != nil {
			panic(err) // cannot happen: the options are constants
		}
		b, err := mode.Marshal(m)
		if err != nil {
			panic(err) // cannot happen: the values were decoded
		}
		return b
	}
	var store map[uint64]any
	left, err := cbor.UnmarshalFirst(s.body, &store)
	var rows []byte
	for err == nil && len(left) > 0 {
		var row map[uint64]any
		if left, err = cbor.UnmarshalFirst(left, &row); err != nil {
			break
		}
		delete(row, 8)
		if facts, ok := row[5].(map[any]any); ok {
			maps.DeleteFunc(facts, func(key, _ any) bool { return asNumber(key) > 7 })
			if len(facts) == 0 {
				delete(row, 5)
			}
		}
		rows = append(rows, encode(row)...)
	}
	runs, _ := store[2].([]any)
	if err != nil || len(runs) > 1 {
		return nil, false
	}
	delete(store, 3)
	if len(runs) == 1 {
		store[2] = []uint64{uint64(len(rows))}
	}
	return s.file(log, 2, append(encode(store), rows...)), true
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
	return s.file(log, 1, body), true
}

// file returns a snapshot file with this body, and without the flag of a durable log.
func (s Snapshot) file(log uuid.UUID, version byte, body []byte) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32([]byte{0xf7, 'M', 'S', version}, s.HeaderCRC)
	b = le.AppendUint64(le.AppendUint64(b, s.Seq), s.Segment)
	b = le.AppendUint32(le.AppendUint64(b, uint64(len(body))), crc32.Checksum(body, castagnoli))
	return append(le.AppendUint32(b, mixedCRC(b, log)), body...)
}

func asNumber(v any) uint64 { n, _ := v.(uint64); return n }
