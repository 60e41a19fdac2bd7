// Package plot draws series with their spread as SVG, readable on light and dark backgrounds and in
// grayscale. It does not know the meaning of the series.
package plot
