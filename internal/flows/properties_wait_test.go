package flows_test

import (
	"encoding/json"
	"slices"
	"time"

	"taskflow/internal/flows"
)

// This file holds what random lives do with waits and external events, and what must hold of every ending.

func (l *life) pair() flows.Pair { return draw(l, "pair", payment, payment, other) }

func (l *life) when() flows.When {
	if draw(l, "after", false, true) {
		return flows.When{After: &flows.Period{Rest: time.Duration(draw(l, "rest", 4, 12, 0)) * time.Second}}
	}
	return flows.When{At: ptr(l.clock.Add(time.Duration(draw(l, "at", 3, 20, -4)) * time.Second))}
}

func (l *life) wait() flows.Action {
	var specs []flows.ConditionSpec
	for range draw(l, "conditions", 1, 3, 4) {
		spec := flows.ConditionSpec{Kind: draw(l, "kind", flows.WaitTimer, flows.WaitExternalEvent, flows.WaitCallback, flows.WaitManual)}
		switch spec.Kind {
		case flows.WaitTimer:
			spec.When = l.when()
		case flows.WaitExternalEvent:
			spec.Pair = l.pair()
		case flows.WaitCallback:
			spec.Verify = draw(l, "verify", nil, &flows.Verify{Scheme: "github", Secret: "s3cret"})
		}
		specs = append(specs, spec)
	}
	a := anyOf(specs...)
	a.Details = draw(l, "details", nil, json.RawMessage(`{"n":1.10}`))
	a.Horizon = draw(l, "horizon", 0, 15*time.Second)
	if draw(l, "timeout", false, true) {
		a.Timeout = &flows.TimeoutSpec{When: l.when(), Then: draw(l, "then", flows.TimeoutResumes, flows.TimeoutFails, flows.TimeoutCancels)}
		if a.Timeout.Then == flows.TimeoutResumes {
			a.Timeout.Patch = l.json()
		}
	}
	return a
}

// generation is that of the flow's wait, or of one that has ended.
func (l *life) generation() int64 {
	if l.flow == nil {
		return 1
	}
	if l.flow.Wait != nil && draw(l, "this wait", true, true, false) {
		return l.flow.Wait.Generation
	}
	return l.flow.Revision - int64(draw(l, "behind", 1, 2, 5))
}

// event makes an external event, or takes one that ended a wait before.
func (l *life) event() *flows.ExternalEvent {
	if by := l.flow; by != nil && by.ResumedBy != nil && by.ResumedBy.EventID != nil && draw(l, "again", false, true) {
		if e := l.kept[*by.ResumedBy.EventID]; e != nil {
			return e
		}
	}
	l.arrived++
	e := arrival(l.arrived, l.pair())
	e.FlowID = draw(l, "to", nil, nil, ptr(someID), ptr(stepA))
	e.Payload, e.At = l.json(), l.clock
	e.ExpiresAt = l.clock.Add(time.Duration(draw(l, "ttl", 60, 5, 0)) * time.Second)
	return e
}

// arrive keeps an event that found nobody.
func (l *life) arrive() {
	e := l.event()
	if e.FlowCount == 0 && e.ExpiresAt.After(e.At) {
		l.kept[e.ID] = e
	}
}

func (l *life) buffered(pairs []flows.Pair) []*flows.ExternalEvent {
	var list []*flows.ExternalEvent
	for _, e := range l.kept {
		if slices.Contains(pairs, e.Pair) {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b *flows.ExternalEvent) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return list
}

// checkEndings checks a change that ended a wait: that its time had come, that nothing else was before it, and that an
// event was for this flow and had not been delivered.
func (l *life) checkEndings(s flows.Subject, c flows.Command, change flows.Change) {
	wait := change.Flow.Wait
	if s.Flow != nil && s.Flow.Wait != nil {
		wait = s.Flow.Wait // it waited before the change
	}
	by := change.Flow.ResumedBy
	if change.Consumed != nil && (by == nil || by.EventID == nil || *by.EventID != change.Consumed.ID) {
		l.Fatalf("%T consumed %+v, and the wait was ended by %+v", c.Action, change.Consumed, by)
	}
	switch a := c.Action.(type) {
	case flows.FireDue:
		due, timed := wait.Due()
		if wait.Generation != a.Generation || !timed || due.After(l.clock) {
			l.Fatalf("generation %d fired at %s: %+v", a.Generation, l.clock, wait)
		}
		if by != nil && by.Kind == flows.ResumedByTimer && change.Flow.Status == flows.Running {
			i := 0
			if by.Condition != nil {
				i = *by.Condition
			}
			if condition := wait.Conditions[i]; condition.Kind != flows.WaitTimer || !condition.At.Equal(due) {
				l.Fatalf("condition %d ended a wait that was due at %s: %+v", i, due, wait)
			}
		}
	case flows.EndByEvent:
		again := s.Flow.ResumedBy != nil && s.Flow.ResumedBy.EventID != nil && *s.Flow.ResumedBy.EventID == a.Event.ID
		if !slices.Contains(wait.Pairs(), a.Event.Pair) || again || a.Event.FlowID != nil && *a.Event.FlowID != someID {
			l.Fatalf("event %+v ended %+v", a.Event, wait)
		}
	case flows.EndByCallback:
		condition := wait.Conditions[a.Condition]
		if wait.Generation != a.Generation || a.Key != wait.CallbackKey || condition.Verify != nil && !a.Verified {
			l.Fatalf("callback %+v ended %+v", a, wait)
		}
	case flows.SetWait:
		l.checkBeginning(s, a, change)
	}
}

// checkBeginning checks that a wait ends as it begins where, and only where, something has happened already.
func (l *life) checkBeginning(s flows.Subject, a flows.SetWait, change flows.Change) {
	live := func(p flows.Pair) (first *flows.ExternalEvent) {
		for _, e := range s.Buffered {
			if e.Pair == p && e.Live(s.Flow, l.clock) {
				return e
			}
		}
		return nil
	}
	happened := func(when flows.When) bool {
		if when.After != nil {
			return when.After.Rest <= 0
		}
		return !when.At.After(l.clock)
	}
	by := change.Flow.ResumedBy
	for i, spec := range a.Conditions {
		first := live(spec.Pair)
		if spec.Kind == flows.WaitExternalEvent && first != nil {
			if change.Consumed == nil || change.Consumed.ID != first.ID || first.Outcome != flows.EventBuffered || change.Consumed.FlowCount != 1 {
				l.Fatalf("condition %d has happened by %+v; %+v was consumed", i, first, change.Consumed)
			}
			return
		}
		if spec.Kind == flows.WaitTimer && happened(spec.When) {
			if by == nil || by.Kind != flows.ResumedByTimer || change.Consumed != nil || a.Kind == flows.WaitAnyOf && *by.Condition != i {
				l.Fatalf("condition %d has happened; the wait was ended by %+v", i, by)
			}
			return
		}
	}
	if timesOut := a.Timeout != nil && happened(a.Timeout.When); timesOut != (change.Flow.Wait == nil) || change.Consumed != nil {
		l.Fatalf("nothing has happened but the timeout, %v; the flow is %s", timesOut, change.Flow.Status)
	}
}
