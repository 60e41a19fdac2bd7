// Package detcbor appends and reads the heads of CBOR items (RFC 8949, section 3) in Core
// Deterministic Encoding, section 4.2.1: every number in its shortest form, every length definite.
//
// It refuses to know what an item means, and to read any other form: for that there is
// fxamacker/cbor, which is the reference.
package detcbor
