package migrationlog_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"migrationlog"
)

func stateBytes(t testing.TB, s *migrationlog.State) []byte {
	var b bytes.Buffer
	n, err := s.WriteTo(&b)
	require.NoError(t, err)
	require.EqualValues(t, b.Len(), n)
	return b.Bytes()
}

// All members write the same bytes for the same index, whatever their batches, clocks and seqs are.
func TestState_SameBytesOnAllMembers(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	first := openReplica(t, dir, &migrationlog.ReplicaOptions{Store: migrationlog.Options{Now: func() time.Time { return time.Unix(1e9, 0) }}})
	maker := newEntryMaker(9)
	begin, _ := maker.history(t, first, 1500)
	early := first.State()
	rest, _ := maker.history(t, first, 1500)
	want := stateBytes(t, first.State())

	otherDir := filepath.Join(memDir(t), "log")
	other := openReplica(t, otherDir, &migrationlog.ReplicaOptions{Store: migrationlog.Options{Now: func() time.Time { return time.Unix(1e9+3600, 0) }}})
	apply(t, other, begin, rand.New(rand.NewPCG(1, 1)))
	other = reopenReplica(t, other, otherDir)
	apply(t, other, rest, nil)
	require.Equal(t, want, stateBytes(t, other.State()))
	require.Equal(t, first.Digest(), other.Digest())

	// A member that was restored has other seqs.
	restored := openReplica(t, filepath.Join(memDir(t), "log"), nil)
	s, err := migrationlog.ReadState(bytes.NewReader(stateBytes(t, early)))
	require.NoError(t, err)
	require.Equal(t, early.Digest(), s.Digest())
	require.NoError(t, restored.Replace(s))
	require.Equal(t, early.Digest(), restored.Digest())
	apply(t, restored, append(begin[len(begin)-50:], rest...), rand.New(rand.NewPCG(1, 2)))
	require.Equal(t, want, stateBytes(t, restored.State()))
	require.Equal(t, first.Digest(), restored.Digest())
	require.NotEqual(t, first.Store().Stats().LastSeq, restored.Store().Stats().LastSeq)
}

