// Command bench measures the server and the baselines it is compared with: a closed-loop load generator over HTTP
// (load), one SQL statement under pgbench (pgbench), the plain handler most people would write (plain-server), and all
// of them in one go on one private PostgreSQL (compare); every goal of docs/performance.md (goals), a large database (large)
// and what a change costs as things grow (growth); waits that end by themselves (waits), and the live feed (feed).
//
// It knows the server by its HTTP contract and its built binary alone; of the server's packages it uses none but the
// test helper that starts PostgreSQL. Nothing but developers and `make bench` runs it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// commands is the table of subcommands; each has a Run method with the context that ends on Ctrl-C or SIGTERM.
type commands struct {
	Load        loadCommand    `cmd:"" help:"Drive a server over HTTP in a closed loop and print throughput and latency."`
	Pgbench     pgbenchCommand `cmd:"" help:"Baseline (a): one SQL statement per change, under pgbench."`
	PlainServer plainCommand   `cmd:"" help:"Baseline (b): serve the plain handler: begin, select, update, insert, commit."`
	Waits       waitsCommand   `cmd:"" help:"Measure how late timers are while servers are killed, and what a million waiting flows cost."`
	Feed        feedCommand    `cmd:"" help:"Measure how long events take to readers of the live feed, and what open streams take of memory."`
	Goals       goalsCommand   `cmd:"" help:"Measure every goal of docs/performance.md that needs no large database."`
	Large       largeCommand   `cmd:"" help:"Measure changes and lists with a million flows in the database."`
	Growth      growthCommand  `cmd:"" help:"Measure changes against the size of the state, of batches, of the database, and the way to it."`
	Compare     compareCommand `cmd:"" help:"Run both baselines and the server on one private PostgreSQL and print the ratios."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	parsed := kong.Parse(&commands{}, kong.Name("bench"), kong.Vars{"scenarios": scenarioNames()},
		kong.BindTo(ctx, (*context.Context)(nil)))
	parsed.FatalIfErrorf(parsed.Run())
}
