// Package checkpoint knows the vocabulary of shard migrations: their ids, the
// six phases, the payload of each phase boundary, the steps that undo a
// migration, and the CBOR form of all of these.
//
// It refuses to know about files, clocks and sequence numbers: everything here
// is a value or a pure function of values, and safe for concurrent use.
package checkpoint
