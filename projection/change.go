package projection

import "migrationlog/checkpoint"

// Change is a run of events on their way into a view: it shows what the view
// will hold, and leaves the view as it is until Commit. The view must not
// change between Begin and Commit by other means.
type Change struct {
	view    *View
	rows    map[checkpoint.MigrationID]*state
	lastSeq uint64
}

// Begin returns an empty change of the view.
func (v *View) Begin() *Change {
	return &Change{view: v, rows: make(map[checkpoint.MigrationID]*state), lastSeq: v.lastSeq}
}

// Get returns a migration's row as it will be.
func (c *Change) Get(id checkpoint.MigrationID) (Row, bool) {
	if row := c.row(id); row != nil {
		return row.Row, true
	}
	return Row{}, false
}

// Add folds in the event with that number, and returns the number of the
// migration's event before it: 0 for the first event of a life.
func (c *Change) Add(seq uint64, e checkpoint.Event) (prevSeq uint64) {
	before := c.row(e.Migration())
	if before != nil {
		prevSeq = before.last
	}
	c.rows[e.Migration()] = c.view.fold(before, seq, prevSeq, e)
	c.lastSeq = seq
	return prevSeq
}

// Commit makes the view show the change.
func (c *Change) Commit() {
	for id, row := range c.rows {
		c.view.put(id, row)
	}
	c.view.lastSeq = c.lastSeq
}

func (c *Change) row(id checkpoint.MigrationID) *state {
	row, changed := c.rows[id]
	switch {
	case !changed:
		return c.view.rows[id]
	case row.ended:
		return nil
	}
	return row
}
