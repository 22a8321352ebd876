package flows

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// WaitKind is what a wait, or one condition of it, waits for.
type WaitKind string

const (
	WaitTimer         WaitKind = "timer"
	WaitExternalEvent WaitKind = "external_event"
	WaitCallback      WaitKind = "callback"
	WaitManual        WaitKind = "manual"
	// WaitAnyOf is a wait for the first of several conditions.
	WaitAnyOf WaitKind = "any_of"
)

// WaitKinds lists the kinds a wait may have.
var WaitKinds = []WaitKind{WaitTimer, WaitExternalEvent, WaitCallback, WaitManual, WaitAnyOf}

// Wait is what a waiting flow waits for. It is never altered once it has begun.
type Wait struct {
	// Kind is WaitAnyOf, or the kind of the one condition.
	Kind WaitKind
	// Conditions are one, or 2 to 16 of a WaitAnyOf; the first to happen ends the wait.
	Conditions []Condition
	// Timeout ends the wait where no condition has; nil where there is none.
	Timeout *Timeout
	// Details is any object, for people and dashboards; nil where none was given.
	Details json.RawMessage
	// Generation is the revision at which the wait began. It tells this wait from every other of the flow.
	Generation int64
	// Since is when the wait began.
	Since time.Time
	// CallbackKey names the key that signs the wait's callback URLs, and the wait among all others: no two have the same,
	// but for those that a release began which named the key alone. "" where it has no callback.
	CallbackKey string
}

// Condition is one thing that ends a wait.
type Condition struct {
	Kind WaitKind
	At   time.Time // of a timer
	Pair Pair      // of an external event
	// Verify says how a callback's body must be signed; nil where the URL alone is enough.
	Verify *Verify
}

// Pair names what an external event is about: both parts must be equal.
type Pair struct{ Topic, CorrelationID string }

// Verify is how a callback's body must be signed.
type Verify struct {
	Scheme string
	Header string // "" is the scheme's own
	// Secret is shared with the sender; sealed with the server's key where there is one. It is stored, and never shown.
	Secret string
}

// VerifySchemes are the ways to sign a callback's body.
var VerifySchemes = []string{"standard-webhooks", "github", "stripe", "slack", "hmac-sha256"}

// Timeout ends a wait at a time.
type Timeout struct {
	At   time.Time
	Then TimeoutAction
	// Patch is merged into the state where Then is TimeoutResumes; nil is none.
	Patch json.RawMessage
}

// TimeoutAction is what a timeout does to the flow.
type TimeoutAction string

const (
	TimeoutResumes TimeoutAction = "resume"
	TimeoutFails   TimeoutAction = "fail"
	TimeoutCancels TimeoutAction = "cancel"
)

// timeoutReason is the reason of a fail or a cancel that a timeout made.
const timeoutReason = "timeout"

// Due is when the wait ends by the clock, at the latest; ok is false where it has neither a timer nor a timeout.
func (w *Wait) Due() (at time.Time, ok bool) {
	for _, c := range w.Conditions {
		if c.Kind == WaitTimer && (!ok || c.At.Before(at)) {
			at, ok = c.At, true
		}
	}
	if w.Timeout != nil && (!ok || w.Timeout.At.Before(at)) {
		at, ok = w.Timeout.At, true
	}
	return at, ok
}

// DueAt is [Wait.Due] of a flow, nil where it does not wait or the wait does not end by the clock.
func (f *Flow) DueAt() *time.Time {
	if f.Wait == nil {
		return nil
	}
	at, ok := f.Wait.Due()
	if !ok {
		return nil
	}
	return &at
}

// Pairs are the external events that the wait waits for, without duplicates, in the order of its conditions.
func (w *Wait) Pairs() []Pair {
	var pairs []Pair
	for _, c := range w.Conditions {
		if c.Kind == WaitExternalEvent && !contains(pairs, c.Pair) {
			pairs = append(pairs, c.Pair)
		}
	}
	return pairs
}

func contains(pairs []Pair, p Pair) bool {
	for _, q := range pairs {
		if p == q {
			return true
		}
	}
	return false
}

// index is how a condition is named in answers: its place in any_of, nil for a wait of one condition.
func (w *Wait) index(i int) *int {
	if w.Kind != WaitAnyOf {
		return nil
	}
	return &i
}

// ResumeKind is what ended a wait.
type ResumeKind string

const (
	ResumedByTimer    ResumeKind = "timer"
	ResumedByEvent    ResumeKind = "external_event"
	ResumedByCallback ResumeKind = "callback"
	ResumedManually   ResumeKind = "manual"
	ResumedByTimeout  ResumeKind = "timeout"
)

// ResumeOutcome says whether what ended the wait was a go-ahead.
type ResumeOutcome string

const (
	OutcomeResumed  ResumeOutcome = "resumed"
	OutcomeRejected ResumeOutcome = "rejected"
)

// ResumedBy records how a wait ended.
type ResumedBy struct {
	Kind    ResumeKind
	Outcome ResumeOutcome
	At      time.Time
	// Condition is the index in any_of, or nil.
	Condition *int
	// EventID is the external event that ended it, or nil.
	EventID *uuid.UUID
}

// The actors of changes that nobody's request makes.
const (
	ActorTimer         = "timer"
	ActorCallback      = "callback"
	ActorExternalEvent = "external-event"
)
