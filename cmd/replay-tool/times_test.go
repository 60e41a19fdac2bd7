package main

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// Times may be relative to the last event of the log, a time of day on its day, or in the zone of
// --tz.
func TestTimes_Forms(t *testing.T) {
	t.Parallel()
	dir := recordingLog(t)
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	const endMS = 1795399805305 // 2026-11-23T02:10:05.305Z
	for text, want := range map[string]uint64{
		"-20s": endMS - 20_000, "20s": endMS - 20_000, "5m": endMS - 300_000, "-1d": endMS - 86_400_000, "1d2h": endMS - 26*3_600_000, "0s": endMS,
		"02:10": 1795399800000, "02:10:04.327": 1795399804327,
		"2026-11-23T02:10:04.327Z": 1795399804327, "2026-11-23T03:10:04.327+01:00": 1795399804327, "2026-11-23 02:10": 1795399800000, "1795399804327": 1795399804327,
	} {
		ms, err := (&tool{}).times(t.Context(), reader).parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, ms, text)
	}
	before := uint64(time.Now().UnixMilli())
	ms, err := (&tool{}).times(t.Context(), reader).parse("now-5m")
	require.NoError(t, err)
	require.LessOrEqual(t, before-300_000, ms)
	ms, err = (&tool{}).times(t.Context(), reader).parse("now-99999d") // before 1970
	require.NoError(t, err)
	require.Zero(t, ms)
	for _, text := range []string{"yesterday", "-", "--5m", "+5m", "now+5m", "now5m", "nowhere", "25:00", "5", "", "1969-01-01"} {
		_, err := (&tool{}).times(t.Context(), reader).parse(text)
		require.ErrorAs(t, err, new(usageError), "%q", text)
	}

	cet, err := parseZone("+01:00")
	require.NoError(t, err)
	for text, want := range map[string]uint64{"03:10": 1795399800000, "2026-11-23 03:10": 1795399800000, "2026-11-23T02:10:00Z": 1795399800000} {
		ms, err := (&tool{zone: cet}).times(t.Context(), reader).parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, ms, text)
	}
	_, err = parseZone("Nowhere/City")
	require.ErrorAs(t, err, new(usageError))
}

// A point may be the moment just before a phase of a migration, in upper or lower case.
func TestTimes_Points(t *testing.T) {
	dir := recordingLog(t)
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	times := (&tool{}).times(t.Context(), reader)
	for text, want := range map[string]replay.Point{
		"#7": {Seq: 7}, "-20s": {TimeMS: 1795399785305}, "781d20@catchup": {Seq: 9401}, "7a909@CatchUp": {Seq: 1126}, "7a909@abort": {Seq: 1129},
	} {
		point, err := times.point(t.Context(), text)
		require.NoError(t, err, text)
		require.Equal(t, want, point, text)
	}
	_, err = times.point(t.Context(), "781d20@Cutover")
	require.ErrorIs(t, err, errNoMatch)
	for _, text := range []string{"#0", "#x", "7", "f8b7a5@AddLearner" /* event #1 */} {
		_, err := times.point(t.Context(), text)
		require.ErrorAs(t, err, new(usageError), text)
	}
}

// ID@PHASE is in the newest incarnation that has the phase.
func TestTimes_PointInTheNewestIncarnation(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	store, err := migrationlog.Open(dir, &migrationlog.Options{NoSync: true})
	require.NoError(t, err)
	id := checkpoint.NewMigrationID()
	for range 2 {
		for attempt := range uint32(2) {
			c, err := checkpoint.New(id, attempt, checkpoint.CatchUp{}, 1_800_000_000_000)
			require.NoError(t, err)
			_, err = store.Upsert(c)
			require.NoError(t, err)
		}
		_, err = store.Remove(id)
		require.NoError(t, err)
	}
	require.NoError(t, store.Close())
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	point, err := (&tool{}).times(t.Context(), reader).point(t.Context(), id.String()+"@CatchUp")
	require.NoError(t, err)
	require.Equal(t, replay.Point{Seq: 3}, point) // #4 and #5 are the tries of the second incarnation
}

// The heading of short times names their zone, and each new day is printed once.
func TestClock_ShortTimes(t *testing.T) {
	zone, err := parseZone("+02:00")
	require.NoError(t, err)
	c := (&tool{timeStyle: timeISO, zone: zone}).clock()
	require.Equal(t, "TIME +02:00", c.title())
	const ms = 1795399697649
	require.Equal(t, "2026-11-23", c.newDay(ms))
	require.Equal(t, "04:08:17.649", c.short(ms))
	require.Equal(t, "2026-11-23T04:08:17.649+02:00", c.show(ms))
	require.Empty(t, c.newDay(ms+1000))
	require.Equal(t, "2026-11-24", c.newDay(ms+86_400_000))
	require.Equal(t, "2026-11-23", c.newDay(ms))
	require.Empty(t, (&clock{style: timeRelative}).newDay(ms))
}

// A pause has the digits that matter.
func TestPauseSpan(t *testing.T) {
	for us, want := range map[uint64]string{
		0: "0", 999: "999us", 1000: "1ms", 2776: "2.8ms", 7_190: "7.2ms", 99_960: "100ms", 500_000: "500ms", 1_500_000: "1.50s",
	} {
		require.Equal(t, want, pauseSpan(us), fmt.Sprint(us))
	}
}

// All commands with --at print the same about a point after the last event.
func TestTimes_PointAfterTheEnd(t *testing.T) {
	dir, _ := smallLog(t, 3)
	empty := filepath.Join(t.TempDir(), "empty")
	makeEmpty(t, empty)
	for _, command := range []string{"state", "plan", "diff"} {
		code, _, errs := runTool(t, nil, command, dir, "--at", "#4")
		require.Equal(t, exitUsage, code, command)
		require.Equal(t, "replay-tool: --at '#4': the log ends with #3, give that or an earlier number\n", errs, command)
		code, _, errs = runTool(t, nil, command, empty, "--at", "#4")
		require.Equal(t, exitUsage, code, command)
		require.Equal(t, "replay-tool: --at '#4': the log has no event\n", errs, command)
	}
}
