package main

import (
	"fmt"
	"slices"
	"strings"
)

// This file turns the measurements of `bench goals` into ratios, and says which goals they meet.

// goalResult is one row of the table.
type goalResult struct {
	Name string `json:"name"`
	// Value is the median of the rounds, Lowest and Highest their range.
	Value   float64 `json:"value"`
	Lowest  float64 `json:"lowest"`
	Highest float64 `json:"highest"`
	Unit    string  `json:"unit"`    // x for a ratio
	Goal    float64 `json:"goal"`    // 0 where the row is there for comparison
	AtMost  bool    `json:"at_most"` // the goal is a limit that is not to be passed
	Met     bool    `json:"met"`
	Note    string  `json:"note,omitempty"`
}

// newGoalResult of at least one value.
func newGoalResult(name, unit string, values []float64, goal float64, atMost bool) goalResult {
	g := goalResult{Name: name, Value: median(values), Lowest: slices.Min(values), Highest: slices.Max(values),
		Unit: unit, Goal: goal, AtMost: atMost}
	g.Met = g.Value >= goal
	if atMost {
		g.Met = g.Value <= goal
	}
	return g
}

// pair is a goal for the ratio of two sides; with none, the ratio is there for comparison.
type pair struct {
	name        string
	over, under string
	goal        float64
	latency     bool // of the p50s, and at most the goal
	note        string
}

// sideBest stands for pgbench's single statement with as many clients as serve it best.
const sideBest = "pgbench single at its best"

var pairs = [...]pair{
	{name: "PostgreSQL, 64 connections, against the plain handler", over: sideState64, under: sidePlain64, goal: 3.5},
	{name: "PostgreSQL, 64 connections, against pgbench's single statement", over: sideState64, under: sideSingle + "64", goal: 1},
	{name: "PostgreSQL, 256 connections, against pgbench's single statement at its best client count", over: sideState256, under: sideBest, goal: 1.3},
	{name: "PostgreSQL, 1 connection: latency p50 against the plain handler", over: sideState1, under: sidePlain1, goal: 1, latency: true},
	{name: "SQLite, 64 connections, synchronous=FULL, against this server on PostgreSQL", over: sideSQLite, under: sideState64, goal: 0.7},
	{name: "8 connections on one flow, against 8 on many", over: sideOneFlow, under: sideManyFlows, goal: 0.8},
	{name: "an Idempotency-Key on every request, against none", over: sideIdempotent, under: sideState64, goal: 0.75},
	{name: "whole flows (create, start, wait, event, finish), changes/s against state changes alone", over: sideLifecycle, under: sideState64, goal: 0.8},
	{name: "two replicas on one PostgreSQL, against one", over: sideReplicas, under: sideState64, goal: 0.9},
	{name: "POST /batch, 8 connections of 100 commands, against pgbench's single statement at its best client count", over: sideBatch, under: sideBest, goal: 2},
	{name: "reading one flow, 64 connections, against pgbench's select by key", over: sideGet, under: sideSelect, goal: 0.6},
	{name: "64 connections, against pgbench's single statement over TCP, as HTTP is", over: sideState64, under: sideSingleTCP},
	{name: "reading one flow, 64 connections, against pgbench's select by key over TCP, as HTTP is", over: sideGet, under: sideSelectTCP},
}

// pairsAgainst are the pairs with the number of clients that serves pgbench's single statement best.
func pairsAgainst(best string) []pair {
	list := slices.Clone(pairs[:])
	for i := range list {
		if list[i].under == sideBest {
			list[i].under, list[i].note = best, strings.TrimPrefix(best, sideSingle)+" clients"
		}
	}
	return list
}

// judgePairs makes a row for each pair, in their order. A ratio is that of one round; the row has the median of the rounds.
func judgePairs(all comparisons) []goalResult {
	var results []goalResult
	for _, c := range all {
		p := c.pair
		var ratios []float64
		for _, round := range c.rounds {
			ratios = append(ratios, p.value(round.over)/p.value(round.under))
		}
		g := newGoalResult(p.name, "x", ratios, p.goal, p.latency)
		g.Note = p.note
		results = append(results, g)
	}
	return results
}

func (p pair) value(m measurement) float64 {
	if p.latency {
		return m.Load.Latency.P50
	}
	return m.PerSecond
}

// bestSingle is the side of pgbench's single statement with the best median.
func bestSingle(all []measurement) string {
	bySide := map[string][]float64{}
	for _, m := range all {
		bySide[m.Target] = append(bySide[m.Target], m.PerSecond)
	}
	best, highest := "", 0.0
	for name, rates := range bySide {
		if rate := median(rates); rate > highest {
			best, highest = name, rate
		}
	}
	return best
}

// goalsGrid is the table of goals.
func goalsGrid(goals []goalResult) grid {
	g := grid{head: []string{"goal", "measured", "lowest", "highest", "wanted", ""}}
	for _, one := range goals {
		bound := "≥"
		if one.AtMost {
			bound = "≤"
		}
		name := one.Name
		if one.Note != "" {
			name += " (" + one.Note + ")"
		}
		wanted, verdict := bound+" "+one.figure(one.Goal), judged(one.Met)
		if one.Goal == 0 {
			wanted, verdict = "-", ""
		}
		g.add(name, one.figure(one.Value), one.figure(one.Lowest), one.figure(one.Highest), wanted, verdict)
	}
	return g
}

func (g goalResult) figure(value float64) string {
	if g.Unit == "x" {
		return fmt.Sprintf("%.2f x", value)
	}
	return strings.TrimSpace(fmt.Sprintf("%.0f %s", value, g.Unit))
}

// figuresGrid is the table of what was measured on each side: medians over the rounds.
func figuresGrid(all []measurement) grid {
	g := grid{head: []string{"side", "per second", "lowest", "highest", "p50 ms", "p99 ms"}}
	var names []string
	bySide := map[string][]measurement{}
	for _, m := range all {
		if bySide[m.Target] == nil {
			names = append(names, m.Target)
		}
		bySide[m.Target] = append(bySide[m.Target], m)
	}
	for _, name := range names {
		s := summarizeRounds(summaryKey{target: name}, bySide[name])
		g.add(name, fmt.Sprintf("%.0f", s.PerSecond), fmt.Sprintf("%.0f", s.Lowest), fmt.Sprintf("%.0f", s.Highest),
			optional(s.P50Millis, ""), optional(s.P99Millis, ""))
	}
	return g
}
