package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"migrationlog/checkpoint"
	"migrationlog/eventlog"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

func (t *tool) info() *cobra.Command {
	return &cobra.Command{
		Use:   "info DIR",
		Short: "Show a summary: size, events, times, rows, health and the next command to run",
		Args:  argCount(1, 1),
		RunE:  func(c *cobra.Command, args []string) error { return t.runInfo(c.Context(), args[0]) },
	}
}

// infoScreen is the output of `info -o json`.
type infoScreen struct {
	Dir         string                 `json:"dir"`
	UUID        string                 `json:"uuid"`
	Format      int                    `json:"format"`
	Created     string                 `json:"created"`
	Segments    int                    `json:"segments"`
	SizeBytes   int64                  `json:"size_bytes"`
	Events      map[replay.Kind]uint64 `json:"events"`
	EarliestMS  uint64                 `json:"earliest_ms"`
	LatestMS    uint64                 `json:"latest_ms"`
	Rows        int                    `json:"rows"`
	RowsByPhase map[string]int         `json:"rows_by_phase"`
	// The process in LOCK. It has the log open, or had it open when it was killed.
	LockNamesPID    string `json:"lock_names_pid"`
	LockNamesHost   string `json:"lock_names_host"`
	LockNamesBootID string `json:"lock_names_boot_id"`
	// QuarantinedFiles is the number of files in quarantine/, from all repairs so far.
	QuarantinedFiles int `json:"quarantined_files"`

	Report        replay.Report `json:"report"`
	SuggestedNext string        `json:"suggested_next"`

	holder   eventlog.Holder // zero if LOCK names no process
	lockText string          // the beginning of LOCK
}

func (t *tool) runInfo(ctx context.Context, dir string) error {
	reader, err := replay.Open(dir)
	if err != nil {
		return err
	}
	m := reader.Manifest()
	s := infoScreen{
		Dir: dir, UUID: m.UUID.String(), Format: segment.FormatVersion, Created: m.Created.Format("2006-01-02T15:04:05Z"),
		Events: map[replay.Kind]uint64{}, RowsByPhase: map[string]int{},
	}
	fold, err := t.fold(ctx, dir, func(_ *replay.Fold, r replay.Record) error {
		s.count(r)
		return nil
	})
	if err != nil {
		return err
	}
	s.Report = fold.Report()
	for _, r := range fold.View.All() {
		s.Rows++
		s.RowsByPhase[r.Checkpoint.Phase().String()]++
	}
	if err := s.readFiles(dir); err != nil {
		return err
	}
	s.suggest()
	if err := t.writeValue(s, func() { t.infoText(s) }); err != nil {
		return err
	}
	return reportExit(s.Report)
}

func (s *infoScreen) count(r replay.Record) {
	s.Events[r.Kind()]++
	if ms := r.WallMS(); ms != 0 {
		if s.EarliestMS == 0 || ms < s.EarliestMS {
			s.EarliestMS = ms
		}
		s.LatestMS = max(s.LatestMS, ms)
	}
}

