// Package redact replaces the values of events that could identify a cluster, so that a history can
// be given to another organization.
//
// Redaction keeps the equality and the order of numbers, times and ids, and the equality of reasons.
// Every rule about a history therefore finds the same before and after the redaction.
package redact
