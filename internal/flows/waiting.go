package flows

import (
	"encoding/json"
	"fmt"
	"time"
)

// This file is the one place for how waits begin, fire, match and race.

func (a SetWait) apply(d *decision) error {
	if err := d.move(VerbWait); err != nil {
		return err
	}
	wait, err := a.begin(d)
	if err != nil {
		return err
	}
	d.flow.Wait, d.change.Began = wait, wait
	d.record(EventWaiting, payloadWaiting(wait))
	return d.endIfHappened()
}

// begin makes the wait that was asked for, with every time filled in.
func (a SetWait) begin(d *decision) (*Wait, error) {
	w := &Wait{Kind: a.Kind, Details: a.Details, Generation: d.flow.Revision + 1, Since: d.now}
	var v values
	if len(a.Conditions) == 0 { // a manual wait needs no more than its kind
		w.Conditions = []Condition{{Kind: a.Kind}}
	}
	for i, spec := range a.Conditions {
		c := Condition{Kind: spec.Kind, Pair: spec.Pair, Verify: spec.Verify}
		switch spec.Kind {
		case WaitTimer:
			c.At = a.resolve(&v, a.pointer(i), spec.When, d.clock)
		case WaitCallback:
			w.CallbackKey = a.CallbackKey
		}
		w.Conditions = append(w.Conditions, c)
	}
	if t := a.Timeout; t != nil {
		w.Timeout = &Timeout{At: a.resolve(&v, "/wait/timeout", t.When, d.clock), Then: t.Then, Patch: t.Patch}
		if t.Patch != nil && d.tooLarge(Merge(d.flow.State, t.Patch)) { // now, because it cannot be refused when it is due
			return nil, ErrStateTooLarge
		}
	}
	if len(v.errors) > 0 {
		return nil, &InvalidValue{v.errors}
	}
	return w, nil
}

// pointer is where the i-th condition stands in the body.
func (a SetWait) pointer(i int) string {
	if a.Kind != WaitAnyOf {
		return "/wait"
	}
	return fmt.Sprintf("/wait/conditions/%d", i)
}

// lastYear is the last one that [TimeFormat] can write.
const lastYear = 9999

// resolve is the time that a When means now, within the horizon.
func (a SetWait) resolve(v *values, pointer string, when When, now time.Time) time.Time {
	var at time.Time
	name := "/at"
	if when.After != nil {
		name = "/after"
		at = now.AddDate(when.After.Years, when.After.Months, when.After.Days).Add(when.After.Rest)
	} else {
		at = when.At.UTC()
	}
	if up := at.Truncate(time.Microsecond); up.Before(at) {
		at = up.Add(time.Microsecond) // a timer never fires before its time, not by a part of a microsecond either
	}
	switch {
	case a.Horizon > 0 && at.After(now.Add(a.Horizon)):
		v.add(pointer+name, "must be at most %d hours ahead", int64(a.Horizon/time.Hour))
	case at.Year() > lastYear:
		v.add(pointer+name, "must be in the year %d at the latest", lastYear)
	}
	return at
}

// endIfHappened ends a wait that has just begun, where one of its conditions has happened already. All of them have
// happened by now, so the order of the list decides, the timeout last.
func (d *decision) endIfHappened() error {
	w := d.flow.Wait
	for i, c := range w.Conditions {
		switch {
		case c.Kind == WaitTimer && !c.At.After(d.clock):
			return d.endByTimer(i)
		case c.Kind == WaitExternalEvent:
			for _, event := range d.buffered {
				if event.Pair == c.Pair && event.Live(d.flow, d.clock) {
					return d.consume(event, i)
				}
			}
		}
	}
	if w.Timeout != nil && !w.Timeout.At.After(d.clock) {
		return d.endByTimeout()
	}
	return nil
}

// consume ends a wait by an event that was kept for it.
func (d *decision) consume(event *ExternalEvent, condition int) error {
	if err := d.endByEvent(event, condition); err != nil {
		return err
	}
	settled := event.Settle([]*Flow{d.flow}, false, nil, d.now)
	d.change.Consumed = &settled
	return nil
}

