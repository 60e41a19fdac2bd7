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

// segmentFrames holds the frames of one segment, from base on.
type segmentFrames struct {
	segment uint64 // seq of the segment's first frame, which names the file
	first   uint64 // seq of the list's first frame
	list    []frame
	memory  []byte
}

type frame struct {
	prevSeq      uint64
	headerCRC32C uint32
	body         []byte
}

func (f *segmentFrames) id(i int) segment.FrameID {
	return segment.FrameID{Seq: f.first + uint64(i), Segment: f.segment, HeaderCRC32C: f.list[i].headerCRC32C}
}

// has reports whether the list has that very frame.
func (f *segmentFrames) has(id segment.FrameID) bool {
	return id.Seq >= f.first && id.Seq < f.next() && f.id(int(id.Seq-f.first)) == id //mutant:frame-identity
}

func (f *segmentFrames) next() uint64 { return f.first + uint64(len(f.list)) }

// add appends the next frame. If its seq is below base, add only skips its number.
func (f *segmentFrames) add(h segment.Header, headerCRC32C uint32, body []byte, base uint64) {
	if h.Seq < base {
		f.first++
		return
	}
	f.list = append(f.list, frame{h.PrevSeq, headerCRC32C, body})
}

// maxWalkers bounds how many segments are read at once, and with them the memory.
const maxWalkers = 8

// walk yields the frames of the segments in order, from base on. A yielded value is valid only until
// the next iteration. Several segments are read at once. It ends with an I/O error, or errNeedsFullScan for
// a segment that is not intact.
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

// read loads a segment in place of the previous one, and reuses its memory.
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
		return fmt.Errorf("%w: segment %s from seq %d on", errNeedsFullScan, name, next)
	}
	return nil
}

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
	if err == io.EOF || err == io.ErrUnexpectedEOF { // it became shorter: the caller finds that frames are missing
		err = nil
	}
	f.memory = f.memory[:n]
	return err
}
