package whatif

// heap is a priority queue of rows by staleFromMS. Rows that were replaced are skipped.
type heap struct {
	before func(a, b uint64) bool
	rows   []*tracked
}

// first returns the first row, or nil if there is none.
func (h *heap) first() *tracked {
	for len(h.rows) > 0 && h.rows[0].replaced {
		h.pop()
	}
	if len(h.rows) == 0 {
		return nil
	}
	return h.rows[0]
}

func (h *heap) push(r *tracked) {
	h.rows = append(h.rows, r)
	for i := len(h.rows) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h.less(i, parent) {
			return
		}
		h.rows[i], h.rows[parent] = h.rows[parent], h.rows[i]
		i = parent
	}
}

// pop removes and returns the first row, which may be a replaced one.
func (h *heap) pop() *tracked {
	top, last := h.rows[0], len(h.rows)-1
	h.rows[0], h.rows[last] = h.rows[last], nil
	h.rows = h.rows[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return top
		}
		if child+1 < last && h.less(child+1, child) {
			child++
		}
		if !h.less(child, i) {
			return top
		}
		h.rows[i], h.rows[child] = h.rows[child], h.rows[i]
		i = child
	}
}

func (h *heap) less(i, j int) bool { return h.before(h.rows[i].staleFromMS, h.rows[j].staleFromMS) }
