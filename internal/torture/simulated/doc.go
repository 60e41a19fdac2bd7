// Package simulated knows the promises that a log must keep after power cuts and failed calls.
// It refuses to know how they are made: the disk is package simos.
//
// Its tests have the build tag simulated, and mean something only in a build in
// which the log runs on package simos:
//
//	go run ./internal/torture
package simulated
