package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Each way in which a log can differ from the proposals is a violation.
func TestHistory_Check(t *testing.T) {
	var h History
	h.Issue("acked")
	require.NoError(t, h.Ack("acked", 5))
	require.NoError(t, h.Ack("acked", 5), "a retry is a duplicate with the same index")
	require.NoError(t, h.Ack("twice", 6))
	require.Error(t, h.Ack("twice", 7), "two indexes for one proposal")
	h.Issue("unknown")
	h.Unknown("unknown")
	h.Issue("refused")
	h.Refused("refused")

	good := []Entry{{5, "acked"}, {7, "twice"}}
	for _, test := range []struct {
		name    string
		begins  uint64
		entries []Entry
		want    string
	}{
		{"as acknowledged", 0, good, ""},
		{"an unknown one was applied", 0, []Entry{{5, "acked"}, {7, "twice"}, {9, "unknown"}}, ""},
		{"the history begins later", 5, []Entry{{7, "twice"}}, ""},
		{"an acknowledged one is lost", 0, good[1:], "acked was acknowledged at 5 and is lost"},
		{"another index", 0, []Entry{{6, "acked"}, {7, "twice"}}, "acked is at 6 and was acknowledged at 5"},
		{"an unknown one was applied twice", 0, []Entry{{5, "acked"}, {7, "twice"}, {8, "unknown"}, {9, "unknown"}}, "unknown was applied 2 times, at [8 9]"},
		{"a refused one was applied", 0, []Entry{{5, "acked"}, {7, "twice"}, {8, "refused"}}, "refused at [8] was refused"},
		{"an invented one", 0, []Entry{{5, "acked"}, {7, "twice"}, {8, "other"}}, "other at [8] was never proposed"},
		{"an index twice", 0, []Entry{{5, "acked"}, {7, "twice"}, {7, "unknown"}}, "index 7 follows index 7"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := h.Check(Log{Member: "a", Begins: test.begins, Entries: test.entries})
			if test.want == "" {
				require.Empty(t, got)
				return
			}
			require.Equal(t, []string{"member a: " + test.want}, got)
		})
	}
}

func TestHistory_Compare(t *testing.T) {
	a := Log{Member: "a", Entries: []Entry{{1, "x"}, {2, "y"}, {4, "z"}}}
	require.Empty(t, Compare(a, Log{Member: "b", Entries: a.Entries[:2]}), "b is behind")
	require.Empty(t, Compare(a, Log{Member: "b", Begins: 2, Entries: a.Entries[2:]}), "b keeps less")
	require.Equal(t, "member a has {2 y}, and member b has {3 y} instead", Compare(a, Log{Member: "b", Entries: []Entry{{1, "x"}, {3, "y"}}}))
	require.Equal(t, "member a has {4 z}, and member b has {5 z} instead", Compare(a, Log{Member: "b", Begins: 2, Entries: []Entry{{5, "z"}}}))
}
