package replay

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

// maxWalkers bounds how many segments are read at once, and with them the memory.
const maxWalkers = 8

// walkBackwards yields the frames of all segments but the last, from the one before
// it to the first, each as long as the next is not asked for, but not those before
// base. Several are read at once. It ends with an I/O error, or errNotPlain for a segment
// that is not sound.
func walkBackwards(fsys fs.FS, log uuid.UUID, names []string, base uint64) iter.Seq2[*frames, error] {
	return func(yield func(*frames, error) bool) {
		names := names[:len(names)-1]
		walked := make([]chan walk, len(names))
		for i := range walked {
			walked[i] = make(chan walk, 1)
		}
		free := make(chan *frames, maxWalkers)
		for range min(runtime.GOMAXPROCS(0), maxWalkers, len(names)) {
			free <- &frames{}
		}
		stop := make(chan struct{})
		var walkers sync.WaitGroup
		defer walkers.Wait()
		defer close(stop)
		walkers.Go(func() {
			for i, name := range slices.Backward(names) {
				select {
				case <-stop:
					return
				case f := <-free:
					walkers.Go(func() { walked[i] <- walk{f, f.read(fsys, log, name, base)} })
				}
			}
		})
		for i := range slices.Backward(names) {
			w := <-walked[i]
			if !yield(w.frames, w.err) || w.err != nil {
				return
			}
			free <- w.frames
		}
	}
}

type walk struct {
	frames *frames
	err    error
}

// read makes these the frames of a segment from base on, in the memory of the ones before.
func (f *frames) read(fsys fs.FS, log uuid.UUID, name string, base uint64) error {
	f.segment, _ = segment.ParseName(name)
	f.first = f.segment
	f.list = f.list[:0]
	if err := f.load(fsys, name); err != nil {
		return err
	}
	next, sound := segment.Walk(f.memory, log, f.segment, func(h segment.Header, b []byte) {
		if h.Seq < base {
			f.first++
			return
		}
		f.list = append(f.list, frame{h.PrevSeq, segment.FrameIDOf(b, f.segment).HeaderCRC32C, b[segment.HeaderBytes:]})
	})
	if !sound {
		return fmt.Errorf("%w: segment %s from seq %d on", errNotPlain, name, next)
	}
	return nil
}

func (f *frames) load(fsys fs.FS, name string) error {
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
	if err == io.EOF || err == io.ErrUnexpectedEOF { // it became shorter: what is missing will be missed
		err = nil
	}
	f.memory = f.memory[:n]
	return err
}
