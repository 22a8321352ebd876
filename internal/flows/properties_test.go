package flows_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"taskflow/internal/flows"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// TestProperties runs random commands on one flow, with a clock that may run backwards, and checks after each what must
// hold for every history.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := &life{T: t, clock: noon, steps: map[string]*flows.Step{}, kept: map[uuid.UUID]*flows.ExternalEvent{}}
		for range rapid.IntRange(5, 60).Draw(t, "commands") {
			l.clock = l.clock.Add(time.Duration(rapid.IntRange(-3, 6).Draw(t, "clock")) * time.Second)
			if draw(l, "arrives", false, false, false, true) {
				l.arrive()
			}
			l.do(flows.Command{Owners: flows.Everyone, FlowID: someID, Actor: "kate", IfRevision: l.ifRevision(),
				MaxState: rapid.SampledFrom([]int{0, 0, 60}).Draw(t, "max"), Action: l.action()})
		}
	})
}

// life is the history of one flow: what is recorded of it, and its whole trail.
type life struct {
	*rapid.T
	clock time.Time
	flow  *flows.Flow
	steps map[string]*flows.Step
	trail []flows.Event
	made  byte // steps
	// kept are the external events that arrived, as they are recorded.
	kept    map[uuid.UUID]*flows.ExternalEvent
	arrived byte
}

func draw[T any](l *life, what string, from ...T) T { return rapid.SampledFrom(from).Draw(l.T, what) }

func (l *life) ifRevision() *int64 {
	if l.flow == nil || draw(l, "if", false, false, true) {
		return nil
	}
	return ptr(l.flow.Revision - int64(draw(l, "behind", 0, 0, 0, 1)))
}

func (l *life) json() json.RawMessage {
	return draw(l, "json", nil, json.RawMessage(`null`), json.RawMessage(`{"a":1.10}`), json.RawMessage(`{"b":[{}],"a":null}`),
		json.RawMessage(`["]"]`), json.RawMessage(`12345678901234567890`))
}

// status is the flow's, "" where there is none.
func (l *life) status() flows.Status {
	if l.flow == nil {
		return ""
	}
	return l.flow.Status
}

// action is mostly one that the flow's status allows, so that lives get on.
func (l *life) action() flows.Action {
	anything := []string{"update", "step", "finish", "fail", "request", "cancel", "erase", "create", "start", "wait", "resume", "fire",
		"event", "callback"}
	likely := map[flows.Status][]string{"": {"create"}, flows.Created: {"start"}, flows.Running: {"wait", "wait", "step"},
		flows.Waiting: {"fire", "event", "callback", "resume"}}[l.status()]
	if len(likely) == 0 || draw(l, "anything", false, true) {
		likely = anything
	}
	switch draw(l, "action", likely...) {
	case "create":
		return flows.Create{Mode: draw(l, "mode", flows.Managed, flows.Mirrored), ControllerID: "kate", Goal: "sort mail",
			OwnerSessionKey: "agent:kate", State: l.json(), Labels: draw(l, "labels", nil, map[string]string{"env": "prod"})}
	case "start":
		return flows.Start{}
	case "wait":
		return l.wait()
	case "fire":
		return flows.FireDue{Generation: l.generation()}
	case "event":
		return flows.EndByEvent{Event: l.event()}
	case "callback":
		return flows.EndByCallback{Generation: l.generation(), Condition: draw(l, "condition", 0, 1, 2, 3), Key: draw(l, "key", "key-1", "key-1", "key-2"),
			Verified: draw(l, "verified", true, false), Rejected: draw(l, "rejected", false, true), Payload: l.json()}
	case "resume":
		return flows.Resume{Patch: l.json()}
	case "finish":
		return flows.Finish{FinalState: l.json()}
	case "fail":
		return flows.Fail{Reason: "no"}
	case "request":
		return flows.RequestCancel{Reason: draw(l, "reason", nil, ptr("enough"))}
	case "cancel":
		return flows.Cancel{Reason: draw(l, "reason", nil, ptr("enough"))}
	case "update":
		return flows.UpdateState{Patch: l.json(), CurrentStep: draw(l, "next", nil, ptr("collect")),
			Labels: draw(l, "labels", nil, map[string]*string{"env": nil, "a": ptr("b")}, map[string]*string{"env": ptr("dev")})}
	case "erase":
		return flows.Erase{}
	}
	l.made++
	a := flows.ObserveStep{StepID: uuid.UUID{15: l.made}, RunID: draw(l, "run", "a", "b", "c"), Task: "t",
		Status: draw(l, "status", flows.StepStatuses...), Runtime: draw(l, "runtime", nil, ptr(flows.Mirrored)), Result: l.json()}
	if draw(l, "observed", false, true) {
		a.ObservedAt = ptr(l.clock.Add(time.Duration(draw(l, "lag", -8, -1, 0, 1)) * time.Second))
	}
	return a
}

