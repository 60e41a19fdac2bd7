// Package lint has the rules that a history of migrations must follow, and finds the events that
// break them.
//
// It refuses to know where the records come from and how a finding is shown. Intact bytes do not make
// a correct history. Package replay judges the bytes, and this package judges the events.
package lint
