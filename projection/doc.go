// Package projection applies events to a view, which has one row for each migration in flight. A
// row is the latest checkpoint of its migration, and the facts that earlier phases recorded.
//
// It refuses to know about files, clocks, and where events come from.
package projection
