package pg

import (
	"encoding/json"
	"fmt"
	"time"

	"taskflow/internal/flows"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	flowColumns = `f.id, f.mode, f.controller_id, f.goal, f.owner_session_key, f.requester_origin, f.current_step,
		f.state, f.wait, f.resumed_by, f.status, f.cancel_requested, f.revision, f.labels, f.steps_total, f.steps_active,
		f.created_at, f.updated_at, f.ended_at, f.created_by`

	// flowSummary is flowColumns with null for the state.
	flowSummary = `f.id, f.mode, f.controller_id, f.goal, f.owner_session_key, f.requester_origin, f.current_step,
		null::json, f.wait, f.resumed_by, f.status, f.cancel_requested, f.revision, f.labels, f.steps_total,
		f.steps_active, f.created_at, f.updated_at, f.ended_at, f.created_by`

	stepColumns = `s.id, s.flow_id, s.run_id, s.runtime, s.task, s.status, s.child_session_key, s.result,
		s.observed_at, s.created_at, s.updated_at`

	eventColumns = `e.seq, e.flow_id, e.revision, e.kind, e.payload, e.actor, e.at, coalesce(e.traceparent, '')`

	// externalColumns has the outcome as it was written.
	externalColumns = `x.id, x.topic, x.correlation_id, x.flow_id, x.payload, x.actor, x.at, x.expires_at, x.outcome,
		x.flows, x.flow_count, x.owners, coalesce(x.traceparent, '')`
)

// scanFlow reads the columns flowColumns.
func scanFlow(row pgx.CollectableRow) (*flows.Flow, error) {
	return scanFlowAfter(row)
}

// scanFlowAfter reads the columns flowColumns that come after others.
func scanFlowAfter(row pgx.CollectableRow, before ...any) (*flows.Flow, error) {
	var f flows.Flow
	var wait, resumedBy, labels []byte
	err := row.Scan(append(before, (*[16]byte)(&f.ID), (*string)(&f.Mode), &f.ControllerID, &f.Goal, &f.OwnerSessionKey,
		&f.RequesterOrigin, &f.CurrentStep, (*[]byte)(&f.State), &wait, &resumedBy, (*string)(&f.Status),
		&f.CancelRequested, &f.Revision, &labels, &f.StepsTotal, &f.StepsActive, &f.CreatedAt, &f.UpdatedAt,
		&f.EndedAt, &f.CreatedBy)...)
	if err != nil {
		return nil, fmt.Errorf("reading a flow: %w", err)
	}
	f.CreatedAt, f.UpdatedAt, f.EndedAt = f.CreatedAt.UTC(), f.UpdatedAt.UTC(), inUTC(f.EndedAt)
	if wait != nil {
		if f.Wait, err = flows.LoadWait(wait); err != nil {
			return nil, fmt.Errorf("flow %s: %w", f.ID, err)
		}
	}
	if resumedBy != nil {
		if f.ResumedBy, err = flows.DecodeResumedBy(resumedBy); err != nil {
			return nil, fmt.Errorf("flow %s: %w", f.ID, err)
		}
	}
	if string(labels) != "{}" {
		if err := json.Unmarshal(labels, &f.Labels); err != nil {
			return nil, fmt.Errorf("flow %s: decoding labels: %w", f.ID, err)
		}
	}
	return &f, nil
}

// scanStep reads the columns stepColumns.
func scanStep(row pgx.CollectableRow) (*flows.Step, error) {
	var s flows.Step
	err := row.Scan((*[16]byte)(&s.ID), (*[16]byte)(&s.FlowID), &s.RunID, (*string)(&s.Runtime), &s.Task,
		(*string)(&s.Status), &s.ChildSessionKey, (*[]byte)(&s.Result), &s.ObservedAt, &s.CreatedAt, &s.UpdatedAt)
	if err != nil {
		return nil, fmt.Errorf("reading a step: %w", err)
	}
	s.ObservedAt, s.CreatedAt, s.UpdatedAt = s.ObservedAt.UTC(), s.CreatedAt.UTC(), s.UpdatedAt.UTC()
	return &s, nil
}

// scanEventAfter reads the columns eventColumns that come after others.
func scanEventAfter(row pgx.CollectableRow, before ...any) (flows.Event, error) {
	var e flows.Event
	err := row.Scan(append(before, &e.Seq, (*[16]byte)(&e.FlowID), &e.Revision, (*string)(&e.Kind),
		(*[]byte)(&e.Payload), &e.Actor, &e.At, &e.Traceparent)...)
	if err != nil {
		return e, fmt.Errorf("reading an event: %w", err)
	}
	e.At = e.At.UTC()
	return e, nil
}

func inUTC(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	utc := t.UTC()
	return &utc
}

// resumedFlow is the stored form of flows.ResumedFlow.
type resumedFlow struct {
	ID       uuid.UUID `json:"id"`
	Revision int64     `json:"revision"`
}

func encodeResumed(list []flows.ResumedFlow) []byte {
	text, err := json.Marshal(column(list, func(r flows.ResumedFlow) resumedFlow { return resumedFlow{r.FlowID, r.Revision} }))
	if err != nil {
		panic(fmt.Sprintf("pg: encoding ids and numbers: %v", err)) // cannot be
	}
	return text
}

// scanExternalEvent reads the columns externalColumns.
func scanExternalEvent(row pgx.CollectableRow) (*flows.ExternalEvent, error) {
	return scanExternalEventAfter(row)
}

// scanExternalEventAfter reads the columns externalColumns that come after others.
func scanExternalEventAfter(row pgx.CollectableRow, before ...any) (*flows.ExternalEvent, error) {
	var e flows.ExternalEvent
	var flowID *[16]byte
	var text []byte
	err := row.Scan(append(before, (*[16]byte)(&e.ID), &e.Pair.Topic, &e.Pair.CorrelationID, &flowID,
		(*[]byte)(&e.Payload), &e.Actor, &e.At, &e.ExpiresAt, (*string)(&e.Outcome), &text, &e.FlowCount,
		(*string)(&e.Owners), &e.Traceparent)...)
	if err != nil {
		return nil, fmt.Errorf("reading an external event: %w", err)
	}
	e.FlowID, e.At, e.ExpiresAt = (*uuid.UUID)(flowID), e.At.UTC(), e.ExpiresAt.UTC()
	var resumed []resumedFlow
	if err := json.Unmarshal(text, &resumed); err != nil {
		return nil, fmt.Errorf("external event %s: decoding its flows: %w", e.ID, err)
	}
	for _, r := range resumed {
		e.Flows = append(e.Flows, flows.ResumedFlow{FlowID: r.ID, Revision: r.Revision})
	}
	return &e, nil
}
