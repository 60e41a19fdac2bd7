package diff_test

import (
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
)

// member writes the log of one member of a consensus group. It is the same as the log of a Replica,
// but has no files besides the segments and the manifest.
type member struct {
	t        *testing.T
	dir      string
	manifest segment.Manifest
	maxBytes int // of a segment

	damaged     bool   // nothing is written any more
	data        []byte // of the present segment
	first       uint64 // of the present segment
	seq         uint64
	index, term uint64
	chain       [32]byte
	view        *projection.View
}

const digestEvery = 1024

func newMember(t *testing.T, maxBytes int, history *segment.History) *member {
	m := &member{
		t: t, dir: filepath.Join(t.TempDir(), "member"), maxBytes: maxBytes, first: 1, term: 1, view: projection.New(),
		manifest: segment.Manifest{UUID: uuid.New(), Created: time.Unix(base/1000, 0), Replicated: true, History: history},
	}
	require.NoError(t, os.MkdirAll(filepath.Join(m.dir, segment.WALDir), 0o700))
	for _, name := range []string{segment.ManifestName, segment.ManifestCopyName} {
		require.NoError(t, os.WriteFile(filepath.Join(m.dir, name), m.manifest.Encode(), 0o600))
	}
	return m
}

// apply applies one entry, after the digests that come before it.
func (m *member) apply(e checkpoint.Event) {
	m.index++
	if m.index%digestEvery == 0 {
		m.digest(m.index-1, e.WallMS())
	}
	body, err := checkpoint.EncodeEvent(e)
	require.NoError(m.t, err)
	body = checkpoint.AppendPosition(body, m.index, m.term)
	m.append(e, body)
	m.chain = sha256.Sum256(append(m.chain[:], body...))
}

// skip applies entries that append no event.
func (m *member) skip(entries uint64) {
	for range entries {
		if m.index++; m.index%digestEvery == 0 {
			m.digest(m.index-1, base)
		}
	}
}

func (m *member) digest(index, timeMS uint64) {
	d := checkpoint.Digest{State: m.state(), Chain: m.chain, TimestampMS: timeMS}
	body, err := checkpoint.EncodeEvent(d)
	require.NoError(m.t, err)
	m.append(d, checkpoint.AppendPosition(body, index, m.term))
}

func (m *member) state() [32]byte {
	var all []byte
	for row := range m.view.Rows() {
		b, err := m.view.AppendRestored(nil, row.Checkpoint.MigrationID)
		require.NoError(m.t, err)
		all = append(all, b...)
	}
	return sha256.Sum256(all)
}

// restoreFrom begins the log with the rows of another member.
func (m *member) restoreFrom(other *member, timeMS uint64) {
	for row := range other.view.Rows() {
		b, err := other.view.AppendRestored(nil, row.Checkpoint.MigrationID)
		require.NoError(m.t, err)
		e, err := checkpoint.DecodeEvent(b)
		require.NoError(m.t, err)
		m.append(e, b)
	}
	m.index, m.chain = other.index, other.chain
	m.digest(m.index, timeMS)
}

func (m *member) append(e checkpoint.Event, body []byte) {
	c := projection.ChangeOf(e)
	index, _ := checkpoint.PositionOf(body)
	c.SetIndex(index)
	prev := m.view.Slot(e.Migration()).LastSeq()
	m.seq++
	frame := segment.AppendFrame(nil, &m.manifest.UUID, segment.Header{Seq: m.seq, PrevSeq: prev}, segment.NewBody(body))
	if len(m.data)+len(frame) > m.maxBytes {
		m.close()
		m.first, m.data = m.seq, nil
	}
	m.data = append(binary.AppendUvarint(m.data, uint64(len(frame))), frame...)
	m.view.ApplyChange(m.seq, prev, c)
}

// close writes the present segment, and returns the directory.
func (m *member) close() string {
	if m.damaged {
		return m.dir
	}
	require.NoError(m.t, os.WriteFile(filepath.Join(m.dir, segment.WALDir, segment.Name(m.first)), m.data, 0o600))
	return m.dir
}

// damage changes a byte in the frame of an event.
func (m *member) damage(seq uint64) {
	names, err := segment.Names(os.DirFS(m.close()))
	require.NoError(m.t, err)
	n, _ := slices.BinarySearch(names, segment.Name(seq+1))
	file := filepath.Join(m.dir, segment.WALDir, names[n-1])
	m.damaged = true
	data, err := os.ReadFile(file)
	require.NoError(m.t, err)
	first, _ := segment.ParseName(names[n-1])
	at := 0
	segment.Walk(data, m.manifest.UUID, first, func(h segment.Header, frame []byte) {
		if h.Seq < seq {
			at += segment.EntryBytes(len(frame))
		}
	})
	data[at+segment.HeaderBytes+5] ^= 1
	require.NoError(m.t, os.WriteFile(file, data, 0o600))
}