func (a FireDue) apply(d *decision) error {
	w := d.flow.Wait
	if w == nil || w.Generation != a.Generation {
		return ErrNotWaiting
	}
	first, due := w.Due()
	if !due || first.After(d.clock) {
		return ErrNotWaiting
	}
	for i, c := range w.Conditions {
		if c.Kind == WaitTimer && c.At.Equal(first) {
			return d.endByTimer(i)
		}
	}
	return d.endByTimeout()
}

func (a EndByEvent) apply(d *decision) error {
	w, by := d.flow.Wait, d.flow.ResumedBy
	if w == nil || a.Event.FlowID != nil && *a.Event.FlowID != d.flow.ID || !a.Event.Owners.Covers(d.flow.OwnerSessionKey) {
		return ErrNotWaiting
	}
	if by != nil && by.EventID != nil && *by.EventID == a.Event.ID {
		return ErrNotWaiting // it has had this one, and waits for the next
	}
	if a.Event.FlowCount > 0 && w.Since.After(a.Event.At) {
		return ErrNotWaiting // others have had this one, before it began to wait: it may wait for the next
	}
	for i, c := range w.Conditions {
		if c.Kind == WaitExternalEvent && c.Pair == a.Event.Pair {
			return d.endByEvent(a.Event, i)
		}
	}
	return ErrNotWaiting
}

func (a EndByCallback) apply(d *decision) error {
	w := d.flow.Wait
	if w == nil || w.Generation != a.Generation {
		return ErrWaitEnded
	}
	if a.Condition < 0 || a.Condition >= len(w.Conditions) || w.Conditions[a.Condition].Kind != WaitCallback || w.CallbackKey != a.Key {
		return ErrNotFound
	}
	if w.Conditions[a.Condition].Verify != nil && !a.Verified {
		return ErrUnverified
	}
	by := ResumedBy{Kind: ResumedByCallback, Outcome: OutcomeResumed, Condition: w.index(a.Condition)}
	if a.Rejected {
		by.Outcome = OutcomeRejected
	}
	return d.endWait(by, ActorCallback, ownResumeEvent(a.Payload))
}

func (a Resume) apply(d *decision) error {
	if err := d.move(VerbResume); err != nil {
		return err
	}
	if err := d.merge(a.Patch); err != nil {
		return err
	}
	d.resumed(ResumedBy{Kind: ResumedManually, Outcome: OutcomeResumed}, a.Patch)
	return nil
}

func (d *decision) endByTimer(condition int) error {
	by := ResumedBy{Kind: ResumedByTimer, Outcome: OutcomeResumed, Condition: d.flow.Wait.index(condition)}
	return d.endWait(by, ActorTimer, nil)
}

func (d *decision) endByEvent(event *ExternalEvent, condition int) error {
	d.traceparent = event.Traceparent
	id := event.ID // a copy, so that the flow does not hold on to the payload
	by := ResumedBy{Kind: ResumedByEvent, Outcome: OutcomeResumed, Condition: d.flow.Wait.index(condition), EventID: &id}
	return d.endWait(by, ActorExternalEvent, ownResumeEvent(event.Payload))
}

func (d *decision) endByTimeout() error {
	timeout := d.flow.Wait.Timeout
	switch timeout.Then {
	case TimeoutFails:
		d.actor = ActorTimer
		return d.fail(timeoutReason)
	case TimeoutCancels:
		d.actor = ActorTimer
		reason := timeoutReason
		return d.cancel(&reason)
	}
	return d.endWait(ResumedBy{Kind: ResumedByTimeout, Outcome: OutcomeResumed}, ActorTimer, timeout.Patch)
}

// endWait resumes the flow for a reason other than a caller's command. The patch is the service's own or was agreed to
// when the wait began, so it never fails for size.
func (d *decision) endWait(by ResumedBy, actor string, patch json.RawMessage) error {
	if err := d.move(VerbResume); err != nil {
		return err
	}
	d.actor = actor
	switch by.Kind {
	case ResumedByTimeout:
		d.flow.State = Merge(d.flow.State, patch)
	default:
		if patch != nil {
			d.flow.State = mergeOwn(d.flow.State, patch)
		}
	}
	d.resumed(by, patch)
	return nil
}

// resumed records how the wait ended.
func (d *decision) resumed(by ResumedBy, patch json.RawMessage) {
	by.At = d.now
	d.flow.ResumedBy = &by
	d.record(EventResumed, payloadResumed(patch, &by, d.change.Ended.Generation))
}
