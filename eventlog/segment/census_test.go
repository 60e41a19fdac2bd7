package segment_test

import (
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// Every fingerprint has a random UUID of version 4, and differs between random UUIDs.
func TestFingerprint_UUID(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	fingerprints := []segment.Fingerprint{0, 1, 1 << 31, 1<<32 - 1}
	for range 1000 {
		fingerprints = append(fingerprints, segment.Fingerprint(rnd.Uint32()))
	}
	for _, f := range fingerprints {
		random := uuid.New()
		id := f.UUID(random)
		require.Equal(t, f, segment.FingerprintOf(id))
		require.Equal(t, uuid.Version(4), id.Version())
		require.Equal(t, uuid.RFC4122, id.Variant())
		require.Equal(t, random[:12], id[:12])
		require.Equal(t, random, segment.FingerprintOf(random).UUID(random))
	}
}

// entriesOf is like entries, for another log.
func entriesOf(log uuid.UUID, first, last uint64) (b []byte) {
	for seq := first; seq <= last; seq++ {
		body := segment.NewBody([]byte("event"))
		b = binary.AppendUvarint(b, uint64(body.FrameBytes()))
		b = segment.AppendFrame(b, &log, segment.Header{Seq: seq, PrevSeq: seq - 1}, body)
	}
	return b
}

func identify(fsys fstest.MapFS, segments ...[]byte) (segment.Identity, error) {
	var c segment.Census
	for i, b := range segments {
		c.AddSegment(segment.Name(uint64(i+1)), b)
	}
	return c.Identify(fsys)
}

// The frames of any log lead to its fingerprint. One frame is enough. With the fingerprint's UUID,
// the same bytes are the same intact frames.
func TestCensus_FramesOfOneLog(t *testing.T) {
	for _, n := range []uint64{1, 2, 50} {
		for range 20 {
			log := uuid.New()
			b := entriesOf(log, 1, n)
			id, err := identify(fstest.MapFS{}, b)
			require.NoError(t, err)
			require.Equal(t, segment.Identity{Fingerprint: segment.FingerprintOf(log), Frames: n}, id)
			next, intact := segment.Walk(b, id.Fingerprint.UUID(uuid.New()), 1, func(segment.Header, []byte) {})
			require.True(t, intact)
			require.Equal(t, n+1, next)
		}
	}
}

// The frames of other logs and frames with damaged headers are outvoted and counted.
func TestCensus_ForeignAndDamagedFrames(t *testing.T) {
	log, other := uuid.New(), uuid.New()
	b := slices.Concat(entriesOf(log, 1, 5), entriesOf(other, 6, 8), entriesOf(log, 9, 9))
	damaged := entriesOf(log, 10, 12)
	for i := 0; i < len(damaged); i += len(damaged) / 3 { // all headers of one segment
		damaged[i+1+36] ^= 1 << (i % 8)
	}
	id, err := identify(fstest.MapFS{}, damaged, b)
	require.NoError(t, err)
	require.Equal(t, segment.FingerprintOf(log), id.Fingerprint)
	require.EqualValues(t, 6, id.Frames)
	require.EqualValues(t, 6, id.OtherFrames)
	require.EqualValues(t, 3, id.OtherLogs)
}

// Any flipped bit and any lost beginning leave the log identified by the other frames.
func TestCensus_EveryBitAndCut(t *testing.T) {
	log := uuid.New()
	b := entriesOf(log, 1, 4)
	try := func(b []byte) {
		id, err := identify(fstest.MapFS{}, b)
		require.NoError(t, err)
		require.Equal(t, segment.FingerprintOf(log), id.Fingerprint)
	}
	for bit := range len(b) * 8 {
		flipped := slices.Clone(b)
		flipped[bit/8] ^= 1 << (bit % 8)
		try(flipped)
	}
	for size := range len(b) * 3 / 4 {
		try(b[size:])
		try(b[:len(b)-size])
	}
}

// If no log has the most frames, a watermark decides, and otherwise nothing does.
func TestCensus_Undecided(t *testing.T) {
	_, err := identify(fstest.MapFS{}, nil)
	require.ErrorIs(t, err, segment.ErrUnidentified)
	body := entriesOf(uuid.New(), 1, 1)
	body[len(body)-1] ^= 1
	_, err = identify(fstest.MapFS{}, body)
	require.ErrorIs(t, err, segment.ErrUnidentified)

	a, b := uuid.New(), uuid.New()
	both := slices.Concat(entriesOf(a, 1, 3), entriesOf(b, 4, 6))
	_, err = identify(fstest.MapFS{}, both)
	require.ErrorIs(t, err, segment.ErrUnidentified)
	require.ErrorContains(t, err, "directory of its own")
	marked := fstest.MapFS{"wal/WATERMARK": {Data: segment.AppendWatermark(nil, b, 6)}}
	id, err := identify(marked, both)
	require.NoError(t, err)
	require.Equal(t, segment.FingerprintOf(b), id.Fingerprint)
	require.Equal(t, 1, id.Files)
}

// The UUID is taken from a manifest, also from a damaged one, but not from one of another log.
func TestCensus_Manifest(t *testing.T) {
	log := uuid.New()
	b := entriesOf(log, 1, 3)
	m := segment.Manifest{UUID: log, Revision: 4, Skipped: []segment.SeqRange{{First: 2, Last: 2}}}
	intact, foreign := m.Encode(), segment.Manifest{UUID: uuid.New(), Revision: 9}.Encode()
	id, err := identify(fstest.MapFS{"MANIFEST": {Data: foreign}, "wal/MANIFEST": {Data: intact}}, b)
	require.NoError(t, err)
	require.True(t, id.ManifestIntact)
	require.Equal(t, m.Skipped, id.Manifest.Skipped)

	id, err = identify(fstest.MapFS{"MANIFEST": {Data: foreign}, "wal/MANIFEST": {Data: intact[:len(intact)-3]}}, b)
	require.NoError(t, err)
	require.False(t, id.ManifestIntact)
	require.Equal(t, segment.Manifest{UUID: log}, id.Manifest)

	other := uuid.New() // a few frames and the manifest of another log
	id, err = identify(fstest.MapFS{"MANIFEST": {Data: segment.Manifest{UUID: other, Revision: 1}.Encode()}}, append(slices.Clone(b), entriesOf(other, 1, 2)...))
	require.NoError(t, err)
	require.Equal(t, segment.FingerprintOf(log), id.Fingerprint)

	id, err = identify(fstest.MapFS{"MANIFEST": {Data: foreign}, "wal/MANIFEST": {Data: foreign[:len(foreign)-3]}}, b)
	require.NoError(t, err)
	require.Equal(t, segment.Manifest{}, id.Manifest)
}

// The frame of a newer version is refused and named. A flipped version byte is a damaged header.
func TestCensus_NewerFormat(t *testing.T) {
	log := uuid.New()
	b := entriesOf(log, 1, 3)
	header := b[1:]
	header[3] = 2
	_, err := identify(fstest.MapFS{}, b)
	require.NoError(t, err)
	table := crc32.MakeTable(crc32.Castagnoli)
	binary.LittleEndian.PutUint32(header[36:], crc32.Update(crc32.Checksum(header[:36], table), table, log[:]))
	_, err = identify(fstest.MapFS{}, b)
	require.ErrorIs(t, err, segment.ErrNewerFormat)
	require.ErrorContains(t, err, "has format version 2")
}
