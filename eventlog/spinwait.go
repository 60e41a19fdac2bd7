package eventlog

import "time"

// spinWait is how a lone writer waits for the device: asleep or awake. A thread that sleeps is
// woken some time after the device is done, on one virtual machine 12 µs of a sync's 120;
// on another the interrupt that says so reaches a busy CPU 45 µs later than an idle one.
// So it waits in the way that has been faster, and now and then tries the other. The zero
// spinWait is ready for use.
type spinWait struct {
	blocking, polling time.Duration // what an undisturbed sync takes so; 0 before the first
	count             uint
	started           time.Time
	polls             bool
}

const (
	warmupSyncs  = 64  // so many begin, in both ways by turns
	reprobeEvery = 256 // later, how often the other is tried
	minGain      = 16  // awake, a sync has to take one part in so many less
)

// begin begins a sync, and reports whether it is to wait awake.
func (p *spinWait) start() (poll bool) {
	p.count++
	p.polls = p.polling < p.blocking-p.blocking/minGain
	switch {
	case p.count < warmupSyncs:
		p.polls = p.count%2 == 0
	case p.count%reprobeEvery == 0:
		p.polls = !p.polls
	}
	p.started = time.Now()
	return p.polls
}

// end ends the sync. What took less is followed soon, what took more by little at a time: what
// else the device was busy with says nothing of the way.
func (p *spinWait) finish() {
	took, usual := time.Since(p.started), &p.blocking
	if p.polls {
		usual = &p.polling
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
