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

// Decode reads one encoded histogram from the beginning of b, and returns the rest of b. It returns
// ErrMalformed if b does not begin with a histogram that Append could have written.
func Decode(b []byte) (h Histogram, rest []byte, err error) {
	r := reader{b}
	used := r.uvarint()
	h.sum, h.max = r.uvarint(), r.uvarint()
	if last := bucketOf(h.max); used > 0 && last <= exactMS+len(buckets) {
		h.counts = make([]uint64, 0, last+1)
	}
	var bucket uint64
	for i := range used {
		distance, n := r.uvarint(), r.uvarint()
		bucket += distance
		last := uint64(exactMS + len(buckets))
		if r.b == nil || distance > last || bucket > last || n == 0 || n > math.MaxUint64-h.count || i > 0 && distance == 0 {
			return Histogram{}, nil, ErrMalformed
		}
		h.addCount(int(bucket), n)
	}
	if r.b == nil || used > 0 && bucketOf(h.max) != len(h.counts)-1 || used == 0 && h.sum+h.max > 0 {
		return Histogram{}, nil, ErrMalformed
	}
	return h, r.b, nil
}

// reader reads varints. After an error, its bytes are nil.
type reader struct{ b []byte }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.b = nil
		return 0
	}
	r.b = r.b[n:]
	return v
}
