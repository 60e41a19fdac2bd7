package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Run injects one fault after another until ctx ends, and heals everything then. The sequence depends
// on the random numbers only. It calls report with a text about each fault.
func (p *Proxy) Run(ctx context.Context, random *rand.Rand, sites []string, report func(string)) {
	for {
		pause := time.Duration(300+random.IntN(1200)) * time.Millisecond
		length := time.Duration(200+random.IntN(800)) * time.Millisecond
		links, s, text := chooseFault(random, sites)
		if !wait(ctx, pause) {
			return
		}
		report(fmt.Sprintf("%s for %v", text, length))
		for _, l := range links {
			p.set(l, s)
		}
		wait(ctx, length)
		for _, l := range links {
			p.set(l, state{})
		}
	}
}

// chooseFault returns the links of a fault, and their state.
func chooseFault(random *rand.Rand, sites []string) ([]link, state, string) {
	order := random.Perm(len(sites))
	one, other := sites[order[0]], sites[order[1]]
	var around []link // all links of one site
	for _, i := range order[1:] {
		around = append(around, linkOf(one, sites[i]))
	}
	between := []link{linkOf(one, other)}
	delay := time.Duration(5+random.IntN(40)) * time.Millisecond
	switch random.IntN(5) {
	case 0:
		return around, state{cut: true}, fmt.Sprintf("site %s is partitioned from the others", one)
	case 1:
		return between, state{cut: true}, fmt.Sprintf("sites %s and %s cannot reach each other", one, other)
	case 2:
		return between, state{mute: true}, fmt.Sprintf("bytes between sites %s and %s are dropped", one, other)
	case 3:
		return around, state{delay: delay}, fmt.Sprintf("site %s is slow by %v", one, delay)
	default:
		return between, state{delay: delay}, fmt.Sprintf("the link of sites %s and %s is slow by %v", one, other, delay)
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
