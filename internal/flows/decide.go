package flows

import (
	"encoding/json"
	"time"
)

// Subject is what is recorded of the flow that a command names.
type Subject struct {
	Flow *Flow // nil where there is none
	Step *Step // the step [Command.Needs] named; nil where there is none
	// Buffered are the recorded events of [Command.Awaits], oldest first.
	Buffered []*ExternalEvent
	// Open is how many flows that have not ended the caller has created.
	Open int64
}

// Change is what an accepted command does, as data. Writing it is the store's part; its parts are one commit.
type Change struct {
	// Flow is the flow as it is afterwards; of an erased flow, as it last was.
	Flow *Flow
	// Created, Updated, Erased say what happens to the flow's row; all are false where it stays as it is.
	Created, Updated, Erased bool
	// Began is the wait that the change began, and Ended the one it ended, which may be the same; nil where there is none.
	Began, Ended *Wait
	// Consumed is the buffered event that ended a wait as it began, with its new fate; nil where none did.
	Consumed *ExternalEvent
	// Events are the audit events, oldest first.
	Events []Event
	// Step is the step observed, nil for every other command; StepCreated tells a new one.
	Step        *Step
	StepCreated bool
	// Stale marks an observation older than the recorded one: Step is the recorded one, and nothing is written.
	Stale bool
}

// Decide says what a command does to what is recorded, or why it is refused. It is the only place where a rule lives.
//
// A flow that the command's Owners do not cover is treated as one that does not exist.
//
// The checks run in this order, and the first that fails is the answer: [ErrNotFound] (for a create: [ErrForeignOwner],
// [ErrAlreadyExists] whoever owns that flow, [*TooManyOpen]), [*RevisionConflict], [*AlreadyTerminal], [ErrCancelPending],
// [*IllegalTransition]; then what the action itself refuses: [ErrNotTerminal], [ErrStateTooLarge], [*InvalidValue]. What the
// server sends to end a wait is refused with [ErrNotWaiting], a callback with [ErrWaitEnded], [ErrNotFound] or [ErrUnverified],
// before any of those but the first two. now is the store's clock; a flow's own times and a step's never run backwards, even
// where that clock does. The subject is left as it is.
func Decide(s Subject, c Command, now time.Time) (Change, error) {
	d := decision{command: c, actor: c.Actor, traceparent: c.Traceparent, step: s.Step, buffered: s.Buffered, clock: now.UTC().Truncate(time.Microsecond)}
	d.now = d.clock
	create, creates := c.Action.(Create)
	switch {
	case creates:
		if err := create.allowed(s, c); err != nil {
			return Change{}, err
		}
	case s.Flow == nil || !c.Owners.Covers(s.Flow.OwnerSessionKey):
		return Change{}, ErrNotFound
	case c.IfRevision != nil && *c.IfRevision != s.Flow.Revision:
		return Change{}, &RevisionConflict{Expected: *c.IfRevision, Flow: s.Flow}
	default:
		d.flow = s.Flow.clone()
		if d.now.Before(d.flow.UpdatedAt) {
			d.now = d.flow.UpdatedAt
		}
		if s.Step != nil && d.now.Before(s.Step.UpdatedAt) {
			d.now = s.Step.UpdatedAt
		}
	}
	if err := c.Action.apply(&d); err != nil {
		return Change{}, err
	}
	d.change.Flow = d.flow
	return d.change, nil
}

// decision is a change in the making.
type decision struct {
	command     Command
	actor       string // of the events that follow, as is traceparent
	traceparent string
	flow        *Flow // the copy that is changed
	step        *Step // as recorded
	buffered    []*ExternalEvent
	// clock is the store's time, by which waits end; now is that of the events and never before the flow's last change.
	clock, now time.Time
	change     Change
}

// record raises the revision and adds the event of a change to the flow.
func (d *decision) record(kind EventKind, payload json.RawMessage) {
	d.flow.Revision++
	d.flow.UpdatedAt = d.now
	d.change.Updated = !d.change.Created
	d.addEvent(kind, payload)
}

