package flows

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// ExternalEvent is something that happened elsewhere, for whichever flows wait for it; as recorded, its receipt.
type ExternalEvent struct {
	ID uuid.UUID
	// Pair is what it is about.
	Pair Pair
	// FlowID is the only flow it is for; nil is any.
	FlowID *uuid.UUID
	// Owners is what its sender covers: it exists for no other flow.
	Owners Owners
	// Payload is the sender's JSON; nil where none was given.
	Payload json.RawMessage
	Actor   string
	// Traceparent is the W3C trace context of the request that published it; "" where there was none.
	Traceparent string
	At          time.Time
	// ExpiresAt is how long it is kept for a flow that has yet to wait; At where it is not kept.
	ExpiresAt time.Time
	Outcome   EventOutcome
	// Flows are the first flows it resumed, at most [MaxReceiptFlows]; FlowCount counts all.
	Flows     []ResumedFlow
	FlowCount int64
}

// ResumedFlow is a flow that an external event resumed, and the revision it came to by that.
type ResumedFlow struct {
	FlowID   uuid.UUID
	Revision int64
}

// MaxReceiptFlows is how many flows a receipt lists.
const MaxReceiptFlows = 100

// EventOutcome is the fate of an external event.
type EventOutcome string

const (
	// EventDelivered: it has resumed every flow that waited for it.
	EventDelivered EventOutcome = "delivered"
	// EventDelivering: it has resumed some, and goes on.
	EventDelivering EventOutcome = "delivering"
	// EventBuffered: nobody waited for it; it is kept for the first flow that will, until it expires.
	EventBuffered EventOutcome = "buffered"
	// EventExpired: it was buffered, and nobody came.
	EventExpired EventOutcome = "expired"
	// EventUnmatched: nobody waited for it, and it was not to be kept.
	EventUnmatched EventOutcome = "unmatched"
)

// EventOutcomes lists every fate.
var EventOutcomes = []EventOutcome{EventDelivered, EventDelivering, EventBuffered, EventExpired, EventUnmatched}

// OutcomeAt is the event's fate at a time: a buffered one expires without being written to.
func (e *ExternalEvent) OutcomeAt(now time.Time) EventOutcome {
	if e.Outcome == EventBuffered && !now.Before(e.ExpiresAt) {
		return EventExpired
	}
	return e.Outcome
}

// Live reports whether the event may still resume the flow: it is kept, has not expired, and is for this flow or any, by
// a sender that covers it.
func (e *ExternalEvent) Live(f *Flow, now time.Time) bool {
	return e.OutcomeAt(now) == EventBuffered && e.IsFor(f) && e.Owners.Covers(f.OwnerSessionKey)
}

// IsFor reports whether the event is for any flow, or names this one and not an earlier one that had its id: it comes in at
// the time of the flow's creation or later.
func (e *ExternalEvent) IsFor(f *Flow) bool {
	return e.FlowID == nil || *e.FlowID == f.ID && !e.At.Before(f.CreatedAt)
}

// NotBefore sees to it that the event does not come in before a time that it must have come in after, whatever the clock says.
func (e *ExternalEvent) NotBefore(t time.Time) {
	if e.At.Before(t) {
		e.At = t
	}
}

// resumed notes on the receipt that the event resumed a flow.
func (e *ExternalEvent) resumed(f *Flow) {
	e.FlowCount++
	if len(e.Flows) < MaxReceiptFlows {
		e.Flows = append(e.Flows, ResumedFlow{f.ID, f.Revision})
	}
}

// Settle decides the fate of an event after it was offered to flows: waiting are those that it resumed now; more is
// whether others may still wait for it; target is the flow it is for, where it names one that exists.
func (e ExternalEvent) Settle(waiting []*Flow, more bool, target *Flow, now time.Time) ExternalEvent {
	e.Flows = append([]ResumedFlow(nil), e.Flows...)
	for _, f := range waiting {
		e.resumed(f)
	}
	switch {
	case more:
		e.Outcome = EventDelivering
	case e.FlowCount > 0:
		e.Outcome = EventDelivered
	case target != nil && target.Status.Terminal(), !now.Before(e.ExpiresAt):
		e.Outcome = EventUnmatched
	default:
		e.Outcome = EventBuffered
	}
	return e
}
