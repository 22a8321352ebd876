package flows_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"taskflow/internal/flows"

	"github.com/google/uuid"
)

var (
	someID = uuid.MustParse("0196f000-0000-7000-8000-000000000001")
	stepA  = uuid.MustParse("0196f000-0000-7000-8000-00000000000a")
	noon   = time.Date(2026, 4, 23, 12, 0, 0, 0, time.UTC)
)

func ptr[T any](v T) *T { return &v }

// flowIn is a flow of revision 5 in a status, as commands would have left it.
func flowIn(status flows.Status, cancelRequested bool) *flows.Flow {
	f := &flows.Flow{
		ID: someID, Mode: flows.Managed, ControllerID: "kate", Goal: "sort mail", OwnerSessionKey: "agent:kate",
		CurrentStep: "init", State: json.RawMessage(`{"a":1}`), Status: status, CancelRequested: cancelRequested,
		Revision: 5, Labels: map[string]string{"env": "prod"}, CreatedAt: noon, UpdatedAt: noon,
	}
	if status == flows.Waiting {
		f.Wait = &flows.Wait{Kind: flows.WaitAnyOf, Generation: 5, Since: noon, CallbackKey: "key-1", Conditions: []flows.Condition{
			{Kind: flows.WaitTimer, At: noon},
			{Kind: flows.WaitExternalEvent, Pair: flows.Pair{Topic: "t", CorrelationID: "c"}}, {Kind: flows.WaitCallback}}}
	}
	if status.Terminal() {
		f.EndedAt = ptr(noon)
	}
	return f
}

// actions is every command, with values that are allowed.
func actions() map[string]flows.Action {
	return map[string]flows.Action{
		"create":         flows.Create{Mode: flows.Managed, ControllerID: "kate", Goal: "sort mail", OwnerSessionKey: "agent:kate"},
		"start":          flows.Start{},
		"wait":           flows.SetWait{Kind: flows.WaitManual},
		"resume":         flows.Resume{Patch: json.RawMessage(`{"b":2}`)},
		"finish":         flows.Finish{FinalState: json.RawMessage(`{"b":2}`)},
		"fail":           flows.Fail{Reason: "no"},
		"request-cancel": flows.RequestCancel{Reason: ptr("enough")},
		"cancel":         flows.Cancel{Reason: ptr("enough")},
		"state":          flows.UpdateState{Patch: json.RawMessage(`{"b":2}`)},
		"fire":           flows.FireDue{Generation: 5},
		"event":          flows.EndByEvent{Event: &flows.ExternalEvent{Owners: flows.Everyone, ID: stepA, Pair: flows.Pair{Topic: "t", CorrelationID: "c"}}},
		"callback":       flows.EndByCallback{Generation: 5, Condition: 2, Key: "key-1"},
		"step":           flows.ObserveStep{StepID: stepA, RunID: "r", Task: "t", Status: flows.StepRunning},
		"erase":          flows.Erase{},
	}
}

