package eventlog

import "time"

// pause is how a lone writer waits for the device: asleep or awake. A thread that sleeps is
// woken some time after the device is done, on one virtual machine 12 µs of a sync's 120;
// on another the interrupt that says so reaches a busy CPU 45 µs later than an idle one.
// So it waits in the way that has been faster, and now and then tries the other. The zero
// pause is ready for use.
type pause struct {
	asleep, awake time.Duration // what an undisturbed sync takes so; 0 before the first
	count         uint
	begun         time.Time
	isAwake       bool
}

const (
	trials   = 64  // so many begin, in both ways by turns
	tryOneIn = 256 // later, how often the other is tried
	worthCPU = 16  // awake, a sync has to take one part in so many less
)

// begin begins a sync, and reports whether it is to wait awake.
func (p *pause) begin() (awake bool) {
	p.count++
	p.isAwake = p.awake < p.asleep-p.asleep/worthCPU
	switch {
	case p.count < trials:
		p.isAwake = p.count%2 == 0
	case p.count%tryOneIn == 0:
		p.isAwake = !p.isAwake
	}
	p.begun = time.Now()
	return p.isAwake
}

// end ends the sync. What took less is followed soon, what took more by little at a time: what
// else the device was busy with says nothing of the way.
func (p *pause) end() {
	took, usual := time.Since(p.begun), &p.asleep
	if p.isAwake {
		usual = &p.awake
	}
	switch {
	case *usual == 0:
		*usual = took
	case took < *usual:
		*usual -= (*usual - took) / 4
	default:
		*usual += min(took-*usual, *usual/4) / 16
	}
}
