package migrationlog

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"math/bits"

	"migrationlog/projection"
)

// Digest identifies the state and the history of a replica at one index. docs/FORMAT.md has the
// exact input of both sums.
type Digest struct {
	Index, Term uint64
	State       [32]byte // of the rows with their facts, and the highest epoch. Two histories can lead to the same state
	Chain       [32]byte // of every event up to Index, with its index, in order
}

// stateDigestVersion is the first part of the input of a state digest.
const stateDigestVersion = "migrationlog state 1"

// stateDigest returns the digest of a state. sum is the sum of the hashes of its rows.
func stateDigest(epoch uint64, rows int, sum sum256) [32]byte {
	input := append(make([]byte, 0, 80), stateDigestVersion...)
	input = binary.BigEndian.AppendUint64(input, epoch)
	input = binary.BigEndian.AppendUint64(input, uint64(rows))
	return sha256.Sum256(sum.appendTo(input))
}

// sum256 is a sum of hashes, as big-endian numbers modulo 2^256. The order of the hashes does not
// matter, and a hash can be taken out again. The least significant word is first.
type sum256 [4]uint64

func (s *sum256) add(hash [32]byte) { s.addSum(sumOf(hash)) }

func (s *sum256) sub(hash [32]byte) {
	other, borrow := sumOf(hash), uint64(0)
	for i := range s {
		s[i], borrow = bits.Sub64(s[i], other[i], borrow)
	}
}

func (s *sum256) addSum(other sum256) {
	carry := uint64(0)
	for i := range s {
		s[i], carry = bits.Add64(s[i], other[i], carry)
	}
}

func sumOf(hash [32]byte) (s sum256) {
	for i := range s {
		s[i] = binary.BigEndian.Uint64(hash[len(hash)-8*(i+1):])
	}
	return s
}

func (s sum256) appendTo(b []byte) []byte {
	for i := len(s) - 1; i >= 0; i-- {
		b = binary.BigEndian.AppendUint64(b, s[i])
	}
	return b
}

// rowSum is the number of rows and the sum of their hashes.
type rowSum struct {
	base   *baseSum
	change sum256 // of the events after base
	count  int
}

// newRowSum returns the sum for all rows of a view. recorded is the state digest in the last event
// of the log, or nil if that event is not a digest event.
func newRowSum(view *projection.View, recorded *[32]byte) rowSum {
	return rowSum{base: newBaseSum(view, recorded), count: view.Len()}
}

// add adds a row. restored is the encoded restored event of the row.
func (r *rowSum) add(restored []byte) {
	r.change.add(sha256.Sum256(restored))
	r.count++
}

func (r *rowSum) remove(restored []byte) {
	r.change.sub(sha256.Sum256(restored))
	r.count--
}

// digest returns the digest of the state that has these rows and the highest epoch. It waits until
// the sum of base is known.
func (r *rowSum) digest(epoch uint64) [32]byte {
	sum := r.base.wait()
	sum.addSum(r.change)
	return stateDigest(epoch, r.count, sum)
}

// baseSum is the sum of the row hashes of a view. It is computed once, in a goroutine of its own,
// so that the start of a member with many rows does not wait for it.
type baseSum struct {
	done chan struct{}
	sum  sum256
	err  error // the rows do not have the state digest of the log's last event
}

func newBaseSum(view *projection.View, recorded *[32]byte) *baseSum {
	b := &baseSum{done: make(chan struct{})}
	go func() {
		defer close(b.done)
		for restored := range restoredRows(view) {
			b.sum.add(sha256.Sum256(restored))
		}
		computed := stateDigest(view.Epoch(), view.Len(), b.sum)
		if recorded != nil && computed != *recorded { //mutant:state-compared
			b.err = fmt.Errorf("the rows have the state digest %x, but the last event of the log has %x: "+
				"close the replica, rename its directory, keep it, and start the member again", computed, *recorded)
		}
	}()
	return b
}

// knownSum returns a sum that is known already.
func knownSum(sum sum256) *baseSum {
	b := &baseSum{done: make(chan struct{}), sum: sum}
	close(b.done)
	return b
}

// wait returns the sum.
func (b *baseSum) wait() sum256 {
	<-b.done
	return b.sum
}

// peek returns the error if the sum was computed, and otherwise nil.
func (b *baseSum) peek() error {
	select {
	case <-b.done:
		return b.err
	default:
		return nil
	}
}

// restoredRows yields the restored event of each row, in the order of their ids. The bytes are
// valid until the next iteration.
func restoredRows(view *projection.View) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		var memory []byte
		for at := range view.RowSlots() {
			memory = appendRestored(memory[:0], at)
			if !yield(memory) {
				return
			}
		}
	}
}

// appendRestored appends the restored event of a row. It returns nil if there is no row. Each row
// that an event can make has a restored event.
func appendRestored(dst []byte, at projection.Slot) []byte {
	b, err := at.AppendRestored(dst)
	if err != nil {
		panic(fmt.Sprintf("migrationlog: a row has no restored event: %v", err))
	}
	return b
}

// digest returns the digests after the entry. epoch is the highest epoch.
func (a *applied) digest(epoch uint64) Digest {
	return Digest{Index: a.index, Term: a.term, State: a.rows.digest(epoch), Chain: a.chain}
}
