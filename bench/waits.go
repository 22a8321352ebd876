package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"taskflow/internal/pg/pgtest"
)

// This file runs the measurements of waits, on one private PostgreSQL, and prints them.

// waitsCommand is `bench waits`.
type waitsCommand struct {
	Server   string        `help:"The built server." default:"bin/server" placeholder:"FILE"`
	Timers   int           `help:"Timers that become due; 0 leaves that measurement out." default:"20000"`
	Spread   time.Duration `help:"The time in which all timers are due." default:"5s"`
	Replicas int           `help:"Servers that fire them." default:"3"`
	Kills    bool          `help:"Kill the servers in turn meanwhile." default:"true" negatable:""`
	Waiting  int           `help:"Flows that wait while the server idles; 0 leaves that measurement out." default:"1000000"`
	Idle     time.Duration `help:"How long the idle server is watched." default:"10s"`
	JSON     string        `help:"Write the result to this file as JSON, - for standard output." name:"json" placeholder:"FILE"`
}

// waitsReport is the outcome, as --json writes it.
type waitsReport struct {
	At          time.Time     `json:"at"`
	Environment environment   `json:"environment"`
	LoadBefore  string        `json:"load_average_before"`
	LoadAfter   string        `json:"load_average_after"`
	Timers      *timersResult `json:"timers,omitempty"`
	Waiting     []idleResult  `json:"waiting,omitempty"`
}

// lateness is in milliseconds: from the time that was due to the commit that carried it out.
type lateness struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// newLateness of at least one value, which it sorts.
func newLateness(all []time.Duration) lateness {
	slices.Sort(all)
	at := func(percent int) float64 {
		return float64(all[min(len(all)*percent/100, len(all)-1)].Microseconds()) / 1000
	}
	return lateness{at(50), at(99), at(100)}
}

func (l lateness) String() string {
	return fmt.Sprintf("p50 %.1f ms  p99 %.1f ms  max %.1f ms", l.P50, l.P99, l.Max)
}

// Run measures and prints. A timer that fired early, twice or never is an error.
func (c *waitsCommand) Run(ctx context.Context) (err error) {
	if c.Timers < 0 || c.Waiting < 0 || c.Replicas < 1 || c.Idle <= 0 || c.Timers > 0 && c.Spread <= 0 {
		return errors.New("replicas and idle must be positive, timers and waiting must not be negative")
	}
	if c.Waiting > 0 && c.Waiting < fewWaiting {
		return fmt.Errorf("waiting must be at least %d, which is what it is compared with", fewWaiting)
	}
	folder, err := os.MkdirTemp("", "taskflow-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	cluster, err := pgtest.StartCluster(ctx, pgtest.Options{Settings: map[string]string{
		"shared_buffers": "128MB", "max_wal_size": "4GB",
		"track_commit_timestamp": "on", // by which lateness is measured
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Stop()) }()
	report := waitsReport{At: time.Now().UTC(), LoadBefore: loadAverage()}
	if report.Environment, err = inspect(ctx, cluster.URL("postgres"), folder); err != nil {
		return err
	}
	if err := c.measure(ctx, cluster, &report); err != nil {
		return err
	}
	report.LoadAfter = loadAverage()
	return c.publish(report)
}

func (c *waitsCommand) measure(ctx context.Context, cluster *pgtest.Cluster, report *waitsReport) error {
	if c.Timers > 0 {
		url, err := createDatabase(ctx, cluster, "timers")
		if err != nil {
			return err
		}
		if report.Timers, err = c.measureTimers(ctx, url); err != nil {
			return fmt.Errorf("measuring timers: %w", err)
		}
	}
	if c.Waiting > 0 {
		url, err := createDatabase(ctx, cluster, "waiting")
		if err != nil {
			return err
		}
		if report.Waiting, err = c.measureWaiting(ctx, url); err != nil {
			return fmt.Errorf("measuring waiting flows: %w", err)
		}
	}
	return nil
}

// publish prints the report for people, or as JSON to standard output.
func (c *waitsCommand) publish(r waitsReport) error {
	if c.JSON == "-" {
		return writeJSON(os.Stdout, r)
	}
	if err := writeWaits(os.Stdout, r); err != nil {
		return err
	}
	if c.JSON != "" {
		return writeJSONFile(c.JSON, r)
	}
	return nil
}

func writeWaits(w io.Writer, r waitsReport) error {
	fmt.Fprintln(w, r.Environment.line())
	fmt.Fprintf(w, "load average before %s, after %s\n", r.LoadBefore, r.LoadAfter)
	if t := r.Timers; t != nil {
		fmt.Fprintf(w, "\n%d timers due within %v, %d servers, %d kills: each fired once and none early\nlateness: %v\n",
			t.Timers, t.Spread, t.Replicas, t.Kills, t.Lateness)
	}
	if len(r.Waiting) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "waiting flows\tserver % of a core\tdatabase % of a core\ttimer late ms p50\tmax\tevent to resumed ms p50\tp99\tmax\t")
	for _, i := range r.Waiting {
		fmt.Fprintf(table, "%d\t%.2f\t%.2f\t%.1f\t%.1f\t%.2f\t%.2f\t%.2f\t\n", i.Waiting, i.ServerPercent, i.DatabasePercent,
			i.Timer.P50, i.Timer.Max, i.Event.P50, i.Event.P99, i.Event.Max)
	}
	return table.Flush()
}

// startReplica starts a server on a database, at an address or, where that is "", at a free one.
func (c *waitsCommand) startReplica(ctx context.Context, databaseURL, address string) (*process, error) {
	if address == "" {
		var err error
		if address, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	variables := []string{"TASKFLOW_LISTEN=" + address, "TASKFLOW_DATABASE_URL=" + databaseURL, "TASKFLOW_LOG_LEVEL=warn"}
	return startServer(ctx, "taskflow", address, variables, c.Server, "serve")
}

// loadAverage is how busy the machine is: the system's own three figures, "" where it has none.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(text))
	return strings.Join(fields[:min(3, len(fields))], " ")
}
