package sqlite

import (
	"context"
	"database/sql"
	"math"
	"strings"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// clause is a condition put together from constant pieces, and the values for their placeholders.
type clause struct {
	parts []string
	args  []any
}

func (c *clause) and(condition string, args ...any) {
	c.parts = append(c.parts, condition)
	c.args = append(c.args, args...)
}

// text joins the pieces; no piece is the condition that always holds.
func (c *clause) text() string {
	if len(c.parts) == 0 {
		return "TRUE"
	}
	return strings.Join(c.parts, " AND ")
}

// andIn asks that column is one of values.
func andIn[T ~string](c *clause, column string, values []T) {
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = string(v)
	}
	c.and(column+" IN (?"+strings.Repeat(", ?", max(len(values)-1, 0))+")", args...)
}

// Flows implements [store.Reader]. It reads keys in the order of the index that the plan names, up to the end of the
// page or as many as a page may examine; then the flows themselves, by their ids.
func (s *Store) Flows(ctx context.Context, q store.FlowQuery) (store.FlowPage, error) {
	if q.Order == "" {
		q.Order = store.CreatedDesc
	}
	one := selectFlow
	if q.WithoutState {
		one = selectFlowSummary
	}
	var page store.FlowPage
	if !q.Narrow() {
		return page, nil
	}
	err := s.read(ctx, func() error {
		byID, err := s.stmt(ctx, one)
		if err != nil {
			return err
		}
		return s.snapshot(ctx, func(tx *sql.Tx) (err error) {
			page, err = readFlows(ctx, tx, tx.StmtContext(ctx, byID), &q)
			return err
		})
	})
	if err != nil {
		return store.FlowPage{}, err
	}
	return page, nil
}

// choosePlan is the query's plan, unless the caller covers few flows: then those are read.
func choosePlan(ctx context.Context, tx *sql.Tx, q *store.FlowQuery) (store.Plan, error) {
	plan := q.Plan()
	if !q.ByOwners() {
		return plan, nil
	}
	var where clause
	owned(&where, q.Owners)
	var covered int
	err := tx.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT 1 FROM "+fromOwner+" WHERE "+where.text()+" LIMIT ?)",
		append(where.args, store.Examined+1)...).Scan(&covered)
	if covered <= store.Examined {
		plan = store.Plan{Driver: store.DriveOwners, Residual: true}
	}
	return plan, err
}

// flowKey is a flow and its place in the list.
type flowKey struct {
	id uuid.UUID
	at store.FlowPosition
}

func readFlows(ctx context.Context, tx *sql.Tx, byID *sql.Stmt, q *store.FlowQuery) (page store.FlowPage, err error) {
	plan, err := choosePlan(ctx, tx, q)
	if err != nil {
		return page, err
	}
	query, args, examine := flowKeys(q, plan)
	// One more row than may be examined tells whether the list goes on.
	rows, err := tx.QueryContext(ctx, query, append(args, examine+1)...)
	if err != nil {
		return page, err
	}
	scan := func(r row) (key flowKey, at store.FlowPosition, matches bool, err error) {
		err = r.Scan(&key.id, micros{&at.Time}, &at.Seq, &matches)
		if q.Order.ByUpdate() {
			at.Time = time.Time{}
		} else {
			at.ID = key.id
		}
		key.at = at
		return key, at, matches, err
	}
	keys, next, err := pageOfKeys(rows, q.Limit, examine, scan)
	if err != nil {
		return page, err
	}
	page.Next = next
	filling := store.Filling{Limit: q.Limit}
	for i, key := range keys {
		if filling.Full() {
			page.Next = &keys[i-1].at
			break
		}
		f := new(flows.Flow)
		if err := scanFlow(byID.QueryRowContext(ctx, key.id[:]), f); err != nil {
			return page, err
		}
		page.Items = append(page.Items, f)
		filling.AddFlow(f)
	}
	return page, nil
}

// pageOfKeys reads keys until limit of them match, examine of them have been looked at, or there are no more; next is
// the place of the last one looked at, nil where there are no more. It closes rows.
func pageOfKeys[K, P any](rows *sql.Rows, limit, examine int, scan func(row) (K, P, bool, error)) (keys []K, next *P, err error) {
	defer rows.Close()
	var last P
	for examined := 0; rows.Next(); examined++ {
		if examined == examine || len(keys) == limit {
			return keys, &last, nil
		}
		key, at, matches, err := scan(rows)
		if err != nil {
			return nil, nil, err
		}
		last = at
		if matches {
			keys = append(keys, key)
		}
	}
	return keys, nil, rows.Err()
}

// Where keys come from, one for each driver. INDEXED BY: without statistics the planner guesses, and a guess that reads
// another index sorts the whole table for a page; so it would be an error instead. CROSS JOIN keeps the driver outside.
const (
	fromAll           = `flows f INDEXED BY flows_created`
	fromOwner         = `flows f INDEXED BY flows_owner`
	fromController    = `flows f INDEXED BY flows_controller`
	fromStatus        = `flows f INDEXED BY flows_status`
	fromLabel         = `flow_labels l`
	fromLabelFiltered = `flow_labels l CROSS JOIN flows f ON f.id = l.flow_id`
	fromFeed          = `events e CROSS JOIN flows f ON f.id = e.flow_id`
)

