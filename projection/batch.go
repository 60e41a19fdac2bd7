package projection

import "migrationlog/checkpoint"

// Batch is new events on their way into a view. Each can be held against the state after
// those before it, while most of the work of folding them in is left to Fold, for a time
// at which there is something to wait for. The zero Batch is ready for Begin. One
// goroutine at a time may use it.
type Batch struct {
	view   *View
	added  []addition
	filter [1 << 10]uint64 // a bit is set where a migration was added whose hash has that number
}

// addition is an event that is still to be folded in.
type addition struct {
	slot   Slot
	seq    uint64
	change Change
}

// Begin begins with the state of a view, which must not change from then on.
func (b *Batch) Begin(v *View) { b.view = v.nextVersion() }

// Slot returns a migration's place. It is good until another event of the migration
// is added.
func (b *Batch) Lookup(id checkpoint.MigrationID) Slot {
	if word, bit := b.filterBit(id); *word&bit != 0 { //mutant:batch-lookup-folds
		b.fold()
	}
	return b.view.Slot(id)
}

// Add adds a new event of the migration at that place, which makes that change, and returns
// the number of the one before it: 0 for the first of a life.
func (b *Batch) Add(slot Slot, seq uint64, c Change) (prevSeq uint64) {
	word, bit := b.filterBit(slot.id)
	*word |= bit
	b.added = append(b.added, addition{slot, seq, c})
	return slot.LastSeq()
}

// Other returns the row of another migration of a vShard, if there is one.
func (b *Batch) Other(vshardID uint32, than checkpoint.MigrationID) (Row, bool) {
	b.fold() //mutant:vshard-in-batch
	for at := range b.view.shards.withHashPrefix(shardHash(vshardID), shardBits) {
		if at.vshardID == vshardID && at.id != idKey(than) {
			return b.view.Get(checkpoint.MigrationID(at.id))
		}
	}
	return Row{}, false
}

// Fold returns the view with all that was added. The batch is over.
func (b *Batch) Fold() *View {
	b.fold()
	v := b.view
	b.view = nil
	return v
}

func (b *Batch) fold() {
	for _, a := range b.added {
		a.slot.apply(a.seq, a.slot.LastSeq(), a.change)
		word, _ := b.filterBit(a.slot.id)
		*word = 0
	}
	clear(b.added)
	b.added = b.added[:0]
}

func (b *Batch) filterBit(id checkpoint.MigrationID) (word *uint64, bit uint64) {
	hash := idKey(id).hash()
	return &b.filter[hash/64%uint64(len(b.filter))], 1 << (hash % 64)
}
