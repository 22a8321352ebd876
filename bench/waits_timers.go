package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// This file measures how late timers fire while the servers that fire them are killed.

const (
	// killEvery is the time from one server's return to the next one's end.
	killEvery = 300 * time.Millisecond
	// batchSize is how many commands one request sets up.
	batchSize = 500
	// timersPatience is how long after the last was due all timers must have fired.
	timersPatience = time.Minute
)

// timersResult is what came out.
type timersResult struct {
	Timers   int           `json:"timers"`
	Replicas int           `json:"replicas"`
	Kills    int           `json:"kills"`
	Spread   time.Duration `json:"spread_ns"`
	Lateness lateness      `json:"lateness_ms"`
}

// measureTimers sets the timers, kills servers until the last has fired, and reads how late each was.
func (c *waitsCommand) measureTimers(ctx context.Context, databaseURL string) (*timersResult, error) {
	servers := make([]*process, c.Replicas)
	defer func() {
		for _, s := range servers {
			if s != nil {
				s.Stop()
			}
		}
	}()
	for i := range servers {
		var err error
		if servers[i], err = c.startReplica(ctx, databaseURL, ""); err != nil {
			return nil, err
		}
	}
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	first, err := setTimers(ctx, strings.TrimPrefix(servers[0].url, "http://"), c.Timers, c.Spread)
	if err != nil {
		return nil, err
	}
	if late := time.Since(first); late > 0 {
		return nil, fmt.Errorf("the first timers were due %v before the last were set: the machine is too busy", late)
	}
	if err := pause(ctx, time.Until(first)); err != nil {
		return nil, err
	}
	result := &timersResult{Timers: c.Timers, Spread: c.Spread, Replicas: c.Replicas}
	if result.Kills, err = c.killUntilFired(ctx, servers, conn, databaseURL, first); err != nil {
		return nil, err
	}
	result.Lateness, err = readLateness(ctx, conn, c.Timers)
	return result, err
}

// setTimers creates flows that wait for times from first on, within spread of it.
func setTimers(ctx context.Context, host string, n int, spread time.Duration) (first time.Time, err error) {
	began := time.Now()
	conn := newHTTPConn(host, began.Add(10*time.Minute))
	defer conn.close()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = uuid.NewString()
	}
	err = sendBatches(ctx, conn, n, func(i int) string {
		return fmt.Sprintf(`{"method":"POST","path":"/flows","body":{"id":%q,"mode":"mirrored","controller_id":"bench/waits","goal":"measure timers","owner_session_key":"bench:waits"}}`, ids[i])
	})
	first = time.Now().Add(2*time.Since(began) + time.Second) // to be set by then
	if err != nil {
		return first, err
	}
	return first, sendBatches(ctx, conn, n, func(i int) string {
		at := first.Add(rand.N(spread)).UTC().Format("2006-01-02T15:04:05.000000Z")
		return fmt.Sprintf(`{"method":"POST","path":"/flows/%s/wait","body":{"wait":{"kind":"timer","at":%q}}}`, ids[i], at)
	})
}

// sendBatches sends n commands, each of which must succeed.
func sendBatches(ctx context.Context, conn *httpConn, n int, command func(i int) string) error {
	for from := 0; from < n; from += batchSize {
		var commands []string
		for i := from; i < min(n, from+batchSize); i++ {
			commands = append(commands, command(i))
		}
		body := []byte(`{"commands":[` + strings.Join(commands, ",") + `]}`)
		answer, err := conn.expect(ctx, request{method: "POST", path: "/batch", body: body}, http.StatusOK)
		if err != nil {
			return err
		}
		if done := bytes.Count(answer, []byte(`"status":200`)) + bytes.Count(answer, []byte(`"status":201`)); done != len(commands) {
			return fmt.Errorf("a batch of %d succeeded in %d: %.300s", len(commands), done, answer)
		}
	}
	return nil
}

const countWaiting = `select count(*) from flows where waiting_since is not null`

// killUntilFired kills one server after the other and starts each again, until no flow waits.
func (c *waitsCommand) killUntilFired(ctx context.Context, servers []*process, conn *pgx.Conn, databaseURL string, first time.Time) (kills int, err error) {
	for {
		var waiting int
		if err := conn.QueryRow(ctx, countWaiting).Scan(&waiting); err != nil || waiting == 0 {
			return kills, err
		}
		if time.Since(first) > c.Spread+timersPatience {
			return kills, fmt.Errorf("%d timers have not fired %v after the last was due", waiting, timersPatience)
		}
		if err := pause(ctx, killEvery); err != nil {
			return kills, err
		}
		if !c.Kills {
			continue
		}
		victim := kills % len(servers)
		address := strings.TrimPrefix(servers[victim].url, "http://")
		if err := servers[victim].Kill(); err != nil {
			return kills, fmt.Errorf("killing a server: %w", err)
		}
		kills++
		if servers[victim], err = c.startReplica(ctx, databaseURL, address); err != nil {
			return kills, err
		}
	}
}

// The time of a commit is the database's clock when it was made; the time in the event is a little before.
const selectLateness = `
select extract(epoch from pg_xact_commit_timestamp(r.xmin) - (w.payload #>> '{wait,at}')::timestamptz)::float8,
    r.at < (w.payload #>> '{wait,at}')::timestamptz
from events w join events r on r.flow_id = w.flow_id and r.kind = 'resumed'
where w.kind = 'waiting'`

// readLateness reads how late each timer was. One that fired early, twice or never is an error.
func readLateness(ctx context.Context, conn *pgx.Conn, want int) (lateness, error) {
	rows, err := conn.Query(ctx, selectLateness)
	if err != nil {
		return lateness{}, err
	}
	var all []time.Duration
	var seconds float64
	var early bool
	tooEarly := 0
	if _, err := pgx.ForEachRow(rows, []any{&seconds, &early}, func() error {
		all = append(all, time.Duration(seconds*float64(time.Second)))
		if early || seconds < 0 {
			tooEarly++
		}
		return nil
	}); err != nil {
		return lateness{}, fmt.Errorf("reading lateness: %w", err)
	}
	if len(all) != want || tooEarly > 0 {
		return lateness{}, fmt.Errorf("%d timers fired %d times, %d of them early", want, len(all), tooEarly)
	}
	return newLateness(all), nil
}

// pause waits a while, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
