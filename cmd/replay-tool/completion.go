package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/replay"
)

const (
	completionTime = 500 * time.Millisecond // maximum time for reading a log
	maxCompletions = 200
)

// addCompletion adds the values that a shell completes. A command takes a directory first, and then
// the ids of its log. The other flags have fixed values.
func (t *tool) addCompletion(root *cobra.Command) {
	completeFlag(root, "output", outputTable, outputJSON, outputNDJSON)
	completeFlag(root, "time", timeISO, timeRelative, timeRaw)
	completeFlag(root, "color", colorAuto, colorAlways, colorNever)
	completeFlag(root, "tz", "UTC", "local")
	var phases, kinds []string
	for phase := checkpoint.PhaseAddLearner; phase <= checkpoint.PhaseComplete; phase++ {
		phases = append(phases, phase.String())
	}
	for _, kind := range replay.Kinds {
		kinds = append(kinds, string(kind))
	}
	for _, c := range root.Commands() {
		if c.ValidArgsFunction == nil && strings.Contains(c.Use, " DIR") {
			c.ValidArgsFunction = completeDirThenID
		}
		completeFlag(c, "phase", phases...)
		completeFlag(c, "kind", kinds...)
		if c.Flags().Lookup("migration") != nil {
			_ = c.RegisterFlagCompletionFunc("migration", func(_ *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
				return completeIDs(args, part)
			})
		}
	}
}

// completeFlag sets the values of a flag, if the command has it and no completion was set before.
func completeFlag(c *cobra.Command, name string, values ...string) {
	if c.Flags().Lookup(name) != nil || c.PersistentFlags().Lookup(name) != nil {
		_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
}

func completeDirThenID(c *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
	switch {
	case len(args) == 0:
		return nil, cobra.ShellCompDirectiveFilterDirs
	case len(args) == 1 && (strings.Contains(c.Use, "MIGRATION") || strings.Contains(c.Use, "ID")):
		return completeIDs(args, part)
	case len(args) == 1 && strings.Contains(c.Use, "FILE"):
		return nil, cobra.ShellCompDirectiveDefault
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// completeIDs returns the ids of the log in the first argument that begin with part. It offers the
// short forms, or whole ids if only those begin with part. The migrations with a row come first. If the
// log cannot be read in completionTime, it returns the ids that it has found.
func completeIDs(args []string, part string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	reader, err := replay.Open(args[0])
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c := completion{part: strings.ToLower(part), ids: shortestIDs(nil)}
	if fold, err := reader.FoldTo(ctx, replay.Point{}); err == nil {
		c.rows = fold.View.All()
	}
	slices.SortStableFunc(c.rows, compareRows)
	for _, r := range c.rows {
		c.ids.add(r.Checkpoint.MigrationID)
		c.endMS = max(c.endMS, r.Checkpoint.TimestampMS)
	}
	if ms, err := lastEventMS(ctx, reader); err == nil {
		c.endMS = max(c.endMS, ms)
	}
	if part != "" { // without it, there are too many
		c.ended, _ = reader.FindIDs(ctx, func(id checkpoint.MigrationID) bool { return c.textOf(id) != "" }, nil)
	}
	return c.list(), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// completion has the migrations of a log whose ids may be completed.
type completion struct {
	part  string
	ids   shortIDs // of the rows
	rows  []projection.Row
	endMS uint64
	ended []checkpoint.MigrationID // ended migrations, and also some with a row
}

// textOf returns the form of an id that begins with part, or "".
func (c *completion) textOf(id checkpoint.MigrationID) string {
	for _, text := range []string{c.ids.of(id), id.String()} {
		if strings.HasPrefix(text, c.part) {
			return text
		}
	}
	return ""
}

func (c *completion) list() (found []string) {
	listed := map[checkpoint.MigrationID]bool{}
	add := func(id checkpoint.MigrationID, description string) {
		if text := c.textOf(id); text != "" && len(found) < maxCompletions && !listed[id] {
			found = append(found, text+"\t"+description)
		}
		listed[id] = true
	}
	for _, id := range c.ended {
		c.ids.add(id)
	}
	for _, r := range c.rows {
		add(r.Checkpoint.MigrationID, rowDescription(r, c.endMS))
	}
	for _, id := range c.ended {
		add(id, "ended")
	}
	return found
}
