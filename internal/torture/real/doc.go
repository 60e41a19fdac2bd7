// Package real knows the promises that a log must keep on real file systems, among real
// processes that are killed, and after random damage. It refuses to know how the
// log works: it has tests only.
package real
