package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"taskflow/internal/pg/pgtest"

	"github.com/jackc/pgx/v5"
)

const pgbenchReport15 = `pgbench (15.4)
transaction type: -
scaling factor: 1
query mode: prepared
number of clients: 64
number of threads: 2
maximum number of tries: 1
duration: 5 s
number of transactions actually processed: 40123
number of failed transactions: 0 (0.000%)
latency average = 7.975 ms
initial connection time = 55.130 ms
tps = 8024.571234 (without initial connection time)
`

const pgbenchReport13 = `transaction type: -
scaling factor: 1
query mode: prepared
number of clients: 1
number of threads: 1
duration: 1 s
number of transactions actually processed: 1500
latency average = 0.667 ms
tps = 1490.100000 (including connections establishing)
tps = 1500.200000 (excluding connections establishing)
`

func TestParsePgbench(t *testing.T) {
	cases := []struct {
		name, output string
		want         pgbenchResult
		err          error
	}{
		{"version 15", pgbenchReport15, pgbenchResult{8024.571234, 7.975, 40123}, nil},
		{"version 13", pgbenchReport13, pgbenchResult{1500.2, 0.667, 1500}, nil},
		{"failed transactions", strings.Replace(pgbenchReport15, "transactions: 0 (", "transactions: 7 (", 1), pgbenchResult{}, errPgbenchOutput},
		{"none processed", strings.Replace(pgbenchReport15, "processed: 40123", "processed: 0", 1), pgbenchResult{}, errPgbenchOutput},
		{"no rate", strings.Replace(pgbenchReport15, "tps =", "rate =", 1), pgbenchResult{}, errPgbenchOutput},
		{"nothing", "", pgbenchResult{}, errPgbenchOutput},
	}
	for _, c := range cases {
		got, err := parsePgbench(c.output)
		if !errors.Is(err, c.err) || got != c.want {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}

// Every transaction that pgbench reports is one change with its event, and each event has its own revision.
func TestPgbenchScripts(t *testing.T) {
	database := pgtest.Empty(t)
	if err := preparePgbench(t.Context(), database, 10); err != nil {
		t.Fatal(err)
	}
	c := pgbenchCommand{DatabaseURL: database, Script: "single", Connections: 4, Duration: time.Second, Flows: 10}
	result, err := runPgbench(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var rise, events, distinct int64
	const count = `SELECT (SELECT sum(revision - 1) FROM bench_single.flow),
		(SELECT count(*) FROM bench_single.event), (SELECT count(DISTINCT (flow_id, revision)) FROM bench_single.event)`
	if err := conn.QueryRow(t.Context(), count).Scan(&rise, &events, &distinct); err != nil {
		t.Fatal(err)
	}
	if n := result.Transactions; n == 0 || rise != n || events != n || distinct != n {
		t.Errorf("%d transactions, revisions rose by %d, %d events, %d of them distinct", n, rise, events, distinct)
	}
	c.Script = "select"
	if result, err = runPgbench(t.Context(), c); err != nil || result.PerSecond <= 0 {
		t.Errorf("select: %+v, %v", result, err)
	}
}
