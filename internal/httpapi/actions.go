package httpapi

import (
	"encoding/json"
	"fmt"

	"taskflow/internal/flows"
	"taskflow/internal/httpapi/oas"

	"github.com/google/uuid"
)

// The functions of this file translate bodies into actions of the domain. They are used for calls sent alone and for
// those of a batch alike. An error says that a JSON value in the body is too large.

// value is what a pointer points to, or the zero value.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// createAction also answers the id the flow is to have.
func (a *api) createAction(b oas.CreateFlow) (uuid.UUID, flows.Action, error) {
	id := newID()
	if b.Id != nil {
		id = *b.Id
	}
	action := flows.Create{
		Mode: flows.Managed, ControllerID: b.ControllerId, Goal: b.Goal, OwnerSessionKey: b.OwnerSessionKey,
		RequesterOrigin: value(b.RequesterOrigin), CurrentStep: value(b.CurrentStep), State: b.State, Labels: value(b.Labels),
	}
	if b.Mode != nil {
		action.Mode = flows.Mode(*b.Mode)
	}
	return id, action, a.within("/state", b.State)
}

func (a *api) startAction(oas.Empty) (flows.Action, error) { return flows.Start{}, nil }

func (a *api) resumeAction(b oas.ResumeFlow) (flows.Action, error) {
	return flows.Resume{Patch: b.StatePatch}, a.within("/state_patch", b.StatePatch)
}

func (a *api) finishAction(b oas.FinishFlow) (flows.Action, error) {
	return flows.Finish{FinalState: b.FinalState}, a.within("/final_state", b.FinalState)
}

func (a *api) failAction(b oas.FailFlow) (flows.Action, error) {
	return flows.Fail{Reason: b.Reason}, nil
}

func (a *api) requestCancelAction(b oas.CancelFlow) (flows.Action, error) {
	return flows.RequestCancel{Reason: b.Reason}, nil
}

func (a *api) cancelAction(b oas.CancelFlow) (flows.Action, error) {
	return flows.Cancel{Reason: b.Reason}, nil
}

func (a *api) stateAction(b oas.UpdateState) (flows.Action, error) {
	action := flows.UpdateState{Patch: b.Patch, CurrentStep: b.CurrentStep, Goal: b.Goal, Labels: value(b.Labels)}
	return action, a.within("/patch", b.Patch)
}

func (a *api) stepAction(runID string, b oas.ObserveStep) (flows.Action, error) {
	action := flows.ObserveStep{
		StepID: newID(), RunID: runID, Task: b.Task, Status: flows.StepStatus(b.Status), Result: b.Result, ObservedAt: timeOf(b.ObservedAt),
	}
	if b.Runtime != nil {
		runtime := flows.Mode(*b.Runtime)
		action.Runtime = &runtime
	}
	if b.ChildSessionKey != nil {
		action.ChildSessionKey.Set = true
		if err := json.Unmarshal(b.ChildSessionKey, &action.ChildSessionKey.Value); err != nil {
			return nil, fmt.Errorf("a session key that passed its schema: %w", err)
		}
	}
	return action, a.within("/result", b.Result)
}