// ReadState refuses each cut and each changed byte, and the state of a newer version.
func TestReadState_Damage(t *testing.T) {
	r := openReplica(t, filepath.Join(memDir(t), "log"), nil)
	newEntryMaker(2).history(t, r, 300)
	b := stateBytes(t, r.State())
	_, err := migrationlog.ReadState(bytes.NewReader(b))
	require.NoError(t, err)
	for cut := range len(b) {
		_, err := migrationlog.ReadState(bytes.NewReader(b[:cut]))
		require.ErrorIs(t, err, migrationlog.ErrInvalid, cut)
		require.ErrorContains(t, err, "cut short", cut)
	}
	for at := range len(b) {
		flip := []byte{1, 0x20, 0x80}[at%3]
		b[at] ^= flip
		_, err := migrationlog.ReadState(bytes.NewReader(b))
		require.Error(t, err, at)
		b[at] ^= flip
	}
	_, err = migrationlog.ReadState(bytes.NewReader(append(b, 0)))
	require.ErrorIs(t, err, migrationlog.ErrInvalid)
	require.EqualValues(t, 1, b[2], "the version")
	b[2] = 2
	_, err = migrationlog.ReadState(bytes.NewReader(b))
	require.ErrorIs(t, err, migrationlog.ErrNewerFormat)
	b[2] = 1
	_, err = migrationlog.ReadState(failingReader{bytes.NewReader(b[:100])})
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

// encodedHead is the head of an encoded state, in an independent implementation.
type encodedHead struct {
	Version uint64 `cbor:"1,keyasint"`
	Index   uint64 `cbor:"2,keyasint"`
	Term    uint64 `cbor:"3,keyasint"`
	Epoch   uint64 `cbor:"4,keyasint"`
	Chain   []byte `cbor:"5,keyasint"`
	State   []byte `cbor:"6,keyasint"`
	Rows    uint64 `cbor:"7,keyasint"`
	TimeMS  uint64 `cbor:"8,keyasint"`
}

// encode encodes a state with these rows. It sets the digest and the number of the rows.
func (h encodedHead) encode(t testing.TB, rows [][]byte) []byte {
	sum := new(big.Int)
	for _, body := range rows {
		hash := sha256.Sum256(body)
		sum.Add(sum, new(big.Int).SetBytes(hash[:]))
	}
	sum.Mod(sum, new(big.Int).Lsh(big.NewInt(1), 256))
	input := append([]byte("migrationlog state 1"), make([]byte, 16+32)...)
	binary.BigEndian.PutUint64(input[20:], h.Epoch)
	binary.BigEndian.PutUint64(input[28:], uint64(len(rows)))
	sum.FillBytes(input[36:])
	digest := sha256.Sum256(input)
	h.State, h.Rows = digest[:], uint64(len(rows))

	mode, err := cbor.CoreDetEncOptions().EncMode()
	require.NoError(t, err)
	b, err := mode.Marshal(h)
	require.NoError(t, err)
	for _, body := range rows {
		item, err := mode.Marshal(body)
		require.NoError(t, err)
		b = append(b, item...)
	}
	all := sha256.Sum256(b)
	item, err := mode.Marshal(all[:])
	require.NoError(t, err)
	return append(b, item...)
}

// decodeState returns the head and the rows of an encoded state.
func decodeState(t testing.TB, b []byte) (h encodedHead, rows [][]byte) {
	rest, err := cbor.UnmarshalFirst(b, &h)
	require.NoError(t, err)
	for range h.Rows {
		var body []byte
		rest, err = cbor.UnmarshalFirst(rest, &body)
		require.NoError(t, err)
		rows = append(rows, body)
	}
	require.Len(t, rest, 34)
	return h, rows
}

// The encoding and the state digest are those of docs/FORMAT.md, which an independent implementation
// computes. ReadState refuses a state whose sums are right and whose content is not.
func TestReadState_Content(t *testing.T) {
	r := openReplica(t, filepath.Join(memDir(t), "log"), nil)
	newEntryMaker(2).history(t, r, 300)
	b := stateBytes(t, r.State())
	head, rows := decodeState(t, b)
	require.Greater(t, len(rows), 2)
	require.Equal(t, b, head.encode(t, rows))
	d := r.Digest()
	require.Equal(t, encodedHead{1, d.Index, d.Term, r.Store().Epoch(), d.Chain[:], d.State[:], uint64(len(rows)), head.TimeMS}, head)

	for name, change := range map[string]func(h *encodedHead, rows [][]byte) [][]byte{
		"a fact of a newer version": func(_ *encodedHead, rows [][]byte) [][]byte {
			rows[1] = append([]byte{rows[1][0] + 1}, append(rows[1][1:], 17, 0)...)
			return rows
		},
		"rows in another order": func(_ *encodedHead, rows [][]byte) [][]byte {
			rows[0], rows[1] = rows[1], rows[0]
			return rows
		},
		"a row twice":              func(_ *encodedHead, rows [][]byte) [][]byte { return append(rows[:1], rows...) },
		"a row above the index":    func(h *encodedHead, rows [][]byte) [][]byte { h.Index = 1; return rows },
		"no index":                 func(h *encodedHead, rows [][]byte) [][]byte { h.Index = 0; return rows },
		"no term":                  func(h *encodedHead, rows [][]byte) [][]byte { h.Term = 0; return rows },
		"a short digest":           func(h *encodedHead, rows [][]byte) [][]byte { h.Chain = h.Chain[:31]; return rows },
		"version 0":                func(h *encodedHead, rows [][]byte) [][]byte { h.Version = 0; return rows },
		"an event of another kind": func(_ *encodedHead, rows [][]byte) [][]byte { rows[0] = opaqueEvent(numberedID(0), 1<<40); return rows },
	} {
		h := head
		changed := make([][]byte, len(rows))
		for i := range rows {
			changed[i] = bytes.Clone(rows[i])
		}
		changed = change(&h, changed)
		_, err := migrationlog.ReadState(bytes.NewReader(h.encode(t, changed)))
		require.ErrorIs(t, err, migrationlog.ErrInvalid, name)
	}
}

type failingReader struct{ *bytes.Reader }

func (f failingReader) Read(b []byte) (int, error) {
	if f.Len() == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	return f.Reader.Read(b)
}
