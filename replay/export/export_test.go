package export_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
	"migrationlog/replay/export"
)

const reason = "it's \"gone\",\nNUL \x00; DROP TABLE event; --"

func id(n byte) checkpoint.MigrationID { return checkpoint.MigrationID{1, 15: n} }

// records is the history of a move that is removed, of one that is aborted, of one whose removal is
// lost, and of one in flight.
func records(t *testing.T) []replay.Record {
	upserted := func(n byte, atMS uint64, attempt uint32, p checkpoint.Payload) checkpoint.Event {
		c, err := checkpoint.New(id(n), attempt, p, atMS)
		require.NoError(t, err)
		return checkpoint.Upserted{Checkpoint: c}
	}
	addLearner := func(vshard uint32) checkpoint.AddLearner {
		return checkpoint.AddLearner{VShardID: vshard, SourceNode: math.MaxUint64, TargetNode: 2, SourceGroup: 7, WritePauseBudgetUS: math.MaxUint64}
	}
	return []replay.Record{
		{Seq: 1, Event: upserted(1, 1000, 0, addLearner(1))},
		{Seq: 2, Event: upserted(2, 1010, 0, addLearner(2))},
		{Seq: 3, PrevSeq: 1, Event: upserted(1, 1020, 2, checkpoint.Complete{VShardID: 1, ActualPauseUS: 3})},
		{Seq: 4, PrevSeq: 3, Event: checkpoint.Removed{MigrationID: id(1), TimestampMS: 1030, Epoch: 9}},
		{Seq: 5, PrevSeq: 2, Event: checkpoint.Aborted{MigrationID: id(2), Reason: reason, TimestampMS: 1005, Compensations: []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 7, PeerID: 2}}}},
		{Seq: 6, Event: upserted(1, 1040, 0, addLearner(1))},
		{Damage: &replay.Damage{FirstSeq: 7, LastSeq: 7, Segment: "00000000000000000001", Reason: "a hole", Severity: segment.LosesEvents}},
		{Seq: 8, Event: upserted(1, math.MaxUint64, 0, addLearner(1))},
		{Seq: 9, PrevSeq: 8, Unknown: &checkpoint.UnknownKindError{Kind: 99, MigrationID: id(1), TimestampMS: 1050}},
	}
}

func exported(t *testing.T, o export.Options) (string, export.Summary) {
	var out bytes.Buffer
	e, err := export.New(&out, o)
	require.NoError(t, err)
	for _, r := range records(t) {
		require.NoError(t, e.Add(r))
	}
	s, err := e.Finish()
	require.NoError(t, err)
	return out.String(), s
}

// Each table has a row for each event, stay, move and finding.
func TestCSV(t *testing.T) {
	for table, want := range map[export.Table][]string{
		export.Stay: {
			"migration_id,incarnation,phase,attempt,seq,ms,next",
			"ID1,1,AddLearner,0,1,20,Complete",
			"ID1,1,Complete,2,3,10,remove",
			"ID2,1,AddLearner,0,2,-5,abort",
			"ID1,3,AddLearner,0,8,,",
		},
		export.Move: {
			"migration_id,incarnation,vshard_id,source_node,target_node,source_group,started_ms,ended_ms,outcome,reason,phase,retries,first_seq,last_seq",
			"ID1,1,1,18446744073709551615,2,7,1000,1020,removed,,Complete,1,1,4",
			`ID2,1,2,18446744073709551615,2,7,1010,1005,aborted,"it's ""gone"",`,
			`NUL \u0000; DROP TABLE event; --",AddLearner,0,2,5`,
			"ID1,2,1,18446744073709551615,2,7,1040,,end_lost,,AddLearner,0,6,6",
			"ID1,3,1,18446744073709551615,2,7,18446744073709551615,,in_flight,,AddLearner,0,8,9",
		},
		export.Damage: {
			"n,first_seq,last_seq,segment,offset_bytes,length_bytes,reason,severity,torn",
			"1,7,7,00000000000000000001,0,0,a hole,loses events,0",
		},
	} {
		out, summary := exported(t, export.Options{Format: export.CSV, Table: table})
		out = strings.NewReplacer(id(1).String(), "ID1", id(2).String(), "ID2").Replace(out)
		require.Equal(t, strings.Join(want, "\n")+"\n", out)
		rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
		require.NoError(t, err)
		require.EqualValues(t, len(rows)-1, summary.Rows[table])
	}
	out, _ := exported(t, export.Options{Format: export.CSV})
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 9)
	require.Equal(t, []string{"4", "remove", id(1).String(), "1", "", "", "1", "1030", "", rows[4][9], "9", "", ""}, rows[4])
	var abort struct{ Reason string }
	require.NoError(t, json.Unmarshal([]byte(rows[5][8]), &abort))
	require.Equal(t, reason, abort.Reason)
	require.JSONEq(t, `{"kind_code":99}`, rows[8][8])
}

