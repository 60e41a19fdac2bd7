package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
)

// results are all samples so far, by measurement and metric.
type results struct {
	Events        uint64                          `json:"events"`
	LogBytes      int64                           `json:"log_bytes"` // of wal/
	IndexBytes    int64                           `json:"index_bytes"`
	DatabaseBytes int64                           `json:"database_bytes"`
	LoadSeconds   float64                         `json:"load_s"`
	Samples       map[string]map[string][]float64 `json:"samples"`
}

func readResults(f files) (r results, err error) {
	content, err := os.ReadFile(f.results)
	if errors.Is(err, fs.ErrNotExist) {
		return results{Samples: map[string]map[string][]float64{}}, nil
	}
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(content, &r)
}

func (r results) write(f files) error {
	content, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(f.results, append(content, '\n'), 0o600)
}

// spread has the median, the least and the greatest sample.
type spread struct{ Median, Min, Max float64 }

func spreadOf(samples []float64) spread {
	sorted := slices.Sorted(slices.Values(samples))
	n := len(sorted)
	if n == 0 {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	return spread{(sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[0], sorted[n-1]}
}

func (s spread) String() string {
	if math.IsNaN(s.Median) {
		return ""
	}
	return fmt.Sprintf("%s (%s to %s)", number(s.Median), number(s.Min), number(s.Max))
}

// number shows three significant digits.
func number(v float64) string {
	if v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// report writes the tables of the document.
func report(w io.Writer, f files) error {
	r, err := readResults(f)
	if err != nil {
		return err
	}
	const mb = 1e6
	fmt.Fprintf(w, "%d events, wal/ %.0f MB, index/ %.0f MB (%.1f %%). SQLite: %.0f MB, loaded in %.0f s.\n\n",
		r.Events, float64(r.LogBytes)/mb, float64(r.IndexBytes)/mb, 100*float64(r.IndexBytes)/float64(r.LogBytes), float64(r.DatabaseBytes)/mb, r.LoadSeconds)
	r.goals(w)
	fmt.Fprint(w, "\n| question | answered by | cold ms | warm ms | peak memory MiB |\n|---|---|---:|---:|---:|\n")
	for _, m := range all() {
		samples := r.Samples[m.name()]
		if len(samples) == 0 {
			continue
		}
		by := m.by
		if m.bare {
			by += ", without index/"
		}
		fmt.Fprintf(w, "| `%s` | %s | %s | %s | %s |\n", m.question.name, by, spreadOf(samples[coldMS]), spreadOf(samples[warmMS]), spreadOf(samples[rssMiB]))
	}
	return nil
}

// goals writes the table of the goals.
func (r results) goals(w io.Writer) {
	fmt.Fprint(w, "| goal | result | measured |\n|---|---|---:|\n")
	line := func(text string, met bool, measured string) {
		result := "short"
		switch {
		case measured == "":
			result = "not measured"
		case met:
			result = "met"
		}
		fmt.Fprintf(w, "| %s | %s | %s |\n", text, result, measured)
	}
	units := map[string]string{coldMS: "ms, cold", warmMS: "ms, warm", rssMiB: "MiB", rateGB: "GB/s, warm"}
	for _, q := range questions {
		for _, g := range q.goals {
			s := spreadOf(r.Samples[measurement{question: q, by: g.by}.name()][g.metric])
			relation := "at most"
			if g.least {
				relation = "at least"
			}
			what := q.name
			if g.by != byTool {
				what = g.by
			}
			line(fmt.Sprintf("`%s`: %s %s %s", what, relation, number(g.bound), units[g.metric]), g.isMet(s), s.String())
		}
	}
	if r.LogBytes > 0 {
		percent := 100 * float64(r.IndexBytes) / float64(r.LogBytes)
		line("`index/`: at most 20 % of `wal/`", percent <= 20, fmt.Sprintf("%.1f %%", percent))
	}
}
