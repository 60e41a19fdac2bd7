package recovery

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// docs/RECOVERY.md has the reasons and the topics of the code, in the order of the rules.
func TestRules_AsDocumented(t *testing.T) {
	source, err := os.ReadFile("decision.go")
	require.NoError(t, err)
	doc, err := os.ReadFile("../docs/RECOVERY.md")
	require.NoError(t, err)
	values := func(text []byte, pattern string) (all []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(text, -1) {
			all = append(all, string(m[1]))
		}
		return all
	}
	require.Equal(t, values(source, `\bReason += "(\w+)"`), values(doc, "(?m)^\\| \\d+ \\|.* \\| `(\\w+)` \\| [`\\w]* ?\\|$"))
	topics := values(doc, "(?m)^\\| \\d+ \\|.* \\| `(\\w+)` \\|$")
	for _, topic := range values(source, `\bTopic += "(\w+)"`) {
		require.Contains(t, topics, topic)
	}
}
