package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

func ownerCases() []testCase {
	return []testCase{
		{"Flow", "A flow that Owners do not cover, with its steps and events, is as one that does not exist.", testOwnedReads},
		{"Lists", "Lists, feeds and stats are narrowed likewise.", testOwnedLists},
		{"Patterns", "The zero value covers nothing; a prefix covers whatever begins with it.", testOwnedPatterns},
		{"Receipts", "A receipt is not seen where the caller does not cover all that its sender covers.", testOwnedReceipts},
		{"Load", "Owned are looked at where they are covered.", testOwnedLoad},
		{"Match", "The flows that wait for them and are covered are read, at most MatchLimit of each.", testOwnedMatch},
		{"Buffered", "At most KeptLimits of each pair, sender's Owners and flow that they are for.", testOwnedBuffered},
		{"Open", "Open changes the counts of open flows, by the caller that created them.", testOpen},
	}
}

// owned is a flow of an owner, with a step.
func owned(t *testing.T, s store.Store, n int, owner string) *flows.Flow {
	t.Helper()
	f := newFlow(n)
	f.OwnerSessionKey, f.StepsTotal = owner, 1
	step := &flows.Step{ID: stepID(n), FlowID: f.ID, RunID: "r", Runtime: flows.Managed, Task: "t", Status: flows.StepSucceeded,
		Result: []byte("null"), ObservedAt: at(n), CreatedAt: at(n), UpdatedAt: at(n)}
	save(t, s, store.Writes{Created: []*flows.Flow{f}, Events: []flows.Event{createdEvent(f)}, Steps: []*flows.Step{step}})
	return f
}

// seen lists every way to read a flow that a caller has, and fails where they do not agree.
func seen(t *testing.T, s store.Store, id uuid.UUID, owners flows.Owners) bool {
	t.Helper()
	ctx := t.Context()
	f, errFlow := s.Flow(ctx, id, owners)
	_, errStep := s.Step(ctx, store.StepKey{FlowID: id, RunID: "r"}, owners)
	steps, errSteps := s.Steps(ctx, store.StepQuery{FlowID: id, Owners: owners, Limit: 5})
	trail, errTrail := s.Events(ctx, store.EventQuery{FlowID: id, FromFlow: true, Owners: owners, Limit: 5})
	for name, err := range map[string]error{"step": errStep, "steps": errSteps, "trail": errTrail} {
		if (err == nil) != (errFlow == nil) || err != nil && !errors.Is(err, flows.ErrNotFound) {
			t.Errorf("as %q: %s: %v, the flow: %v", owners, name, err, errFlow)
		}
	}
	kinds, err := s.Events(ctx, store.EventQuery{FlowID: id, Owners: owners, Kinds: flows.EventKinds, Desc: true, Limit: 5})
	if err != nil || len(kinds.Items) != len(trail.Items) || len(steps.Items) != len(trail.Items) {
		t.Errorf("as %q: %d events by their kind, %d of the trail, %d steps, %v", owners, len(kinds.Items), len(trail.Items),
			len(steps.Items), err)
	}
	return f != nil
}

func testOwnedReads(t *testing.T, s store.Store) {
	mine, other := owned(t, s, 1, "agent:kate:1"), owned(t, s, 2, "agent:mike:1")
	for owners, want := range map[flows.Owners][2]bool{
		flows.Everyone: {true, true}, "": {}, "agent:kate:1": {true, false}, "agent:kate:*": {true, false},
		"agent:*": {true, true}, "agent:kate": {}, "agent:kate:1*": {true, false}, "agent:kate:10": {}, "Agent:kate:1": {},
	} {
		if got := [2]bool{seen(t, s, mine.ID, owners), seen(t, s, other.ID, owners)}; got != want {
			t.Errorf("as %q the two are seen: %v, want %v", owners, got, want)
		}
		if seen(t, s, flowID(3), owners) {
			t.Errorf("as %q a flow is seen that is not there", owners)
		}
	}
}

