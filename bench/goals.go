package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// This file measures everything that docs/performance.md sets a goal for and that needs no large database, on one private
// PostgreSQL. The two sides of a goal are measured right after each other: a machine that others use too may be half as fast
// a minute later.

// goalsCommand is `bench goals`.
type goalsCommand struct {
	Server      string        `help:"The built server." default:"bin/server" placeholder:"FILE"`
	Rounds      int           `help:"Rounds; a ratio is the median of the rounds' own." default:"5"`
	Duration    time.Duration `help:"How long each measurement takes." default:"3s"`
	Warmup      time.Duration `help:"How long each runs before that, unmeasured." default:"1s"`
	Flows       int           `help:"Flows each measurement works on." default:"1000"`
	Pool        int           `help:"Database connections of the plain handler." default:"32"`
	Clients     []int         `help:"Clients of pgbench among which it is at its best." default:"8,32,64,128"`
	Connections int           `help:"Connections under which memory is read." default:"1024"`
	Settle      time.Duration `help:"How long a server rests between a load and a look at what it holds: longer than it takes to find itself idle and to give memory back." default:"60s"`
	Markdown    bool          `help:"Print the tables as Markdown."`
	Results     string        `help:"Folder for the results as JSON." default:"bench/results"`
}

// goalsReport is what is written to the results folder.
type goalsReport struct {
	At           time.Time     `json:"at"`
	Environment  environment   `json:"environment"`
	LoadBefore   string        `json:"load_average_before"`
	LoadAfter    string        `json:"load_average_after"`
	Goals        []goalResult  `json:"goals"`
	Measurements []measurement `json:"measurements"`
	AfterLoad    []holdings    `json:"after_load"`
}

// Names of the sides. Those of pgbench's single statement end with the number of its clients.
const (
	sidePlain64    = "plain 64"
	sideState64    = "state 64"
	sideSingle     = "pgbench single "
	sideState256   = "state 256"
	sidePlain1     = "plain 1"
	sideState1     = "state 1"
	sideSQLite     = "sqlite 64"
	sideOneFlow    = "one-flow 8"
	sideManyFlows  = "state 8"
	sideIdempotent = "idempotent 64"
	sideLifecycle  = "lifecycle 64"
	sideReplicas   = "two replicas 64"
	sideBatch      = "batch 8"
	sideGet        = "get 64"
	sideSelect     = "pgbench select 64"
	sideSingleTCP  = "pgbench over TCP, single 64"
	sideSelectTCP  = "pgbench over TCP, select 64"
)

// Run measures everything, prints a line for each goal and writes the results. A goal that is missed is no error.
func (c *goalsCommand) Run(ctx context.Context) error {
	if c.Rounds < 1 || c.Duration <= 0 || c.Connections < 1 || c.Flows < 1 || len(c.Clients) == 0 {
		return errors.New("rounds, duration, flows, connections and clients must be positive")
	}
	address, settings, err := overTCP()
	if err != nil {
		return err
	}
	return onStage(ctx, c.Server, settings, func(s *stage) error {
		r := goalsReport{At: time.Now().UTC(), Environment: s.environment, LoadBefore: loadAverage()}
		fmt.Println(s.environment.line())
		sides, err := c.sides(ctx, s, address)
		if err != nil {
			return err
		}
		singles, err := s.rounds(ctx, c.Rounds, c.singles(sides))
		if err != nil {
			return err
		}
		compared, err := s.compare(ctx, c.Rounds, pairsAgainst(bestSingle(singles)), sides)
		if err != nil {
			return err
		}
		r.Measurements = append(singles, compared.measurements()...)
		if r.AfterLoad, err = c.measureHoldings(ctx, s); err != nil {
			return fmt.Errorf("what a server holds: %w", err)
		}
		r.LoadAfter = loadAverage()
		r.Goals = append(judgePairs(compared), judgeHoldings(r.AfterLoad, c.Connections)...)
		return c.publish(r)
	})
}

func (c *goalsCommand) publish(r goalsReport) error {
	fmt.Printf("load average before %s, after %s\n\n", r.LoadBefore, r.LoadAfter)
	goals, figures := goalsGrid(r.Goals), figuresGrid(r.Measurements)
	fmt.Printf("%s\n%s", goals.text(c.Markdown), figures.text(c.Markdown))
	path := filepath.Join(c.Results, r.At.Format("goals-20060102T150405Z.json"))
	if err := writeJSONFile(path, r); err != nil {
		return err
	}
	fmt.Println("\nwritten to", path)
	return nil
}

