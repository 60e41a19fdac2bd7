package replay

import "iter"

// readAheadRecords is the number of records that one goroutine gives to the other at a time.
const readAheadRecords = 512

// ReadAhead yields the given records. A second goroutine reads and decodes the next records while
// the caller uses the present ones. The goroutine ends before the iteration returns.
func ReadAhead(records iter.Seq2[Record, error]) iter.Seq2[Record, error] {
	type batch struct {
		records []Record
		err     error
	}
	return func(yield func(Record, error) bool) {
		batches, stop := make(chan batch, 4), make(chan struct{})
		go func() {
			defer close(batches)
			b := batch{records: make([]Record, 0, readAheadRecords)}
			send := func() (more bool) {
				select {
				case batches <- b:
					b = batch{records: make([]Record, 0, readAheadRecords)}
					return true
				case <-stop:
					return false
				}
			}
			for r, err := range records {
				if b.err = err; err == nil {
					b.records = append(b.records, r)
				}
				if (err != nil || len(b.records) == readAheadRecords) && !send() {
					return
				}
			}
			send()
		}()
		defer func() {
			close(stop)
			for range batches { // until the goroutine has ended
			}
		}()
		for b := range batches {
			for _, r := range b.records {
				if !yield(r, nil) {
					return
				}
			}
			if b.err != nil {
				yield(Record{}, b.err)
				return
			}
		}
	}
}
