package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
	"migrationlog/replay"
)

const (
	outputTable  = "table"
	outputJSON   = "json"
	outputNDJSON = "ndjson"
)

// buffered runs a command that prints many lines, and collects its output into larger writes. Data
// and messages appear in the order in which they were printed, because statusf flushes the data
// first.
func (t *tool) buffered(command func() error) error {
	buffer, stdout := t.buffer, t.stdout
	defer func() { t.buffer, t.stdout = buffer, stdout }()
	t.buffer = bufio.NewWriterSize(t.unbuffered, outputBufferBytes)
	t.setOutput(t.buffer)
	err := command()
	return cmp.Or(err, t.flush())
}

const outputBufferBytes = 64 << 10

// flush writes the buffered output.
func (t *tool) flush() error {
	if t.buffer == nil {
		return nil
	}
	return t.buffer.Flush()
}

// setOutput makes stdout write to w. The buffer must be below escapingWriter, whose input must
// consist of whole characters.
func (t *tool) setOutput(w io.Writer) {
	t.stdout = escapingWriter{w}
	if t.jsonStrings {
		t.stdout = &numberQuoter{w: t.stdout}
	}
}

// writeJSON writes one value, indented.
func (t *tool) writeJSON(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.stdout, "%s\n", b)
	return err
}

// writeValue writes one value in the format of --output. It calls text to print the value for people.
// text returns no error, because stdout keeps its first error, see run.
func (t *tool) writeValue(v any, text func()) error {
	switch t.output {
	case outputJSON:
		return t.writeJSON(v)
	case outputNDJSON:
		return writeLine(t.stdout, v)
	}
	text()
	return nil
}

// writeLines writes one line of JSON per value, or one array of all values with -o json.
func writeLines[T any](t *tool, values []T) error {
	if t.output == outputJSON {
		return t.writeJSON(append([]T{}, values...))
	}
	for _, v := range values {
		if err := writeLine(t.stdout, v); err != nil {
			return err
		}
	}
	return nil
}

func writeLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// factsJSON has the facts of a migration. A fact that is not known is null.
type factsJSON struct {
	SourceNode         *uint64         `json:"source_node"`
	TargetNode         *uint64         `json:"target_node"`
	SourceGroup        *uint64         `json:"source_group"`
	WritePauseBudgetUS *uint64         `json:"write_pause_budget_us"`
	StartedAtHLC       *checkpoint.HLC `json:"started_at_hlc"`
	SourceUncertain    bool            `json:"source_uncertain"`
	TargetUncertain    bool            `json:"target_uncertain"`

	FurthestPhase *checkpoint.Phase `json:"furthest_phase,omitempty"` // only if it is beyond the row's phase
	Targets       []targetJSON      `json:"targets,omitempty"`        // only if there is more than one
	UnknownSeq    uint64            `json:"unknown_seq,omitempty"`    // of an event of an unknown kind after the checkpoint
	Abort         *abortJSON        `json:"abort,omitempty"`          // only if an abort is under way
}

type targetJSON struct {
	GroupID uint64 `json:"group_id"`
	PeerID  uint64 `json:"peer_id"`
}

// abortJSON is an abort that was begun and is not finished.
type abortJSON struct {
	Seq    uint64     `json:"seq"` // of the event that began it
	Reason string     `json:"reason"`
	Steps  []stepJSON `json:"compensations"`
	TSMS   uint64     `json:"ts_ms"`
}

// stepJSON is a compensation in the form of NDJSON, with its progress.
type stepJSON struct {
	Kind     checkpoint.CompensationKind `json:"kind"`
	GroupID  uint64                      `json:"group_id"`
	PeerID   uint64                      `json:"peer_id"`
	VShardID uint32                      `json:"vshard_id,omitempty"`
	Done     bool                        `json:"done"`
}

// factsOf returns the facts of a migration with a row in the phase, or with phase 0 if it has no
// row.
func factsOf(f projection.Facts, phase checkpoint.Phase) factsJSON {
	out := factsJSON{SourceUncertain: f.SourceUncertain, TargetUncertain: f.TargetUncertain, UnknownSeq: f.UnknownSeq, Abort: abortOf(f.Abort)}
	if f.FurthestPhase > phase {
		out.FurthestPhase = &f.FurthestPhase
	}
	for _, t := range f.Targets {
		out.Targets = append(out.Targets, targetJSON(t))
	}
	if f.HasSource {
		out.SourceNode, out.WritePauseBudgetUS, out.StartedAtHLC = &f.SourceNode, &f.WritePauseBudgetUS, &f.StartedAtHLC
	}
	if f.HasTarget {
		out.TargetNode, out.SourceGroup = &f.TargetNode, &f.SourceGroup
	}
	return out
}

func abortOf(a *projection.AbortProgress) *abortJSON {
	if a == nil {
		return nil
	}
	out := &abortJSON{Seq: a.Seq, Reason: a.Reason, Steps: []stepJSON{}, TSMS: a.TimestampMS}
	for i, c := range a.Compensations {
		out.Steps = append(out.Steps, stepJSON{c.Kind, c.GroupID, c.PeerID, c.VShardID, a.Done[i]})
	}
	return out
}