// outcomes writes the contract out: for each status, without and with a requested cancel, what becomes of each command.
// A success is the status afterwards and the events' kinds; "-" is a success that changes nothing; the rest are refusals.
const outcomes = `
                     create  start            wait            resume           finish            fail            request-cancel                        cancel                state                  step                   erase               fire            event           callback
created              exists  running:started  illegal         illegal          illegal           illegal         cancelled:cancel_requested,cancelled  cancelled:cancelled   created:state_updated  created:step_observed  not-terminal          not-waiting     not-waiting     wait-ended
running              exists  illegal          waiting:waiting illegal          finished:finished failed:failed   running:cancel_requested              cancelled:cancelled   running:state_updated  running:step_observed  not-terminal          not-waiting     not-waiting     wait-ended
waiting              exists  illegal          illegal         running:resumed  illegal           failed:failed   cancelled:cancel_requested,cancelled  cancelled:cancelled   waiting:state_updated  waiting:step_observed  not-terminal          running:resumed running:resumed running:resumed
finished             exists  terminal         terminal        terminal         terminal          terminal        -                                     terminal              terminal               finished:step_observed erased          not-waiting     not-waiting     wait-ended
failed               exists  terminal         terminal        terminal         terminal          terminal        -                                     terminal              terminal               failed:step_observed   erased          not-waiting     not-waiting     wait-ended
cancelled            exists  terminal         terminal        terminal         terminal          terminal        -                                     terminal              terminal               cancelled:step_observed erased          not-waiting     not-waiting     wait-ended
created+cancel       exists  pending          pending         pending          pending           pending         -                                     cancelled:cancelled   pending                created:step_observed  not-terminal          not-waiting     not-waiting     wait-ended
running+cancel       exists  pending          pending         pending          pending           pending         -                                     cancelled:cancelled   pending                running:step_observed  not-terminal          not-waiting     not-waiting     wait-ended
waiting+cancel       exists  pending          pending         pending          pending           pending         -                                     cancelled:cancelled   pending                waiting:step_observed  not-terminal          pending         pending         pending
finished+cancel      exists  terminal         terminal        terminal         terminal          terminal        -                                     terminal              terminal               finished:step_observed erased          not-waiting     not-waiting     wait-ended
failed+cancel        exists  terminal         terminal        terminal         terminal          terminal        -                                     terminal              terminal               failed:step_observed   erased          not-waiting     not-waiting     wait-ended
cancelled+cancel     exists  terminal         terminal        terminal         terminal          terminal        -                                     terminal              terminal               cancelled:step_observed erased          not-waiting     not-waiting     wait-ended
`

// eachOutcome calls fn for every pair of a flow and a command.
func eachOutcome(t *testing.T, fn func(t *testing.T, f *flows.Flow, action flows.Action, want string)) {
	rows := strings.Split(strings.TrimSpace(outcomes), "\n")
	names := strings.Fields(rows[0])
	if len(names) != len(actions()) || len(rows) != 1+2*len(flows.Statuses) {
		t.Fatalf("the table has %d commands and %d rows", len(names), len(rows)-1)
	}
	for _, row := range rows[1:] {
		cells := strings.Fields(row)
		status, flag, _ := strings.Cut(cells[0], "+")
		for i, name := range names {
			action, known := actions()[name]
			if !known {
				t.Fatalf("no command %q", name)
			}
			t.Run(cells[0]+"/"+name, func(t *testing.T) {
				fn(t, flowIn(flows.Status(status), flag == "cancel"), action, cells[i+1])
			})
		}
	}
}

// outcome writes what Decide answered as the table does.
func outcome(c flows.Change, err error) string {
	var conflict *flows.RevisionConflict
	var terminal *flows.AlreadyTerminal
	var illegal *flows.IllegalTransition
	var invalid *flows.InvalidValue
	switch {
	case errors.Is(err, flows.ErrNotFound):
		return "not-found"
	case errors.Is(err, flows.ErrAlreadyExists):
		return "exists"
	case errors.As(err, &conflict):
		return "conflict"
	case errors.As(err, &terminal):
		return "terminal"
	case errors.Is(err, flows.ErrCancelPending):
		return "pending"
	case errors.As(err, &illegal):
		return "illegal"
	case errors.Is(err, flows.ErrNotTerminal):
		return "not-terminal"
	case errors.Is(err, flows.ErrStateTooLarge):
		return "too-large"
	case errors.Is(err, flows.ErrNotWaiting):
		return "not-waiting"
	case errors.Is(err, flows.ErrWaitEnded):
		return "wait-ended"
	case errors.Is(err, flows.ErrUnverified):
		return "unverified"
	case errors.As(err, &invalid):
		return "invalid"
	case err != nil:
		return err.Error()
	case c.Erased:
		return "erased"
	case len(c.Events) == 0:
		return "-"
	}
	return string(c.Flow.Status) + ":" + kinds(c)
}

func kinds(c flows.Change) string {
	list := make([]string, len(c.Events))
	for i, e := range c.Events {
		list[i] = string(e.Kind)
	}
	return strings.Join(list, ",")
}

