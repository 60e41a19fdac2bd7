package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// --vshard takes numbers and ranges, which include both ends.
func TestParseVShards(t *testing.T) {
	for text, want := range map[string][]uint32{"7": {7}, "3-5": {3, 4, 5}, "4294967294-4294967295": {4294967294, 4294967295}} {
		got, err := parseVShards([]string{text})
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, text := range []string{"", "x", "-", "1-", "-1", "5-3", "1-2-3", "4294967296", "1-4294967295", "0-10000"} {
		_, err := parseVShards([]string{text})
		require.ErrorAs(t, err, new(usageError), text)
	}
	_, err := parseVShards([]string{"1-9999", "1-2"})
	require.ErrorAs(t, err, new(usageError))
}
