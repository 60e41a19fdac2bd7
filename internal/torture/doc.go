// Command torture runs the code of the log and of tidwall/wal on a simulated disk, which loses
// unsynced data and can make any call fail. It refuses to know the properties that must hold then.
// They are in package simulated.
//
//	go run ./internal/torture
//	go run ./internal/torture -cuts 100000 -seed 42
//	go run ./internal/torture -run D6 -patch patch.json
//	go run ./internal/torture -run D1 -- -workers=8 -test.cpuprofile=cpu.out
//	go run ./internal/torture -mutants
//	go run ./internal/torture -mutants -changed HEAD~1 -atmost 12
//
// If a case fails, torture prints the command that runs it alone. The case repeats exactly, unless
// several goroutines run at once.
//
// The code under test is compiled from rewritten copies, which import package simos instead of
// package os. See [Overlay].
//
// With -mutants, torture removes one defence of the code at a time, compiles the code, and runs the
// defence's tests. It returns an error if they still pass. The list is in mutants.go. A comment in
// the source, //mutant:NAME, marks the statement that is changed. With -patch, other changes can be
// tried. A patch is a JSON list of objects with "file", "old" and "new".
package main
