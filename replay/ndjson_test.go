package replay_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// records returns one record of each kind, and of each payload, with values at their bounds.
func records(t testing.TB) map[string]replay.Record {
	const most = math.MaxUint64
	all := map[string]replay.Record{
		"remove":              {Seq: 3, Event: checkpoint.Removed{MigrationID: idA, TimestampMS: most}},
		"remove without seq":  {Event: checkpoint.Removed{MigrationID: idA}},
		"abort":               {Seq: most, Event: checkpoint.Aborted{MigrationID: idB, TimestampMS: 7}},
		"abort begun":         {Seq: 1, Event: checkpoint.AbortBegun{MigrationID: idB, Reason: "x", TimestampMS: 7, Epoch: most}},
		"compensated":         {Seq: 2, Event: checkpoint.Compensated{MigrationID: idB, Step: math.MaxUint32, TimestampMS: most}},
		"compensated, zeros":  {Event: checkpoint.Compensated{MigrationID: idB, Epoch: 1}},
		"epoch raised":        {Seq: 2, Event: checkpoint.EpochRaised{MigrationID: idB, TimestampMS: 3, Epoch: most}},
		"remove in an epoch":  {Event: checkpoint.Removed{MigrationID: idA, Epoch: 4}},
		"abort in an epoch":   {Event: checkpoint.Aborted{MigrationID: idA, Epoch: 4}},
		"unknown in an epoch": {Seq: 5, Unknown: &checkpoint.UnknownKindError{Kind: 9, MigrationID: idC, Epoch: 6}},
		"unknown":             {Seq: 5, Unknown: unknown(idC, most)},
		"unknown, and zeros":  {Unknown: &checkpoint.UnknownKindError{}},
		"digest":              {Seq: 5, RaftIndex: most, RaftTerm: most, Event: checkpoint.Digest{State: [32]byte{1, 31: 2}, Chain: [32]byte{31: 0xff}, TimestampMS: 8, Epoch: 9}},
		"digest, zeros":       {Event: checkpoint.Digest{}},
		"with a position":     {Seq: 5, RaftIndex: 7, RaftTerm: 2, Event: checkpoint.Removed{MigrationID: idA}},
		"unknown, position":   {Seq: 5, RaftIndex: 7, RaftTerm: 2, Unknown: unknown(idC, 3)},
		"damage":              {Damage: &replay.Damage{FirstSeq: 1, LastSeq: most, Segment: "00000000000000000001", Offset: 9, Length: math.MaxInt64, Reason: "overwritten with zeros", AfterMS: 1, BeforeMS: most}},
		"damage, no seq lost": {Damage: &replay.Damage{Segment: "wal/\"odd\" name", Reason: "not a file of this log", Severity: segment.Harmless}},
		"a torn tail":         {Damage: &replay.Damage{FirstSeq: 4, LastSeq: 4, Segment: "s", Offset: 1, Length: 2, Torn: true, Reason: "the last write is not whole"}},
	}
	for _, p := range []checkpoint.Payload{
		checkpoint.AddLearner{
			VShardID: math.MaxUint32, SourceNode: most, TargetNode: most, SourceGroup: most, WritePauseBudgetUS: most,
			StartedAtHLC: checkpoint.HLC{WallNS: most, Logical: math.MaxUint32},
		},
		checkpoint.AddLearner{},
		checkpoint.CatchUp{VShardID: 1, LearnerLogIndexAtAdd: 2},
		checkpoint.PromoteLearner{VShardID: 1, TargetNode: 2, SourceGroup: 3},
		checkpoint.LeadershipTransfer{VShardID: 1, TargetIsVoter: true, NewLeaderNodeID: 2, SourceGroup: 3},
		checkpoint.Cutover{VShardID: 1, NewLeaderNodeID: 2, SourceGroup: 3},
		checkpoint.Complete{VShardID: 1, ActualPauseUS: 2, GhostStubInstalled: true},
		checkpoint.Complete{},
	} {
		c, err := checkpoint.New(idA, math.MaxUint32, p, 9)
		require.NoError(t, err)
		all[fmt.Sprintf("checkpoint %+v", p)] = replay.Record{Seq: 6, Event: checkpoint.Upserted{Checkpoint: c, Epoch: uint64(p.Phase()) - 1}}
	}
	for name, e := range restoredRows(t) {
		all["restored, "+name] = replay.Record{Seq: 7, RaftIndex: 5, Event: e}
	}
	for name, reason := range map[string]string{
		"plain": "target node unreachable", "quoted": `"\u0041" \ud800`, "markup": "<&>\u2028\x00\t", "beyond the BMP": "😀", "a replacement character": "a\ufffdb",
	} {
		all["abort, "+name] = replay.Record{Seq: 8, Event: checkpoint.Aborted{
			MigrationID: idB, Reason: reason, TimestampMS: 1,
			Compensations: []checkpoint.Compensation{
				{Kind: checkpoint.RemoveLearner, GroupID: most, PeerID: most},
				{Kind: checkpoint.RemoveVoter},
				{Kind: checkpoint.RestoreLeaderHint, GroupID: 1},
				{Kind: checkpoint.RemoveGhostStub, VShardID: math.MaxUint32},
			},
		}}
	}
	return all
}

