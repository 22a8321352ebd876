package pg

import (
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
	columns := fieldsOf(row)
	return columns.flow()
}

// flow reads the columns flowColumns, the last of a row.
func (f *fields) flow() (*flows.Flow, error) {
	var flow flows.Flow
	flow.ID, flow.Mode, flow.ControllerID, flow.Goal = f.uuid(), flows.Mode(f.word()), f.text(), f.text()
	flow.OwnerSessionKey, flow.RequesterOrigin, flow.CurrentStep = f.text(), f.text(), f.text()
	flow.State = f.bytes()
	wait, resumedBy := f.take(), f.take()
	flow.Status, flow.CancelRequested, flow.Revision = flows.Status(f.word()), f.boolean(), f.bigint()
	labels := f.take()
	flow.StepsTotal, flow.StepsActive = f.integer(), f.integer()
	flow.CreatedAt, flow.UpdatedAt, flow.EndedAt, flow.CreatedBy = f.time(), f.time(), orNull(f, (*fields).time), f.text()
	err := f.done("a flow")
	if err != nil {
		return nil, err
	}
	if wait != nil {
		if flow.Wait, err = flows.LoadWait(wait); err != nil {
			return nil, fmt.Errorf("flow %s: %w", flow.ID, err)
		}
	}
	if resumedBy != nil {
		if flow.ResumedBy, err = flows.DecodeResumedBy(resumedBy); err != nil {
			return nil, fmt.Errorf("flow %s: %w", flow.ID, err)
		}
	}
	if flow.Labels, err = flows.LoadLabels(labels); err != nil {
		return nil, fmt.Errorf("flow %s: %w", flow.ID, err)
	}
	return &flow, nil
}

// scanStep reads the columns stepColumns.
func scanStep(row pgx.CollectableRow) (*flows.Step, error) {
	f := fieldsOf(row)
	s := flows.Step{
		ID: f.uuid(), FlowID: f.uuid(), RunID: f.text(), Runtime: flows.Mode(f.word()), Task: f.text(),
		Status: flows.StepStatus(f.word()), ChildSessionKey: orNull(&f, (*fields).text), Result: f.bytes(),
		ObservedAt: f.time(), CreatedAt: f.time(), UpdatedAt: f.time(),
	}
	return &s, f.done("a step")
}

// event reads the columns eventColumns, the last of a row.
func (f *fields) event() (flows.Event, error) {
	e := flows.Event{
		Seq: f.bigint(), FlowID: f.uuid(), Revision: f.bigint(), Kind: flows.EventKind(f.word()), Payload: f.bytes(),
		Actor: f.text(), At: f.time(), Traceparent: f.text(),
	}
	return e, f.done("an event")
}

func inUTC(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	utc := t.UTC()
	return &utc
}

// scanExternalEvent reads the columns externalColumns.
func scanExternalEvent(row pgx.CollectableRow) (*flows.ExternalEvent, error) {
	columns := fieldsOf(row)
	return columns.externalEvent()
}

// externalEvent reads the columns externalColumns, the last of a row.
func (f *fields) externalEvent() (*flows.ExternalEvent, error) {
	e := flows.ExternalEvent{
		ID: f.uuid(), Pair: flows.Pair{Topic: f.text(), CorrelationID: f.text()}, FlowID: (*uuid.UUID)(orNull(f, (*fields).uuid)),
		Payload: f.bytes(), Actor: f.text(), At: f.time(), ExpiresAt: f.time(), Outcome: flows.EventOutcome(f.word()),
	}
	text := f.take()
	e.FlowCount, e.Owners, e.Traceparent = f.bigint(), flows.Owners(f.text()), f.text()
	if err := f.done("an external event"); err != nil {
		return nil, err
	}
	var err error
	if e.Flows, err = flows.LoadResumed(text); err != nil {
		return nil, fmt.Errorf("external event %s: %w", e.ID, err)
	}
	return &e, nil
}
