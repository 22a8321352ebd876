package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// This file is baseline (a): what PostgreSQL itself can do with one prepared statement per change, no HTTP and no Go.

//go:embed pgbench_schema.sql
var pgbenchSchema string

//go:embed pgbench_single.sql
var pgbenchSingle string

//go:embed pgbench_select.sql
var pgbenchSelect string

// pgbenchCommand is `bench pgbench`.
type pgbenchCommand struct {
	DatabaseURL string        `help:"PostgreSQL to measure; the schema bench_single in it is dropped and made anew." required:""`
	Script      string        `help:"What a transaction does: ${enum}." enum:"single,select" default:"single"`
	Connections int           `help:"Clients." default:"64" short:"c"`
	Duration    time.Duration `help:"How long is measured, in whole seconds." default:"10s" short:"d"`
	Warmup      time.Duration `help:"How long runs before that, in whole seconds." default:"2s"`
	Flows       int           `help:"Rows in the table; each transaction picks one at random." default:"1000"`
}

// Run makes the tables, measures once and prints pgbench's figures.
func (c *pgbenchCommand) Run(ctx context.Context) error {
	if err := preparePgbench(ctx, c.DatabaseURL, c.Flows); err != nil {
		return err
	}
	result, err := runPgbench(ctx, *c)
	if err != nil {
		return err
	}
	fmt.Printf("pgbench-%s c=%d %.0f transactions/s, latency mean %.3f ms, %d transactions\n",
		c.Script, c.Connections, result.PerSecond, result.MeanMillis, result.Transactions)
	return nil
}

const fillPgbench = `
INSERT INTO bench_single.flow (id, owner, status, current_step, state, revision, created_at, updated_at)
SELECT n, 'bench:load', 'running', 'init', '{"progress":0,"phase":"begin"}', 1, now(), now()
FROM generate_series(1, $1::bigint) AS n`

// preparePgbench makes the schema bench_single with n flows.
func preparePgbench(ctx context.Context, databaseURL string, n int) error {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return fmt.Errorf("preparing pgbench: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, pgbenchSchema); err != nil {
		return fmt.Errorf("preparing pgbench: schema: %w", err)
	}
	if _, err := conn.Exec(ctx, fillPgbench, n); err != nil {
		return fmt.Errorf("preparing pgbench: %d flows: %w", n, err)
	}
	if _, err := conn.Exec(ctx, "ANALYZE bench_single.flow"); err != nil {
		return fmt.Errorf("preparing pgbench: %w", err)
	}
	return nil
}

// pgbenchResult is what pgbench reports.
type pgbenchResult struct {
	PerSecond    float64 // transactions, without the time it took to connect
	MeanMillis   float64
	Transactions int64
}

// runPgbench runs one warm-up and one measured run over the tables that preparePgbench has made.
func runPgbench(ctx context.Context, c pgbenchCommand) (pgbenchResult, error) {
	program, err := findPgbench()
	if err != nil {
		return pgbenchResult{}, err
	}
	if c.Warmup >= time.Second {
		if _, err := c.once(ctx, program, c.Warmup); err != nil {
			return pgbenchResult{}, err
		}
	}
	output, err := c.once(ctx, program, c.Duration)
	if err != nil {
		return pgbenchResult{}, err
	}
	return parsePgbench(output)
}

// once runs pgbench for whole seconds and returns what it printed.
func (c *pgbenchCommand) once(ctx context.Context, program string, duration time.Duration) (string, error) {
	script := pgbenchSingle
	if c.Script == "select" {
		script = pgbenchSelect
	}
	// Its time runs while the clients connect, which on a busy machine takes a second; its rate leaves that out.
	const connecting = 1
	seconds := max(1, int(duration.Round(time.Second).Seconds())) + connecting
	threads := min(c.Connections, runtime.NumCPU())
	command := exec.CommandContext(ctx, program, "--no-vacuum", "--protocol=prepared", "--file=-",
		"--client="+strconv.Itoa(c.Connections), "--jobs="+strconv.Itoa(threads), "--time="+strconv.Itoa(seconds),
		"--define=flows="+strconv.Itoa(c.Flows), c.DatabaseURL)
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = stopDelay
	command.Env = childEnvironment("LC_ALL=C")
	command.Stdin = strings.NewReader(script)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("pgbench: %w: %s", err, tail(stderr.String(), 500))
	}
	return stdout.String(), nil
}

// findPgbench looks on the PATH, then beside the server's other programs.
func findPgbench() (string, error) {
	program, err := exec.LookPath("pgbench")
	if err == nil {
		return program, nil
	}
	output, configErr := exec.Command("pg_config", "--bindir").Output()
	if configErr != nil {
		return "", fmt.Errorf("pgbench is needed for the baseline: %w", err)
	}
	return exec.LookPath(strings.TrimSpace(string(output)) + "/pgbench")
}

var errPgbenchOutput = errors.New("unexpected output of pgbench")

var (
	pgbenchProcessed = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)`)
	pgbenchFailed    = regexp.MustCompile(`(?m)^number of failed transactions: (\d+)`)
	pgbenchLatency   = regexp.MustCompile(`(?m)^latency average = ([0-9.]+) ms`)
	pgbenchTPS       = regexp.MustCompile(`(?m)^tps = ([0-9.]+) \((?:without initial connection time|excluding connections establishing)\)`)
)

// parsePgbench reads pgbench's report, of PostgreSQL 13 as well as of 14 and later. A run with failed transactions, or
// with none at all, is an error.
func parsePgbench(output string) (pgbenchResult, error) {
	number := func(pattern *regexp.Regexp) (float64, error) {
		match := pattern.FindStringSubmatch(output)
		if match == nil {
			return 0, fmt.Errorf("%w: nothing matches %s: %s", errPgbenchOutput, pattern, tail(output, 500))
		}
		return strconv.ParseFloat(match[1], 64)
	}
	processed, err1 := number(pgbenchProcessed)
	mean, err2 := number(pgbenchLatency)
	tps, err3 := number(pgbenchTPS)
	if err := errors.Join(err1, err2, err3); err != nil {
		return pgbenchResult{}, err
	}
	if processed == 0 {
		return pgbenchResult{}, fmt.Errorf("%w: no transaction was processed", errPgbenchOutput)
	}
	if failed, err := number(pgbenchFailed); err == nil && failed > 0 {
		return pgbenchResult{}, fmt.Errorf("%w: %.0f failed transactions", errPgbenchOutput, failed)
	}
	return pgbenchResult{PerSecond: tps, MeanMillis: mean, Transactions: int64(processed)}, nil
}

// tail is the end of a program's output, for an error.
func tail(output string, n int) string {
	output = strings.TrimSpace(output)
	return output[max(0, len(output)-n):]
}
