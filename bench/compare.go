package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"taskflow/internal/pg/pgtest"

	"github.com/jackc/pgx/v5"
)

// This file runs the comparison: one private PostgreSQL, both baselines and the server on it, measured in turns.

// compareCommand is `bench compare`.
type compareCommand struct {
	Server      string        `help:"The built server." default:"bin/server" placeholder:"FILE"`
	Targets     []string      `help:"What is measured: ${enum}." enum:"pgbench,plain,taskflow,sqlite" default:"pgbench,plain,taskflow,sqlite"`
	Connections []int         `help:"Connections, one set of rounds for each." default:"1,8,64"`
	Large       bool          `help:"Measure at 256 connections too."`
	Rounds      int           `help:"Rounds; the table shows medians." default:"3"`
	Duration    time.Duration `help:"How long each measurement takes." default:"5s"`
	Warmup      time.Duration `help:"How long each runs before that, unmeasured." default:"1s"`
	Flows       int           `help:"Flows each measurement works on." default:"1000"`
	Pool        int           `help:"Database connections of the plain handler." default:"32"`
	Results     string        `help:"Folder for the results as JSON." default:"bench/results"`
}

// Names of the targets, as flags and results have them.
const (
	targetPgbench = "pgbench"
	targetPlain   = "plain"
	targetServer  = "taskflow"
	targetSQLite  = "sqlite"
)

// sqliteConnections is where the server on SQLite is measured.
const sqliteConnections = 64

// target is one thing that is measured.
type target struct {
	name    string
	measure func(ctx context.Context, connections int) (measurement, error)
	stop    func()
}

// at says whether the target is measured with so many connections.
func (t target) at(connections int) bool {
	return t.name != targetSQLite || connections == sqliteConnections
}

// report is what is written to the results folder.
type report struct {
	At           time.Time     `json:"at"`
	Environment  environment   `json:"environment"`
	Summaries    []summary     `json:"summaries"`
	Measurements []measurement `json:"measurements"`
}

// Run measures everything, prints the table and writes the results. Failed requests make it an error, after that.
func (c *compareCommand) Run(ctx context.Context) (err error) {
	if c.Large && !slices.Contains(c.Connections, 256) {
		c.Connections = append(c.Connections, 256)
	}
	if c.Rounds < 1 || len(c.Connections) == 0 {
		return errors.New("nothing to measure: rounds and connections must be at least one")
	}
	folder, err := os.MkdirTemp("", "taskflow-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	cluster, err := pgtest.StartCluster(ctx, pgtest.Options{Settings: map[string]string{"shared_buffers": "128MB"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Stop()) }()
	machine, err := inspect(ctx, cluster.URL("postgres"), folder)
	if err != nil {
		return err
	}
	fmt.Println(machine.line())
	targets, err := c.startTargets(ctx, cluster, folder)
	defer stopTargets(targets)
	if err != nil {
		return err
	}
	measurements, err := c.measure(ctx, cluster.URL("postgres"), targets)
	if err != nil {
		return err
	}
	return c.publish(report{time.Now().UTC(), machine, summarize(measurements), measurements})
}

// publish prints the table and writes the results.
func (c *compareCommand) publish(r report) error {
	if err := writeTable(os.Stdout, r.Summaries); err != nil {
		return err
	}
	path := filepath.Join(c.Results, r.At.Format("compare-20060102T150405Z.json"))
	if err := writeJSONFile(path, r); err != nil {
		return err
	}
	fmt.Println("\nwritten to", path)
	failed := int64(0)
	for _, m := range r.Measurements {
		failed += m.Failures
	}
	if failed > 0 {
		return fmt.Errorf("%d requests failed: these figures are not to be used", failed)
	}
	return nil
}

// measure runs the rounds. Within a round the targets take turns at each number of connections, so that what slows
// the machine for a while slows them all; each round begins with another target.
func (c *compareCommand) measure(ctx context.Context, adminURL string, targets []target) ([]measurement, error) {
	admin, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return nil, err
	}
	defer admin.Close(context.WithoutCancel(ctx))
	var measurements []measurement
	for round := range c.Rounds {
		for _, connections := range c.Connections {
			for i := range targets {
				t := targets[(i+round)%len(targets)]
				if !t.at(connections) {
					continue
				}
				// Each starts just after a checkpoint, so none pays for another's dirty pages.
				if _, err := admin.Exec(ctx, "CHECKPOINT"); err != nil {
					return nil, fmt.Errorf("checkpoint: %w", err)
				}
				m, err := t.measure(ctx, connections)
				if err != nil {
					return nil, fmt.Errorf("%s with %d connections: %w", t.name, connections, err)
				}
				m.Target, m.Connections, m.Round = t.name, connections, round+1
				fmt.Fprintf(os.Stderr, "round %d/%d  c=%-3d  %-8s  %8.0f changes/s\n",
					m.Round, c.Rounds, connections, t.name, m.PerSecond)
				measurements = append(measurements, m)
			}
		}
	}
	return measurements, nil
}