// abortProgress describes an abort that is under way, such as "abort begun, 1 of 2 compensations
// done".
func abortProgress(a *projection.AbortProgress) string {
	done := 0
	for _, isDone := range a.Done {
		if isDone {
			done++
		}
	}
	return fmt.Sprintf("abort begun, %d of %s done", done, count(len(a.Done), "compensation"))
}

// stateRow is a row in the form that `state -o json` prints and import reads.
type stateRow struct {
	Kind        replay.Kind            `json:"kind"`
	MigrationID checkpoint.MigrationID `json:"migration_id"`
	Attempt     uint32                 `json:"attempt"`
	Phase       checkpoint.Phase       `json:"phase"`
	Payload     checkpoint.Payload     `json:"payload"`
	CRC32C      uint32                 `json:"crc32c"`
	TSMS        uint64                 `json:"ts_ms"`
	Seq         uint64                 `json:"seq"`
	RaftIndex   uint64                 `json:"raft_index,omitempty"` // of the migration's last event, if the log is replicated
	Doubt       string                 `json:"doubt,omitempty"`      // "superseded" or "in doubt"
	Facts       factsJSON              `json:"facts"`
	LastSeq     uint64                 `json:"last_seq,omitempty"` // of the migration's last event, if the row has another Seq
	ForMS       *uint64                `json:"for_ms,omitempty"`   // time in the phase; nil: not measured
	SetBy       *setBy                 `json:"set_by,omitempty"`   // only with --verbose
}

func stateRowOf(r projection.Row) stateRow {
	c := r.Checkpoint
	var lastSeq uint64
	if r.LastSeq != r.Seq {
		lastSeq = r.LastSeq
	}
	doubt := ""
	if r.Doubt != projection.None {
		doubt = r.Doubt.String()
	}
	return stateRow{
		Kind: replay.KindCheckpoint, MigrationID: c.MigrationID, Attempt: c.Attempt, Phase: c.Phase(), Payload: c.Payload, CRC32C: c.CRC32C,
		TSMS: c.TimestampMS, Seq: r.Seq, RaftIndex: r.LastIndex, Doubt: doubt, Facts: factsOf(r.Facts, c.Phase()), LastSeq: lastSeq,
	}
}

// stepOf returns the STEP column of a record: a phase, or the event without a checkpoint in words.
func stepOf(r replay.Record) string {
	if u, ok := r.Event.(checkpoint.Upserted); ok {
		return u.Checkpoint.Phase().String()
	}
	switch kind := r.Kind(); kind {
	case replay.KindAbort:
		return "aborted"
	case replay.KindRemove:
		return "removed"
	default:
		return strings.ReplaceAll(string(kind), "_", " ")
	}
}

// eventDetail returns the details of a record's event, without its epoch.
func eventDetail(r replay.Record) string {
	switch e := r.Event.(type) {
	case checkpoint.Upserted:
		return payloadDetail(e.Checkpoint.Payload)
	case checkpoint.Restored:
		return restoredDetail(e)
	case checkpoint.Digest:
		return fmt.Sprintf("state %x, chain %x", e.State[:shownDigestBytes], e.Chain[:shownDigestBytes])
	case checkpoint.Aborted:
		return abortDetail(e.Reason, e.Compensations)
	case checkpoint.AbortBegun:
		return abortDetail(e.Reason, e.Compensations)
	case checkpoint.Compensated:
		return fmt.Sprintf("step %d", e.Step)
	case checkpoint.Removed, checkpoint.EpochRaised:
		return ""
	}
	return fmt.Sprintf("event kind %d, written by a newer version", r.Unknown.Kind)
}

// shownDigestBytes is the part of a digest that tables have. JSON has all of it.
const shownDigestBytes = 8

// restoredDetail describes a restored row, such as "CatchUp, try 2, learner added at log index 7".
func restoredDetail(e checkpoint.Restored) string {
	c := e.Checkpoint
	parts := []string{c.Phase().String()}
	if c.Attempt > 0 {
		parts = append(parts, tryText(c.Phase(), c.Attempt))
	}
	if text := payloadDetail(c.Payload); text != "" {
		parts = append(parts, text)
	}
	if a := e.Facts.Abort; a != nil {
		parts = append(parts, abortProgress(&projection.AbortProgress{Compensations: a.Compensations, Done: a.Done}))
	}
	return strings.Join(parts, ", ")
}

func abortDetail(reason string, comps []checkpoint.Compensation) string {
	parts := []string{quotedReason(reason)}
	for _, c := range comps {
		parts = append(parts, compensationDetail(c))
	}
	return strings.Join(parts, " ")
}

// maxReasonBytes limits the reason of an abort in tables. JSON has all of it.
const maxReasonBytes = 500

// quotedReason returns the reason of an abort in quotes, with its length if it is not complete.
func quotedReason(reason string) string {
	if start := clip(reason, maxReasonBytes); start != reason {
		return fmt.Sprintf("%q... (%d bytes)", start, len(reason))
	}
	return strconv.Quote(reason)
}

