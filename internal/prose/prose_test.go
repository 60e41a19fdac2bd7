package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// No comment contains a phrase that readers had to read twice. The message names a plain one.
func TestComments_HaveNoDiscouragedPhrase(t *testing.T) {
	all, err := comments("../..", true)
	require.NoError(t, err)
	require.Greater(t, len(all), 1000, "the comments were not found")
	for _, c := range all {
		if strings.Contains(c.file, "internal/prose") {
			continue // it lists the phrases
		}
		text := " " + strings.Join(wordPattern.FindAllString(strings.ToLower(c.text), -1), " ") + " "
		for phrase, instead := range discouraged {
			if strings.Contains(text, " "+phrase+" ") {
				t.Errorf("%s:%d: %q: write %q", c.file, c.line, phrase, instead)
			}
		}
	}
}

// The rates of the counted words over all comments outside tests are within their limits.
func TestComments_AreWithinTheLimits(t *testing.T) {
	all, err := comments("../..", false)
	require.NoError(t, err)
	var sum tally
	for _, c := range all {
		sum.add(c.text)
	}
	require.Greater(t, sum.total, 10000, "the comments were not found")
	for i, w := range words {
		rate := sum.per1000(i)
		require.GreaterOrEqual(t, rate, w.least, "%q per 1,000 words: %s (go run ./internal/prose shows the directories)", w.name, w.reason)
		if w.most > 0 {
			require.LessOrEqual(t, rate, w.most, "%q per 1,000 words: %s (go run ./internal/prose shows the directories)", w.name, w.reason)
		}
	}
}

// The counter finds words in any case and as whole words, and leaves directives out.
func TestTally(t *testing.T) {
	var sum tally
	sum.add("If it fails, tell the caller. Gift is no condition; whatever it's told")
	require.Equal(t, []int{1, 0, 1, 2}, sum.counts)
	require.Equal(t, 13, sum.total)
	found, err := commentsOf("prose_test.go")
	require.NoError(t, err)
	require.Contains(t, found[0].text, "No comment contains a phrase")
	require.True(t, directive.MatchString("//go:build linux"))
	require.True(t, directive.MatchString("//mutant:name"))
	require.False(t, directive.MatchString("// go there"))
}
