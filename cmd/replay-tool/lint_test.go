package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/replay/lint"
)

const lintFile = "../../docs/LINT.md"

// The commands in docs/LINT.md print the output that it shows, see TestRunbook_Commands.
func TestLint_Commands(t *testing.T) { runDocument(t, lintFile) }

// docs/LINT.md has a section for each rule, in their order, with its severity, definition, reason and
// action, and with a command that finds it.
func TestLint_RulesAsDocumented(t *testing.T) {
	content, err := os.ReadFile(lintFile)
	require.NoError(t, err)
	oneLine := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	var documented []string
	for _, section := range strings.Split(string(content), "\n## ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		rule, err := lint.FindRule(title)
		if err != nil {
			continue // a section about all rules
		}
		documented = append(documented, rule.ID)
		prose := oneLine(text)
		for _, want := range []string{
			"Severity: " + rule.Severity.String() + ".", "**Finding.** " + rule.Definition, "**Reason.** " + rule.Reason, "**Action.** " + rule.Action,
		} {
			require.Contains(t, prose, want, "docs/LINT.md, section %s", rule.ID)
		}
		require.Contains(t, text, "\n```sh\nreplay-tool lint ", "docs/LINT.md, section %s has no command", rule.ID)
		require.Regexp(t, `(?m)^`+rule.Severity.String()+` +`+regexp.QuoteMeta(rule.ID)+` `, text, "docs/LINT.md, section %s: the command finds another rule", rule.ID)
	}
	var all []string
	for _, rule := range lint.Rules() {
		all = append(all, rule.ID)
		require.Contains(t, string(content), "\n| [`"+rule.ID+"`](#"+rule.ID+") | "+rule.Severity.String()+" | ", "docs/LINT.md, the table of all rules")
	}
	require.Equal(t, all, documented)
}