// restoredRows has rows with all facts, and with few.
func restoredRows(t testing.TB) map[string]checkpoint.Restored {
	c, err := checkpoint.New(idA, 2, checkpoint.CatchUp{VShardID: 1, LearnerLogIndexAtAdd: 2}, 9)
	require.NoError(t, err)
	return map[string]checkpoint.Restored{
		"few facts": {Checkpoint: c, Facts: checkpoint.RestoredFacts{FurthestPhase: checkpoint.PhaseCatchUp, RecordedPhases: 0b10, HighestAttempt: [6]uint32{1: 2}}},
		"all facts": {Checkpoint: c, Epoch: 4, Facts: checkpoint.RestoredFacts{
			SourceNode: math.MaxUint64, TargetNode: 2, SourceGroup: 3, WritePauseBudgetUS: 4, StartedAtHLC: checkpoint.HLC{WallNS: 5, Logical: 6},
			HasTarget: true, HasSource: true, FurthestPhase: checkpoint.PhaseCutover, RecordedPhases: 0b10111, HighestAttempt: [6]uint32{0, 3, 0, 0, 1},
			Targets: []checkpoint.Target{{GroupID: 3, PeerID: 2}, {GroupID: 4}},
			Abort: &checkpoint.RestoredAbort{
				Reason: `"gone"`, TimestampMS: 10, BeforeCheckpoint: true, Done: []bool{false, true},
				Compensations: []checkpoint.Compensation{{Kind: checkpoint.RemoveVoter, GroupID: 3, PeerID: 2}, {Kind: checkpoint.RemoveGhostStub, VShardID: 1}},
			},
		}},
	}
}

// A record of any kind comes back from its line unchanged, except for its place in the log.
func TestNDJSON_RoundTrip(t *testing.T) {
	kinds := map[replay.Kind]bool{}
	for name, want := range records(t) {
		line, err := json.Marshal(want)
		require.NoError(t, err, name)
		require.NotContains(t, string(line), "\n", "%s: it is one line", name)
		placed := want
		placed.PrevSeq, placed.Segment, placed.Offset, placed.Length, placed.DurableThrough, placed.HeaderCRC32C = 1, "s", 2, 3, 4, 5
		again, err := json.Marshal(placed)
		require.NoError(t, err, name)
		require.Equal(t, string(line), string(again), "%s: its place in the log is not in it", name)

		got := placed // what a record held before is gone
		require.NoError(t, json.Unmarshal(line, &got), "%s: %s", name, line)
		require.Equal(t, want, got, "%s: %s", name, line)
		kinds[got.Kind()] = true
	}
	require.Len(t, kinds, len(replay.Kinds), "all kinds are tried")
}

// A record that has neither an event nor damage cannot be encoded as a line.
func TestNDJSON_EmptyRecord(t *testing.T) {
	_, err := json.Marshal(replay.Record{Seq: 1})
	require.ErrorContains(t, err, "an empty record has no JSON")
}

// object is a JSON object. Its keys keep their order, and a key may occur twice.
type object []member

type member struct {
	key      string
	value    any // JSON text, an object, or a list of objects
	optional bool
}

func (o object) text() string {
	var members []string
	for _, m := range o {
		members = append(members, fmt.Sprintf("%q:%s", m.key, textOf(m.value)))
	}
	return "{" + strings.Join(members, ",") + "}"
}

