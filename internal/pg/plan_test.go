package pg_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/pg"
	"taskflow/internal/pg/pgtest"
	"taskflow/internal/store"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// populate fills a database with 30,000 flows, two events and one label each, and some steps and answers. The older half
// has one owner, one controller, one status and one label, which tempts the planner to look for them among all flows by
// creation; and the oldest 20,000 events are one flow's.
const populate = `
insert into flows (id, mode, controller_id, goal, owner_session_key, requester_origin, current_step, state, status,
	cancel_requested, revision, labels, steps_total, steps_active, created_at, updated_at, wait, waiting_since)
select overlay(md5(n::text) placing lpad(to_hex(n), 8, '0') from 1 for 8)::uuid, 'managed',
	case when n < 15000 then 'big' else 'controller ' || n % 50 end, 'goal ' || n,
	case when n < 15000 then 'big' else 'owner ' || n % 100 end, '', 'init', '{}',
	case when n < 15000 then 'failed' else (array['created', 'running', 'finished'])[1 + n % 3] end, false, 1, '{"team": "red"}', 0, 0, timestamptz '2026-01-01' + n * interval '1 second', now(), null, null
from generate_series(1, 30000) n;
insert into events (seq, flow_id, revision, kind, payload, actor, at)
select 20000 + row_number() over (order by r, f.created_at), f.id, r, 'state_updated', '{}', 'a', f.created_at
from flows f, generate_series(0, 1) r;
insert into events (seq, flow_id, revision, kind, payload, actor, at)
select n, 'ffffffff-0000-7000-8000-000000000000', n, 'state_updated', '{}', 'a', now() from generate_series(1, 20000) n;
update feed set seq = 80000;
insert into flow_labels (key, value, created_at, flow_id)
select 'team', case when owner_session_key = 'big' then 'blue' else 'red' end, created_at, id from flows;
insert into steps (id, flow_id, run_id, runtime, task, status, result, observed_at, created_at, updated_at)
select id, id, 'run', 'managed', 't', 'running', 'null', created_at, created_at, created_at from flows;
insert into answers (key, fingerprint, response, created_at)
select sha256(n::text::bytea), '', '', now() from generate_series(1, 30000) n;`

// planned is a database that is populated, and a connection with the settings of a store's.
func planned(t *testing.T) *pgx.Conn {
	t.Helper()
	conn := connect(t, pgtest.Database(t))
	exec(t, conn, populate)
	exec(t, conn, "vacuum (analyze)")
	for name, value := range pg.Settings() {
		exec(t, conn, "select set_config($1, $2, false)", name, value)
	}
	return conn
}

// node is a node of a plan as EXPLAIN writes it.
type node struct {
	Type  string  `json:"Node Type"`
	Index string  `json:"Index Name"`
	Table string  `json:"Relation Name"`
	Rows  float64 `json:"Actual Rows"`
	Loops float64 `json:"Actual Loops"`
	Skips float64 `json:"Rows Removed by Filter"`
	Plans []node
}

// nodes lists a plan's nodes.
func (n node) nodes() []node {
	all := []node{n}
	for _, child := range n.Plans {
		all = append(all, child.nodes()...)
	}
	return all
}

func (n node) String() string {
	return fmt.Sprintf("%s %s%s rows=%g loops=%g skipped=%g", n.Type, n.Table, n.Index, n.Rows, n.Loops, n.Skips)
}

// explain runs a statement under EXPLAIN ANALYZE, rolled back, under the plan for these arguments and under the generic
// plan that a cached statement comes to.
func explain(t *testing.T, conn *pgx.Conn, sql string, args []any) [][]node {
	t.Helper()
	const how = "explain (analyze, format json, timing off, costs off) "
	var plans [][]node
	run := func(sql string, args ...any) {
		var text []byte
		if err := conn.QueryRow(t.Context(), sql, args...).Scan(&text); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		var plan []struct{ Plan node }
		must(t, json.Unmarshal(text, &plan))
		plans = append(plans, plan[0].Plan.nodes())
	}
	exec(t, conn, "begin")
	defer exec(t, conn, "rollback")
	run(how+sql, args...)
	exec(t, conn, "rollback")
	exec(t, conn, "begin")
	exec(t, conn, "set local plan_cache_mode = force_generic_plan")
	exec(t, conn, "prepare generic as "+sql, pgx.QueryExecModeSimpleProtocol)
	run(how+"execute generic"+literals(args), pgx.QueryExecModeSimpleProtocol)
	exec(t, conn, "deallocate generic")
	return plans
}

