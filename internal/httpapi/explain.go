package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/httpapi/oas"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// nearEvents is how many external events that nearly matched an explanation has for each pair that is waited for.
const nearEvents = 5

// ExplainFlowWait says why a flow still waits.
func (a *api) ExplainFlowWait(ctx context.Context, r oas.ExplainFlowWaitRequestObject) (oas.ExplainFlowWaitResponseObject, error) {
	id, err := parseID(r.Id)
	if err != nil {
		return nil, flows.ErrNotFound
	}
	f, err := a.reader.Flow(ctx, id, callerOf(ctx).Owners)
	if err != nil {
		return nil, err
	}
	if f.Wait == nil {
		return nil, newProblem(slugNotWaiting, fmt.Sprintf("The flow is %s; it does not wait.", f.Status))
	}
	w := jsonWriter{[]byte{'{'}}
	w.text("flow_id", f.ID.String())
	w.number("revision", f.Revision)
	w.raw("wait", flows.EncodeWait(f.Wait, a.waitURLs(ctx)(f)))
	w.raw("conditions", marshal(explainConditions(f.Wait)))
	var due *time.Time
	if at, ok := f.Wait.Due(); ok {
		due = &at
	}
	w.optionalTime("next_due", due)
	near, err := a.explainEvents(ctx, f)
	if err != nil {
		return nil, err
	}
	w.raw("near_events", marshal(near))
	return jsonReply(http.StatusOK, append(w.out, '}')), nil
}

type wireExplained struct {
	Kind      string `json:"kind"`
	Condition *int   `json:"condition"`
	CanHappen bool   `json:"can_happen"`
	At        string `json:"at,omitempty"`
	Detail    string `json:"detail"`
}

// explainConditions says of each condition what would end the wait. All of them still can: the first to happen ends it.
func explainConditions(w *flows.Wait) []wireExplained {
	out := []wireExplained{}
	for i, c := range w.Conditions {
		one := wireExplained{Kind: string(c.Kind), CanHappen: true}
		if w.Kind == flows.WaitAnyOf {
			one.Condition = &i
		}
		switch c.Kind {
		case flows.WaitTimer:
			one.At = flows.FormatTime(c.At)
			one.Detail = "A timer fires at this time."
		case flows.WaitExternalEvent:
			one.Detail = fmt.Sprintf("POST /external-events with topic %q and correlation_id %q.", c.Pair.Topic, c.Pair.CorrelationID)
		case flows.WaitCallback:
			one.Detail = "A POST to the callback's url."
			if c.Verify != nil {
				one.Detail = "A POST to the callback's url, signed by scheme " + c.Verify.Scheme + "."
			}
		case flows.WaitManual:
			continue // said of every wait below
		}
		out = append(out, one)
	}
	if t := w.Timeout; t != nil {
		out = append(out, wireExplained{
			Kind: "timeout", CanHappen: true, At: flows.FormatTime(t.At), Detail: "At this time the timeout comes: " + string(t.Then) + ".",
		})
	}
	return append(out, wireExplained{Kind: string(flows.WaitManual), CanHappen: true, Detail: "POST /flows/{id}/resume ends any wait."})
}

type wireNear struct {
	Event   json.RawMessage `json:"event"`
	Differs string          `json:"differs"`
}

// explainEvents finds the last external events that share the topic or the correlation id with one that is waited for.
func (a *api) explainEvents(ctx context.Context, f *flows.Flow) ([]wireNear, error) {
	near := []wireNear{}
	told := map[uuid.UUID]int{} // where an event stands in near: it may share a part with several pairs
	for _, pair := range f.Wait.Pairs() {
		found, err := a.reader.ExternalEvents(ctx, store.ExternalEventQuery{Owners: callerOf(ctx).Owners, EitherOf: &pair, Limit: nearEvents})
		if err != nil {
			return nil, err
		}
		for _, e := range found.Items {
			one := wireNear{appendReceipt(nil, e), differs(e, pair, f)}
			if i, again := told[e.ID]; !again {
				told[e.ID] = len(near)
				near = append(near, one)
			} else if e.Pair == pair { // what kept it from the pair it has says more than that it has not another
				near[i] = one
			}
		}
	}
	return near, nil
}

// differs says why an event did not end the wait.
func differs(e *flows.ExternalEvent, pair flows.Pair, f *flows.Flow) string {
	switch {
	case e.Pair.CorrelationID != pair.CorrelationID:
		return "Its correlation_id is another."
	case e.Pair.Topic != pair.Topic:
		return "Its topic is another."
	case !e.IsFor(f):
		return "It was for another flow."
	case !e.Owners.Covers(f.OwnerSessionKey):
		return "Its sender's credentials are not for flows of this owner."
	case e.Outcome == flows.EventExpired:
		return "It expired before the flow began to wait."
	case e.Outcome == flows.EventUnmatched:
		return "It was not kept, and the flow did not wait yet."
	case e.At.Before(f.Wait.Since):
		return "It was delivered before the flow began to wait."
	}
	return "It is on its way."
}
