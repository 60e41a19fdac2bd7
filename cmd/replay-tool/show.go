package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/recovery"
	"migrationlog/replay"
	"migrationlog/replay/lint"
	"migrationlog/replay/story"
)

// showCommand has the flags of show.
type showCommand struct {
	*tool
	chosen selection
	now    nowFlag
	policy policyFlags
	bars   bool
}

func (t *tool) show() *cobra.Command {
	s := &showCommand{tool: t}
	c := &cobra.Command{
		Use:   "show DIR [MIGRATION]",
		Short: "Show the history of one migration: each step, the time in each phase, and its end",
		Long: `Show the history of one migration: each step, the time in each phase compared
with the other migrations of the log, and the decision of a coordinator that
starts now. MIGRATION is an id, or a beginning or an end that only one id has.
An end has at least 4 digits.`,
		Example: `  replay-tool show log 781d20
  replay-tool show log --vshard 11`,
		Args: argCount(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			s.chosen.part = ""
			if len(args) == 2 {
				s.chosen.part = args[1]
			}
			if _, err := newIDSearch(args[0]); err == nil && !s.chosen.given() && !isPath(args[0]) {
				return usageErrorf("%s is an id and not a directory: run replay-tool show DIR %s", args[0], args[0])
			}
			if !s.chosen.given() {
				return usageErrorf("give a migration or --vshard: replay-tool show %s ID", quoted(args[0]))
			}
			policy, err := s.policy.read()
			if err != nil {
				return err
			}
			return t.buffered(func() error { return s.run(c.Context(), args[0], policy.Policy) })
		},
	}
	s.chosen.register(c)
	s.now.register(c)
	s.policy.register(c)
	c.Flags().BoolVar(&s.bars, "bars", true, "draw the time in each phase")
	return c
}

// shownHistory has everything that show reads from a log.
type shownHistory struct {
	collector *story.Collector
	fold      *replay.Fold
	endMS     uint64
	ids       shortIDs
	linter    *lint.Linter // nil if the rules are not checked
	unchecked int          // segments
	partial   int          // segments with moves that the baseline lacks
}

func (s *showCommand) run(ctx context.Context, dir string, policy recovery.Policy) error {
	reader, err := replay.Open(dir)
	if err != nil {
		return err
	}
	begin, err := reader.Beginning()
	if err != nil {
		return err
	}
	r, err := s.read(ctx, reader, dir)
	if errors.Is(err, errNoMatch) && !begin.IsWhole() {
		return fmt.Errorf("%w; %s", err, notKept(begin))
	}
	if err != nil {
		return err
	}
	to, err := s.now.read(s.tool, s.times(ctx, reader), dir, r.endMS)
	if err != nil {
		return err
	}
	report := r.fold.Report()
	policy.UnnamedInDoubt = report.UnnamedInDoubt || len(r.fold.View.InDoubtWithoutRow()) > 0
	nowMS := wallMS()
	if s.now.text != "" {
		nowMS = to.ms
	}
	h := r.collector.History(story.Inputs{View: r.fold.View, ToMS: to.ms, NowMS: nowMS, Policy: policy})
	screen := showScreen{History: h, begin: begin, nowMS: nowMS, to: to, unchecked: r.unchecked, partial: r.partial}
	if r.linter != nil {
		if screen.findings, err = s.findings(ctx, reader, r.linter, replay.Query{ToSeq: r.fold.View.LastSeq()}, isAbout(h)); err != nil {
			return err
		}
	}
	if err := s.writeValue(screen, func() { s.print(screen, r.ids) }); err != nil {
		return err
	}
	if r.unchecked > 0 {
		s.statusf("%s not checked, nor the rules and the earlier moves of the vShard. To check them, run: replay-tool verify, or replay-tool lint", count(r.unchecked, "segment"))
	}
	s.warnOfPartial(r.partial)
	s.reportFindings(report)
	return reportExit(report)
}

// read reads the log, or the parts of a large log that have the migration.
func (s *showCommand) read(ctx context.Context, reader *replay.Reader, dir string) (shownHistory, error) {
	hasMany, err := hasManySegments(dir)
	if err != nil {
		return shownHistory{}, err
	}
	if hasMany {
		r, ok, err := s.readParts(ctx, reader)
		if ok || err != nil {
			return r, err
		}
	}
	return s.readAll(ctx, dir)
}

