// Package coordinator knows the properties that must hold after coordinators crash while they move
// vShards and while they recover. It refuses to know how the store works: it has only tests.
package coordinator
