package auth_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"taskflow/internal/auth"
	"taskflow/internal/store"
)

// fakeStore keeps keys in memory, counts how often it is asked, and fails on demand.
type fakeStore struct {
	mu    sync.Mutex
	keys  []store.APIKey
	away  bool
	reads int
	notes []map[string]time.Time
}

func (s *fakeStore) APIKeys(context.Context) ([]store.APIKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if s.away {
		return nil, store.ErrUnavailable
	}
	return slices.Clone(s.keys), nil
}

func (s *fakeStore) NoteKeyUse(_ context.Context, used map[string]time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return store.ErrUnavailable
	}
	s.notes = append(s.notes, maps.Clone(used))
	return nil
}

func (s *fakeStore) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// noted are the batches of times of use.
func (s *fakeStore) noted() []map[string]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.notes)
}

// add makes a key and returns its text.
func (s *fakeStore) add(t *testing.T, lifetime time.Duration) string {
	t.Helper()
	key, text, err := auth.NewKey(auth.KeySpec{Name: "kate", Scopes: []auth.Scope{auth.ReadFlows}, Owners: "agent:kate:*", Lifetime: lifetime}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s.set(func() { s.keys = append(s.keys, key) })
	return text
}

func (s *fakeStore) revoke(i int) {
	s.set(func() { now := time.Now(); s.keys[i].RevokedAt = &now })
}

// after lets time pass on the bubble's clock: none of the machine's.
func after(d time.Duration) { <-time.After(d) }

// keyGate takes the keys of a store, within a bubble of its own time.
func keyGate(t *testing.T, test func(t *testing.T, s *fakeStore, g *auth.Gate, keys *auth.Keys)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{}
		keys := auth.NewKeys(s, slog.New(slog.DiscardHandler))
		test(t, s, auth.NewGate(keys, nil), keys)
		if err := keys.Close(context.Background()); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
}

func TestKey_IsWhoItSaysAndNoOther(t *testing.T) {
	keyGate(t, func(t *testing.T, s *fakeStore, g *auth.Gate, _ *auth.Keys) {
		text := s.add(t, 0)
		c, err := ask(t, g, text)
		if err != nil || c.Name != "kate" || c.Owners != "agent:kate:*" || !c.May(auth.ReadFlows) || c.May(auth.WriteFlows) || !c.Limited || c.ID == "" {
			t.Fatalf("%+v, %v", c, err)
		}
		if parts := strings.SplitN(text, "_", 3); parts[0] != "tfk" || len(parts[1]) < 12 || len(parts[2]) != 43 || c.ID != "key:"+parts[1] {
			t.Errorf("the key %s is not of its form, or the caller %s not its id", text, c.ID)
		}
		last := text[len(text)-1:]
		for _, other := range []string{
			text[:len(text)-1], text + "x", text[:len(text)-1] + map[bool]string{true: "B", false: "A"}[last == "A"], strings.ToUpper(text),
			"tfk_", "tfk__", "tfk_x", text + strings.Repeat("x", 1000), "tfk_" + text, "key", strings.TrimPrefix(text, "tfk_"), "tfk_no-such-id_" + text[21:],
		} {
			var refused *auth.Refused
			if c, err := ask(t, g, other); !errors.As(err, &refused) {
				t.Errorf("%s: %+v, %v", other, c, err)
			}
		}
		for _, header := range [][]string{{"Bearer"}, {"Bearer "}, {text}, {"Basic " + text}, {""}, {"Bearer " + text, "Bearer " + text}, {"Bearer " + text + ", x"}} {
			var refused *auth.Refused
			if _, err := g.Caller(t.Context(), header); !errors.As(err, &refused) {
				t.Errorf("%q: %v", header, err)
			}
		}
		if _, err := g.Caller(t.Context(), nil); !errors.Is(err, auth.ErrNoCredentials) {
			t.Errorf("without a header: %v", err)
		}
		if _, err := g.Caller(t.Context(), []string{"bearer  " + text}); err != nil {
			t.Errorf("the scheme in small letters: %v", err)
		}
	})
}

// TestKey_RevocationHoldsWithinFiveSeconds uses a key all the time, from many places at once.
func TestKey_RevocationHoldsWithinFiveSeconds(t *testing.T) {
	keyGate(t, func(t *testing.T, s *fakeStore, g *auth.Gate, _ *auth.Keys) {
		text := s.add(t, 0)
		for range 37 {
			if _, err := ask(t, g, text); err != nil {
				t.Fatal(err)
			}
			after(100 * time.Millisecond)
		}
		s.revoke(0)
		for revoked := time.Now(); ; after(100 * time.Millisecond) {
			if _, err := ask(t, g, text); err != nil {
				return
			}
			if time.Since(revoked) >= 5*time.Second {
				t.Fatal("a key is good 5 s after it was revoked")
			}
		}
	})
}

// TestKey_AfterAPauseTheListIsReadFirst holds the same where nobody came meanwhile.
func TestKey_AfterAPauseTheListIsReadFirst(t *testing.T) {
	keyGate(t, func(t *testing.T, s *fakeStore, g *auth.Gate, _ *auth.Keys) {
		text := s.add(t, 0)
		if _, err := ask(t, g, text); err != nil {
			t.Fatal(err)
		}
		s.revoke(0)
		after(5 * time.Second)
		if _, err := ask(t, g, text); err == nil {
			t.Error("a key is good 5 s after it was revoked")
		}
	})
}

// TestKey_DatabaseAway holds that keys stay good for a moment, and then nobody is let in who may have been revoked.
func TestKey_DatabaseAway(t *testing.T) {
	keyGate(t, func(t *testing.T, s *fakeStore, g *auth.Gate, _ *auth.Keys) {
		text := s.add(t, 0)
		if _, err := ask(t, g, text); err != nil {
			t.Fatal(err)
		}
		s.revoke(0)
		s.set(func() { s.away = true })
		gone, served := time.Now(), 0
		for time.Since(gone) < 10*time.Second {
			_, err := ask(t, g, text)
			switch age := time.Since(gone); {
			case err == nil && age >= 5*time.Second:
				t.Fatalf("a key is good %v after the database was last asked", age)
			case err == nil:
				served++
			case !errors.Is(err, auth.ErrUnavailable):
				t.Fatal(err)
			}
			after(50 * time.Millisecond)
		}
		if s.reads > 15 || served < 20 {
			t.Errorf("in 10 s the list was asked for %d times; %d requests were served before that", s.reads, served)
		}
		if err := g.Ready(t.Context()); !errors.Is(err, auth.ErrUnavailable) {
			t.Errorf("a gate that lets nobody in is ready: %v", err)
		}
		s.set(func() { s.away = false })
		after(time.Second)
		if err := g.Ready(t.Context()); err != nil {
			t.Errorf("ready, when the database is back: %v", err)
		}
		var refused *auth.Refused
		if _, err := ask(t, g, text); !errors.As(err, &refused) {
			t.Errorf("when the database is back: %v", err)
		}
	})
}

func TestKey_NewOnesAreGoodAtOnce(t *testing.T) {
	keyGate(t, func(t *testing.T, s *fakeStore, g *auth.Gate, _ *auth.Keys) {
		if _, err := ask(t, g, s.add(t, 0)); err != nil {
			t.Error(err)
		}
		if _, err := ask(t, g, s.add(t, 0)); err != nil {
			t.Errorf("one that was made since the list was read: %v", err)
		}
	})
}

// TestKey_UnknownIDsDoNotFloodTheDatabase sends 10,000 of them within ten seconds.
func TestKey_UnknownIDsDoNotFloodTheDatabase(t *testing.T) {
	keyGate(t, func(t *testing.T, s *fakeStore, g *auth.Gate, _ *auth.Keys) {
		for i := range 10_000 {
			_, _ = ask(t, g, fmt.Sprintf("tfk_unknown%d_x", i))
			after(time.Millisecond)
		}
		if s.reads > 25 {
			t.Errorf("the list was read %d times in 10 s", s.reads)
		}
	})
}

func TestKey_Expires(t *testing.T) {
	keyGate(t, func(t *testing.T, s *fakeStore, g *auth.Gate, _ *auth.Keys) {
		text := s.add(t, 90*24*time.Hour)
		after(90*24*time.Hour - time.Second)
		if _, err := ask(t, g, text); err != nil {
			t.Errorf("a second before its end: %v", err)
		}
		after(time.Second)
		var refused *auth.Refused
		if _, err := ask(t, g, text); !errors.As(err, &refused) {
			t.Errorf("at its end: %v", err)
		}
	})
}

// TestKey_LastUseIsWrittenOnceAMinute counts the batches, also where one fails, and the one at the end.
func TestKey_LastUseIsWrittenOnceAMinute(t *testing.T) {
	keyGate(t, func(t *testing.T, s *fakeStore, g *auth.Gate, keys *auth.Keys) {
		a, b := s.add(t, 0), s.add(t, 0)
		use := func(text string) time.Time {
			if _, err := ask(t, g, text); err != nil {
				t.Fatal(err)
			}
			return time.Now()
		}
		for range 59 {
			use(a)
			use(b)
			after(time.Second)
		}
		if notes := s.noted(); len(notes) != 0 {
			t.Errorf("written within the minute: %v", notes)
		}
		last := use(a)
		s.set(func() { s.away = true })
		after(2 * time.Second)
		s.set(func() { s.away = false })
		after(time.Minute)
		if notes := s.noted(); len(notes) != 1 || len(notes[0]) != 2 || !notes[0][s.keys[0].ID].Equal(last) {
			t.Errorf("after two minutes: %v, want one batch of two, the first at %v", notes, last)
		}
		after(10 * time.Minute)
		if notes := s.noted(); len(notes) != 1 {
			t.Errorf("written although nothing was used: %v", notes)
		}
		last = use(b)
		err := keys.Close(context.Background())
		if notes := s.noted(); err != nil || len(notes) != 2 || !notes[1][s.keys[1].ID].Equal(last) {
			t.Errorf("at the end: %v, %v", notes, err)
		}
	})
}

func TestNewKey_RefusesWhatCannotBe(t *testing.T) {
	good := auth.KeySpec{Name: "n", Scopes: []auth.Scope{auth.Admin, auth.ReadFlows, auth.Admin}, Owners: "*"}
	key, text, err := auth.NewKey(good, time.Now())
	if err != nil || !slices.Equal(key.Scopes, []string{"admin", "flows:read"}) || key.ExpiresAt != nil {
		t.Errorf("%+v, %v", key, err)
	}
	if _, again, err := auth.NewKey(good, time.Now()); err != nil || again == text {
		t.Errorf("two keys are alike: %v", err)
	}
	for name, change := range map[string]func(*auth.KeySpec){
		"no name":           func(s *auth.KeySpec) { s.Name = "" },
		"a name too long":   func(s *auth.KeySpec) { s.Name = strings.Repeat("n", 257) },
		"the server's name": func(s *auth.KeySpec) { s.Name = "external-event" },
		"a broken name":     func(s *auth.KeySpec) { s.Name = "a\xff" },
		"no scope":          func(s *auth.KeySpec) { s.Scopes = nil },
		"no such scope":     func(s *auth.KeySpec) { s.Scopes = []auth.Scope{"flows:*"} },
		"no owner":          func(s *auth.KeySpec) { s.Owners = "" },
		"an owner inside":   func(s *auth.KeySpec) { s.Owners = "a*b" },
	} {
		spec := good
		change(&spec)
		if key, _, err := auth.NewKey(spec, time.Now()); err == nil {
			t.Errorf("%s: made %+v", name, key)
		}
	}
}

func TestGate_OpenLetsEverybodyIn(t *testing.T) {
	c, err := auth.NewGate(nil, nil).Caller(t.Context(), []string{"Bearer nonsense"})
	if err != nil || c.Name != "anonymous" || c.Limited || !slices.Equal(c.Scopes, auth.Scopes()) || !c.Owners.Covers("anybody") {
		t.Errorf("%+v, %v", c, err)
	}
}
