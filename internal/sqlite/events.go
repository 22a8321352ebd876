package sqlite

import (
	"context"
	"database/sql"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

// Events implements [store.Reader].
func (s *Store) Events(ctx context.Context, q store.EventQuery) (store.EventPage, error) {
	var page store.EventPage
	if !q.OfOneFlow() && !q.Narrow() {
		return page, nil
	}
	list := s.allEvents
	if eventFilters(&q).parts != nil {
		list = s.someEvents
	}
	err := s.read(ctx, func() (err error) {
		page, err = list(ctx, &q)
		if err == nil && q.FromFlow && len(page.Items) == 0 {
			err = s.flowExists(ctx, q.FlowID, q.Owners)
		}
		return err
	})
	if err != nil {
		return store.EventPage{}, err
	}
	return page, nil
}

const (
	selectEvents     = `SELECT ` + eventColumns + ` FROM events WHERE seq > ? ORDER BY seq LIMIT ?`
	selectEventsDesc = `SELECT ` + eventColumns + ` FROM events WHERE seq < ? ORDER BY seq DESC LIMIT ?`
	selectFlowEvents = `SELECT ` + eventColumns + ` FROM events WHERE flow_id = ? AND `
	inOrder          = ` AND seq > ? ORDER BY seq LIMIT ?`
	inOrderDesc      = ` AND seq < ? ORDER BY seq DESC LIMIT ?`
)

// allEvents reads a page of the trail of one flow or of all, either way, where nothing has to be passed over.
func (s *Store) allEvents(ctx context.Context, q *store.EventQuery) (page store.EventPage, err error) {
	query, args := selectEvents, []any(nil)
	condition, conditionArgs := flowCovered(q.FlowID, q.Owners)
	switch one := q.OfOneFlow(); {
	case one && q.Desc:
		query, args = selectFlowEvents+condition+inOrderDesc, append([]any{q.FlowID[:]}, conditionArgs...)
	case one:
		query, args = selectFlowEvents+condition+inOrder, append([]any{q.FlowID[:]}, conditionArgs...)
	case q.Desc:
		query = selectEventsDesc
	}
	filling := store.Filling{Limit: q.Limit}
	err = s.each(ctx, func(r row) error {
		if filling.Full() { // and the list goes on
			page.Next = &page.Items[len(page.Items)-1].Seq
			return errEnough
		}
		page.Items = append(page.Items, flows.Event{})
		event := &page.Items[len(page.Items)-1]
		err := scanEvent(r, event)
		filling.AddEvent(event)
		return err
	}, query, append(args, startOf(q.After, q.Desc), q.Limit+1)...)
	return page, err
}

const selectEvent = `SELECT ` + eventColumns + ` FROM events WHERE seq = ?`

// someEvents examines a bounded number of events for those that match, and then reads these.
func (s *Store) someEvents(ctx context.Context, q *store.EventQuery) (page store.EventPage, err error) {
	bySeq, err := s.stmt(ctx, selectEvent)
	if err != nil {
		return page, err
	}
	err = s.snapshot(ctx, func(tx *sql.Tx) (err error) {
		page, err = readEvents(ctx, tx, tx.StmtContext(ctx, bySeq), q)
		return err
	})
	return page, err
}

func readEvents(ctx context.Context, tx *sql.Tx, bySeq *sql.Stmt, q *store.EventQuery) (page store.EventPage, err error) {
	query, args := eventKeys(q)
	rows, err := tx.QueryContext(ctx, query, append(args, store.Examined+1)...)
	if err != nil {
		return page, err
	}
	keys, next, err := pageOfKeys(rows, q.Limit, store.Examined, func(r row) (seq, at int64, matches bool, err error) {
		err = r.Scan(&seq, &matches)
		return seq, seq, matches, err
	})
	if err != nil {
		return page, err
	}
	page.Next = next
	filling := store.Filling{Limit: q.Limit}
	for i, seq := range keys {
		if filling.Full() {
			page.Next = &keys[i-1]
			break
		}
		page.Items = append(page.Items, flows.Event{})
		event := &page.Items[len(page.Items)-1]
		if err := scanEvent(bySeq.QueryRowContext(ctx, seq), event); err != nil {
			return page, err
		}
		filling.AddEvent(event)
	}
	return page, nil
}

// eventKeys builds the statement that reads numbers of events and whether they match, but for the value of its LIMIT.
func eventKeys(q *store.EventQuery) (query string, args []any) {
	match := eventFilters(q)
	from := "events e"
	one := q.OfOneFlow()
	if q.OwnerSessionKey != "" || q.ControllerID != "" || q.Mode != "" || !one && q.Owners != flows.Everyone {
		from = fromFeed
	}
	var where clause
	if one {
		where.and("e.flow_id = ?", q.FlowID[:])
		condition, args := flowCovered(q.FlowID, q.Owners)
		where.and(condition, args...)
	}
	order := addSeqBounds(&where, q.After, q.Desc)
	query = "SELECT e.seq, (" + match.text() + ") IS TRUE FROM " + from + " WHERE " + where.text() +
		" ORDER BY " + order + " LIMIT ?"
	return query, append(match.args, where.args...)
}

// eventFilters are the filters that no index of events serves.
func eventFilters(q *store.EventQuery) *clause {
	c := new(clause)
	if !q.OfOneFlow() && q.Owners != flows.Everyone {
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
	if len(q.Kinds) > 0 {
		andIn(c, "e.kind", q.Kinds)
	}
	return c
}

// selectTail walks the feed, and never the flows.
const selectTail = `
SELECT e.seq, e.flow_id, e.revision, e.kind, e.payload, e.actor, e.at, coalesce(e.traceparent, ''),
	f.owner_session_key, f.controller_id, f.mode
FROM events e CROSS JOIN flows f ON f.id = e.flow_id
WHERE e.seq > ? ORDER BY e.seq LIMIT ?`

// Tail implements [store.Reader].
func (s *Store) Tail(ctx context.Context, after int64, limit int) (list []store.FeedEvent, err error) {
	filling := store.Filling{Limit: limit}
	err = s.read(ctx, func() error {
		return s.each(ctx, func(r row) error {
			if filling.Full() {
				return errEnough
			}
			var e store.FeedEvent
			err := r.Scan(&e.Seq, &e.FlowID, &e.Revision, &e.Kind, (*[]byte)(&e.Payload), &e.Actor, micros{&e.At},
				&e.Traceparent, &e.OwnerSessionKey, &e.ControllerID, &e.Mode)
			list = append(list, e)
			filling.AddEvent(&e.Event)
			return err
		}, selectTail, after, limit)
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}
