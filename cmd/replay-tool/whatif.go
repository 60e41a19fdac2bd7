package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/recovery"
	"migrationlog/recovery/whatif"
	"migrationlog/replay"
)

func (t *tool) whatIf() *cobra.Command {
	var now, against string
	var flags policyFlags
	c := &cobra.Command{
		Use:   "what-if DIR",
		Short: "Compare the decisions of a policy with what really happened, over the whole history",
		Long: `Compare the decisions of a policy with what really happened.

The command walks the whole history. After each event, and whenever a row becomes
stale, it decides as a coordinator that starts at that moment. It lists the
migrations that completed although the policy would have aborted them, and those
that did not complete and would have been aborted earlier. It counts the
questions that an operator would have received. -o json lists the questions too.

The time of a decision after an event is the clock of the event. With --against,
the command also lists the rows about which two policies decide differently.`,
		Args: argCount(1, 1),
		Example: `  replay-tool what-if log --abort-timeout 10m
  replay-tool what-if log --abort-timeout 10m --against '--abort-timeout 1h'`,
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("now") && now == "" {
				return usageErrorf("--now needs a value")
			}
			first, err := flags.read()
			if err != nil {
				return err
			}
			policies := []givenPolicy{first}
			if c.Flags().Changed("against") {
				second, err := parsePolicy(against)
				if err != nil {
					return usageErrorf("--against: %w", err)
				}
				policies = append(policies, second)
			}
			return t.buffered(func() error { return t.runWhatIf(c.Context(), args[0], policies, now) })
		},
	}
	c.Flags().StringVar(&now, "now", "", "after the last event, walk on to this `time` ("+timeFormats+"), if it is later; without it, to the present")
	c.Flags().StringVar(&against, "against", "", "compare with a second policy, whose `flags` are given in one argument, such as '--abort-timeout 10m --doubt trust'")
	flags.register(c)
	return c
}

// parsePolicy reads the flags of a policy from one text.
func parsePolicy(text string) (givenPolicy, error) {
	var flags policyFlags
	c := &cobra.Command{}
	flags.register(c)
	words := strings.Fields(text)
	for i, word := range words {
		words[i] = strings.ReplaceAll(strings.ReplaceAll(word, "'", ""), `"`, "")
	}
	if err := c.ParseFlags(words); err != nil {
		return givenPolicy{}, err
	}
	if rest := c.Flags().Args(); len(rest) > 0 || len(words) == 0 {
		return givenPolicy{}, fmt.Errorf("%q: give the flags of a policy, such as '--abort-timeout 10m'", text)
	}
	return flags.read()
}

func (t *tool) runWhatIf(ctx context.Context, dir string, policies []givenPolicy, now string) error {
	endMS := wallMS()
	if now != "" {
		reader, err := replay.Open(dir)
		if err != nil {
			return err
		}
		if endMS, err = t.times(ctx, reader).parse(now); err != nil {
			return err
		}
	}
	h := history{walk: whatif.New(plainPolicies(policies)...)}
	fold, err := t.fold(ctx, dir, func(f *replay.Fold, r replay.Record) error {
		h.add(f, r)
		return nil
	})
	if err != nil {
		return err
	}
	report := fold.Report()
	result := h.walk.Finish(endMS)
	if err := t.writeValue(whatIfJSONOf(report, result, policies), func() { t.whatIfText(report, result, policies) }); err != nil {
		return err
	}
	t.reportFindings(report)
	return reportExit(report)
}

func plainPolicies(given []givenPolicy) (plain []recovery.Policy) {
	for _, n := range given {
		plain = append(plain, n.Policy)
	}
	return plain
}

// history passes the records of a log to a walk.
type history struct {
	walk        *whatif.Walk
	lost        []replay.SeqRange // ascending
	snapshotSeq uint64
	unnamed     bool // the question about moves without a row was asked
}

// add passes the record that the fold has just added to the walk. A loss, a link to a lost event
// and a snapshot can change the rows of other migrations.
func (h *history) add(f *replay.Fold, r replay.Record) {
	if d := r.Damage; d != nil {
		if d.Lost() > 0 {
			h.lost = append(h.lost, replay.SeqRange{First: d.FirstSeq, Last: d.LastSeq})
			h.walk.Replace(whatif.Event{Seq: d.LastSeq, ClockMS: h.walk.NowMS()}, f.View.All())
			h.askUnnamed(f)
		}
		return
	}
	e := whatif.Event{Seq: r.Seq, ClockMS: r.WallMS()}
	e.MigrationID, _ = r.Migration()
	_, e.Abort = r.Event.(checkpoint.Aborted)
	if f.SnapshotSeq() != h.snapshotSeq || h.isLost(r.PrevSeq) {
		h.snapshotSeq = f.SnapshotSeq()
		h.walk.Replace(e, f.View.All())
		return
	}
	if row, ok := f.View.Get(e.MigrationID); ok {
		e.Row = &row
	}
	h.walk.Add(e)
}

