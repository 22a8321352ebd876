package flows_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"taskflow/internal/flows"

	"github.com/google/uuid"
)

func TestFormatTime(t *testing.T) {
	at := time.Date(2026, 4, 23, 17, 0, 0, 1234, time.FixedZone("", 2*3600))
	if got := flows.FormatTime(at); got != "2026-04-23T15:00:00.000001Z" {
		t.Errorf("got %s", got)
	}
}

func TestResumedByRoundTrip(t *testing.T) {
	at := time.Date(2026, 4, 23, 15, 0, 0, 7000, time.UTC)
	id := uuid.MustParse("0196f000-0000-7000-8000-0000000000ee")
	for want, r := range map[string]*flows.ResumedBy{
		`null`: nil,
		`{"kind":"manual","outcome":"resumed","at":"2026-04-23T15:00:00.000007Z","condition":null}`: {
			Kind: flows.ResumedManually, Outcome: flows.OutcomeResumed, At: at},
		`{"kind":"external_event","outcome":"rejected","at":"2026-04-23T15:00:00.000007Z","condition":0,` +
			`"event_id":"0196f000-0000-7000-8000-0000000000ee"}`: {Kind: "external_event", Outcome: "rejected", At: at,
			Condition: ptr(0), EventID: &id},
	} {
		text := flows.EncodeResumedBy(r)
		if string(text) != want {
			t.Errorf("encoded %s, want %s", text, want)
		}
		if back, err := flows.DecodeResumedBy(text); err != nil || !reflect.DeepEqual(back, r) {
			t.Errorf("decoded %+v, %v; want %+v", back, err, r)
		}
	}
}

func TestDecodeRefusesWhatWasNotEncoded(t *testing.T) {
	for _, text := range []string{``, `{`, `[]`, `1`, `{"kind":"manual","since":"yesterday","at":"yesterday"}`,
		`{"kind":"timer","since":"2026-04-23T15:00:00.000007Z","at":"soon"}`,
		`{"kind":"any_of","since":"2026-04-23T15:00:00.000007Z","at":"soon","conditions":[{"kind":"timer","at":"soon"}]}`,
		`{"kind":"manual","since":"2026-04-23T15:00:00.000007Z","at":"soon","timeout":{"at":"soon"}}`} {
		if w, err := flows.LoadWait([]byte(text)); err == nil {
			t.Errorf("LoadWait(%s) = %+v", text, w)
		}
		if r, err := flows.DecodeResumedBy([]byte(text)); err == nil {
			t.Errorf("DecodeResumedBy(%s) = %+v", text, r)
		}
	}
}

// TestPayloads has every kind of event, with as little and with as much as its command can say.
func TestPayloads(t *testing.T) {
	const cause = `"cause":{"kind":"manual","outcome":"resumed","at":"2026-04-23T12:00:00.000000Z","condition":null,"generation":5}`
	const since = `"generation":6,"since":"2026-04-23T12:00:00.000000Z"`
	null, patch := json.RawMessage(`null`), json.RawMessage(`{ "n" : 1.10, "t" : "<&é" }`)
	for _, c := range []struct {
		from   flows.Status // "" for a flow that is not there
		action flows.Action
		want   string
	}{
		{"", flows.Create{ControllerID: "kate", Goal: "<sort> \"mail\""},
			`{"controller_id":"kate","goal":"<sort> \"mail\"","current_step":"init"}`},
		{"", flows.Create{ControllerID: "kate", Goal: "g", CurrentStep: "s", State: patch, RequesterOrigin: "slack",
			Labels: map[string]string{"env": "prod"}}, `{"controller_id":"kate","goal":"g","current_step":"s",` +
			`"state":{"n":1.10,"t":"<&é"},"labels":{"env":"prod"},"requester_origin":"slack"}`},
		{flows.Created, flows.Start{}, `{}`},
		{flows.Running, flows.SetWait{Kind: flows.WaitManual}, `{"wait":{"kind":"manual",` + since + `}}`},
		{flows.Running, flows.SetWait{Kind: flows.WaitManual, Details: patch},
			`{"wait":{"kind":"manual",` + since + `,"details":{"n":1.10,"t":"<&é"}}}`},
		{flows.Waiting, flows.Resume{}, `{` + cause + `}`},
		{flows.Waiting, flows.Resume{Patch: null}, `{"state_patch":null,` + cause + `}`},
		{flows.Waiting, flows.Resume{Patch: patch}, `{"state_patch":{"n":1.10,"t":"<&é"},` + cause + `}`},
		{flows.Running, flows.Finish{}, `{}`},
		{flows.Running, flows.Finish{FinalState: null}, `{"final_state":null}`},
		{flows.Running, flows.Finish{FinalState: patch}, `{"final_state":{"n":1.10,"t":"<&é"}}`},
		{flows.Running, flows.Fail{Reason: "no <way>"}, `{"reason":"no <way>"}`},
		{flows.Running, flows.Cancel{}, `{"reason":null}`},
		{flows.Running, flows.Cancel{Reason: ptr("")}, `{"reason":""}`},
		{flows.Running, flows.RequestCancel{}, `{"reason":null}`},
		{flows.Running, flows.RequestCancel{Reason: ptr("enough")}, `{"reason":"enough"}`},
		{flows.Running, flows.UpdateState{Patch: null}, `{"patch":null,"next_step":null}`},
		{flows.Running, flows.UpdateState{Patch: patch, CurrentStep: ptr("next"), Goal: ptr("g"),
			Labels: map[string]*string{"env": nil, "a": ptr("b")}}, `{"patch":{"n":1.10,"t":"<&é"},"next_step":"next",` +
			`"goal":"g","labels":{"a":"b","env":null}}`},
		{flows.Running, flows.UpdateState{CurrentStep: ptr("next")}, `{"next_step":"next"}`},
		{flows.Running, flows.ObserveStep{RunID: "r/1", Task: "t", Status: flows.StepRunning, Result: patch},
			`{"run_id":"r/1","status":"running","runtime":"managed"}`},
		{flows.Running, flows.ObserveStep{RunID: "r", Task: "t", Status: flows.StepFailed, Runtime: ptr(flows.Mirrored)},
			`{"run_id":"r","status":"failed","runtime":"mirrored"}`},
	} {
		var s flows.Subject
		if c.from != "" {
			s.Flow = flowIn(c.from, false)
		}
		change, err := flows.Decide(s, flows.Command{Owners: flows.Everyone, FlowID: someID, Actor: "kate", Action: c.action}, noon)
		if err != nil {
			t.Errorf("%+v: %v", c.action, err)
			continue
		}
		e := change.Events[0]
		if string(e.Payload) != c.want {
			t.Errorf("%s: payload %s, want %s", e.Kind, e.Payload, c.want)
		}
		if e.FlowID != someID || e.Actor != "kate" || !e.At.Equal(noon) || e.Seq != 0 {
			t.Errorf("%s: %+v", e.Kind, e)
		}
	}
}