// do decides one command and checks what came of it.
func (l *life) do(c flows.Command) {
	s := flows.Subject{Flow: l.flow, Buffered: l.buffered(c.Awaits())}
	run, observes := c.Needs()
	if observes {
		s.Step = l.steps[run]
	}
	before, commandBefore := copyOf(s), fmt.Sprintf("%#v", c)
	change, err := flows.Decide(s, c, l.clock)
	if !reflect.DeepEqual(s, before) || fmt.Sprintf("%#v", c) != commandBefore {
		l.Fatalf("%T altered its input", c.Action)
	}
	again, errAgain := flows.Decide(copyOf(s), c, l.clock)
	if !reflect.DeepEqual(change, again) || fmt.Sprint(err) != fmt.Sprint(errAgain) {
		l.Fatalf("%T decides otherwise the second time", c.Action)
	}
	if err != nil {
		if !reflect.DeepEqual(change, flows.Change{}) {
			l.Fatalf("%T was refused with %v and a change", c.Action, err)
		}
		return
	}
	l.checkChange(s, c, change)
	l.checkEndings(s, c, change)
	if !reflect.DeepEqual(s, before) {
		l.Fatalf("%T altered its input", c.Action)
	}
	if change.Consumed != nil {
		l.kept[change.Consumed.ID] = change.Consumed
	}
	if change.Erased {
		l.flow, l.steps, l.trail = nil, map[string]*flows.Step{}, nil
		return
	}
	l.flow, l.trail = change.Flow, append(l.trail, change.Events...)
	if change.Step != nil {
		l.steps[run] = change.Step
	}
	l.checkTrail()
	l.checkSteps()
	l.checkFlow()
}

// copyOf shares nothing with s that a decision might alter.
func copyOf(s flows.Subject) flows.Subject {
	if s.Flow != nil {
		f := *s.Flow
		f.Labels = maps.Clone(f.Labels)
		f.State = append(json.RawMessage(nil), f.State...)
		if f.Wait != nil {
			f.Wait = ptr(*f.Wait)
		}
		if f.EndedAt != nil {
			f.EndedAt = ptr(*f.EndedAt)
		}
		s.Flow = &f
	}
	if s.Step != nil {
		s.Step = ptr(*s.Step)
	}
	buffered := s.Buffered
	s.Buffered = nil
	for _, e := range buffered {
		s.Buffered = append(s.Buffered, ptr(*e))
	}
	return s
}

// checkChange checks one change against what was there before.
func (l *life) checkChange(s flows.Subject, c flows.Command, change flows.Change) {
	old, f := s.Flow, change.Flow
	if change.Created && (change.Updated || change.Erased) || change.Updated && change.Erased {
		l.Fatalf("%T does two things to the row: %+v", c.Action, change)
	}
	if change.Created != (old == nil) {
		l.Fatalf("%T creates: %v", c.Action, change.Created)
	}
	if old == nil || change.Erased {
		return
	}
	switch {
	case !change.Updated && !reflect.DeepEqual(old, f):
		l.Fatalf("%T changed the flow and does not say so:\n%+v\n%+v", c.Action, old, f)
	case old.Status.Terminal() && (f.Status != old.Status || f.Revision != old.Revision || string(f.State) != string(old.State) ||
		!f.UpdatedAt.Equal(old.UpdatedAt) || !f.EndedAt.Equal(*old.EndedAt)):
		l.Fatalf("%T changed a flow that had ended:\n%+v\n%+v", c.Action, old, f)
	case old.CancelRequested && !f.CancelRequested:
		l.Fatalf("%T took the cancel intent back", c.Action)
	case f.UpdatedAt.Before(old.UpdatedAt) || !f.CreatedAt.Equal(old.CreatedAt):
		l.Fatalf("%T let the flow's times run backwards", c.Action)
	case f.ID != old.ID || f.Mode != old.Mode || f.ControllerID != old.ControllerID || f.OwnerSessionKey != old.OwnerSessionKey:
		l.Fatalf("%T changed what never changes", c.Action)
	}
	if status := old.Status; f.Status != status {
		for _, e := range change.Events {
			status = l.follow(status, e)
		}
		if status != f.Status {
			l.Fatalf("%T: the events lead to %s, the flow is %s", c.Action, status, f.Status)
		}
	}
}