func (d *decision) addEvent(kind EventKind, payload json.RawMessage) {
	d.change.Events = append(d.change.Events, Event{
		FlowID: d.flow.ID, Revision: d.flow.Revision, Kind: kind, Payload: payload, Actor: d.actor, At: d.now,
		Traceparent: d.traceparent,
	})
}

// open refuses a change of a flow that has ended or is to be cancelled.
func (d *decision) open() error {
	if d.flow.Status.Terminal() {
		return &AlreadyTerminal{d.flow.Status}
	}
	if d.flow.CancelRequested {
		return ErrCancelPending
	}
	return nil
}

// move makes a transition of the table, or refuses it.
func (d *decision) move(v Verb) error {
	if err := d.open(); err != nil && (v != VerbCancel || d.flow.Status.Terminal()) {
		return err
	}
	if !v.allowed(d.flow.Status) {
		return &IllegalTransition{From: d.flow.Status, To: v.target()}
	}
	d.flow.Status = v.target()
	if d.flow.Wait != nil {
		d.change.Ended, d.flow.Wait = d.flow.Wait, nil
	}
	if d.flow.Status.Terminal() {
		d.flow.EndedAt = &d.now
	}
	return nil
}

// merge lays a caller's patch onto the state, within the limit.
func (d *decision) merge(patch json.RawMessage) error {
	if patch == nil {
		return nil
	}
	d.flow.State = Merge(d.flow.State, patch)
	if d.tooLarge(d.flow.State) {
		return ErrStateTooLarge
	}
	return nil
}

func (d *decision) tooLarge(state json.RawMessage) bool {
	return d.command.MaxState > 0 && len(state) > d.command.MaxState
}

// allowed refuses a flow that the caller may not make.
func (a Create) allowed(s Subject, c Command) error {
	switch {
	case !c.Owners.Covers(a.OwnerSessionKey):
		return ErrForeignOwner
	case s.Flow != nil:
		return ErrAlreadyExists
	case c.MaxOpen > 0 && s.Open >= c.MaxOpen:
		return &TooManyOpen{Open: s.Open, Max: c.MaxOpen}
	}
	return nil
}

func (a Create) apply(d *decision) error {
	f := &Flow{
		ID: d.command.FlowID, CreatedBy: d.command.CallerID, Mode: a.Mode, ControllerID: a.ControllerID, Goal: a.Goal,
		OwnerSessionKey: a.OwnerSessionKey, RequesterOrigin: a.RequesterOrigin, CurrentStep: a.CurrentStep,
		State: json.RawMessage("{}"), Status: Created, Labels: a.Labels, CreatedAt: d.now, UpdatedAt: d.now,
	}
	if f.CurrentStep == "" {
		f.CurrentStep = DefaultStep
	}
	d.flow = f
	if a.State != nil {
		f.State = nil
		if err := d.merge(a.State); err != nil {
			return err
		}
	}
	d.change.Created = true
	d.addEvent(EventCreated, payloadCreated(a, f))
	if a.Mode == Mirrored {
		return Start{}.apply(d)
	}
	return nil
}

func (Start) apply(d *decision) error {
	if err := d.move(VerbStart); err != nil {
		return err
	}
	d.record(EventStarted, json.RawMessage("{}"))
	return nil
}

func (a Finish) apply(d *decision) error {
	if err := d.move(VerbFinish); err != nil {
		return err
	}
	if err := d.merge(a.FinalState); err != nil {
		return err
	}
	d.record(EventFinished, payloadFinished(a.FinalState))
	return nil
}

func (a Fail) apply(d *decision) error {
	return d.fail(a.Reason)
}

func (d *decision) fail(reason string) error {
	if err := d.move(VerbFail); err != nil {
		return err
	}
	d.flow.State = mergeOwn(d.flow.State, ownFailure(reason, d.now))
	d.record(EventFailed, payloadFailed(reason))
	return nil
}

func (a Cancel) apply(d *decision) error { return d.cancel(a.Reason) }

