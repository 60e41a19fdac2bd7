package replay_test

import (
	"encoding/binary"
	"path"
	"testing"
	"testing/fstest"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

var testLog = uuid.MustParse("6f1d9f9e-40c1-4d5e-9a39-6f0b6a1c2d3e")

// The migrations of the logs in these tests.
var (
	idA = checkpoint.MigrationID{0xa}
	idB = checkpoint.MigrationID{0xb}
	idC = checkpoint.MigrationID{0xc}
	idD = checkpoint.MigrationID{0xd}
)

func upserted(t testing.TB, id checkpoint.MigrationID, p checkpoint.Payload, wallMS uint64) checkpoint.Event {
	c, err := checkpoint.New(id, 0, p, wallMS)
	require.NoError(t, err)
	return checkpoint.Upserted{Checkpoint: c}
}

func unknown(id checkpoint.MigrationID, wallMS uint64) *checkpoint.UnknownKindError {
	return &checkpoint.UnknownKindError{Kind: 99, MigrationID: id, TimestampMS: wallMS}
}

// destroyed is a frame whose bytes are overwritten.
type destroyed struct{}

// logOf returns the directory of a log. Each segment is a list of frames: an event, an event
// of an unknown kind, raw bytes that are not an event, or a destroyed one.
func logOf(t testing.TB, segments ...[]any) fstest.MapFS {
	manifest := segment.Manifest{UUID: testLog, Created: time.Unix(1795399697, 0).UTC()}.Encode()
	fsys := fstest.MapFS{segment.ManifestName: {Data: manifest}, segment.ManifestCopyName: {Data: manifest}}
	seq := uint64(1)
	last := map[checkpoint.MigrationID]uint64{} // the latest frame of the present incarnation
	for _, frames := range segments {
		name := path.Join(segment.WALDir, segment.Name(seq))
		var data []byte
		for _, f := range frames {
			id, body := encode(t, f)
			h := segment.Header{Seq: seq, PrevSeq: last[id], DurableThrough: seq - 1}
			frame := segment.AppendFrame(nil, &testLog, h, segment.NewBody(body))
			if _, ok := f.(destroyed); ok {
				clear(frame)
			}
			data = append(binary.AppendUvarint(data, uint64(len(frame))), frame...)
			switch f.(type) {
			case checkpoint.Upserted, *checkpoint.UnknownKindError:
				last[id] = seq
			default:
				delete(last, id)
			}
			seq++
		}
		fsys[name] = &fstest.MapFile{Data: data}
	}
	return fsys
}

func encode(t testing.TB, frame any) (checkpoint.MigrationID, []byte) {
	switch f := frame.(type) {
	case checkpoint.Event:
		body, err := checkpoint.EncodeEvent(f)
		require.NoError(t, err)
		return f.Migration(), body
	case *checkpoint.UnknownKindError:
		enc, err := cbor.CoreDetEncOptions().EncMode()
		require.NoError(t, err)
		body, err := enc.Marshal(map[int]any{1: f.Kind, 2: f.MigrationID[:], 3: f.TimestampMS})
		require.NoError(t, err)
		return f.MigrationID, body
	case []byte:
		return checkpoint.MigrationID{}, f
	}
	return checkpoint.MigrationID{}, []byte("destroyed")
}

func openFS(t testing.TB, fsys fstest.MapFS) *replay.Reader {
	reader, err := replay.OpenFS(fsys)
	require.NoError(t, err)
	return reader
}

// recordsOf returns the records that the query selects.
func recordsOf(t testing.TB, reader *replay.Reader, q replay.Query) (all []replay.Record) {
	for r, err := range reader.Records(t.Context(), q) {
		require.NoError(t, err)
		all = append(all, r)
	}
	return all
}
