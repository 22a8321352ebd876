package pg

import (
	"context"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/jackc/pgx/v5"
)

// A page is read in two steps of one statement. The first walks an index, in order, over a window of at most so many
// rows, and marks those that match what the index does not serve; the second fetches those that match, as many as the
// page may have and one more, and the last one examined where the window is full. Where every filter is served by the
// index, the window is the page and one more.
//
// The marks are scalar subqueries, not joins: so the window is read in the index's order, and never more of it.
const (
	openWindow = `
with page as materialized (
    select id, seq, hit, row_number() over () as n from (`
	closeWindow = `) examined)
select p.n, p.hit, `
	fromWindow = `
from ((select id, seq, hit, n from page where hit order by n limit ?)
    union all (select id, seq, hit, n from page where n = ? and not hit)) p
cross join lateral (`
	endWindow = `) r order by p.n`
)

// window is how many rows a page examines.
func window(limit int, residual bool) int {
	if residual {
		return store.Examined
	}
	return limit + 1
}

// found is one row of a page's statement.
type found[T any] struct {
	n    int64 // its place in the window
	hit  bool
	item T
}

// readPage reads the rows of a page's statement until the page is full: its items, and the last row that it has dealt with,
// nil at the list's end. What is left of the rows passes by, and is not kept.
func readPage[T any](ctx context.Context, conn *pgx.Conn, sql *statement, limit, window int, scan pgx.RowToFunc[found[T]], add func(*store.Filling, T)) (items []T, last *T, err error) {
	rows, err := conn.Query(ctx, sql.text.String(), sql.args...)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	filling := store.Filling{Limit: limit}
	for rows.Next() {
		if filling.Full() {
			return items, &items[len(items)-1], nil
		}
		row, err := scan(rows)
		if err != nil {
			return nil, nil, err
		}
		if !row.hit || row.n == int64(window) {
			last = &row.item // the window was full, and this is its end
		}
		if row.hit {
			items = append(items, row.item)
			add(&filling, row.item)
		}
	}
	return items, last, rows.Err()
}

// placed is a flow and, in an order by update, the number of its last change's event.
type placed struct {
	flow *flows.Flow
	seq  int64
}

func scanPlaced(row pgx.CollectableRow) (f found[placed], err error) {
	columns := fieldsOf(row)
	f.n, f.hit, f.item.seq = columns.bigint(), columns.boolean(), columns.bigint()
	f.item.flow, err = columns.flow()
	return f, err
}

// Flows implements store.Reader.
func (s *Store) Flows(ctx context.Context, q store.FlowQuery) (store.FlowPage, error) {
	var page store.FlowPage
	if !q.Narrow() {
		return page, nil
	}
	err := s.read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		plan, err := choosePlan(ctx, conn, &q)
		if err != nil {
			return err
		}
		sql, window := flowsStatement(&q, plan)
		add := func(filling *store.Filling, p placed) { filling.AddFlow(p.flow) }
		items, last, err := readPage(ctx, conn, sql, q.Limit, window, scanPlaced, add)
		if err != nil {
			return err
		}
		page = store.FlowPage{}
		page.Items = column(items, func(p placed) *flows.Flow { return p.flow })
		switch {
		case last == nil:
		case q.Order.ByUpdate():
			page.Next = &store.FlowPosition{Seq: last.seq}
		default:
			page.Next = &store.FlowPosition{Time: last.flow.CreatedAt, ID: last.flow.ID}
		}
		return nil
	})
	return page, err
}

// choosePlan is the query's plan, unless the caller covers few flows: then those are read.
func choosePlan(ctx context.Context, conn *pgx.Conn, q *store.FlowQuery) (store.Plan, error) {
	plan := q.Plan()
	if !q.ByOwners() {
		return plan, nil
	}
	var sql statement
	sql.add(`select count(*) from (select from flows f where true`)
	sql.ofOwners(q.Owners)
	sql.add(` limit ?) f`, store.Examined+1)
	var covered int
	err := conn.QueryRow(ctx, sql.text.String(), sql.args...).Scan(&covered)
	if covered <= store.Examined {
		plan = store.Plan{Driver: store.DriveOwners, Residual: true}
	}
	return plan, err
}

// flowsStatement is the statement of a page, and how many rows it examines.
func flowsStatement(q *store.FlowQuery, plan store.Plan) (sql *statement, examined int) {
	sql = new(statement)
	examined = window(q.Limit, plan.Residual)
	sql.add(openWindow)
	switch plan.Driver {
	case store.DriveFeed:
		walkFeed(sql, q)
	case store.DriveOwners:
		sortOwners(sql, q)
	case store.DriveLabel:
		walkLabel(sql, q, plan.Residual)
	default:
		walkFlows(sql, q, plan)
	}
	sql.add(` limit ?`, examined)
	columns := flowColumns
	if q.WithoutState {
		columns = flowSummary
	}
	sql.add(closeWindow + `p.seq, r.*`)
	sql.add(fromWindow, q.Limit+1, examined)
	sql.add(`select ` + columns + ` from flows f where f.id = p.id limit 1` + endWindow)
	return sql, examined
}

