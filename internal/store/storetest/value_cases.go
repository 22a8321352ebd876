package storetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

func valueCases() []testCase {
	return []testCase{
		{"AllFields", "A flow comes back as it was saved.", testAllFields},
		{"AllStatuses", "A flow comes back as it was saved.", testAllStatuses},
		{"UpdatedFields", "FlowUpdate is a recorded flow as it is to be.", testUpdatedFields},
		{"JSON", "State is the caller's JSON, digit for digit as it was sent.", testJSON},
		{"BigState", "State is the caller's JSON, digit for digit as it was sent.", testBigState},
		{"Text", "A flow comes back as it was saved.", testText},
		{"RunIDs", "StepKey names a step.", testRunIDs},
		{"Times", "Times are UTC with microseconds.", testTimes},
		{"Waits", "A flow comes back as it was saved.", testWaits},
	}
}

func pointer[T any](v T) *T { return &v }

// fullFlow is a waiting flow with a value in every field that one can have.
func fullFlow(n int) *flows.Flow {
	return &flows.Flow{
		ID: flowID(n), Mode: flows.Mirrored, ControllerID: "kate/inbox", Goal: fmt.Sprint("full ", n),
		OwnerSessionKey: "agent:kate:session:abc", RequesterOrigin: "slack", CurrentStep: "collect",
		State: json.RawMessage(`{"a":[1,{"b":null}],"c":1.10}`),
		Wait:  fullWait(n),
		ResumedBy: &flows.ResumedBy{Kind: flows.ResumedManually, Outcome: flows.OutcomeResumed, At: at(n + 2),
			Condition: pointer(2), EventID: pointer(stepID(n))},
		Status: flows.Waiting, Revision: 1 << 40,
		Labels:     map[string]string{"env": "prod", "team": "billing", "empty": ""},
		StepsTotal: 12, StepsActive: 5, CreatedAt: at(n), UpdatedAt: at(n + 4),
	}
}

// fullWait is a wait with a value in every field that one can have.
func fullWait(n int) *flows.Wait {
	return &flows.Wait{
		Kind: flows.WaitAnyOf, Details: json.RawMessage(`{"why":"review","n":1.10}`), Generation: 7, Since: at(n + 3),
		CallbackKey: "key-0001",
		Conditions: []flows.Condition{
			{Kind: flows.WaitTimer, At: at(n + 1000).Add(time.Microsecond)},
			{Kind: flows.WaitExternalEvent, Pair: flows.Pair{Topic: "payment", CorrelationID: "order-7"}},
			{Kind: flows.WaitCallback},
			{Kind: flows.WaitCallback, Verify: &flows.Verify{Scheme: "hmac-sha256", Header: "X-Sig", Secret: "s\"<&é"}},
			{Kind: flows.WaitManual},
			{Kind: flows.WaitExternalEvent, Pair: flows.Pair{Topic: "payment", CorrelationID: "order-8"}},
		},
		Timeout: &flows.Timeout{At: at(n + 2000), Then: flows.TimeoutResumes, Patch: json.RawMessage(`{"late":1.10}`)},
	}
}

// endedFlow is a full flow that was cancelled.
func endedFlow(n int) *flows.Flow {
	f := fullFlow(n)
	f.Goal = fmt.Sprint("ended ", n)
	f.Status, f.CancelRequested, f.Wait, f.EndedAt = flows.Cancelled, true, nil, pointer(at(n+5))
	return f
}

func newStep(flow, n int, run string) *flows.Step {
	return &flows.Step{ID: stepID(n), FlowID: flowID(flow), RunID: run, Runtime: flows.Managed, Task: fmt.Sprint("task ", n),
		Status: flows.StepPending, Result: json.RawMessage("null"), ObservedAt: at(n), CreatedAt: at(n), UpdatedAt: at(n)}
}

func fullStep(flow, n int) *flows.Step {
	s := newStep(flow, n, fmt.Sprint("run/", n))
	s.Runtime, s.Status, s.ChildSessionKey = flows.Mirrored, flows.StepSucceeded, pointer("agent:child")
	s.Result, s.ObservedAt, s.UpdatedAt = json.RawMessage(`{"ok":true,"n":1.10}`), at(n+1), at(n+2)
	return s
}

