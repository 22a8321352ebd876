package storetest

import (
	"fmt"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

// member is one flow of the population that lists are tested on. Its goal begins with its letter.
type member struct {
	letter, goal, owner, controller string
	mode                            flows.Mode
	labels                          map[string]string
	created                         int // seconds
	moves                           []flows.Action
}

// members have ties in their creation times (their ids fall as they rise), names that are prefixes of each other or
// differ in case, and characters that are wildcards in SQL. They are created first, in order, and then move in order.
func members() []member {
	start, wait := flows.Start{}, flows.SetWait{Kind: flows.WaitManual}
	timer := flows.ConditionSpec{Kind: flows.WaitTimer, When: flows.When{At: pointer(farAway)}}
	long := flows.SetWait{Kind: flows.WaitTimer, Conditions: []flows.ConditionSpec{timer}}
	either := flows.SetWait{Kind: flows.WaitAnyOf, Conditions: []flows.ConditionSpec{timer, {Kind: flows.WaitExternalEvent,
		Pair: flows.Pair{Topic: "payment", CorrelationID: "order-7"}}}}
	env := func(value string) map[string]string { return map[string]string{"env": value} }
	return []member{
		{"a", "sort mail", "agent:a", "c1", flows.Managed, env("prod"), 0, nil},
		{"b", "sort mail", "agent:a", "c1", flows.Managed, map[string]string{"env": "prod", "team": "x"}, 0,
			[]flows.Action{start}},
		{"c", "SORT mail", "agent:a", "c2", flows.Managed, env("dev"), 0, []flows.Action{start, wait}},
		{"d", "observe 100%", "agent:b", "c2", flows.Mirrored, map[string]string{"team": "x"}, 1, nil},
		{"e", "under_score", "agent:b", "c1", flows.Managed, nil, 2, []flows.Action{start, flows.Finish{}}},
		{"f", "underXscore", "agent:b", "C1", flows.Managed, env("prod"), 3, []flows.Action{start, flows.Fail{Reason: "no"}}},
		{"g", `back\slash`, "agent:a:sub", "c3", flows.Mirrored, map[string]string{"team": "y"}, 3,
			[]flows.Action{flows.Cancel{}}},
		{"h", "é 漢字 mail", "agent:a", "c3", flows.Managed, map[string]string{"env": "prod", "team": "y"}, 4,
			[]flows.Action{start, flows.RequestCancel{}}},
		{"i", "observe 100", "agent:c", "c1", flows.Managed, env(""), 5, []flows.Action{start, long}},
		{"j", "mail", "agent:c", "c2", flows.Managed, env("prod"), 6, nil},
		{"k", "drain", "agent:c", "c2", flows.Managed, nil, 6, []flows.Action{start,
			flows.ObserveStep{StepID: stepID(1), RunID: "r", Task: "t", Status: flows.StepRunning}, flows.RequestCancel{},
			flows.ObserveStep{StepID: stepID(2), RunID: "r", Task: "t", Status: flows.StepSucceeded}}},
		{"l", "observed", "agent:c", "c2", flows.Managed, nil, 7, []flows.Action{start, either,
			flows.ObserveStep{StepID: stepID(3), RunID: "r", Task: "t", Status: flows.StepRunning}}},
	}
}

// farAway is a time that no clock reaches while the suite runs.
var farAway = time.Date(2200, 1, 2, 3, 4, 5, 6000, time.UTC)

// population makes the members in a store. The n-th move is made 100+n seconds after epoch; the first member observes a
// step last, which is no change of the flow and moves it in no order.
func population(t *testing.T, s store.Store) {
	t.Helper()
	run := func(now int, c flows.Command) {
		t.Helper()
		refusals, err := apply(t.Context(), s, at(now), c)
		if err != nil || refusals[0] != nil {
			t.Fatalf("%T of %s: %v, %v", c.Action, c.FlowID, err, refusals)
		}
	}
	for n, m := range members() {
		run(m.created, flows.Command{Owners: flows.Everyone, FlowID: flowID(n), Actor: "tester", Action: flows.Create{Mode: m.mode,
			ControllerID: m.controller, Goal: m.letter + " " + m.goal, OwnerSessionKey: m.owner, Labels: m.labels,
			State: []byte(fmt.Sprintf(`{"n":%d}`, n))}})
	}
	now := 100
	for n, m := range members() {
		for _, move := range m.moves {
			run(now, flows.Command{Owners: flows.Everyone, FlowID: flowID(n), Actor: "tester", Action: move})
			now++
		}
	}
	run(now, stepCommand(flowID(0), 9, "r", flows.StepPending))
}

// fill creates n plain flows, each altered by alter, in Updates with more values than a statement has parameters.
func fill(t *testing.T, s store.Store, n int, alter func(n int, f *flows.Flow)) {
	t.Helper()
	var chunk []*flows.Flow
	for i := range n {
		f := newFlow(i)
		alter(i, f)
		if chunk = append(chunk, f); len(chunk) == 4000 || i == n-1 {
			create(t, s, chunk...)
			chunk = nil
		}
	}
}

// letters lists members by their letters.
func letters(list []*flows.Flow) string {
	var out string
	for _, f := range list {
		out += f.Goal[:1]
	}
	return out
}