// startTargets makes a database for each target and starts its server. What it has started it returns with an error too.
func (c *compareCommand) startTargets(ctx context.Context, cluster *pgtest.Cluster, folder string) ([]target, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	starters := map[string]func() (target, error){
		targetPgbench: func() (target, error) { return c.pgbenchTarget(ctx, cluster) },
		targetPlain: func() (target, error) {
			database, err := createDatabase(ctx, cluster, "bench_plain")
			if err != nil {
				return target{}, err
			}
			return c.httpTarget(ctx, targetPlain, func(address string) (*process, error) {
				return startServer(ctx, targetPlain, address, nil, self, "plain-server",
					"--listen="+address, "--database-url="+database, "--pool="+strconv.Itoa(c.Pool))
			})
		},
		targetServer: func() (target, error) {
			database, err := createDatabase(ctx, cluster, "bench_taskflow")
			if err != nil {
				return target{}, err
			}
			return c.serverTarget(ctx, targetServer, database)
		},
		targetSQLite: func() (target, error) {
			return c.serverTarget(ctx, targetSQLite, "sqlite:"+filepath.Join(folder, "taskflow.db"))
		},
	}
	var targets []target
	for _, name := range c.Targets {
		t, err := starters[name]()
		if err != nil {
			return targets, err
		}
		targets = append(targets, t)
	}
	return targets, nil
}

func stopTargets(targets []target) {
	for _, t := range targets {
		t.stop()
	}
}

func (c *compareCommand) pgbenchTarget(ctx context.Context, cluster *pgtest.Cluster) (target, error) {
	database, err := createDatabase(ctx, cluster, "bench_single")
	if err != nil {
		return target{}, err
	}
	if err := preparePgbench(ctx, database, c.Flows); err != nil {
		return target{}, err
	}
	measure := func(ctx context.Context, connections int) (measurement, error) {
		result, err := runPgbench(ctx, pgbenchCommand{DatabaseURL: database, Script: "single",
			Connections: connections, Duration: c.Duration, Warmup: c.Warmup, Flows: c.Flows})
		return measurement{PerSecond: result.PerSecond, MeanMillis: result.MeanMillis}, err
	}
	return target{targetPgbench, measure, func() {}}, nil
}

// serverTarget starts this project's server on a database.
func (c *compareCommand) serverTarget(ctx context.Context, name, database string) (target, error) {
	program, err := exec.LookPath(c.Server)
	if err != nil {
		return target{}, fmt.Errorf("the server has to be built first: %w", err)
	}
	if program, err = filepath.Abs(program); err != nil {
		return target{}, err
	}
	return c.httpTarget(ctx, name, func(address string) (*process, error) {
		return startServer(ctx, name, address, []string{"TASKFLOW_LISTEN=" + address,
			"TASKFLOW_DATABASE_URL=" + database, "TASKFLOW_LOG_LEVEL=warn"}, program)
	})
}

// httpTarget starts a server on a free address; it is measured by a load generator in a process of its own.
func (c *compareCommand) httpTarget(ctx context.Context, name string, start func(address string) (*process, error)) (target, error) {
	address, err := freeAddress()
	if err != nil {
		return target{}, err
	}
	server, err := start(address)
	if err != nil {
		return target{}, err
	}
	measure := func(ctx context.Context, connections int) (measurement, error) {
		load, err := spawnLoad(ctx, loadCommand{URL: server.url, Scenario: "state", Connections: connections,
			Duration: c.Duration, Warmup: c.Warmup, Flows: c.Flows})
		if err != nil {
			return measurement{}, errors.Join(err, server.complaint())
		}
		return measurement{PerSecond: load.ChangesPerSecond, MeanMillis: load.Latency.Mean,
			Failures: load.Failures + load.TransportErrors, Load: &load}, nil
	}
	return target{name, measure, server.Stop}, nil
}

// spawnLoad runs `bench load` as a process of its own and reads its result.
func spawnLoad(ctx context.Context, c loadCommand) (loadResult, error) {
	self, err := os.Executable()
	if err != nil {
		return loadResult{}, err
	}
	command := exec.CommandContext(ctx, self, "load", "--json=-", "--url="+c.URL, "--scenario="+c.Scenario,
		"--connections="+strconv.Itoa(c.Connections), "--duration="+c.Duration.String(),
		"--warmup="+c.Warmup.String(), "--flows="+strconv.Itoa(c.Flows), "--batch="+strconv.Itoa(max(1, c.Batch)),
		"--state-bytes="+strconv.Itoa(c.StateBytes))
	for _, url := range c.Also {
		command.Args = append(command.Args, "--also="+url)
	}
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = stopDelay
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return loadResult{}, fmt.Errorf("load: %w: %s", err, tail(stderr.String(), 1000))
	}
	var result loadResult
	if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
		return loadResult{}, fmt.Errorf("load: reading the result: %w", err)
	}
	return result, nil
}

// createDatabase makes an empty database in the cluster and returns its address.
func createDatabase(ctx context.Context, cluster *pgtest.Cluster, name string) (string, error) {
	admin, err := pgx.Connect(ctx, cluster.URL("postgres"))
	if err != nil {
		return "", err
	}
	defer admin.Close(context.WithoutCancel(ctx))
	if _, err := admin.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return "", fmt.Errorf("making database %s: %w", name, err)
	}
	return cluster.URL(name), nil
}
