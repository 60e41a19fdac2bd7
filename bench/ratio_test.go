package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/bench/peer"
)

// upserts returns results with the throughput in each round of some peers, for one number of
// writers.
func upserts(writers int, rounds map[string][]float64) *results {
	r := &results{Peers: aboutPeers()}
	for _, p := range peer.All() {
		if v, ok := rounds[p.Name]; ok {
			r.Figures = append(r.Figures, figure{Workload: "upsert", Peer: p.Name, X: writers, Values: map[string]spread{"ops_per_s": spreadOf(v)}})
		}
	}
	return r
}

// A ratio is taken within each round. The median of the ratios is not the ratio of the medians.
func TestRatioTable_DividesWithinEachRound(t *testing.T) {
	r := upserts(64, map[string][]float64{
		ours: {100, 200, 300}, rawFileName: {400, 250, 200}, // within the rounds: 0.25, 0.80, 1.50; of the medians: 0.80
		"raft-wal": {50, 400, 30}, "etcd WAL": {40, 45, 41}, // medians 50 and 41; ratios to raft-wal: 2, 0.5, 10
		"pebble": {10, 20, 25}, "SQLite": {24, 21, 5}, // medians 20 and 21; ratios to SQLite: 4.17, 9.52, 60
	})
	rows := ratioTable(r).rows
	require.Equal(t, [][]string{
		{"the raw file", "not measured", "0.80 (0.25 to 1.50), raw file", "not measured"},
		{"the fastest log", "not measured", "2.00 (0.50 to 10.00), raft-wal", "not measured"},
		{"the fastest table of latest rows", "not measured", "9.52 (4.17 to 60.00), SQLite", "not measured"},
	}, rows)
}

// All nine ratios have a value and a name if all peers were measured, and the table states which
// direction is good.
func TestRatioTable_NineRatios(t *testing.T) {
	table := ratioTable(example())
	require.Equal(t, []string{"relative to", "1 writer", "64 writers", "256 writers"}, table.head)
	require.Len(t, table.rows, 3)
	for i, name := range []string{rawFileName, "tidwall/wal", "bbolt Update"} { // the fastest of the example
		for _, cell := range table.rows[i][1:] {
			require.Regexp(t, `^\d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\), `+name+"$", cell)
		}
	}
	var text bytes.Buffer
	table.markdown(&text)
	require.Contains(t, text.String(), "\n\nHigher is better")
}

// The fastest log is a peer that keeps a history, and the fastest table one that keeps rows, even
// if a build of migrationlog or the raw file is faster.
func TestFastest_IsOfTheSameKind(t *testing.T) {
	r := upserts(1, map[string][]float64{ours: {9}, rawFileName: {99}, "tidwall/wal": {2}, "badger": {3}})
	r.Peers = append(r.Peers, about{Name: variantOf(oldBuild), Keeps: peer.KeepsHistoryAndRows})
	r.Figures = append(r.Figures, figure{Workload: "upsert", Peer: variantOf(oldBuild), X: 1, Values: map[string]spread{"ops_per_s": spreadOf([]float64{999})}})
	for keeps, want := range map[string]string{peer.KeepsHistory: "tidwall/wal", peer.KeepsRows: "badger"} {
		name, ok := fastest(r, keeps, 1)
		require.True(t, ok)
		require.Equal(t, want, name)
	}
	name, _, _ := bestPeer(r, 1, "ops_per_s", false)
	require.Equal(t, "badger", name)
	_, ok := fastest(r, peer.KeepsRows, 64)
	require.False(t, ok, "not measured")
}

// The present build is divided by the old one within each round, and each row states which
// direction is good. Without an old build there is no such table.
func TestOldTable(t *testing.T) {
	r := upserts(1, map[string][]float64{ours: {100, 300, 200}})
	require.Len(t, comparisons(r), 1)
	old := figure{Workload: "upsert", Peer: variantOf(oldBuild), X: 1, Values: map[string]spread{"ops_per_s": spreadOf([]float64{200, 200, 200})}}
	r.Figures = append(r.Figures, old)
	require.Equal(t, [][]string{{"1 writer, durable upserts: migrationlog", "ops/s", "higher", "200", "200", "1.00 (0.50 to 1.50)"}}, oldTable(r).rows)
	require.Len(t, comparisons(r), 2)
}
