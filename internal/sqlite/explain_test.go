package sqlite_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/sqlite"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// explain is the planner's account of a statement, a line for each loop and sort.
func explain(t *testing.T, s *sqlite.Store, query string, args ...any) []string {
	t.Helper()
	rows, err := s.Readers().QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var lines []string
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, detail)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// checkPlan asks that the first loop is the one wanted, that every other is a search, and that nothing is sorted.
func checkPlan(t *testing.T, plan []string, first string) {
	t.Helper()
	t.Log("\n" + strings.Join(plan, "\n"))
	if len(plan) == 0 || !strings.HasPrefix(plan[0], first) {
		t.Errorf("the plan does not begin with %q", first)
		return
	}
	for _, line := range plan[1:] {
		if strings.HasPrefix(line, "SCAN") || strings.Contains(line, "TEMP B-TREE") || strings.Contains(line, "AUTOMATIC") {
			t.Errorf("%q in the plan", line)
		}
	}
}

func at(offset time.Duration) *time.Time {
	t := testEpoch.Add(offset)
	return &t
}

func TestPlanOfFlows(t *testing.T) {
	s := open(t)
	label := []store.Label{{Key: "team", Value: "a"}, {Key: "x", Value: "y"}}
	drivers := []struct {
		name  string
		query store.FlowQuery
		// The plan's first loop, without bounds on the time and with them.
		all, bounded string
	}{
		{"all", store.FlowQuery{Owners: flows.Everyone}, "SCAN f USING COVERING INDEX flows_created",
			"SEARCH f USING COVERING INDEX flows_created ("},
		{"owner", store.FlowQuery{Owners: flows.Everyone, OwnerSessionKey: "o"}, "SEARCH f USING COVERING INDEX flows_owner (owner_session_key=?)",
			"SEARCH f USING COVERING INDEX flows_owner (owner_session_key=? AND "},
		{"controller", store.FlowQuery{Owners: flows.Everyone, ControllerID: "c"}, "SEARCH f USING COVERING INDEX flows_controller (controller_id=?)",
			"SEARCH f USING COVERING INDEX flows_controller (controller_id=? AND "},
		{"status", store.FlowQuery{Owners: flows.Everyone, Statuses: flows.Statuses[:1]}, "SEARCH f USING COVERING INDEX flows_status (status=?)",
			"SEARCH f USING COVERING INDEX flows_status (status=? AND "},
		{"label", store.FlowQuery{Owners: flows.Everyone, Labels: label[:1]}, "SEARCH l USING PRIMARY KEY (key=? AND value=?)",
			"SEARCH l USING PRIMARY KEY (key=? AND value=? AND "},
	}
	filters := []struct {
		name string
		add  func(*store.FlowQuery)
	}{
		{"", func(*store.FlowQuery) {}},
		{"goal", func(q *store.FlowQuery) { q.GoalContains = "g" }},
		{"status and mode", func(q *store.FlowQuery) { q.Statuses, q.Mode = flows.Statuses[:1], flows.Managed }},
		{"labels", func(q *store.FlowQuery) { q.Labels = append(q.Labels, label[1]) }},
		{"updated", func(q *store.FlowQuery) { q.UpdatedAfter = at(0) }},
	}
	for _, d := range drivers {
		for _, f := range filters {
			for _, order := range []store.FlowOrder{store.CreatedAsc, store.CreatedDesc} {
				q := d.query
				f.add(&q)
				if q.Plan().Driver != d.query.Plan().Driver {
					continue
				}
				q.Order, q.Limit = order, 50
				t.Run(fmt.Sprintf("%s %s %s", d.name, f.name, order), func(t *testing.T) { checkPage(t, s, q, d.all, d.bounded) })
			}
		}
	}
}

