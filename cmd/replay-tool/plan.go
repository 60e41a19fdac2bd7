package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"migrationlog/recovery"
	"migrationlog/replay"
)

// policyFlags has the flags that make the policy of a plan.
type policyFlags struct {
	abortTimeout time.Duration
	members      []string
	leaders      []string
	doubt        string
	flags        interface{ Changed(name string) bool }
}

func (f *policyFlags) register(c *cobra.Command) {
	f.registerHistory(c)
	flags := c.Flags()
	flags.StringSliceVar(&f.members, "members", nil, "the `nodes` of the cluster, such as 1,2,3; '' is an empty cluster; without this flag membership is not tested")
	flags.StringSliceVar(&f.leaders, "leader", nil, "the node that leads a group now, as `GROUP=NODE`,…")
}

// registerHistory adds the flags of the policy that do not depend on the present cluster.
func (f *policyFlags) registerHistory(c *cobra.Command) {
	flags := c.Flags()
	f.flags = flags
	flags.DurationVar(&f.abortTimeout, "abort-timeout", recovery.DefaultAbortTimeout, "a row is stale if it is older than this `duration`; a stale row is aborted if no earlier rule matches")
	flags.StringVar(&f.doubt, "doubt", "ask", "if a row is in doubt or a fact is uncertain: `ask`, or trust to take the log as true")
}

// givenPolicy is a policy with the flags that made it.
type givenPolicy struct {
	recovery.Policy
	flags policyJSON
}

// policyJSON has the flags of a policy in JSON.
type policyJSON struct {
	AbortTimeoutMS uint64            `json:"abort_timeout_ms"`
	Members        []uint64          `json:"members"` // null: membership is not tested
	Leaders        map[uint64]uint64 `json:"leaders"` // by group
	Doubt          string            `json:"doubt"`
}

// read returns the policy of the flags, or a usageError.
func (f *policyFlags) read() (p givenPolicy, err error) {
	if f.abortTimeout < 0 {
		return p, usageErrorf("--abort-timeout %s: give a duration that is not negative, such as 1h or 90s", f.abortTimeout)
	}
	p.AbortTimeout = max(f.abortTimeout, time.Nanosecond) // 0 would select the default
	if f.doubt != "ask" && f.doubt != "trust" {
		return p, usageErrorf("--doubt %s: give ask or trust", f.doubt)
	}
	p.TrustDoubt = f.doubt == "trust"
	p.flags = policyJSON{AbortTimeoutMS: p.AbortTimeoutMS(), Doubt: f.doubt}
	if p.flags.Members, err = f.memberNodes(); err != nil {
		return p, err
	}
	if p.flags.Members != nil {
		p.Member = recovery.MemberOf(p.flags.Members...)
	}
	if p.flags.Leaders, err = f.groupLeaders(); len(p.flags.Leaders) > 0 {
		leaders := p.flags.Leaders
		p.Leader = func(group uint64) (uint64, bool) {
			node, ok := leaders[group]
			return node, ok
		}
	}
	return p, err
}

// memberNodes returns the nodes of --members. They are nil without this flag.
func (f *policyFlags) memberNodes() ([]uint64, error) {
	if !f.flags.Changed("members") {
		return nil, nil
	}
	nodes := make([]uint64, len(f.members))
	for i, text := range f.members {
		var err error
		if nodes[i], err = strconv.ParseUint(strings.TrimSpace(text), 10, 64); err != nil {
			return nil, usageErrorf("--members: %q is not the number of a node: give a list such as 1,2,3", text)
		}
	}
	return nodes, nil
}

// groupLeaders returns the leaders of --leader by their groups.
func (f *policyFlags) groupLeaders() (map[uint64]uint64, error) {
	leaders := map[uint64]uint64{}
	for _, text := range f.leaders {
		groupText, nodeText, _ := strings.Cut(text, "=")
		group, groupErr := strconv.ParseUint(strings.TrimSpace(groupText), 10, 64)
		node, nodeErr := strconv.ParseUint(strings.TrimSpace(nodeText), 10, 64)
		if groupErr != nil || nodeErr != nil {
			return nil, usageErrorf("--leader: %q is not a group and its leader: give GROUP=NODE, such as 9=3", text)
		}
		if other, ok := leaders[group]; ok && other != node {
			return nil, usageErrorf("--leader: group %d has two leaders, %d and %d: give the present one", group, other, node)
		}
		leaders[group] = node
	}
	return leaders, nil
}

