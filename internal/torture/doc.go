// Command torture runs the log's own code, and tidwall/wal's, on a disk that
// loses what was not synced and fails any call it is told to. It refuses to know
// what must hold then: that is package simulated.
//
//	go run ./internal/torture
//	go run ./internal/torture -cuts 100000 -seed 42
//	go run ./internal/torture -canaries
//	go run ./internal/torture -long -seed 42
//	go run ./internal/torture -run D6 -patch canary.json
//	go run ./internal/torture -run D1 -- -workers=8 -test.cpuprofile=cpu.out
//
// A case that fails is told with the command that runs it alone. Only what several
// goroutines do at once is not the same again.
//
// Nothing in the code under test knows of it. It is compiled from rewritten
// copies, in which package os is package simos: see [Overlay]. A patch is a JSON
// list of objects with "file", "old" and "new"; it changes the code under test, to
// see that the tests go red.
package main