func testAllFields(t *testing.T, s store.Store) {
	full, plain, ended := fullFlow(1), newFlow(2), endedFlow(3)
	create(t, s, full, plain, ended)
	same(t, "full flow", flowText(readFlow(t, s, full.ID)), flowText(full))
	same(t, "plain flow", flowText(readFlow(t, s, plain.ID)), flowText(plain))
	same(t, "ended flow", flowText(readFlow(t, s, ended.ID)), flowText(ended))
	list, err := allFlows(t.Context(), s, store.FlowQuery{Owners: flows.Everyone, Order: store.CreatedAsc, Limit: 5})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "list", flowsText(list), flowsText([]*flows.Flow{full, plain, ended}))
}

func testAllStatuses(t *testing.T, s store.Store) {
	var want []*flows.Flow
	for i, status := range flows.Statuses {
		f := newFlow(i)
		f.Status = status
		if status == flows.Waiting {
			f.Wait = fullWait(i)
		}
		if status.Terminal() {
			f.EndedAt = pointer(at(i))
		}
		want = append(want, f)
	}
	create(t, s, want...)
	for _, f := range want {
		same(t, string(f.Status), flowText(readFlow(t, s, f.ID)), flowText(f))
	}
}

// testUpdatedFields alters whatever a command may alter, there and back.
func testUpdatedFields(t *testing.T, s store.Store) {
	f := newFlow(1)
	create(t, s, f)
	for _, full := range []*flows.Flow{fullFlow(1), endedFlow(1)} { // mode, controller, owner, requester never change
		full.Mode, full.ControllerID, full.OwnerSessionKey, full.RequesterOrigin = f.Mode, f.ControllerID, f.OwnerSessionKey, ""
		save(t, s, store.Writes{Updated: []store.FlowUpdate{{Flow: full, State: true, Labels: true, Wait: true}}})
		same(t, "filled", flowText(readFlow(t, s, f.ID)), flowText(full))
	}
	save(t, s, store.Writes{Updated: []store.FlowUpdate{{Flow: f, State: true, Labels: true, Wait: true}}})
	same(t, "emptied", flowText(readFlow(t, s, f.ID)), flowText(f))
}

// documents are JSON texts that a database may be tempted to rewrite.
func documents() []string {
	return []string{
		`{}`, `[]`, `null`, `true`, `""`, `0`, `-0`, `1.10`, `1e2`, `1E+2`, `1.0`, `0.1e-7`, `12345678901234567890`,
		`123456789012345678901234567890.123456789012345678901234567890`, `-1.7976931348623157e308`,
		`{"b":1,"a":2,"B":3,"":4}`, ` { "spaced" : [ 1 , 2 ] } `, "{\n\t\"lines\": 1\r\n}",
		`{"escapes":"\"\\\/\b\f\n\r\t\u0041\u00e9\uD83D\ude00"}`, `{"\u0061":"\u0061"}`,
		`{"plain":"é ñ 漢字 😀 \u2028"}`, `"` + "\u2028\u2029\u007f" + `"`, `{"html":"<a href='x'>&amp;</a>"}`,
		`{"sql":"'; DROP TABLE flows; --","percent":"%s $1 ? :x @x"}`, `[[[[[[[[]]]]]]]]`, `{"k":{"k":{"k":[{}]}}}`,
	}
}

func testJSON(t *testing.T, s store.Store) {
	var w store.Writes
	for i, text := range documents() {
		f, step := newFlow(i), newStep(i, i, "r")
		f.State, step.Result = json.RawMessage(text), json.RawMessage(text)
		event := createdEvent(f)
		event.Payload = json.RawMessage(`{"state":` + text + `}`)
		w.Created, w.Steps, w.Events = append(w.Created, f), append(w.Steps, step), append(w.Events, event)
	}
	save(t, s, w)
	for i, text := range documents() {
		same(t, "state", string(readFlow(t, s, flowID(i)).State), text)
		same(t, "event", eventsText(trail(t, s, flowID(i))), eventsText(w.Events[i:i+1]))
		step, err := s.Step(t.Context(), stepKey(w.Steps[i]), flows.Everyone)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "result", string(step.Result), text)
	}
	for i, text := range documents() { // and by an update of one row to another's text
		next := *w.Created[len(w.Created)-1-i]
		next.State = json.RawMessage(text)
		save(t, s, store.Writes{Updated: []store.FlowUpdate{{Flow: &next, State: true}}})
		same(t, "updated state", string(readFlow(t, s, next.ID).State), text)
	}
}