func (s *infoScreen) readFiles(dir string) error {
	names, err := segment.Names(os.DirFS(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.Segments = len(names)
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, segment.WALDir, name))
		if err != nil {
			return err
		}
		s.SizeBytes += info.Size()
	}
	kept, err := os.ReadDir(filepath.Join(dir, eventlog.QuarantineDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range kept {
		if strings.HasSuffix(e.Name(), ".json") {
			s.QuarantinedFiles++
		}
	}
	var named bool
	if s.holder, s.lockText, named = eventlog.ReadHolder(dir); named {
		s.LockNamesPID = strconv.Itoa(s.holder.PID)
		s.LockNamesHost, s.LockNamesBootID = s.holder.Host, s.holder.BootID
	}
	return nil
}

func (s *infoScreen) suggest() {
	next := "state"
	switch {
	case !s.Report.Clean():
		next = "verify"
	case s.Rows == 0:
		next = "log"
	}
	s.SuggestedNext = fmt.Sprintf("replay-tool %s %s", next, quoted(s.Dir))
}

func (t *tool) infoText(s infoScreen) {
	w, r, clock := t.stdout, s.Report, t.clock()
	fmt.Fprintf(w, "log        %s, format %d, created %s\n", s.UUID, s.Format, s.Created)
	fmt.Fprintf(w, "size       %s in %s\n", count(uint64(s.SizeBytes), "byte"), count(s.Segments, "segment"))
	fmt.Fprintf(w, "events     %d", r.FramesOK)
	if r.FramesOK > 0 {
		fmt.Fprintf(w, ", seq %d to %d: %s, %s, %s", r.FirstSeq, r.LastSeq, count(s.Events[replay.KindCheckpoint], "checkpoint"),
			count(s.Events[replay.KindAbort], "abort"), count(s.Events[replay.KindRemove], "removal"))
		for _, kind := range []replay.Kind{replay.KindAbortBegun, replay.KindCompensated, replay.KindEpochRaised} {
			if n := s.Events[kind]; n > 0 {
				fmt.Fprintf(w, ", %d %s", n, kind)
			}
		}
		fmt.Fprintf(w, "\ntimes      %s to %s", clock.show(s.EarliestMS), clock.show(s.LatestMS))
	}
	fmt.Fprintf(w, "\nmigrations %d with a row", s.Rows)
	sep := ": "
	for phase := checkpoint.PhaseAddLearner; phase <= checkpoint.PhaseComplete; phase++ {
		if n := s.RowsByPhase[phase.String()]; n > 0 {
			fmt.Fprintf(w, "%s%d at %s", sep, n, phase)
			sep = ", "
		}
	}
	fmt.Fprintln(w)
	if r.Epoch > 0 {
		fmt.Fprintf(w, "epoch      %d%s\n", r.Epoch, epochDoubt(r))
	}
	switch {
	case s.holder.PID != 0 && s.holder.Restarted():
		fmt.Fprintf(w, "writer     %s had the log open when the machine stopped\n", s.holder)
	case s.holder.PID != 0:
		fmt.Fprintf(w, "writer     %s has the log open, or had it open when it was killed\n", s.holder)
	case strings.TrimSpace(s.lockText) != "":
		fmt.Fprintf(w, "writer     LOCK names no process. It begins with %.40q\n", s.lockText)
	}
	switch {
	case r.Damaged():
		lost := "0 events known to be lost" // damage that endangers events can hide a loss
		if n := r.LostCount(); n > 0 {
			lost = count(n, "event") + " lost"
		}
		fmt.Fprintf(w, "health     DAMAGED in %s: %s, %s in doubt%s\n",
			count(len(r.Damage)-r.CountFindings(segment.Harmless), "place"), lost, count(len(r.InDoubt), "migration"), unnamedInDoubt(r))
	case len(r.Damage) > 0:
		fmt.Fprintf(w, "health     no event lost or endangered, %s\n", count(len(r.Damage), "harmless finding"))
	case r.TornTail != nil:
		fmt.Fprintf(w, "health     only a torn tail\n")
	default:
		fmt.Fprintf(w, "health     clean\n")
	}
	if r.TornTail != nil {
		fmt.Fprintf(w, "torn tail  %s: %s\n", count(uint64(r.TornTail.Length), "byte"), tornExplanation)
	}
	if s.QuarantinedFiles > 0 {
		fmt.Fprintf(w, "quarantine %s in quarantine/, kept by repairs, each with a report (.json)\n", count(s.QuarantinedFiles, "file"))
	}
	fmt.Fprintf(w, "next       %s\n", s.SuggestedNext)
}

func epochDoubt(r replay.Report) string {
	if r.EpochUncertain {
		return " (a lost event may have had a higher one)"
	}
	return ""
}

func unnamedInDoubt(r replay.Report) string {
	if r.UnnamedInDoubt {
		return ", possibly also migrations without a row"
	}
	return ""
}