func textOf(value any) string {
	switch v := value.(type) {
	case object:
		return v.text()
	case []object:
		var items []string
		for _, o := range v {
			items = append(items, o.text())
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	return value.(string)
}

// variants applies change to each member of the object and of the objects within it, one at a
// time. It returns the texts by the path of the member and the name of the change, "" for none.
func (o object) variants(path string, change func(o object, at int) (object, string)) map[string]string {
	all := map[string]string{}
	for at, m := range o {
		if changed, how := change(append(object{}, o...), at); how != "" {
			all[path+m.key+" "+how] = changed.text()
		}
		within := func(inner object, name string, put func(text string) any) {
			for how, text := range inner.variants(path+m.key+name+".", change) {
				outer := append(object{}, o...)
				outer[at].value = put(text)
				all[how] = outer.text()
			}
		}
		switch v := m.value.(type) {
		case object:
			within(v, "", func(text string) any { return text })
		case []object:
			for i, item := range v {
				within(item, fmt.Sprintf("[%d]", i), func(text string) any {
					items := make([]string, len(v))
					for j := range v {
						items[j] = v[j].text()
					}
					items[i] = text
					return "[" + strings.Join(items, ",") + "]"
				})
			}
		}
	}
	return all
}

const idText = `"0a000000-0000-0000-0000-000000000000"`

// lines returns a line of each kind, with every key that it may have. The payload is that of an
// AddLearner, which has a nested object.
func lines() map[string]object {
	return map[string]object{
		"checkpoint": {
			{"seq", "1", true}, {"kind", `"checkpoint"`, false}, {"migration_id", idText, false}, {"attempt", "2", false}, {"phase", `"AddLearner"`, false},
			{"payload", object{
				{"vshard_id", "1", false}, {"source_node", "2", false}, {"target_node", "3", false}, {"source_group", "4", false}, {"write_pause_budget_us", "5", false},
				{"started_at_hlc", object{{"wall_ns", "6", false}, {"logical", "7", false}}, false},
			}, false},
			{"crc32c", "3273589935", true}, {"ts_ms", "4", false}, {"epoch", "5", true},
		},
		"transfer": {
			{"kind", `"checkpoint"`, false}, {"migration_id", idText, false}, {"attempt", "2", false}, {"phase", `"LeadershipTransfer"`, false},
			{"payload", object{{"vshard_id", "1", false}, {"target_is_voter", "false", false}, {"new_leader_node_id", "0", false}, {"source_group", "4", false}}, false},
			{"ts_ms", "4", false},
		},
		"abort": {
			{"seq", "1", true}, {"kind", `"abort"`, false}, {"migration_id", idText, false}, {"reason", `""`, false},
			{"compensations", []object{
				{{"kind", `"RemoveLearner"`, false}, {"group_id", "0", false}, {"peer_id", "2", false}},
				{{"kind", `"RemoveGhostStub"`, false}, {"group_id", "1", false}, {"peer_id", "0", false}, {"vshard_id", "3", true}},
			}, false},
			{"ts_ms", "0", false},
		},
		"abort with a checksum": {
			{"kind", `"abort"`, false}, {"migration_id", idText, false}, {"reason", `""`, false},
			{"compensations", []object{{{"kind", `"RemoveLearner"`, false}, {"group_id", "0", false}, {"peer_id", "2", false}}}, false},
			{"crc32c", "220048288", true}, {"ts_ms", "0", false},
		},
		"remove": {
			{"seq", "1", true}, {"kind", `"remove"`, false}, {"migration_id", idText, false}, {"crc32c", "2018272914", true}, {"ts_ms", "0", false}, {"epoch", "5", true},
		},
		"abort_begun": {
			{"seq", "1", true}, {"kind", `"abort_begun"`, false}, {"migration_id", idText, false}, {"reason", `""`, false},
			{"compensations", []object{{{"kind", `"RemoveLearner"`, false}, {"group_id", "0", false}, {"peer_id", "2", false}}}, false},
			{"crc32c", "1887841686", true}, {"ts_ms", "0", false}, {"epoch", "5", true},
		},
		"compensated": {
			{"seq", "1", true}, {"kind", `"compensated"`, false}, {"migration_id", idText, false}, {"step", "1", false},
			{"crc32c", "4009038949", true}, {"ts_ms", "0", false}, {"epoch", "5", true},
		},
		"epoch_raised": {
			{"seq", "1", true}, {"kind", `"epoch_raised"`, false}, {"migration_id", idText, false},
			{"crc32c", "1097854155", true}, {"ts_ms", "0", false}, {"epoch", "5", false},
		},
		"digest": {
			{"seq", "1", true}, {"raft_index", "2", true}, {"raft_term", "3", true}, {"kind", `"digest"`, false},
			{"state", `"` + strings.Repeat("a1", 32) + `"`, false}, {"chain", `"` + strings.Repeat("00", 32) + `"`, false}, {"ts_ms", "0", false}, {"epoch", "5", true},
		},
		"restored": {
			{"seq", "1", true}, {"raft_index", "2", true}, {"kind", `"restored"`, false}, {"migration_id", idText, false}, {"attempt", "2", false}, {"phase", `"CatchUp"`, false},
			{"payload", object{{"vshard_id", "1", false}, {"learner_log_index_at_add", "2", false}}, false},
			{"facts", object{
				{"source_node", "1", true}, {"target_node", "2", true}, {"source_group", "3", true}, {"write_pause_budget_us", "4", true},
				{"started_at_hlc", object{{"wall_ns", "6", false}, {"logical", "7", false}}, true},
				{"recorded_phases", `["AddLearner","CatchUp"]`, false},
				{"highest_attempts", []object{{{"phase", `"CatchUp"`, false}, {"attempt", "2", false}}}, true},
				{"targets", []object{{{"group_id", "3", false}, {"peer_id", "2", false}}, {{"group_id", "3", false}, {"peer_id", "4", false}}}, true},
				{"abort", object{
					{"reason", `""`, false},
					{"compensations", []object{{{"kind", `"RemoveGhostStub"`, false}, {"group_id", "1", false}, {"peer_id", "0", false}, {"vshard_id", "3", true}, {"done", "true", false}}}, false},
					{"ts_ms", "4", false}, {"before_checkpoint", "true", true},
				}, true},
			}, false},
			{"ts_ms", "4", false}, {"epoch", "5", true},
		},
		"unknown": {
			{"seq", "1", true}, {"kind", `"unknown"`, false}, {"kind_code", "9", false}, {"migration_id", idText, false}, {"ts_ms", "0", false}, {"epoch", "5", true},
		},
		"damage": {
			{"kind", `"damage"`, false}, {"first_seq", "0", false}, {"last_seq", "0", false}, {"segment", `"s"`, false},
			{"offset", "0", false}, {"length", "0", false}, {"reason", `""`, false}, {"torn", "true", true},
			{"severity", `"harmless"`, true}, {"after_ms", "1", true}, {"before_ms", "1", true},
		},
	}
}

// abortWith returns an abort with this JSON text as its reason.
func abortWith(reason string) string {
	return strings.Replace(lines()["abort"].text(), `"reason":""`, `"reason":`+reason, 1)
}

// refused checks that both ways to read a line return an error.
func refused(t testing.TB, line, how string) {
	var r replay.Record
	require.Error(t, json.Unmarshal([]byte(line), &r), "%s: %s", how, line)
	require.Error(t, r.UnmarshalJSON([]byte(line)), "%s: %s", how, line)
}

func accepted(t testing.TB, line, how string) (r replay.Record) {
	require.NoError(t, json.Unmarshal([]byte(line), &r), "%s: %s", how, line)
	return r
}

// A line needs each of its keys and may have no others. A key that is misspelled, in capitals,
// null or given twice is an error, even in a nested object.
func TestNDJSON_Keys(t *testing.T) {
	without := func(o object, at int) object { return append(o[:at:at], o[at+1:]...) }
	renamed := func(name func(string) string) func(o object, at int) (object, string) {
		return func(o object, at int) (object, string) {
			o[at].key = name(o[at].key)
			return o, "becomes " + o[at].key
		}
	}
	tried := 0
	for kind, whole := range lines() {
		accepted(t, whole.text(), kind)
		for _, change := range []func(o object, at int) (object, string){
			func(o object, at int) (object, string) {
				if o[at].optional {
					return nil, ""
				}
				return without(o, at), "is missing"
			},
			func(o object, at int) (object, string) {
				if o[at].optional {
					return nil, ""
				}
				o[at].value = "null"
				return o, "is null"
			},
			renamed(func(key string) string { return key + "s" }),
			renamed(func(key string) string { return key[1:] }),
			renamed(strings.ToUpper),
			renamed(func(key string) string { return strings.ToUpper(key[:1]) + key[1:] }),
			renamed(func(key string) string { return " " + key }),
			renamed(func(key string) string { return strings.Replace(key, "s", "\u017f", 1) + "\u212a" }), // which package json folds to s and k
			renamed(func(string) string { return "" }),
			func(o object, at int) (object, string) { return append(o, o[at]), "comes twice" },
			func(o object, at int) (object, string) {
				return append(o, member{strings.ToUpper(o[at].key), o[at].value, false}), "comes in capitals as well"
			},
			func(o object, at int) (object, string) {
				return append(o, member{"extra", "null", false}), "has another beside it"
			},
		} {
			for how, line := range whole.variants("", change) {
				refused(t, line, kind+": "+how)
				tried++
			}
		}
		for how, line := range whole.variants("", func(o object, at int) (object, string) {
			if !o[at].optional {
				return nil, ""
			}
			return without(o, at), "is missing"
		}) {
			accepted(t, line, kind+": "+how)
		}
	}
	require.Greater(t, tried, 500)
}

// A value must have its key's type and be within its bounds.
func TestNDJSON_Values(t *testing.T) {
	objects := []string{"[]", "[{}]", "{}", `"x"`, "true", "7", "1.5"}
	numbers := []string{`""`, `" 7"`, `"7 "`, `"+7"`, `"-7"`, `"07"`, `"7.0"`, `"7e1"`, `"0x7"`, `"7_0"`, `"\u0037"x`, `"18446744073709551616"`, "true", "[]", "[7]", "{}", "-1", "-0.5", "1.5", "1.0", "1e3", "18446744073709551616", "99999999999999999999999", "07", "+7", "0x7", "NaN", "Infinity"}
	ignored := []string{"true", "[]", "[7]", "{}", "07", "+7", "0x7", "NaN", "Infinity"} // no number and no string
	small := append([]string{"4294967296", "18446744073709551615"}, numbers...)          // of 32 bits
	signed := []string{`"seven"`, `"+7"`, "true", "[]", "{}", "1.5", "1e3", "9223372036854775808", "-9223372036854775809"}
	texts := []string{"7", "true", "[]", "{}", `'x'`, "x"}
	flags := []string{`"true"`, "1", "0", "[]", "{}", "True", `""`}
	names := append([]string{`""`, `"addlearner"`, `"ADDLEARNER"`, `"AddLearner "`, `"Nothing"`, `"1"`, "1"}, texts...)
	values := map[string][]string{
		"seq": ignored, "attempt": small, "ts_ms": numbers, "crc32c": small, "kind_code": numbers, "step": small, "epoch": numbers, "first_seq": numbers, "last_seq": numbers,
		"vshard_id": small, "source_node": numbers, "target_node": numbers, "source_group": numbers, "write_pause_budget_us": numbers,
		"wall_ns": numbers, "logical": small, "new_leader_node_id": numbers, "group_id": numbers, "peer_id": numbers,
		"offset": signed, "length": signed, "after_ms": numbers, "before_ms": numbers,
		"reason": texts, "segment": texts, "severity": texts, "torn": flags, "target_is_voter": flags,
		"kind": names, "phase": names,
		"migration_id":   append([]string{`""`, `"0a"`, `"0a000000-0000-0000-0000-00000000000g"`, `"0a000000-0000-0000-0000-0000000000000"`, `"0a000000000-0000-0000-0000-00000000000"`}, texts...),
		"payload":        objects,
		"started_at_hlc": objects,
		"raft_index":     numbers, "raft_term": numbers, "learner_log_index_at_add": numbers, "done": flags, "before_checkpoint": flags, "facts": objects, "abort": objects,
		"state":            {`""`, `"a1"`, `"` + strings.Repeat("a1", 33) + `"`, `"` + strings.Repeat("a", 63) + `"`, `"` + strings.Repeat("x1", 32) + `"`, "7", "[]"},
		"chain":            {`""`, "7"},
		"recorded_phases":  {"{}", `"CatchUp"`, "[7]", `["Catch"]`},
		"highest_attempts": {"{}", "7", "[7]"},
		"targets":          {"{}", "7", "[7]"},
		"compensations":    {"{}", `"x"`, "7", "true", "[7]", "[null]", "[[]]", `["RemoveLearner"]`, "[{}]"},
	}
	used := map[string]bool{}
	for kind, whole := range lines() {
		for i := range 40 { // more than any key has
			for how, line := range whole.variants("", func(o object, at int) (object, string) {
				list, known := values[o[at].key]
				require.True(t, known, "no bad values for %q", o[at].key)
				used[o[at].key] = true
				if i >= len(list) {
					return nil, ""
				}
				o[at].value = list[i]
				return o, "is " + list[i]
			}) {
				refused(t, line, kind+": "+how)
			}
		}
	}
	require.Len(t, used, len(values))
}

// A line is one JSON object in valid UTF-8 and nothing else.
func TestNDJSON_OneValue(t *testing.T) {
	whole := lines()["remove"].text()
	for how, line := range map[string]string{
		"empty":                      "",
		"blank":                      " \t",
		"null":                       "null",
		"a list":                     "[]",
		"a list of a line":           "[" + whole + "]",
		"a text":                     `"remove"`,
		"a number":                   "7",
		"an empty object":            "{}",
		"two values":                 whole + whole,
		"two values and blanks":      whole + " " + whole,
		"text after it":              whole + "x",
		"a comma after it":           whole + ",",
		"a bracket after it":         whole + "}",
		"null after it":              whole + " null",
		"cut":                        whole[:len(whole)-1],
		"cut in a text":              whole[:len(whole)/2],
		"a comma too many":           whole[:len(whole)-1] + ",}",
		"a byte order mark":          "\ufeff" + whole,
		"a comment":                  whole + "// removed",
		"not UTF-8 in a text":        abortWith("\"a\xff\""),
		"not UTF-8 in a key":         strings.Replace(whole, "ts_ms", "ts_ms\xff", 1),
		"a surrogate in UTF-8":       abortWith("\"\xed\xa0\x80\""),
		"a newline in a text":        abortWith("\"\n\""),
		"a kind of none":             strings.Replace(whole, `"remove"`, `"upsert"`, 1),
		"the kind of another":        strings.Replace(whole, `"remove"`, `"abort"`, 1),
		"a payload of another phase": strings.Replace(lines()["transfer"].text(), `"LeadershipTransfer"`, `"Cutover"`, 1),
	} {
		refused(t, line, how)
	}
	accepted(t, " \t"+whole+" \r\n", "blanks around it")
}

// Half of a surrogate pair is an error. It is not read as the replacement character, which a reason
// may contain.
func TestNDJSON_Surrogates(t *testing.T) {
	of := func(reason string) string { return abortWith(`"` + reason + `"`) }
	for _, half := range []string{`\ud800`, `\udfff`, `a\uD83Db`, `\ude00\ud83d`, `\ud83d\ud83d\ude00`, `\ud83dx\ude00`, `\ud83d\\ude00`, `\ud800 \ufffd`, `\ud800 \\ufffd`, "\\ud800 \ufffd"} {
		refused(t, of(half), half)
	}
	for text, want := range map[string]string{
		`\ud83d\ude00`: "😀", `\uD83D\uDE00`: "😀", `\\ud800`: `\ud800`, `\ufffd`: "\ufffd", `\uFFFD`: "\ufffd", "\ufffd": "\ufffd", `\u0000`: "\x00",
	} {
		require.Equal(t, want, accepted(t, of(text), text).Event.(checkpoint.Aborted).Reason)
	}
}

// A deeply nested line is rejected before memory is allocated for the nesting.
func TestNDJSON_DeepNesting(t *testing.T) {
	var r replay.Record
	require.Error(t, r.UnmarshalJSON([]byte(`{"kind":`+strings.Repeat("[", 8<<20))))
	for _, empty := range []string{"", "{", `{"kind"`} {
		require.ErrorIs(t, r.UnmarshalJSON([]byte(empty)), io.ErrUnexpectedEOF, "%q", empty)
	}
}

// If a line has a checksum, it must be that of its event. For an event without a checkpoint it
// covers the CBOR of keys 1 to 3 and 8 to 10.
func TestNDJSON_Checksum(t *testing.T) {
	for kind, whole := range lines() {
		var with object
		for _, m := range whole {
			if m.key == "crc32c" {
				with = whole
			}
		}
		if with == nil {
			continue
		}
		r := accepted(t, with.text(), kind)
		want, err := checkpoint.EventCRC32C(r.Event)
		require.NoError(t, err)
		require.Contains(t, with.text(), fmt.Sprintf(`"crc32c":%d,`, want))
		printed, err := json.Marshal(r)
		require.NoError(t, err)
		require.Contains(t, string(printed), fmt.Sprintf(`"crc32c":%d,`, want))

		wrong := strings.Replace(with.text(), fmt.Sprintf(`"crc32c":%d,`, want), `"crc32c":77,`, 1)
		err = r.UnmarshalJSON([]byte(wrong))
		require.ErrorIs(t, err, checkpoint.ErrCRCMismatch)
		require.ErrorContains(t, err, `"crc32c": 77 does not match the `)
		require.ErrorContains(t, err, fmt.Sprintf(`whose CRC32C is %d. The line was changed after it was printed`, want))
		missing := strings.Replace(with.text(), fmt.Sprintf(`"crc32c":%d,`, want), "", 1)
		require.Equal(t, r, accepted(t, missing, kind+" without one"))
	}
}

// A number may be given as a string, and has the same value.
func TestNDJSON_NumbersAsStrings(t *testing.T) {
	digits := regexp.MustCompile(`([:,\[])(-?[0-9]+)`)
	for name, want := range records(t) {
		line, err := json.Marshal(want)
		require.NoError(t, err)
		if want.Damage == nil && !strings.Contains(string(line), `"reason":`) {
			line = digits.ReplaceAll(line, []byte(`$1"$2"`))
			require.Contains(t, string(line), `"ts_ms":"`)
		}
		require.Equal(t, want, accepted(t, string(line), name))
	}
	damage := accepted(t, `{"kind":"damage","first_seq":"4","last_seq":"5","segment":"s","offset":"6","length":"7","reason":""}`, "damage").Damage
	require.Equal(t, replay.Damage{FirstSeq: 4, LastSeq: 5, Segment: "s", Offset: 6, Length: 7}, *damage)
}

// Numbers above 2^53 are exact. If a program has rounded one, the checksum does not match, and the
// error names the number and the cause.
func TestNDJSON_RoundedNumbers(t *testing.T) {
	const exact = 9007199254740993 // 2^53 + 1
	abort := replay.Record{Seq: exact, Event: checkpoint.Aborted{
		MigrationID: idA, Compensations: []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 1, PeerID: exact}}, TimestampMS: 7,
	}}
	c, err := checkpoint.New(idA, 0, checkpoint.CatchUp{VShardID: 1, LearnerLogIndexAtAdd: math.MaxUint64 - 1}, 7)
	require.NoError(t, err)
	upserted := replay.Record{Seq: exact, Event: checkpoint.Upserted{Checkpoint: c}}
	for _, tc := range []struct {
		record        replay.Record
		old, new, key string
	}{
		{abort, `"peer_id":9007199254740993`, `"peer_id":9007199254740992`, `"compensations[0].peer_id": 9007199254740992 may have been rounded`},
		{abort, `"group_id":1,`, `"group_id":12345678901234567000,`, `"compensations[0].group_id": 12345678901234567000 may have been rounded`},
		{upserted, `18446744073709551614`, `18446744073709549568`, `"payload.learner_log_index_at_add": 18446744073709549568 may have been rounded`},
		// Not even a number of the store any more:
		{upserted, `18446744073709551614`, `18446744073709552000`, `"payload.learner_log_index_at_add": 18446744073709552000 is not a whole number from 0 to 18446744073709551615. Programs`},
		{upserted, `18446744073709551614`, `1.8446744073709552e+19`, `"payload.learner_log_index_at_add": 1.8446744073709552e+19 is not a whole number`},
		{abort, `"peer_id":9007199254740993`, `"peer_id":9007199254740993.0`, `"compensations[0].peer_id": 9007199254740993.0 is not a whole number`},
	} {
		line, err := json.Marshal(tc.record)
		require.NoError(t, err)
		require.Equal(t, tc.record, accepted(t, string(line), "exact"))
		changed := strings.Replace(string(line), tc.old, tc.new, 1)
		require.NotEqual(t, string(line), changed)
		err = new(replay.Record).UnmarshalJSON([]byte(changed))
		require.ErrorContains(t, err, tc.key)
		require.ErrorContains(t, err, "--json-strings")

		// A rounded seq is not the cause, because seq is ignored.
		withSeq := strings.Replace(string(line), `"seq":9007199254740993`, `"seq":9007199254740992`, 1)
		accepted(t, withSeq, "seq")
		err = new(replay.Record).UnmarshalJSON([]byte(strings.Replace(withSeq, `"migration_id":"0a`, `"migration_id":"0b`, 1)))
		if _, isAbort := tc.record.Event.(checkpoint.Aborted); isAbort {
			require.ErrorIs(t, err, checkpoint.ErrCRCMismatch)
			require.NotContains(t, err.Error(), `"seq"`)
		}
	}
	line, err := json.Marshal(abort)
	require.NoError(t, err)
	err = new(replay.Record).UnmarshalJSON([]byte(strings.Replace(string(line), `"peer_id":9007199254740993`, `"peer_id":"9007199254740992"`, 1)))
	require.ErrorIs(t, err, checkpoint.ErrCRCMismatch)
	require.NotContains(t, err.Error(), "rounded", "a string is not rounded")
}

