package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// This file turns measurements into the table: medians over the rounds, and ratios against the baselines.

// measurement is one target measured once.
type measurement struct {
	Target      string      `json:"target"`
	Connections int         `json:"connections"`
	Round       int         `json:"round"`
	PerSecond   float64     `json:"changes_per_second"`
	MeanMillis  float64     `json:"latency_mean_ms"`
	Failures    int64       `json:"failures"`
	Load        *loadResult `json:"load,omitempty"` // nil for pgbench
}

// summary is one target at one number of connections: medians over the rounds.
type summary struct {
	Target      string  `json:"target"`
	Connections int     `json:"connections"`
	PerSecond   float64 `json:"changes_per_second"`
	Lowest      float64 `json:"lowest"`  // changes/s of the slowest round
	Highest     float64 `json:"highest"` // of the fastest
	MeanMillis  float64 `json:"latency_mean_ms"`
	// P50Millis and P99Millis are nil for pgbench, which reports none.
	P50Millis *float64 `json:"latency_p50_ms"`
	P99Millis *float64 `json:"latency_p99_ms"`
	// VsPgbench and VsPlain are PerSecond over the baseline's; nil where that was not measured.
	VsPgbench *float64 `json:"vs_pgbench"`
	VsPlain   *float64 `json:"vs_plain"`
	Failures  int64    `json:"failures"`
}

// targetOrder is the order of rows within one number of connections.
var targetOrder = [...]string{targetPgbench, targetPlain, targetServer, targetSQLite}

type summaryKey struct {
	connections int
	target      string
}

// summarize makes one summary for each target and number of connections, in the order of the table.
func summarize(measurements []measurement) []summary {
	groups := map[summaryKey][]measurement{}
	for _, m := range measurements {
		key := summaryKey{m.Connections, m.Target}
		groups[key] = append(groups[key], m)
	}
	byKey := map[summaryKey]summary{}
	for key, rounds := range groups {
		byKey[key] = summarizeRounds(key, rounds)
	}
	summaries := make([]summary, 0, len(byKey))
	for key, s := range byKey {
		s.VsPgbench = ratio(s, byKey, summaryKey{key.connections, targetPgbench})
		s.VsPlain = ratio(s, byKey, summaryKey{key.connections, targetPlain})
		summaries = append(summaries, s)
	}
	slices.SortFunc(summaries, func(a, b summary) int {
		return cmp.Or(cmp.Compare(a.Connections, b.Connections),
			cmp.Compare(slices.Index(targetOrder[:], a.Target), slices.Index(targetOrder[:], b.Target)))
	})
	return summaries
}

func summarizeRounds(key summaryKey, rounds []measurement) summary {
	s := summary{Target: key.target, Connections: key.connections}
	var rates, means, p50s, p99s []float64
	for _, m := range rounds {
		rates, means = append(rates, m.PerSecond), append(means, m.MeanMillis)
		s.Failures += m.Failures
		if m.Load != nil {
			p50s, p99s = append(p50s, m.Load.Latency.P50), append(p99s, m.Load.Latency.P99)
		}
	}
	s.PerSecond, s.MeanMillis = median(rates), median(means)
	s.Lowest, s.Highest = slices.Min(rates), slices.Max(rates)
	if len(p50s) > 0 {
		p50, p99 := median(p50s), median(p99s)
		s.P50Millis, s.P99Millis = &p50, &p99
	}
	return s
}

// ratio compares a target with a baseline; nil where the baseline is missing or is the target itself.
func ratio(s summary, all map[summaryKey]summary, baseline summaryKey) *float64 {
	base, ok := all[baseline]
	if !ok || base.PerSecond == 0 || s.Target == baseline.target {
		return nil
	}
	r := s.PerSecond / base.PerSecond
	return &r
}

// median of at least one value; of an even number, the mean of the middle two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// title is a target's name in the table.
func title(target string) string {
	switch target {
	case targetPgbench:
		return "(a) one statement, pgbench"
	case targetPlain:
		return "(b) plain handler"
	case targetServer:
		return "taskflow, PostgreSQL"
	case targetSQLite:
		return "taskflow, SQLite"
	}
	return target
}

// writeTable prints the summaries for people.
func writeTable(w io.Writer, summaries []summary) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "connections\ttarget\tchanges/s\tlowest\thighest\tvs (a)\tvs (b)\tmean ms\tp50 ms\tp99 ms\tfailed\t")
	for i, s := range summaries {
		if i > 0 && s.Connections != summaries[i-1].Connections {
			fmt.Fprintln(table, "\t\t\t\t\t\t\t\t\t\t\t")
		}
		fmt.Fprintf(table, "%d\t%s\t%.0f\t%.0f\t%.0f\t%s\t%s\t%.2f\t%s\t%s\t%d\t\n",
			s.Connections, title(s.Target), s.PerSecond, s.Lowest, s.Highest,
			optional(s.VsPgbench, "x"), optional(s.VsPlain, "x"),
			s.MeanMillis, optional(s.P50Millis, ""), optional(s.P99Millis, ""), s.Failures)
	}
	return table.Flush()
}

func optional(value *float64, unit string) string {
	if value == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f%s", *value, unit)
}
