package replay

import "slices"

// Comparison is the difference between a report and an earlier one on the same log, its baseline.
//
// A finding is known if the baseline has one at the same place, with the same lost events and the
// same reason, or if all events that it lost were lost already. A finding that lost no event must
// also have the same length.
type Comparison struct {
	Known         []bool   // for each of Report.Damage
	TornTailKnown bool     // the torn tail is that of the baseline
	Gone          []Damage // the findings of the baseline that the report does not have, with the torn tail
}

// Compare compares a report with an earlier one on the same log.
func Compare(now, baseline Report) Comparison {
	c := Comparison{Known: make([]bool, len(now.Damage))}
	for i, d := range now.Damage {
		c.Known[i] = baseline.hasFinding(d)
	}
	c.TornTailKnown = sameTornTail(now.TornTail, baseline.TornTail)
	for _, d := range baseline.Damage {
		if !now.hasFinding(d) {
			c.Gone = append(c.Gone, d)
		}
	}
	if baseline.TornTail != nil && !c.TornTailKnown {
		c.Gone = append(c.Gone, *baseline.TornTail)
	}
	return c
}

// hasFinding reports whether the report has the finding of another report, see Comparison.
func (r Report) hasFinding(d Damage) bool {
	return d.Lost() > 0 && covered(d.FirstSeq, d.LastSeq, r.Lost) || slices.ContainsFunc(r.Damage, func(other Damage) bool {
		return other.Segment == d.Segment && other.Offset == d.Offset && other.Reason == d.Reason &&
			other.FirstSeq == d.FirstSeq && other.LastSeq == d.LastSeq && (d.Lost() > 0 || other.Length == d.Length)
	})
}

// covered reports whether each number from first to last is in one of the ranges, which are ascending.
func covered(first, last uint64, ranges []SeqRange) bool {
	for _, r := range ranges {
		if r.First <= first && first <= r.Last {
			first = r.Last + 1
		}
	}
	return first > last
}

func sameTornTail(a, b *Damage) bool {
	return a != nil && b != nil && a.Segment == b.Segment && a.Offset == b.Offset && a.Length == b.Length && a.FirstSeq == b.FirstSeq
}

// New returns a copy of the report that has only the new findings.
func (c Comparison) New(r Report) Report {
	fresh := r.Clone()
	fresh.Damage = nil
	for i, d := range r.Damage {
		if !c.Known[i] {
			fresh.Damage = append(fresh.Damage, d)
		}
	}
	if c.TornTailKnown {
		fresh.TornTail = nil
	}
	return fresh
}

// Counts returns the number of findings of the report that are known, and that are new, and of the
// findings of the baseline that are gone. A torn tail counts as one.
func (c Comparison) Counts(r Report) (known, fresh, gone int) {
	for _, k := range c.Known {
		if k {
			known++
		}
	}
	all := len(r.Damage)
	if r.TornTail != nil {
		all++
	}
	if c.TornTailKnown {
		known++
	}
	return known, all - known, len(c.Gone)
}

// comparisonJSON is the key baseline in the JSON of a Verification.
type comparisonJSON struct {
	Known        int      `json:"known"`
	New          int      `json:"new"`
	Gone         int      `json:"gone"`
	GoneFindings []Damage `json:"gone_findings"`
}

func (c Comparison) toJSON(r Report) comparisonJSON {
	known, fresh, gone := c.Counts(r)
	return comparisonJSON{known, fresh, gone, notNil(c.Gone)}
}

// comparedFinding is a finding in the JSON of a Verification with a baseline.
type comparedFinding struct {
	Damage
	Known bool `json:"known"`
}

func (c Comparison) findingsJSON(r Report) (damage []comparedFinding, tornTail *comparedFinding) {
	damage = []comparedFinding{}
	for i, d := range r.Damage {
		damage = append(damage, comparedFinding{d, c.Known[i]})
	}
	if r.TornTail != nil {
		tornTail = &comparedFinding{*r.TornTail, c.TornTailKnown}
	}
	return damage, tornTail
}
