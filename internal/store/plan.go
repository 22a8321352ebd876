package store

import "taskflow/internal/flows"

// Examined is how many flows or events a page looks at, at most, where some filter is not served by the index it is
// read from.
const Examined = 5000

// Driver is the filter whose index a page of flows is read from.
type Driver int

const (
	DriveAll Driver = iota // no filter: the index on the creation time alone
	DriveOwner
	DriveOwners // every flow of a caller who covers few
	DriveLabel
	DriveController
	DriveStatus
	DriveFeed // the audit events, in an order by update
)

// Plan says how a page of flows is read: from which index, and whether filters remain that it does not serve, so that
// the number of flows examined must be bounded.
type Plan struct {
	Driver   Driver
	Residual bool
	// Status is the one status to read where Driver is DriveStatus.
	Status flows.Status
}

// Plan chooses the filter that narrows most in practice: owner, label, controller, then a single status. The bounds on
// the creation time are part of every such index.
//
// It never chooses DriveOwners: where [FlowQuery.ByOwners] holds, a store that finds that no more than Examined flows are
// covered reads them all and puts them in order, so that a caller with few flows among many does not page through
// everybody else's.
func (q *FlowQuery) Plan() Plan {
	statuses := q.Statuses
	waitKind := 0
	if q.WaitKind != "" {
		statuses, waitKind = []flows.Status{flows.Waiting}, 1
	}
	owners := 0
	if q.Owners != flows.Everyone {
		owners = 1
	}
	filters := owners + min(len(statuses), 1) + len(q.Labels) + waitKind
	for _, set := range []bool{q.OwnerSessionKey != "", q.ControllerID != "", q.Mode != "", q.CancelRequested != nil,
		q.UpdatedAfter != nil, q.UpdatedBefore != nil, q.GoalContains != ""} {
		if set {
			filters++
		}
	}
	switch {
	case q.Order.ByUpdate():
		// Every event but a flow's last is passed over, so even without a filter the number examined is bounded.
		return Plan{Driver: DriveFeed, Residual: true}
	case q.OwnerSessionKey != "":
		return Plan{Driver: DriveOwner, Residual: filters > 1}
	case len(q.Labels) > 0:
		return Plan{Driver: DriveLabel, Residual: filters > 1}
	case q.ControllerID != "":
		return Plan{Driver: DriveController, Residual: filters > 1}
	case len(statuses) == 1:
		return Plan{Driver: DriveStatus, Residual: filters > 1, Status: statuses[0]}
	}
	return Plan{Driver: DriveAll, Residual: filters > 0}
}

// ByOwners reports whether the flows that are covered may be read instead of an index of the order: where Owners is a prefix
// that no other filter on the owner makes superfluous.
func (q *FlowQuery) ByOwners() bool { return q.Owners != flows.Everyone && !q.Order.ByUpdate() }

// Narrow makes the query plainer by its Owners: what comes to one owner is the filter OwnerSessionKey, and leaves Owners
// with a prefix or with everyone. It is false where nothing can match.
func (q *FlowQuery) Narrow() bool { return narrow(&q.Owners, &q.OwnerSessionKey) }

// Narrow does for events what it does for flows.
func (q *EventQuery) Narrow() bool { return narrow(&q.Owners, &q.OwnerSessionKey) }

func narrow(owners *flows.Owners, owner *string) bool {
	_, isPrefix := owners.Prefix()
	switch {
	case *owner != "":
		if !owners.Covers(*owner) {
			return false
		}
	case isPrefix:
		return true
	case *owners == "":
		return false
	default:
		*owner = string(*owners)
	}
	*owners = flows.Everyone
	return true
}