// literals writes arguments as an SQL list.
func literals(args []any) string {
	if len(args) == 0 {
		return ""
	}
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	list := make([]string, len(args))
	for i, arg := range args {
		switch v := arg.(type) {
		case string:
			list[i] = quote(v)
		case time.Time:
			list[i] = quote(v.Format(time.RFC3339Nano))
		case [16]byte:
			list[i] = quote(uuid.UUID(v).String())
		case pgtype.Timestamptz:
			list[i] = quote(map[pgtype.InfinityModifier]string{pgtype.Infinity: "infinity",
				pgtype.NegativeInfinity: "-infinity", pgtype.Finite: v.Time.Format(time.RFC3339Nano)}[v.InfinityModifier])
		case [][16]byte:
			ids := make([]string, len(v))
			for j, id := range v {
				ids[j] = uuid.UUID(id).String()
			}
			list[i] = quote("{" + strings.Join(ids, ",") + "}")
		case []string:
			list[i] = quote("{" + strings.Join(v, ",") + "}")
		case []bool, []int32:
			list[i] = quote("{" + strings.Trim(strings.ReplaceAll(fmt.Sprint(v), " ", ","), "[]") + "}")
		case [][]byte:
			list[i] = quote(fmt.Sprintf(`{"\\x%x"}`, v[0]))
		default:
			list[i] = fmt.Sprint(v)
		}
	}
	return "(" + strings.Join(list, ", ") + ")"
}

// checkPlan fails where a plan reads a table without an index, sorts more than a page, or touches more rows than it may,
// and where it does not walk the index it should ("" is any).
func checkPlan(t *testing.T, plan []node, index string, touched, sorted float64) {
	t.Helper()
	walked, total := index == "", 0.0
	for _, n := range plan {
		walked = walked || n.Index == index
		switch {
		case n.Type == "Seq Scan" && n.Table != "feed":
			t.Errorf("reads all of %s", n.Table)
		case strings.Contains(n.Type, "Sort") && n.Rows > sorted:
			t.Errorf("sorts %g rows", n.Rows)
		case n.Index != "":
			total += (n.Rows + n.Skips) * max(n.Loops, 1)
		}
	}
	if !walked {
		t.Errorf("does not use %s", index)
	}
	if total > touched {
		t.Errorf("touches %g rows, %g at most are allowed", total, touched)
	}
	if t.Failed() {
		for _, n := range plan {
			t.Log(n)
		}
	}
}

