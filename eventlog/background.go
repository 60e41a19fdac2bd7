//go:build !simulated

package eventlog

import "time"

// background is work that runs beside the writer, in its own goroutine. Only the writer calls its
// methods. On a simulated disk, the work runs in steps between those of the writer instead, see
// background_simulated.go.
type background struct {
	stopping chan struct{}
	done     chan struct{}
	err      error // valid after done is closed
}

// stepPause is the pause after each step of background work. A goroutine in a system call keeps its
// processor for up to 10 ms. Writers that wait for this processor run during the pause.
const stepPause = 500 * time.Microsecond

// inBackground starts the work. Work with several steps calls pause between them. Work that may be
// stopped must return if pause returns false.
func inBackground(work func(pause func() bool) error) *background {
	b := &background{stopping: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(b.done)
		b.err = work(func() bool {
			select {
			case <-b.stopping:
				return false
			case <-time.After(stepPause):
				return true
			}
		})
	}()
	return b
}

// poll reports whether the work has ended. It does not wait.
func (b *background) poll() (ended bool) {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

// wait waits until the work has ended, and returns its error.
func (b *background) wait() error {
	<-b.done
	return b.err
}

// stop makes the work return after its current step, waits for this, and returns its error. It must
// be called only once.
func (b *background) stop() error {
	close(b.stopping)
	return b.wait()
}
