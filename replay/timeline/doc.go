// Package timeline draws the moves of a history as lanes over time: as text, SVG, one HTML page, or
// a trace for Perfetto.
//
// It does not read logs and judges no move. The caller adds the records in order, and the findings
// of a linter.
package timeline
