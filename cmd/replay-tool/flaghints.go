package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagMessage returns the message of an error about a flag, with a hint.
func flagMessage(c *cobra.Command, err error) string {
	message, _, notANumber := strings.Cut(err.Error(), ": strconv.")
	if notANumber {
		message += ": give a whole number that is not negative"
		if strings.Contains(message, `"-n, --last"`) {
			message += ". For a time span, use --since, such as --since -20s"
		}
	}
	name, isUnknown := strings.CutPrefix(message, "unknown flag: --")
	if !isUnknown {
		return message
	}
	if name == "version" {
		return message + ". Run 'replay-tool version'"
	}
	if similar := similarFlag(c, name); similar != "" {
		return message + ". Did you mean --" + similar + "?"
	}
	if others := commandsWith(c.Root(), name); len(others) > 0 {
		return message + ". It is a flag of " + strings.Join(others, ", ")
	}
	return message
}

// similarFlag returns the flag of a command whose name differs least from the given one, or "" if all
// differ much.
func similarFlag(c *cobra.Command, name string) (similar string) {
	least := 3
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if d := editDistance(plainName(f.Name), plainName(name)); d < least && d < len(name)/2+1 {
			least, similar = d, f.Name
		}
	})
	return similar
}

func plainName(flag string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(flag))
}

// commandsWith returns the commands that have a flag with that name.
func commandsWith(root *cobra.Command, name string) (names []string) {
	for _, c := range root.Commands() {
		if !c.Hidden && c.LocalFlags().Lookup(name) != nil {
			names = append(names, c.Name())
		}
	}
	return names
}

// editDistance returns the number of characters to add, remove or replace to make one text the other.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