func (d *decision) cancel(reason *string) error {
	if err := d.move(VerbCancel); err != nil {
		return err
	}
	d.record(EventCancelled, payloadReason(reason))
	return nil
}

func (a RequestCancel) apply(d *decision) error {
	if d.open() != nil {
		return nil // it has ended, or the intent is set: a repeat changes nothing
	}
	d.flow.CancelRequested = true
	d.record(EventCancelRequested, payloadReason(a.Reason))
	if d.inFlight() {
		return nil
	}
	return d.cancel(a.Reason)
}

// inFlight reports whether work may still be under way: a running flow with an active step, or with no step recorded,
// of which nothing is known.
func (d *decision) inFlight() bool {
	return d.flow.Status == Running && (d.flow.StepsTotal == 0 || d.flow.StepsActive > 0)
}

func (a UpdateState) apply(d *decision) error {
	if err := d.open(); err != nil {
		return err
	}
	if err := d.merge(a.Patch); err != nil {
		return err
	}
	if a.CurrentStep != nil {
		d.flow.CurrentStep = *a.CurrentStep
	}
	if a.Goal != nil {
		d.flow.Goal = *a.Goal
	}
	if err := d.setLabels(a.Labels); err != nil {
		return err
	}
	d.record(EventStateUpdated, payloadStateUpdated(a))
	return nil
}

func (d *decision) setLabels(labels map[string]*string) error {
	if d.flow.Labels == nil && len(labels) > 0 {
		d.flow.Labels = make(map[string]string, len(labels))
	}
	for key, value := range labels {
		if value == nil {
			delete(d.flow.Labels, key)
		} else {
			d.flow.Labels[key] = *value
		}
	}
	if len(d.flow.Labels) > MaxLabels {
		return &InvalidValue{[]FieldError{{"/labels", tooManyLabels}}}
	}
	return nil
}

func (a ObserveStep) apply(d *decision) error {
	recorded := d.step
	if recorded != nil && a.ObservedAt != nil && a.ObservedAt.Before(recorded.ObservedAt) {
		d.change.Step, d.change.Stale = recorded, true
		return nil
	}
	step := a.onto(recorded, d)
	d.change.Step, d.change.StepCreated = step, recorded == nil
	d.count(recorded, step)
	d.addEvent(EventStepObserved, payloadStepObserved(step))
	if d.flow.Status == Running && d.flow.CancelRequested && !d.inFlight() {
		return d.cancel(nil)
	}
	return nil
}

// onto is the step as it is after the observation.
func (a ObserveStep) onto(recorded *Step, d *decision) *Step {
	step := Step{ID: a.StepID, FlowID: d.flow.ID, RunID: a.RunID, Runtime: d.flow.Mode, CreatedAt: d.now}
	if recorded != nil {
		step = *recorded
	}
	step.Task, step.Status, step.Result = a.Task, a.Status, a.Result
	if step.Result == nil {
		step.Result = json.RawMessage("null")
	}
	if a.Runtime != nil {
		step.Runtime = *a.Runtime
	}
	if a.ChildSessionKey.Set {
		step.ChildSessionKey = a.ChildSessionKey.Value
	}
	step.ObservedAt, step.UpdatedAt = d.now, d.now
	if a.ObservedAt != nil {
		step.ObservedAt = a.ObservedAt.UTC().Truncate(time.Microsecond)
	}
	return &step
}

// count keeps the flow's step counters.
func (d *decision) count(before, after *Step) {
	total, active := d.flow.StepsTotal, d.flow.StepsActive
	if before == nil {
		d.flow.StepsTotal++
	} else if before.Status.Active() {
		d.flow.StepsActive--
	}
	if after.Status.Active() {
		d.flow.StepsActive++
	}
	if d.flow.StepsTotal != total || d.flow.StepsActive != active {
		d.change.Updated = true
	}
}

func (Erase) apply(d *decision) error {
	if !d.flow.Status.Terminal() {
		return ErrNotTerminal
	}
	d.change.Erased = true
	return nil
}