func testOwnedLists(t *testing.T, s store.Store) {
	for n, owner := range []string{"a", "a:1", "a:2", "b", "a:1"} {
		owned(t, s, n, owner)
	}
	for owners, want := range map[flows.Owners]string{
		flows.Everyone: "01234", "": "", "a:1": "14", "a:*": "124", "a*": "0124", "b*": "3", "c*": "", "a:": "",
	} {
		for _, order := range orders() {
			list, err := allFlows(t.Context(), s, store.FlowQuery{Owners: cmpOwners(owners), Order: order, Limit: 2})
			if got := digits(list); err != nil || got != want {
				t.Errorf("as %q by %s: flows %s, %v; want %s", owners, order, got, err, want)
			}
		}
		filtered, err := allFlows(t.Context(), s, store.FlowQuery{Owners: cmpOwners(owners), OwnerSessionKey: "a:1", Limit: 1})
		wantFiltered := ""
		if owners.Covers("a:1") {
			wantFiltered = "14"
		}
		if got := digits(filtered); err != nil || got != wantFiltered {
			t.Errorf("as %q of one owner: flows %s, %v; want %s", owners, got, err, wantFiltered)
		}
		events, err := allEvents(t.Context(), s, store.EventQuery{Owners: cmpOwners(owners), Limit: 2})
		if err != nil || len(events) != len(want) {
			t.Errorf("as %q: %d events, %v; want %d", owners, len(events), err, len(want))
		}
		counted, err := s.Stats(t.Context(), owners)
		if err != nil || counted.ByStatus[flows.Created] != int64(len(want)) || len(counted.ByController) != min(len(want), 1) {
			t.Errorf("as %q: %s, %v; want %d flows", owners, statsText(counted), err, len(want))
		}
	}
}

// cmpOwners stands for nobody by a pattern that covers nothing, where a helper of the suite would say everyone.
func cmpOwners(owners flows.Owners) flows.Owners {
	if owners == "" {
		return "nobody"
	}
	return owners
}

// digits are the numbers of flows below 10, rising.
func digits(list []*flows.Flow) string {
	var text []string
	for _, f := range list {
		text = append(text, strings.TrimPrefix(f.Goal, "goal "))
	}
	slices.Sort(text)
	return strings.Join(text, "")
}

func testOwnedPatterns(t *testing.T, s store.Store) {
	owners := []string{"a", "a%", "a_b", "axb", "a*", "A", "é", "e\u0301", "ér", "ê", "\ud7ff", "\ud7ffx", "\ue000", "\U0010ffff", "\U0010ffffx",
		"a\U0010ffff", "a\U0010ffffb", "b", "~", "a ", " a", "😀", "😀😀", "ß", "ss", strings.Repeat("é", 256)}
	for n, owner := range owners {
		owned(t, s, n, owner)
	}
	patterns := []flows.Owners{"a*", "a", "a%*", "a_*", "é*", "é", "e*", "\ud7ff*", "\U0010ffff*", "a\U0010ffff*", "😀*", "b*", "ß*", "%*", "_", " *", "A*",
		flows.Owners(strings.Repeat("é", 200) + "*"), flows.Everyone}
	for _, pattern := range patterns {
		var want []string
		for n, owner := range owners {
			if pattern.Covers(owner) {
				want = append(want, fmt.Sprint("goal ", n))
			}
			if _, err := s.Flow(t.Context(), flowID(n), pattern); (err == nil) != pattern.Covers(owner) {
				t.Errorf("as %q the flow of %q: %v", pattern, owner, err)
			}
		}
		list, err := allFlows(t.Context(), s, store.FlowQuery{Owners: pattern, Order: store.CreatedAsc, Limit: 3})
		if got := goals(list); err != nil || got != strings.Join(want, " | ") {
			t.Errorf("as %q: %s, %v; want %v", pattern, got, err, want)
		}
		page, err := allFlows(t.Context(), s, store.FlowQuery{Owners: pattern, Order: store.UpdatedDesc, Limit: 4})
		if err != nil || len(page) != len(want) {
			t.Errorf("as %q by update: %d flows, %v; want %d", pattern, len(page), err, len(want))
		}
	}
}

