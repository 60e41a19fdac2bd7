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
// short forms, or whole ids if only those begin with part. If the log cannot be read in
// completionTime, it returns the rows that it has read, or none.
func completeIDs(args []string, part string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	view, endMS := viewForCompletion(args[0])
	if view == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	rows := slices.Collect(view.Rows())
	slices.SortStableFunc(rows, func(a, b projection.Row) int { return compareRows(a, b) })
	ids := shortestIDs(nil)
	for _, r := range rows {
		ids.add(r.Checkpoint.MigrationID)
	}
	part = strings.ToLower(part)
	var found []string
	for _, r := range rows {
		c := r.Checkpoint
		text := ids.of(c.MigrationID)
		if !strings.HasPrefix(text, part) {
			if text = c.MigrationID.String(); !strings.HasPrefix(text, part) {
				continue
			}
		}
		found = append(found, text+"\t"+rowDescription(r, endMS))
		if len(found) == maxCompletions {
			break
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// viewForCompletion returns the rows of a log and its highest clock. It returns nil if the log cannot
// be read.
func viewForCompletion(dir string) (*projection.View, uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	reader, err := replay.Open(dir)
	if err != nil {
		return nil, 0
	}
	fold, endMS := reader.NewFold(), uint64(0)
	for r, err := range reader.Records(ctx, replay.Query{}) {
		if err != nil {
			break
		}
		fold.Add(r)
		endMS = max(endMS, r.WallMS())
	}
	return fold.View, endMS
}
