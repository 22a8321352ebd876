package engine_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"taskflow/internal/engine"
	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// as is a command of a caller that covers owners.
func as(owners flows.Owners, c engine.Command) engine.Command {
	c.Owners = owners
	if c.Once != nil {
		once := *c.Once
		once.Owners, c.Once = owners, &once
	}
	return c
}

// ofOwner is a create for an owner.
func ofOwner(id uuid.UUID, owner string) engine.Command {
	return command(id, flows.Create{Mode: flows.Managed, ControllerID: "c", Goal: "g", OwnerSessionKey: owner})
}

// TestAnothersFlowIsNotFound has two tenants in one batch: each is answered as if it were alone.
func TestAnothersFlowIsNotFound(t *testing.T) {
	bubble(t, engine.Options{Committers: 1}, func(r *rig) {
		id := uuid.New()
		r.must(as("a:*", ofOwner(id, "a:1")))
		release := r.hold()
		theirs, mine := r.send(r.Context(), as("b*", patch(id, "n", 1))), r.send(r.Context(), as("a:1", patch(id, "n", 2)))
		taken := r.send(r.Context(), as("b*", ofOwner(id, "b")))
		release()
		for what, c := range map[string]struct {
			sent *pending
			want error
		}{"another's": {theirs, flows.ErrNotFound}, "the owner's": {mine, nil}, "a taken id": {taken, flows.ErrAlreadyExists}} {
			_, err := c.sent.wait()
			r.want(what, err, c.want)
		}
		if f := r.flow(id); string(f.State) != `{"n":2}` {
			r.Errorf("state %s", f.State)
		}
	})
}

// TestReplayIsCheckedAgainstOwners holds that a stored answer is given only to a caller that still covers what it did.
func TestReplayIsCheckedAgainstOwners(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		id := uuid.New()
		c := keyed(ofOwner(id, "a:1"), "key", "request")
		r.must(as("a:*", c))
		for owners, want := range map[flows.Owners]error{"a:*": nil, "*": nil, "a*": nil, "a:1": flows.ErrNotFound, "b*": flows.ErrNotFound, "": flows.ErrNotFound} {
			result, err := r.engine.Apply(r.Context(), as(owners, c))
			if !errors.Is(err, want) || (err == nil) != (result.Replay != nil) {
				r.Errorf("as %q: %q, %v; want %v", owners, result.Replay, err, want)
			}
		}
		p := once(publication(paid, 1, time.Hour), "other", "request")
		p.Event.Owners, p.Once.Owners = "a:*", "a:*"
		r.publish(p)
		p.Once.Owners = "a:1"
		_, err := r.engine.Publish(r.Context(), p)
		r.want("a publication by who covers less", err, flows.ErrNotFound)
	})
}

// TestCrowdOfAnotherOwnerIsNotDelivered has more flows of two owners wait for a pair than one transaction takes: only those
// that the sender covers are resumed, in several commits, and the receipt counts them alone.
func TestCrowdOfAnotherOwnerIsNotDelivered(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		var commands []engine.Command
		var mine, others []uuid.UUID
		for i := range 2 * (store.MatchLimit + 50) {
			id, owner := uuid.UUID{0: 9, 14: byte(i >> 8), 15: byte(i)}, "b:1"
			if i%2 == 0 {
				owner, mine = "a:1", append(mine, id)
			} else {
				others = append(others, id)
			}
			commands = append(commands, ofOwner(id, owner), command(id, flows.Start{}), command(id, await(paid)))
		}
		r.all(commands...)
		p := publication(paid, 1, time.Hour)
		p.Event.Owners = "a:*"
		r.publish(p)
		synctest.Wait()
		r.fate(p, flows.EventDelivered, int64(len(mine)))
		for _, id := range mine {
			r.wantEvent(id, p)
		}
		for _, id := range others {
			r.wantWaiting("another's event", id)
		}
	})
}

// TestEventForAnothersFlowIsNotFound holds that naming a flow that is not covered tells nothing of it.
func TestEventForAnothersFlowIsNotFound(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		id := uuid.New()
		r.must(ofOwner(id, "a:1"))
		p := forOnly(id, publication(paid, 1, time.Hour))
		p.Event.Owners = "b*"
		_, err := r.engine.Publish(r.Context(), p)
		r.want("an event for another's flow", err, flows.ErrNotFound)
	})
}

// TestKeptEventIsForCoveredFlows has flows begin to wait in the batch that creates them: each takes an event of its own.
func TestKeptEventIsForCoveredFlows(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		events := map[string]engine.Publication{"a:1": publication(paid, 1, time.Hour), "b:1": publication(paid, 2, time.Hour)}
		for owner, p := range events {
			p.Event.Owners = flows.Owners(owner[:2] + "*")
			r.publish(p)
		}
		for _, owner := range []string{"c:1", "b:1", "a:1"} {
			id := uuid.New()
			r.all(as("*", ofOwner(id, owner)), command(id, flows.Start{}), as(flows.Owners(owner), command(id, await(paid))))
			if p, kept := events[owner]; kept {
				r.wantEvent(id, p)
			} else {
				r.wantWaiting("no event of its own", id)
			}
		}
	})
}

// TestOpenFlowsAreLimited holds that a caller has no more flows open than it may, within a batch too, and gets room by
// ending one.
func TestOpenFlowsAreLimited(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		limited := func(caller string) engine.Command {
			c := create(uuid.New())
			c.CallerID, c.MaxOpen = caller, 2
			return c
		}
		commands := []engine.Command{limited("k"), limited("k"), limited("k"), limited("other")}
		outcomes, _, err := r.engine.ApplyAll(r.Context(), commands, nil)
		r.want("the batch", err, nil)
		var tooMany *flows.TooManyOpen
		for i, o := range outcomes {
			if refused := errors.As(o.Err, &tooMany); refused != (i == 2) || o.Err != nil && !refused {
				r.Errorf("create %d: %v", i, o.Err)
			}
		}
		_, err = r.engine.Apply(r.Context(), limited("k"))
		if !errors.As(err, &tooMany) || tooMany.Open != 2 || tooMany.Max != 2 {
			r.Errorf("one more: %v", err)
		}
		r.must(command(commands[0].FlowID, flows.Cancel{}))
		r.must(command(commands[0].FlowID, flows.Erase{}))
		r.must(limited("k"))
		_, err = r.engine.Apply(r.Context(), limited("k"))
		if !errors.As(err, &tooMany) {
			r.Errorf("one more, after one has ended: %v", err)
		}
	})
}
