package segment

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// The fields of an entry are its bytes without a gap. If one bit is flipped, the fault names it.
func TestDissect_EveryBit(t *testing.T) {
	log := uuid.UUID{1}
	body := []byte("the body of a frame, which is long enough for a prefix of two bytes: 128 bytes with the header are enough........")
	frame := AppendFrame(nil, &log, Header{Seq: 9, PrevSeq: 4, DurableThrough: 8}, NewBody(body))
	entry := append(binary.AppendUvarint(nil, uint64(len(frame))), frame...)
	prefix := len(entry) - len(frame)
	require.Equal(t, 2, prefix)
	after := append(slices.Clone(entry), entry...)

	d, err := Dissect(after, log)
	require.NoError(t, err)
	require.True(t, d.Intact())
	require.Equal(t, entry, d.Bytes)
	require.Equal(t, body, d.Body)
	at := 0
	for _, f := range d.Fields {
		require.Empty(t, f.Fault, f.Name)
		require.Equal(t, at, f.Offset, f.Name)
		at += f.Length
	}
	require.Equal(t, prefix+HeaderBytes, at)
	d, err = Dissect(after[prefix:], log)
	require.NoError(t, err)
	require.True(t, d.Intact())
	require.Equal(t, "magic", d.Fields[0].Name)

	for bit := 8 * prefix; bit < 8*len(entry); bit++ {
		flipped := slices.Clone(after)
		flipped[bit/8] ^= 1 << (bit % 8)
		d, err := Dissect(flipped, log)
		require.NoError(t, err)
		require.False(t, d.Intact(), bit)
		var faults []string
		for _, f := range d.Fields {
			faults = append(faults, f.Fault)
		}
		part, inPart := "header", bit-8*prefix
		if inPart >= 8*HeaderBytes {
			part, inPart = "body", inPart-8*HeaderBytes
		}
		want := fmt.Sprintf("bit %d of byte %d of the %s is flipped, %02x should be %02x", inPart%8, inPart/8, part, flipped[bit/8], entry[bit/8])
		require.Contains(t, strings.Join(faults, "; "), want)
		require.EqualValues(t, 9, d.Seq, "bit %d: the seq of the repaired header", bit)
	}
	for bit := range 8 * prefix { // no frame is damaged
		flipped := slices.Clone(after)
		flipped[bit/8] ^= 1 << (bit % 8)
		d, err := Dissect(flipped, log)
		require.NoError(t, err)
		require.True(t, d.Intact(), bit)
		require.NotEmpty(t, d.Fields[0].Fault)
	}
	for cut := range len(entry) {
		d, err := Dissect(entry[:cut], log)
		if err != nil {
			require.ErrorIs(t, err, ErrNoEntry)
			continue
		}
		require.False(t, d.Intact())
	}
}
