package store

import (
	"context"
	"slices"
	"time"

	"taskflow/internal/flows"

	"github.com/google/uuid"
)

// Reader reads what is committed: a change that was answered is seen by every read that begins afterwards.
// Errors: ErrUnavailable, ctx's error, and those named with a method.
//
// Owners, given apart or in a query, is what the caller covers; the zero value covers nothing. A flow that it does not
// cover, with its steps and events, is as one that does not exist; a receipt, where it does not cover all that the
// event's sender covers. Methods without it are the server's own.
type Reader interface {
	// Flow reads one flow, or flows.ErrNotFound.
	Flow(ctx context.Context, id uuid.UUID, owners flows.Owners) (*flows.Flow, error)
	// Flows reads one page of the flows that match q, in q's order, without a repeat or a gap between pages: a flow
	// that was committed before the first page was read, and does not change, is on exactly one page.
	Flows(ctx context.Context, q FlowQuery) (FlowPage, error)
	// Step reads one step, or flows.ErrNotFound.
	Step(ctx context.Context, key StepKey, owners flows.Owners) (*flows.Step, error)
	// Steps reads one page of a flow's steps, oldest first, or flows.ErrNotFound where there is no such flow.
	Steps(ctx context.Context, q StepQuery) (StepPage, error)
	// Events reads one page of the audit trail in the order of Seq, or flows.ErrNotFound where q names a flow that
	// does not exist and is FromFlow.
	Events(ctx context.Context, q EventQuery) (EventPage, error)
	// Tail reads on in the feed: the events of all flows with a Seq above after, in the order of Seq, until they are limit or
	// come to PageBytes, each with what its flow is filtered by. Events of a flow that was erased are gone.
	Tail(ctx context.Context, after int64, limit int) ([]FeedEvent, error)
	// ExternalEvent reads one receipt, or flows.ErrNotFound. Its Outcome is as of the database's clock.
	ExternalEvent(ctx context.Context, id uuid.UUID, owners flows.Owners) (*flows.ExternalEvent, error)
	// ExternalEvents reads one page of receipts, newest first. Their Outcomes are as of the database's clock.
	ExternalEvents(ctx context.Context, q ExternalEventQuery) (ExternalEventPage, error)
	// Delivering lists external events that are still being delivered, oldest first, at most limit.
	Delivering(ctx context.Context, limit int) ([]uuid.UUID, error)
	// NextDue is the earliest time at which some wait is due, and how far ahead of the database's clock that is (zero
	// or less where it has passed); ok is false where no wait ends by the clock.
	NextDue(ctx context.Context) (at time.Time, in time.Duration, ok bool, err error)
	// CountEnded counts the flows that ended before the given time.
	CountEnded(ctx context.Context, before time.Time) (int64, error)
	// CallbackKeys reads every key, oldest first.
	CallbackKeys(ctx context.Context) ([]CallbackKey, error)
	// APIKeys reads every key, oldest first.
	APIKeys(ctx context.Context) ([]APIKey, error)
	// Stats counts the flows that are covered, and lists those of them that are due next and have waited longest.
	Stats(ctx context.Context, owners flows.Owners) (Stats, error)
	// SchemaVersion reads the version of the last migration that was applied.
	SchemaVersion(ctx context.Context) (int64, error)
}

// FlowOrder is an order of flows.
type FlowOrder string

const (
	CreatedAsc  FlowOrder = "created_at"
	CreatedDesc FlowOrder = "-created_at"
	// UpdatedAsc and UpdatedDesc go by the commit order of each flow's last change, which is the order of updated_at
	// but for changes that were committed at once.
	UpdatedAsc  FlowOrder = "updated_at"
	UpdatedDesc FlowOrder = "-updated_at"
)

// Desc reports whether the newest come first.
func (o FlowOrder) Desc() bool { return o == CreatedDesc || o == UpdatedDesc }

// ByUpdate reports whether the order goes by the last change.
func (o FlowOrder) ByUpdate() bool { return o == UpdatedAsc || o == UpdatedDesc }

// FlowQuery selects flows. A zero field does not narrow, but for Owners.
type FlowQuery struct {
	Owners          flows.Owners // what the caller covers
	OwnerSessionKey string
	ControllerID    string
	Mode            flows.Mode
	Statuses        []flows.Status // any of them
	Labels          []Label        // all of them
	WaitKind        flows.WaitKind
	CancelRequested *bool
	// Bounds on the times are exclusive.
	CreatedAfter, CreatedBefore, UpdatedAfter, UpdatedBefore *time.Time
	// GoalContains is a substring of the goal, case-sensitive.
	GoalContains string

	Order FlowOrder // "" is CreatedDesc
	// Limit is the most flows a page may have, at least 1.
	Limit int
	// From is where the page begins: the Next of the page before, with the same Order; nil for the first page.
	From *FlowPosition
	// WithoutState leaves State nil.
	WithoutState bool
}

// Label is a label that a flow must have.
type Label struct{ Key, Value string }

