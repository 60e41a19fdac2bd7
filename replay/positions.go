package replay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"iter"
	"math"
	"path"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
)

// ErrNoPositions is returned if the events of a log have no raft index, because a Store wrote them
// and not a Replica.
var ErrNoPositions = errors.New("the events of the log have no raft index")

// Positions finds events of a replicated log by their raft index. The indexes never decrease from
// one event to the next, except among the restored rows with which a log may begin. Positions
// therefore finds the segment of an index with a binary search over the first events of the
// segments, and reads few segments. It keeps the digests of the segments that it has read. It is not
// safe for concurrent use.
//
// It does not notice damage: an event in a damaged part is not found. Range yields the damage.
type Positions struct {
	reader  *Reader
	names   []string         // of the segments
	heads   map[int]head     // of the segments that were looked at
	digests map[int][]Digest // of the segments that were read
	reads   int
}

// Digest is a digest event with its position.
type Digest struct {
	Seq         uint64
	Index, Term uint64
	checkpoint.Digest
}

// head is the first event of a segment.
type head struct {
	found    bool   // the beginning of the segment has an intact event
	seq      uint64 // of the event
	index    uint64 // of the event; 0 for a restored row, whose index is that of its migration's last event
	restored bool   // the event is a restored row

	hasPosition bool
}

// Positions returns a look-up of the log's events. It returns ErrNoPositions if the first intact
// event has no raft index, or if there is no event and the log is not that of a replica.
func (r *Reader) Positions() (*Positions, error) {
	p, err := r.newPositions()
	if err != nil {
		return nil, err
	}
	if first, err := p.first(); err != nil || first.hasPosition || !first.found && r.dir.Manifest.Replicated {
		return p, err
	}
	return nil, ErrNoPositions
}

func (r *Reader) newPositions() (*Positions, error) {
	names, err := segment.Names(r.fsys)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &Positions{reader: r, names: names, heads: map[int]head{}, digests: map[int][]Digest{}}, nil
}

// first returns the first event that is found at the beginning of a segment.
func (p *Positions) first() (head, error) {
	for i := range p.names {
		if h, err := p.head(i); err != nil || h.found {
			return h, err
		}
	}
	return head{}, nil
}

// Reads returns the number of digests that were looked up so far.
func (p *Positions) Reads() int { return p.reads }

// SegmentsRead returns the number of segments that were read for them.
func (p *Positions) SegmentsRead() int { return len(p.digests) }

// usualHeadBytes usually has the first entry of a segment, and headBytes always has it.
const (
	usualHeadBytes = 4 << 10
	headBytes      = 2 * maxEntryBytes
)

// head returns the first event of a segment.
func (p *Positions) head(i int) (head, error) {
	if h, ok := p.heads[i]; ok {
		return h, nil
	}
	f, err := p.reader.fsys.Open(path.Join(segment.WALDir, p.names[i]))
	if err != nil {
		return head{}, err
	}
	defer f.Close()
	var h head
	var data []byte
	for _, limit := range []int64{usualHeadBytes, headBytes} {
		more, err := io.ReadAll(io.LimitReader(f, limit-int64(len(data))))
		if err != nil {
			return head{}, err
		}
		data = append(data, more...)
		p.visit(i, data, func(header segment.Header, body []byte) bool {
			h = headOf(body)
			h.seq = header.Seq
			return false
		})
		if h.found || int64(len(data)) < limit {
			break
		}
	}
	p.heads[i] = h
	return h, nil
}

func headOf(body []byte) head {
	kind, _ := checkpoint.PeekKind(body)
	index, _ := checkpoint.PositionOf(body)
	h := head{found: true, index: index, restored: kind == checkpoint.KindRestored, hasPosition: index > 0}
	if h.restored {
		h.index = 0
	}
	return h
}

// visit calls visit with the intact frames in the bytes of a segment, in the order of their numbers,
// until it returns false.
func (p *Positions) visit(i int, data []byte, visit func(h segment.Header, body []byte) bool) {
	next, _ := segment.ParseName(p.names[i])
	limit := uint64(math.MaxUint64)
	if i+1 < len(p.names) {
		limit, _ = segment.ParseName(p.names[i+1])
	}
	log, ended := p.reader.dir.Manifest.UUID, false
	for run := range segment.Runs(data, log) {
		segment.Walk(run.Data, log, run.FirstSeq, func(h segment.Header, frame []byte) {
			if ended || h.Seq < next || h.Seq >= limit { // a misplaced frame
				return
			}
			next = h.Seq + 1
			ended = !visit(h, frame[segment.HeaderBytes:])
		})
		if ended {
			return
		}
	}
}

// walk calls visit with the intact frames of a whole segment.
func (p *Positions) walk(i int, visit func(h segment.Header, body []byte) bool) error {
	data, err := fs.ReadFile(p.reader.fsys, path.Join(segment.WALDir, p.names[i]))
	if err == nil {
		p.visit(i, data, visit)
	}
	return err
}

// segmentOf returns the last segment that may have an event with this index or a lower one, or -1.
// A segment whose beginning is damaged may have any.
func (p *Positions) segmentOf(index uint64) (int, error) {
	low, high := 0, len(p.names) // the segments before low may have one, and those from high on have none
	for low < high {
		middle := low + (high-low)/2
		at := middle
		h, err := p.head(at)
		for err == nil && !h.found && at > low {
			at--
			h, err = p.head(at)
		}
		if err != nil {
			return 0, err
		}
		if h.found && h.index > index {
			high = at
		} else {
			low = middle + 1
		}
	}
	return low - 1, nil
}