func (t *tool) plan() *cobra.Command {
	var at, now string
	var flags policyFlags
	var filters rowFilters
	c := &cobra.Command{
		Use:   "plan DIR",
		Short: "Show what a coordinator that starts would do with each migration",
		Long: `Show what a coordinator that starts would do with each migration: clean it up,
abort it with these compensations, resume it with the next checkpoint, or ask.

The decisions are those of recovery.Plan in the library. A coordinator that calls
this function with the same policy decides the same. The command only reads. The
filters select the decisions that are shown.`,
		Example: `  replay-tool plan log --abort-timeout 1h --members 1,2,3
  replay-tool plan log --in-flight`,
		Args: argCount(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			for name, value := range map[string]string{"at": at, "now": now} {
				if c.Flags().Changed(name) && value == "" {
					return usageErrorf("--%s needs a value", name)
				}
			}
			policy, err := flags.read()
			if err != nil {
				return err
			}
			if err := filters.read(); err != nil {
				return err
			}
			return t.buffered(func() error { return t.runPlan(c.Context(), args[0], policy.Policy, at, now, &filters) })
		},
	}
	c.Flags().StringVar(&now, "now", "", "measure ages to this `time` ("+timeFormats+"); without it, to the time of --at, else to the present")
	c.Flags().StringVar(&at, "at", "", "plan from the history up to this `point`: "+pointFormats)
	flags.register(c)
	filters.register(c)
	return c
}

func (t *tool) runPlan(ctx context.Context, dir string, policy recovery.Policy, at, now string, filters *rowFilters) (err error) {
	var point replay.Point
	var nowMS uint64
	reader, err := replay.Open(dir)
	if err != nil {
		return err
	}
	times := t.times(ctx, reader)
	if at != "" {
		if point, err = times.point(ctx, at); err != nil {
			return err
		}
	}
	if now != "" {
		if nowMS, err = times.parse(now); err != nil {
			return err
		}
	}
	fold, err := reader.FoldTo(ctx, point)
	if err != nil {
		return err
	}
	if last := fold.View.LastSeq(); point.Seq > last {
		return pointAfterEnd(point.Seq, last)
	}
	if err := t.explainTime(ctx, "plan", dir, reader, fold.View.LastSeq(), point.TimeMS); err != nil {
		return err
	}
	if now == "" {
		if nowMS, err = t.timeOfPoint(ctx, reader, fold, point); err != nil {
			return err
		}
	}
	report := fold.Report()
	policy.UnnamedInDoubt = report.UnnamedInDoubt || len(fold.View.InDoubtWithoutRow()) > 0
	decisions := recovery.Plan(fold.View.All(), policy, nowMS)
	all := len(decisions)
	if filters.anySet() { // the decision about moves that the log may not have has no row
		decisions = slices.DeleteFunc(decisions, func(d recovery.Decision) bool {
			return d.Reason == recovery.UnnamedInDoubt || !filters.matches(traitsOf(d.Row, nowMS))
		})
	}
	noMatch := len(decisions) == 0 && all > 0
	if noMatch && t.output == outputTable {
		t.statusf("no decision matches the filters")
	} else if t.output == outputTable {
		t.planTable(decisions)
	} else if err := writeLines(t, decisions); err != nil {
		return err
	}
	t.reportCoverage(fold.Coverage(), dir)
	if other := all - len(decisions); other > 0 && !noMatch {
		t.statusf("%s not shown, because the filters do not select them", isOrAre(uint64(other), "decision"))
	}
	t.reportFindings(report)
	if err := reportExit(report); err != nil || !noMatch {
		return err
	}
	return silentExit{exitNoMatch}
}

// timeOfPoint returns the time of a point in Unix milliseconds. The time of a seq is the clock of its
// event. If that is lost, it is the clock of the last intact event before it. The time of the end of
// the history is the present.
func (t *tool) timeOfPoint(ctx context.Context, reader *replay.Reader, fold *replay.Fold, point replay.Point) (uint64, error) {
	switch last := fold.Last().Seq; {
	case point.TimeMS != 0:
		return point.TimeMS, nil
	case point.Seq == 0:
		break
	case last == 0:
		t.statusf("#%d and all events before it are lost, so ages are measured to the present. To choose another time, add --now", point.Seq)
	default:
		if last < point.Seq {
			t.statusf("#%d is lost, so ages are measured to the clock of #%d. To choose another time, add --now", point.Seq, last)
		}
		for r, err := range reader.Find(ctx, replay.Query{FromSeq: last, ToSeq: last}, nil) {
			if err != nil || r.Damage == nil {
				return r.WallMS(), err
			}
		}
	}
	return wallMS(), nil
}

// planTable prints the decisions for people: one line for each, and below it the compensations or
// the questions.
func (t *tool) planTable(decisions []recovery.Decision) {
	if len(decisions) == 0 {
		t.statusf("no migration has a row, so there is nothing to do")
		return
	}
	ids := newShortIDs(decisions)
	rows := [][]string{{"ID", "VSHARD", "PHASE", "AGE", "DECISION"}}
	counts := map[recovery.Action]int{}
	for i := range decisions {
		rows = append(rows, decisionCells(&decisions[i], ids))
		if decisions[i].Reason != recovery.UnnamedInDoubt {
			counts[decisions[i].Action]++
		}
	}
	widths := columnWidths(rows)
	for i, cells := range rows {
		writeAligned(t.stdout, cells, widths)
		if i > 0 {
			for _, text := range decisionDetails(&decisions[i-1], ids) {
				for _, line := range wrap(text, 80-widths[0]-columnGap) {
					fmt.Fprintf(t.stdout, "%*s%s\n", widths[0]+columnGap, "", line)
				}
			}
		}
	}
	in, unnamed := decisions[0].Inputs, ""
	if slices.ContainsFunc(decisions, func(d recovery.Decision) bool { return d.Reason == recovery.UnnamedInDoubt }) {
		unnamed = ", and the moves that the log may not have"
	}
	t.statusf("%d to abort, %d to resume, %d to clean up, %d to ask about%s", counts[recovery.Abort], counts[recovery.Resume], counts[recovery.CleanUp], counts[recovery.AskFirst], unnamed)
	if decisions[0].Reason != recovery.UnnamedInDoubt {
		t.statusf("ages are measured to %s, the abort timeout is %s", t.isoTime(in.NowMS), shortSpan(in.AbortTimeoutMS))
	}
}

