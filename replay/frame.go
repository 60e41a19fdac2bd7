package replay

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"path"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
)

// FrameField is one part of a frame's entry in a segment.
type FrameField struct {
	Offset int64  // of its first byte in the segment
	Bytes  []byte // share memory with the frame
	Name   string
	Value  string
	Fault  string // describes the fault; "" if there is none
}

// FrameView is one entry of a segment for a person who looks at its bytes.
type FrameView struct {
	Segment string // file name
	segment.Dissection
	Fields   []FrameField // all of them, in the order of their bytes
	EventErr error        // of checkpoint.Check on the body
}

// EntryOffset returns the offset at which the entry of the record's frame begins in its segment, with
// its length prefix.
func (r Record) EntryOffset() int64 {
	return max(r.Offset-int64(len(binary.AppendUvarint(nil, uint64(r.Length)))), 0)
}

// FrameAt returns the entry at an offset of a segment. The entry may be damaged. The offset is that of
// the entry's length prefix or of the frame's header. FrameAt returns fs.ErrNotExist if there is no
// such segment, segment.ErrNoEntry if too few bytes follow the offset, or an I/O error.
func (r *Reader) FrameAt(name string, offset int64) (FrameView, error) {
	if _, ok := segment.ParseName(name); !ok {
		return FrameView{}, fmt.Errorf("%q is not the name of a segment: %w", name, fs.ErrNotExist)
	}
	f, err := r.fsys.Open(path.Join(segment.WALDir, name))
	if err != nil {
		return FrameView{}, err
	}
	defer f.Close()
	if _, err := io.CopyN(io.Discard, f, offset); err != nil && err != io.EOF {
		return FrameView{}, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxEntryBytes))
	if err != nil {
		return FrameView{}, err
	}
	d, err := segment.Dissect(b, r.dir.Manifest.UUID)
	if err != nil {
		return FrameView{}, fmt.Errorf("segment %s at byte %d: %w", name, offset, err)
	}
	v := FrameView{Segment: name, Dissection: d, EventErr: checkpoint.Check(d.Body)}
	add := func(at, length int, name, value, fault string) {
		v.Fields = append(v.Fields, FrameField{offset + int64(at), d.Bytes[at : at+length], name, value, fault})
	}
	for _, f := range d.Fields {
		add(f.Offset, f.Length, f.Name, f.Value, f.Fault)
	}
	body := len(d.Bytes) - len(d.Body)
	for _, f := range checkpoint.Fields(d.Body) {
		add(body+f.Offset, f.Length, f.Name, f.Value, f.Fault)
	}
	return v, nil
}

// maxEntryBytes is more than the length of the longest entry.
const maxEntryBytes = 16 + segment.HeaderBytes + segment.MaxBodyBytes