// Every driver walks its own index, in its order, and touches no more than a page or the examined window.
func TestPlansOfFlows(t *testing.T) {
	t.Parallel()
	conn := planned(t)
	last := time.Date(2026, 1, 1, 4, 0, 0, 0, time.UTC)
	bound := last.Add(time.Hour)
	blue := []store.Label{{Key: "team", Value: "blue"}}
	cases := map[string]struct {
		q     store.FlowQuery
		index string
	}{
		"all":                 {store.FlowQuery{Owners: flows.Everyone}, "flows_by_creation"},
		"big owner":           {store.FlowQuery{Owners: flows.Everyone, OwnerSessionKey: "big"}, "flows_by_owner"},
		"big controller":      {store.FlowQuery{Owners: flows.Everyone, ControllerID: "big"}, "flows_by_controller"},
		"big status":          {store.FlowQuery{Owners: flows.Everyone, Statuses: []flows.Status{flows.Failed}}, "flows_by_status"},
		"big owner and mode":  {store.FlowQuery{Owners: flows.Everyone, OwnerSessionKey: "big", Mode: flows.Managed}, "flows_by_owner"},
		"owner":               {store.FlowQuery{Owners: flows.Everyone, OwnerSessionKey: "owner 7"}, "flows_by_owner"},
		"label":               {store.FlowQuery{Owners: flows.Everyone, Labels: blue}, "flow_labels_pkey"},
		"controller":          {store.FlowQuery{Owners: flows.Everyone, ControllerID: "controller 7"}, "flows_by_controller"},
		"status":              {store.FlowQuery{Owners: flows.Everyone, Statuses: []flows.Status{flows.Running}}, "flows_by_status"},
		"goal":                {store.FlowQuery{Owners: flows.Everyone, GoalContains: "nowhere"}, "flows_by_creation"},
		"owner and goal":      {store.FlowQuery{Owners: flows.Everyone, OwnerSessionKey: "owner 7", GoalContains: "7"}, "flows_by_owner"},
		"label and mode":      {store.FlowQuery{Owners: flows.Everyone, Labels: blue, Mode: flows.Mirrored}, "flow_labels_pkey"},
		"controller and wait": {store.FlowQuery{Owners: flows.Everyone, ControllerID: "controller 7", WaitKind: flows.WaitManual}, "flows_by_controller"},
		"created":             {store.FlowQuery{Owners: flows.Everyone, CreatedAfter: &last, CreatedBefore: &bound}, "flows_by_creation"},
	}
	for name, c := range cases {
		for _, order := range []store.FlowOrder{store.CreatedAsc, store.CreatedDesc} {
			for _, from := range []*store.FlowPosition{nil, {Time: last, ID: uuid.New()}} {
				t.Run(fmt.Sprint(name, order, from != nil), func(t *testing.T) {
					c.q.Limit, c.q.Order, c.q.From = 50, order, from
					checkFlowPlans(t, conn, c.q, c.index)
				})
			}
		}
	}
	for _, order := range []store.FlowOrder{store.UpdatedAsc, store.UpdatedDesc} {
		for _, from := range []*store.FlowPosition{nil, {Seq: 30000}} {
			t.Run(fmt.Sprint("feed", order, from != nil), func(t *testing.T) {
				q := store.FlowQuery{Owners: flows.Everyone, OwnerSessionKey: "owner 7", Limit: 50, Order: order, From: from}
				checkFlowPlans(t, conn, q, "events_pkey")
			})
		}
	}
}

func checkFlowPlans(t *testing.T, conn *pgx.Conn, q store.FlowQuery, index string) {
	t.Helper()
	sql, args, examined := pg.FlowsStatement(q)
	// The window, a lookup for each row of it where it walks another table, and the page.
	allowed := float64(2*examined + q.Limit + 2)
	for _, plan := range explain(t, conn, sql, args) {
		checkPlan(t, plan, index, allowed, float64(q.Limit+2))
	}
}

func TestPlansOfEvents(t *testing.T) {
	t.Parallel()
	conn := planned(t)
	after := int64(30000)
	flow := query[string](t, conn, "select id::text from flows offset 777 limit 1")
	for name, c := range map[string]struct {
		q     store.EventQuery
		index string
	}{
		"all":           {store.EventQuery{Owners: flows.Everyone}, "events_pkey"},
		"flow":          {store.EventQuery{Owners: flows.Everyone, FlowID: uuid.MustParse(flow), FromFlow: true}, "events_by_flow"},
		"big flow":      {store.EventQuery{Owners: flows.Everyone, FlowID: uuid.MustParse("ffffffff-0000-7000-8000-000000000000")}, "events_by_flow"},
		"kind":          {store.EventQuery{Owners: flows.Everyone, Kinds: []flows.EventKind{flows.EventFailed}}, "events_pkey"},
		"owner":         {store.EventQuery{Owners: flows.Everyone, OwnerSessionKey: "owner 7"}, "events_pkey"},
		"flow and kind": {store.EventQuery{Owners: flows.Everyone, FlowID: uuid.MustParse(flow), Kinds: flows.EventKinds[:1]}, "events_by_flow"},
	} {
		for _, desc := range []bool{false, true} {
			for _, from := range []*int64{nil, &after} {
				t.Run(fmt.Sprint(name, desc, from != nil), func(t *testing.T) {
					c.q.Limit, c.q.Desc, c.q.After = 50, desc, from
					sql, args, examined := pg.EventsStatement(c.q)
					for _, plan := range explain(t, conn, sql, args) {
						checkPlan(t, plan, c.index, float64(2*examined+c.q.Limit+2), float64(c.q.Limit+2))
					}
				})
			}
		}
	}
}

