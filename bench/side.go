package main

import (
	"context"
	"fmt"
	"os"
	"slices"
)

// This file measures things in turns: what goals and growth compare.

// side is one thing that is measured in each round. Its name is that of the measurements it makes.
type side struct {
	name    string
	measure func(context.Context) (measurement, error)
}

// loadSide is a side that loads one server over HTTP.
func loadSide(s *stage, name string, server *process, command loadCommand) side {
	return side{name, func(ctx context.Context) (measurement, error) { return measured(s.load(ctx, server, command)) }}
}

// measured is a load's result as a measurement: changes, or what was read where nothing changes.
func measured(load loadResult, err error) (measurement, error) {
	if err != nil {
		return measurement{}, err
	}
	m := measurement{Connections: load.Connections, PerSecond: load.ChangesPerSecond, MeanMillis: load.Latency.Mean, Load: &load}
	if load.Scenario == "get" {
		m.PerSecond = load.RequestsPerSecond
	}
	return m, nil
}

// rounds measures every side once in each round; every other round runs backwards, so that each is as often before another as
// after it.
func (s *stage) rounds(ctx context.Context, rounds int, sides []side) ([]measurement, error) {
	var all []measurement
	for round := 1; round <= rounds; round++ {
		for _, one := range sides {
			m, err := s.turn(ctx, one, round)
			if err != nil {
				return nil, err
			}
			all = append(all, m)
		}
		slices.Reverse(sides)
	}
	return all, nil
}

// turn measures one side, with nothing left to write of what was measured before.
func (s *stage) turn(ctx context.Context, one side, round int) (measurement, error) {
	if err := s.checkpoint(ctx); err != nil {
		return measurement{}, err
	}
	m, err := one.measure(ctx)
	if err != nil {
		return m, fmt.Errorf("%s: %w", one.name, err)
	}
	if m.PerSecond == 0 {
		return m, fmt.Errorf("%s: no answer came in the time that is measured: it is too short", one.name)
	}
	m.Target, m.Round = one.name, round
	fmt.Fprintf(os.Stderr, "round %d  %-20s %9.0f/s\n", round, one.name, m.PerSecond)
	return m, nil
}

// comparison is a pair with what its sides came to, round by round.
type comparison struct {
	pair   pair
	rounds []turns
}

// turns are both sides of a pair, one right after the other.
type turns struct{ over, under measurement }

type comparisons []comparison

// compare measures the sides of the pairs, which are found by name, as inTurns says.
func (s *stage) compare(ctx context.Context, rounds int, list []pair, sides map[string]side) (comparisons, error) {
	return inTurns(rounds, list, func(name string, round int) (measurement, error) { return s.turn(ctx, sides[name], round) })
}

// inTurns has the sides of the pairs measured by name in rounds, those of a pair right after each other, and in every other
// round the other one first.
func inTurns(rounds int, list []pair, measure func(side string, round int) (measurement, error)) (comparisons, error) {
	all := make(comparisons, len(list))
	for round := 1; round <= rounds; round++ {
		for i, p := range list {
			var both [2]measurement
			for turn := range both {
				side := (turn + round + 1) % 2 // each is first in turns
				var err error
				if both[side], err = measure([]string{p.over, p.under}[side], round); err != nil {
					return nil, err
				}
			}
			all[i].pair, all[i].rounds = p, append(all[i].rounds, turns{both[0], both[1]})
		}
	}
	return all, nil
}

// measurements are all of them.
func (c comparisons) measurements() []measurement {
	var all []measurement
	for _, one := range c {
		for _, round := range one.rounds {
			all = append(all, round.over, round.under)
		}
	}
	return all
}
