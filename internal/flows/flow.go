package flows

import (
	"encoding/json"
	"maps"
	"time"

	"github.com/google/uuid"
)

// Mode says who drives a flow.
type Mode string

const (
	// Managed flows are driven by a controller.
	Managed Mode = "managed"
	// Mirrored flows observe work that runs elsewhere; they are born running.
	Mirrored Mode = "mirrored"
)

// Status is a state of the flow's state machine; [Transitions] lists the moves between them.
type Status string

const (
	Created   Status = "created"
	Running   Status = "running"
	Waiting   Status = "waiting"
	Finished  Status = "finished"
	Failed    Status = "failed"
	Cancelled Status = "cancelled"
)

// Statuses lists every status in the order of a flow's life.
var Statuses = []Status{Created, Running, Waiting, Finished, Failed, Cancelled}

// Terminal reports whether no change of a flow in this status is possible any more.
func (s Status) Terminal() bool { return s == Finished || s == Failed || s == Cancelled }

// DefaultStep is the step label of a flow whose creator named none.
const DefaultStep = "init"

// Flow is one durable flow as recorded. A *Flow is never altered once it has been handed out: a change makes a copy.
type Flow struct {
	ID              uuid.UUID
	Mode            Mode
	ControllerID    string
	Goal            string
	OwnerSessionKey string
	RequesterOrigin string
	CurrentStep     string
	// CreatedBy is the id of the caller that created it, "" without authentication. It is never shown.
	CreatedBy string
	// State is the caller's JSON, digit for digit as it was sent.
	State     json.RawMessage
	Wait      *Wait      // nil unless Status is Waiting
	ResumedBy *ResumedBy // how it was last resumed; nil until it has been
	Status    Status
	// CancelRequested is sticky: once set, only a cancel is accepted.
	CancelRequested bool
	// Revision is 0 at creation and rises by one with every audit event but step_observed.
	Revision int64
	Labels   map[string]string
	// StepsTotal and StepsActive count the recorded steps, and those of them that are pending or running, so that
	// a drain can be decided without reading them.
	StepsTotal, StepsActive int
	// Times are UTC with microseconds.
	CreatedAt, UpdatedAt time.Time
	EndedAt              *time.Time // nil until terminal
}

// clone copies the flow for a change. State, Wait and ResumedBy are replaced, never altered, so they may be shared.
func (f *Flow) clone() *Flow {
	c := *f
	c.Labels = maps.Clone(f.Labels)
	return &c
}

// StepStatus is the status of one step.
type StepStatus string

const (
	StepPending   StepStatus = "pending"
	StepRunning   StepStatus = "running"
	StepSucceeded StepStatus = "succeeded"
	StepFailed    StepStatus = "failed"
	StepCancelled StepStatus = "cancelled"
)

// StepStatuses lists every step status.
var StepStatuses = []StepStatus{StepPending, StepRunning, StepSucceeded, StepFailed, StepCancelled}

// Active reports whether the step's work has yet to end.
func (s StepStatus) Active() bool { return s == StepPending || s == StepRunning }

// Step is one observed step of a flow; there is one for each (FlowID, RunID).
type Step struct {
	ID              uuid.UUID
	FlowID          uuid.UUID
	RunID           string
	Runtime         Mode
	Task            string
	Status          StepStatus
	ChildSessionKey *string
	Result          json.RawMessage // the caller's JSON; "null" where none was given
	ObservedAt      time.Time
	CreatedAt       time.Time
	UpdatedAt       time.Time
}

// EventKind names what an audit event records.
type EventKind string

const (
	EventCreated         EventKind = "created"
	EventStarted         EventKind = "started"
	EventWaiting         EventKind = "waiting"
	EventResumed         EventKind = "resumed"
	EventFinished        EventKind = "finished"
	EventFailed          EventKind = "failed"
	EventCancelRequested EventKind = "cancel_requested"
	EventCancelled       EventKind = "cancelled"
	EventStateUpdated    EventKind = "state_updated"
	EventStepObserved    EventKind = "step_observed"
)

// EventKinds lists every kind of audit event.
var EventKinds = []EventKind{EventCreated, EventStarted, EventWaiting, EventResumed, EventFinished, EventFailed,
	EventCancelRequested, EventCancelled, EventStateUpdated, EventStepObserved}

// Event is one row of the append-only audit trail.
type Event struct {
	// Seq is one rising number for the whole database, in commit order. The store hands it out as it writes.
	Seq      int64
	FlowID   uuid.UUID
	Revision int64
	Kind     EventKind
	Payload  json.RawMessage
	Actor    string
	At       time.Time
	// Traceparent is the W3C trace context of the request that made the change, by which a trace finds its flow and a
	// flow its trace; "" where there was none.
	Traceparent string
}
