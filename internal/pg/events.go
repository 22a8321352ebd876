package pg

import (
	"context"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/jackc/pgx/v5"
)

// Events implements store.Reader.
func (s *Store) Events(ctx context.Context, q store.EventQuery) (store.EventPage, error) {
	var page store.EventPage
	if !q.OfOneFlow() && !q.Narrow() {
		return page, nil
	}
	sql, window := eventsStatement(&q)
	err := s.read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		items, last, err := readPage(ctx, conn, sql, q.Limit, window, scanFoundEvent, addEvent)
		if err != nil {
			return err
		}
		page = store.EventPage{Items: items}
		if last != nil {
			page.Next = &last.Seq
		}
		if len(items) == 0 && last == nil && q.FromFlow {
			return mustExist(ctx, conn, q.FlowID, q.Owners)
		}
		return nil
	})
	return page, err
}

func addEvent(filling *store.Filling, e flows.Event) { filling.AddEvent(&e) }

func scanFoundEvent(row pgx.CollectableRow) (f found[flows.Event], err error) {
	columns := fieldsOf(row)
	f.n, f.hit = columns.bigint(), columns.boolean()
	f.item, err = columns.event()
	return f, err
}

// eventsStatement is the statement of a page of events, and how many of them it examines.
func eventsStatement(q *store.EventQuery) (sql *statement, examined int) {
	sql = new(statement)
	one := q.OfOneFlow()
	owners := q.Owners
	if one {
		owners = flows.Everyone // asked once, below
	}
	ofFlow := owners != flows.Everyone || q.OwnerSessionKey != "" || q.ControllerID != "" || q.Mode != ""
	examined = window(q.Limit, ofFlow || len(q.Kinds) > 0)
	sql.add(openWindow + `select null::uuid as id, e.seq, coalesce(true`)
	if len(q.Kinds) > 0 {
		sql.add(` and e.kind = any(?)`, column(q.Kinds, func(k flows.EventKind) string { return string(k) }))
	}
	if ofFlow {
		sql.add(` and (select true`)
		matchFlow(sql, &store.FlowQuery{Owners: owners, OwnerSessionKey: q.OwnerSessionKey, ControllerID: q.ControllerID, Mode: q.Mode})
		sql.add(` from flows f where f.id = e.flow_id)`)
	}
	sql.add(`, false) as hit from events e`)
	low, high := seqSpan(q.After, q.Desc)
	if one {
		flow := [16]byte(q.FlowID)
		sql.within(`e.flow_id, e.seq`, []any{flow, low}, []any{flow, high}, q.Desc, func() { sql.ofCovered(q.FlowID, q.Owners) })
	} else {
		sql.within(`e.seq`, []any{low}, []any{high}, q.Desc)
	}
	sql.add(` limit ?`, examined)
	sql.add(closeWindow + `r.*`)
	sql.add(fromWindow, q.Limit+1, examined)
	sql.add(`select ` + eventColumns + ` from events e where e.seq = p.seq limit 1` + endWindow)
	return sql, examined
}

// selectTail walks the feed by its index and looks each flow up; the inner limit keeps the planner from any other way.
const selectTail = `
select f.owner_session_key, f.controller_id, f.mode, ` + eventColumns + `
from (select e.* from events e where e.seq > $1 order by e.seq limit $2) e
cross join lateral (select f.owner_session_key, f.controller_id, f.mode from flows f where f.id = e.flow_id limit 1) f
order by e.seq`

// Tail implements store.Reader.
func (s *Store) Tail(ctx context.Context, after int64, limit int) (list []store.FeedEvent, err error) {
	err = s.read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, selectTail, after, limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		list = nil
		for filling := (store.Filling{Limit: limit}); !filling.Full() && rows.Next(); {
			e, err := scanFeedEvent(rows)
			if err != nil {
				return err
			}
			list = append(list, e)
			filling.AddEvent(&e.Event)
		}
		return rows.Err()
	})
	return list, err
}

func scanFeedEvent(row pgx.CollectableRow) (e store.FeedEvent, err error) {
	columns := fieldsOf(row)
	e.OwnerSessionKey, e.ControllerID, e.Mode = columns.text(), columns.text(), flows.Mode(columns.word())
	e.Event, err = columns.event()
	return e, err
}
