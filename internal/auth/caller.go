package auth

import (
	"errors"
	"fmt"
	"slices"

	"taskflow/internal/flows"
)

// Scope is one thing that a caller may do. None includes another: admin alone reads no flow.
type Scope string

const (
	ReadFlows   Scope = "flows:read"   // flows, steps, the trail, receipts, counts
	WriteFlows  Scope = "flows:write"  // changes of flows; callback URLs are shown to those who have it
	WriteEvents Scope = "events:write" // external events
	Webhooks    Scope = "webhooks"     // subscriptions
	Admin       Scope = "admin"        // what concerns the server itself, such as its metrics
)

// Scopes lists every scope.
func Scopes() []Scope { return []Scope{ReadFlows, WriteFlows, WriteEvents, Webhooks, Admin} }

// Caller is who sent a request. The zero value may do nothing and sees nothing.
type Caller struct {
	// ID tells callers apart: no two of them share one, whatever their names. Idempotency keys and limits belong to it.
	ID string
	// Name is for the audit trail.
	Name   string
	Scopes []Scope
	// Owners are the owners whose flows the caller sees and changes.
	Owners flows.Owners
	// Limited is set where the limits for one caller hold: not for everybody behind one door without a lock.
	Limited bool
}

// May reports whether the caller has a scope.
func (c Caller) May(s Scope) bool { return slices.Contains(c.Scopes, s) }

// anonymous is the name of a caller that need not say who it is.
const anonymous = "anonymous"

// reservedNames are what the trail calls others than callers.
func reservedNames() []string {
	return []string{anonymous, flows.ActorTimer, flows.ActorCallback, flows.ActorExternalEvent}
}

// maxName bounds a caller's name, in characters.
const maxName = 256

// checkName refuses a name that cannot stand in the trail, or would pass for another's there.
func checkName(name string) error {
	switch {
	case name == "" || !flows.ValidText(name) || len([]rune(name)) > maxName:
		return fmt.Errorf("a name has 1 to %d characters", maxName)
	case slices.Contains(reservedNames(), name):
		return fmt.Errorf("the name %q is the server's own", name)
	}
	return nil
}

var (
	// ErrNoCredentials: the request does not say who sent it.
	ErrNoCredentials = errors.New("no credentials")
	// ErrUnavailable: it cannot be found out now whether the credentials are good.
	ErrUnavailable = errors.New("credentials cannot be checked now")
)

// Refused means that the credentials are not good.
type Refused struct {
	// Reason is a sentence for whoever sent them; it repeats nothing of them.
	Reason string
}

func (e *Refused) Error() string { return e.Reason }

// NoOwner means that a token is good, but says nothing of the owner whose flows its holder may see.
type NoOwner struct{ Claim string }

func (e *NoOwner) Error() string { return "the token has no owner in its claim " + e.Claim }