func TestEveryStatusAndCommand(t *testing.T) {
	eachOutcome(t, func(t *testing.T, f *flows.Flow, action flows.Action, want string) {
		c := flows.Command{Owners: flows.Everyone, FlowID: someID, Actor: "kate", Action: action}
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		change, err := flows.Decide(flows.Subject{Flow: f}, c, noon.Add(time.Second))
		if got := outcome(change, err); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		checkErrors(t, f, action, err)
		if err != nil && !reflect.DeepEqual(change, flows.Change{}) {
			t.Errorf("a refusal holds a change: %+v", change)
		}
		if want == "-" && (change.Updated || change.Created || change.Erased || !reflect.DeepEqual(change.Flow, f)) {
			t.Errorf("nothing should have changed: %+v", change)
		}
	})
}

// checkErrors checks what the typed refusals carry.
func checkErrors(t *testing.T, f *flows.Flow, action flows.Action, err error) {
	t.Helper()
	var terminal *flows.AlreadyTerminal
	if errors.As(err, &terminal) && terminal.Status != f.Status {
		t.Errorf("AlreadyTerminal says %s of a flow that is %s", terminal.Status, f.Status)
	}
	targets := map[string]flows.Status{"flows.Start": flows.Running, "flows.SetWait": flows.Waiting,
		"flows.Resume": flows.Running, "flows.FireDue": flows.Running, "flows.EndByEvent": flows.Running,
		"flows.EndByCallback": flows.Running, "flows.Finish": flows.Finished, "flows.Fail": flows.Failed,
		"flows.Cancel": flows.Cancelled}
	var illegal *flows.IllegalTransition
	if errors.As(err, &illegal) && (illegal.From != f.Status || illegal.To != targets[fmt.Sprintf("%T", action)]) {
		t.Errorf("IllegalTransition says %s to %s for %T of a flow that is %s", illegal.From, illegal.To, action, f.Status)
	}
}

// TestCheckOrder lets several checks fail at once: not found, then revision conflict, then the flow's own refusals.
func TestCheckOrder(t *testing.T) {
	eachOutcome(t, func(t *testing.T, f *flows.Flow, action flows.Action, want string) {
		c := flows.Command{Owners: flows.Everyone, FlowID: someID, Action: action, IfRevision: ptr(int64(4))}
		_, creates := action.(flows.Create)
		change, err := flows.Decide(flows.Subject{}, c, noon)
		if got := outcome(change, err); got != "not-found" && !creates {
			t.Errorf("no flow: %s", got)
		}
		change, err = flows.Decide(flows.Subject{Flow: f}, c, noon)
		if got := outcome(change, err); got != "conflict" && !creates {
			t.Errorf("another revision: %s", got)
		}
		var conflict *flows.RevisionConflict
		if errors.As(err, &conflict) && (conflict.Expected != 4 || conflict.Flow != f) {
			t.Errorf("the conflict is %+v", conflict)
		}
		c.IfRevision = ptr(int64(5))
		if change, err = flows.Decide(flows.Subject{Flow: f}, c, noon); outcome(change, err) != want {
			t.Errorf("the same revision: %s, want %s", outcome(change, err), want)
		}
	})
}

// TestStateTooLargeComesLast holds that the limit refuses only what nothing else refuses.
func TestStateTooLargeComesLast(t *testing.T) {
	merging := map[string]bool{"flows.Resume": true, "flows.Finish": true, "flows.UpdateState": true}
	eachOutcome(t, func(t *testing.T, f *flows.Flow, action flows.Action, want string) {
		c := flows.Command{Owners: flows.Everyone, FlowID: someID, Action: action, MaxState: len(`{"a":1,"b":2}`) - 1}
		if merging[fmt.Sprintf("%T", action)] && strings.Contains(want, ":") {
			want = "too-large"
		}
		change, err := flows.Decide(flows.Subject{Flow: f}, c, noon)
		if got := outcome(change, err); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		c.MaxState++
		change, err = flows.Decide(flows.Subject{Flow: f}, c, noon)
		if got := outcome(change, err); got == "too-large" {
			t.Error("a state that just fits is too large")
		}
	})
}

func TestCreateOverTheLimit(t *testing.T) {
	c := flows.Command{Owners: flows.Everyone, FlowID: someID, MaxState: 6, Action: flows.Create{Mode: flows.Managed, State: json.RawMessage(`{"a":1}`)}}
	if _, err := flows.Decide(flows.Subject{}, c, noon); !errors.Is(err, flows.ErrStateTooLarge) {
		t.Errorf("Decide = %v, want ErrStateTooLarge", err)
	}
}