// sides starts all servers and lists what is measured, by name. PostgreSQL listens at address too.
func (c *goalsCommand) sides(ctx context.Context, s *stage, address string) (map[string]side, error) {
	plain, err := c.startPlain(ctx, s)
	if err != nil {
		return nil, err
	}
	database, server, err := s.serveNew(ctx, "goals")
	if err != nil {
		return nil, err
	}
	embedded, err := s.serve(ctx, "sqlite:"+filepath.Join(s.folder, "goals.db"))
	if err != nil {
		return nil, err
	}
	const single = "single"
	pgbench, err := createDatabase(ctx, s.cluster, single)
	if err != nil {
		return nil, err
	}
	if err := preparePgbench(ctx, pgbench, c.Flows); err != nil {
		return nil, err
	}
	sides := []side{
		c.loads(s, sidePlain1, plain, "state", 1),
		c.loads(s, sideState1, server, "state", 1),
		c.loads(s, sidePlain64, plain, "state", 64),
		c.loads(s, sideState64, server, "state", 64),
		c.loads(s, sideIdempotent, server, "idempotent", 64),
		c.loads(s, sideLifecycle, server, "lifecycle", 64),
		c.replicas(s, server, database),
		c.loads(s, sideSQLite, embedded, "state", 64),
		c.loads(s, sideOneFlow, server, "one-flow", 8),
		c.loads(s, sideManyFlows, server, "state", 8),
		c.loads(s, sideState256, server, "state", 256),
		c.loads(s, sideBatch, server, "batch", 8),
		c.loads(s, sideGet, server, "get", 64),
		c.pgbenches(sideSelect, pgbench, "select", 64),
		c.pgbenches(sideSingleTCP, tcpURL(address, single), "single", 64),
		c.pgbenches(sideSelectTCP, tcpURL(address, single), "select", 64),
	}
	for _, clients := range c.singleClients() {
		sides = append(sides, c.pgbenches(sideSingle+strconv.Itoa(clients), pgbench, "single", clients))
	}
	byName := map[string]side{}
	for _, one := range sides {
		byName[one.name] = one
	}
	return byName, nil
}

// singles are the sides of pgbench's single statement.
func (c *goalsCommand) singles(sides map[string]side) []side {
	var list []side
	for _, clients := range c.singleClients() {
		list = append(list, sides[sideSingle+strconv.Itoa(clients)])
	}
	return list
}

// singleClients are the numbers of clients with which pgbench's single statement is measured: 64 is among them.
func (c *goalsCommand) singleClients() []int {
	clients := append([]int{64}, c.Clients...)
	slices.Sort(clients)
	return slices.Compact(clients)
}

func (c *goalsCommand) startPlain(ctx context.Context, s *stage) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	database, err := createDatabase(ctx, s.cluster, "plain")
	if err != nil {
		return nil, err
	}
	return s.start(ctx, targetPlain, func(address string) (*process, error) {
		return startServer(ctx, targetPlain, address, nil, self, "plain-server",
			"--listen="+address, "--database-url="+database, "--pool="+strconv.Itoa(c.Pool))
	})
}

// loads is a side that loads one server over HTTP.
func (c *goalsCommand) loads(s *stage, name string, server *process, scenario string, connections int) side {
	return loadSide(s, name, server, c.command(scenario, connections))
}

func (c *goalsCommand) command(scenario string, connections int) loadCommand {
	return loadCommand{Scenario: scenario, Connections: connections, Duration: c.Duration, Warmup: c.Warmup,
		Flows: c.Flows, Batch: 100}
}

// replicas is a side with a second server on the first one's database, for as long as it is measured.
func (c *goalsCommand) replicas(s *stage, first *process, database string) side {
	return side{sideReplicas, func(ctx context.Context) (measurement, error) {
		second, err := s.serve(ctx, database)
		if err != nil {
			return measurement{}, err
		}
		defer second.Stop()
		command := c.command("state", 64)
		command.Also = []string{second.url}
		m, err := measured(s.load(ctx, first, command))
		if err != nil {
			err = errors.Join(err, second.complaint())
		}
		return m, err
	}}
}

func (c *goalsCommand) pgbenches(name, database, script string, clients int) side {
	return side{name, func(ctx context.Context) (measurement, error) {
		result, err := runPgbench(ctx, pgbenchCommand{DatabaseURL: database, Script: script, Connections: clients,
			Duration: c.Duration, Warmup: c.Warmup, Flows: c.Flows})
		return measurement{Connections: clients, PerSecond: result.PerSecond, MeanMillis: result.MeanMillis}, err
	}}
}
