package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"migrationlog/eventlog"
	"migrationlog/replay"
)

func (t *tool) salvage() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "salvage DIR --out NEW",
		Short: "Copy a log whose manifest is lost, or its rescued segments, into a new directory",
		Long: `Copy a log whose manifest is lost, or its rescued segments, into a new directory.

DIR is the directory of a log, its wal/, or a directory with segment files. It
is never changed. Stop the coordinator first. NEW is a new or empty directory.

Segments are copied byte for byte. Sequence numbers, gaps and damage stay.
The exit code is that of 'replay-tool verify NEW'.`,
		Example: `  replay-tool salvage log --out rescued`,
		Args:    argCount(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if out == "" {
				return usageErrorf("no --out: give a new directory (usage: %s)", c.UseLine())
			}
			return t.runSalvage(c.Context(), args[0], out)
		},
	}
	c.Flags().StringVar(&out, "out", "", "new or empty `directory` for the copy")
	return c
}

// salvageResult is the output of `salvage -o json`.
type salvageResult struct {
	Dir               string        `json:"dir"`
	Out               string        `json:"out"`
	UUID              string        `json:"uuid"`
	NewUUID           bool          `json:"new_uuid"`             // no manifest had the UUID, so the copy has another
	ManifestIntact    bool          `json:"manifest_intact"`      // an intact manifest was copied
	FramesAgree       uint64        `json:"frames_agree"`         // frames with the log's fingerprint
	FramesDisagree    uint64        `json:"frames_disagree"`      // other frames with an intact body
	FramesOfOtherLogs uint64        `json:"frames_of_other_logs"` // the FramesDisagree of other logs
	FilesAgree        int           `json:"files_agree"`          // watermarks and snapshots that fit
	Watermark         *uint64       `json:"watermark"`            // null if no watermark file is intact
	Segments          int           `json:"segments"`
	Snapshots         int           `json:"snapshots"`
	SizeBytes         int64         `json:"size_bytes"`
	LeftOut           []string      `json:"left_out"` // files that were not copied
	Report            replay.Report `json:"report"`   // of the copy
	SuggestedNext     string        `json:"suggested_next"`
}

func (t *tool) runSalvage(ctx context.Context, dir, out string) error {
	p := t.progress("bytes read:")
	var bytes uint64
	s, err := eventlog.Salvage(ctx, dir, out, eventlog.SalvageOptions{Progress: func(n int64) {
		bytes += uint64(n)
		p.update(bytes)
	}})
	p.end()
	if errors.Is(err, eventlog.ErrOutDir) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	v, err := t.verifyLog(ctx, out)
	if err != nil {
		return fmt.Errorf("%s is complete, but cannot be verified: %w", out, err)
	}
	result := salvageResult{
		Dir: dir, Out: out, UUID: s.UUID.String(), NewUUID: s.NewUUID, ManifestIntact: s.ManifestIntact,
		FramesAgree: s.Frames, FramesDisagree: s.OtherFrames, FramesOfOtherLogs: s.OtherLogs, FilesAgree: s.Files,
		Watermark: s.Watermark, Segments: s.Segments, Snapshots: s.Snapshots, SizeBytes: s.SizeBytes,
		LeftOut: append([]string{}, s.LeftOut...), Report: v.Report, SuggestedNext: "replay-tool info " + quoted(out),
	}
	err = t.writeValue(result, func() {
		salvageText(t.stdout, result)
		t.verifyText(v, verifyOptions{})
		t.suggestSnapshot(out, result.Report)
		t.statusf("next: %s", result.SuggestedNext)
	})
	if err != nil {
		return err
	}
	return reportExit(result.Report)
}

// maxLeftOutShown limits the list of files in the text. The JSON has all of them.
const maxLeftOutShown = 10

func salvageText(w io.Writer, s salvageResult) {
	fmt.Fprintf(w, "copied %s and %s, %s, to %s\n", count(s.Segments, "segment"), count(s.Snapshots, "snapshot"), count(uint64(s.SizeBytes), "byte"), quoted(s.Out))
	fmt.Fprintf(w, "evidence: %s and %s with the log's fingerprint\n",
		count(s.FramesAgree, "frame"), count(s.FilesAgree, "other file"))
	if s.FramesDisagree > 0 {
		fmt.Fprintf(w, "warning: %s with another fingerprint: %d of other logs, %d with damaged headers\n",
			count(s.FramesDisagree, "frame"), s.FramesOfOtherLogs, s.FramesDisagree-s.FramesOfOtherLogs)
	}
	if s.FramesAgree == 1 && s.FilesAgree == 0 && s.NewUUID {
		fmt.Fprintln(w, "warning: only one frame identifies the log. If its header is damaged, its number may be wrong: compare the event with the cluster")
	}
	switch {
	case s.ManifestIntact:
		fmt.Fprintf(w, "manifest: intact and copied. The copy is the same log, %s\n", s.UUID)
	case s.NewUUID:
		fmt.Fprintf(w, "manifest: lost. The copy has a new id, %s. Its skipped numbers are lost too: they may be reported as acknowledged and lost\n", s.UUID)
	default:
		fmt.Fprintf(w, "manifest: damaged. The copy has the id that it contains, %s. Its skipped numbers are lost: they may be reported as acknowledged and lost\n", s.UUID)
	}
	if s.Watermark == nil {
		fmt.Fprintln(w, "watermark: none is intact. Events after the last frame of the copy may be lost, and nothing shows it")
	} else {
		fmt.Fprintf(w, "watermark: %d\n", *s.Watermark)
	}
	for _, name := range s.LeftOut[:min(len(s.LeftOut), maxLeftOutShown)] {
		fmt.Fprintf(w, "not copied: %s\n", strconv.Quote(name))
	}
	if n := len(s.LeftOut) - maxLeftOutShown; n > 0 {
		fmt.Fprintf(w, "not copied: %d more (see 'salvage -o json')\n", n)
	}
}
