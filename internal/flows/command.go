package flows

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Command is one request to change one flow.
type Command struct {
	// FlowID is the flow to change; for a [Create] the id it is to have.
	FlowID uuid.UUID
	// IfRevision refuses the command unless the flow is at this revision; nil applies it to whatever is there.
	IfRevision *int64
	// Owners is what the caller covers; any other flow does not exist for it. The zero value covers nothing.
	Owners Owners
	// Actor is the caller's name, for the audit trail.
	Actor string
	// Traceparent is the W3C trace context of the request, for the audit trail; "" where there is none.
	Traceparent string
	// CallerID is the caller's id, "" without authentication; a Create notes it.
	CallerID string
	// MaxOpen is how many flows that have not ended the caller may have created; 0 is no limit.
	MaxOpen int64
	// MaxState is how many bytes the state may have after a caller's merge; 0 is no limit.
	MaxState int
	Action   Action
}

// Action is what a command does: one of the types below.
type Action interface {
	// validate reports to v the values that are never allowed, whatever the flow.
	validate(v *values)
	// apply makes the change on d, or refuses it.
	apply(d *decision) error
}

// Create makes a flow. A mirrored one is started in the same change.
type Create struct {
	Mode            Mode
	ControllerID    string
	Goal            string
	OwnerSessionKey string
	RequesterOrigin string
	CurrentStep     string          // "" is [DefaultStep]
	State           json.RawMessage // nil is {}
	Labels          map[string]string
}

// Start moves a created flow to running.
type Start struct{}

// SetWait moves a running flow to waiting. What it waits for may have happened already: then the wait ends in the same
// change.
type SetWait struct {
	Kind       WaitKind
	Conditions []ConditionSpec // one, or 2 to 16 where Kind is WaitAnyOf
	Timeout    *TimeoutSpec
	Details    json.RawMessage
	// Horizon is how far ahead a time may lie; 0 is no limit.
	Horizon time.Duration
	// CallbackKey is what the wait's is to be, where it has a callback.
	CallbackKey string
}

// ConditionSpec is a condition as asked for.
type ConditionSpec struct {
	Kind   WaitKind
	When   When
	Pair   Pair
	Verify *Verify
}

// TimeoutSpec is a timeout as asked for.
type TimeoutSpec struct {
	When  When
	Then  TimeoutAction
	Patch json.RawMessage
}

// When is a time, or a period from now; exactly one of them is set.
type When struct {
	At    *time.Time
	After *Period
}

// Period is an ISO 8601 duration: calendar units, and the rest.
type Period struct {
	Years, Months, Days int
	Rest                time.Duration
}

// FireDue ends a wait whose time has come, by a timer or by its timeout. The server sends it.
type FireDue struct{ Generation int64 }

// EndByEvent ends a wait for an external event. The server sends it.
type EndByEvent struct{ Event *ExternalEvent }

// EndByCallback ends a wait by one of its callback URLs. Whoever sends it has checked the URL's token.
type EndByCallback struct {
	Generation int64
	Condition  int    // the index in the wait's conditions
	Key        string // the wait's CallbackKey, as the token has it
	Verified   bool   // the body's signature was checked against the condition's Verify, and matches
	Rejected   bool
	// Payload goes under state.resume_event.
	Payload json.RawMessage
}

// Resume ends a wait by hand. A nil patch is none; "null" is a patch.
type Resume struct{ Patch json.RawMessage }

// Finish ends a running flow well. A nil FinalState is none; "null" is a patch.
type Finish struct{ FinalState json.RawMessage }

// Fail ends a running or waiting flow badly.
type Fail struct{ Reason string }

// RequestCancel sets the sticky cancel intent, and cancels at once where nothing is in flight. Where the intent is
// already set or the flow has ended it changes nothing and is no error.
type RequestCancel struct{ Reason *string }

// Cancel moves any flow that has not ended to cancelled.
type Cancel struct{ Reason *string }

// UpdateState changes the caller's own fields, in any status that is not terminal. At least one field is set.
type UpdateState struct {
	Patch       json.RawMessage // nil is none
	CurrentStep *string
	Goal        *string
	Labels      map[string]*string // nil is none; a nil value removes the label
}

// ObserveStep records what is known of one step: a new row, or the new values of a recorded one. Terminal flows accept
// it too.
type ObserveStep struct {
	StepID          uuid.UUID // the id a new step is to have
	RunID           string
	Runtime         *Mode // nil: as recorded, or the flow's mode
	Task            string
	Status          StepStatus
	ChildSessionKey OptionalString  // absent keeps the recorded one
	Result          json.RawMessage // nil is null
	ObservedAt      *time.Time      // nil: now, and never stale
}

// OptionalString is a string, null, or not given at all.
type OptionalString struct {
	Set   bool
	Value *string
}

// Erase removes a terminal flow with its steps and trail.
type Erase struct{}

// Awaits are the pairs whose buffered events the command must see.
func (c Command) Awaits() []Pair {
	a, is := c.Action.(SetWait)
	if !is {
		return nil
	}
	var w Wait
	for _, spec := range a.Conditions {
		w.Conditions = append(w.Conditions, Condition{Kind: spec.Kind, Pair: spec.Pair})
	}
	return w.Pairs()
}

// Needs reports which step the command must see besides the flow; ok is false where it needs none.
func (c Command) Needs() (runID string, ok bool) {
	if a, is := c.Action.(ObserveStep); is {
		return a.RunID, true
	}
	return "", false
}
