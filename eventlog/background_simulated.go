//go:build simulated

package eventlog

import "iter"

// background is work that runs beside the writer. On a simulated disk, the writer runs one step of
// it in each call of poll, and the rest in wait. The calls to the disk therefore have the same order
// in each run, and a test can cut the power between any two of them.
type background struct {
	step     func() (struct{}, bool)
	err      error
	stopping bool
}

func inBackground(work func(pause func() bool) error) *background {
	b := &background{}
	b.step, _ = iter.Pull(func(yield func(struct{}) bool) {
		b.err = work(func() bool { return yield(struct{}{}) && !b.stopping })
	})
	return b
}

// poll runs the next step of the work, and reports whether the work has ended.
func (b *background) poll() (ended bool) {
	_, more := b.step()
	return !more
}

func (b *background) wait() error {
	for !b.poll() {
	}
	return b.err
}

func (b *background) stop() error {
	b.stopping = true
	return b.wait()
}
