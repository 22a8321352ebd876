package httpapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/httpapi/oas"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// defaultLimit is how many items a page has where the request does not say.
const defaultLimit = 50

func limitOf(limit *int) int {
	if limit == nil {
		return defaultLimit
	}
	return *limit
}

func (a *api) GetFlow(ctx context.Context, r oas.GetFlowRequestObject) (oas.GetFlowResponseObject, error) {
	id, err := parseID(r.Id)
	if err != nil {
		return nil, flows.ErrNotFound
	}
	wait, asked, err := parseWait(r.Params.Prefer)
	if err != nil {
		return nil, err
	}
	asked = asked && r.Params.IfNoneMatch != nil // else there is nothing to wait for
	if !asked {
		wait = 0
	}
	owners := callerOf(ctx).Owners
	var f *flows.Flow
	known := false
	err = a.await(ctx, wait, store.EventQuery{Owners: owners, FlowID: id, FromFlow: true}, func(ctx context.Context) (changed bool, err error) {
		if f, err = a.reader.Flow(ctx, id, owners); err != nil {
			return false, err
		}
		known, err = matchesNone(r.Params.IfNoneMatch, f)
		return !known, err
	})
	if err != nil {
		return nil, err
	}
	answer := reply{status: http.StatusNotModified, etag: etag(f)}
	if !known {
		answer = flowReply(http.StatusOK, f, a.waitURLs(ctx))
	}
	if asked {
		answer.preference = applied(wait)
	}
	return answer, nil
}

func (a *api) ListFlows(ctx context.Context, r oas.ListFlowsRequestObject) (oas.ListFlowsResponseObject, error) {
	var err error
	if r.Params.Cursor, err = a.unveil(ctx, r.Params.Cursor); err != nil {
		return nil, err
	}
	q, err := flowQuery(r.Params)
	if err != nil {
		return nil, err
	}
	q.Owners = callerOf(ctx).Owners
	found, err := a.reader.Flows(ctx, q)
	if err != nil {
		return nil, err
	}
	next, err := a.veil(ctx, encodeFlowPosition(q.Order, found.Next))
	if err != nil {
		return nil, err
	}
	urls := a.waitURLs(ctx)
	return page(found.Items, next, func(out []byte, f *flows.Flow) []byte {
		return appendFlow(out, f, !q.WithoutState, urls(f))
	}), nil
}

func flowQuery(p oas.ListFlowsParams) (store.FlowQuery, error) {
	q := store.FlowQuery{
		OwnerSessionKey: value(p.OwnerSessionKey), ControllerID: value(p.ControllerId), Mode: flows.Mode(value(p.Mode)),
		WaitKind: flows.WaitKind(value(p.WaitKind)), CancelRequested: p.CancelRequested,
		CreatedAfter: p.CreatedAfter, CreatedBefore: p.CreatedBefore, UpdatedAfter: p.UpdatedAfter, UpdatedBefore: p.UpdatedBefore,
		GoalContains: value(p.Q), Order: store.CreatedDesc, Limit: limitOf(p.Limit),
		WithoutState: p.View != nil && *p.View == oas.Summary,
	}
	if p.Order != nil {
		q.Order = store.FlowOrder(*p.Order)
	}
	for _, status := range value(p.Status) {
		q.Statuses = append(q.Statuses, flows.Status(status))
	}
	for _, label := range value(p.Label) {
		key, val, ok := strings.Cut(label, ":")
		if !ok || key == "" {
			return q, badQuery("label", "must be key:value")
		}
		q.Labels = append(q.Labels, store.Label{Key: key, Value: val})
	}
	var err error
	q.From, err = decodeFlowPosition(q.Order, p.Cursor)
	return q, err
}

func (a *api) ListSteps(ctx context.Context, r oas.ListStepsRequestObject) (oas.ListStepsResponseObject, error) {
	id, err := parseID(r.Id)
	if err != nil {
		return nil, flows.ErrNotFound
	}
	q := store.StepQuery{FlowID: id, Owners: callerOf(ctx).Owners, Limit: limitOf(r.Params.Limit)}
	if r.Params.Cursor != nil {
		at, stepID, err := decodeTimed(cursorSteps, *r.Params.Cursor)
		if err != nil {
			return nil, err
		}
		q.From = &store.StepPosition{CreatedAt: at, ID: stepID}
	}
	found, err := a.reader.Steps(ctx, q)
	if err != nil {
		return nil, err
	}
	next := ""
	if found.Next != nil {
		next = encodeTimed(cursorSteps, found.Next.CreatedAt, found.Next.ID)
	}
	return page(found.Items, next, appendStep), nil
}

func (a *api) GetStep(ctx context.Context, r oas.GetStepRequestObject) (oas.GetStepResponseObject, error) {
	id, err := parseID(r.Id)
	if err != nil || !flows.ValidText(r.RunId) {
		return nil, flows.ErrNotFound
	}
	step, err := a.reader.Step(ctx, store.StepKey{FlowID: id, RunID: r.RunId}, callerOf(ctx).Owners)
	if err != nil {
		return nil, err
	}
	return jsonReply(http.StatusOK, appendStep(nil, step)), nil
}