func testBigState(t *testing.T, s store.Store) {
	f := newFlow(1)
	f.State = json.RawMessage(`{"text":"` + strings.Repeat("é<&\\n0123456789", 256<<10/17) + `"}`)
	create(t, s, f)
	if got := readFlow(t, s, f.ID); !bytes.Equal(got.State, f.State) {
		t.Errorf("a state of %d bytes came back as %d others", len(f.State), len(got.State))
	}
	numbers := "[" + strings.TrimSuffix(strings.Repeat("12345678901234567890,", 256<<10/21), ",") + "]"
	next, event := touch(f, numbers)
	save(t, s, store.Writes{Updated: []store.FlowUpdate{{Flow: next, State: true}}, Events: []flows.Event{event}})
	if got := readFlow(t, s, f.ID); string(got.State) != numbers {
		t.Errorf("a state of %d bytes came back as %d others", len(numbers), len(got.State))
	}
}

// texts are strings that a database may be tempted to fold, trim or refuse.
func texts() []string {
	return []string{
		"a", "A", "é", "e\u0301", "ä", "ae", " a", "a ", "  ", "\t\n", "'quoted'", `"double"`, `back\slash`, "%", "_", "null",
		"NULL", "漢字", "😀", "{a,b}", "$1", "?", "a\u200bb", "\u202eabc", "ﬁ", "İ", "ß", "SS", strings.Repeat("é", 256),
		strings.Repeat("😀", 63),
	}
}

func testText(t *testing.T, s store.Store) {
	var all []*flows.Flow
	for i, text := range texts() {
		f := newFlow(i)
		f.ControllerID, f.OwnerSessionKey, f.RequesterOrigin = text, text, text
		f.CurrentStep, f.Goal, f.Labels = text, text+strings.Repeat("漢", 3000), map[string]string{text: text}
		all = append(all, f)
	}
	create(t, s, all...)
	for i, f := range all {
		same(t, "flow", flowText(readFlow(t, s, f.ID)), flowText(f))
		for what, q := range map[string]store.FlowQuery{
			"owner":      {OwnerSessionKey: texts()[i]},
			"controller": {ControllerID: texts()[i]},
			"label":      {Labels: []store.Label{{Key: texts()[i], Value: texts()[i]}}},
		} {
			q.Limit = 100
			page, err := s.Flows(t.Context(), forEveryone(q))
			if err != nil || len(page.Items) != 1 || page.Items[0].ID != f.ID {
				t.Errorf("%s %q finds %d flows, %v; want one", what, texts()[i], len(page.Items), err)
			}
		}
	}
}

func testRunIDs(t *testing.T, s store.Store) {
	w := store.Writes{Created: []*flows.Flow{newFlow(1), newFlow(2)}}
	for i, text := range append(texts(), "a/b", "a//b", "../x", "a%2Fb", "?x=1#y") {
		w.Steps = append(w.Steps, newStep(1, 2*i, text), newStep(2, 2*i+1, text))
	}
	save(t, s, w)
	need := needOf(w)
	snapshot := load(t, s, need)
	for _, step := range w.Steps {
		got, err := s.Step(t.Context(), stepKey(step), flows.Everyone)
		if err != nil {
			t.Fatalf("Step(%q): %v", step.RunID, err)
		}
		same(t, "read step", stepText(got), stepText(step))
		if loaded := snapshot.Steps[stepKey(step)]; loaded == nil {
			t.Errorf("step %q was not loaded", step.RunID)
		} else {
			same(t, "loaded step", stepText(loaded), stepText(step))
		}
	}
}