// digestsOf returns the digests of a segment, in order.
func (p *Positions) digestsOf(i int) ([]Digest, error) {
	if list, ok := p.digests[i]; ok {
		return list, nil
	}
	var list []Digest
	err := p.walk(i, func(h segment.Header, body []byte) bool {
		if d, ok := digestOf(h.Seq, body); ok {
			list = append(list, d)
		}
		return true
	})
	if err == nil {
		p.digests[i] = list
	}
	return list, err
}

// digestOf decodes a digest event. It returns false for other events.
func digestOf(seq uint64, body []byte) (Digest, bool) {
	if kind, _ := checkpoint.PeekKind(body); kind != checkpoint.KindDigest {
		return Digest{}, false
	}
	event, err := checkpoint.DecodeEvent(body)
	d, ok := event.(checkpoint.Digest)
	index, term := checkpoint.PositionOf(body)
	return Digest{seq, index, term, d}, ok && err == nil
}

// DigestBelow returns the last digest with this index or a lower one.
func (p *Positions) DigestBelow(index uint64) (d Digest, ok bool, err error) {
	p.reads++
	i, err := p.segmentOf(index)
	for ; err == nil && i >= 0; i-- {
		var list []Digest
		list, err = p.digestsOf(i)
		for _, d := range slices.Backward(list) {
			if d.Index <= index {
				return d, true, nil
			}
		}
	}
	return Digest{}, false, err
}

// DigestAbove returns the first digest with this index or a higher one.
func (p *Positions) DigestAbove(index uint64) (d Digest, ok bool, err error) {
	p.reads++
	i, err := p.segmentOf(index)
	for i = max(i, 0); err == nil && i < len(p.names); i++ {
		var list []Digest
		list, err = p.digestsOf(i)
		for _, d := range list {
			if d.Index >= index {
				return d, true, nil
			}
		}
	}
	return Digest{}, false, err
}

// LastIndex returns the highest index of an intact event.
func (p *Positions) LastIndex() (last uint64, err error) {
	for i := len(p.names) - 1; err == nil && i >= 0 && last == 0; i-- {
		err = p.walk(i, func(_ segment.Header, body []byte) bool {
			index, _ := checkpoint.PositionOf(body)
			last = max(last, index)
			return true
		})
	}
	return last, err
}

// SeqOf returns the number of the last event with this index or a lower one, or 0 if there is none.
// The restored rows with which a log begins are before every index.
func (p *Positions) SeqOf(index uint64) (seq uint64, err error) {
	i, err := p.segmentOf(index)
	for ; err == nil && i >= 0 && seq == 0; i-- {
		err = p.walk(i, func(h segment.Header, body []byte) bool {
			at, _ := checkpoint.PositionOf(body)
			if kind, _ := checkpoint.PeekKind(body); kind != checkpoint.KindRestored && at > index {
				return false
			}
			seq = h.Seq
			return true
		})
	}
	return seq, err
}

// Positioned is an event with its encoding, or damage.
type Positioned struct {
	Record
	Body []byte
}

// Range yields the events with an index above after, up to the index through, in order, with the
// damage between them. It leaves out restored rows and digests, which are not entries of the
// consensus log.
func (p *Positions) Range(ctx context.Context, after, through uint64) iter.Seq2[Positioned, error] {
	return func(yield func(Positioned, error) bool) {
		last, err := p.SeqOf(after)
		if err != nil {
			yield(Positioned{}, err)
			return
		}
		r := p.reader
		scan := segment.NewScan(r.fsys, r.dir, segment.ScanOptions{From: last + 1, CheckEnds: true, Only: r.index.onlyRange(last+1, 0)})
		for item, err := range scan.Items() {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(Positioned{}, err)
				return
			}
			e := Positioned{Record: Decode(item)}
			if d := e.Damage; d != nil {
				if !d.InSegment() || d.Lost() > 0 && d.LastSeq <= last {
					continue
				}
			} else {
				kind, _ := checkpoint.PeekKind(item.Frame.Body)
				index, _ := checkpoint.PositionOf(item.Frame.Body)
				if kind != checkpoint.KindRestored && index > through {
					return
				}
				if item.Frame.Seq <= last || kind == checkpoint.KindRestored || kind == checkpoint.KindDigest {
					continue
				}
				e.Body = bytes.Clone(item.Frame.Body)
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// ChainAt returns the chained digest of all entries up to an index. It returns false if an event
// that it needs is lost, or if the index is before the beginning of the log's history.
func (p *Positions) ChainAt(ctx context.Context, index uint64) (chain [sha256.Size]byte, ok bool, err error) {
	begin, err := p.reader.Beginning()
	if err != nil || index < begin.Index {
		return chain, false, err
	}
	d, ok, err := p.DigestBelow(index)
	if err != nil || !ok && !begin.IsWhole() {
		return chain, false, err
	}
	chain = d.Chain
	for e, err := range p.Range(ctx, d.Index, index) {
		if err != nil || e.Damage != nil && e.Damage.Lost() > 0 {
			return chain, false, err
		}
		if e.Damage == nil {
			chain = checkpoint.NextChain(chain, e.Body)
		}
	}
	return chain, true, nil
}