// A line without a checksum has the number that may have been rounded. A line with one needs no
// warning, because the checksum matches. A clock of microseconds and a string are not suspect.
func TestNDJSON_RoundedWithoutChecksum(t *testing.T) {
	const checkpointLine = `{"seq":9007199254740992,"kind":"checkpoint","migration_id":"0a000000-0000-0000-0000-000000000000","attempt":0,"phase":"CatchUp","payload":{"vshard_id":1,"learner_log_index_at_add":%s},"ts_ms":7}`
	const abortLine = `{"kind":"abort","migration_id":"0a000000-0000-0000-0000-000000000000","reason":"","compensations":[{"kind":"RemoveLearner","group_id":1,"peer_id":%s}],"ts_ms":7}`
	const removeLine = `{"kind":"remove","migration_id":"0a000000-0000-0000-0000-000000000000","ts_ms":%s}`
	for format, key := range map[string]string{checkpointLine: "payload.learner_log_index_at_add", abortLine: "compensations[0].peer_id", removeLine: "ts_ms"} {
		for value, suspect := range map[string]bool{
			"1795399697649400576": true, "1795399697649400600": true, "9007199254740992": true,
			"1795399697649400619": false, "1795399697649400000": false, "1795399697649000000": false, "7": false, `"1795399697649400576"`: false,
		} {
			r := accepted(t, fmt.Sprintf(format, value), value)
			want := ""
			if suspect {
				want = fmt.Sprintf("%q: %s", key, value)
			}
			require.Equal(t, want, r.Rounded)
			printed, err := json.Marshal(r) // with a checksum
			require.NoError(t, err)
			require.Empty(t, accepted(t, string(printed), value).Rounded)
		}
	}
}

