package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// This file measures what flows that wait cost those that do not: an idle server, the next timer, the next event.

const (
	// fewWaiting is what the large number of waiting flows is compared with.
	fewWaiting = 1000
	// timersWhileWaiting and eventsWhileWaiting are how many are measured.
	timersWhileWaiting = 50
	eventsWhileWaiting = 300
	// ticksPerSecond is the unit of processor time in /proc, the same on every Linux.
	ticksPerSecond = 100
)

// idleResult is one line of the table. Times are in milliseconds.
type idleResult struct {
	Waiting         int      `json:"waiting"`
	FillSeconds     float64  `json:"fill_seconds"`
	ServerPercent   float64  `json:"server_percent_of_a_core"`
	DatabasePercent float64  `json:"database_percent_of_a_core"` // of the processes that serve the server's connections
	Timer           lateness `json:"timer_lateness_ms"`
	Event           lateness `json:"event_to_resumed_ms"` // as a client sees it, over HTTP
}

// measureWaiting measures with few waiting flows, and with as many as asked for.
func (c *waitsCommand) measureWaiting(ctx context.Context, databaseURL string) ([]idleResult, error) {
	server, err := c.startReplica(ctx, databaseURL, "")
	if err != nil {
		return nil, err
	}
	defer server.Stop()
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	w := &waitingBench{server: server, conn: conn, idle: c.Idle, http: newHTTPConn(strings.TrimPrefix(server.url, "http://"), time.Time{})}
	defer w.http.close()
	if w.template, err = w.beginWait(ctx, `{"kind":"any_of","conditions":[`+
		`{"kind":"external_event","topic":"bench","correlation_id":"order-0"},{"kind":"timer","after":"P30D"}]}`); err != nil {
		return nil, err
	}
	var results []idleResult
	for _, n := range []int{fewWaiting, c.Waiting} {
		result, err := w.measure(ctx, n)
		if err != nil {
			return nil, fmt.Errorf("with %d waiting flows: %w", n, errors.Join(err, server.complaint()))
		}
		results = append(results, result)
	}
	return results, nil
}

// waitingBench is one server whose database fills with waiting flows.
type waitingBench struct {
	server   *process
	conn     *pgx.Conn
	http     *httpConn
	idle     time.Duration
	template string // the flow that all others are copies of
	filled   int    // copies, numbered from 1
	used     int    // correlation ids that were sent events to
}

// fillFlows copies a waiting flow as the store wrote it, each copy with an id, times and a correlation id of its own.
const fillFlows = `
insert into flows (id, mode, controller_id, goal, owner_session_key, requester_origin, current_step, state, wait,
    waiting_since, resumed_by, status, cancel_requested, revision, labels, steps_total, steps_active, created_at,
    updated_at, ended_at, due_at, due_since)
select (left(f.id::text, 24) || lpad(to_hex(n), 12, '0'))::uuid, f.mode, f.controller_id, f.goal, f.owner_session_key,
    f.requester_origin, f.current_step, f.state, replace(f.wait::text, '"order-0"', '"order-' || n || '"')::json,
    f.waiting_since, f.resumed_by, f.status, f.cancel_requested, f.revision, f.labels, f.steps_total, f.steps_active,
    f.created_at, f.updated_at, f.ended_at, f.due_at, f.due_since
from flows f, generate_series($2::bigint, $3::bigint) n where f.id = $1`

const fillAwaited = `
insert into awaited (topic, correlation_id, since, flow_id)
select a.topic, 'order-' || n, a.since, (left(a.flow_id::text, 24) || lpad(to_hex(n), 12, '0'))::uuid
from awaited a, generate_series($2::bigint, $3::bigint) n where a.flow_id = $1`

