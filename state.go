package migrationlog

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"

	"migrationlog/checkpoint"
	"migrationlog/internal/detcbor"
	"migrationlog/projection"
)

// State is the state of a replica at one index. It never changes, and is safe for concurrent use.
type State struct{ at applied }

// Digest returns the digest of the state, with its index and term.
func (s *State) Digest() Digest { return s.at.digest(s.at.view.Epoch()) }

// Position returns the index and the term of the last applied entry. It never waits. After a start,
// Digest can wait until all rows were read.
func (s *State) Position() (index, term uint64) { return s.at.index, s.at.term }

// Len returns the number of rows.
func (s *State) Len() int { return s.at.view.Len() }

// Rows yields the rows in the order of their migration ids.
func (s *State) Rows() iter.Seq[projection.Row] { return s.at.view.Rows() }

// An encoded state is a CBOR sequence (RFC 8742) in Core Deterministic Encoding. It has three
// parts: the head, which is a map with these integer keys; the restored event of each row as a byte
// string, in the order of the migration ids; and the SHA-256 of all bytes before it as a byte
// string. docs/FORMAT.md describes it.
const (
	stateKeyVersion byte = iota + 1
	stateKeyIndex
	stateKeyTerm
	stateKeyEpoch
	stateKeyChain
	stateKeyState
	stateKeyRows
	stateKeyTimeMS

	stateKeys    = 8
	stateVersion = 1
)

// WriteTo writes the state in the format of docs/FORMAT.md. It is the content of a Raft snapshot.
// All members write the same bytes for the same index.
func (s *State) WriteTo(w io.Writer) (int64, error) {
	sum, buffered := sha256.New(), bufio.NewWriterSize(w, 64<<10)
	out := stateWriter{to: io.MultiWriter(buffered, sum)}
	out.write(s.appendHead(nil))
	var head []byte
	for restored := range restoredRows(s.at.view) {
		head = detcbor.AppendHead(head[:0], detcbor.MajorBytes, uint64(len(restored)))
		out.write(head)
		out.write(restored)
		if out.err != nil {
			break
		}
	}
	end := detcbor.AppendHead(nil, detcbor.MajorBytes, sha256.Size)
	out.write(sum.Sum(end))
	if out.err == nil {
		out.err = buffered.Flush()
	}
	return out.written - int64(buffered.Buffered()), out.err
}

// appendHead appends the head of the encoded state.
func (s *State) appendHead(b []byte) []byte {
	d := s.Digest()
	b = detcbor.AppendHead(b, detcbor.MajorMap, stateKeys)
	b = detcbor.AppendUint(b, stateKeyVersion, stateVersion)
	b = detcbor.AppendUint(b, stateKeyIndex, d.Index)
	b = detcbor.AppendUint(b, stateKeyTerm, d.Term)
	b = detcbor.AppendUint(b, stateKeyEpoch, s.at.view.Epoch())
	b = detcbor.AppendBytes(b, stateKeyChain, d.Chain[:])
	b = detcbor.AppendBytes(b, stateKeyState, d.State[:])
	b = detcbor.AppendUint(b, stateKeyRows, uint64(s.Len()))
	return detcbor.AppendUint(b, stateKeyTimeMS, s.at.timestampMS)
}

// stateWriter counts the bytes, and writes nothing more after an error.
type stateWriter struct {
	to      io.Writer
	written int64
	err     error
}

func (w *stateWriter) write(b []byte) {
	if w.err == nil {
		var n int
		n, w.err = w.to.Write(b)
		w.written += int64(n)
	}
}

// ReadState reads a state that WriteTo wrote, up to the end of the reader. It checks the digest and
// each row. It returns ErrInvalid if the bytes are cut short or changed, ErrNewerFormat if a newer
// version wrote them, or the reader's error.
func ReadState(r io.Reader) (*State, error) {
	in := stateReader{from: bufio.NewReaderSize(r, 64<<10), sum: sha256.New()}
	s := in.read()
	switch {
	case errors.Is(in.err, io.EOF) || errors.Is(in.err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%w: the state is cut short after %d bytes", ErrInvalid, in.bytes)
	case in.err != nil:
		return nil, fmt.Errorf("read a state up to byte %d: %w", in.bytes, in.err)
	}
	return s, nil
}

// stateReader reads an encoded state. After the first error its methods do nothing.
type stateReader struct {
	from  *bufio.Reader
	sum   hash.Hash // of the bytes read so far
	bytes int64
	err   error // of the reader, or ErrInvalid or ErrNewerFormat
}

// fail records that the content is invalid, unless there is an error already.
func (r *stateReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
	}
}