func (h *history) askUnnamed(f *replay.Fold) {
	if !h.unnamed && f.View.Doubt(checkpoint.MigrationID{}) == projection.InDoubt {
		h.unnamed = true
		h.walk.AskForMigrations()
	}
}

func (h *history) isLost(seq uint64) bool {
	i, _ := slices.BinarySearchFunc(h.lost, seq, func(l replay.SeqRange, seq uint64) int { return cmp.Compare(l.Last, seq) })
	return i < len(h.lost) && h.lost[i].First <= seq
}

type whatIfJSON struct {
	Events       uint64                 `json:"events"`
	EndMS        uint64                 `json:"end_ms"`
	Incarnations map[whatif.Outcome]int `json:"incarnations"`
	Policies     []policyResultJSON     `json:"policies"`
	Disagree     []disagreementJSON     `json:"disagreements"`
}

type policyResultJSON struct {
	Policy         policyJSON              `json:"policy"`
	Decisions      int                     `json:"decisions"`
	WronglyAborted []differenceJSON        `json:"wrongly_aborted"`
	EndedEarlier   []differenceJSON        `json:"ended_earlier"`
	Questions      []questionJSON          `json:"questions"`
	ByReason       map[recovery.Reason]int `json:"questions_by_reason"`
}

type questionJSON struct {
	AfterSeq uint64            `json:"after_seq"`
	Decision recovery.Decision `json:"decision"`
}

type differenceJSON struct {
	questionJSON
	Outcome   whatif.Outcome `json:"outcome"`
	EndSeq    *uint64        `json:"end_seq"` // null: in flight
	EndMS     uint64         `json:"end_ms"`
	EarlierMS uint64         `json:"earlier_ms"`
}

type disagreementJSON struct {
	AfterSeq uint64            `json:"after_seq"`
	First    recovery.Decision `json:"first"`
	Second   recovery.Decision `json:"second"`
}

func whatIfJSONOf(report replay.Report, r whatif.Result, policies []givenPolicy) whatIfJSON {
	out := whatIfJSON{Events: report.FramesOK, EndMS: r.EndMS, Incarnations: map[whatif.Outcome]int{}, Disagree: []disagreementJSON{}}
	for _, outcome := range whatif.Outcomes {
		out.Incarnations[outcome] = r.Incarnations[outcome]
	}
	for i, p := range r.Policies {
		one := policyResultJSON{
			Policy: policies[i].flags, Decisions: p.Decisions, Questions: []questionJSON{}, ByReason: countByReason(p.Questions),
			WronglyAborted: differencesJSON(p.WronglyAborted), EndedEarlier: differencesJSON(p.EndedEarlier),
		}
		for _, q := range p.Questions {
			one.Questions = append(one.Questions, questionJSON{q.AfterSeq, q.Decision})
		}
		out.Policies = append(out.Policies, one)
	}
	for _, d := range r.Disagreements {
		out.Disagree = append(out.Disagree, disagreementJSON{d.AfterSeq, d.First, d.Second})
	}
	return out
}

func differencesJSON(list []whatif.Difference) []differenceJSON {
	out := make([]differenceJSON, len(list))
	for i, d := range list {
		out[i] = differenceJSON{questionJSON{d.AfterSeq, d.Decision.Decision}, d.Outcome, nil, d.EndMS, earlierMS(d)}
		if d.EndSeq != 0 {
			out[i].EndSeq = new(d.EndSeq)
		}
	}
	return out
}

// earlierMS returns the time from a decision to the real end.
func earlierMS(d whatif.Difference) uint64 { return d.EndMS - min(d.EndMS, d.Inputs.NowMS) }

func countByReason(questions []whatif.Decision) map[recovery.Reason]int {
	counts := map[recovery.Reason]int{}
	for _, q := range questions {
		counts[q.Reason]++
	}
	return counts
}

// maxShownDifferences is the largest number of lines in each list of the table. JSON has all.
const maxShownDifferences = 10

