// Package checkpoint knows the vocabulary of shard migrations: their ids, the
// six phases, what a coordinator records at each phase boundary, how a
// migration is undone, and the CBOR form of all of it.
//
// It refuses to know about files, clocks and sequence numbers: everything here
// is a value or a pure function of values, and safe for concurrent use.
package checkpoint
