package flows_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"taskflow/internal/flows"
)

// pointers lists what Validate finds wrong, as JSON pointers.
func pointers(t *testing.T, a flows.Action) string {
	t.Helper()
	err := flows.Command{Owners: flows.Everyone, FlowID: someID, Action: a}.Validate()
	var invalid *flows.InvalidValue
	if err == nil || !errors.As(err, &invalid) {
		if err != nil {
			t.Errorf("%T: %v is no InvalidValue", a, err)
		}
		return ""
	}
	var list []string
	for _, f := range invalid.Fields {
		if f.Detail == "" || !strings.Contains(err.Error(), f.Detail) {
			t.Errorf("the error %q does not say %q", err, f.Detail)
		}
		list = append(list, f.Pointer)
	}
	return strings.Join(list, " ")
}

// long is n characters of more than a byte.
func long(n int) string { return strings.Repeat("é", n) }

func labels(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprint(i)] = ""
	}
	return m
}

func create(alter func(*flows.Create)) flows.Create {
	c := flows.Create{Mode: flows.Managed, ControllerID: "c", Goal: "g", OwnerSessionKey: "o"}
	alter(&c)
	return c
}

func step(alter func(*flows.ObserveStep)) flows.ObserveStep {
	s := flows.ObserveStep{RunID: "r", Task: "t", Status: flows.StepPending}
	alter(&s)
	return s
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		action flows.Action
		want   string
	}{
		{"least", create(func(*flows.Create) {}), ""},
		{"most", create(func(c *flows.Create) {
			c.ControllerID, c.OwnerSessionKey, c.RequesterOrigin, c.CurrentStep = long(256), long(256), long(256), long(256)
			c.Goal, c.Labels = long(4096), labels(31)
			c.Labels[long(63)] = long(255)
		}), ""},
		{"nothing", flows.Create{}, "/mode /controller_id /goal /owner_session_key"},
		{"too long", create(func(c *flows.Create) {
			c.ControllerID, c.OwnerSessionKey, c.RequesterOrigin, c.CurrentStep = long(257), long(257), long(257), long(257)
			c.Goal, c.Labels = long(4097), labels(33)
		}), "/controller_id /goal /owner_session_key /requester_origin /current_step /labels"},
		{"mode", create(func(c *flows.Create) { c.Mode = "Managed" }), "/mode"},
		{"no text", create(func(c *flows.Create) { c.Goal, c.ControllerID = "a\x00b", "\xff" }), "/controller_id /goal"},
		{"label key empty", create(func(c *flows.Create) { c.Labels = map[string]string{"": "v"} }), "/labels/"},
		{"label key long", create(func(c *flows.Create) { c.Labels = map[string]string{long(64): ""} }), "/labels/" + long(64)},
		{"label value", create(func(c *flows.Create) { c.Labels = map[string]string{"a/b~c": long(256)} }), "/labels/a~1b~0c"},
		{"start", flows.Start{}, ""},
		{"wait", flows.SetWait{Kind: flows.WaitManual, Details: json.RawMessage(` {}`)}, ""},
		{"wait of no kind", flows.SetWait{Details: json.RawMessage(`[]`)}, "/wait/kind /wait/details"},
		{"wait for a time", anyOf(specTimer(noon)), ""},
		{"wait for no time", flows.SetWait{Kind: flows.WaitTimer, Conditions: []flows.ConditionSpec{{Kind: flows.WaitTimer}}}, "/wait"},
		{"wait for two times at once", flows.SetWait{Kind: flows.WaitTimer, Conditions: []flows.ConditionSpec{{Kind: flows.WaitTimer,
			When: flows.When{At: ptr(noon), After: &flows.Period{}}}}}, "/wait"},
		{"wait for nothing", flows.SetWait{Kind: flows.WaitTimer}, "/wait"},
		{"wait for something else", flows.SetWait{Kind: flows.WaitTimer, Conditions: []flows.ConditionSpec{{Kind: flows.WaitManual}}}, "/wait"},
		{"two manual waits", flows.SetWait{Kind: flows.WaitManual, Conditions: []flows.ConditionSpec{{Kind: flows.WaitManual},
			{Kind: flows.WaitManual}}}, "/wait"},
		{"wait for an event", anyOf(specEvent(flows.Pair{Topic: long(256), CorrelationID: long(256)})), ""},
		{"wait for an event at length", anyOf(specEvent(flows.Pair{Topic: long(257)})), "/wait/topic /wait/correlation_id"},
		{"wait for a callback", anyOf(flows.ConditionSpec{Kind: flows.WaitCallback}), ""},
		{"wait for a signed callback", anyOf(flows.ConditionSpec{Kind: flows.WaitCallback,
			Verify: &flows.Verify{Scheme: "stripe", Header: "X", Secret: long(4096)}}), ""},
		{"wait for a badly signed callback", anyOf(flows.ConditionSpec{Kind: flows.WaitCallback,
			Verify: &flows.Verify{Scheme: "rot13", Header: long(257)}}), "/wait/verify/scheme /wait/verify/header /wait/verify/secret"},
		{"wait for any of one", flows.SetWait{Kind: flows.WaitAnyOf, Conditions: []flows.ConditionSpec{{Kind: flows.WaitManual}}},
			"/wait/conditions"},
		{"wait for any of sixteen", flows.SetWait{Kind: flows.WaitAnyOf, Conditions: slices.Repeat([]flows.ConditionSpec{specTimer(noon)}, 16)}, ""},
		{"wait for any of seventeen", flows.SetWait{Kind: flows.WaitAnyOf, Conditions: slices.Repeat([]flows.ConditionSpec{specTimer(noon)}, 17)},
			"/wait/conditions"},
		{"wait for any of what is not", anyOf(flows.ConditionSpec{Kind: flows.WaitAnyOf}, flows.ConditionSpec{}, flows.ConditionSpec{Kind: flows.WaitTimer},
			specEvent(flows.Pair{Topic: "t"})), "/wait/conditions/0/kind /wait/conditions/1/kind /wait/conditions/2 /wait/conditions/3/correlation_id"},
		{"wait with a timeout", flows.SetWait{Kind: flows.WaitManual, Timeout: &flows.TimeoutSpec{When: flows.When{After: &flows.Period{Days: 1}},
			Then: flows.TimeoutResumes, Patch: json.RawMessage(`null`)}}, ""},
		{"wait with no timeout", flows.SetWait{Kind: flows.WaitManual, Timeout: &flows.TimeoutSpec{}}, "/wait/timeout /wait/timeout/on_timeout"},
		{"timeout that fails with a patch", flows.SetWait{Kind: flows.WaitManual, Timeout: &flows.TimeoutSpec{When: flows.When{At: ptr(noon)},
			Then: flows.TimeoutFails, Patch: json.RawMessage(`{}`)}}, "/wait/timeout/state_patch"},
		{"fire", flows.FireDue{}, ""},
		{"end by event", flows.EndByEvent{Event: arrival(1, payment)}, ""},
		{"end by callback", flows.EndByCallback{}, ""},
		{"wait with null", flows.SetWait{Kind: flows.WaitManual, Details: json.RawMessage(`null`)}, "/wait/details"},
		{"fail", flows.Fail{Reason: long(4096)}, ""},
		{"fail without reason", flows.Fail{}, "/reason"},
		{"fail at length", flows.Fail{Reason: long(4097)}, "/reason"},
		{"cancel", flows.Cancel{Reason: ptr("")}, ""},
		{"cancel at length", flows.Cancel{Reason: ptr(long(4097))}, "/reason"},
		{"request-cancel at length", flows.RequestCancel{Reason: ptr(long(4097))}, "/reason"},
		{"state", flows.UpdateState{CurrentStep: ptr(long(256)), Goal: ptr(long(4096)),
			Labels: map[string]*string{"gone": nil}}, ""},
		{"state with empty texts", flows.UpdateState{CurrentStep: ptr(""), Goal: ptr("")}, "/current_step /goal"},
		{"state with bad label", flows.UpdateState{Labels: map[string]*string{"": nil}}, "/labels/"},
		{"step", step(func(s *flows.ObserveStep) { s.RunID, s.Task, s.Runtime = long(256), long(4096), ptr(flows.Mirrored) }), ""},
		{"no step", flows.ObserveStep{}, "/run_id /task /status"},
		{"step at length", step(func(s *flows.ObserveStep) {
			s.RunID, s.Task, s.Runtime = long(257), long(4097), ptr(flows.Mode("other"))
			s.Status, s.ChildSessionKey = "done", flows.OptionalString{Set: true, Value: ptr("")}
		}), "/run_id /task /status /runtime /child_session_key"},
		{"erase", flows.Erase{}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := pointers(t, c.action); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestTooManyLabels counts what an update leaves, not what it names.
func TestTooManyLabels(t *testing.T) {
	f := flowIn(flows.Running, false)
	f.Labels = labels(32)
	for name, c := range map[string]struct {
		set  map[string]*string
		fits bool
	}{
		"one more":         {map[string]*string{"new": ptr("")}, false},
		"one for another":  {map[string]*string{"new": ptr(""), "0": nil}, true},
		"a recorded one":   {map[string]*string{"0": ptr("new value")}, true},
		"removing unknown": {map[string]*string{"unknown": nil}, true},
	} {
		_, err := flows.Decide(flows.Subject{Flow: f}, flows.Command{Owners: flows.Everyone, FlowID: someID, Action: flows.UpdateState{Labels: c.set}}, noon)
		var invalid *flows.InvalidValue
		if c.fits != (err == nil) || err != nil && (!errors.As(err, &invalid) || invalid.Fields[0].Pointer != "/labels") {
			t.Errorf("%s: %v", name, err)
		}
		if len(f.Labels) != 32 || f.Labels["0"] != "" {
			t.Errorf("%s: the recorded labels were altered", name)
		}
	}
}
