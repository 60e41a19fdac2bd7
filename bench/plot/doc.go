// Package plot draws lines with their spread as SVG, to be read in light and in
// dark surroundings. It does not know what the lines mean.
package plot
