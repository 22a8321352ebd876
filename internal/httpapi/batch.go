package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"taskflow/internal/auth"
	"taskflow/internal/engine"
	"taskflow/internal/flows"
	"taskflow/internal/httpapi/oas"
)

// RunBatch applies many calls in order, each answered as if it had been sent alone.
func (a *api) RunBatch(ctx context.Context, r oas.RunBatchRequestObject) (oas.RunBatchResponseObject, error) {
	info := requestOf(ctx)
	if info.ifMatch != nil {
		return nil, badHeader("If-Match", "does not go with a batch: its commands have if_match")
	}
	if info.caller.Limited && a.options.Rate != nil { // the batch itself has been counted
		if wait, ok := a.options.Rate.AllowMore(info.caller.ID, len(r.Body.Commands)-1, time.Now()); !ok {
			return nil, tooMany(overRate, wait)
		}
	}
	b := batch{api: a, request: info}
	values := info.value.(map[string]any)["commands"].([]any) // they passed the schema
	for i, c := range r.Body.Commands {
		b.add(c, values[i].(map[string]any)["body"])
	}
	info.value = nil // it has served, and is many times as large as the body
	key, err := parseIdempotencyKey(r.Params.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	var once *engine.Once[[]engine.Outcome]
	// A repeat is given the first answer only if its caller may still see what is in it.
	if key != "" && info.caller.May(auth.WriteFlows) {
		once = &engine.Once[[]engine.Outcome]{
			Key:         answerKey(info.caller.ID, key),
			Owners:      info.caller.Owners,
			Fingerprint: fingerprint(info.method, info.path, ifMatch{}, info.body),
			Encode:      func(outcomes []engine.Outcome) []byte { return b.reply(ctx, outcomes).encode() },
			Passing:     b.madeNothing,
		}
	}
	outcomes, replay, err := a.engine.ApplyAll(ctx, b.commands, once)
	b.observe(ctx, outcomes, outcomeOf(replay, err))
	switch {
	case err != nil:
		return nil, err
	case replay != nil:
		return decodeReply(replay)
	}
	return b.reply(ctx, outcomes), nil
}

// observe tells the observer how each command ended, and of the problem of each call that has one, and logs a failure; whole
// is how all of them ended where they have no outcomes of their own, and then there is one answer for all.
func (b *batch) observe(ctx context.Context, outcomes []engine.Outcome, whole string) {
	watching := b.api.options.Observer
	next, failed := 0, false
	for i, err := range b.refused {
		if err == nil {
			outcome := whole
			if whole == "ok" {
				err = outcomes[next].Err
				outcome = outcomeOf(outcomes[next].Replay, err)
			}
			watching.Change(commandName(b.commands[next].Action), outcome)
			next++
		}
		if err == nil || whole != "ok" {
			continue
		}
		watching.Problem(outcomeOf(nil, err))
		if p := problemOf(err); p.status() >= http.StatusInternalServerError && !failed {
			failed = true // what they fail for is mostly one
			b.api.log.ErrorContext(ctx, "command of a batch failed", "request_id", b.request.id, b.request.traceID(), "index", i, "problem", p.slug, "error", p.cause)
		}
	}
}

// batch is a list of calls: those that could be read are commands, in order; the others are refused already.
type batch struct {
	api      *api
	request  *request
	refused  []error // by index of the call; nil for one that is a command
	commands []engine.Command
}

func (b *batch) add(c oas.BatchCommand, body any) {
	command, err := b.command(c, body)
	b.refused = append(b.refused, err)
	if err == nil {
		b.commands = append(b.commands, command)
	}
}

// command reads one call as it would be read alone. body is the value of the call's body: its text was guarded with the
// whole.
func (b *batch) command(c oas.BatchCommand, body any) (engine.Command, error) {
	method := string(c.Method)
	id, pattern, err := b.route(method, c.Path)
	if err != nil {
		return engine.Command{}, err
	}
	op := b.api.operations[method+" "+pattern]
	if err := allowed(b.request.caller, op.access.scope); err != nil {
		return engine.Command{}, err
	}
	sent := call{caller: b.request.caller, traceparent: b.request.traceparent, method: method, path: c.Path, body: c.Body, ifMatch: c.IfMatch, key: c.IdempotencyKey}
	if method == http.MethodDelete {
		sent.key = nil // as with the header of a DELETE sent alone
		return b.api.commandOf(sent, id, flows.Erase{}, nil)
	}
	text, err := compact(c.Body)
	if err != nil {
		return engine.Command{}, err
	}
	if len(text) == 0 {
		text, body = []byte("{}"), map[string]any{}
	}
	if err := checkSchema(op.body, body); err != nil {
		return engine.Command{}, err
	}
	if pattern == "/flows" {
		var flow oas.CreateFlow
		if err := json.Unmarshal(text, &flow); err != nil {
			return engine.Command{}, fmt.Errorf("a body that passed its schema: %w", err)
		}
		newID, action, err := b.api.createAction(flow)
		if err != nil {
			return engine.Command{}, err
		}
		return b.api.command(sent, newID, action)
	}
	action, err := b.api.decodeAction(strings.TrimPrefix(pattern, "/flows/{id}/"), text)
	return b.api.commandOf(sent, id, action, err)
}

// madeNothing reports that no call has had an effect and that some are refused only for now: the batch may be sent again as it
// is, and is no repeat.
func (b *batch) madeNothing(outcomes []engine.Outcome) bool {
	passing := slices.ContainsFunc(b.refused, forNow)
	for _, o := range outcomes {
		if o.Err == nil {
			return false
		}
		passing = passing || forNow(o.Err)
	}
	return passing
}

// forNow reports whether a refusal says nothing of the call itself.
func forNow(err error) bool {
	if err == nil {
		return false
	}
	status := problemOf(err).status()
	return status == http.StatusTooManyRequests || status >= http.StatusInternalServerError
}

// route finds the call that a path names: the flow's id, and the pattern.
func (b *batch) route(method, path string) (id, pattern string, err error) {
	route, query, _ := strings.Cut(path, "?")
	parts := strings.Split(route, "/")
	switch {
	case query != "":
		name, _, _ := strings.Cut(query, "=")
		return "", "", badQuery(name, "is unknown")
	case parts[0] != "":
	case len(parts) == 2:
		pattern = "/" + parts[1]
	case len(parts) == 3 && parts[2] != "":
		id, pattern = parts[2], "/"+parts[1]+"/{id}"
	case len(parts) == 4 && parts[2] != "":
		id, pattern = parts[2], "/"+parts[1]+"/{id}/"+parts[3]
	}
	for _, known := range batchRoutes {
		if known.pattern == pattern && known.method == method {
			if id, err = url.PathUnescape(id); err != nil {
				return "", "", flows.ErrNotFound
			}
			return id, pattern, nil
		}
		if known.pattern == pattern {
			err = &problem{slug: slugMethodNotAllowed, detail: "In a batch this route takes " + known.method + ".", allow: known.method}
		}
	}
	if err == nil {
		err = newProblem(slugNotFound, "There is no such call for a batch.")
	}
	return "", "", err
}

// batchRoutes are the calls that a batch takes.
var batchRoutes = []struct{ method, pattern string }{
	{http.MethodPost, "/flows"},
	{http.MethodDelete, "/flows/{id}"},
	{http.MethodPost, "/flows/{id}/start"},
	{http.MethodPost, "/flows/{id}/wait"},
	{http.MethodPost, "/flows/{id}/resume"},
	{http.MethodPost, "/flows/{id}/finish"},
	{http.MethodPost, "/flows/{id}/fail"},
	{http.MethodPost, "/flows/{id}/request-cancel"},
	{http.MethodPost, "/flows/{id}/cancel"},
	{http.MethodPost, "/flows/{id}/state"},
}

// decodeAction reads the body of a command by its verb.
func (a *api) decodeAction(verb string, text []byte) (flows.Action, error) {
	switch verb {
	case "start":
		return decodeAs(text, a.startAction)
	case "wait":
		return decodeAs(text, a.waitAction)
	case "resume":
		return decodeAs(text, a.resumeAction)
	case "finish":
		return decodeAs(text, a.finishAction)
	case "fail":
		return decodeAs(text, a.failAction)
	case "request-cancel":
		return decodeAs(text, a.requestCancelAction)
	case "cancel":
		return decodeAs(text, a.cancelAction)
	case "state":
		return decodeAs(text, a.stateAction)
	}
	return nil, fmt.Errorf("no action for %q", verb)
}

func decodeAs[T any](text []byte, action func(T) (flows.Action, error)) (flows.Action, error) {
	var body T
	if err := json.Unmarshal(text, &body); err != nil {
		return nil, fmt.Errorf("a body that passed its schema: %w", err)
	}
	return action(body)
}

// reply lists the answers in the order of the calls.
func (b *batch) reply(ctx context.Context, outcomes []engine.Outcome) reply {
	out := []byte(`{"results":[`)
	next := 0
	for i, err := range b.refused {
		var one reply
		if err == nil {
			one, err = b.api.answer(outcomes[next].Result, outcomes[next].Err)
			next++
		}
		if err != nil {
			p := problemOf(err)
			one = reply{status: p.status(), body: p.wire(b.request.id, b.api.waitURLs(ctx))}
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = appendResult(out, one)
	}
	return jsonReply(http.StatusOK, append(out, `]}`...))
}

func appendResult(out []byte, r reply) []byte {
	w := jsonWriter{append(out, '{')}
	w.number("status", int64(r.status))
	body := r.body
	if len(body) == 0 {
		body = []byte("null")
	}
	w.raw("body", body)
	return append(w.out, '}')
}
