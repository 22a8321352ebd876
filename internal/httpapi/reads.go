package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/httpapi/oas"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// readyTimeout bounds what /readyz asks of the database.
const readyTimeout = 2 * time.Second

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
	f, err := a.reader.Flow(ctx, id, callerOf(ctx).Owners)
	if err != nil {
		return nil, err
	}
	known, err := matchesNone(r.Params.IfNoneMatch, f)
	if err != nil {
		return nil, err
	}
	if known {
		return reply{status: http.StatusNotModified, etag: etag(f)}, nil
	}
	return flowReply(http.StatusOK, f, a.waitURLs(ctx)), nil
}

func (a *api) ListFlows(ctx context.Context, r oas.ListFlowsRequestObject) (oas.ListFlowsResponseObject, error) {
	q, err := flowQuery(r.Params)
	if err != nil {
		return nil, err
	}
	q.Owners = callerOf(ctx).Owners
	found, err := a.reader.Flows(ctx, q)
	if err != nil {
		return nil, err
	}
	urls := a.waitURLs(ctx)
	return page(found.Items, encodeFlowPosition(q.Order, found.Next), func(out []byte, f *flows.Flow) []byte {
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
	q.Desc = r.Params.Order != nil && *r.Params.Order == oas.ListFlowEventsParamsOrderSeqDesc
	return a.listEvents(ctx, q, r.Params.After, r.Params.Cursor)
}

func (a *api) ListEvents(ctx context.Context, r oas.ListEventsRequestObject) (oas.ListEventsResponseObject, error) {
	p := r.Params
	q := store.EventQuery{
		OwnerSessionKey: value(p.OwnerSessionKey), ControllerID: value(p.ControllerId), Mode: flows.Mode(value(p.Mode)),
		Limit: limitOf(p.Limit), Desc: p.Order != nil && *p.Order == oas.ListEventsParamsOrderSeqDesc,
	}
	if p.FlowId != nil {
		q.FlowID = uuid.MustParse(*p.FlowId) // checked with the query
	}
	for _, kind := range value(p.Kind) {
		q.Kinds = append(q.Kinds, flows.EventKind(kind))
	}
	return a.listEvents(ctx, q, p.After, p.Cursor)
}

func (a *api) listEvents(ctx context.Context, q store.EventQuery, after *int64, cursor *string) (reply, error) {
	list := cursorEventsAsc
	if q.Desc {
		list = cursorEventsDesc
	}
	q.After = after
	if cursor != nil {
		if after != nil {
			return reply{}, badQuery("after", "does not go together with cursor")
		}
		seq, err := decodeSeq(list, *cursor)
		if err != nil {
			return reply{}, err
		}
		q.After = &seq
	}
	q.Owners = callerOf(ctx).Owners
	found, err := a.reader.Events(ctx, q)
	if err != nil {
		return reply{}, err
	}
	next := ""
	if found.Next != nil {
		next = encodeSeq(list, *found.Next)
	}
	return page(found.Items, next, appendEvent), nil
}

func (a *api) GetStats(ctx context.Context, _ oas.GetStatsRequestObject) (oas.GetStatsResponseObject, error) {
	stats, err := a.reader.Stats(ctx, callerOf(ctx).Owners)
	if err != nil {
		return nil, err
	}
	w := jsonWriter{[]byte{'{'}}
	w.raw("by_status", marshal(stats.ByStatus))
	controllers := make([]wireController, len(stats.ByController))
	for i, c := range stats.ByController {
		controllers[i] = wireController(c)
	}
	w.raw("by_controller", marshal(controllers))
	w.optionalTime("next_timer", stats.NextTimer)
	w.raw("oldest_waiting", oldestWaiting(stats.OldestWaiting))
	return jsonReply(http.StatusOK, append(w.out, '}')), nil
}

func oldestWaiting(oldest *store.WaitingFlow) []byte {
	if oldest == nil {
		return []byte("null")
	}
	w := jsonWriter{[]byte{'{'}}
	w.text("flow_id", oldest.FlowID.String())
	w.time("since", oldest.Since)
	return append(w.out, '}')
}

type wireController struct {
	ControllerID string `json:"controller_id"`
	Flows        int64  `json:"flows"`
}

func (a *api) GetLivez(context.Context, oas.GetLivezRequestObject) (oas.GetLivezResponseObject, error) {
	return jsonReply(http.StatusOK, []byte(`{"status":"ok"}`)), nil
}

func (a *api) GetReadyz(ctx context.Context, _ oas.GetReadyzRequestObject) (oas.GetReadyzResponseObject, error) {
	if a.stopping.Load() {
		return nil, newProblem(slugUnavailable, "The server is shutting down.")
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	version, err := a.reader.SchemaVersion(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	if version < a.options.SchemaVersion {
		return nil, newProblem(slugUnavailable, fmt.Sprintf("The database's schema is at version %d; this server needs %d.", version, a.options.SchemaVersion))
	}
	if a.keys.newest() == "" {
		return nil, newProblem(slugUnavailable, "There is no key for callback URLs yet.")
	}
	return jsonReply(http.StatusOK, []byte(`{"status":"ok"}`)), nil
}
