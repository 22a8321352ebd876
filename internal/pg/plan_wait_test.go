package pg_test

import (
	"cmp"
	"fmt"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/pg"
	"taskflow/internal/store"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// populateWaits adds 30,000 waiting flows, of which 20,000 have a due time and 40 are due; 10,000 wait for one pair, and
// each of the others for one of its own; of the first pair 10 rows are of waits that have ended. And 10,000 flows that
// have ended, 100 of them long ago.
const populateWaits = `
insert into flows (id, mode, controller_id, goal, owner_session_key, requester_origin, current_step, state, status,
	cancel_requested, revision, labels, steps_total, steps_active, created_at, updated_at, wait, waiting_since, due_at,
	due_since, ended_at)
select ('eeeeeeee-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'managed', 'waiter', 'g', 'waiter', '', 'init',
	'{}', case when n <= 30000 then 'waiting' else 'finished' end, false, 1, '{}', 0, 0, now(), now(),
	case when n <= 30000 then json_build_object('kind', 'external_event', 'generation', 1, 'topic', 'own',
		'correlation_id', n::text, 'since', '2026-01-01T00:00:00.000000Z') end,
	case when n <= 30000 then timestamptz '2026-01-01' + n * interval '1 second' end,
	case when n <= 20000 then now() + (n - 40) * interval '1 hour' end,
	case when n <= 20000 then timestamptz '2026-01-01' + n * interval '1 second' end,
	case when n > 39900 then now() - interval '1 year' when n > 30000 then now() end
from generate_series(1, 40000) n;
insert into awaited (topic, correlation_id, since, flow_id)
select case when row_number() over () <= 10000 then 'hot' else 'own' end,
	case when row_number() over () <= 10000 then 'hot' else id::text end, waiting_since, id
from flows where waiting_since is not null;
insert into awaited (topic, correlation_id, since, flow_id)
select 'hot', 'hot', timestamptz '2025-01-01', id from flows where waiting_since is not null limit 10;`

// populateExternalEvents adds 60,000 external events. Of the older half all have one topic, and the other half one
// correlation id, which tempts the planner as the flows do; 20,000 are or were buffered for one pair, and of those 1,000
// have not expired.
const populateExternalEvents = `
insert into external_events (id, topic, correlation_id, flow_id, payload, actor, at, expires_at, outcome, flows,
	flow_count)
select overlay(md5(n::text) placing lpad(to_hex(n), 8, '0') from 1 for 8)::uuid,
	case when n <= 20000 then 'hot' when n <= 40000 then 'big' else 'topic ' || n % 100 end,
	case when n <= 20000 then 'hot' when n <= 40000 then 'order ' || n % 10000 else 'big' end, null, '{}', 'a',
	now() - interval '90 days' + n * interval '1 minute',
	case when n <= 19000 then now() - interval '80 days' else now() + interval '1 day' end,
	case when n <= 20000 then 'buffered' when n % 6000 = 0 then 'delivering' else 'delivered' end, '[]', 1
from generate_series(1, 60000) n;`

func plannedWaits(t *testing.T) *pgx.Conn {
	t.Helper()
	conn := planned(t)
	exec(t, conn, populateWaits)
	exec(t, conn, populateExternalEvents)
	exec(t, conn, "vacuum (analyze)")
	return conn
}

// What waits load and match is found by index, and nothing else is read.
func TestPlansOfWaits(t *testing.T) {
	t.Parallel()
	conn := plannedWaits(t)
	hot, soon, long := []string{"hot"}, time.Now().Add(time.Hour), time.Now().Add(-100*24*time.Hour)
	few := [][16]byte{uuid.MustParse("eeeeeeee-0000-7000-8000-000000000001"), uuid.New()}
	receipt := uuid.MustParse(query[string](t, conn, "select id::text from external_events offset 7 limit 1"))
	none, most := [][16]byte{}, []int32{500}
	for name, c := range map[string]struct {
		statement       string
		args            []any
		index           string
		touched, sorted float64
	}{
		"due":                {"load due", []any{1000}, "flows_by_due", 41, 0},
		"more due than many": {"load due", []any{10}, "flows_by_due", 10, 0},
		"next due":           {"next due", nil, "flows_by_due", 1, 0},
		// What is found is looked up by its id.
		"due next":        {"due next", []any{10}, "flows_by_due", 20, 0},
		"waiting longest": {"waiting longest", []any{10}, "flows_by_waiting", 20, 0},
		// Each of the 10 old rows and of the page costs a look-up of its flow; then the flows are read.
		"waiting":          {"load waiting", []any{none, hot, hot, 500}, "awaited_pkey", 2*510 + 500, 0},
		"waiting and more": {"load waiting", []any{few, hot, hot, 2}, "awaited_pkey", 2*12 + 4, 0},
		"waiting for none": {"load waiting", []any{few, hot, []string{"cold"}, 500}, "awaited_pkey", 2, 0},
		"more":             {"load more", []any{hot, hot, 500}, "awaited_pkey", 2*511 + 1, 0},
		"buffered":         {"load buffered", []any{hot, hot, most, few, []string{"agent:a"}}, "external_events_kept", 1500, 1000},
		"nothing buffered": {"load buffered", []any{hot, []string{"cold"}, most, few, []string{}}, "external_events_kept", 0, 0},
		"events by id":     {"load external events", []any{[][16]byte{receipt, uuid.New()}}, "external_events_pkey", 1, 0},
		"receipt":          {"select receipt", []any{[16]byte(receipt)}, "external_events_pkey", 1, 0},
		"delivering":       {"delivering", []any{5}, "external_events_delivering", 5, 0},
		// Those that are not to go, then those that go, found and deleted.
		"sweep":            {"sweep external events", []any{soon, 100}, "external_events_by_time", 300, 0},
		"nothing to sweep": {"sweep external events", []any{long, 100}, "external_events_by_time", 0, 0},
		"prune":            {"lock ended", []any{time.Now().Add(-24 * time.Hour), 50}, "flows_by_end", 50, 0},
		"prune the rest":   {"lock ended", []any{time.Now().Add(-24 * time.Hour), 1000}, "flows_by_end", 100, 0},
		"count ended":      {"count ended", []any{time.Now().Add(-24 * time.Hour)}, "flows_by_end", 100, 0},
		"erase awaited":    {"erase awaited", []any{few}, "awaited_by_flow", 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			for _, plan := range explain(t, conn, pg.Fixed[c.statement], c.args) {
				checkPlan(t, plan, c.index, c.touched, c.sorted)
			}
		})
	}
}