// flowKeys builds the statement that reads keys, but for the value of its LIMIT, and says how many to examine at most.
func flowKeys(q *store.FlowQuery, plan store.Plan) (query string, args []any, examine int) {
	var where, match clause
	createdAt, id, seq := "f.created_at", "f.id", "0"
	from := fromAll
	switch plan.Driver {
	case store.DriveOwner:
		from = fromOwner
		where.and("f.owner_session_key = ?", q.OwnerSessionKey)
	case store.DriveOwners:
		from = fromOwner
		owned(&where, q.Owners)
	case store.DriveController:
		from = fromController
		where.and("f.controller_id = ?", q.ControllerID)
	case store.DriveStatus:
		from = fromStatus
		where.and("f.status = ?", string(plan.Status))
	case store.DriveLabel:
		from, createdAt, id = fromLabel, "l.created_at", "l.flow_id"
		if plan.Residual {
			from = fromLabelFiltered
		}
		where.and("l.key = ? AND l.value = ?", q.Labels[0].Key, q.Labels[0].Value)
	case store.DriveFeed:
		from, seq = fromFeed, "e.seq"
		// A flow stands where its last change is: every other event is passed over.
		match.and("e.kind <> 'step_observed' AND e.revision = f.revision")
	}
	examine = q.Limit
	if plan.Residual {
		examine = store.Examined
		addFilters(&match, q)
	}
	order := createdAt + ", " + id
	switch desc := q.Order.Desc(); {
	case plan.Driver == store.DriveFeed:
		addTimeBounds(&match, createdAt, q.CreatedAfter, q.CreatedBefore)
		order = addSeqBounds(&where, seqOf(q.From), desc)
	default:
		addPosition(&where, createdAt, id, q)
		if desc {
			order = createdAt + " DESC, " + id + " DESC"
		}
	}
	query = "SELECT " + id + ", " + createdAt + ", " + seq + ", (" + match.text() + ") IS TRUE FROM " + from +
		" WHERE " + where.text() + " ORDER BY " + order + " LIMIT ?"
	return query, append(match.args, where.args...), examine
}

// addPosition bounds the creation times and begins after q.From. An index takes one bound on each side, so where both
// bound the same side the tighter is given alone.
func addPosition(where *clause, createdAt, id string, q *store.FlowQuery) {
	from, after, before := q.From, q.CreatedAfter, q.CreatedBefore
	if from != nil && q.Order.Desc() {
		if before == nil || from.Time.Before(*before) {
			where.and("("+createdAt+", "+id+") < (?, ?)", from.Time.UnixMicro(), from.ID[:])
			before = nil
		}
	} else if from != nil && (after == nil || from.Time.After(*after)) {
		where.and("("+createdAt+", "+id+") > (?, ?)", from.Time.UnixMicro(), from.ID[:])
		after = nil
	}
	addTimeBounds(where, createdAt, after, before)
}

func addTimeBounds(c *clause, column string, after, before *time.Time) {
	if after != nil {
		c.and(column+" > ?", after.UnixMicro())
	}
	if before != nil {
		c.and(column+" < ?", before.UnixMicro())
	}
}

const hasLabel = `EXISTS (SELECT 1 FROM flow_labels x
	WHERE x.key = ? AND x.value = ? AND x.created_at = f.created_at AND x.flow_id = f.id)`

// addFilters adds every filter but the creation times. The driver's own is among them; to ask it twice does no harm.
func addFilters(c *clause, q *store.FlowQuery) {
	if q.Owners != flows.Everyone {
		condition, args := covered("f.owner_session_key", q.Owners)
		c.and(condition, args...)
	}
	if q.OwnerSessionKey != "" {
		c.and("f.owner_session_key = ?", q.OwnerSessionKey)
	}
	if q.ControllerID != "" {
		c.and("f.controller_id = ?", q.ControllerID)
	}
	if q.Mode != "" {
		c.and("f.mode = ?", string(q.Mode))
	}
	if len(q.Statuses) > 0 {
		andIn(c, "f.status", q.Statuses)
	}
	if q.WaitKind != "" {
		c.and("f.wait_kind = ?", string(q.WaitKind))
	}
	if q.CancelRequested != nil {
		c.and("f.cancel_requested = ?", *q.CancelRequested)
	}
	addTimeBounds(c, "f.updated_at", q.UpdatedAfter, q.UpdatedBefore)
	for _, l := range q.Labels {
		c.and(hasLabel, l.Key, l.Value)
	}
	if q.GoalContains != "" {
		c.and("instr(f.goal, ?) > 0", q.GoalContains)
	}
}

// addSeqBounds begins after the event numbered from, or at the start of the list, and returns the order.
func addSeqBounds(where *clause, from *int64, desc bool) (order string) {
	if desc {
		where.and("e.seq < ?", startOf(from, desc))
		return "e.seq DESC"
	}
	where.and("e.seq > ?", startOf(from, desc))
	return "e.seq"
}

// startOf is the number that a page begins after.
func startOf(from *int64, desc bool) int64 {
	switch {
	case from != nil:
		return *from
	case desc:
		return math.MaxInt64
	}
	return 0
}

func seqOf(p *store.FlowPosition) *int64 {
	if p == nil {
		return nil
	}
	return &p.Seq
}