// FlowPosition is a place in an order of flows: the last flow that a page has dealt with.
type FlowPosition struct {
	// Time and ID place a flow in an order by creation.
	Time time.Time
	ID   uuid.UUID
	// Seq places it in an order by update: the number of its last change's event.
	Seq int64
}

// FlowPage is one page. It may be short where its flows come to PageBytes; where a filter is not served by an index it
// examines a bounded number of flows, and may be short or empty. Next is nil only at the end of the list.
type FlowPage struct {
	Items []*flows.Flow
	Next  *FlowPosition
}

// StepQuery selects the steps of a flow.
type StepQuery struct {
	FlowID uuid.UUID
	Owners flows.Owners  // what the caller covers
	Limit  int           // at least 1
	From   *StepPosition // the Next of the page before
}

// StepPosition is a place in a flow's list of steps.
type StepPosition struct {
	CreatedAt time.Time
	ID        uuid.UUID
}

// StepPage is one page of steps. It may be short where they come to PageBytes; Next is nil only at the end.
type StepPage struct {
	Items []*flows.Step
	Next  *StepPosition
}

// EventQuery selects audit events. A zero field does not narrow, but for Owners.
type EventQuery struct {
	Owners flows.Owners // what the caller covers
	FlowID uuid.UUID
	// OneFlow narrows to FlowID also where that is the zero UUID, which is an id like any other.
	OneFlow bool
	// FromFlow asks for the trail of FlowID itself: an unknown flow is an error, not an empty page.
	FromFlow        bool
	OwnerSessionKey string
	ControllerID    string
	Mode            flows.Mode
	Kinds           []flows.EventKind // any of them
	// Desc lists the newest first.
	Desc bool
	// After is the Seq of the last event already seen, in the order of the list; nil begins at its start.
	After *int64
	Limit int // at least 1
}

// FeedEvent is an event with what its flow is filtered by, none of which ever changes.
type FeedEvent struct {
	flows.Event
	OwnerSessionKey string
	ControllerID    string
	Mode            flows.Mode
}

// OfOneFlow reports whether q narrows to FlowID: the zero UUID, where a request names it, must not open the whole trail.
func (q *EventQuery) OfOneFlow() bool { return q.FromFlow || q.OneFlow || q.FlowID != uuid.Nil }

// Matches reports whether an event is covered by q.Owners and passes every filter of q. Where the list begins and ends is not looked at.
func (q *EventQuery) Matches(e *FeedEvent) bool {
	return q.Owners.Covers(e.OwnerSessionKey) && (!q.OfOneFlow() || e.FlowID == q.FlowID) &&
		(q.OwnerSessionKey == "" || e.OwnerSessionKey == q.OwnerSessionKey) &&
		(q.ControllerID == "" || e.ControllerID == q.ControllerID) &&
		(q.Mode == "" || e.Mode == q.Mode) &&
		(len(q.Kinds) == 0 || slices.Contains(q.Kinds, e.Kind))
}

// EventPage is one page of events. It may be short where they come to PageBytes, and short or empty where few events
// match; Next is nil only where the list had no more when it was read.
type EventPage struct {
	Items []flows.Event
	Next  *int64 // the After of the next page
}

// ExternalEventQuery selects receipts. A zero field does not narrow, but for Owners.
type ExternalEventQuery struct {
	Owners        flows.Owners // what the caller covers
	Topic         string
	CorrelationID string
	// EitherOf narrows to receipts whose topic or whose correlation id is that of the pair.
	EitherOf *flows.Pair
	Outcome  flows.EventOutcome
	Limit    int // at least 1
	// From is the Next of the page before.
	From *EventPosition
}

// EventPosition is a place in a list of receipts.
type EventPosition struct {
	At time.Time
	ID uuid.UUID
}

// ExternalEventPage is one page of receipts. It may be short where they come to PageBytes, and short or empty where few match;
// Next is nil only at the end.
type ExternalEventPage struct {
	Items []*flows.ExternalEvent
	Next  *EventPosition
}

// Stats are counts over the flows that are covered, and the first of them in two orders.
type Stats struct {
	ByStatus     map[flows.Status]int64 // every status, 0 where there is none
	ByController []ControllerCount      // most flows first, then by name; at most MaxControllers
	// FailedByController counts failed flows, in the same order: of the newest that are covered, by creation, at most
	// Examined; at most MaxControllers.
	FailedByController []ControllerCount
	DueNext            []TimedFlow // whose wait ends by the clock, with when; the earliest first, then by id; at most MaxTimed
	WaitingLongest     []TimedFlow // with when the wait began; the earliest first, then by id; at most MaxTimed
}

const (
	// MaxControllers is the most controllers that Stats lists.
	MaxControllers = 100
	// MaxTimed is the most flows that a list of Stats has.
	MaxTimed = 10
)

// ControllerCount is how many flows a controller has.
type ControllerCount struct {
	ControllerID string
	Flows        int64
}

// TimedFlow is a flow and a time of its wait.
type TimedFlow struct {
	FlowID             uuid.UUID
	ControllerID, Goal string
	At                 time.Time
}
