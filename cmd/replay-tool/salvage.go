package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

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

Segments are copied byte for byte. Sequence numbers, gaps and damage stay. NEW is
verified at the end, and the exit code is that of 'replay-tool verify NEW'.
NEW/MANIFEST.salvage.json lists every event that could not be saved.`,
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
	LeftBehind        uint64        `json:"events_left_behind"`
	RowsAffected      int           `json:"rows_affected"` // rows in doubt
	List              string        `json:"list"`          // path of the list of the events left behind
	SuggestedNext     string        `json:"suggested_next"`
}

// salvageList is the content of eventlog.SalvageListName.
type salvageList struct {
	Tool            string            `json:"tool_version"`
	SalvagedAt      string            `json:"salvaged_at"` // RFC 3339, UTC
	Source          string            `json:"source"`      // absolute path
	UUID            string            `json:"uuid"`        // of the copy
	NewUUID         bool              `json:"new_uuid"`
	Segments        int               `json:"segments"`
	Snapshots       int               `json:"snapshots"`
	SizeBytes       int64             `json:"size_bytes"`
	FramesOK        uint64            `json:"frames_ok"`
	LeftBehindCount uint64            `json:"events_left_behind"`
	Acknowledged    []replay.SeqRange `json:"acknowledged"` // those known to have been acknowledged
	RowsAffected    int               `json:"rows_affected"`
	UnnamedInDoubt  bool              `json:"unnamed_in_doubt"` // also migrations without a row may be affected
	LeftBehind      []replay.Damage   `json:"left_behind"`      // each place in the source whose events could not be read
	FilesLeftOut    []string          `json:"files_left_out"`
}

// listOf returns the list of the events that a salvaged log lacks.
func listOf(r salvageResult, now time.Time) (salvageList, error) {
	source, err := filepath.Abs(r.Dir)
	list := salvageList{
		Tool: versionOf().Version, SalvagedAt: now.UTC().Format(time.RFC3339), Source: source, UUID: r.UUID, NewUUID: r.NewUUID,
		Segments: r.Segments, Snapshots: r.Snapshots, SizeBytes: r.SizeBytes, FramesOK: r.Report.FramesOK,
		LeftBehindCount: r.LeftBehind, Acknowledged: append([]replay.SeqRange{}, r.Report.AcknowledgedLost...),
		RowsAffected: r.RowsAffected, UnnamedInDoubt: r.Report.UnnamedInDoubt, LeftBehind: []replay.Damage{}, FilesLeftOut: r.LeftOut,
	}
	for _, d := range r.Report.Damage {
		if d.Lost() > 0 {
			list.LeftBehind = append(list.LeftBehind, d)
		}
	}
	return list, err
}

// writeList writes the list into the copy.
func writeList(r salvageResult, now time.Time) error {
	list, err := listOf(r, now)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(list, "", "  ")
	if err == nil {
		err = eventlog.WriteSalvageList(r.Out, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("%s is complete, and has %s, but the list of the events left behind cannot be written: %w. Free some space. To see the same list, run 'replay-tool verify %s'",
			r.Out, count(r.Report.FramesOK, "event"), err, quoted(r.Out))
	}
	return nil
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
	v, isReplica, err := t.verifyLog(ctx, out)
	if err != nil {
		return fmt.Errorf("%s is complete, but cannot be verified: %w", out, err)
	}
	result := salvageResult{
		Dir: dir, Out: out, UUID: s.UUID.String(), NewUUID: s.NewUUID, ManifestIntact: s.ManifestIntact,
		FramesAgree: s.Frames, FramesDisagree: s.OtherFrames, FramesOfOtherLogs: s.OtherLogs, FilesAgree: s.Files,
		Watermark: s.Watermark, Segments: s.Segments, Snapshots: s.Snapshots, SizeBytes: s.SizeBytes,
		LeftOut: append([]string{}, s.LeftOut...), Report: v.Report,
		LeftBehind: v.Report.LostCount(), RowsAffected: len(v.InDoubt), List: filepath.Join(out, eventlog.SalvageListName), SuggestedNext: "replay-tool info " + quoted(out),
	}
	if err := writeList(result, time.Now()); err != nil {
		return err
	}
	err = t.writeValue(result, func() {
		t.salvageText(result)
		t.verifyText(v, verifyOptions{isReplica: isReplica})
		t.suggestSnapshot(out, result.Report)
		t.paragraph(stylePlain, "list of the events left behind: "+quoted(result.List))
		t.paragraph(stylePlain, fmt.Sprintf("%s left behind, %s affected%s", count(result.LeftBehind, "event"), count(result.RowsAffected, "row"), unnamedText(result.Report)))
		t.statusf("next: %s", result.SuggestedNext)
	})
	if err != nil {
		return err
	}
	return reportExit(result.Report)
}

// unnamedText continues a line about the rows affected by a loss.
func unnamedText(r replay.Report) string {
	if r.UnnamedInDoubt {
		return ", and migrations without a row may be affected too"
	}
	return ""
}

// maxLeftOutShown limits the list of files in the text. The JSON has all of them.
const maxLeftOutShown = 10

func (t *tool) salvageText(s salvageResult) {
	line := func(format string, args ...any) { t.paragraph(stylePlain, fmt.Sprintf(format, args...)) }
	line("copied %s and %s, %s, to %s", count(s.Segments, "segment"), count(s.Snapshots, "snapshot"), count(uint64(s.SizeBytes), "byte"), quoted(s.Out))
	line("evidence: %s and %s with the log's fingerprint",
		count(s.FramesAgree, "frame"), count(s.FilesAgree, "other file"))
	if s.FramesDisagree > 0 {
		line("warning: %s with another fingerprint: %d of other logs, %d with damaged headers",
			count(s.FramesDisagree, "frame"), s.FramesOfOtherLogs, s.FramesDisagree-s.FramesOfOtherLogs)
	}
	if s.FramesAgree == 1 && s.FilesAgree == 0 && s.NewUUID {
		line("warning: only one frame identifies the log. If its header is damaged, its number may be wrong: compare the event with the cluster")
	}
	switch {
	case s.ManifestIntact:
		line("manifest: intact and copied. The copy is the same log, %s", s.UUID)
	case s.NewUUID:
		line("manifest: lost. The copy has a new id, %s. Its skipped numbers are lost too: they may be reported as acknowledged and lost", s.UUID)
	default:
		line("manifest: damaged. The copy has the id that it contains, %s. Its skipped numbers are lost: they may be reported as acknowledged and lost", s.UUID)
	}
	if s.Watermark == nil {
		line("watermark: none is intact. Events after the last frame of the copy may be lost, and nothing shows it")
	} else {
		line("watermark: %d", *s.Watermark)
	}
	for _, name := range s.LeftOut[:min(len(s.LeftOut), maxLeftOutShown)] {
		line("not copied: %s", strconv.Quote(name))
	}
	if n := len(s.LeftOut) - maxLeftOutShown; n > 0 {
		line("not copied: %d more (see 'salvage -o json')", n)
	}
}