// The seq is ignored, so it may be any number or string.
func TestNDJSON_AnySeq(t *testing.T) {
	for value, want := range map[string]uint64{"7": 7, `"7"`: 7, "1.0": 0, "1e3": 0, "-1": 0, "18446744073709551616": 0, "1.8446744073709552e+19": 0, `"7.0"`: 0, `""`: 0} {
		r := accepted(t, `{"seq":`+value+`,"kind":"remove","migration_id":"0a000000-0000-0000-0000-000000000000","ts_ms":1}`, value)
		require.Equal(t, want, r.Seq, value)
	}
}

// The keys that only a row has are ignored in a checkpoint, but each may be given only once.
func TestNDJSON_RowsOfTheState(t *testing.T) {
	whole := strings.TrimSuffix(lines()["checkpoint"].text(), "}")
	want := accepted(t, whole+"}", "without")
	for _, beside := range []string{`"doubt":"in doubt"`, `"facts":{"source_node":1}`, `"doubt":7,"facts":[{"any":null}]`, `"last_seq":9`, `"for_ms":978,"set_by":{"phase":9}`} {
		require.Equal(t, want, accepted(t, whole+","+beside+"}", beside))
	}
	for _, beside := range []string{`"facts":{"a":1,"a":2}`, `"facts":{"Source":1}`, `"doubt":1,"doubt":1`, `"Doubt":1`, `"facts":`} {
		refused(t, whole+","+beside+"}", beside)
	}
	refused(t, strings.TrimSuffix(lines()["remove"].text(), "}")+`,"facts":{}}`, "a removal has none")
}

