package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
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
		Short: "Show a summary: size, events, times, rows, damage, the writer and the next command to run",
		Long: `Show a summary: size, events, times, rows, damage, the writer and the next
command to run.

"bytes whole" is about the files: no byte is damaged and no event is lost. It says
nothing about the moves.`,
		Example: `  replay-tool info log
  replay-tool info log -o json`,
		Args: argCount(1, 1),
		RunE: func(c *cobra.Command, args []string) error { return t.runInfo(c.Context(), args[0]) },
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
	Begins      *beginningJSON         `json:"history_begins,omitempty"`
	LastIndex   uint64                 `json:"last_raft_index,omitempty"`
	Events      map[replay.Kind]uint64 `json:"events"`
	EarliestMS  uint64                 `json:"earliest_ms"`
	LatestMS    uint64                 `json:"latest_ms"`
	SpanMS      uint64                 `json:"span_ms"`
	AgeMS       int64                  `json:"age_ms"` // of the latest clock, by the clock of this machine
	Rows        int                    `json:"rows"`
	RowsByPhase map[string]int         `json:"rows_by_phase"`
	InFlight    int                    `json:"in_flight"`    // rows that are not at Complete
	WriterAlive *bool                  `json:"writer_alive"` // null: not known
	WriterPID   int                    `json:"writer_pid,omitempty"`
	// The process in LOCK. It has the log open, or had it open when it was killed.
	LockNamesPID    string `json:"lock_names_pid"`
	LockNamesHost   string `json:"lock_names_host"`
	LockNamesBootID string `json:"lock_names_boot_id"`
	// QuarantinedFiles is the number of files in quarantine/, from all repairs so far.
	QuarantinedFiles int `json:"quarantined_files"`

	Report        replay.Report `json:"report"`
	SuggestedNext string        `json:"suggested_next"`

	begin    replay.Beginning
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
		Dir: dir, UUID: m.UUID.String(), Format: m.Format(), Created: m.Created.Format("2006-01-02T15:04:05Z"),
		Events: map[replay.Kind]uint64{}, RowsByPhase: map[string]int{},
	}
	fold, err := t.fold(ctx, dir, func(_ *replay.Fold, r replay.Record) error {
		s.count(r)
		return nil
	})
	if err != nil {
		return err
	}
	if s.begin, err = reader.Beginning(); err != nil {
		return err
	}
	s.Begins = beginningOf(s.begin)
	s.Report = fold.Report()
	for r := range fold.View.Rows() {
		s.Rows++
		s.RowsByPhase[r.Checkpoint.Phase().String()]++
		if isInFlight(r) {
			s.InFlight++
		}
	}
	s.SpanMS = s.LatestMS - s.EarliestMS
	s.AgeMS = int64(wallMS()) - int64(min(s.LatestMS, math.MaxInt64))
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
	s.LastIndex = max(s.LastIndex, r.RaftIndex)
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
	if w := eventlog.FindWriter(dir); w.Known {
		s.WriterAlive, s.WriterPID = &w.Alive, w.PID
	}
	return nil
}

func (s *infoScreen) suggest() {
	next := "triage"
	switch {
	case !s.Report.Clean():
		next = "verify"
	case s.Rows == 0:
		next = "log"
	}
	s.SuggestedNext = fmt.Sprintf("replay-tool %s %s", next, quoted(s.Dir))
}

// infoLabelWidth is the width of the names in front of the lines.
const infoLabelWidth = 11

// infoLine prints a line with its name. If it does not fit, it continues below.
func (t *tool) infoLine(look style, label, format string, args ...any) {
	width := t.width()
	if width == 0 {
		width = math.MaxInt
	}
	for i, line := range wrap(fmt.Sprintf(format, args...), max(width-infoLabelWidth, 1)) {
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(t.stdout, "%-*s%s\n", infoLabelWidth, label, t.paint(look, line))
	}
}

func (t *tool) infoText(s infoScreen) {
	r := s.Report
	t.infoLine(stylePlain, "log", "%s, format %d", s.UUID, s.Format)
	t.infoLine(stylePlain, "created", "%s", s.Created)
	t.infoLine(stylePlain, "size", "%s in %s", count(uint64(s.SizeBytes), "byte"), count(s.Segments, "segment"))
	t.infoEvents(s)
	t.infoRows(s)
	if r.Epoch > 0 {
		t.infoLine(stylePlain, "epoch", "%d%s", r.Epoch, epochDoubt(r))
	}
	if writer := s.writerText(); writer != "" {
		t.infoLine(stylePlain, "writer", "%s", writer)
	}
	t.infoDamage(r)
	if s.QuarantinedFiles > 0 {
		t.infoLine(stylePlain, "quarantine", "%s in quarantine/, kept by repairs, each with a report (.json)", count(s.QuarantinedFiles, "file"))
	}
	fmt.Fprintf(t.stdout, "%-*s%s\n", infoLabelWidth, "next", s.SuggestedNext) // one line, to be copied
}

