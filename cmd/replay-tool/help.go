package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// The groups of commands in --help.
const (
	groupLook  = "look"
	groupCheck = "check"
	groupShare = "share"
	groupWrite = "write"
)

// commandGroups has the group of each command. Their order is that of --help.
var commandGroups = []struct {
	id, title string
	commands  []string
}{
	{groupLook, "Look at the migrations:", []string{"triage", "show", "state", "log", "plan"}},
	{groupCheck, "Check the log and the moves:", []string{"verify", "lint", "stats", "quiet", "what-if", "crash-points", "diff", "info", "frame"}},
	{groupShare, "Share and copy:", []string{"timeline", "export", "bundle", "salvage"}},
	{groupWrite, "Write, and about this program:", []string{"import", "demo", "completion", "version", "help"}},
}

func init() { cobra.EnableCommandSorting = false } // --help has the order of commandGroups

// addHelp puts the commands into their groups, and adds the help topics.
func addHelp(root *cobra.Command) {
	root.SuggestionsMinimumDistance = 2
	root.AddCommand(helpTopics()...)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.SetUsageFunc(usage)
	printHelp := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		c.Long = reflow(cmp.Or(c.Long, c.Short)) // only now, because it takes as long as a small command
		printHelp(c, args)
	})
	commands := map[string]*cobra.Command{}
	for _, c := range root.Commands() {
		commands[c.Name()] = c
	}
	commands["help"].Run, commands["help"].RunE = nil, printHelpOf
	for _, group := range commandGroups {
		root.AddGroup(&cobra.Group{ID: group.id, Title: group.title})
		for _, name := range group.commands {
			c := commands[name]
			if c == nil {
				continue
			}
			c.GroupID = group.id
			root.RemoveCommand(c)
			root.AddCommand(c)
		}
	}
}

// printHelpOf is the command help. Unlike that of cobra, it returns an error for an unknown topic.
func printHelpOf(c *cobra.Command, args []string) error {
	root := c.Root()
	about, _, err := root.Find(args)
	if err != nil || about == root && len(args) > 0 {
		return unknownCommand(root, args[0])
	}
	about.InitDefaultHelpFlag()
	return about.Help()
}

// helpWidth is the longest line of --help.
const helpWidth = 80

// reflow returns a text whose paragraphs fit helpWidth. A paragraph with an indented line is a list
// and stays as it is.
func reflow(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		if !strings.Contains("\n"+p, "\n ") {
			paragraphs[i] = strings.Join(wrap(p, helpWidth), "\n")
		}
	}
	return strings.Join(paragraphs, "\n\n")
}

// usage prints the commands or the flags of a command. Unlike the function of cobra, it fits 80
// columns.
func usage(c *cobra.Command) error {
	w := c.OutOrStderr()
	fmt.Fprintf(w, "Usage:\n  %s\n", c.UseLine())
	if c.HasExample() {
		fmt.Fprintf(w, "\nExamples:\n%s\n", c.Example)
	}
	for _, group := range c.Groups() {
		fmt.Fprintf(w, "\n%s\n", group.Title)
		for _, sub := range c.Commands() {
			if sub.GroupID == group.ID && !sub.Hidden {
				printShort(w, sub)
			}
		}
	}
	if c.HasAvailableLocalFlags() {
		fmt.Fprintf(w, "\nFlags:\n%s", c.LocalFlags().FlagUsagesWrapped(helpWidth))
	}
	if c.HasAvailableInheritedFlags() {
		fmt.Fprintf(w, "\nFlags of all commands:\n%s", c.InheritedFlags().FlagUsagesWrapped(helpWidth))
	}
	if c.HasHelpSubCommands() {
		fmt.Fprint(w, "\nMore help, with 'replay-tool help TOPIC':\n")
		for _, sub := range c.Commands() {
			if sub.IsAdditionalHelpTopicCommand() {
				printShort(w, sub)
			}
		}
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\nFor a command, run '%s COMMAND --help'.\n", c.CommandPath())
	}
	return nil
}

// printShort prints the name of a command and its short description.
func printShort(w io.Writer, c *cobra.Command) {
	const nameWidth = 14
	name := c.Name()
	for _, line := range wrap(c.Short, helpWidth-nameWidth-2) {
		fmt.Fprintf(w, "  %-*s%s\n", nameWidth, name, line)
		name = ""
	}
}

// unknownCommand returns the error for a command that does not exist, with the most similar one.
func unknownCommand(root *cobra.Command, name string) error {
	similar := root.SuggestionsFor(name)
	for _, c := range root.Commands() { // cobra suggests no topics
		if c.IsAdditionalHelpTopicCommand() && strings.HasPrefix(c.Name(), name) {
			similar = append(similar, c.Name())
		}
	}
	if len(similar) > 0 {
		return usageErrorf("unknown command %q. Did you mean %q? To list all commands, run 'replay-tool --help'", name, similar[0])
	}
	return usageErrorf("unknown command %q: choose one from 'replay-tool --help'", name)
}

// helpTopics returns the topics that 'replay-tool help TOPIC' prints.
func helpTopics() []*cobra.Command {
	return []*cobra.Command{
		{
			Use:   "exit-codes",
			Short: "The exit codes and which of them is used if several apply",
			Long: exitCodesHelp + `

If several codes apply, the first of 1, 8, 3, 7, 9, 4, 6 is used. The exit code
of a command that does not read the whole log covers the segments that it read.
It prints how many were not checked. Only 'replay-tool verify' checks all bytes.`,
		},
		{
			Use:   "formatting",
			Short: "Width, color, JSON and short ids",
			Long: `Width. Tables fit the terminal. COLUMNS and --width override its width. Columns
that do not fit are left out, and free text is cut with "…". --wide prints all.
On a pipe lines may have any length. There is no pager.

Color. --color auto uses color on a terminal, unless NO_COLOR is set or TERM is
dumb. Words and the signs !, ? and > mean the same as the colors.

JSON. -o ndjson prints one value per line, -o json one document. JSON has all
values of the tables, in full length. With --json-strings its numbers are strings.

Ids. Tables show the last 6 digits of an id, or more if several ids have the same
end. Each command that takes an id takes a beginning, or an end of at least 4
digits. --vshard N is the newest migration of vShard N.`,
		},
		{
			Use:   "times",
			Short: "The forms of times and of points in the history",
			Long: fmt.Sprintf(`Times are printed in the zone of --tz, which is UTC without this flag. --time
relative and --time raw print other forms.

A time can be given as
  02:10, 02:10:04.3        on the day of the last event of the log
  -5m, 5m, -20s, -2d3h     before the last event of the log
  now, now-5m              by the clock of this machine
  2026-11-23T14:05:00Z, '2026-11-23 14:05', 2026-11-23
  %d            Unix milliseconds
Without a zone in it, a time is in the zone of --tz.

A point (--at) is a time, or
  '#9402'                  after the event with this number
  ID@Cutover               before the first Cutover of the migration's newest
                           incarnation that has one`, uint64(1795399805305)),
		},
	}
}

// exitCodesHelp is a part of --help.
const exitCodesHelp = `Exit codes:
  0  clean                   6  nothing matched
  1  I/O error               7  the command has findings
  2  wrong usage or input    8  the log is in a newer format
  3  the log is damaged      9  only harmless findings, such as a foreign file
  4  only a torn tail        130  interrupted
  5  another writer has the log open`
