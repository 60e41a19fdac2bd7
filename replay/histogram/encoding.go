package histogram

import (
	"encoding/binary"
	"errors"
	"math"
)

// ErrMalformed is returned for bytes that are not an encoded histogram.
var ErrMalformed = errors.New("not an encoded histogram")

// Append appends the histogram to dst: the number of buckets in use, the sum and the maximum. For
// each bucket in use follow its distance from the one before it, and its count. All are unsigned
// varints.
func (h *Histogram) Append(dst []byte) []byte {
	used := 0
	for _, n := range h.counts {
		if n > 0 {
			used++
		}
	}
	dst = binary.AppendUvarint(dst, uint64(used))
	dst = binary.AppendUvarint(dst, h.sum)
	dst = binary.AppendUvarint(dst, h.max)
	before := 0
	for bucket, n := range h.counts {
		if n > 0 {
			dst = binary.AppendUvarint(dst, uint64(bucket-before))
			dst = binary.AppendUvarint(dst, n)
			before = bucket
		}
	}
	return dst
}

// Encoded is an encoded histogram that Split has checked. The zero value is empty.
type Encoded []byte

// Split returns the encoded histogram at the beginning of b, and the rest of b. It returns
// ErrMalformed if b does not begin with a histogram that Append could have written.
func Split(b []byte) (e Encoded, rest []byte, err error) {
	r := reader{b: b}
	used, sum, longest := r.uvarint(), r.uvarint(), r.uvarint()
	last := uint64(exactMS + len(buckets))
	var bucket, count uint64
	for i := uint64(0); i < used && !r.failed; i++ {
		distance, n := r.uvarint(), r.uvarint()
		bucket += distance
		if distance > last || bucket > last || n == 0 || n > math.MaxUint64-count || i > 0 && distance == 0 {
			return nil, nil, ErrMalformed
		}
		count += n
	}
	if r.failed || used > 0 && bucketOf(longest) != int(bucket) || used == 0 && (sum > 0 || longest > 0) {
		return nil, nil, ErrMalformed
	}
	return Encoded(b[:r.next]), b[r.next:], nil
}

// MergeEncoded adds the durations of an encoded histogram, without decoding it into memory first.
func (h *Histogram) MergeEncoded(e Encoded) {
	r := reader{b: e}
	used, sum, longest := r.uvarint(), r.uvarint(), r.uvarint()
	if used > 0 {
		h.addCount(bucketOf(longest), 0) // grows once
	}
	bucket := 0
	for range used {
		bucket += int(r.uvarint())
		h.addCount(bucket, r.uvarint())
	}
	h.sum = saturatingAdd(h.sum, sum)
	h.max = max(h.max, longest)
}

// Decode reads one encoded histogram from the beginning of b, and returns the rest of b. It returns
// the same error as Split.
func Decode(b []byte) (h Histogram, rest []byte, err error) {
	e, rest, err := Split(b)
	h.MergeEncoded(e)
	return h, rest, err
}

// reader reads varints. It does not change b, because a write of a slice costs more than the varint.
type reader struct {
	b      []byte
	next   int
	failed bool
}

func (r *reader) uvarint() uint64 {
	if r.next < len(r.b) && r.b[r.next] < 0x80 { // the common case
		r.next++
		return uint64(r.b[r.next-1])
	}
	v, n := binary.Uvarint(r.b[r.next:])
	if n <= 0 {
		r.failed = true
		return 0
	}
	r.next += n
	return v
}
