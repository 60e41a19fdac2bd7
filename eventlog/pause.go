package eventlog

import "time"

// pause is how a lone writer waits for the device: asleep or awake. A thread that sleeps is
// woken some time after the device is done, on one virtual machine 12 µs of a sync's 120;
// on another the interrupt that says so reaches a busy CPU 45 µs later than an idle one.
// So it takes what has been faster, and now and then tries the other. The zero pause is
// ready for use.
type pause struct {
	asleep, awake time.Duration // what a sync takes so, a running mean; 0 before the first
	count         int
}

const (
	tryOneIn = 64 // how often the other is tried
	worthCPU = 16 // awake, a sync has to take one part in so many less
)

// take makes a sync that waits in one of both ways.
func (p *pause) take(sync func(awake bool)) {
	p.count++
	awake := p.awake < p.asleep-p.asleep/worthCPU
	if p.count%tryOneIn == 0 {
		awake = !awake
	}
	began := time.Now()
	sync(awake)
	p.learn(awake, time.Since(began))
}

// learn counts a sync as a little more than the mean at most: what else the device was busy
// with says nothing of the way.
func (p *pause) learn(awake bool, took time.Duration) {
	mean := &p.asleep
	if awake {
		mean = &p.awake
	}
	if *mean == 0 {
		*mean = took
	}
	*mean += (min(took, *mean+*mean/4) - *mean) / 16
}
