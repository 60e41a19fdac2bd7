// Package simulated knows the properties that a log must have after power cuts and failed calls. It
// refuses to know how these are simulated: the disk is in package simos.
//
// Its tests have the build tag simulated. They are useful only if the log is built to use package
// simos:
//
//	go run ./internal/torture
package simulated
