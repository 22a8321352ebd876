package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// This file measures how the rate of changes goes with what grows: the state, a batch, the flows that wait, and the way
// to the database.

// growthCommand is `bench growth`.
type growthCommand struct {
	Server   string          `help:"The built server." default:"bin/server" placeholder:"FILE"`
	Rounds   int             `help:"Rounds; the table shows medians." default:"3"`
	Duration time.Duration   `help:"How long each measurement takes." default:"4s"`
	Warmup   time.Duration   `help:"How long each runs before that, unmeasured." default:"1s"`
	States   []int           `help:"Sizes of the state, in bytes." default:"1000,32000,256000"`
	Batches  []int           `help:"Commands in one request to /batch." default:"1,10,100,500"`
	Waiting  int             `help:"Flows that wait, against none; a multiple of 100." default:"100000"`
	Trips    []time.Duration `help:"What is added to a round trip to the database, in whole milliseconds." default:"0s,1ms,5ms"`
	Markdown bool            `help:"Print the table as Markdown."`
	Results  string          `help:"Folder for the results as JSON." default:"bench/results"`
}

// growthReport is what is written to the results folder.
type growthReport struct {
	At           time.Time     `json:"at"`
	Environment  environment   `json:"environment"`
	LoadBefore   string        `json:"load_average_before"`
	LoadAfter    string        `json:"load_average_after"`
	Measurements []measurement `json:"measurements"`
}

// growthFlows is how many flows each measurement works on: a hundred of the largest states are no more than a cache holds.
const growthFlows = 200

// Run measures everything, prints the table and writes the results.
func (c *growthCommand) Run(ctx context.Context) error {
	if c.Rounds < 1 || c.Duration <= 0 {
		return errors.New("rounds and duration must be positive")
	}
	address, settings, err := overTCP()
	if err != nil {
		return err
	}
	settings["max_wal_size"] = "4GB"
	return onStage(ctx, c.Server, settings, func(s *stage) error {
		r := growthReport{At: time.Now().UTC(), Environment: s.environment, LoadBefore: loadAverage()}
		fmt.Println(s.environment.line())
		way, err := newWay(ctx, s, address)
		if err != nil {
			return err
		}
		defer way.proxy.Stop()
		sides, err := c.sides(ctx, s, way)
		if err != nil {
			return err
		}
		if r.Measurements, err = s.rounds(ctx, c.Rounds, sides); err != nil {
			return err
		}
		r.LoadAfter = loadAverage()
		return c.publish(r)
	})
}

func (c *growthCommand) publish(r growthReport) error {
	figures := figuresGrid(r.Measurements)
	fmt.Printf("load average before %s, after %s\n\n%s", r.LoadBefore, r.LoadAfter, figures.text(c.Markdown))
	path := filepath.Join(c.Results, r.At.Format("growth-20060102T150405Z.json"))
	if err := writeJSONFile(path, r); err != nil {
		return err
	}
	fmt.Println("\nwritten to", path)
	return nil
}

// sides starts all servers and lists what is measured, each beside what it is compared with.
func (c *growthCommand) sides(ctx context.Context, s *stage, way *way) ([]side, error) {
	_, server, err := s.serveNew(ctx, "growth")
	if err != nil {
		return nil, err
	}
	var sides []side
	for _, size := range c.States {
		command := c.command("state", 64)
		command.StateBytes = size
		sides = append(sides, loadSide(s, fmt.Sprintf("state of %d bytes", size), server, command))
	}
	for _, size := range c.Batches {
		command := c.command("batch", 8)
		command.Batch = size
		sides = append(sides, loadSide(s, fmt.Sprintf("batch of %d, 8 connections", size), server, command))
	}
	if c.Waiting > 0 {
		_, waiting, err := s.filled(ctx, "waiting", c.Waiting, allWaiting)
		if err != nil {
			return nil, err
		}
		sides = append(sides, loadSide(s, "no flow waits", server, c.command("state", 64)),
			loadSide(s, fmt.Sprintf("%d flows wait", c.Waiting), waiting, c.command("state", 64)))
	}
	for _, trip := range c.Trips {
		for _, connections := range []int{1, 64} {
			one := loadSide(s, fmt.Sprintf("database %v away, %d connections", trip, connections), way.server, c.command("state", connections))
			sides = append(sides, way.lengthened(one, trip))
		}
	}
	return sides, nil
}

func (c *growthCommand) command(scenario string, connections int) loadCommand {
	return loadCommand{Scenario: scenario, Connections: connections, Duration: c.Duration, Warmup: c.Warmup, Flows: growthFlows}
}

// way is a server that reaches its database over TCP, through a proxy that makes the way longer.
type way struct {
	server *process
	proxy  *toxiproxy.Proxy
}

// newWay starts the proxy before the PostgreSQL at address, and a server behind it.
func newWay(ctx context.Context, s *stage, address string) (*way, error) {
	const name = "away"
	if _, err := createDatabase(ctx, s.cluster, name); err != nil {
		return nil, err
	}
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	zerolog.SetGlobalLevel(zerolog.Disabled) // a toxic logs past the logger it is given
	w := &way{proxy: toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), name, listen, address)}
	if err := w.proxy.Start(); err != nil {
		return nil, fmt.Errorf("starting the proxy: %w", err)
	}
	if w.server, err = s.serve(ctx, tcpURL(w.proxy.Listen, name)); err != nil {
		w.proxy.Stop()
		return nil, err
	}
	return w, nil
}

// lengthened measures a side with answers of the database that much later. The proxy is in the way of 0 ms as well.
func (w *way) lengthened(one side, trip time.Duration) side {
	return side{one.name, func(ctx context.Context) (measurement, error) {
		if trip > 0 {
			toxic := fmt.Sprintf(`{"type":"latency","stream":"downstream","attributes":{"latency":%d}}`, trip.Milliseconds())
			if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
				return measurement{}, fmt.Errorf("lengthening the way: %w", err)
			}
			defer w.proxy.Toxics.ResetToxics(ctx)
		}
		return one.measure(ctx)
	}}
}