// readParts finds the migration with the summaries of the segments. It returns false if not exactly one
// migration matches, or if the log must be read completely, for example after a loss.
func (s *showCommand) readParts(ctx context.Context, reader *replay.Reader) (r shownHistory, ok bool, err error) {
	search, err := s.chosen.search()
	if err != nil {
		return r, false, err
	}
	ids := search.whole() // the filters of the summaries find its history
	switch {
	case search.isVShard:
		var id checkpoint.MigrationID
		if id, ok, err = reader.NewestMigration(ctx, search.vshard); ok {
			ids = []checkpoint.MigrationID{id}
		}
	case len(ids) == 0:
		ids, err = reader.FindIDs(ctx, search.matches, nil)
	}
	if err != nil || len(ids) != 1 {
		return r, false, err
	}
	fold, err := reader.FoldTo(ctx, replay.Point{})
	if err != nil || fold.Coverage().Unchecked == 0 {
		return r, false, err
	}
	totals, err := reader.Totals(ctx)
	if err != nil {
		return r, false, err
	}
	r = shownHistory{collector: story.NewCollector(), fold: fold, endMS: totals.LatestMS, ids: shortestIDs(ids)}
	r.collector.Baseline = story.BaselineOf(totals.Stays)
	own := projection.New()
	for record, err := range reader.History(ctx, ids[0], nil) {
		if err != nil {
			return r, false, err
		}
		switch {
		case record.Unknown != nil:
			own.ApplyUnknown(record.Seq, record.PrevSeq, record.Unknown.MigrationID)
		case record.Event != nil:
			own.Apply(record.Seq, record.PrevSeq, record.Event)
		}
		r.collector.Collect(record, own)
	}
	if own.LastSeq() == 0 {
		return r, false, nil
	}
	for _, row := range fold.View.All() {
		r.ids.add(row.Checkpoint.MigrationID)
	}
	r.unchecked, r.partial = fold.Coverage().Unchecked, totals.Partial
	return r, true, nil
}

