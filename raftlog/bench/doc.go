// Command bench measures proposals per second, and the start time of a member, of raftlog next to a
// state machine that keeps the latest row of each migration in bbolt. It refuses to compare them in
// different runs: each round measures all of them, one after the other.
//
//	go run ./bench                 the full measurement, which takes about five minutes
//	go run ./bench -quick          every cell once, to see that it works
//	go run ./bench -o json         the same numbers as JSON
//
// Three members run in this process, over TCP on loopback, with their files on a disk.
package main
