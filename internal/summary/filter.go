package summary

import (
	"encoding/binary"
	"math/bits"

	"github.com/FastFilter/xorfilter"

	"migrationlog/checkpoint"
)

// filter is a binary fuse filter of migration ids with 8 bits per fingerprint: it takes about 9 bits
// per id. It contains one in 256 other ids by mistake.
//
// Its section has the seed (8 bytes), the segment length and the segment count of the fuse filter (4
// bytes each), and the fingerprints.
type filter struct {
	fuse xorfilter.BinaryFuse[uint8]
}

const filterHeadBytes = 16

// filterKey maps an id to 64 bits. The multiplication spreads the time of a UUIDv7, so that ids which
// differ only in their upper half have different keys.
func filterKey(id *checkpoint.MigrationID) uint64 {
	upper, lower := binary.BigEndian.Uint64(id[:]), binary.BigEndian.Uint64(id[8:])
	return bits.RotateLeft64(upper*0x9E3779B97F4A7C15, 32) ^ lower
}

// appendFilter appends the section of the keys, of which there is at least one. It may reorder them. It
// reuses memory.
func appendFilter(b []byte, memory *xorfilter.BinaryFuseBuilder, keys []uint64) ([]byte, error) {
	fuse, err := xorfilter.BuildBinaryFuse[uint8](memory, keys)
	if err != nil {
		return nil, err
	}
	b = binary.LittleEndian.AppendUint64(b, fuse.Seed)
	b = binary.LittleEndian.AppendUint32(b, fuse.SegmentLength)
	b = binary.LittleEndian.AppendUint32(b, fuse.SegmentCount)
	return append(b, fuse.Fingerprints...), nil
}

// decodeFilter shares memory with b. It accepts only sizes with which a look-up stays within the
// fingerprints.
func decodeFilter(b []byte) (filter, bool) {
	if len(b) < filterHeadBytes {
		return filter{}, false
	}
	length, count := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
	fingerprints := b[filterHeadBytes:]
	if bits.OnesCount32(length) != 1 || count == 0 || (uint64(count)+2)*uint64(length) != uint64(len(fingerprints)) {
		return filter{}, false
	}
	return filter{xorfilter.BinaryFuse[uint8]{
		Seed: binary.LittleEndian.Uint64(b), SegmentLength: length, SegmentLengthMask: length - 1,
		SegmentCount: count, SegmentCountLength: count * length, Fingerprints: fingerprints,
	}}, true
}

func (f *filter) mayContain(id checkpoint.MigrationID) bool { return f.fuse.Contains(filterKey(&id)) }