func (t *tool) infoEvents(s infoScreen) {
	r := s.Report
	if r.FramesOK == 0 {
		t.infoLine(stylePlain, "events", "0")
		return
	}
	text := fmt.Sprintf("%d, seq %d to %d: %s, %s, %s", r.FramesOK, r.FirstSeq, r.LastSeq, count(s.Events[replay.KindCheckpoint], "checkpoint"),
		count(s.Events[replay.KindAbort], "abort"), count(s.Events[replay.KindRemove], "removal"))
	for _, kind := range []replay.Kind{replay.KindAbortBegun, replay.KindCompensated, replay.KindEpochRaised, replay.KindDigest, replay.KindRestored} {
		if n := s.Events[kind]; n > 0 {
			text += fmt.Sprintf(", %d %s", n, kind)
		}
	}
	t.infoLine(stylePlain, "events", "%s", text)
	if s.LastIndex > 0 {
		t.infoLine(stylePlain, "raft index", "%d at the last event", s.LastIndex)
	}
	if text := t.beginningText(s.begin); text != "" {
		t.infoLine(stylePlain, "history", "%s", strings.TrimPrefix(text, "history "))
	}
	clock := t.clock()
	age := "the last event is later than the clock of this machine"
	if s.AgeMS >= 0 {
		age = "last event " + shortSpan(uint64(s.AgeMS)) + " ago"
	}
	t.infoLine(stylePlain, "times", "%s to %s", clock.show(s.EarliestMS), clock.show(s.LatestMS))
	t.infoLine(stylePlain, "", "%s, %s", shortSpan(s.SpanMS), age)
}

func (t *tool) infoRows(s infoScreen) {
	if s.Rows == 0 {
		t.infoLine(stylePlain, "rows", "0")
		return
	}
	var phases []string
	for phase := checkpoint.PhaseAddLearner; phase < checkpoint.PhaseComplete; phase++ {
		if n := s.RowsByPhase[phase.String()]; n > 0 {
			phases = append(phases, fmt.Sprintf("%d at %s", n, phase))
		}
	}
	look, inFlight := stylePlain, fmt.Sprintf("%d in flight", s.InFlight)
	if s.InFlight > 0 {
		look = styleBold
		inFlight += " (" + strings.Join(phases, ", ") + ")"
	}
	t.infoLine(look, "rows", "%s, %d Complete and not removed", inFlight, s.Rows-s.InFlight)
}

// writerText describes the process that has the log open, or the last one if it did not close the
// log. It returns "" if LOCK names no process and the holder of the lock is not known.
func (s *infoScreen) writerText() string {
	named := s.holder.PID != 0
	switch {
	case s.WriterPID != 0 && named && s.holder.PID == s.WriterPID:
		return s.holder.String() + " has the log open"
	case s.WriterPID != 0:
		return fmt.Sprintf("process %d has the log open", s.WriterPID)
	case named && s.holder.Restarted():
		return s.holder.String() + " had the log open when the machine stopped"
	case named && s.WriterAlive != nil:
		return s.holder.String() + " had the log open when it was killed. No process has it open now"
	case named:
		return s.holder.String() + " has the log open, or had it open when it was killed"
	case strings.TrimSpace(s.lockText) != "":
		return fmt.Sprintf("LOCK names no process. It begins with %.40q", s.lockText)
	case s.WriterAlive != nil:
		return "no process has the log open"
	}
	return ""
}

func (t *tool) infoDamage(r replay.Report) {
	switch {
	case r.Damaged():
		lost := "0 events known to be lost" // damage that endangers events can hide a loss
		if n := r.LostCount(); n > 0 {
			lost = count(n, "event") + " lost"
		}
		t.infoLine(styleError, "bytes", "DAMAGED in %s: %s, %s in doubt%s",
			count(len(r.Damage)-r.CountFindings(segment.Harmless), "place"), lost, count(len(r.InDoubt), "migration"), unnamedInDoubt(r))
	case len(r.Damage) > 0:
		t.infoLine(stylePlain, "bytes", "no event lost or endangered, %s", count(len(r.Damage), "harmless finding"))
	case r.TornTail != nil:
		t.infoLine(stylePlain, "bytes", "only a torn tail")
	default:
		t.infoLine(stylePlain, "bytes", "whole")
	}
	if r.TornTail != nil {
		t.infoLine(stylePlain, "torn tail", "%s: %s", count(uint64(r.TornTail.Length), "byte"), tornExplanation)
	}
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