// Numbers that SQL cannot hold become NULL, and the summary counts them. Names of nodes are text.
func TestSQL(t *testing.T) {
	out, summary := exported(t, export.Options{Format: export.SQL})
	require.True(t, strings.HasPrefix(out, "BEGIN;\nCREATE TABLE event(seq BIGINT, "))
	require.True(t, strings.HasSuffix(out, "CREATE INDEX move_outcome ON move(outcome);\nCOMMIT;\n"))
	require.Less(t, strings.LastIndex(out, "INSERT INTO"), strings.Index(out, "CREATE INDEX"))
	require.Contains(t, out, "INSERT INTO move VALUES('"+id(2).String()+`',1,2,'18446744073709551615','2','7',1010,1005,'aborted','it''s "gone",`+"\n"+`NUL \u0000; DROP TABLE event; --','AddLearner',0,2,5);`)
	require.NotContains(t, out, "\x00")
	require.EqualValues(t, 2, summary.TooLarge, "ts_ms of #8, and started_ms of its move")
	require.Equal(t, map[export.Table]uint64{export.Event: 8, export.Stay: 4, export.Move: 4, export.Damage: 1}, summary.Rows)
}

// The lines of events are those of the records, so that import reads them.
func TestNDJSON(t *testing.T) {
	out, _ := exported(t, export.Options{Format: export.NDJSON})
	var want bytes.Buffer
	for _, r := range records(t) {
		b, err := r.MarshalJSON()
		require.NoError(t, err)
		want.Write(append(b, '\n'))
	}
	require.Equal(t, want.String(), out)
	for _, table := range []export.Table{export.Stay, export.Move, export.Damage} {
		out, summary := exported(t, export.Options{Format: export.NDJSON, Table: table})
		lines := strings.Split(strings.TrimSpace(out), "\n")
		require.EqualValues(t, len(lines), summary.Rows[table], table)
		for _, line := range lines {
			require.True(t, json.Valid([]byte(line)), line)
		}
	}
	out, _ = exported(t, export.Options{Format: export.NDJSON, Table: export.Move})
	require.Contains(t, out, `"source_node":18446744073709551615,`)
	require.Contains(t, out, `NUL \u0000; DROP`)
}

// A filter selects events, the stays that they begin, and the moves that have any of them.
func TestFilter(t *testing.T) {
	o := export.Options{Format: export.SQL, Filtered: true, Query: replay.Query{FromSeq: 3, ToSeq: 5}}
	_, summary := exported(t, o)
	require.Equal(t, map[export.Table]uint64{export.Event: 3, export.Stay: 1, export.Move: 2, export.Damage: 0}, summary.Rows)
	o.Query = replay.Query{VShards: []uint32{2}}
	_, summary = exported(t, o)
	require.Equal(t, map[export.Table]uint64{export.Event: 2, export.Stay: 1, export.Move: 1, export.Damage: 1}, summary.Rows)
}