// TestRequestCancelInFlight has each way in which a flow's steps may stand when its cancel is requested.
func TestRequestCancelInFlight(t *testing.T) {
	for _, c := range []struct {
		status        flows.Status
		total, active int
		want          string
	}{
		{flows.Running, 0, 0, "running:cancel_requested"}, // nothing is known of its work
		{flows.Running, 1, 1, "running:cancel_requested"},
		{flows.Running, 3, 1, "running:cancel_requested"},
		{flows.Running, 3, 0, "cancelled:cancel_requested,cancelled"},
		{flows.Waiting, 3, 1, "cancelled:cancel_requested,cancelled"},
		{flows.Created, 3, 1, "cancelled:cancel_requested,cancelled"},
	} {
		f := flowIn(c.status, false)
		f.StepsTotal, f.StepsActive = c.total, c.active
		change, err := flows.Decide(flows.Subject{Flow: f}, flows.Command{Owners: flows.Everyone, FlowID: someID,
			Action: flows.RequestCancel{Reason: ptr("enough")}}, noon)
		if got := outcome(change, err); got != c.want {
			t.Errorf("%s with %d steps, %d active: %s, want %s", c.status, c.total, c.active, got, c.want)
		}
		if !change.Flow.CancelRequested || change.Flow.Revision != 5+int64(len(change.Events)) {
			t.Errorf("cancel requested %v, revision %d", change.Flow.CancelRequested, change.Flow.Revision)
		}
		for _, e := range change.Events {
			if string(e.Payload) != `{"reason":"enough"}` {
				t.Errorf("%s %s", e.Kind, e.Payload)
			}
		}
	}
}

// TestDrain ends steps of a flow whose cancel was requested.
func TestDrain(t *testing.T) {
	for _, c := range []struct {
		status        flows.Status
		cancel        bool
		total, active int
		recorded, now flows.StepStatus // recorded "" is a new step
		want          string
	}{
		{flows.Running, true, 2, 1, flows.StepRunning, flows.StepSucceeded, "cancelled:step_observed,cancelled"},
		{flows.Running, true, 2, 1, flows.StepPending, flows.StepCancelled, "cancelled:step_observed,cancelled"},
		{flows.Running, true, 2, 2, flows.StepRunning, flows.StepFailed, "running:step_observed"},
		{flows.Running, true, 2, 1, flows.StepPending, flows.StepRunning, "running:step_observed"},
		{flows.Running, true, 0, 0, "", flows.StepSucceeded, "cancelled:step_observed,cancelled"},
		{flows.Running, true, 0, 0, "", flows.StepPending, "running:step_observed"},
		{flows.Running, true, 2, 1, "", flows.StepSucceeded, "running:step_observed"},
		{flows.Running, false, 2, 1, flows.StepRunning, flows.StepSucceeded, "running:step_observed"},
		{flows.Cancelled, true, 2, 1, flows.StepRunning, flows.StepSucceeded, "cancelled:step_observed"},
		{flows.Finished, false, 2, 1, flows.StepRunning, flows.StepSucceeded, "finished:step_observed"},
	} {
		s := flows.Subject{Flow: flowIn(c.status, c.cancel)}
		s.Flow.StepsTotal, s.Flow.StepsActive = c.total, c.active
		if c.recorded != "" {
			s.Step = &flows.Step{ID: stepA, FlowID: someID, RunID: "r", Status: c.recorded, ObservedAt: noon, UpdatedAt: noon}
		}
		change, err := flows.Decide(s, flows.Command{Owners: flows.Everyone, FlowID: someID, Action: flows.ObserveStep{RunID: "r", Task: "t",
			Status: c.now}}, noon)
		if got := outcome(change, err); got != c.want {
			t.Errorf("%+v: %s", c, got)
			continue
		}
		if change.Events[0].Revision != 5 || change.Flow.Revision != 5+int64(len(change.Events))-1 {
			t.Errorf("%+v: step_observed has revision %d, the flow %d", c, change.Events[0].Revision, change.Flow.Revision)
		}
	}
}
