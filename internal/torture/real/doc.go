// Package real knows the properties that a log must have on real file systems, after real processes
// are killed, and after random damage. It refuses to know how the log works: it has only tests.
package real
