// Package check decides whether a run was correct. It refuses to know how the evidence was collected.
package check
