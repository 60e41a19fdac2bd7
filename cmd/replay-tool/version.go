package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"migrationlog/eventlog/segment"
)

func (t *tool) version() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this program and of the log format that it writes",
		Example: `  replay-tool version`,
		Args:    argCount(0, 0),
		RunE: func(*cobra.Command, []string) error {
			v := versionOf()
			return t.writeValue(v, func() {
				fmt.Fprintf(t.stdout, "replay-tool %s, log format %d, %s\n", v.Version, v.Format, v.Go)
			})
		},
	}
}

// versionJSON is the output of version -o json.
type versionJSON struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	Format  int    `json:"format"`
}

// versionOf returns the version of this program.
func versionOf() versionJSON {
	v := versionJSON{"(devel)", "", segment.FormatVersion}
	if info, ok := debug.ReadBuildInfo(); ok {
		v.Go = info.GoVersion
		if info.Main.Version != "" {
			v.Version = info.Main.Version
		}
	}
	return v
}