// fill brings the number of copies to n, and lets the database settle.
func (w *waitingBench) fill(ctx context.Context, n int) error {
	const atOnce = 50_000
	for ; w.filled < n; w.filled = min(n, w.filled+atOnce) {
		for _, statement := range []string{fillFlows, fillAwaited} {
			if _, err := w.conn.Exec(ctx, statement, w.template, w.filled+1, min(n, w.filled+atOnce)); err != nil {
				return fmt.Errorf("filling the database: %w", err)
			}
		}
	}
	for _, statement := range []string{"vacuum analyze flows", "vacuum analyze awaited", "checkpoint"} {
		if _, err := w.conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	var waiting int
	if err := w.conn.QueryRow(ctx, countWaiting).Scan(&waiting); err != nil || waiting < n-w.used {
		return errors.Join(err, fmt.Errorf("%d flows wait, want %d", waiting, n))
	}
	return nil
}

func (w *waitingBench) measure(ctx context.Context, n int) (result idleResult, err error) {
	began := time.Now()
	if err := w.fill(ctx, n); err != nil {
		return result, err
	}
	result.Waiting, result.FillSeconds = n, time.Since(began).Seconds()
	if result.ServerPercent, result.DatabasePercent, err = w.watchIdle(ctx); err != nil {
		return result, err
	}
	if result.Timer, err = w.measureTimers(ctx); err != nil {
		return result, err
	}
	result.Event, err = w.measureEvents(ctx)
	return result, err
}

// watchIdle reads what the idle server, and the database's processes that serve it, take of a core.
func (w *waitingBench) watchIdle(ctx context.Context) (server, database float64, err error) {
	if err := pause(ctx, 2*time.Second); err != nil { // for what the fill has left to do
		return 0, 0, err
	}
	backends, err := w.backends(ctx)
	if err != nil {
		return 0, 0, err
	}
	watched := append([]int{w.server.pid}, backends...)
	began, before := time.Now(), make([]int64, len(watched))
	for i, pid := range watched {
		if before[i], err = ticks(pid); err != nil {
			return 0, 0, err
		}
	}
	if err := pause(ctx, w.idle); err != nil {
		return 0, 0, err
	}
	took := time.Since(began).Seconds()
	for i, pid := range watched {
		now, err := ticks(pid)
		if errors.Is(err, os.ErrNotExist) && i > 0 {
			continue // a connection that was idle for long
		}
		if err != nil {
			return 0, 0, err
		}
		if share := float64(now-before[i]) / ticksPerSecond / took * 100; i == 0 {
			server = share
		} else {
			database += share
		}
	}
	return server, database, nil
}

// backends are the database's processes that serve other connections to this database than this one.
func (w *waitingBench) backends(ctx context.Context) ([]int, error) {
	rows, err := w.conn.Query(ctx, `select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
    and backend_type = 'client backend'`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int])
}

// ticks is the processor time of a process, user and system, from /proc.
func ticks(pid int) (int64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The second field is a name in parentheses, which may hold anything; user and system time are fields 14 and 15.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("%w: /proc/%d/stat", errMalformed, pid)
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return user + system, err
}

// beginWait makes a flow that waits, and returns its id.
func (w *waitingBench) beginWait(ctx context.Context, wait string) (string, error) {
	body, err := w.http.expect(ctx, request{method: "POST", path: "/flows",
		body: []byte(`{"mode":"mirrored","controller_id":"bench/waits","goal":"wait among many","owner_session_key":"bench:waits"}`)}, http.StatusCreated)
	if err != nil {
		return "", err
	}
	id, err := flowID(body)
	if err != nil {
		return "", err
	}
	_, err = w.http.expect(ctx, request{method: "POST", path: "/flows/" + id + "/wait", body: []byte(`{"wait":` + wait + `}`)}, http.StatusOK)
	return id, err
}

const selectTimer = `
select extract(epoch from pg_xact_commit_timestamp(r.xmin) - (w.payload #>> '{wait,at}')::timestamptz)::float8
from events w join events r on r.flow_id = w.flow_id and r.kind = 'resumed' where w.kind = 'waiting' and w.flow_id = $1`

// measureTimers sets timers one after the other, each of a length of its own, and reads how late they fired.
func (w *waitingBench) measureTimers(ctx context.Context) (lateness, error) {
	var all []time.Duration
	ids := make([]string, timersWhileWaiting)
	for i := range ids {
		var err error
		wait := fmt.Sprintf(`{"kind":"timer","after":"PT%.3fS"}`, 1+3*rand.Float64())
		if ids[i], err = w.beginWait(ctx, wait); err != nil {
			return lateness{}, err
		}
	}
	if err := pause(ctx, 6*time.Second); err != nil {
		return lateness{}, err
	}
	for _, id := range ids {
		var seconds float64
		if err := w.conn.QueryRow(ctx, selectTimer, id).Scan(&seconds); err != nil {
			return lateness{}, fmt.Errorf("the timer of flow %s has not fired: %w", id, err)
		}
		all = append(all, time.Duration(seconds*float64(time.Second)))
	}
	return newLateness(all), nil
}

// measureEvents sends events to flows that wait, spread over all of them, and measures each from its first byte to the
// answer that says that the flow is resumed.
func (w *waitingBench) measureEvents(ctx context.Context) (lateness, error) {
	var all []time.Duration
	step := max(1, (w.filled-w.used)/eventsWhileWaiting)
	for range eventsWhileWaiting {
		w.used += step
		body := fmt.Appendf(nil, `{"topic":"bench","correlation_id":"order-%d","payload":{"paid":true}}`, w.used)
		began := time.Now()
		answer, err := w.http.expect(ctx, request{method: "POST", path: "/external-events", body: body}, http.StatusOK)
		took := time.Since(began)
		if err != nil {
			return lateness{}, err
		}
		var receipt struct {
			Outcome   string `json:"outcome"`
			FlowCount int    `json:"flow_count"`
		}
		if err := json.Unmarshal(answer, &receipt); err != nil || receipt.Outcome != "delivered" || receipt.FlowCount != 1 {
			return lateness{}, fmt.Errorf("an event for order-%d was answered with %.300s", w.used, answer)
		}
		all = append(all, took)
	}
	return newLateness(all), nil
}
