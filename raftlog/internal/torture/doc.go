// Package torture knows what must hold for a Raft group whose members store their state with raftlog:
// while members are restarted, killed, isolated or restored, and while their disks fail. It refuses to
// know how raftlog works: its tests use the exported functions, and read the members' logs.
//
// The tests TestRaft01 to TestRaft15 are the promises of docs/REPLICATION.md. With -full each of them
// runs its full number of repetitions.
package torture
