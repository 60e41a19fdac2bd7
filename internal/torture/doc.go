// Command torture runs the log's own code, and tidwall/wal's, on a disk that loses what was not
// synced and fails any call it is told to. It refuses to know what must hold then: that is package
// simulated.
//
//	go run ./internal/torture
//	go run ./internal/torture -cuts 100000 -seed 42
//	go run ./internal/torture -run D6 -patch patch.json
//	go run ./internal/torture -run D1 -- -workers=8 -test.cpuprofile=cpu.out
//	go run ./internal/torture -mutants
//	go run ./internal/torture -mutants -changed HEAD~1 -atmost 12
//
// If a case fails, torture prints the command that runs it alone. The case repeats exactly, except
// where several goroutines run at once.
//
// The code under test does not know of the disk. It is compiled from rewritten copies, in which
// package os is package simos: see [Overlay].
//
// With -mutants, torture compiles the code without one of its defences after another, and returns
// an error if that defence's tests still pass. The list is in mutants.go. A comment in the source,
// //mutant:NAME, marks the statement that is changed. A patch does the same by hand: it is a JSON
// list of objects with "file", "old" and "new".
package main
