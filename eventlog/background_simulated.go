//go:build simulated

package eventlog

import "iter"

// background is work that runs beside the writer. On a simulated disk, the writer runs one step of
// it with each call of ended, and the rest in wait. The calls of the disk therefore have the same
// order each time, and power cuts can be tested between any two of them.
type background struct {
	step     func() (struct{}, bool)
	err      error
	stopping bool
}

func inBackground(work func(goOn func() bool) error) *background {
	b := &background{}
	b.step, _ = iter.Pull(func(yield func(struct{}) bool) {
		b.err = work(func() bool { return yield(struct{}{}) && !b.stopping })
	})
	return b
}

func (b *background) ended() bool {
	_, more := b.step()
	return !more
}

func (b *background) wait() error {
	for !b.ended() {
	}
	return b.err
}

func (b *background) stop() error {
	b.stopping = true
	return b.wait()
}
