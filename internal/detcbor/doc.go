// Package detcbor appends and reads the heads of CBOR items (RFC 8949, section 3) in Core
// Deterministic Encoding (section 4.2.1). In this encoding every number has its shortest form and
// every length is definite.
//
// It refuses to know the meaning of an item, and to read any other form. Use fxamacker/cbor for
// that. It is the reference implementation.
package detcbor
