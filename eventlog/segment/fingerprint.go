package segment

import (
	"hash/crc32"
	"math/bits"

	"github.com/google/uuid"
)

// Fingerprint is the part that a log's UUID adds to the checksums of its headers and watermarks. It
// identifies the log if the manifest is lost.
//
// Each of these checksums is the CRC32C of some bytes followed by the UUID. CRC32C is linear: the
// checksum is f(bytes) XOR fingerprint. f depends only on the bytes, and the fingerprint only on
// the UUID. Any intact header therefore contains the fingerprint. A UUID has 128 bits, so many
// UUIDs have the same fingerprint. A file that is valid with one of them is valid with all of them.
type Fingerprint uint32

// FingerprintOf returns the fingerprint of the log with this UUID.
func FingerprintOf(log uuid.UUID) Fingerprint {
	return Fingerprint(crc32.Update(0, castagnoli, log[:]) ^ crc32.Update(0, castagnoli, uuid.Nil[:]))
}

// fingerprintIn returns the fingerprint in the checksum of b followed by the UUID.
func fingerprintIn(b []byte, checksum uint32) Fingerprint {
	return Fingerprint(checksum ^ crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, uuid.Nil[:]))
}

// UUID returns a UUID with this fingerprint. It equals random except for the last 4 bytes. Exactly
// one value of these 4 bytes gives the fingerprint.
func (f Fingerprint) UUID(random uuid.UUID) uuid.UUID {
	const first = 12 // the first of the 4 bytes
	// Gaussian elimination. change[i] is a change of the 4 bytes that changes the fingerprint by
	// effect[i], in which bit i is the highest one.
	var effect, change [32]uint32
	reduce := func(e, c uint32) (uint32, uint32) {
		for e != 0 && effect[bits.Len32(e)-1] != 0 {
			i := bits.Len32(e) - 1
			e, c = e^effect[i], c^change[i]
		}
		return e, c
	}
	for bit := range 32 {
		var one uuid.UUID
		one[first+bit/8] = 1 << (bit % 8)
		e, c := reduce(uint32(FingerprintOf(one)), 1<<bit)
		effect[bits.Len32(e)-1], change[bits.Len32(e)-1] = e, c
	}
	_, c := reduce(uint32(f^FingerprintOf(random)), 0)
	for i := range 4 {
		random[first+i] ^= byte(c >> (8 * i))
	}
	return random
}