// checkPage checks the first page, one that goes on, and one between two times. Where a filter needs the flow's row the
// index covers the statement no more, which is as well.
func checkPage(t *testing.T, s *sqlite.Store, q store.FlowQuery, all, bounded string) {
	t.Helper()
	check := func(q store.FlowQuery, want string, bounds ...string) {
		t.Helper()
		query, args := sqlite.FlowKeys(q)
		plan := explain(t, s, query, args...)
		if q.Plan().Residual {
			plan[0], want = strings.Replace(plan[0], "COVERING ", "", 1), strings.Replace(want, "COVERING ", "", 1)
		}
		checkPlan(t, plan, want)
		for _, bound := range bounds {
			if !strings.Contains(strings.Replace(plan[0], "flow_id", "id", 1), bound) {
				t.Errorf("the index is not bounded by %q: %s", bound, plan[0])
			}
		}
	}
	page, end := "(created_at,id)>(?,?)", "created_at<?"
	if q.Order.Desc() {
		page, end = "(created_at,id)<(?,?)", "created_at>?"
	}
	check(q, all)
	q.From = &store.FlowPosition{Time: testEpoch, ID: uuid.New()}
	check(q, bounded, page)
	q.CreatedAfter, q.CreatedBefore = at(-time.Hour), at(time.Hour)
	check(q, bounded, page, end)
	q.From = nil
	check(q, bounded, "created_at>? AND created_at<?")
}

// TestPlanOfOwners holds that what a caller covers by a prefix is found by the index on the owner, and by a walk of the
// order where that is too much.
func TestPlanOfOwners(t *testing.T) {
	s := open(t)
	for _, order := range []store.FlowOrder{store.CreatedAsc, store.CreatedDesc} {
		q := store.FlowQuery{Owners: "agent:*", Order: order, Limit: 5}
		query, args := sqlite.PlannedFlowKeys(q, store.Plan{Driver: store.DriveOwners, Residual: true})
		plan := explain(t, s, query, args...)
		if len(plan) != 2 || plan[1] != "USE TEMP B-TREE FOR ORDER BY" { // of no more than store.Examined
			t.Errorf("the plan is %q", plan)
		}
		checkPlan(t, plan[:1], "SEARCH f USING COVERING INDEX flows_owner (owner_session_key>? AND owner_session_key<?)")
		query, args = sqlite.FlowKeys(q)
		checkPlan(t, explain(t, s, query, args...), "SCAN f USING INDEX flows_created")
		q.Owners = "agent:a"
		if !q.Narrow() || q.Owners != flows.Everyone {
			t.Errorf("one owner is not the filter by owner: %+v", q)
		}
	}
}

// TestPlanOfBuffered holds that the events that are kept for a pair are found by it, and no others are read.
func TestPlanOfBuffered(t *testing.T) {
	plan := strings.Join(explain(t, open(t), sqlite.SelectBuffered, "t", "c", 0, "[]", "[]", 1), "\n")
	for _, line := range []string{"SEARCH e USING COVERING INDEX external_events_buffered (topic=? AND correlation_id=?",
		"SEARCH external_events USING INDEX sqlite_autoindex_external_events_1 (id=?)"} {
		if !strings.Contains(plan, line) {
			t.Errorf("the plan lacks %q:\n%s", line, plan)
		}
	}
}

func TestPlanOfTheFeed(t *testing.T) {
	s := open(t)
	const first = "SEARCH e USING INTEGER PRIMARY KEY (rowid"
	for _, order := range []store.FlowOrder{store.UpdatedAsc, store.UpdatedDesc} {
		query, args := sqlite.FlowKeys(store.FlowQuery{Owners: flows.Everyone, Order: order, OwnerSessionKey: "o", Limit: 10,
			Labels: []store.Label{{Key: "team", Value: "a"}}})
		checkPlan(t, explain(t, s, query, args...), first)
	}
	for _, desc := range []bool{false, true} {
		query, args := sqlite.EventKeys(store.EventQuery{Owners: flows.Everyone, OwnerSessionKey: "o", Kinds: flows.EventKinds[:2], Desc: desc})
		checkPlan(t, explain(t, s, query, args...), first)
		query, args = sqlite.EventKeys(store.EventQuery{Owners: flows.Everyone, FlowID: uuid.New(), Kinds: flows.EventKinds[:2], Desc: desc})
		checkPlan(t, explain(t, s, query, args...), "SEARCH e USING INDEX events_flow (flow_id=? AND rowid")
	}
}

