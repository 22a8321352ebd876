package flows_test

import (
	"errors"
	"strings"
	"testing"

	"taskflow/internal/flows"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// TestOwnersCover holds what section 7 of the contract says: equal to the owner, or matching its prefix.
func TestOwnersCover(t *testing.T) {
	for _, c := range []struct {
		owners flows.Owners
		owner  string
		want   bool
	}{
		{"", "", false}, {"", "a", false}, {"*", "a", true}, {"*", "", true}, {"a", "a", true}, {"a", "ab", false}, {"a", "A", false},
		{"a*", "a", true}, {"a*", "ab", true}, {"a*", "ba", false}, {"a:*", "a", false}, {"é*", "é", true}, {"é*", "e\u0301", false},
		{"%*", "a", false}, {"_", "a", false},
	} {
		if got := c.owners.Covers(c.owner); got != c.want {
			t.Errorf("%q covers %q: %v, want %v", c.owners, c.owner, got, c.want)
		}
	}
}

// TestOwnersCoverAll checks containment, and the range of a prefix, against what is covered one by one.
func TestOwnersCoverAll(t *testing.T) {
	text := rapid.StringOfN(rapid.RuneFrom([]rune{'a', 'b', ':', 'é', 0xd7ff, 0xe000, 0x10ffff}), 0, 4, -1)
	rapid.Check(t, func(t *rapid.T) {
		star := rapid.SampledFrom([]string{"", "*"})
		wide := flows.Owners(text.Draw(t, "wide") + star.Draw(t, "star"))
		narrow := flows.Owners(text.Draw(t, "narrow") + star.Draw(t, "star"))
		owner := text.Draw(t, "owner")
		if wide.CoversAll(narrow) && narrow.Covers(owner) && !wide.Covers(owner) {
			t.Errorf("%q contains %q, and covers %q less", wide, narrow, owner)
		}
		if prefix, isPrefix := narrow.Prefix(); !wide.CoversAll(narrow) && narrow != "" {
			if !isPrefix && wide.Covers(string(narrow)) || isPrefix && wide.Covers(prefix+"\x01") && wide.Covers(prefix+"\x02") {
				t.Errorf("%q does not contain %q, and covers it", wide, narrow)
			}
		}
		if _, isPrefix := wide.Prefix(); isPrefix {
			low, high := wide.Range()
			if within := owner >= low && (high == "" || owner < high); within != wide.Covers(owner) {
				t.Errorf("%q from %q to %q: %q is within: %v", wide, low, high, owner, within)
			}
		}
		if wide.CoversAll("") || flows.Owners("").CoversAll(wide) {
			t.Errorf("the zero value and %q contain each other", wide)
		}
	})
}

func TestOwnersValidate(t *testing.T) {
	for _, valid := range []flows.Owners{"*", "a", "a*", "agent:é:*", flows.Owners(strings.Repeat("é", 255) + "*")} {
		if err := valid.Validate(); err != nil {
			t.Errorf("%q: %v", valid, err)
		}
	}
	for _, invalid := range []flows.Owners{"", "**", "a*b", "*a*", "\xff", "a\x00*", flows.Owners(strings.Repeat("é", 257))} {
		if invalid.Validate() == nil {
			t.Errorf("%q is valid", invalid)
		}
	}
}

// TestUncoveredFlowDoesNotExist holds that every command treats another owner's flow as none, and that a new one says of a
// taken id that it is taken, and no more.
func TestUncoveredFlowDoesNotExist(t *testing.T) {
	foreign := &flows.Flow{ID: someID, OwnerSessionKey: "b", Revision: 3, Status: flows.Running, State: []byte("{}")}
	event := &flows.ExternalEvent{ID: uuid.New(), Owners: flows.Everyone}
	for _, action := range []flows.Action{flows.Start{}, flows.SetWait{Kind: flows.WaitManual}, flows.Resume{}, flows.Finish{}, flows.Fail{Reason: "r"},
		flows.Cancel{}, flows.RequestCancel{}, flows.UpdateState{}, flows.ObserveStep{RunID: "r"}, flows.Erase{}, flows.FireDue{},
		flows.EndByEvent{Event: event}, flows.EndByCallback{}} {
		for _, owners := range []flows.Owners{"", "a", "a*", "B", "b:*"} {
			c := flows.Command{FlowID: someID, Owners: owners, IfRevision: ptr(int64(9)), Action: action}
			if _, err := flows.Decide(flows.Subject{Flow: foreign}, c, noon); !errors.Is(err, flows.ErrNotFound) {
				t.Errorf("%T as %q: %v, want ErrNotFound", action, owners, err)
			}
		}
	}
	create := flows.Create{Mode: flows.Managed, OwnerSessionKey: "a:1"}
	for _, c := range []struct {
		owners flows.Owners
		flow   *flows.Flow
		want   error
	}{
		{"a:*", nil, nil}, {"a:*", foreign, flows.ErrAlreadyExists}, {"a:2", nil, flows.ErrForeignOwner}, {"", nil, flows.ErrForeignOwner},
		{"b", foreign, flows.ErrForeignOwner}, // also where it would tell that the id is taken
	} {
		change, err := flows.Decide(flows.Subject{Flow: c.flow}, flows.Command{FlowID: someID, Owners: c.owners, CallerID: "k", Action: create}, noon)
		if !errors.Is(err, c.want) || err == nil && change.Flow.CreatedBy != "k" {
			t.Errorf("a new flow as %q: %v, want %v", c.owners, err, c.want)
		}
	}
}

// TestEventEndsCoveredWaitsOnly holds that an event, kept or at hand, resumes only flows that its sender covers.
func TestEventEndsCoveredWaitsOnly(t *testing.T) {
	p := flows.Pair{Topic: "t", CorrelationID: "c"}
	conditions := []flows.Condition{{Kind: flows.WaitExternalEvent, Pair: p}}
	for owners, want := range map[flows.Owners]bool{"": false, "a:2": false, "b*": false, "a:1": true, "a:*": true, "*": true} {
		e := &flows.ExternalEvent{ID: uuid.New(), Pair: p, Owners: owners, Outcome: flows.EventBuffered, ExpiresAt: in(9)}
		waits := &flows.Flow{ID: someID, OwnerSessionKey: "a:1", Status: flows.Waiting, State: []byte("{}"),
			Wait: &flows.Wait{Kind: flows.WaitExternalEvent, Conditions: conditions}}
		c := flows.Command{FlowID: someID, Owners: flows.Everyone, Action: flows.EndByEvent{Event: e}}
		if _, err := flows.Decide(flows.Subject{Flow: waits}, c, noon); (err == nil) != want {
			t.Errorf("an event of %q ends the wait: %v, want %v", owners, err, want)
		}
		runs := &flows.Flow{ID: someID, OwnerSessionKey: "a:1", Status: flows.Running, State: []byte("{}")}
		c.Action = flows.SetWait{Kind: flows.WaitExternalEvent, Conditions: []flows.ConditionSpec{{Kind: flows.WaitExternalEvent, Pair: p}}}
		change, err := flows.Decide(flows.Subject{Flow: runs, Buffered: []*flows.ExternalEvent{e}}, c, noon)
		if err != nil || (change.Consumed != nil) != want {
			t.Errorf("a kept event of %q is consumed: %v, %v; want %v", owners, change.Consumed, err, want)
		}
	}
}

func TestTooManyOpen(t *testing.T) {
	for open, refused := range map[int64]bool{0: false, 2: false, 3: true, 4: true} {
		c := flows.Command{FlowID: someID, Owners: flows.Everyone, CallerID: "k", MaxOpen: 3, Action: flows.Create{Mode: flows.Managed}}
		_, err := flows.Decide(flows.Subject{Open: open}, c, noon)
		var tooMany *flows.TooManyOpen
		if errors.As(err, &tooMany) != refused || refused && (tooMany.Open != open || tooMany.Max != 3) {
			t.Errorf("with %d open: %v", open, err)
		}
		c.MaxOpen = 0
		if _, err := flows.Decide(flows.Subject{Open: open}, c, noon); err != nil {
			t.Errorf("with %d open and no limit: %v", open, err)
		}
	}
}