func testTimes(t *testing.T, s store.Store) {
	for i, text := range []string{
		"0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z", "1999-12-31T23:59:59.000001Z",
		"2024-02-29T12:00:00.123456Z", "2026-03-29T01:30:00.5Z", "9999-12-31T23:59:59.999999Z",
	} {
		moment, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		f, step := newFlow(i), newStep(i, i, "r")
		f.CreatedAt, f.UpdatedAt = moment, moment
		f.Status, f.Wait = flows.Waiting, &flows.Wait{Kind: flows.WaitManual, Since: moment}
		step.ObservedAt, step.CreatedAt, step.UpdatedAt = moment, moment, moment
		event := createdEvent(f)
		save(t, s, store.Writes{Created: []*flows.Flow{f}, Steps: []*flows.Step{step}, Events: []flows.Event{event}})
		same(t, "flow", flowText(readFlow(t, s, f.ID)), flowText(f))
		next := *f
		next.Status, next.Wait, next.EndedAt = flows.Finished, nil, &moment
		next.ResumedBy = &flows.ResumedBy{Kind: flows.ResumedManually, Outcome: flows.OutcomeResumed, At: moment}
		save(t, s, store.Writes{Updated: []store.FlowUpdate{{Flow: &next, Wait: true}}})
		same(t, "ended flow", flowText(readFlow(t, s, f.ID)), flowText(&next))
		same(t, "event", eventsText(trail(t, s, f.ID)), eventsText([]flows.Event{event}))
		got, err := s.Step(t.Context(), stepKey(step), flows.Everyone)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "step", stepText(got), stepText(step))
	}
}

func testWaits(t *testing.T, s store.Store) {
	f := newFlow(1)
	f.ID = uuid.MustParse("f47ac10b-58cc-4372-a567-0e02b2c3d479") // any version is an id
	create(t, s, f)
	stages := []struct {
		wait    *flows.Wait
		resumed *flows.ResumedBy
	}{
		{wait: &flows.Wait{Kind: flows.WaitManual, Generation: 1, Since: at(1)}},
		{wait: &flows.Wait{Kind: flows.WaitManual, Generation: 1 << 50, Since: at(1),
			Details: json.RawMessage(`{"n":12345678901234567890,"d":1.10,"e":1e2,"s":"<&é😀\u0041"}`)}},
		{resumed: &flows.ResumedBy{Kind: flows.ResumedManually, Outcome: flows.OutcomeResumed, At: at(2)}},
		{resumed: &flows.ResumedBy{Kind: "timer", Outcome: "rejected", At: at(3), Condition: pointer(0),
			EventID: pointer(stepID(1))}},
		{wait: fullWait(1)},
		{wait: &flows.Wait{Kind: flows.WaitTimer, Generation: 3, Since: at(1),
			Conditions: []flows.Condition{{Kind: flows.WaitTimer, At: time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)}}}},
		{wait: &flows.Wait{Kind: flows.WaitTimer, Generation: 3, Since: at(1),
			Conditions: []flows.Condition{{Kind: flows.WaitTimer, At: time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC)}}}},
		{wait: &flows.Wait{Kind: flows.WaitExternalEvent, Generation: 4, Since: at(1), Conditions: []flows.Condition{
			{Kind: flows.WaitExternalEvent, Pair: flows.Pair{Topic: "t'\"\\ %_:é漢😀", CorrelationID: strings.Repeat("😀", 256)}}}}},
		{wait: &flows.Wait{Kind: flows.WaitCallback, Generation: 5, Since: at(1), CallbackKey: "key-0001",
			Conditions: []flows.Condition{{Kind: flows.WaitCallback, Verify: &flows.Verify{Scheme: "github", Secret: "s"}}},
			Timeout:    &flows.Timeout{At: at(9), Then: flows.TimeoutCancels}}},
		{wait: &flows.Wait{Kind: flows.WaitManual, Generation: 9, Since: at(4)},
			resumed: &flows.ResumedBy{Kind: flows.ResumedManually, Outcome: flows.OutcomeResumed, At: at(2)}},
		{},
	}
	for _, stage := range stages {
		next := *f
		next.Status, next.Wait, next.ResumedBy = flows.Running, stage.wait, stage.resumed
		if stage.wait != nil {
			next.Status = flows.Waiting
		}
		save(t, s, store.Writes{Updated: []store.FlowUpdate{{Flow: &next, Wait: true}}})
		same(t, "flow", flowText(readFlow(t, s, f.ID)), flowText(&next))
		same(t, "loaded", flowText(load(t, s, store.Need{Flows: []uuid.UUID{f.ID}}).Flows[f.ID]), flowText(&next))
	}
}