func testOwnedReceipts(t *testing.T, s store.Store) {
	senders := []flows.Owners{"a:1", "a:*", "*", "b", "a:1*"}
	for n, owners := range senders {
		e := newReceipt(n, pair("t", "c"))
		e.Owners = owners
		saveReceipts(t, s, e)
	}
	for _, owners := range []flows.Owners{flows.Everyone, "", "a:1", "a:*", "a*", "a:1*", "b", "b*", "c"} {
		var want []int
		for n, sender := range senders {
			if owners.CoversAll(sender) {
				want = append(want, n)
			}
			if _, err := s.ExternalEvent(t.Context(), stepID(n), owners); (err == nil) != owners.CoversAll(sender) ||
				err != nil && !errors.Is(err, flows.ErrNotFound) {
				t.Errorf("as %q the receipt of %q: %v", owners, sender, err)
			}
		}
		p := pair("t", "x")
		for _, q := range []store.ExternalEventQuery{{}, {Topic: "t"}, {CorrelationID: "c"}, {EitherOf: &p}} {
			q.Owners, q.Limit = owners, 10
			page, err := s.ExternalEvents(t.Context(), q)
			if err != nil || len(page.Items) != len(want) {
				t.Errorf("as %q: %d receipts, %v; want %v", owners, len(page.Items), err, want)
			}
		}
	}
}

func testOwnedLoad(t *testing.T, s store.Store) {
	mine, other := owned(t, s, 1, "a:1"), owned(t, s, 2, "b:1")
	need := store.Need{Owned: []store.OwnedFlow{{ID: mine.ID, Owners: "a:*"}, {ID: other.ID, Owners: "a:*"}, {ID: other.ID, Owners: "b"},
		{ID: flowID(3), Owners: "a:*"}, {ID: mine.ID}},
		Steps: []store.StepKey{{FlowID: mine.ID, RunID: "r"}, {FlowID: other.ID, RunID: "r"}}}
	snapshot := load(t, s, need)
	if len(snapshot.Flows) != 1 || snapshot.Flows[mine.ID] == nil || len(snapshot.Steps) != 1 {
		t.Errorf("loaded %d flows and %d steps, want the one that is covered, and its step", len(snapshot.Flows), len(snapshot.Steps))
	}
	need.Flows = []uuid.UUID{other.ID}
	if snapshot = load(t, s, need); len(snapshot.Flows) != 2 || len(snapshot.Steps) != 2 {
		t.Errorf("loaded %d flows and %d steps, want both", len(snapshot.Flows), len(snapshot.Steps))
	}
}

// testOwnedMatch has more flows of another owner than one transaction takes wait before the one that is covered.
func testOwnedMatch(t *testing.T, s store.Store) {
	p := pair("t", "c")
	var list []*flows.Flow
	for n := range store.MatchLimit + 1 {
		list = append(list, waiting(n, awaited("t", "c")))
		list[n].OwnerSessionKey = "b"
	}
	late := waiting(9000, awaited("t", "c"))
	late.OwnerSessionKey = "a:1"
	create(t, s, append(list, late)...)
	for _, owners := range []flows.Owners{"a:1", "a:*"} {
		match := store.Match{Pair: p, Owners: owners}
		snapshot := load(t, s, store.Need{Match: []store.Match{match, {Pair: p, Owners: "b"}, {Pair: p, Owners: "c*"}}})
		if got := numbers(snapshot.Waiting[match]); !slices.Equal(got, []int{9000}) || snapshot.More[match] {
			t.Errorf("as %q: %v wait, more %v; want the one that is covered", owners, got, snapshot.More[match])
		}
		theirs := store.Match{Pair: p, Owners: "b"}
		if n := len(snapshot.Waiting[theirs]); n != store.MatchLimit || !snapshot.More[theirs] {
			t.Errorf("%d of the others wait, more %v", n, snapshot.More[theirs])
		}
		if f := snapshot.Flows[snapshot.Waiting[theirs][store.MatchLimit-1]]; snapshot.Latest[theirs].Before(f.Wait.Since) {
			t.Errorf("the last of all waits began at %v, before that of a flow that was found", snapshot.Latest[theirs])
		}
		if nobody := (store.Match{Pair: p, Owners: "c*"}); len(snapshot.Waiting[nobody]) != 0 || snapshot.More[nobody] {
			t.Errorf("for nobody: %v, more %v", snapshot.Waiting[nobody], snapshot.More[nobody])
		}
	}
}

