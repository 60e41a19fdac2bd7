package main

import (
	"fmt"
	"slices"
	"strings"

	pretty "github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// column is a column of a grid.
type column struct {
	title string
	right bool  // aligned to the right
	rank  int   // if the line is too long, the columns with the highest rank are left out first; 0: never
	free  bool  // free text, which may be cut
	style style // of the cells in a row without a style
}

// minFreeWidth is the width below which free text is left out instead of cut.
const minFreeWidth = 12

// grid is a table with a known number of rows. Its columns are as wide as their longest cell. A
// column without any text is not printed. If the line is longer than the screen, columns are left
// out in the order of their ranks.
type grid struct {
	tool    *tool
	columns []column
	rows    []gridRow
}

type gridRow struct {
	style style
	cells []string
}

func (t *tool) newGrid(columns ...column) *grid { return &grid{tool: t, columns: columns} }

// add adds a row. Missing cells are empty.
func (g *grid) add(s style, cells ...string) {
	row := gridRow{s, make([]string, len(g.columns))}
	for i, cell := range cells {
		row.cells[i] = printable(cell)
	}
	g.rows = append(g.rows, row)
}

// addDay adds a row with the date of a time, if the time is on another day than the one before it.
// The clock must be that of the column with its title.
func (g *grid) addDay(c *clock, ms uint64) {
	if day := c.newDay(ms); day != "" {
		cells := make([]string, len(g.columns))
		cells[slices.IndexFunc(g.columns, func(col column) bool { return col.title == c.title() })] = day
		g.add(styleDim, cells...)
	}
}

// print prints the heading and the rows. A grid without rows prints nothing.
func (g *grid) print() {
	if len(g.rows) == 0 {
		return
	}
	shown, freeWidth := g.fit(g.tool.width())
	w := pretty.NewWriter()
	w.SetStyle(pretty.Style{
		Box:     pretty.BoxStyle{PaddingRight: strings.Repeat(" ", columnGap)},
		Options: pretty.OptionsNoBordersAndSeparators,
	})
	w.SuppressTrailingSpaces()
	var heading pretty.Row
	var configs []pretty.ColumnConfig
	for n, i := range shown {
		title := g.columns[i].title
		if g.columns[i].free && freeWidth > 0 {
			title = cutText(title, freeWidth)
		}
		heading = append(heading, title)
		if g.columns[i].right {
			configs = append(configs, pretty.ColumnConfig{Number: n + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	w.AppendHeader(heading)
	w.SetColumnConfigs(configs)
	for _, r := range g.rows {
		var row pretty.Row
		isEmpty := true // the date of a column that is left out
		for _, i := range shown {
			isEmpty = isEmpty && r.cells[i] == ""
			row = append(row, g.cell(r, i, freeWidth))
		}
		if !isEmpty {
			w.AppendRow(row)
		}
	}
	fmt.Fprintln(g.tool.stdout, w.Render())
}

func (g *grid) cell(r gridRow, i, freeWidth int) string {
	cell, col := r.cells[i], g.columns[i]
	if col.free && freeWidth > 0 {
		cell = cutText(cell, freeWidth)
	}
	if r.style != stylePlain {
		return g.tool.paint(r.style, cell)
	}
	return g.tool.paint(col.style, cell)
}

// fit returns the columns that a line of that width has, and the width of free text in it. The width
// 0 is unlimited.
func (g *grid) fit(width int) (shown []int, freeWidth int) {
	widths := make([]int, len(g.columns))
	for i, col := range g.columns {
		longest := 0
		for _, r := range g.rows {
			longest = max(longest, textWidth(r.cells[i]))
		}
		if longest > 0 {
			shown = append(shown, i)
			widths[i] = max(longest, textWidth(col.title))
		}
	}
	if width == 0 {
		return shown, 0
	}
	for {
		fixed, free, last := -columnGap, 0, -1
		for n, i := range shown {
			col := g.columns[i]
			fixed += columnGap
			if col.free {
				free = max(free, widths[i])
			} else {
				fixed += widths[i]
			}
			if col.rank > 0 && (last < 0 || col.rank >= g.columns[shown[last]].rank) {
				last = n
			}
		}
		if fixed+min(free, minFreeWidth) <= width || last < 0 {
			return shown, max(min(free, width-fixed), 1)
		}
		shown = slices.Delete(shown, last, last+1)
	}
}