// columnWidths returns the width of the longest cell of each column.
func columnWidths(rows [][]string) []int {
	widths := make([]int, len(rows[0]))
	for _, cells := range rows {
		for i, cell := range cells {
			widths[i] = max(widths[i], len(cell))
		}
	}
	return widths
}

// writeAligned writes the cells of one line. The last cell is not padded.
func writeAligned(w io.Writer, cells []string, widths []int) {
	last := len(cells) - 1
	for i, cell := range cells[:last] {
		fmt.Fprintf(w, "%-*s", widths[i]+columnGap, cell)
	}
	fmt.Fprintln(w, cells[last])
}

func decisionCells(d *recovery.Decision, ids shortIDs) []string {
	if d.Reason == recovery.UnnamedInDoubt {
		return []string{"?", "?", "?", "?", fmt.Sprintf("%s (%s)", d.Action, d.Reason)}
	}
	decision := fmt.Sprintf("%s (%s)", d.Action, d.Reason)
	if d.Action == recovery.Resume {
		decision = fmt.Sprintf("%s %s (%s)", d.Action, d.NextPhase, d.Reason)
	}
	c := d.Row.Checkpoint
	return []string{ids.of(c.MigrationID), strconv.FormatUint(uint64(c.Payload.Shard()), 10), c.Phase().String(), shortSpan(d.Inputs.AgeMS), decision}
}

// decisionDetails returns the lines below a decision: the steps of an abort, or the questions.
func decisionDetails(d *recovery.Decision, ids shortIDs) (lines []string) {
	for _, c := range d.Compensated {
		lines = append(lines, "done: "+compensationDetail(c))
	}
	for i, c := range d.Compensations {
		lines = append(lines, fmt.Sprintf("%d. %s", i+1, compensationDetail(c)))
	}
	if d.Action == recovery.Abort && len(d.Compensations) == 0 {
		lines = append(lines, "all steps are recorded: record the abort")
	}
	for _, a := range d.Asks {
		lines = append(lines, question(d, a, ids))
	}
	return lines
}

// question returns a question in words, with the way to its answer.
func question(d *recovery.Decision, a recovery.Ask, ids shortIDs) string {
	switch a.Topic {
	case recovery.TopicRow:
		if d.Reason == recovery.RegressedPastCutover {
			return "Which row is true? The migration went back from " + d.Inputs.FurthestPhase.String() + "."
		}
		return "Which row is true? A lost event may have been its last."
	case recovery.TopicEvent:
		return fmt.Sprintf("What is event #%d? Plan with the newer version that wrote it.", a.Seq)
	case recovery.TopicTarget:
		if len(a.Seen) == 0 {
			return "Which node is added to which group? " + targetGap(d.Inputs)
		}
		seen := make([]string, len(a.Seen))
		for i, target := range a.Seen {
			seen[i] = fmt.Sprintf("group %d, node %d", target.GroupID, target.PeerID)
		}
		return "Which target is true? " + strings.Join(seen, "; ")
	case recovery.TopicMembership:
		return fmt.Sprintf("Node %d leads or should lead, but is no member of the cluster. Will it come back? "+
			"If not, a person must repair the group, because this move cannot be undone.", a.Node)
	case recovery.TopicLeader:
		return fmt.Sprintf("Which node leads group %d? Plan with --leader %d=NODE.", a.GroupID, a.GroupID)
	case recovery.TopicPeer:
		return fmt.Sprintf("May node %d leave group %d? It is the target of %s.", a.PeerID, a.GroupID, ids.list(a.SharedWith))
	case recovery.TopicVShard:
		return fmt.Sprintf("Only one migration may move vShard %d. Choose this one, or one of: %s.", a.VShardID, ids.list(a.SharedWith))
	case recovery.TopicMigrations:
		return "Which moves does the cluster have that are not in this list? Their events may be lost."
	}
	return string(a.Topic)
}

func targetGap(in recovery.Inputs) string {
	if in.TargetNode == nil {
		return "No intact event has them."
	}
	return fmt.Sprintf("The last known target is group %d, node %d, but it is uncertain.", *in.SourceGroup, *in.TargetNode)
}
