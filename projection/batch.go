package projection

import (
	"bytes"

	"migrationlog/checkpoint"
)

// Batch collects new events. A lookup sees the events added before it. Fold applies the events to
// the view later, so that this work can overlap the device's write. The zero Batch is ready for
// Begin. A Batch is not safe for concurrent use.
type Batch struct {
	view    *View
	epoch   uint64 // the highest of the view and of the added events
	added   []addition
	observe func(before, after Slot) // nil: nobody
	filter  [1 << 10]uint64          // Bloom filter of the migrations in added, with one hash
}

// addition is an event that is not applied yet.
type addition struct {
	slot   Slot
	seq    uint64
	change Change
}

// Begin starts a batch on top of v. The caller must not change v afterwards.
func (b *Batch) Begin(v *View) { b.view, b.epoch = v.nextVersion(), v.epoch }

// Observe makes the batch call f for each event that it applies, in the order of the events. The
// arguments are the slot of the event's migration before and after the event. They are valid only
// during the call. The function stays set for later batches.
func (b *Batch) Observe(f func(before, after Slot)) { b.observe = f }

// ApplyAdded applies the added events now. All of them have been observed afterwards.
func (b *Batch) ApplyAdded() { b.fold() }

// Epoch returns the highest epoch of all events, with those added.
func (b *Batch) Epoch() uint64 { return b.epoch }

// Lookup returns the slot of a migration, which is valid until another event of the migration is
// added. If the batch already has such an event, Lookup first applies the added events.
func (b *Batch) Lookup(id checkpoint.MigrationID) Slot {
	if word, bit := b.filterBit(id); *word&bit != 0 { //mutant:batch-lookup-folds
		b.fold()
	}
	return b.view.Slot(id)
}

// Add adds event seq of the migration in the slot, with change c. It returns the seq of the
// migration's previous event, or 0 if the event is the first of an incarnation.
func (b *Batch) Add(slot Slot, seq uint64, c Change) (prevSeq uint64) {
	word, bit := b.filterBit(slot.id)
	*word |= bit
	b.added = append(b.added, addition{slot, seq, c})
	b.epoch = max(b.epoch, c.epoch) //mutant:epoch-in-batch
	return slot.LastSeq()
}

// OtherInFlight returns the row of another migration of the vShard that is in flight, if there is
// one. If there are several, it returns the one with the lowest id, so that it does not depend on the
// order of the events. A row at Complete is not in flight.
func (b *Batch) OtherInFlight(vshardID uint32, than checkpoint.MigrationID) (Row, bool) {
	b.fold() //mutant:vshard-in-batch
	var other *state
	for at := range b.view.shards.withHashPrefix(shardHash(vshardID), shardBits) {
		if at.vshardID != vshardID || at.id == idKey(than) {
			continue
		}
		row, _ := b.view.rows.get(at.id)
		if row.Checkpoint.Phase() >= checkpoint.PhaseComplete { //mutant:complete-is-free
			continue
		}
		if other == nil || bytes.Compare(at.id[:], other.Checkpoint.MigrationID[:]) < 0 {
			other = row
		}
	}
	if other == nil {
		return Row{}, false
	}
	return b.view.withLosses(other), true
}

// Fold applies the added events and returns the new view. Call Begin before the batch is used
// again.
func (b *Batch) Fold() *View {
	b.fold()
	v := b.view
	b.view = nil
	return v
}

func (b *Batch) fold() {
	for _, a := range b.added {
		after := a.slot.apply(a.seq, a.slot.LastSeq(), a.change)
		if b.observe != nil {
			b.observe(a.slot, after)
		}
		word, _ := b.filterBit(a.slot.id)
		*word = 0
	}
	clear(b.added)
	b.added = b.added[:0]
}

// filterBit returns the bit of a migration in the filter.
func (b *Batch) filterBit(id checkpoint.MigrationID) (word *uint64, bit uint64) {
	hash := idKey(id).hash()
	return &b.filter[hash/64%uint64(len(b.filter))], 1 << (hash % 64)
}
