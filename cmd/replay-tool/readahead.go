package main

import (
	"iter"

	"migrationlog/replay"
)

// readAheadRecords is the number of records that one goroutine gives to the other at a time.
const readAheadRecords = 512

// readAhead yields the given records. A second goroutine reads and decodes the next records while
// the caller uses the present ones. The goroutine ends before the iteration returns.
func readAhead(records iter.Seq2[replay.Record, error]) iter.Seq2[replay.Record, error] {
	type batch struct {
		records []replay.Record
		err     error
	}
	return func(yield func(replay.Record, error) bool) {
		batches, stop := make(chan batch, 4), make(chan struct{})
		go func() {
			defer close(batches)
			b := batch{records: make([]replay.Record, 0, readAheadRecords)}
			send := func() (more bool) {
				select {
				case batches <- b:
					b = batch{records: make([]replay.Record, 0, readAheadRecords)}
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
				yield(replay.Record{}, b.err)
				return
			}
		}
	}
}
