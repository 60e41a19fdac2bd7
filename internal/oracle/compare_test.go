package oracle_test

import (
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/google/uuid"

	"migrationlog/checkpoint"
	"migrationlog/internal/oracle"
	"migrationlog/projection"
	"migrationlog/replay"
)

// picture has everything that one reading of a log shows, as texts by name. The first word of a
// name is the kind of the text.
type picture map[string]string

// differences returns one line for each name whose text differs between the two pictures.
func (p picture) differences(source string, expected picture) (lines []string) {
	names := maps.Clone(p)
	maps.Copy(names, expected)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if p[name] != expected[name] {
			lines = append(lines, fmt.Sprintf("%s: %s: got %q, oracle %q", source, name, p[name], expected[name]))
		}
	}
	return lines
}

// label returns a short name of an id that has only its first byte, and otherwise the id.
func label(id uuid.UUID) string {
	if id != (uuid.UUID{id[0]}) {
		return id.String()
	}
	return fmt.Sprintf("m%d", id[0])
}

func factsText(f oracle.Facts) string { return fmt.Sprintf("%+v", f) }

// pictureOf returns the picture that the oracle shows.
func pictureOf(l *oracle.Log, s *oracle.State, ids []uuid.UUID) picture {
	p := picture{}
	for id, row := range s.Rows() {
		e := row.Event
		p["row "+label(id)] = fmt.Sprintf("seq %d prev %d last %d index %d attempt %d phase %d time %d payload %x crc %x",
			row.Seq, row.Prev, row.Last, row.Index, e.Attempt, e.Phase, e.TimeMS, e.Payload, e.PayloadCRC)
		p["facts "+label(id)] = factsText(row.Facts)
		p["uncertain "+label(id)] = fmt.Sprintf("target %t source %t", row.TargetUncertain, row.SourceUncertain)
		p["rowdoubt "+label(id)] = fmt.Sprint(uint8(row.Doubt))
	}
	for _, id := range ids {
		p["doubt "+label(id)] = fmt.Sprint(uint8(s.Doubt(id)))
	}
	epoch, uncertain := s.Epoch()
	p["epoch"] = fmt.Sprint(epoch, uncertain)
	p["unnamed"] = fmt.Sprint(s.Unnamed())
	p["lost"] = fmt.Sprint(l.Lost)
	p["acknowledged"] = fmt.Sprint(oracle.Merge(l.Acknowledged))
	return p
}

// reading is the result of a store or of the replay reader.
type reading struct {
	rows   iter.Seq[projection.Row]
	row    func(checkpoint.MigrationID) (projection.Row, bool)
	doubt  func(checkpoint.MigrationID) projection.Doubt
	report replay.Report
}

func (v reading) picture(ids []uuid.UUID) picture {
	p := picture{}
	for row := range v.rows {
		id, c, f := row.Checkpoint.MigrationID, row.Checkpoint, row.Facts
		payload, err := checkpoint.EncodePayload(c.Payload)
		if err != nil {
			payload = []byte(err.Error())
		}
		p["row "+label(id)] = fmt.Sprintf("seq %d prev %d last %d index %d attempt %d phase %d time %d payload %x crc %x",
			row.Seq, row.PrevSeq, row.LastSeq, row.LastIndex, c.Attempt, c.Phase(), c.TimestampMS, payload, c.CRC32C)
		p["facts "+label(id)] = factsText(oracleFacts(f))
		p["uncertain "+label(id)] = fmt.Sprintf("target %t source %t", f.TargetUncertain, f.SourceUncertain)
		p["rowdoubt "+label(id)] = fmt.Sprint(uint8(row.Doubt))
		if again, ok := v.row(id); !ok || !reflect.DeepEqual(again, row) {
			p["row "+label(id)] += fmt.Sprintf("; Row returns %+v %t", again, ok)
		}
	}
	for _, id := range ids {
		p["doubt "+label(id)] = fmt.Sprint(uint8(v.doubt(id)))
	}
	p["epoch"] = fmt.Sprint(v.report.Epoch, v.report.EpochUncertain)
	p["unnamed"] = fmt.Sprint(v.report.UnnamedInDoubt)
	p["lost"] = fmt.Sprint(rangesOf(v.report.Lost))
	p["acknowledged"] = fmt.Sprint(rangesOf(v.report.AcknowledgedLost))
	return p
}

// oracleFacts returns the facts in the form of the oracle.
func oracleFacts(f projection.Facts) oracle.Facts {
	out := oracle.Facts{
		SourceNode: f.SourceNode, TargetNode: f.TargetNode, SourceGroup: f.SourceGroup, WritePauseBudgetUS: f.WritePauseBudgetUS,
		WallNS: f.StartedAtHLC.WallNS, Logical: uint64(f.StartedAtHLC.Logical), HasTarget: f.HasTarget, HasSource: f.HasSource,
		Furthest: uint64(f.FurthestPhase), Began: f.BeganSeq, Unknown: f.UnknownSeq,
	}
	for i := range out.Phases {
		out.Phases[i], out.Attempts[i] = f.RecordedPhases>>i&1 == 1, uint64(f.HighestAttempt[i])
	}
	var targets []string
	for _, t := range f.Targets {
		targets = append(targets, fmt.Sprintf("%d:%d", t.GroupID, t.PeerID))
	}
	out.Targets = strings.Join(targets, " ")
	if a := f.Abort; a != nil {
		out.Abort = oracle.Abort{Exists: true, Seq: a.Seq, TimeMS: a.TimestampMS, Reason: a.Reason}
		var steps []any
		for i, c := range a.Compensations {
			steps = append(steps, []any{uint64(c.Kind), c.GroupID, c.PeerID, uint64(c.VShardID)})
			out.Abort.Done += map[bool]string{false: "0", true: "1"}[a.Done[i]]
		}
		out.Abort.Steps = fmt.Sprint(steps)
	}
	return out
}

func rangesOf(reported []replay.SeqRange) []oracle.Range {
	var ranges []oracle.Range
	for _, r := range reported {
		ranges = append(ranges, oracle.Range{First: r.First, Last: r.Last})
	}
	return oracle.Merge(ranges)
}

// onlyAfter limits the lost numbers of both pictures to those after an adopted snapshot. An opening
// that starts from the snapshot may miss a loss before it, but must not report a false one.
func onlyAfter(seq uint64, p, expected picture, report replay.Report, l *oracle.Log) (picture, picture) {
	p, expected = maps.Clone(p), maps.Clone(expected)
	limit := func(name string, reported []replay.SeqRange, lost []oracle.Range) {
		before := oracle.Range{First: 1, Last: seq}
		got := rangesOf(reported)
		p[name] = fmt.Sprint(oracle.Without(got, before))
		expected[name] = fmt.Sprint(oracle.Without(oracle.Merge(lost), before))
		for _, r := range lost {
			got = oracle.Without(got, r)
		}
		if len(got) > 0 {
			p[name] += fmt.Sprintf(" and false losses %v", got)
		}
	}
	limit("lost", report.Lost, l.Lost)
	limit("acknowledged", report.AcknowledgedLost, l.Acknowledged)
	return p, expected
}

// kindOf returns the source and the kind of a difference, as "source: kind".
func kindOf(line string) string {
	source, rest, _ := strings.Cut(line, ": ")
	name, _, _ := strings.Cut(rest, ":")
	kind, _, _ := strings.Cut(name, " ")
	return source + ": " + kind
}
