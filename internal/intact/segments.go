package rebuild

import (
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"runtime"
	"slices"
	"sync"

	"github.com/google/uuid"

	"migrationlog/eventlog/segment"
)

// segmentFrames holds the frames of one segment. It omits the frames before event base, see
// foldFrom.
type segmentFrames struct {
	segment uint64 // seq of the segment's first frame, which names the file
	first   uint64 // seq of the list's first frame
	list    []frame
	memory  []byte // the segment's bytes, into which the bodies point
}

type frame struct {
	prevSeq      uint64
	headerCRC32C uint32
	body         []byte
}

func (f *segmentFrames) id(i int) segment.FrameID {
	return segment.FrameID{Seq: f.first + uint64(i), Segment: f.segment, HeaderCRC32C: f.list[i].headerCRC32C}
}

// has reports whether the list has the frame with this seq, segment and header checksum.
func (f *segmentFrames) has(id segment.FrameID) bool {
	return id.Seq >= f.first && id.Seq < f.next() && f.id(int(id.Seq-f.first)) == id //mutant:frame-identity
}

// next returns the seq after the last frame.
func (f *segmentFrames) next() uint64 { return f.first + uint64(len(f.list)) }

// add appends the next frame. If the frame is before event base, it is not needed, and add only
// increments f.first.
func (f *segmentFrames) add(h segment.Header, headerCRC32C uint32, body []byte, base uint64) {
	if h.Seq < base {
		f.first++
		return
	}
	f.list = append(f.list, frame{h.PrevSeq, headerCRC32C, body})
}

// maxWalkers is the maximum number of segments that are read at the same time. It limits the
// memory, because each of them is held in memory completely.
const maxWalkers = 8

// walk yields the frames from event base on, segment by segment. A yielded value is valid only
// until the next iteration. walk reads several segments in parallel. It stops at the first error,
// which is errNeedsFullScan if a segment is not intact, or an I/O error.
func walk(fsys fs.FS, log uuid.UUID, names []string, base uint64) iter.Seq2[*segmentFrames, error] {
	type walked struct {
		frames *segmentFrames
		err    error
	}
	return func(yield func(*segmentFrames, error) bool) {
		results := make([]chan walked, len(names))
		for i := range results {
			results[i] = make(chan walked, 1)
		}
		free := make(chan *segmentFrames, maxWalkers)
		for range min(runtime.GOMAXPROCS(0), maxWalkers, len(names)) {
			free <- &segmentFrames{}
		}
		stop := make(chan struct{})
		var walkers sync.WaitGroup
		defer walkers.Wait()
		defer close(stop)
		walkers.Go(func() {
			for i, name := range names {
				select {
				case <-stop:
					return
				case f := <-free:
					walkers.Go(func() { results[i] <- walked{f, f.read(fsys, log, name, base)} })
				}
			}
		})
		for _, result := range results {
			w := <-result
			if !yield(w.frames, w.err) || w.err != nil {
				return
			}
			free <- w.frames
		}
	}
}

// read replaces the frames with those of another segment. It reuses the memory.
func (f *segmentFrames) read(fsys fs.FS, log uuid.UUID, name string, base uint64) error {
	f.segment, _ = segment.ParseName(name)
	f.first = f.segment
	f.list = f.list[:0]
	if err := f.load(fsys, name); err != nil {
		return err
	}
	next, intact := segment.Walk(f.memory, log, f.segment, func(h segment.Header, b []byte) {
		f.add(h, segment.FrameIDOf(b, f.segment).HeaderCRC32C, b[segment.HeaderBytes:], base)
	})
	if !intact {
		return fmt.Errorf("%w: segment %s is not intact from seq %d on", errNeedsFullScan, name, next)
	}
	return nil
}

// load reads the file of a segment into memory.
func (f *segmentFrames) load(fsys fs.FS, name string) error {
	file, err := fsys.Open(path.Join(segment.WALDir, name))
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	f.memory = slices.Grow(f.memory[:0], int(info.Size()))[:info.Size()]
	n, err := io.ReadFull(file, f.memory)
	if err == io.EOF || err == io.ErrUnexpectedEOF { // the file became shorter; the caller notices the missing frames
		err = nil
	}
	f.memory = f.memory[:n]
	return err
}
