package eventlog

import "time"

// spinWait decides how a single writer waits for a sync. The writer can block in fdatasync, or poll
// first (see awaitWriteback). Blocking adds the time to wake the thread up, 12 of 120 µs on one
// virtual machine. On another one polling is slower, because the completion interrupt reaches a
// busy CPU 45 µs later than an idle one. spinWait measures both ways, uses the faster one, and
// tests the other one again every reprobeEvery syncs. The zero spinWait is ready for use.
type spinWait struct {
	blocking, polling time.Duration // estimated time of an undisturbed sync; 0 before the first one
	count             uint          // syncs so far
	started           time.Time     // when the current sync started
	polls             bool          // whether the current sync polls
}

const (
	warmupSyncs  = 64  // the first syncs alternate between the two ways
	reprobeEvery = 256 // after the warm-up, one of this many syncs tests the slower way
	minGain      = 16  // poll only if it saves at least 1/minGain of the blocking time
)

// start starts a sync and reports whether the writer should poll.
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

// finish ends the sync and updates the estimate for its way of waiting. The estimate follows a
// shorter time quickly and a longer one slowly, because other work of the device can also make a
// sync longer.
func (p *spinWait) finish() {
	took, estimate := time.Since(p.started), &p.blocking
	if p.polls {
		estimate = &p.polling
	}
	switch {
	case *estimate == 0:
		*estimate = took
	case took < *estimate:
		*estimate -= (*estimate - took) / 4
	default:
		*estimate += min(took-*estimate, *estimate/4) / 16
	}
}