func (t *tool) whatIfText(report replay.Report, r whatif.Result, policies []givenPolicy) {
	in := r.Incarnations
	fmt.Fprintf(t.stdout, "%s: %d completed, %d aborted, %d removed before Complete, %d in flight", count(report.FramesOK, "event"),
		in[whatif.Completed], in[whatif.Aborted], in[whatif.Removed], in[whatif.InFlight])
	if n := in[whatif.Unknown]; n > 0 {
		fmt.Fprintf(t.stdout, ", %d ended by a lost event", n)
	}
	fmt.Fprintln(t.stdout)
	for i, p := range r.Policies {
		fmt.Fprintf(t.stdout, "\nPOLICY %s\n", policies[i].flags)
		t.differencesText("completed, would have been aborted", p.WronglyAborted, "COMPLETED AFTER")
		t.differencesText("did not complete, would have been aborted earlier", p.EndedEarlier, "EARLIER BY")
		t.questionsText(p.Questions)
	}
	if len(r.Policies) > 1 {
		t.disagreementsText(r.Disagreements)
	}
}

// String returns the flags of the policy, in the form that --against accepts.
func (p policyJSON) String() string {
	text := "--abort-timeout " + (time.Duration(p.AbortTimeoutMS) * time.Millisecond).String()
	if p.Members != nil {
		text += " --members " + cmp.Or(joinNumbers(p.Members), "''")
	}
	var leaders []string
	for _, group := range slices.Sorted(maps.Keys(p.Leaders)) {
		leaders = append(leaders, fmt.Sprintf("%d=%d", group, p.Leaders[group]))
	}
	if len(leaders) > 0 {
		text += " --leader " + strings.Join(leaders, ",")
	}
	return text + " --doubt " + p.Doubt
}

func joinNumbers(list []uint64) string {
	texts := make([]string, len(list))
	for i, n := range list {
		texts[i] = strconv.FormatUint(n, 10)
	}
	return strings.Join(texts, ",")
}

func (t *tool) differencesText(title string, list []whatif.Difference, heading string) {
	fmt.Fprintf(t.stdout, "  %s: %d\n", title, len(list))
	if len(list) == 0 {
		return
	}
	shown := list[:min(len(list), maxShownDifferences)]
	ids := newShortIDs(decisionsOf(shown, func(d whatif.Difference) recovery.Decision { return d.Decision.Decision }))
	rows := [][]string{{"ID", "VSHARD", "PHASE", "AFTER SEQ", "REASON", heading}}
	for _, d := range shown {
		c := d.Row.Checkpoint
		rows = append(rows, []string{
			ids.of(c.MigrationID), strconv.FormatUint(uint64(c.Payload.Shard()), 10), c.Phase().String(), strconv.FormatUint(d.AfterSeq, 10), string(d.Reason), shortSpan(earlierMS(d)),
		})
	}
	t.writeIndented(rows)
	t.writeMore(len(list) - len(shown))
}

func (t *tool) questionsText(questions []whatif.Decision) {
	counts := countByReason(questions)
	fmt.Fprintf(t.stdout, "  questions to an operator: %d\n", len(questions))
	for _, reason := range slices.SortedFunc(maps.Keys(counts), func(a, b recovery.Reason) int {
		return cmp.Or(counts[b]-counts[a], strings.Compare(string(a), string(b)))
	}) {
		fmt.Fprintf(t.stdout, "    %6d %s\n", counts[reason], reason)
	}
}

func (t *tool) disagreementsText(list []whatif.Disagreement) {
	fmt.Fprintf(t.stdout, "\nrows about which the policies decide differently: %d\n", len(list))
	if len(list) == 0 {
		return
	}
	shown := list[:min(len(list), maxShownDifferences)]
	ids := newShortIDs(decisionsOf(shown, func(d whatif.Disagreement) recovery.Decision { return d.First }))
	rows := [][]string{{"ID", "VSHARD", "PHASE", "AFTER SEQ", "FIRST", "SECOND"}}
	for _, d := range shown {
		c := d.First.Row.Checkpoint
		rows = append(rows, []string{
			ids.of(c.MigrationID), strconv.FormatUint(uint64(c.Payload.Shard()), 10), c.Phase().String(), strconv.FormatUint(d.AfterSeq, 10),
			string(d.First.Action), string(d.Second.Action),
		})
	}
	t.writeIndented(rows)
	t.writeMore(len(list) - len(shown))
}

func decisionsOf[D any](list []D, of func(D) recovery.Decision) (all []recovery.Decision) {
	for _, d := range list {
		all = append(all, of(d))
	}
	return all
}

func (t *tool) writeIndented(rows [][]string) {
	widths := columnWidths(rows)
	for _, cells := range rows {
		fmt.Fprint(t.stdout, "    ")
		writeAligned(t.stdout, cells, widths)
	}
}

func (t *tool) writeMore(n int) {
	if n > 0 {
		fmt.Fprintf(t.stdout, "    and %d more. To list all, use -o json\n", n)
	}
}
