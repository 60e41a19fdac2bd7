package replay_test

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// fullReport returns a report in which every field is set, including fields that are added later.
func fullReport(t testing.TB) (r replay.Report) {
	v := reflect.ValueOf(&r).Elem()
	for i := range v.NumField() {
		fill(t, v.Field(i))
		require.False(t, v.Field(i).IsZero(), "no value for %s", v.Type().Field(i).Name)
	}
	return r
}

func fill(t testing.TB, v reflect.Value) {
	switch v.Kind() {
	case reflect.Uint64, reflect.Uint8:
		v.SetUint(7)
	case reflect.Int64:
		v.SetInt(7)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString("text")
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0))
		fill(t, v.Index(1))
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	default:
		t.Fatalf("how is a %s filled?", v.Type())
	}
}

// A clone shares no memory with its report.
func TestReport_CloneSharesNothing(t *testing.T) {
	require.Equal(t, replay.Report{}, replay.Report{}.Clone(), "nothing is made up")

	r, want := fullReport(t), fullReport(t)
	clone := r.Clone()
	require.Equal(t, want, clone)
	v := reflect.ValueOf(&clone).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.Slice:
			f.Index(0).SetZero()
			f.Index(1).SetZero()
		case reflect.Pointer:
			f.Elem().SetZero()
		}
	}
	require.Equal(t, want, r)
}

// In JSON an empty list is [], and a missing torn tail is null. The fields that only an opening
// sets are left out.
func TestReport_JSONOfEmptyLists(t *testing.T) {
	for name, r := range map[string]replay.Report{
		"nil":   {},
		"empty": {Lost: []replay.SeqRange{}, Damage: []replay.Damage{}, InDoubt: []checkpoint.MigrationID{}, Quarantined: []string{}},
	} {
		b, err := json.Marshal(r)
		require.NoError(t, err)
		var keys map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(b, &keys))
		shape := reflect.TypeFor[replay.Report]()
		for i := range shape.NumField() {
			key, options, _ := strings.Cut(shape.Field(i).Tag.Get("json"), ",")
			switch kind := shape.Field(i).Type.Kind(); {
			case options == "omitempty":
				require.NotContains(t, keys, key, name)
			case kind == reflect.Slice:
				require.Equal(t, "[]", string(keys[key]), "%s: %s", name, key)
			case kind == reflect.Pointer:
				require.Equal(t, "null", string(keys[key]), "%s: %s", name, key)
			default:
				require.Contains(t, []string{"0", "false"}, string(keys[key]), "%s: %s", name, key)
			}
		}
	}
}

// In JSON a range is a pair, and damage has the keys of its NDJSON line.
func TestReport_JSON(t *testing.T) {
	r := replay.Report{
		FirstSeq: 1, LastSeq: 9, FramesOK: 6,
		Lost:             []replay.SeqRange{{First: 4, Last: 5}, {First: 8, Last: 8}},
		AcknowledgedLost: []replay.SeqRange{{First: 4, Last: 5}},
		Damage:           []replay.Damage{{FirstSeq: 4, LastSeq: 5, Segment: "s", Offset: 6, Length: 7, Reason: "zeros", Severity: segment.EndangersEvents, AfterMS: 1, DurableThrough: 3}},
		TornTail:         &replay.Damage{FirstSeq: 10, LastSeq: 10, Segment: "s", Offset: 8, Length: 9, Reason: "cut", Torn: true},
		InDoubt:          []checkpoint.MigrationID{idA},
		Quarantined:      []string{"quarantine/s"},
	}
	b, err := json.Marshal(r)
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, json.Unmarshal(b, &got))
	require.Equal(t, []any{[]any{4.0, 5.0}, []any{8.0, 8.0}}, got["lost"])
	require.Equal(t, []any{[]any{4.0, 5.0}}, got["acknowledged_lost"])
	require.Equal(t, []any{map[string]any{"first_seq": 4.0, "last_seq": 5.0, "segment": "s", "offset": 6.0, "length": 7.0, "reason": "zeros", "severity": "endangers events", "after_ms": 1.0}}, got["damage"])
	require.Equal(t, map[string]any{"first_seq": 10.0, "last_seq": 10.0, "segment": "s", "offset": 8.0, "length": 9.0, "reason": "cut", "severity": "loses events", "torn": true}, got["torn_tail"])
	require.Equal(t, []any{idA.String()}, got["in_doubt"])
	require.Equal(t, []any{"quarantine/s"}, got["quarantined"])

	var again replay.Report
	require.NoError(t, json.Unmarshal(b, &again))
	r.Damage[0].DurableThrough = 0 // not in JSON
	require.Equal(t, r.Lost, again.Lost)
	require.Equal(t, r.Damage, again.Damage)
	require.Equal(t, r.TornTail, again.TornTail)
}

