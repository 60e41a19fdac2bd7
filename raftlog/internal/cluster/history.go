package cluster

import (
	"fmt"
	"slices"
	"sync"
)

// An Entry is one proposal as a member's log has it.
type Entry struct {
	Index uint64
	Key   string // identifies the proposal: two proposals have the same key only if one is a retry of the other
}

// A Log is the history that a member keeps.
type Log struct {
	Member  string
	Begins  uint64 // the history up to this index is not kept
	Entries []Entry
}

// History records the proposals of the clients and their outcomes. It is safe for concurrent use.
type History struct {
	mu       sync.Mutex
	outcomes map[string]*outcome
}

type outcome struct {
	pending bool   // a try has no outcome yet
	index   uint64 // of the acknowledged entry; 0: not acknowledged
	unknown bool   // some try has an unknown outcome
}

// Issue records that a client is going to propose. A try without an outcome counts as unknown.
func (h *History) Issue(key string) { h.edit(key, func(o *outcome) { o.pending = true }) }

// Ack records that the proposal was acknowledged with this index. Two acknowledgements with
// different indexes are an error, because the second should have been a duplicate of the first.
func (h *History) Ack(key string, index uint64) (err error) {
	h.edit(key, func(o *outcome) {
		if o.index != 0 && o.index != index {
			err = fmt.Errorf("%s was acknowledged twice, with index %d and %d", key, o.index, index)
		}
		o.index, o.pending = index, false
	})
	return err
}

// Unknown records that the outcome of a try is unknown.
func (h *History) Unknown(key string) {
	h.edit(key, func(o *outcome) { o.unknown, o.pending = true, false })
}

// Refused records that a try was refused, and thus is not in the log.
func (h *History) Refused(key string) { h.edit(key, func(o *outcome) { o.pending = false }) }

func (h *History) edit(key string, change func(*outcome)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.outcomes == nil {
		h.outcomes = map[string]*outcome{}
	}
	o := h.outcomes[key]
	if o == nil {
		o = &outcome{}
		h.outcomes[key] = o
	}
	change(o)
}

// Counts returns the number of acknowledged proposals, and of those with an unknown outcome.
func (h *History) Counts() (acknowledged, unknown int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.outcomes {
		if o.index != 0 {
			acknowledged++
		} else if o.unknown || o.pending {
			unknown++
		}
	}
	return acknowledged, unknown
}

// Check compares a member's log with the proposals. It returns a sentence for each violation:
//   - An acknowledged proposal is in the log exactly once, with the acknowledged index.
//   - A proposal with an unknown outcome is in it at most once, and a refused one never.
//   - Nothing else is in it, and the indexes rise.
func (h *History) Check(log Log) (violations []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	report := func(format string, args ...any) {
		violations = append(violations, "member "+log.Member+": "+fmt.Sprintf(format, args...))
	}
	indexes := map[string][]uint64{}
	last := log.Begins
	for _, e := range log.Entries {
		if e.Index <= last {
			report("index %d follows index %d", e.Index, last)
		}
		last = e.Index
		indexes[e.Key] = append(indexes[e.Key], e.Index)
	}
	for key, found := range indexes {
		o := h.outcomes[key]
		switch {
		case o == nil:
			report("%s at %v was never proposed", key, found)
		case !o.pending && !o.unknown && o.index == 0:
			report("%s at %v was refused", key, found)
		case len(found) > 1:
			report("%s was applied %d times, at %v", key, len(found), found)
		case o.index != 0 && o.index != found[0]:
			report("%s is at %d and was acknowledged at %d", key, found[0], o.index)
		}
	}
	for key, o := range h.outcomes {
		if o.index > log.Begins && len(indexes[key]) == 0 {
			report("%s was acknowledged at %d and is lost", key, o.index)
		}
	}
	slices.Sort(violations)
	return violations
}

// Compare compares the parts of the histories that both members keep, up to the lower of their last
// indexes. It returns the first difference, or "".
func Compare(a, b Log) string {
	begins := max(a.Begins, b.Begins)
	x, y := after(a.Entries, begins), after(b.Entries, begins)
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("member %s has %v, and member %s has %v instead", a.Member, x[i], b.Member, y[i])
		}
	}
	return ""
}

func after(entries []Entry, index uint64) []Entry {
	i := slices.IndexFunc(entries, func(e Entry) bool { return e.Index > index })
	if i < 0 {
		return nil
	}
	return entries[i:]
}
