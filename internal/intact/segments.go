package intact

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"runtime"
	"slices"
	"sync"

	"github.com/google/uuid"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
)

// Segment holds the frames of one segment. It omits the frames before event base, see Options.
type Segment struct {
	number uint64 // seq of the segment's first frame, which names the file
	first  uint64 // seq of the list's first frame
	list   []frame
	memory []byte // the segment's bytes, into which the bodies point
}

type frame struct {
	prevSeq      uint64
	headerCRC32C uint32
	body         []byte
}

// NewSegment returns a segment without frames. Its number is the one in the name of its file.
func NewSegment(number uint64) *Segment { return &Segment{number: number, first: number} }

// Number returns the seq of the segment's first frame, which is the number in its file's name.
func (s *Segment) Number() uint64 { return s.number }

// Next returns the seq after the last frame.
func (s *Segment) Next() uint64 { return s.first + uint64(len(s.list)) }

// Last returns the last frame and its body. It returns false if the segment holds no frame.
func (s *Segment) Last() (id segment.FrameID, body []byte, ok bool) {
	n := len(s.list)
	if n == 0 {
		return segment.FrameID{}, nil, false
	}
	return s.id(n - 1), s.list[n-1].body, true
}

// Has reports whether the segment holds the frame with this seq, segment and header checksum.
func (s *Segment) Has(id segment.FrameID) bool {
	return id.Seq >= s.first && id.Seq < s.Next() && s.id(int(id.Seq-s.first)) == id //mutant:frame-identity
}

func (s *Segment) id(i int) segment.FrameID {
	return segment.FrameID{Seq: s.first + uint64(i), Segment: s.number, HeaderCRC32C: s.list[i].headerCRC32C}
}

// Add appends the next frame. If the frame is before event base, it is not needed, and Add only
// counts it.
func (s *Segment) Add(h segment.Header, headerCRC32C uint32, body []byte, base uint64) {
	if h.Seq < base {
		s.first++
		return
	}
	s.list = append(s.list, frame{h.PrevSeq, headerCRC32C, body})
}

// Options configures Segments. The zero value keeps all frames and looks at no body.
type Options struct {
	Base        uint64 // keep the frames from this event on; all are verified
	CheckBodies bool   // the body of each frame must be an event, see checkpoint.Check
}

// maxReaders is the maximum number of segments that are read at the same time. It limits the
// memory, because each of them is held in memory completely.
const maxReaders = 8

// Segments yields the segments with these names, in order. A yielded value is valid only until the
// next iteration. Segments reads several segments in parallel. It stops at the first error, which
// is ErrNotIntact or an I/O error.
func Segments(fsys fs.FS, log uuid.UUID, names []string, opts Options) iter.Seq2[*Segment, error] {
	type result struct {
		segment *Segment
		err     error
	}
	return func(yield func(*Segment, error) bool) {
		results := make([]chan result, len(names))
		for i := range results {
			results[i] = make(chan result, 1)
		}
		free := make(chan *Segment, maxReaders)
		for range min(runtime.GOMAXPROCS(0)+1, maxReaders, len(names)) { // one is with the consumer
			free <- &Segment{}
		}
		stop := make(chan struct{})
		var readers sync.WaitGroup
		defer readers.Wait()
		defer close(stop)
		readers.Go(func() {
			for i, name := range names {
				select {
				case <-stop:
					return
				case s := <-free:
					readers.Go(func() { results[i] <- result{s, s.read(fsys, log, name, opts)} })
				}
			}
		})
		for _, ready := range results {
			r := <-ready
			if !yield(r.segment, r.err) || r.err != nil {
				return
			}
			free <- r.segment
		}
	}
}

// read replaces the frames with those of another segment. It reuses the memory.
func (s *Segment) read(fsys fs.FS, log uuid.UUID, name string, opts Options) error {
	s.number, _ = segment.ParseName(name)
	s.first = s.number
	s.list = s.list[:0]
	if err := s.load(fsys, name); err != nil {
		return err
	}
	var notAnEvent error
	next, intact := segment.Walk(s.memory, log, s.number, func(h segment.Header, b []byte) {
		body := b[segment.HeaderBytes:]
		if opts.CheckBodies && notAnEvent == nil {
			notAnEvent = CheckBody(h.Seq, body)
		}
		s.Add(h, segment.FrameIDOf(b, s.number).HeaderCRC32C, body, opts.Base)
	})
	if !intact {
		return fmt.Errorf("%w: segment %s is not intact from seq %d on", ErrNotIntact, name, next)
	}
	return notAnEvent
}

// CheckBody returns ErrNotIntact if the body is not an event. An event of an unknown kind is one.
func CheckBody(seq uint64, body []byte) error {
	err := checkpoint.Check(body)
	if err == nil || errors.As(err, new(*checkpoint.UnknownKindError)) {
		return nil
	}
	return fmt.Errorf("%w: seq %d: %w", ErrNotIntact, seq, err)
}

// load reads the file of a segment into memory.
func (s *Segment) load(fsys fs.FS, name string) error {
	file, err := fsys.Open(path.Join(segment.WALDir, name))
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	s.memory = slices.Grow(s.memory[:0], int(info.Size()))[:info.Size()]
	n, err := io.ReadFull(file, s.memory)
	if err == io.EOF || err == io.ErrUnexpectedEOF { // the file became shorter; the caller notices the missing frames
		err = nil
	}
	s.memory = s.memory[:n]
	return err
}
