package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for want, values := range map[float64][]float64{5: {5}, 3: {9, 1, 3}, 2.5: {4, 1, 2, 3}} {
		if got := median(values); got != want {
			t.Errorf("median(%v) = %v, want %v", values, got, want)
		}
	}
	values := []float64{3, 1, 2}
	if median(values); fmt.Sprint(values) != "[3 1 2]" {
		t.Errorf("median sorted its argument: %v", values)
	}
}

func rounds(target string, connections int, rates ...float64) []measurement {
	var all []measurement
	for i, rate := range rates {
		m := measurement{Target: target, Connections: connections, Round: i + 1, PerSecond: rate, MeanMillis: 1000 / rate}
		if target != targetPgbench {
			m.Load = &loadResult{Latency: latency{P50: float64(i + 1), P99: float64(10 * (i + 1))}}
		}
		all = append(all, m)
	}
	return all
}

func TestSummaries(t *testing.T) {
	var all []measurement
	all = append(all, rounds(targetSQLite, 64, 300, 300, 300)...)
	all = append(all, rounds(targetServer, 64, 900, 500, 1000)...)
	all = append(all, rounds(targetPlain, 64, 250, 200, 100)...)
	all = append(all, rounds(targetPgbench, 64, 400, 100, 450)...)
	all = append(all, rounds(targetServer, 8, 50)...)
	all[len(all)-1].Failures = 3
	var out strings.Builder
	if err := writeTable(&out, summarize(all)); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"connections target changes/s lowest highest vs (a) vs (b) mean ms p50 ms p99 ms failed",
		"8 taskflow, PostgreSQL 50 50 50 - - 20.00 1.00 10.00 3",
		"",
		"64 (a) one statement, pgbench 400 100 450 - 2.00x 2.50 - - 0",
		"64 (b) plain handler 200 100 250 0.50x - 5.00 2.00 20.00 0",
		"64 taskflow, PostgreSQL 900 500 1000 2.25x 4.50x 1.11 2.00 20.00 0",
		"64 taskflow, SQLite 300 300 300 0.75x 1.50x 3.33 2.00 20.00 0",
	}
	lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), out.String())
	}
	for i, line := range lines {
		if got := strings.Join(strings.Fields(line), " "); got != want[i] {
			t.Errorf("line %d:\n got %q\nwant %q", i, got, want[i])
		}
	}
}