// walkFlows walks an index of flows itself.
func walkFlows(sql *statement, q *store.FlowQuery, plan store.Plan) {
	sql.add(`select f.id, 0::bigint as seq, coalesce(true`)
	if plan.Residual {
		matchFlow(sql, q)
	}
	sql.add(`, false) as hit from flows f`)
	low, high := span(q)
	switch plan.Driver {
	case store.DriveOwner:
		sql.within(`f.owner_session_key, f.created_at, f.id`, low.after(q.OwnerSessionKey), high.after(q.OwnerSessionKey), desc(q))
	case store.DriveController:
		sql.within(`f.controller_id, f.created_at, f.id`, low.after(q.ControllerID), high.after(q.ControllerID), desc(q))
	case store.DriveStatus:
		status := string(plan.Status)
		sql.within(`f.status, f.created_at, f.id`, low.after(status), high.after(status), desc(q))
	default:
		sql.within(`f.created_at, f.id`, low.after(), high.after(), desc(q))
	}
}

// sortOwners reads every flow that is covered, and then puts them in order: the fence keeps the planner from walking an
// index that has the order, past everybody else's.
func sortOwners(sql *statement, q *store.FlowQuery) {
	sql.add(`select f.id, 0::bigint as seq, f.hit from (select f.id, f.created_at, coalesce(true`)
	matchFlow(sql, q)
	sql.add(`, false) as hit from flows f where true`)
	sql.ofOwners(q.Owners)
	sql.add(` offset 0) f`)
	low, high := span(q)
	sql.within(`f.created_at, f.id`, low.after(), high.after(), desc(q))
}

// walkLabel walks the flows with the first label of the query.
func walkLabel(sql *statement, q *store.FlowQuery, residual bool) {
	sql.add(`select l.flow_id as id, 0::bigint as seq, coalesce(true`)
	if residual {
		sql.add(` and (select true`)
		matchFlow(sql, q)
		sql.add(` from flows f where f.id = l.flow_id)`)
	}
	sql.add(`, false) as hit from flow_labels l`)
	low, high := span(q)
	label := q.Labels[0]
	sql.within(`l.key, l.value, l.created_at, l.flow_id`, low.after(label.Key, label.Value), high.after(label.Key, label.Value),
		desc(q))
}

// walkFeed walks the audit events; an event stands for its flow where it is the flow's last change.
func walkFeed(sql *statement, q *store.FlowQuery) {
	sql.add(`select e.flow_id as id, e.seq, coalesce(e.kind <> 'step_observed' and (select f.revision = e.revision`)
	matchFlow(sql, q)
	if q.CreatedAfter != nil {
		sql.add(` and f.created_at > ?`, *q.CreatedAfter)
	}
	if q.CreatedBefore != nil {
		sql.add(` and f.created_at < ?`, *q.CreatedBefore)
	}
	sql.add(` from flows f where f.id = e.flow_id), false) as hit from events e`)
	var from *int64
	if q.From != nil {
		from = &q.From.Seq
	}
	low, high := seqSpan(from, desc(q))
	sql.within(`e.seq`, []any{low}, []any{high}, desc(q))
}

// matchFlow adds every filter of the query on a flow f but the bounds on its creation; one that the driver serves does
// no harm here.
func matchFlow(sql *statement, q *store.FlowQuery) {
	sql.covered(`f.owner_session_key`, q.Owners)
	if q.OwnerSessionKey != "" {
		sql.add(` and f.owner_session_key = ?`, q.OwnerSessionKey)
	}
	if q.ControllerID != "" {
		sql.add(` and f.controller_id = ?`, q.ControllerID)
	}
	if q.Mode != "" {
		sql.add(` and f.mode = ?`, string(q.Mode))
	}
	if len(q.Statuses) > 0 {
		sql.add(` and f.status = any(?)`, column(q.Statuses, func(s flows.Status) string { return string(s) }))
	}
	for _, label := range q.Labels {
		sql.add(` and f.labels ->> ?::text = ?`, label.Key, label.Value)
	}
	if q.WaitKind != "" {
		sql.add(` and f.wait ->> 'kind' = ?`, string(q.WaitKind))
	}
	if q.CancelRequested != nil {
		sql.add(` and f.cancel_requested = ?`, *q.CancelRequested)
	}
	if q.UpdatedAfter != nil {
		sql.add(` and f.updated_at > ?`, *q.UpdatedAfter)
	}
	if q.UpdatedBefore != nil {
		sql.add(` and f.updated_at < ?`, *q.UpdatedBefore)
	}
	if q.GoalContains != "" {
		sql.add(` and strpos(f.goal, ?) > 0`, q.GoalContains)
	}
}
