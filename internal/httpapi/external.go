package httpapi

import (
	"context"
	"net/http"
	"time"

	"taskflow/internal/engine"
	"taskflow/internal/flows"
	"taskflow/internal/httpapi/oas"
	"taskflow/internal/store"
)

const (
	defaultEventTTL = time.Hour
	maxEventTTL     = 30 * 24 * time.Hour
)

// PublishExternalEvent records an external event and resumes the flows that wait for it.
func (a *api) PublishExternalEvent(ctx context.Context, r oas.PublishExternalEventRequestObject) (oas.PublishExternalEventResponseObject, error) {
	if requestOf(ctx).ifMatch != nil {
		return nil, badHeader("If-Match", "does not go with an external event, which has no revision")
	}
	c := callOf(ctx, nil, r.Params.IdempotencyKey)
	p, err := a.publication(c, *r.Body)
	if err != nil {
		return nil, err
	}
	published, err := a.engine.Publish(ctx, p)
	a.options.Observer.Change("publish", outcomeOf(published.Replay, err))
	switch {
	case err != nil:
		return nil, err
	case published.Replay != nil:
		return decodeReply(published.Replay)
	}
	return receiptReply(&published.Event), nil
}

func (a *api) publication(c call, b oas.PublishEvent) (engine.Publication, error) {
	p := engine.Publication{Keep: defaultEventTTL, Event: flows.ExternalEvent{
		ID: newID(), Pair: flows.Pair{Topic: b.Topic, CorrelationID: b.CorrelationId}, FlowID: b.FlowId, Owners: c.caller.Owners, Payload: b.Payload,
		Actor: c.caller.Name, Traceparent: c.traceparent,
	}}
	if b.Ttl != nil {
		period, err := parsePeriod(*b.Ttl)
		if p.Keep = period.Rest; err != nil || period.Years+period.Months > 0 || p.Keep > maxEventTTL {
			return p, &flows.InvalidValue{Fields: []flows.FieldError{{Pointer: "/ttl", Detail: "must be a duration of at most P30D"}}}
		}
	}
	if err := a.within("/payload", b.Payload); err != nil {
		return p, err
	}
	key, err := parseIdempotencyKey(c.key)
	if err == nil && key != "" {
		p.Once = &engine.Once[flows.ExternalEvent]{
			Key:         answerKey(c.caller.ID, key),
			Owners:      c.caller.Owners,
			Fingerprint: fingerprint(c.method, c.path, ifMatch{}, c.body),
			Encode:      func(e flows.ExternalEvent) []byte { return receiptReply(&e).encode() },
		}
	}
	return p, err
}

func receiptReply(e *flows.ExternalEvent) reply {
	return jsonReply(http.StatusOK, appendReceipt(nil, e))
}

// appendReceipt appends a receipt. The payload is the flows' and not shown here.
func appendReceipt(out []byte, e *flows.ExternalEvent) []byte {
	w := jsonWriter{append(out, '{')}
	w.text("id", e.ID.String())
	w.text("topic", e.Pair.Topic)
	w.text("correlation_id", e.Pair.CorrelationID)
	var flowID *string
	if e.FlowID != nil {
		id := e.FlowID.String()
		flowID = &id
	}
	w.optionalText("flow_id", flowID)
	w.text("outcome", string(e.Outcome))
	w.name("flows")
	w.out = append(w.out, '[')
	for i, f := range e.Flows {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		one := jsonWriter{append(w.out, '{')}
		one.text("id", f.FlowID.String())
		one.number("revision", f.Revision)
		w.out = append(one.out, '}')
	}
	w.out = append(w.out, ']')
	w.number("flow_count", e.FlowCount)
	w.time("created_at", e.At)
	var expires *time.Time
	if e.Outcome == flows.EventBuffered || e.Outcome == flows.EventExpired {
		expires = &e.ExpiresAt
	}
	w.optionalTime("expires_at", expires)
	return append(w.out, '}')
}

func (a *api) GetExternalEvent(ctx context.Context, r oas.GetExternalEventRequestObject) (oas.GetExternalEventResponseObject, error) {
	id, err := parseID(r.Id)
	if err != nil {
		return nil, flows.ErrNotFound
	}
	e, err := a.reader.ExternalEvent(ctx, id, callerOf(ctx).Owners)
	if err != nil {
		return nil, err
	}
	return receiptReply(e), nil
}

func (a *api) ListExternalEvents(ctx context.Context, r oas.ListExternalEventsRequestObject) (oas.ListExternalEventsResponseObject, error) {
	p := r.Params
	q := store.ExternalEventQuery{
		Owners: callerOf(ctx).Owners, Topic: value(p.Topic), CorrelationID: value(p.CorrelationId), Outcome: flows.EventOutcome(value(p.Outcome)), Limit: limitOf(p.Limit),
	}
	cursor, err := a.unveil(ctx, p.Cursor)
	if err != nil {
		return nil, err
	}
	if cursor != nil {
		at, id, err := decodeTimed(cursorReceipts, *cursor)
		if err != nil {
			return nil, err
		}
		q.From = &store.EventPosition{At: at, ID: id}
	}
	found, err := a.reader.ExternalEvents(ctx, q)
	if err != nil {
		return nil, err
	}
	next := ""
	if found.Next != nil {
		if next, err = a.veil(ctx, encodeTimed(cursorReceipts, found.Next.At, found.Next.ID)); err != nil {
			return nil, err
		}
	}
	return page(found.Items, next, appendReceipt), nil
}