// CountSeqs counts both ends of each range.
func TestCountSeqs(t *testing.T) {
	for _, tc := range []struct {
		ranges []replay.SeqRange
		want   uint64
	}{
		{nil, 0},
		{[]replay.SeqRange{}, 0},
		{[]replay.SeqRange{{First: 5, Last: 5}}, 1},
		{[]replay.SeqRange{{First: 1, Last: 3}, {First: 7, Last: 7}}, 4},
		{[]replay.SeqRange{{First: 1, Last: math.MaxUint64}}, math.MaxUint64},
	} {
		require.Equal(t, tc.want, replay.CountSeqs(tc.ranges), "%v", tc.ranges)
		require.Equal(t, tc.want, replay.Report{Lost: tc.ranges}.LostCount(), "%v", tc.ranges)
	}
}

// Harmless findings and a torn tail do not count as damaged.
func TestReport_Damaged(t *testing.T) {
	harmless := replay.Damage{Severity: segment.Harmless}
	require.False(t, replay.Report{}.Damaged())
	require.False(t, replay.Report{Damage: []replay.Damage{harmless, harmless}, TornTail: &replay.Damage{}}.Damaged())
	for _, severity := range []segment.Severity{segment.LosesEvents, segment.EndangersEvents} {
		r := replay.Report{Damage: []replay.Damage{harmless, {Severity: severity}, harmless}}
		require.True(t, r.Damaged())
		require.Equal(t, 1, r.CountFindings(severity))
		require.Equal(t, 2, r.CountFindings(segment.Harmless))
	}
}

// Damage in a segment has the wall clocks of its neighbors, even if the clock went backwards. Damage
// of other files has none.
func TestReport_Times(t *testing.T) {
	fsys := logOf(t, []any{unknown(idA, 30), unknown(idA, 40), unknown(idA, 20), unknown(idA, 10), unknown(idA, 50)})
	file := fsys["wal/00000000000000000001"]
	file.Data = file.Data[:len(file.Data)-1]
	reader := openFS(t, fsys)
	offsets := map[uint64]int64{}
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		offsets[r.Seq] = r.Offset
	}
	fsys["wal/x"] = &fstest.MapFile{}
	for _, tc := range []struct {
		flipped                  uint64
		after, before, tornAfter uint64
	}{{1, 0, 40, 10}, {2, 30, 20, 10}, {4, 20, 0, 20}} {
		file.Data[offsets[tc.flipped]+20] ^= 1
		report, err := openFS(t, fsys).Verify(t.Context())
		require.NoError(t, err)
		file.Data[offsets[tc.flipped]+20] ^= 1
		require.Len(t, report.Damage, 2)
		require.Zero(t, report.Damage[0].AfterMS+report.Damage[0].BeforeMS, "of a foreign file")
		require.Equal(t, tc.after, report.Damage[1].AfterMS)
		require.Equal(t, tc.before, report.Damage[1].BeforeMS)
		require.Equal(t, tc.tornAfter, report.TornTail.AfterMS)
		require.Zero(t, report.TornTail.BeforeMS)
	}
}

// A report is clean if it has neither damage nor a torn tail.
func TestReport_Clean(t *testing.T) {
	require.True(t, replay.Report{FramesOK: 9, UnknownKinds: 1, SnapshotSeq: 3}.Clean())
	require.False(t, replay.Report{Damage: []replay.Damage{{Reason: "missing"}}}.Clean(), "also where it costs no event")
	require.False(t, replay.Report{TornTail: &replay.Damage{}}.Clean())
}

// Verify counts events of unknown kinds among the intact frames, and reports lost frames and whether
// they had been acknowledged.
func TestVerify(t *testing.T) {
	report, err := openFS(t, history(t)).Verify(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, report.FirstSeq)
	require.EqualValues(t, 13, report.LastSeq)
	require.EqualValues(t, 11, report.FramesOK)
	require.EqualValues(t, 2, report.UnknownKinds)
	require.Equal(t, []replay.SeqRange{{First: 4, Last: 5}}, report.Lost)
	require.Equal(t, report.Lost, report.AcknowledgedLost, "seq 6 says that they were durable")
	require.Len(t, report.Damage, 2)
	require.Nil(t, report.TornTail)
	require.False(t, report.Clean())

	torn := logOf(t, []any{unknown(idA, 1), unknown(idA, 2)})
	file := torn["wal/00000000000000000001"]
	file.Data = file.Data[:len(file.Data)-3]
	report, err = openFS(t, torn).Verify(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, report.FramesOK)
	require.Empty(t, report.Damage)
	require.Empty(t, report.Lost, "it never was an event of the log")
	require.EqualValues(t, 2, report.TornTail.FirstSeq)
	require.False(t, report.Clean())
}

// A writer may open the log after the reader did. Numbers that the writer has skipped are then not
// listed as acknowledged.
func TestVerify_NumbersThatAWriterSkippedMeanwhile(t *testing.T) {
	fsys := history(t)
	reader := openFS(t, fsys)
	manifest := reader.Manifest().Skip([]replay.SeqRange{{First: 5, Last: 5}})
	fsys[segment.ManifestName] = &fstest.MapFile{Data: manifest.Encode()}
	report, err := reader.Verify(t.Context())
	require.NoError(t, err)
	require.Equal(t, []replay.SeqRange{{First: 4, Last: 5}}, report.Lost)
	require.Equal(t, []replay.SeqRange{{First: 4, Last: 4}}, report.AcknowledgedLost)
}
