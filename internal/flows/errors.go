package flows

import (
	"errors"
	"fmt"
	"strings"
)

// Refusals. A refused command has changed nothing.
var (
	// ErrNotFound: no such flow, step or event.
	ErrNotFound = errors.New("not found")
	// ErrAlreadyExists: a flow with the id that was brought along exists.
	ErrAlreadyExists = errors.New("a flow with this id exists")
	// ErrForeignOwner: the new flow would be one that its creator does not cover.
	ErrForeignOwner = errors.New("flow would belong to another owner")
	// ErrCancelPending: the flow's cancel was requested; only a cancel is accepted.
	ErrCancelPending = errors.New("cancel is pending")
	// ErrNotTerminal: only a flow that has ended can be erased.
	ErrNotTerminal = errors.New("flow has not ended")
	// ErrStateTooLarge: the state after the merge would be over the limit.
	ErrStateTooLarge = errors.New("state would be too large")
	// ErrNotWaiting: the flow does not wait, or not for this.
	ErrNotWaiting = errors.New("flow does not wait for this")
	// ErrWaitEnded: the wait that a callback is for has ended.
	ErrWaitEnded = errors.New("the wait has ended")
	// ErrUnverified: the callback's body must be signed, and is not, or not by who should have.
	ErrUnverified = errors.New("signature does not match")
)

// RevisionConflict refuses a command whose IfRevision is not the flow's.
type RevisionConflict struct {
	Expected int64
	Flow     *Flow // as it is
}

func (e *RevisionConflict) Error() string {
	return fmt.Sprintf("expected revision %d, flow is at %d", e.Expected, e.Flow.Revision)
}

// TooManyOpen refuses one more flow of a caller who has as many open as it may.
type TooManyOpen struct {
	Open int64 // flows of the caller that have not ended
	Max  int64 // how many there may be
}

func (e *TooManyOpen) Error() string {
	return fmt.Sprintf("%d flows are open, the limit is %d", e.Open, e.Max)
}

// AlreadyTerminal refuses a change of a flow that has ended.
type AlreadyTerminal struct{ Status Status }

func (e *AlreadyTerminal) Error() string { return "flow is already " + string(e.Status) }

// IllegalTransition refuses a move that is not in [Transitions].
type IllegalTransition struct{ From, To Status }

func (e *IllegalTransition) Error() string {
	return fmt.Sprintf("no transition from %s to %s", e.From, e.To)
}

// FieldError says what is wrong with one value of a command's body; Pointer is a JSON pointer (RFC 6901) to it.
type FieldError struct{ Pointer, Detail string }

// InvalidValue refuses a command with values that are not allowed.
type InvalidValue struct{ Fields []FieldError }

func (e *InvalidValue) Error() string {
	details := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		details[i] = f.Pointer + ": " + f.Detail
	}
	return strings.Join(details, "; ")
}
