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

// Len returns the number of rows.
func (s *State) Len() int { return s.at.view.Len() }

// Rows yields the rows in the order of their migration ids.
func (s *State) Rows() iter.Seq[projection.Row] { return s.at.view.Rows() }

// An encoded state is a CBOR sequence (RFC 8742) in Core Deterministic Encoding: the head, which is a
// map with these integer keys, then the restored event of each row as a byte string, in the order of
// their ids, and at the end the SHA-256 of all bytes before it, as a byte string. docs/FORMAT.md
// describes it.
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

// WriteTo writes the state in the format of docs/FORMAT.md. It is the content of a Raft snapshot. All
// members write the same bytes for the same index.
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
	s, err := in.read()
	switch {
	case in.err != nil && in.err != io.EOF:
		return nil, fmt.Errorf("read a state: %w", in.err)
	case in.err != nil:
		return nil, fmt.Errorf("%w: the state is cut short after %d bytes", ErrInvalid, in.bytes)
	case errors.Is(err, ErrNewerFormat):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: the state is damaged before byte %d: %w", ErrInvalid, in.bytes, err)
	}
	return s, nil
}

// stateReader reads an encoded state.
type stateReader struct {
	from  *bufio.Reader
	sum   hash.Hash
	bytes int64
	err   error // of the reader
}

var (
	errNotDeterministic = errors.New("an item is not in the deterministic encoding")
	errStateSum         = errors.New("the bytes do not have the SHA-256 at the end")
)

func (r *stateReader) read() (*State, error) {
	s, want, rows, err := r.readHead()
	if err != nil {
		return nil, err
	}
	var sum sum256
	var memory []byte
	last := checkpoint.MigrationID{}
	for n := uint64(1); n <= rows; n++ {
		body, err := r.byteString(memory[:0], checkpoint.MaxEventBytes)
		if err != nil {
			return nil, err
		}
		memory = body
		id, err := s.addRow(n, body)
		if err == nil && bytes.Compare(last[:], id[:]) >= 0 {
			err = errors.New("it is not above the row before it")
		}
		if err != nil {
			return nil, fmt.Errorf("row %d, migration %s: %w", n, id, err)
		}
		last = id
		sum.add(sha256.Sum256(body))
	}
	s.at.rows = rowSum{base: knownSum(sum), count: s.Len()}
	wantSum := r.sum.Sum(nil)
	end, err := r.byteString(nil, sha256.Size)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(end, wantSum) {
		return nil, errStateSum
	}
	if got := s.Digest().State; got != want {
		return nil, fmt.Errorf("the rows have the digest %x, and not %x", got, want)
	}
	if _, err := r.from.ReadByte(); err != io.EOF {
		r.err = err
		return nil, errors.New("more bytes follow")
	}
	return s, nil
}

// readHead reads the head of the state. It returns a state without rows, the digest that the state
// must have, and the number of its rows.
func (r *stateReader) readHead() (s *State, digest [32]byte, rows uint64, err error) {
	pairs, err := r.head(detcbor.MajorMap)
	if err != nil {
		return nil, digest, 0, err
	}
	s = &State{at: applied{view: projection.New()}}
	for key := byte(1); uint64(key) <= pairs && err == nil; key++ {
		var got, n uint64
		if got, err = r.head(detcbor.MajorUint); err == nil && got != uint64(key) {
			return nil, digest, 0, fmt.Errorf("key %d follows key %d in the head", got, key-1)
		}
		switch {
		case err != nil:
		case key == stateKeyChain:
			err = r.digest(&s.at.chain)
		case key == stateKeyState:
			err = r.digest(&digest)
		default:
			n, err = r.head(detcbor.MajorUint)
		}
		switch key {
		case stateKeyVersion:
			if err == nil && n > stateVersion {
				return nil, digest, 0, fmt.Errorf("%w: the state has version %d, and this version reads at most %d", ErrNewerFormat, n, stateVersion)
			}
		case stateKeyIndex:
			s.at.index = n
		case stateKeyTerm:
			s.at.term = n
		case stateKeyEpoch:
			s.at.view.RaiseEpoch(n)
		case stateKeyRows:
			rows = n
		case stateKeyTimeMS:
			s.at.timestampMS = n
		}
	}
	if err == nil && (pairs != stateKeys || s.at.index == 0 && (rows > 0 || s.at.term > 0) || s.at.index > 0 && s.at.term == 0) {
		err = fmt.Errorf("the head has %d keys, index %d, term %d and %d rows", pairs, s.at.index, s.at.term, rows)
	}
	return s, digest, rows, err
}

// addRow adds row n from its restored event.
func (s *State) addRow(n uint64, body []byte) (id checkpoint.MigrationID, err error) {
	event, err := checkpoint.DecodeEvent(body)
	if err != nil {
		return id, err
	}
	restored, ok := event.(checkpoint.Restored)
	if !ok {
		return event.Migration(), fmt.Errorf("it is an event of the kind %s", checkpoint.KindOf(event))
	}
	id = restored.Checkpoint.MigrationID
	index, _ := checkpoint.PositionOf(body)
	if index == 0 || index > s.at.index {
		return id, fmt.Errorf("its last event has index %d, and the state has index %d", index, s.at.index)
	}
	change := projection.ChangeOf(restored)
	change.SetIndex(index)
	s.at.view.ApplyChange(n, 0, change)
	// A row of a newer version may have facts that this version would drop.
	if own, err := s.at.view.AppendRestored(nil, id); err != nil || !bytes.Equal(own, body) { //mutant:row-encoded-again
		return id, errors.Join(errNotDeterministic, err)
	}
	return id, nil
}

// readFull reads the next bytes into b.
func (r *stateReader) readFull(b []byte) error {
	n, err := io.ReadFull(r.from, b)
	r.sum.Write(b[:n])
	r.bytes += int64(n)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	r.err = err
	return err
}

// head reads the head of an item of this major type, and returns its argument.
func (r *stateReader) head(major byte) (n uint64, err error) {
	var b [9]byte
	if err := r.readFull(b[:1]); err != nil {
		return 0, err
	}
	more := 0
	if arg := b[0] &^ detcbor.MajorOf(b[0]); arg > detcbor.MaxDirect && arg <= detcbor.MaxDirect+4 {
		more = 1 << (arg - detcbor.MaxDirect - 1)
	}
	if err := r.readFull(b[1 : 1+more]); err != nil {
		return 0, err
	}
	c := detcbor.NewCursor(b[:1+more])
	if n = c.Head(major); !c.Done() {
		return 0, errNotDeterministic
	}
	return n, nil
}

// byteString appends a byte string of at most maxBytes to dst.
func (r *stateReader) byteString(dst []byte, maxBytes uint64) ([]byte, error) {
	n, err := r.head(detcbor.MajorBytes)
	if err != nil {
		return dst, err
	}
	if n > maxBytes {
		return dst, fmt.Errorf("a byte string has %d bytes, at most %d", n, maxBytes)
	}
	b := append(dst, make([]byte, n)...)
	return b, r.readFull(b[len(dst):])
}

func (r *stateReader) digest(d *[32]byte) error {
	b, err := r.byteString(nil, sha256.Size)
	if err == nil && len(b) != len(d) {
		err = fmt.Errorf("a digest has %d bytes", len(b))
	}
	copy(d[:], b)
	return err
}
