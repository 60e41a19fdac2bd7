package migrationlog_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

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

type failingReader struct{ *bytes.Reader }

func (f failingReader) Read(b []byte) (int, error) {
	if f.Len() == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	return f.Reader.Read(b)
}
