package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"taskflow/internal/auth"
	"taskflow/internal/engine"
	"taskflow/internal/flows"

	"github.com/google/uuid"
)

// call is one request for a change, sent alone or in a batch.
type call struct {
	caller       auth.Caller
	traceparent  string
	method, path string
	body         []byte  // as received
	ifMatch, key *string // the headers
}

func callOf(ctx context.Context, ifMatch, key *string) call {
	r := requestOf(ctx)
	return call{caller: r.caller, traceparent: r.traceparent, method: r.method, path: r.path, body: r.body, ifMatch: ifMatch, key: key}
}

// command makes an engine's command of a call.
func (a *api) command(c call, id uuid.UUID, action flows.Action) (engine.Command, error) {
	var none engine.Command
	match, err := parseIfMatch(c.ifMatch)
	if err != nil {
		return none, err
	}
	key, err := parseIdempotencyKey(c.key)
	if err != nil {
		return none, err
	}
	_, creates := action.(flows.Create)
	switch {
	case creates && match.given:
		return none, badHeader("If-Match", "does not go with a new flow, which has no revision yet")
	case !creates && !match.given && a.options.RequireIfMatch:
		return none, newProblem(slugPreconditionRequired, "This server asks for an If-Match header with every change of a flow.")
	}
	command := engine.Command{Command: flows.Command{
		FlowID: id, IfRevision: match.revision, Owners: c.caller.Owners, Actor: c.caller.Name, Traceparent: c.traceparent,
		MaxState: a.options.MaxState, Action: action,
	}}
	if c.caller.Limited {
		command.CallerID, command.MaxOpen = c.caller.ID, a.options.MaxOpenFlows
	}
	if key != "" {
		command.Once = &engine.Once[engine.Result]{
			Key:         answerKey(c.caller.ID, key),
			Owners:      c.caller.Owners,
			Fingerprint: fingerprint(c.method, c.path, match, c.body),
			Encode:      func(r engine.Result) []byte { return a.changeReply(r).encode() },
		}
	}
	return command, nil
}

// changeReply is the answer to a change that took effect, or would have, had it not been there already. Whoever may make
// changes may see the URLs of callbacks.
func (a *api) changeReply(r engine.Result) reply {
	switch {
	case r.Erased:
		return reply{status: http.StatusNoContent}
	case r.Step != nil:
		status := http.StatusOK
		if r.StepCreated {
			status = http.StatusCreated
		}
		answer := jsonReply(status, appendStep(nil, r.Step))
		answer.stale = r.Stale
		return answer
	case r.Created:
		return flowReply(http.StatusCreated, r.Flow, a.waitURL)
	}
	return flowReply(http.StatusOK, r.Flow, a.waitURL)
}

// answer is the reply to a command's outcome: what it did, or the stored answer to an earlier request.
func (a *api) answer(r engine.Result, err error) (reply, error) {
	switch {
	case err != nil:
		return reply{}, err
	case r.Replay != nil:
		return decodeReply(r.Replay)
	}
	return a.changeReply(r), nil
}

// commandOf makes a command of a call that names its flow; bad is what was wrong with its action.
func (a *api) commandOf(c call, id string, action flows.Action, bad error) (engine.Command, error) {
	if bad != nil {
		return engine.Command{}, bad
	}
	flowID, err := parseID(id)
	if err != nil {
		return engine.Command{}, flows.ErrNotFound
	}
	return a.command(c, flowID, action)
}

// change applies a call that names its flow.
func (a *api) change(ctx context.Context, id string, c call, action flows.Action, bad error) (reply, error) {
	command, err := a.commandOf(c, id, action, bad)
	if err != nil {
		return reply{}, err
	}
	return a.answer(a.apply(ctx, command))
}

// within refuses a JSON value of the body that is over the limit for states.
func (a *api) within(pointer string, value json.RawMessage) error {
	if len(value) <= a.options.MaxState {
		return nil
	}
	p := newProblem(slugPayloadTooLarge, fmt.Sprintf("The value at %s is over %d bytes.", pointer, a.options.MaxState))
	p.errors = []fieldError{{pointer, "too large"}}
	return p
}

// apply makes one change, and tells the observer.
func (a *api) apply(ctx context.Context, c engine.Command) (engine.Result, error) {
	result, err := a.engine.Apply(ctx, c)
	a.options.Observer.Change(commandName(c.Action), outcomeOf(result.Replay, err))
	return result, err
}
