package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
)

// testGrid returns a tool that prints a grid of one width, and its output.
func testGrid(width int, color string, print func(*tool)) string {
	var out bytes.Buffer
	t := &tool{unbuffered: &out, fixedWidth: width, color: color}
	t.setOutput(&out)
	print(t)
	return out.String()
}

func printSample(t *tool) {
	g := t.newGrid(column{title: "ID", style: styleDim}, column{title: "N", right: true}, column{title: "TRY"},
		column{title: "GROUP", rank: 2}, column{title: "REASON", free: true, rank: 1})
	g.add(stylePlain, "a", "7", "", "group-1", "the target node was unreachable")
	g.add(styleError, "b\x01", "1024", "", "group-2", "é生\x1b[31m")
	g.print()
}

// A grid leaves out columns without text, then columns by rank, and cuts free text. Without a width
// it prints everything.
func TestGrid_Fits(t *testing.T) {
	for width, want := range map[int]string{
		0: "ID          N  GROUP    REASON\n" +
			"a           7  group-1  the target node was unreachable\n" +
			"b\\u0001  1024  group-2  é生\\u001b[31m\n",
		44: "ID          N  GROUP    REASON\n" +
			"a           7  group-1  the target node was…\n" +
			"b\\u0001  1024  group-2  é生\\u001b[31m\n",
		34: "ID          N  REASON\n" +
			"a           7  the target node wa…\n" +
			"b\\u0001  1024  é生\\u001b[31m\n",
		14: "ID          N\n" +
			"a           7\n" +
			"b\\u0001  1024\n",
	} {
		got := testGrid(width, colorNever, printSample)
		require.Equal(t, want, got, "width %d", width)
		if width > 0 {
			assertFits(t, got, width)
		}
	}
}

// Color adds only escape sequences. A sequence from a file is shown as an escape.
func TestGrid_Color(t *testing.T) {
	plain, colored := testGrid(40, colorNever, printSample), testGrid(40, colorAlways, printSample)
	require.Contains(t, colored, "\x1b[31mb\\u0001\x1b[0m")
	require.Contains(t, colored, "\x1b[2ma\x1b[0m")
	require.Contains(t, colored, "é生\\u001b[31m\x1b[0m")
	require.Equal(t, plain, strings.NewReplacer("\x1b[31m", "", "\x1b[2m", "", "\x1b[0m", "").Replace(colored))
}

// --color auto uses no color on a pipe.
func TestGrid_NoColorOnAPipe(t *testing.T) {
	require.NotContains(t, testGrid(40, colorAuto, printSample), "\x1b")
}

// A short id has 6 digits, or more if another id has the same end.
func TestShortIDs(t *testing.T) {
	id := func(text string) checkpoint.MigrationID {
		var id checkpoint.MigrationID
		err := id.UnmarshalText([]byte(text))
		require.NoError(t, err)
		return id
	}
	a, b, c := id("01a20629-0000-7000-8000-000000781d20"), id("01a20629-0000-7000-8000-000012781d20"), id("01a20629-0000-7000-8000-000000000001")
	ids := shortestIDs([]checkpoint.MigrationID{a, c})
	require.Equal(t, "781d20", ids.of(a))
	ids.add(b)
	ids.add(b)
	require.Equal(t, "0781d20", ids.of(a))
	require.Equal(t, "2781d20", ids.of(b))
	require.Equal(t, "000001", ids.of(c))
}