func (r *stateReader) read() *State {
	s, want, rows := r.readHead()
	var sum sum256
	var last checkpoint.MigrationID
	for n := uint64(1); n <= rows && r.err == nil; n++ {
		body := r.byteString(checkpoint.MaxEventBytes)
		id, err := r.addRow(s, n, body)
		if err == nil && bytes.Compare(last[:], id[:]) >= 0 {
			err = fmt.Errorf("its id is not above that of the row before it, migration %s", last)
		}
		if err != nil {
			r.fail("row %d, migration %s: %w", n, id, err)
		}
		sum.add(sha256.Sum256(body))
		last = id
	}
	s.at.rows = rowSum{base: knownSum(sum), count: s.Len()}
	wantSum := r.sum.Sum(nil)
	if end := r.byteString(sha256.Size); !bytes.Equal(end, wantSum) {
		r.fail("the bytes do not have the SHA-256 at the end")
	}
	if got := s.Digest().State; got != want {
		r.fail("the rows have the digest %x, and not %x", got, want)
	}
	if r.err == nil {
		if _, err := r.from.ReadByte(); err == nil {
			r.fail("more bytes follow")
		} else if err != io.EOF {
			r.err = err
		}
	}
	return s
}

// readHead reads the head of the state. It returns a state without rows, the digest that the state
// must have, and the number of its rows.
func (r *stateReader) readHead() (s *State, digest [32]byte, rows uint64) {
	s = &State{at: applied{view: projection.New()}}
	pairs := r.head(detcbor.MajorMap)
	version := r.number(stateKeyVersion)
	if r.err == nil && version > stateVersion {
		r.err = fmt.Errorf("%w: the state has version %d, and this version reads at most %d", ErrNewerFormat, version, stateVersion)
	}
	s.at.index, s.at.term = r.number(stateKeyIndex), r.number(stateKeyTerm)
	s.at.view.RaiseEpoch(r.number(stateKeyEpoch))
	s.at.chain, digest = r.digest(stateKeyChain), r.digest(stateKeyState)
	rows, s.at.timestampMS = r.number(stateKeyRows), r.number(stateKeyTimeMS)
	if pairs != stateKeys || version != stateVersion || (s.at.index > 0) != (s.at.term > 0) || s.at.index == 0 && rows > 0 {
		r.fail("the head has %d keys, version %d, index %d, term %d and %d rows", pairs, version, s.at.index, s.at.term, rows)
	}
	return s, digest, rows
}

// addRow adds row n of a state from its restored event.
func (r *stateReader) addRow(s *State, n uint64, body []byte) (id checkpoint.MigrationID, err error) {
	if r.err != nil {
		return id, nil
	}
	event, err := checkpoint.DecodeEvent(body)
	if err != nil {
		return id, err
	}
	id = event.Migration()
	restored, ok := event.(checkpoint.Restored)
	if !ok {
		return id, fmt.Errorf("the event has the kind %s, and not restored", checkpoint.KindOf(event))
	}
	index, _ := checkpoint.PositionOf(body)
	if index == 0 || index > s.at.index {
		return id, fmt.Errorf("its last event has index %d, and the state has index %d", index, s.at.index)
	}
	change := projection.ChangeOf(restored)
	change.SetIndex(index)
	s.at.view.ApplyChange(n, 0, change)
	// A row of a newer version may have facts that this version would drop.
	if own, err := s.at.view.AppendRestored(nil, id); err != nil || !bytes.Equal(own, body) { //mutant:row-encoded-again
		return id, errors.Join(errors.New("it is not in the encoding of this version"), err)
	}
	return id, nil
}

// readFull reads the next bytes into b.
func (r *stateReader) readFull(b []byte) {
	if r.err == nil {
		var n int
		n, r.err = io.ReadFull(r.from, b)
		r.sum.Write(b[:n])
		r.bytes += int64(n)
	}
}

// head reads the head of an item of this major type, and returns its argument.
func (r *stateReader) head(major byte) (n uint64) {
	var b [9]byte
	r.readFull(b[:1])
	more := 0
	if arg := b[0] &^ detcbor.MajorOf(b[0]); arg > detcbor.MaxDirect && arg <= detcbor.MaxDirect+4 {
		more = 1 << (arg - detcbor.MaxDirect - 1)
	}
	r.readFull(b[1 : 1+more])
	c := detcbor.NewCursor(b[:1+more])
	if n = c.Head(major); !c.Done() {
		r.fail("an item is not in the deterministic encoding")
		return 0
	}
	return n
}

// key reads a key of the head. It fails if that is another key than the given one.
func (r *stateReader) key(key byte) {
	if got := r.head(detcbor.MajorUint); got != uint64(key) {
		r.fail("the head has key %d in place of %d", got, key)
	}
}

// number reads a key and its number.
func (r *stateReader) number(key byte) uint64 {
	r.key(key)
	return r.head(detcbor.MajorUint)
}

// digest reads a key and its digest.
func (r *stateReader) digest(key byte) (d [32]byte) {
	r.key(key)
	b := r.byteString(uint64(len(d)))
	if len(b) != len(d) {
		r.fail("a digest has %d bytes", len(b))
	}
	copy(d[:], b)
	return d
}

// byteString reads a byte string of at most maxBytes.
func (r *stateReader) byteString(maxBytes uint64) []byte {
	n := r.head(detcbor.MajorBytes)
	if n > maxBytes {
		r.fail("a byte string has %d bytes, at most %d", n, maxBytes)
	}
	if r.err != nil {
		return nil
	}
	b := make([]byte, n)
	r.readFull(b)
	return b
}
