package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// scenario is one kind of load: what each connection does over and over.
type scenario struct {
	name string
	// prepared: works on flows that were created and started beforehand, and whose revisions are checked afterwards.
	prepared bool
	// oneFlow: all connections work on the same flow.
	oneFlow bool
	// batched: one request carries several changes.
	batched bool
	// turn is one turn of a connection's loop. Its error ends the run; refused requests are counted, not returned.
	turn func(ctx context.Context, w *worker) error
}

// scenarios is the table behind the --scenario flag.
var scenarios = [...]scenario{
	{name: "state", prepared: true, turn: stateTurn},
	{name: "one-flow", prepared: true, oneFlow: true, turn: stateTurn},
	{name: "idempotent", prepared: true, turn: idempotentTurn},
	{name: "batch", prepared: true, batched: true, turn: batchTurn},
	{name: "get", prepared: true, turn: getTurn},
	{name: "create", turn: createTurn},
	{name: "lifecycle", turn: lifecycleTurn},
}

func findScenario(name string) (scenario, bool) {
	for _, s := range scenarios {
		if s.name == name {
			return s, true
		}
	}
	return scenario{}, false
}

// scenarioNames lists them all, with commas between.
func scenarioNames() string {
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return strings.Join(names, ",")
}

// preparedFlow holds a flow's paths, so that no request has to put them together.
type preparedFlow struct {
	path      string // /flows/{id}
	statePath string // /flows/{id}/state
}

func newPreparedFlow(id string) preparedFlow {
	return preparedFlow{path: "/flows/" + id, statePath: "/flows/" + id + "/state"}
}

// createBody is the flow that create and lifecycle make.
var createBody = createBodyOf(0)

// createBodyOf makes a flow whose state has at least so many bytes.
func createBodyOf(bytes int) []byte {
	body := `{"controller_id":"bench/load","goal":"measure the write path",` +
		`"owner_session_key":"bench:load","state":{"progress":0,"phase":"begin"`
	if bytes > 0 {
		body += `,"padding":"` + strings.Repeat("x", bytes) + `"`
	}
	return []byte(body + `}}`)
}

// appendStateBody appends the patch of the state scenarios. Its keys are always the same, so the state does not grow.
func appendStateBody(out []byte, progress int) []byte {
	out = append(out, `{"patch":{"progress":`...)
	out = strconv.AppendInt(out, int64(progress), 10)
	return append(out, `,"phase":"collect","note":"closed loop"}}`...)
}

func stateTurn(ctx context.Context, w *worker) error { return w.patchFlow(ctx, "") }

func idempotentTurn(ctx context.Context, w *worker) error { return w.patchFlow(ctx, w.freshKey()) }

func (w *worker) patchFlow(ctx context.Context, key string) error {
	w.body = appendStateBody(w.body[:0], w.random.IntN(1_000_000))
	_, ok, err := w.call(ctx, request{method: "POST", path: w.pick().statePath, key: key, body: w.body}, http.StatusOK)
	if ok {
		w.accepted(1)
	}
	return err
}

func batchTurn(ctx context.Context, w *worker) error {
	w.body = append(w.body[:0], `{"commands":[`...)
	for i := range w.batch {
		if i > 0 {
			w.body = append(w.body, ',')
		}
		w.body = append(w.body, `{"method":"POST","path":"`...)
		w.body = append(w.body, w.pick().statePath...)
		w.body = append(w.body, `","body":`...)
		w.body = append(appendStateBody(w.body, w.random.IntN(1_000_000)), '}')
	}
	w.body = append(w.body, "]}"...)
	answer, ok, err := w.call(ctx, request{method: "POST", path: "/batch", body: w.body}, http.StatusOK)
	if !ok {
		return err
	}
	done, unknown := countAccepted(answer, w.batch)
	w.accepted(done)
	w.tally.unknown += int64(unknown)
	if done < w.batch {
		w.failed()
	}
	return nil
}

// countAccepted counts the results with status 200 in the answer to a batch, and those (5xx, or missing) whose effect
// cannot be known. The bytes are looked at first: decoding a hundred flows costs the client more than all the rest.
func countAccepted(answer []byte, want int) (done, unknown int) {
	if bytes.Count(answer, []byte(`"status":200`)) == want {
		return want, 0
	}
	var decoded struct {
		Results []struct {
			Status int `json:"status"`
		} `json:"results"`
	}
	if err := json.Unmarshal(answer, &decoded); err != nil {
		return 0, want
	}
	for _, result := range decoded.Results {
		if result.Status == http.StatusOK {
			done++
		}
		if result.Status >= http.StatusInternalServerError {
			unknown++
		}
	}
	return done, unknown + max(0, want-len(decoded.Results))
}

func getTurn(ctx context.Context, w *worker) error {
	_, _, err := w.call(ctx, request{method: "GET", path: w.pick().path}, http.StatusOK)
	return err
}

func createTurn(ctx context.Context, w *worker) error {
	_, ok, err := w.call(ctx, request{method: "POST", path: "/flows", body: createBody}, http.StatusCreated)
	if ok {
		w.accepted(1)
	}
	return err
}

// lifecycleTurn takes one flow from its creation to its end: created, started, waiting for an event of its own, resumed by
// that event, finished. A refusal ends the turn, not the run.
func lifecycleTurn(ctx context.Context, w *worker) error {
	answer, ok, err := w.call(ctx, request{method: "POST", path: "/flows", body: createBody}, http.StatusCreated)
	if !ok {
		return err
	}
	w.accepted(1)
	id, err := flowID(answer)
	if err != nil {
		return err
	}
	event := `{"topic":"bench","correlation_id":"` + w.freshKey() + `"`
	path := "/flows/" + id
	for _, step := range [...]request{
		{path: path + "/start"},
		{path: path + "/wait", body: []byte(`{"wait":{"kind":"external_event",` + event[1:] + `}}`)},
		{path: "/external-events", body: []byte(event + `,"payload":{"paid":true}}`)},
		{path: path + "/finish", body: []byte(`{"final_state":{"progress":100}}`)},
	} {
		step.method = "POST"
		if answer, ok, err = w.call(ctx, step, http.StatusOK); !ok {
			return err
		}
		if step.path == "/external-events" && !bytes.Contains(answer, []byte(`"delivered"`)) {
			w.failed() // it resumed nothing
			return nil
		}
		w.accepted(1)
	}
	return nil
}