// readAll reads the whole log.
func (s *showCommand) readAll(ctx context.Context, dir string) (r shownHistory, err error) {
	search, err := s.search(ctx, dir)
	if err != nil {
		return r, err
	}
	r = shownHistory{collector: story.NewCollector(), ids: shortestIDs(nil)}
	if r.linter, err = lint.New(lint.Options{Severity: lint.Warning}); err != nil {
		return r, err
	}
	r.fold, err = s.fold(ctx, dir, func(f *replay.Fold, record replay.Record) error {
		r.linter.Measure(record)
		r.collector.Add(record, f.View, search.add(record))
		if id, ok := record.Migration(); ok {
			r.ids.add(id)
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	r.endMS = r.collector.EndMS()
	_, err = search.result()
	return r, err
}

// search returns the search for the chosen migration. The newest migration of a vShard is only known
// at the end of the log, so its id is found first.
func (s *showCommand) search(ctx context.Context, dir string) (*idSearch, error) {
	if s.chosen.vshard == "" || s.chosen.part != "" {
		return s.chosen.search()
	}
	reader, err := replay.Open(dir)
	if err != nil {
		return nil, err
	}
	id, err := s.chosen.resolve(ctx, reader)
	if err != nil {
		return nil, err
	}
	return newIDSearch(id.String())
}

// findings reads the records of a query again, and returns the findings of a linter that has measured
// them. If wanted is not nil, it selects the findings.
func (t *tool) findings(ctx context.Context, reader *replay.Reader, linter *lint.Linter, q replay.Query, wanted func(lint.Finding) bool) (found []lint.Finding, err error) {
	add := func(list []lint.Finding) {
		for _, f := range list {
			if wanted == nil || wanted(f) {
				found = append(found, f)
			}
		}
	}
	p := t.progress("events checked:")
	defer p.end()
	var n uint64
	for r, err := range readAhead(reader.Records(ctx, q)) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		add(linter.Add(r))
		n++
		p.update(n)
	}
	add(linter.End())
	return found, nil
}

// showScreen is the output of show.
type showScreen struct {
	story.History
	begin    replay.Beginning
	findings []lint.Finding
	nowMS    uint64
	to       measuredTo

	unchecked int // segments; if it is not 0, findings and Before are empty
	partial   int // segments with moves that the samples lack
}

// isAbout returns a function that reports whether a finding has a record of the migration.
func isAbout(h story.History) func(lint.Finding) bool {
	seqs := map[uint64]bool{}
	for _, c := range h.Chapters {
		for _, e := range c.Entries {
			seqs[e.Seq] = true
		}
	}
	return func(f lint.Finding) bool {
		return slices.ContainsFunc(f.Seqs, func(seq uint64) bool { return seqs[seq] })
	}
}

// incarnationJSON is one incarnation in the output of show.
type incarnationJSON struct {
	Number        int                 `json:"number"`
	FromSeq       uint64              `json:"from_seq"`
	ToSeq         uint64              `json:"to_seq"`
	Restored      bool                `json:"restored,omitempty"` // the first event is a restored row: the events before it are not in the log
	Outcome       *story.Outcome      `json:"outcome"`            // null if the event that ended it is lost
	TookMS        *int64              `json:"took_ms"`            // null if it is in flight, or its end is lost
	Reason        *string             `json:"reason"`             // of the abort, otherwise null
	Compensations []*compensationJSON `json:"compensations"`
	Demanded      []*compensationJSON `json:"demanded_compensations"`
	Phases        []phaseJSON         `json:"phases"`
}

type phaseJSON struct {
	Phase      checkpoint.Phase `json:"phase"`
	Attempts   int              `json:"attempts"`
	StayedMS   int64            `json:"stayed_ms"`
	Open       bool             `json:"open"`
	SlowerThan *float64         `json:"slower_than"` // null without samples
	Samples    uint64           `json:"samples"`
	UsualMS    *uint64          `json:"usual_ms"` // null without samples
}

type compensationJSON struct {
	Kind     checkpoint.CompensationKind `json:"kind"`
	GroupID  uint64                      `json:"group_id"`
	PeerID   uint64                      `json:"peer_id"`
	VShardID uint32                      `json:"vshard_id,omitempty"`
}

// earlierJSON has the moves of the vShard that began before the migration.
type earlierJSON struct {
	Moves   uint64                  `json:"moves"`
	Aborted uint64                  `json:"aborted"`
	Last    *checkpoint.MigrationID `json:"last"`    // null if there is none
	TookMS  *int64                  `json:"took_ms"` // of the last; null if it has not ended
}

// MarshalJSON writes the object that `show -o json` prints.
func (s showScreen) MarshalJSON() ([]byte, error) {
	var phase checkpoint.Phase
	if s.Row != nil {
		phase = s.Row.Checkpoint.Phase()
	}
	out := struct {
		MigrationID checkpoint.MigrationID `json:"migration_id"`
		VShardID    uint32                 `json:"vshard_id"`
		factsJSON
		InDoubt      bool               `json:"in_doubt"`
		Outcome      *story.Outcome     `json:"outcome"`
		NowMS        uint64             `json:"now_ms"`
		ForToMS      uint64             `json:"for_to_ms"`
		ForMS        *uint64            `json:"for_ms"` // null if it is not in flight, as are the next two
		SlowerThan   *float64           `json:"slower_than"`
		Samples      *uint64            `json:"samples"`
		OnRestart    *recovery.Decision `json:"on_restart"`
		Incarnations []incarnationJSON  `json:"incarnations"`
		Findings     []lint.Finding     `json:"findings"`
		Before       *earlierJSON       `json:"before"` // null if not all segments were read
		Unchecked    int                `json:"unchecked_segments"`
		Partial      int                `json:"partial_segments"`
		Begins       *beginningJSON     `json:"history_begins,omitempty"`
		Lost         []uint64           `json:"lost"`
		Records      []story.Entry      `json:"records"`
	}{
		MigrationID: s.MigrationID, VShardID: s.VShardID, factsJSON: factsOf(s.Facts, phase), InDoubt: s.InDoubt,
		NowMS: s.nowMS, ForToMS: s.to.ms, OnRestart: s.OnRestart, Incarnations: []incarnationJSON{}, Findings: append([]lint.Finding{}, s.findings...),
		Unchecked: s.unchecked, Partial: s.partial, Begins: beginningOf(s.begin), Lost: append([]uint64{}, s.Lost...), Records: []story.Entry{},
	}
	if s.Outcome != "" {
		out.Outcome = &s.Outcome
	}
	if s.Outcome == story.InFlight {
		out.ForMS, out.SlowerThan, out.Samples = &s.ForMS, shareOf(s.SlowerThan), &s.SlowerThan.Samples
	}
	if s.unchecked == 0 {
		out.Before = earlierOf(s.Before)
	}
	for _, c := range s.Chapters {
		out.Records = append(out.Records, c.Entries...)
		if c.Incarnation != nil {
			out.Incarnations = append(out.Incarnations, incarnationOf(c))
		}
	}
	return json.Marshal(out)
}

func earlierOf(b story.EarlierMoves) *earlierJSON {
	out := &earlierJSON{Moves: b.Moves, Aborted: b.Aborted}
	if b.Last != nil {
		out.Last = &b.Last.ID
	}
	if b.HasTook {
		out.TookMS = &b.TookMS
	}
	return out
}

func incarnationOf(c story.Chapter) incarnationJSON {
	out := incarnationJSON{
		Number: c.Number, FromSeq: c.FirstSeq, ToSeq: c.LastSeq, Restored: c.Restored, Compensations: compensationsOf(c.Compensations),
		Demanded: compensationsOf(c.Demanded), Phases: []phaseJSON{},
	}
	if !c.EndLost {
		out.Outcome = &c.Outcome
	}
	if c.HasTook {
		out.TookMS = &c.TookMS
	}
	if c.Outcome == story.Aborted || c.Reason != "" {
		out.Reason = &c.Reason
	}
	for _, p := range c.Phases {
		phase := phaseJSON{
			Phase: p.Phase, Attempts: len(p.Tries), StayedMS: p.StayedMS, Open: p.Open,
			SlowerThan: shareOf(p.SlowerThan), Samples: p.SlowerThan.Samples,
		}
		if phase.Samples > 0 {
			phase.UsualMS = &p.SlowerThan.UsualMS
		}
		out.Phases = append(out.Phases, phase)
	}
	return out
}

// shareOf returns the share of a comparison, or nil without samples.
func shareOf(c story.Comparison) *float64 {
	if c.Samples == 0 {
		return nil
	}
	return &c.Share
}

func compensationsOf(list []checkpoint.Compensation) []*compensationJSON {
	out := make([]*compensationJSON, len(list))
	for i, c := range list {
		out[i] = new(compensationJSON(c))
	}
	return out
}

// sameSteps reports whether an abort has carried out the compensations that its incarnation demands.
func sameSteps(c story.Chapter) bool { return slices.Equal(c.Compensations, c.Demanded) }
