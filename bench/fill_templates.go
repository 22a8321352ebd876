package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// This file says what the flows of a filled database are like, and how a copy is told from its template.

// template is a flow and the commands that bring it to where it is to be.
type template struct {
	body  string
	steps []request // of the flow: paths begin after its id
}

// create makes the flow over HTTP and returns its id.
func (t template) create(ctx context.Context, conn *httpConn) (string, error) {
	body, err := conn.expect(ctx, request{method: "POST", path: "/flows", body: []byte(t.body)}, http.StatusCreated)
	if err != nil {
		return "", err
	}
	id, err := flowID(body)
	if err != nil {
		return "", err
	}
	for _, step := range t.steps {
		step.path = "/flows/" + id + step.path
		want := http.StatusOK
		if step.method == "PUT" {
			want = http.StatusCreated
		}
		if _, err := conn.expect(ctx, step, want); err != nil {
			return "", err
		}
	}
	return id, nil
}

func (t template) then(path, body string) template {
	t.steps = append(slices.Clip(t.steps), request{method: "POST", path: path, body: []byte(body)})
	return t
}

// begin is a flow of the fill, created and, where it is managed, started.
func begin(mode, labels string) template {
	t := template{body: fmt.Sprintf(`{"mode":%q,"controller_id":%q,"goal":"process order {number} for {owner}",`+
		`"owner_session_key":%q,"requester_origin":"bench","labels":%s,"state":{"order":"{number}","progress":0}}`,
		mode, markController, markOwner, labels)}
	if mode == "managed" {
		t = t.then("/start", "{}")
	}
	return t
}

// waits are what the waiting flows wait for: for nothing that comes while anything is measured.
var waits = [...]string{
	`{"kind":"external_event","topic":"orders","correlation_id":"order-{number}"}`,
	`{"kind":"timer","after":"P300D"}`,
	`{"kind":"external_event","topic":"payments","correlation_id":"payment-{number}"}`,
	`{"kind":"any_of","conditions":[{"kind":"external_event","topic":"orders","correlation_id":"order-{number}"},{"kind":"timer","after":"P300D"}]}`,
	`{"kind":"callback"}`,
	`{"kind":"external_event","topic":"orders","correlation_id":"order-{number}","timeout":{"after":"P300D","on_timeout":"fail"}}`,
	`{"kind":"manual"}`,
	`{"kind":"timer","after":"P200D"}`,
	`{"kind":"external_event","topic":"approvals","correlation_id":"approval-{number}"}`,
	`{"kind":"external_event","topic":"orders","correlation_id":"order-{number}","details":{"asked":"{owner}"}}`,
}

// mixed is the cycle of `bench large`: a tenth waits, half has finished, every status is there.
func mixed(slot int) template {
	mode, labels := "managed", "{}"
	if slot%7 == 3 && slot%10 != 1 {
		mode = "mirrored"
	}
	if slot%3 == 0 {
		labels = `{"env":"production","customer":"{owner}"}`
	}
	t := begin(mode, labels)
	switch slot % 10 {
	case 0:
		return t.then("/wait", `{"wait":`+waits[slot/10]+`}`)
	case 1: // created
		t.steps = nil
		return t
	case 2:
		t.steps = append(t.steps, request{method: "PUT", path: "/steps/run-1", body: []byte(`{"task":"fetch","status":"running","result":{}}`)})
		return t.then("/state", `{"patch":{"progress":10},"current_step":"fetch"}`)
	case 3:
		if t = t.then("/state", `{"patch":{"progress":20},"current_step":"store"}`); slot == 13 {
			t = t.then("/request-cancel", `{"reason":"not needed"}`)
		}
		return t
	case 8:
		return t.then("/fail", `{"reason":"the order is malformed"}`)
	case 9:
		return t.then("/cancel", `{"reason":"withdrawn"}`)
	}
	return t.then("/state", `{"patch":{"progress":50}}`).then("/finish", `{"final_state":{"progress":100}}`)
}

// allWaiting is the cycle of a database in which every flow waits.
func allWaiting(slot int) template {
	return begin("managed", "{}").then("/wait", `{"wait":`+waits[slot%len(waits)]+`}`)
}

// outline is what a copy has in common with its template: an answer without the values that are each flow's own, and with
// the keys of objects. Texts that a mark stands in are a copy's own, so texts are left out but for those that say what
// something is.
func outline(body []byte) (string, error) {
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return "", fmt.Errorf("reading an answer: %w", err)
	}
	var out strings.Builder
	writeOutline(&out, "", value)
	return out.String(), nil
}

func writeOutline(out *strings.Builder, key string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			out.WriteString(" " + k + ":")
			writeOutline(out, k, v[k])
		}
	case []any:
		fmt.Fprintf(out, "%d of [", len(v))
		for _, item := range v {
			writeOutline(out, key, item)
		}
		out.WriteString("]")
	case string:
		switch key {
		case "status", "mode", "kind", "current_step", "topic", "env", "requester_origin", "actor", "reason":
			out.WriteString(v)
		}
	default:
		if key != "seq" {
			fmt.Fprint(out, v)
		}
	}
}
