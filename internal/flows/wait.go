package flows

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// WaitKind is what ends a wait.
type WaitKind string

// WaitManual waits for a resume by hand, and for nothing else.
const WaitManual WaitKind = "manual"

// WaitKinds lists the kinds a wait may have.
var WaitKinds = []WaitKind{WaitManual}

// Wait is what a waiting flow waits for.
type Wait struct {
	Kind WaitKind
	// Details is any object, for people and dashboards; nil where none was given.
	Details json.RawMessage
	// Generation is the revision at which the wait began. It tells this wait from every other of the flow.
	Generation int64
	// Since is when the wait began.
	Since time.Time
}

// ResumeKind is what ended a wait.
type ResumeKind string

// ResumedManually marks a wait that a caller's resume ended.
const ResumedManually ResumeKind = "manual"

// ResumeOutcome says whether what ended the wait was a go-ahead.
type ResumeOutcome string

// OutcomeResumed is the outcome of every wait that was not rejected.
const OutcomeResumed ResumeOutcome = "resumed"

// ResumedBy records how a wait ended.
type ResumedBy struct {
	Kind    ResumeKind
	Outcome ResumeOutcome
	At      time.Time
	// Condition is the index in any_of, or nil.
	Condition *int
	EventID   *uuid.UUID
}
