// Package fault lets package storetest interrupt the writes of a log.
//
// It refuses to know which fault is caused, and it has no hook in a program that imports no tests.
package fault

import (
	"path/filepath"
	"sync"
)

// Point is a moment of a batch of writes.
type Point uint8

// The points of a batch, in order.
const (
	BeforeWrite Point = iota + 1 // nothing of the batch is in a file
	BeforeSync                   // the batch is in a file and may be lost
	AfterSync                    // the batch is durable, and its writes are not acknowledged yet
)

// Hook is called at each point, with the number of the log's last event. It may block. If it returns
// an error, the log has failed, as if the system had returned that error.
type Hook func(at Point, lastSeq uint64) error

var (
	mu    sync.RWMutex
	hooks = map[string]Hook{}
)

// Set sets the hook of all logs in dir that are opened from now on, until remove is called. dir is
// an absolute path, either of a log or of a directory above it.
func Set(dir string, h Hook) (remove func()) {
	mu.Lock()
	defer mu.Unlock()
	hooks[filepath.Clean(dir)] = h
	return func() {
		mu.Lock()
		defer mu.Unlock()
		delete(hooks, filepath.Clean(dir))
	}
}

// Of returns the hook of a log, given by its absolute path. It returns nil if there is none.
func Of(dir string) Hook {
	mu.RLock()
	defer mu.RUnlock()
	for len(hooks) > 0 {
		if h, found := hooks[dir]; found {
			return h
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			break
		}
		dir = parent
	}
	return nil
}
