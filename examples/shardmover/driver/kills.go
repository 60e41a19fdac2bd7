package driver

import (
	"bufio"
	"encoding/json"
	"io"
	"time"

	"migrationlog/checkpoint"
	"migrationlog/examples/shardmover/coordinator"
	"migrationlog/examples/shardmover/wire"
)

// restartPause is the time after which a killed coordinator starts again.
const restartPause = 200 * time.Millisecond

// dueKill is a kill of a coordinator that is due after a delay.
type dueKill struct {
	site  uint64
	delay time.Duration
}

// startCoordinator starts the coordinator of a site, and follows its progress.
func (r *run) startCoordinator(site uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return nil
	}
	c, err := r.job(site, true).start()
	if err != nil {
		return err
	}
	r.coordinators[site] = c
	go r.watch(wire.CoordinatorName(site), c)
	go r.follow(c.output)
	return nil
}

// follow reads the progress of a coordinator.
func (r *run) follow(output io.ReadCloser) {
	defer output.Close()
	for lines := bufio.NewScanner(output); lines.Scan(); {
		var p coordinator.Progress
		if json.Unmarshal(lines.Bytes(), &p) != nil {
			continue // a kill can cut the last line
		}
		if p.Step == coordinator.StepAsks {
			r.violate("recovery asks about migration %s: %s", p.ID, p.Detail)
		}
		r.screen.progress(p)
		if kill, due := r.nextKill(p); due {
			select {
			case r.due <- kill:
			case <-r.ctx.Done():
			}
		}
	}
}

// nextKill counts a step, and returns the kill that is due after it.
func (r *run) nextKill(p coordinator.Progress) (kill dueKill, due bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps++
	for i, planned := range r.pending {
		isAbort := !planned.isStep() && p.ID == planned.abort && p.Step == planned.after
		isStep := planned.isStep() && planned.steps <= r.steps
		if isAbort || isStep {
			r.pending = append(r.pending[:i:i], r.pending[i+1:]...)
			return dueKill{site: p.Coordinator, delay: planned.delay}, true
		}
	}
	return dueKill{}, false
}

// killWhenDue kills the coordinators, one after another, and starts each again.
func (r *run) killWhenDue() {
	for {
		select {
		case kill := <-r.due:
			time.Sleep(kill.delay)
			r.kill(kill.site)
		case <-r.ctx.Done():
			return
		}
	}
}

// kill kills a coordinator with SIGKILL, and starts it again after a pause.
func (r *run) kill(site uint64) {
	r.mu.Lock()
	c := r.coordinators[site]
	if r.ended || r.killed == r.opts.Kills {
		r.mu.Unlock()
		return
	}
	if c.asked.Load() {
		r.pending = append(r.pending, plannedKill{}) // it was killed meanwhile: kill after the next step
		r.mu.Unlock()
		return
	}
	c.asked.Store(true)
	r.killed++
	r.mu.Unlock()
	c.kill()
	r.screen.kill(site)
	time.AfterFunc(restartPause, func() {
		if err := r.startCoordinator(site); err != nil {
			r.fail(err)
		}
	})
}

// releaseKill makes a kill that waited for the abort of a migration wait for the next step instead.
func (r *run) releaseKill(move plannedMove) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.pending {
		if r.pending[i].abort == move.id {
			r.pending[i] = plannedKill{delay: r.pending[i].delay}
		}
	}
}

// isStep reports whether the kill waits for a number of steps.
func (k plannedKill) isStep() bool { return k.abort == checkpoint.MigrationID{} }