func payloadDetail(p checkpoint.Payload) string {
	switch p := p.(type) {
	case checkpoint.AddLearner:
		return fmt.Sprintf("node %d -> %d, group %d, pause budget %s", p.SourceNode, p.TargetNode, p.SourceGroup, pauseSpan(p.WritePauseBudgetUS))
	case checkpoint.CatchUp:
		return fmt.Sprintf("learner added at log index %d", p.LearnerLogIndexAtAdd)
	case checkpoint.PromoteLearner:
		return fmt.Sprintf("node %d votes in group %d", p.TargetNode, p.SourceGroup)
	case checkpoint.LeadershipTransfer:
		voter := "a voter"
		if !p.TargetIsVoter {
			voter = "not a voter"
		}
		return fmt.Sprintf("to node %d (%s), group %d", p.NewLeaderNodeID, voter, p.SourceGroup)
	case checkpoint.Cutover:
		return fmt.Sprintf("node %d leads group %d", p.NewLeaderNodeID, p.SourceGroup)
	case checkpoint.Complete:
		text, _ := completeDetail(p, 0)
		return text
	}
	return ""
}

func compensationDetail(c checkpoint.Compensation) string {
	if c.Kind == checkpoint.RemoveGhostStub {
		return fmt.Sprintf("%s(vshard %d)", c.Kind, c.VShardID)
	}
	return fmt.Sprintf("%s(group %d, node %d)", c.Kind, c.GroupID, c.PeerID)
}

// tornExplanation follows the position of a torn tail in the messages of several commands.
const tornExplanation = "an interrupted write. If the disk kept all synced data, it was never acknowledged"

// maxShownFindings is the maximum number of findings of each severity that reportFindings prints. A
// damaged device can have thousands of them.
const maxShownFindings = 10

// findingText returns the line that describes a finding.
func findingText(d replay.Damage) string {
	if d.Severity == segment.Harmless {
		return "harmless: " + d.String()
	}
	return "damage: " + d.String()
}

// reportFindings prints the damage, the torn tail and the doubts of a report to stderr. With --quiet
// it does not print the harmless findings and the torn tail.
func (t *tool) reportFindings(r replay.Report) {
	shown := map[segment.Severity]int{}
	for _, d := range r.Damage {
		if shown[d.Severity]++; shown[d.Severity] <= maxShownFindings {
			t.printerOf(d.Severity)("%s", t.messageLines(findingText(d)))
		}
	}
	for _, severity := range []segment.Severity{segment.LosesEvents, segment.EndangersEvents, segment.Harmless} {
		if more := shown[severity] - maxShownFindings; more > 0 {
			t.printerOf(severity)("%s of the same severity (%s). To list all, run: replay-tool verify %s --all", count(more, "more finding"), severity, quoted(t.dir))
		}
	}
	if r.TornTail != nil {
		t.statusf("%s (%s)", r.TornTail, tornExplanation)
	}
	if len(r.InDoubt) > 0 {
		t.alertf("in doubt: %s whose last event may be lost. To list them, run: replay-tool verify %s --all", count(len(r.InDoubt), "migration"), quoted(t.dir))
	}
}

// messageLines returns a message in lines of the width of the terminal. message indents the lines after the
// first one.
func (t *tool) messageLines(text string) string {
	const indent = 2 // of message
	width := t.width()
	if width > 0 {
		width = max(width-indent, minMessageWidth)
	}
	return strings.Join(linesOf(text, width, 0), "\n")
}

// printerOf returns the function that prints a finding of a severity.
func (t *tool) printerOf(s segment.Severity) func(format string, args ...any) {
	if s == segment.Harmless {
		return t.statusf
	}
	return t.alertf
}

// alertf prints a line for people to stderr, also with --quiet.
func (t *tool) alertf(format string, args ...any) {
	t.printMu.Lock()
	defer t.printMu.Unlock()
	_ = t.flush() // stdout keeps the error, see run
	fmt.Fprintln(t.stderr, message(fmt.Sprintf(format, args...)))
}

// count returns a number with its noun: "1 event", "2 events".
func count[N int | uint64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// have returns count with the verb: "1 event has", "2 events have".
func have[N int | uint64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing + " has"
	}
	return count(n, thing) + " have"
}

// quoted returns a path in the form in which a shell reads it as one word. If it has characters
// that cannot be printed, this form is $'...', which bash, ksh and zsh read.
func quoted(path string) string {
	if !utf8.ValidString(path) || strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) }) {
		var b strings.Builder
		for i := range len(path) {
			switch c := path[i]; {
			case c == '\'' || c == '\\':
				b.WriteString(`\` + string(c))
			case ' ' <= c && c <= '~':
				b.WriteByte(c)
			default:
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		}
		return "$'" + b.String() + "'"
	}
	if strings.ContainsFunc(path, func(r rune) bool {
		return !strings.ContainsRune("/._-+,:@%", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}
