package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"taskflow/internal/pg/pgtest"

	"github.com/jackc/pgx/v5"
)

// This file is what goals, large and growth share: one private PostgreSQL with servers on it, and tables of results.

// stage is where measurements run. What it started ends with it.
type stage struct {
	cluster     *pgtest.Cluster
	folder      string // for databases that are files
	program     string // the built server
	admin       *pgx.Conn
	environment environment
	started     []*process
}

// onStage starts a private PostgreSQL with further settings, calls run, and takes everything down again, also after a
// failure.
func onStage(ctx context.Context, program string, settings map[string]string, run func(*stage) error) (err error) {
	s := &stage{}
	if s.program, err = findServer(program); err != nil {
		return err
	}
	if s.folder, err = os.MkdirTemp("", "taskflow-bench"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.folder)) }()
	all := map[string]string{"shared_buffers": "128MB"}
	for name, value := range settings {
		all[name] = value
	}
	if s.cluster, err = pgtest.StartCluster(ctx, pgtest.Options{Settings: all}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.cluster.Stop()) }()
	if s.environment, err = inspect(ctx, s.cluster.URL("postgres"), s.folder); err != nil {
		return err
	}
	if s.admin, err = pgx.Connect(ctx, s.cluster.URL("postgres")); err != nil {
		return err
	}
	defer s.admin.Close(context.WithoutCancel(ctx))
	defer func() {
		for _, p := range s.started {
			p.Stop()
		}
	}()
	return run(s)
}

// overTCP are an address for the private PostgreSQL besides its Unix socket, and the settings that have it listen there.
func overTCP() (address string, settings map[string]string, err error) {
	if address, err = freeAddress(); err != nil {
		return "", nil, err
	}
	_, port, err := net.SplitHostPort(address)
	return address, map[string]string{"listen_addresses": "127.0.0.1", "port": port}, err
}

// tcpURL is a database's URL at an address.
func tcpURL(address, database string) string {
	u := url.URL{Scheme: "postgres", User: url.User("postgres"), Host: address, Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// findServer is the built server's path, independent of the folder this runs in.
func findServer(program string) (string, error) {
	found, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("the server has to be built first: %w", err)
	}
	return filepath.Abs(found)
}

// serve starts a server on a database; it ends with the stage, or before.
func (s *stage) serve(ctx context.Context, database string, variables ...string) (*process, error) {
	return s.start(ctx, "taskflow", func(address string) (*process, error) {
		variables = append([]string{"TASKFLOW_LISTEN=" + address, "TASKFLOW_DATABASE_URL=" + database,
			"TASKFLOW_LOG_LEVEL=warn"}, variables...)
		return startServer(ctx, "taskflow", address, variables, s.program)
	})
}

// start starts a process at a free address.
func (s *stage) start(ctx context.Context, name string, start func(address string) (*process, error)) (*process, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	p, err := start(address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s.started = append(s.started, p)
	return p, nil
}

// serveNew starts a server on an empty database.
func (s *stage) serveNew(ctx context.Context, name string) (database string, server *process, err error) {
	if database, err = createDatabase(ctx, s.cluster, name); err != nil {
		return "", nil, err
	}
	server, err = s.serve(ctx, database)
	return database, server, err
}

// checkpoint lets the next measurement begin just after one, so that none pays for another's dirty pages.
func (s *stage) checkpoint(ctx context.Context) error {
	if _, err := s.admin.Exec(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// load runs one load in a process of its own, just after a checkpoint. Requests that failed are an error: the figure is
// not to be used.
func (s *stage) load(ctx context.Context, server *process, c loadCommand) (loadResult, error) {
	if err := s.checkpoint(ctx); err != nil {
		return loadResult{}, err
	}
	c.URL = server.url
	result, err := spawnLoad(ctx, c)
	if err != nil {
		return result, errors.Join(err, server.complaint())
	}
	if failed := result.Failures + result.TransportErrors; failed > 0 {
		return result, fmt.Errorf("%s with %d connections: %d requests failed: %v", c.Scenario, c.Connections, failed, result.Statuses)
	}
	return result, nil
}

// grid is a table of results, for people or as Markdown.
type grid struct {
	head []string
	rows [][]string
}

func (g *grid) add(cells ...string) { g.rows = append(g.rows, cells) }

// text is the table, its lines ended.
func (g *grid) text(markdown bool) string {
	var out strings.Builder
	if markdown {
		line := func(cells []string) { fmt.Fprintf(&out, "| %s |\n", strings.Join(cells, " | ")) }
		line(g.head)
		out.WriteString("|" + strings.Repeat("---|", len(g.head)) + "\n")
		for _, row := range g.rows {
			line(row)
		}
		return out.String()
	}
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{g.head}, g.rows...) {
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	_ = table.Flush() // into memory
	return out.String()
}

// judged says whether a goal is met, in one word.
func judged(met bool) string {
	if met {
		return "met"
	}
	return "MISSED"
}