// What a change loads, and each statement by key, looks rows up and reads nothing else.
func TestPlansByKey(t *testing.T) {
	t.Parallel()
	conn := planned(t)
	var ids [][16]byte
	for _, text := range query[[]string](t, conn, "select array(select id::text from flows limit 10)") {
		ids = append(ids, uuid.MustParse(text))
	}
	runs := slices.Repeat([]string{"run"}, len(ids))
	for name, c := range map[string]struct {
		args    []any
		index   string
		touched float64
	}{
		"load flows": {[]any{ids}, "flows_pkey", 10},
		"load steps": {[]any{ids, runs}, "steps_pkey", 10},
		// Each flow is looked up once by its owner and once to be read.
		"load covered": {[]any{ids[:0], ids, slices.Repeat([]string{"owner"}, len(ids)), make([]bool, len(ids)),
			[]string{}, []string{}, []string{}, []bool{}, 500}, "flows_pkey", 20},
		"load covered steps": {[]any{ids, runs, slices.Repeat([]string{"owner"}, len(ids)), make([]bool, len(ids))}, "steps_pkey", 20},
		// Of another's flow only the owner is looked up.
		"load covered, another's": {[]any{ids[:0], ids, slices.Repeat([]string{"nobody"}, len(ids)), make([]bool, len(ids)),
			[]string{}, []string{}, []string{}, []bool{}, 500}, "flows_pkey", 10},
		"load covered steps, another's": {[]any{ids, runs, slices.Repeat([]string{"nobody"}, len(ids)), make([]bool, len(ids))}, "flows_pkey", 10},
		"load answers":                  {[]any{[][]byte{{1, 2}}}, "answers_pkey", 1},
		"gathered":                      {[]any{ids, slices.Repeat([]string{"owner"}, len(ids)), make([]bool, len(ids))}, "flows_pkey", 10},
		"select tail":                   {[]any{int64(30000), 20}, "events_pkey", 40},
		"select step":                   {[]any{ids[0], "run"}, "steps_pkey", 1},
		"failed by controller":          {[]any{10, store.Examined}, "flows_by_status", store.Examined},
		"sweep":                         {[]any{time.Now().Add(time.Hour), 100}, "answers_by_creation", 300},
		"erase events":                  {[]any{ids}, "events_by_flow", 20},
		"erase steps":                   {[]any{ids}, "", 10},
		"erase labels":                  {[]any{ids}, "flow_labels_by_flow", 10},
		"erase flows":                   {[]any{ids}, "flows_pkey", 10},
	} {
		t.Run(name, func(t *testing.T) {
			statement, _, _ := strings.Cut(name, ",")
			for _, plan := range explain(t, conn, pg.Fixed[statement], c.args) {
				checkPlan(t, plan, c.index, c.touched, 10)
			}
		})
	}
}

// What a caller covers by a prefix is found by the index on the owner, and by a walk of the order where that is too much;
// neither reads the table through, nor sorts it.
func TestPlansOfOwners(t *testing.T) {
	t.Parallel()
	conn := planned(t)
	few := store.Plan{Driver: store.DriveOwners, Residual: true}
	for name, c := range map[string]struct {
		owners flows.Owners
		plan   *store.Plan
		index  string
	}{
		"few":      {"owner 7*", &few, "flows_by_owner"},
		"too many": {"owner*", nil, "flows_by_creation"},
		"one":      {"owner 7", nil, "flows_by_owner"},
	} {
		for _, order := range []store.FlowOrder{store.CreatedAsc, store.CreatedDesc} {
			t.Run(fmt.Sprint(name, order), func(t *testing.T) {
				q := store.FlowQuery{Owners: c.owners, Limit: 50, Order: order}
				q.Narrow()
				plan := q.Plan()
				if c.plan != nil {
					plan = *c.plan
				}
				sql, args, examined := pg.PlannedFlowsStatement(q, plan)
				for _, plan := range explain(t, conn, sql, args) {
					checkPlan(t, plan, c.index, float64(2*examined+q.Limit+2), store.Examined)
				}
			})
		}
	}
	statements, args := pg.StatsStatements("owner 7*")
	for i, sql := range statements {
		for _, plan := range explain(t, conn, sql, args[i]) {
			checkPlan(t, plan, "flows_by_owner", 2*store.Examined, store.Examined)
		}
	}
}