func (a *api) ListFlowEvents(ctx context.Context, r oas.ListFlowEventsRequestObject) (oas.ListFlowEventsResponseObject, error) {
	id, err := parseID(r.Id)
	if err != nil {
		return nil, flows.ErrNotFound
	}
	q := store.EventQuery{FlowID: id, FromFlow: true, Limit: limitOf(r.Params.Limit)}
	p := r.Params
	q.Desc = p.Order != nil && *p.Order == oas.ListFlowEventsParamsOrderSeqDesc
	return a.listEvents(ctx, q, eventPlace{p.After, p.Cursor, p.LastEventID, p.Prefer})
}

func (a *api) ListEvents(ctx context.Context, r oas.ListEventsRequestObject) (oas.ListEventsResponseObject, error) {
	p := r.Params
	q := store.EventQuery{
		OwnerSessionKey: value(p.OwnerSessionKey), ControllerID: value(p.ControllerId), Mode: flows.Mode(value(p.Mode)),
		Limit: limitOf(p.Limit), Desc: p.Order != nil && *p.Order == oas.ListEventsParamsOrderSeqDesc,
	}
	if p.FlowId != nil {
		q.FlowID, q.OneFlow = uuid.MustParse(*p.FlowId), true // checked with the query
	}
	for _, kind := range value(p.Kind) {
		q.Kinds = append(q.Kinds, flows.EventKind(kind))
	}
	return a.listEvents(ctx, q, eventPlace{p.After, p.Cursor, p.LastEventID, p.Prefer})
}

// eventPlace is where in a list of events a request begins, and how long it waits there.
type eventPlace struct {
	after         *int64
	cursor        *string
	last, prefers *string // Last-Event-ID and Prefer
}

// eventsResponse answers both operations that read events.
type eventsResponse interface {
	oas.ListEventsResponseObject
	oas.ListFlowEventsResponseObject
}

func (a *api) listEvents(ctx context.Context, q store.EventQuery, place eventPlace) (eventsResponse, error) {
	list := cursorEventsAsc
	if q.Desc {
		list = cursorEventsDesc
	}
	q.After = place.after
	if place.cursor != nil {
		if q.After != nil {
			return nil, badQuery("after", "does not go together with cursor")
		}
		seq, err := decodeSeq(list, *place.cursor)
		if err != nil {
			return nil, err
		}
		q.After = &seq
	}
	q.Owners = callerOf(ctx).Owners
	if wantsStream(requestOf(ctx).accept) {
		return a.listEventsLive(ctx, q, place.last)
	}
	return a.pageOfEvents(ctx, q, list, place.prefers)
}

func (a *api) pageOfEvents(ctx context.Context, q store.EventQuery, list cursorList, prefers *string) (eventsResponse, error) {
	wait, asked, err := parseWait(prefers)
	if err != nil {
		return nil, err
	}
	asked = asked && !q.Desc // nothing is ever added where such a list goes on
	if !asked {
		wait = 0
	}
	var found store.EventPage
	err = a.await(ctx, wait, q, func(ctx context.Context) (some bool, err error) {
		found, err = a.reader.Events(ctx, q)
		return len(found.Items) > 0 || found.Next != nil, err
	})
	if err != nil {
		return nil, err
	}
	next := ""
	if found.Next != nil {
		next = encodeSeq(list, *found.Next)
	}
	answer := page(found.Items, next, appendEvent)
	if asked {
		answer.preference = applied(wait)
	}
	return answer, nil
}

func (a *api) GetStats(ctx context.Context, _ oas.GetStatsRequestObject) (oas.GetStatsResponseObject, error) {
	stats, err := a.reader.Stats(ctx, callerOf(ctx).Owners)
	if err != nil {
		return nil, err
	}
	w := jsonWriter{[]byte{'{'}}
	w.raw("by_status", marshal(stats.ByStatus))
	w.raw("by_controller", controllerCounts(stats.ByController))
	w.raw("failed_by_controller", controllerCounts(stats.FailedByController))
	var nextTimer *time.Time
	if len(stats.DueNext) > 0 {
		nextTimer = &stats.DueNext[0].At
	}
	w.optionalTime("next_timer", nextTimer)
	w.raw("due_next", timedFlows(stats.DueNext, "due_at"))
	w.raw("oldest_waiting", oldestWaiting(stats.WaitingLongest))
	w.raw("waiting_longest", timedFlows(stats.WaitingLongest, "since"))
	return jsonReply(http.StatusOK, append(w.out, '}')), nil
}

func controllerCounts(list []store.ControllerCount) []byte {
	controllers := make([]wireController, len(list))
	for i, c := range list {
		controllers[i] = wireController(c)
	}
	return marshal(controllers)
}

// timedFlows lists flows; when is the name of their times.
func timedFlows(list []store.TimedFlow, when string) []byte {
	w := jsonWriter{[]byte{'['}}
	for i, f := range list {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		one := jsonWriter{[]byte{'{'}}
		one.text("flow_id", f.FlowID.String())
		one.text("controller_id", f.ControllerID)
		one.text("goal", f.Goal)
		one.time(when, f.At)
		w.out = append(append(w.out, one.out...), '}')
	}
	return append(w.out, ']')
}

func oldestWaiting(longest []store.TimedFlow) []byte {
	if len(longest) == 0 {
		return []byte("null")
	}
	w := jsonWriter{[]byte{'{'}}
	w.text("flow_id", longest[0].FlowID.String())
	w.time("since", longest[0].At)
	return append(w.out, '}')
}

type wireController struct {
	ControllerID string `json:"controller_id"`
	Flows        int64  `json:"flows"`
}