// An error names the key by its JSON path, the value, and the expected form. It names all missing and
// all unknown keys, in a fixed order.
func TestNDJSON_Errors(t *testing.T) {
	whole := lines()["checkpoint"].text()
	const uint32s, uint64s = `is not a whole number from 0 to 4294967295`, `is not a whole number from 0 to 18446744073709551615`
	for _, tc := range []struct{ old, new, want string }{
		{`"attempt":2,`, ``, `phase AddLearner: missing key "attempt"`},
		{`"attempt":2`, `"attempt":null`, `phase AddLearner: missing key "attempt"`},
		{`"attempt":2`, `"attempt":2,"attempt":2`, `the key "attempt" is there twice: remove one of them`},
		{`"attempt"`, `"Attempt"`, `unknown key "Attempt": keys consist of a-z, 0-9 and _`},
		{`"attempt"`, `"atempt"`, `phase AddLearner: unknown key "atempt" (misspelled?), and missing key "attempt"`},
		{`"attempt":2`, `"attempt":"2.0"`, `"attempt": "2.0" ` + uint32s},
		{`"attempt":2`, `"attempt":4294967296`, `"attempt": 4294967296 ` + uint32s},
		{`"attempt":2`, `"attempt":1e3`, `"attempt": 1e3 ` + uint32s},
		{`"attempt":2`, `"attempt":true`, `"attempt": true ` + uint32s},
		{`"target_node":3`, `"target_node":-3`, `phase AddLearner: "payload.target_node": -3 ` + uint64s},
		{`"target_node":3,`, ``, `phase AddLearner: missing key "payload.target_node"`},
		{`,"logical":7`, ``, `phase AddLearner: missing key "payload.started_at_hlc.logical"`},
		{whole, `[]`, `[] is not a JSON object`},
		{whole, `7`, `7 is not a JSON object`},
		{`"started_at_hlc":{"wall_ns":6,"logical":7}`, `"started_at_hlc":7`, `phase AddLearner: "payload.started_at_hlc": 7 is not a JSON object`},
		{`"payload":{`, `"payload":[],"facts":{`, `phase AddLearner: "payload": [] is not a JSON object`},
		{`"kind":"checkpoint"`, `"kind":"upsert"`, `"kind": "upsert" is not a kind of event: the kinds are checkpoint, abort, remove, abort_begun, compensated, epoch_raised, digest and restored`},
		{`"kind":"checkpoint"`, `"kind":7`, `"kind": 7 is not a kind of event: the kinds are checkpoint, abort, remove, abort_begun, compensated, epoch_raised, digest and restored`},
		{`"kind":"checkpoint",`, ``, `the key "kind" is missing: the kinds of events are checkpoint, abort, remove, abort_begun, compensated, epoch_raised, digest and restored`},
		{`"phase":"AddLearner"`, `"phase":"Learn"`, `"phase": "Learn" is not a phase: the phases are AddLearner, CatchUp, PromoteLearner, LeadershipTransfer, Cutover, Complete`},
		{idText, `"0123456789"`, `"migration_id": "0123456789" is not a UUID, such as "01a20629-44f1-75f5-8bf1-d9e9fef8b7a5"`},
		{idText, `"\u001b[31m\u202e` + "\u009b" + strings.Repeat("x", 200) + `"`, `"migration_id": "\u001b[31m\u202e\u009b` + strings.Repeat("x", 45) + `… is not a UUID, such as "01a20629-44f1-75f5-8bf1-d9e9fef8b7a5"`},
		{`"vshard_id":1,`, `"vshard_id":1,"zone":1,"az":2,`, `phase AddLearner: unknown keys "payload.az", "payload.zone" (misspelled?)`},
		{`{"wall_ns":6,"logical":7}`, `{}`, `phase AddLearner: missing keys "payload.started_at_hlc.wall_ns", "payload.started_at_hlc.logical"`},
		{whole, whole + "{}", `more than one JSON value: put each event on a line of its own`},
		{whole, "{\"a\xff\"}", `byte 4 (0xff) is not valid UTF-8: convert the input to UTF-8`},
	} {
		line := strings.Replace(whole, tc.old, tc.new, 1)
		require.NotEqual(t, whole, line)
		require.EqualError(t, new(replay.Record).UnmarshalJSON([]byte(line)), tc.want, line)
	}
	abort := lines()["abort"].text()
	for _, tc := range []struct{ line, want string }{
		{`{"kind":"remove"}`, `missing keys "migration_id", "ts_ms"`},
		{`{"kind":"abort"}`, `missing keys "migration_id", "reason", "compensations", "ts_ms"`},
		{`{"kind":"checkpoint"}`, `missing keys "migration_id", "attempt", "phase", "payload", "ts_ms"`},
		{`{"kind":"damage"}`, `missing keys "first_seq", "last_seq", "segment", "offset", "length", "reason"`},
		{`{"kind":"checkpoint","phase":"CatchUp","payload":{}}`,
			`phase CatchUp: missing keys "migration_id", "attempt", "ts_ms", "payload.vshard_id", "payload.learner_log_index_at_add"`},
		{strings.Replace(abort, `"peer_id":0,`, "", 1), `missing key "compensations[1].peer_id"`},
		{strings.Replace(abort, `"RemoveLearner"`, `"Undo"`, 1),
			`"compensations[0].kind": "Undo" is not a kind of compensation: the kinds are RemoveLearner, RemoveVoter, RestoreLeaderHint, RemoveGhostStub`},
		{`{"kind":"compensated"}`, `missing keys "migration_id", "step", "ts_ms"`},
		{`{"kind":"epoch_raised"}`, `missing keys "migration_id", "ts_ms", "epoch"`},
		{strings.Replace(lines()["epoch_raised"].text(), `"epoch":5`, `"epoch":0`, 1), `"epoch": 0 is not a whole number of at least 1`},
		{strings.Replace(lines()["damage"].text(), `"harmless"`, `7`, 1), `"severity": 7 is not a text in quotes`},
		{strings.Replace(abort, `"reason":""`, `"reason":7`, 1), `"reason": 7 is not a text in quotes`},
	} {
		for range 4 { // the order is fixed
			require.EqualError(t, new(replay.Record).UnmarshalJSON([]byte(tc.line)), tc.want, tc.line)
		}
	}
}
