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

// rounds measures every side once in each round. Sides that are compared stand side by side, and every other round runs backwards, so that
// each is as often before the other as after it.
func (s *stage) rounds(ctx context.Context, rounds int, sides []side) ([]measurement, error) {
	var all []measurement
	for round := range rounds {
		for _, one := range sides {
			if err := s.checkpoint(ctx); err != nil {
				return nil, err
			}
			m, err := one.measure(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", one.name, err)
			}
			if m.PerSecond == 0 {
				return nil, fmt.Errorf("%s: no answer came in the time that is measured: it is too short", one.name)
			}
			m.Target, m.Round = one.name, round+1
			fmt.Fprintf(os.Stderr, "round %d/%d  %-20s %9.0f/s\n", m.Round, rounds, one.name, m.PerSecond)
			all = append(all, m)
		}
		slices.Reverse(sides)
	}
	return all, nil
}