// testOwnedBuffered keeps more events than are read of senders that do not cover the flow, and of one that does as well as
// many others, before those that it may have.
func testOwnedBuffered(t *testing.T, s store.Store) {
	p := pair("t", "c")
	var list []flows.ExternalEvent
	for n := range store.MatchLimit + 5 {
		foreign, crowd := newReceipt(n, p), newReceipt(n+1000, p)
		foreign.Owners, crowd.Owners = "b*", "a:2"
		list = append(list, foreign, crowd)
	}
	exact, prefix := newReceipt(5000, p), newReceipt(5001, p)
	exact.Owners, prefix.Owners = "a:1", "a:*"
	saveReceipts(t, s, append(list, exact, prefix)...)
	f := newFlow(1)
	f.OwnerSessionKey = "a:1"
	create(t, s, f)
	await := []flows.Pair{p}
	named := store.Need{Await: await, Owned: []store.OwnedFlow{{ID: f.ID, Owners: "a:1"}}}
	expectBuffered(t, s, named, p, exact, prefix)
	expectBuffered(t, s, store.Need{Await: await, Flows: []uuid.UUID{f.ID}}, p, exact, prefix)
	expectBuffered(t, s, store.Need{Await: await, Creating: []string{"a:3"}}, p, prefix)
	expectBuffered(t, s, store.Need{Await: await}, p)
	named.Creating = []string{"a:2"}
	if got := load(t, s, named).Buffered[p]; len(got) != store.MatchLimit+2 {
		t.Errorf("%d events are kept for two owners, want %d of one, and two", len(got), store.MatchLimit)
	}
}

func testOpen(t *testing.T, s store.Store) {
	callers := []string{"k1", "k2", "K1"}
	expect := func(want ...int64) {
		t.Helper()
		open := load(t, s, store.Need{Callers: append(callers, "k1")}).Open
		if got := []int64{open["k1"], open["k2"], open["K1"]}; !slices.Equal(got, want) {
			t.Errorf("open: %v, want %v", got, want)
		}
	}
	expect(0, 0, 0)
	by := func(n int, caller string) *flows.Flow {
		f := newFlow(n)
		f.CreatedBy = caller
		return f
	}
	save(t, s, store.Writes{Created: []*flows.Flow{by(1, "k1"), by(2, "k1"), by(3, "k2"), by(4, "")}, Open: map[string]int64{"k1": 2, "k2": 1}})
	expect(2, 1, 0)
	if f := readFlow(t, s, flowID(3)); f.CreatedBy != "k2" {
		t.Errorf("created by %q", f.CreatedBy)
	}
	ended := by(1, "k1")
	ended.Status, ended.Revision, ended.EndedAt = flows.Cancelled, 1, pointer(at(9))
	save(t, s, store.Writes{Updated: []store.FlowUpdate{{Flow: ended}}, Created: []*flows.Flow{by(5, "K1")}, Open: map[string]int64{"k1": -1, "K1": 1}})
	expect(1, 1, 1)
	if n, err := s.Prune(t.Context(), at(10), 10); n != 1 || err != nil {
		t.Errorf("pruned %d, %v", n, err)
	}
	expect(1, 1, 1)
	if f := readFlow(t, s, flowID(2)); f.CreatedBy != "k1" {
		t.Errorf("created by %q", f.CreatedBy)
	}
}

func apiKeyCases() []testCase {
	return []testCase{
		{"APIKeys", "APIKeys reads every key, oldest first; AddAPIKey records a key.", testAPIKeys},
		{"Revoke", "RevokeAPIKey revokes a key as of the database's clock, or does nothing where that was done before.", testRevoke},
		{"Use", "An earlier time than the recorded one, or an unknown id, changes nothing.", testKeyUse},
	}
}

