package httpapi

import (
	"context"

	"taskflow/internal/flows"
	"taskflow/internal/httpapi/oas"
)

// The handlers of the calls that change flows. Each body has passed its schema.

func (a *api) CreateFlow(ctx context.Context, r oas.CreateFlowRequestObject) (oas.CreateFlowResponseObject, error) {
	id, action, err := a.createAction(*r.Body)
	if err != nil {
		return nil, err
	}
	command, err := a.command(callOf(ctx, requestOf(ctx).ifMatch, r.Params.IdempotencyKey), id, action)
	if err != nil {
		return nil, err
	}
	return a.answer(a.apply(ctx, command))
}

func (a *api) StartFlow(ctx context.Context, r oas.StartFlowRequestObject) (oas.StartFlowResponseObject, error) {
	action, err := a.startAction(*r.Body)
	return a.change(ctx, r.Id, callOf(ctx, r.Params.IfMatch, r.Params.IdempotencyKey), action, err)
}

func (a *api) SetFlowWaiting(ctx context.Context, r oas.SetFlowWaitingRequestObject) (oas.SetFlowWaitingResponseObject, error) {
	action, err := a.waitAction(*r.Body)
	return a.change(ctx, r.Id, callOf(ctx, r.Params.IfMatch, r.Params.IdempotencyKey), action, err)
}

func (a *api) ResumeFlow(ctx context.Context, r oas.ResumeFlowRequestObject) (oas.ResumeFlowResponseObject, error) {
	action, err := a.resumeAction(*r.Body)
	return a.change(ctx, r.Id, callOf(ctx, r.Params.IfMatch, r.Params.IdempotencyKey), action, err)
}

func (a *api) FinishFlow(ctx context.Context, r oas.FinishFlowRequestObject) (oas.FinishFlowResponseObject, error) {
	action, err := a.finishAction(*r.Body)
	return a.change(ctx, r.Id, callOf(ctx, r.Params.IfMatch, r.Params.IdempotencyKey), action, err)
}

func (a *api) FailFlow(ctx context.Context, r oas.FailFlowRequestObject) (oas.FailFlowResponseObject, error) {
	action, err := a.failAction(*r.Body)
	return a.change(ctx, r.Id, callOf(ctx, r.Params.IfMatch, r.Params.IdempotencyKey), action, err)
}

func (a *api) RequestCancelFlow(ctx context.Context, r oas.RequestCancelFlowRequestObject) (oas.RequestCancelFlowResponseObject, error) {
	action, err := a.requestCancelAction(*r.Body)
	return a.change(ctx, r.Id, callOf(ctx, r.Params.IfMatch, r.Params.IdempotencyKey), action, err)
}

func (a *api) CancelFlow(ctx context.Context, r oas.CancelFlowRequestObject) (oas.CancelFlowResponseObject, error) {
	action, err := a.cancelAction(*r.Body)
	return a.change(ctx, r.Id, callOf(ctx, r.Params.IfMatch, r.Params.IdempotencyKey), action, err)
}

func (a *api) UpdateFlowState(ctx context.Context, r oas.UpdateFlowStateRequestObject) (oas.UpdateFlowStateResponseObject, error) {
	action, err := a.stateAction(*r.Body)
	return a.change(ctx, r.Id, callOf(ctx, r.Params.IfMatch, r.Params.IdempotencyKey), action, err)
}

func (a *api) DeleteFlow(ctx context.Context, r oas.DeleteFlowRequestObject) (oas.DeleteFlowResponseObject, error) {
	return a.change(ctx, r.Id, callOf(ctx, r.Params.IfMatch, nil), flows.Erase{}, nil)
}

func (a *api) ObserveStep(ctx context.Context, r oas.ObserveStepRequestObject) (oas.ObserveStepResponseObject, error) {
	action, err := a.stepAction(r.RunId, *r.Body)
	return a.change(ctx, r.Id, callOf(ctx, r.Params.IfMatch, nil), action, err)
}