// Every list of receipts walks its own index, from the newest, and touches no more than a page or the examined window.
func TestPlansOfExternalEvents(t *testing.T) {
	t.Parallel()
	conn := plannedWaits(t)
	big, rare := &flows.Pair{Topic: "big", CorrelationID: "big"}, &flows.Pair{Topic: "topic 7", CorrelationID: "order 7"}
	type eventQuery = store.ExternalEventQuery
	for name, c := range map[string]struct {
		q     eventQuery
		index string
	}{
		"all":                    {eventQuery{}, "external_events_by_time"},
		"topic":                  {eventQuery{Topic: "topic 7"}, "external_events_by_topic"},
		"big topic":              {eventQuery{Topic: "big"}, "external_events_by_topic"},
		"correlation":            {eventQuery{CorrelationID: "order 7"}, "external_events_by_correlation"},
		"big correlation":        {eventQuery{CorrelationID: "big"}, "external_events_by_correlation"},
		"pair":                   {eventQuery{Topic: "big", CorrelationID: "order 7"}, "external_events_by_correlation"},
		"outcome":                {eventQuery{Outcome: flows.EventDelivering}, "external_events_by_time"},
		"no such outcome":        {eventQuery{Outcome: flows.EventUnmatched}, "external_events_by_time"},
		"topic and outcome":      {eventQuery{Topic: "hot", Outcome: flows.EventExpired}, "external_events_by_topic"},
		"owners":                 {eventQuery{Owners: "agent:*"}, "external_events_by_time"},
		"owner and topic":        {eventQuery{Owners: "agent:a", Topic: "big"}, "external_events_by_topic"},
		"either":                 {eventQuery{EitherOf: rare}, "external_events_by_topic"},
		"either, by correlation": {eventQuery{EitherOf: rare}, "external_events_by_correlation"},
		"either of big":          {eventQuery{EitherOf: big}, "external_events_by_topic"},
		"either and outcome":     {eventQuery{EitherOf: big, Outcome: flows.EventUnmatched}, "external_events_by_topic"},
		"either and topic":       {eventQuery{EitherOf: rare, Topic: "big"}, "external_events_by_topic"},
	} {
		for _, from := range []*store.EventPosition{nil, {At: time.Now().Add(-60 * 24 * time.Hour), ID: uuid.New()}} {
			t.Run(fmt.Sprint(name, from != nil), func(t *testing.T) {
				c.q.Limit, c.q.From, c.q.Owners = 50, from, cmp.Or(c.q.Owners, flows.Everyone)
				sql, args, examined := pg.ExternalEventsStatement(c.q)
				window, sorted := float64(examined), float64(c.q.Limit+2)
				if c.q.EitherOf != nil && c.q.Topic == "" { // two windows, put in order together
					window, sorted = 2*window, 2*window
				}
				for _, plan := range explain(t, conn, sql, args) {
					checkPlan(t, plan, c.index, window+float64(c.q.Limit+2), sorted)
				}
			})
		}
	}
}
