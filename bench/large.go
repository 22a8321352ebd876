package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
)

// This file measures what a large database costs: changes against a small one, and every list.

// largeCommand is `bench large`.
type largeCommand struct {
	Server   string        `help:"The built server." default:"bin/server" placeholder:"FILE"`
	Flows    int           `help:"Flows in the large database, a tenth of them waiting; a multiple of 100." default:"1000000"`
	Few      int           `help:"Flows in the small one, likewise." default:"10000"`
	Rounds   int           `help:"Rounds of changes; the ratio is the median of the rounds' own." default:"3"`
	Duration time.Duration `help:"How long each measurement of changes takes." default:"5s"`
	Warmup   time.Duration `help:"How long each runs before that, unmeasured." default:"1s"`
	Requests int           `help:"Requests for each line of the lists." default:"200"`
	Page     int           `help:"The later page that is measured, or the last one where the list ends before." default:"100"`
	Markdown bool          `help:"Print the tables as Markdown."`
	Results  string        `help:"Folder for the results as JSON." default:"bench/results"`
}

// largeReport is what is written to the results folder.
type largeReport struct {
	At           time.Time     `json:"at"`
	Environment  environment   `json:"environment"`
	LoadBefore   string        `json:"load_average_before"`
	LoadAfter    string        `json:"load_average_after"`
	FillSeconds  float64       `json:"fill_seconds"`
	Changes      goalResult    `json:"changes"`
	Measurements []measurement `json:"measurements"`
	Lists        []listResult  `json:"lists"`
	Indexes      []indexSize   `json:"indexes"`
}

// largeSettings keep checkpoints apart while a database fills.
var largeSettings = map[string]string{"max_wal_size": "4GB"}

// Run fills, measures, prints, and writes the results. A limit that is passed is no error.
func (c *largeCommand) Run(ctx context.Context) error {
	if c.Rounds < 1 || c.Duration <= 0 || c.Requests < 1 || c.Page < 2 {
		return errors.New("rounds, duration and requests must be positive, and the later page is the second at least")
	}
	return onStage(ctx, c.Server, largeSettings, func(s *stage) error {
		r := largeReport{At: time.Now().UTC(), Environment: s.environment, LoadBefore: loadAverage()}
		fmt.Println(s.environment.line())
		if err := c.measure(ctx, s, &r); err != nil {
			return err
		}
		r.LoadAfter = loadAverage()
		return c.publish(r)
	})
}

func (c *largeCommand) measure(ctx context.Context, s *stage, r *largeReport) error {
	_, small, err := s.filled(ctx, "few", c.Few, mixed)
	if err != nil {
		return err
	}
	began := time.Now()
	database, large, err := s.filled(ctx, "many", c.Flows, mixed)
	if err != nil {
		return err
	}
	r.FillSeconds = time.Since(began).Seconds()
	fmt.Fprintf(os.Stderr, "%d flows are there after %.0f s\n", c.Flows, r.FillSeconds)
	// Lists first: a load adds flows, whose events all come last.
	if r.Lists, err = c.measureLists(ctx, s, database, large); err != nil {
		return fmt.Errorf("lists: %w", err)
	}
	if r.Indexes, err = indexSizes(ctx, database); err != nil {
		return fmt.Errorf("indexes: %w", err)
	}
	return c.measureChanges(ctx, s, small, large, r)
}

// filled starts a server on a new database and fills that.
func (s *stage) filled(ctx context.Context, name string, flows int, cycle func(slot int) template) (database string, server *process, err error) {
	if database, server, err = s.serveNew(ctx, name); err != nil {
		return "", nil, err
	}
	if err = fill(ctx, server, database, flows, cycle); err != nil {
		return "", nil, fmt.Errorf("filling %s: %w", name, err)
	}
	return database, server, nil
}

// measureChanges changes flows of either database in turns. The flows are as many in both, and new.
func (c *largeCommand) measureChanges(ctx context.Context, s *stage, small, large *process, r *largeReport) error {
	command := loadCommand{Scenario: "state", Connections: 64, Duration: c.Duration, Warmup: c.Warmup, Flows: 1000}
	p := pair{name: fmt.Sprintf("changes with %d flows, a tenth of them waiting, against %d", c.Flows, c.Few),
		over: fmt.Sprint(c.Flows, " flows"), under: fmt.Sprint(c.Few, " flows"), goal: 0.85}
	sides := map[string]side{p.over: loadSide(s, p.over, large, command), p.under: loadSide(s, p.under, small, command)}
	compared, err := s.compare(ctx, c.Rounds, []pair{p}, sides)
	if err != nil {
		return err
	}
	r.Measurements, r.Changes = compared.measurements(), judgePairs(compared)[0]
	return nil
}

func (c *largeCommand) publish(r largeReport) error {
	fmt.Printf("load average before %s, after %s\n", r.LoadBefore, r.LoadAfter)
	for _, g := range []grid{goalsGrid([]goalResult{r.Changes}), figuresGrid(r.Measurements), listsGrid(r.Lists), indexesGrid(r.Indexes, c.Flows)} {
		fmt.Printf("\n%s", g.text(c.Markdown))
	}
	path := filepath.Join(c.Results, r.At.Format("large-20060102T150405Z.json"))
	if err := writeJSONFile(path, r); err != nil {
		return err
	}
	fmt.Println("\nwritten to", path)
	return nil
}

// indexSize is what an index takes of the disk.
type indexSize struct {
	Table string `json:"table"`
	Index string `json:"index"`
	Bytes int64  `json:"bytes"`
}

const selectIndexes = `
select relname::text, indexrelname::text, pg_relation_size(indexrelid) from pg_stat_user_indexes
order by 3 desc, 1, 2`

// indexSizes are the sizes of all indexes of a database, the largest first.
func indexSizes(ctx context.Context, database string) ([]indexSize, error) {
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, selectIndexes)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[indexSize])
}

// indexesGrid is the table of indexes that hold anything.
func indexesGrid(indexes []indexSize, flows int) grid {
	g := grid{head: []string{"index", "table", "MB", "bytes per flow"}}
	for _, i := range indexes {
		if i.Bytes > 1<<16 {
			g.add(i.Index, i.Table, fmt.Sprintf("%.1f", float64(i.Bytes)/1e6), fmt.Sprintf("%.0f", float64(i.Bytes)/float64(flows)))
		}
	}
	return g
}