// follow is the status after an event; what the table does not list is fatal.
func (l *life) follow(from flows.Status, e flows.Event) flows.Status {
	verbs := map[flows.EventKind]flows.Verb{flows.EventStarted: flows.VerbStart, flows.EventWaiting: flows.VerbWait,
		flows.EventResumed: flows.VerbResume, flows.EventFinished: flows.VerbFinish, flows.EventFailed: flows.VerbFail,
		flows.EventCancelled: flows.VerbCancel}
	verb, moves := verbs[e.Kind]
	if !moves {
		return from
	}
	for _, t := range flows.Transitions {
		if t.From == from && t.Verb == verb {
			return t.To
		}
	}
	l.Fatalf("the trail has %s of a flow that was %s", e.Kind, from)
	return ""
}

// checkTrail tells the flow's life from its trail alone.
func (l *life) checkTrail() {
	var status flows.Status
	var cancel bool
	var revision int64
	var wait, ended *flows.Event
	for i, e := range l.trail {
		if (i == 0) != (e.Kind == flows.EventCreated) {
			l.Fatalf("event %d is %s", i, e.Kind)
		}
		if e.Kind == flows.EventCreated {
			status = flows.Created
			continue
		}
		if e.Kind != flows.EventStepObserved {
			revision++
		}
		if e.Revision != revision {
			l.Fatalf("event %d, %s, has revision %d, want %d", i, e.Kind, e.Revision, revision)
		}
		if wait != nil && status != flows.Waiting {
			l.Fatalf("the wait of revision %d ended twice", wait.Revision)
		}
		next := l.follow(status, e)
		if next == flows.Waiting && status != flows.Waiting {
			wait = &e
		} else if next != flows.Waiting {
			wait = nil
		}
		if next.Terminal() && !status.Terminal() {
			ended = &e
		}
		status, cancel = next, cancel || e.Kind == flows.EventCancelRequested
	}
	f := l.flow
	if f.Status != status || f.CancelRequested != cancel || f.Revision != revision {
		l.Fatalf("the trail says %s, cancel %v, revision %d; the flow is %s, %v, %d", status, cancel, revision,
			f.Status, f.CancelRequested, f.Revision)
	}
	if (f.Wait != nil) != (wait != nil) || f.Wait != nil && (f.Wait.Generation != wait.Revision || !f.Wait.Since.Equal(wait.At)) {
		l.Fatalf("the flow waits for %+v, its trail has %+v", f.Wait, wait)
	}
	if (f.EndedAt != nil) != (ended != nil) || ended != nil && !f.EndedAt.Equal(ended.At) {
		l.Fatalf("the flow ended at %v, its trail has %+v", f.EndedAt, ended)
	}
}

// checkSteps counts the steps anew.
func (l *life) checkSteps() {
	active := 0
	for run, s := range l.steps {
		if s.Status.Active() {
			active++
		}
		if s.RunID != run || s.FlowID != someID || s.UpdatedAt.Before(s.CreatedAt) || len(s.Result) == 0 {
			l.Fatalf("step %q is %+v", run, s)
		}
	}
	if l.flow.StepsTotal != len(l.steps) || l.flow.StepsActive != active {
		l.Fatalf("the flow counts %d steps, %d active; there are %d, %d active", l.flow.StepsTotal, l.flow.StepsActive,
			len(l.steps), active)
	}
	if l.flow.Status == flows.Running && l.flow.CancelRequested && len(l.steps) > 0 && active == 0 {
		l.Fatalf("the flow has drained and is not cancelled")
	}
}

func (l *life) checkFlow() {
	f := l.flow
	if !json.Valid(f.State) {
		l.Fatalf("the state is no JSON: %s", f.State)
	}
	for _, at := range []time.Time{f.CreatedAt, f.UpdatedAt} {
		if at.Location() != time.UTC || at.Nanosecond()%1000 != 0 {
			l.Fatalf("%s is not UTC with microseconds", at)
		}
	}
	for _, e := range l.trail {
		if !json.Valid(e.Payload) || e.FlowID != f.ID || strings.Contains(string(e.Payload), "s3cret") {
			l.Fatalf("event %+v", e)
		}
		service := e.Actor == flows.ActorTimer || e.Actor == flows.ActorExternalEvent || e.Actor == flows.ActorCallback
		if e.Actor != "kate" && (!service || e.Kind != flows.EventResumed && e.Kind != flows.EventFailed && e.Kind != flows.EventCancelled) {
			l.Fatalf("%s by %s", e.Kind, e.Actor)
		}
	}
	last := time.Time{}
	for _, e := range l.trail {
		if e.Kind == flows.EventStepObserved {
			continue // an observation is no change of the flow, and does not hold its clock
		}
		if e.At.Before(last) {
			l.Fatalf("the trail's times run backwards at %s", e.Kind)
		}
		last = e.At
	}
}