func TestPlanOfConstantStatements(t *testing.T) {
	s := open(t)
	first := map[string]string{
		"flow": "SEARCH flows USING INDEX", "step": "SEARCH steps USING INDEX", "answer": "SEARCH answers USING INDEX",
		"steps":            "SEARCH steps USING INDEX steps_created (flow_id=? AND (created_at,id)>(?,?))",
		"events":           "SEARCH events USING INTEGER PRIMARY KEY (rowid>?)",
		"events desc":      "SEARCH events USING INTEGER PRIMARY KEY (rowid<?)",
		"flow events":      "SEARCH events USING INDEX events_flow (flow_id=? AND rowid>?)",
		"flow events desc": "SEARCH events USING INDEX events_flow (flow_id=? AND rowid<?)",
		"tail":             "SEARCH e USING INTEGER PRIMARY KEY (rowid>?)",
		"event":            "SEARCH events USING INTEGER PRIMARY KEY (rowid=?)",
		"sweep":            "SEARCH answers USING INTEGER PRIMARY KEY",
		"waiting longest":  "SEARCH flows USING INDEX flows_waiting",
		"due soonest":      "SEARCH flows USING INDEX flows_due (due_at>?)",
		"count failed":     "CO-ROUTINE",
		"delete labels":    "SEARCH flow_labels USING PRIMARY KEY (key=? AND value=? AND created_at=? AND flow_id=?)",
		"delete steps":     "SEARCH steps USING INDEX", "delete events": "SEARCH events USING",
		"update flow":         "SEARCH flows USING INDEX",
		"count by status":     "SCAN flows USING COVERING INDEX flows_status",
		"count by controller": "SCAN flows USING COVERING INDEX flows_controller",
		"due":                 "SEARCH flows USING INDEX flows_due (due_at>? AND due_at<?)",
		"next due":            "SEARCH flows USING INDEX flows_due (due_at>?)",
		"update due":          "SEARCH flows USING INDEX",
		"awaiting":            "SEARCH awaited USING PRIMARY KEY (topic=? AND correlation_id=?)",
		"delete awaited":      "SEARCH awaited USING COVERING INDEX awaited_flow (flow_id=?)",
		"external":            "SEARCH external_events USING INDEX",
		"delivering":          "SCAN external_events USING COVERING INDEX external_events_delivering",
		"sweep externals":     "SEARCH external_events USING INTEGER PRIMARY KEY",
		"ended":               "SEARCH flows USING COVERING INDEX flows_ended (ended_at<?)",
		"count ended":         "SEARCH flows USING COVERING INDEX flows_ended (ended_at<?)",
		"callback keys":       "SCAN callback_keys",
	}
	allowed := map[string][]string{
		"delete labels":       {"SCAN j VIRTUAL TABLE INDEX 1:"},
		"count by controller": {"USE TEMP B-TREE FOR ORDER BY"},
		"count failed":        {"SCAN (subquery-1)", "USE TEMP B-TREE FOR GROUP BY", "USE TEMP B-TREE FOR ORDER BY"},
		"callback keys":       {"USE TEMP B-TREE FOR ORDER BY"},
	}
	for name, query := range sqlite.Statements {
		t.Run(name, func(t *testing.T) {
			plan := explain(t, s, query, make([]any, strings.Count(query, "?"))...)
			// The labels of one flow are scanned; the controllers are sorted once they have been counted, and before where
			// it is a bounded number of flows that is counted; and so are the few callback keys.
			plan = slices.DeleteFunc(plan, func(line string) bool { return slices.Contains(allowed[name], line) })
			if first[name] == "" {
				t.Fatal("no plan is wanted of this statement")
			}
			checkPlan(t, plan, first[name])
		})
	}
}
