package raftlog

import (
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Only the proposer reads a clock. Apply would otherwise give other states on other members (nomad
// #13725).
func TestApply_ReadsNoClock(t *testing.T) {
	files, err := os.ReadDir(".")
	require.NoError(t, err)
	proposes := map[string]bool{"proposer.go": true, "recover.go": true}
	checked := 0
	for _, file := range files {
		name := file.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || proposes[name] {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, spec := range parsed.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			require.NotContains(t, []string{"time", "math/rand", "math/rand/v2", "crypto/rand", "github.com/google/uuid"}, path,
				"%s: take the value from the entry, so that all members use the same", name)
		}
		checked++
	}
	require.Greater(t, checked, 4)
}