func newAPIKey(n int) store.APIKey {
	return store.APIKey{ID: fmt.Sprint("key", n), Name: fmt.Sprintf("n%d é", n), Hash: [32]byte{0, byte(n)}, Scopes: []string{"flows:read", "admin"},
		Owners: "agent:é:*", CreatedAt: at(n)}
}

func apiKeysText(t *testing.T, s store.Store) string {
	t.Helper()
	list, err := s.APIKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return lines(list, apiKeyText)
}

func apiKeyText(k store.APIKey) string {
	return fmt.Sprintf("%q %q %x %q %q %s %s %s %s", k.ID, k.Name, k.Hash, k.Scopes, k.Owners, timeText(k.CreatedAt),
		optional(k.ExpiresAt, timeText), optional(k.RevokedAt, timeText), optional(k.LastUsedAt, timeText))
}

func testAPIKeys(t *testing.T, s store.Store) {
	same(t, "no keys", apiKeysText(t, s), "")
	young, old := newAPIKey(2), newAPIKey(1)
	old.ExpiresAt, old.RevokedAt, old.LastUsedAt = pointer(at(50)), pointer(at(40)), pointer(at(30))
	old.Scopes = []string{"events:write"}
	for _, k := range []store.APIKey{young, old} {
		if err := s.AddAPIKey(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "keys", apiKeysText(t, s), lines([]store.APIKey{old, young}, apiKeyText))
	again := newAPIKey(2)
	again.Hash[9] = 1
	if err := s.AddAPIKey(t.Context(), again); !errors.Is(err, flows.ErrAlreadyExists) {
		t.Errorf("a taken id: %v", err)
	}
	same(t, "keys", apiKeysText(t, s), lines([]store.APIKey{old, young}, apiKeyText))
}

func testRevoke(t *testing.T, s store.Store) {
	if err := s.AddAPIKey(t.Context(), newAPIKey(1)); err != nil {
		t.Fatal(err)
	}
	before := load(t, s, store.Need{}).Now
	if err := s.RevokeAPIKey(t.Context(), "key1"); err != nil {
		t.Fatal(err)
	}
	after, first := load(t, s, store.Need{}).Now, apiKeysText(t, s)
	list, err := s.APIKeys(t.Context())
	if err != nil || list[0].RevokedAt == nil || list[0].RevokedAt.Before(before) || list[0].RevokedAt.After(after) {
		t.Fatalf("revoked: %s, %v; want between %s and %s", first, err, before, after)
	}
	if err := s.RevokeAPIKey(t.Context(), "key1"); err != nil {
		t.Error(err)
	}
	same(t, "revoked again", apiKeysText(t, s), first)
	if err := s.RevokeAPIKey(t.Context(), "key2"); !errors.Is(err, flows.ErrNotFound) {
		t.Errorf("an unknown key: %v", err)
	}
}

func testKeyUse(t *testing.T, s store.Store) {
	for n := range 2 {
		if err := s.AddAPIKey(t.Context(), newAPIKey(n)); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		used map[string]time.Time
		want [2]int
	}{
		{map[string]time.Time{"key0": at(10), "key1": at(20), "key7": at(30)}, [2]int{10, 20}},
		{map[string]time.Time{"key0": at(15), "key1": at(15)}, [2]int{15, 20}},
		{map[string]time.Time{"key7": at(30)}, [2]int{15, 20}},
		{nil, [2]int{15, 20}},
	} {
		if err := s.NoteKeyUse(t.Context(), step.used); err != nil {
			t.Fatal(err)
		}
		list, err := s.APIKeys(t.Context())
		if err != nil || len(list) != 2 || !list[0].LastUsedAt.Equal(at(step.want[0])) || !list[1].LastUsedAt.Equal(at(step.want[1])) {
			t.Errorf("after %v: %s, %v", step.used, lines(list, apiKeyText), err)
		}
	}
}
