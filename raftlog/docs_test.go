package raftlog

import (
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The code in docs/REPLICATION.md is that of the tested example.
func TestReplication_CodeIsOfTheExample(t *testing.T) {
	page, err := os.ReadFile("../docs/REPLICATION.md")
	require.NoError(t, err)
	source, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	require.NotEmpty(t, blocks)
	for _, block := range blocks {
		require.True(t, strings.Contains(string(source), "\n"+block[1]), "the example does not have this code:\n%s", block[1])
	}
}

// The entry in docs/FORMAT.md is the one of the golden test.
func TestFormat_Entry(t *testing.T) {
	page, err := os.ReadFile("../docs/FORMAT.md")
	require.NoError(t, err)
	var spaced []string
	for at := 0; at < len(goldenEntry); at += 2 {
		spaced = append(spaced, goldenEntry[at:at+2])
	}
	require.Contains(t, string(page), "\n"+strings.Join(spaced, " ")+"\n")
	b, err := hex.DecodeString(goldenEntry)
	require.NoError(t, err)
	_, err = decodeEntry(b, nil)
	require.NoError(t, err)
}