// The writes of a batch find their rows by key too.
func TestPlansOfWrites(t *testing.T) {
	t.Parallel()
	conn := planned(t)
	s := open(t, conn.Config().ConnString())
	page, err := s.Flows(t.Context(), store.FlowQuery{Owners: flows.Everyone, Limit: 20})
	must(t, err)
	var w store.Writes
	recorded := store.Snapshot{Steps: map[store.StepKey]*flows.Step{}, Events: map[uuid.UUID]*flows.ExternalEvent{},
		Answers: map[store.AnswerKey]*store.Answer{}}
	for i, f := range page.Items {
		f.Wait = waitFor(f, flows.Pair{Topic: "t", CorrelationID: f.ID.String()})
		w.Updated = append(w.Updated, store.FlowUpdate{Flow: f, State: true, Labels: true, Wait: true})
		w.ExternalEvents = append(w.ExternalEvents, newExternalEvent(f.Wait.Pairs()[0]))
		w.Events = append(w.Events, eventOf(f, "writer"))
		w.Steps = append(w.Steps, &flows.Step{ID: uuid.New(), FlowID: f.ID, RunID: "new run", Runtime: flows.Managed, Task: "t",
			Status: flows.StepFailed, Result: json.RawMessage("null")})
		w.Answers = append(w.Answers, store.Answer{Key: store.AnswerKey{byte(i)}, Response: []byte("{}")})
		recorded.Steps[store.StepKey{FlowID: f.ID, RunID: "new run"}] = w.Steps[i]
		recorded.Events[w.ExternalEvents[i].ID] = w.ExternalEvents[i]
		recorded.Answers[w.Answers[i].Key] = &w.Answers[i]
	}
	exec(t, conn, "begin")
	statements := slices.Concat(pg.WriteStatements(w, store.Snapshot{}), pg.WriteStatements(w, recorded)) // as new, and once more
	for _, statement := range statements {
		var text []byte
		sql := "explain (analyze, format json, timing off, costs off) " + statement.SQL
		if err := conn.QueryRow(t.Context(), sql, statement.Arguments...).Scan(&text); err != nil {
			t.Fatalf("%s: %v", statement.SQL, err)
		}
		var plan []struct{ Plan node }
		must(t, json.Unmarshal(text, &plan))
		for _, n := range plan[0].Plan.nodes() {
			if n.Type == "Seq Scan" && n.Table != "feed" || n.Index != "" && n.Rows > 20 {
				t.Errorf("%s\n%v", statement.SQL, n)
			}
		}
	}
	exec(t, conn, "rollback")
}

// An ordinary change of a flow touches no index, nor does one of a flow that waits. It has a server of its own: a transaction that stays open, even in
// another database, can keep dead rows from being cleared off their pages.
func TestUpdatesAreHOT(t *testing.T) {
	t.Parallel()
	cluster, err := pgtest.StartCluster(t.Context(), pgtest.Options{Fast: true, Settings: map[string]string{"autovacuum": "off"}})
	must(t, err)
	t.Cleanup(func() { must(t, cluster.Stop()) })
	url := cluster.URL("postgres")
	must(t, pg.Migrate(t.Context(), url, 0))
	s := openWith(t, url, pg.Options{Writers: 1})
	var list []*flows.Flow
	for range 25 {
		list = append(list, newFlow(), timed(time.Hour))
	}
	must(t, create(t.Context(), s, list...))
	for n := range 500 {
		id := list[n%50].ID
		must(t, s.Update(t.Context(), func(tx store.Tx) error {
			snapshot, err := tx.Load(store.Need{Flows: []uuid.UUID{id}})
			if err != nil {
				return err
			}
			next := *snapshot.Flows[id]
			next.Revision++
			next.UpdatedAt, next.CurrentStep = snapshot.Now, fmt.Sprint("step ", n)
			next.State = json.RawMessage(fmt.Sprintf(`{"n": %d}`, n))
			return tx.Save(store.Writes{Updated: []store.FlowUpdate{{Flow: &next, State: n%2 == 0}},
				Events: []flows.Event{eventOf(&next, "writer")}})
		}))
	}
	must(t, s.Close()) // a session hands its counters in when it ends
	conn := connect(t, url)
	var updates, hot int
	deadline := time.Now().Add(20 * time.Second)
	for updates < 500 && time.Now().Before(deadline) {
		const counters = "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relname = 'flows'"
		must(t, conn.QueryRow(t.Context(), counters).Scan(&updates, &hot))
	}
	// A few rows may move off a page that happens to be full.
	if updates != 500 || hot < 475 {
		t.Errorf("%d updates, %d of them HOT", updates, hot)
	}
}
