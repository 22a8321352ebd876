package auth

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"taskflow/internal/auth/authtest"
)

func tokensOf(t *testing.T, issuer *authtest.Issuer) *Tokens {
	t.Helper()
	tokens := NewTokens(t.Context(), TokenOptions{
		Issuer: issuer.URL, Audience: authtest.Audience, OwnerClaim: DefaultOwnerClaim, Logger: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(tokens.Close)
	return tokens
}

// forget has the next question go to the issuer, as when a while has passed.
func (t *issuerTransport) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range t.known {
		d.mu.Lock()
		d.asked = time.Time{}
		d.mu.Unlock()
	}
}

// TestTokens_KnownKeysOutliveAnOutage reads everything again while the issuer, or its keys alone, cannot be reached.
func TestTokens_KnownKeysOutliveAnOutage(t *testing.T) {
	issuer := authtest.Start(t)
	tokens := tokensOf(t, issuer)
	first := issuer.Token(nil)
	again := func() error {
		tokens.issuer.forget()
		return tokens.discover(t.Context())
	}
	for what, set := range map[string]func(bool){"the issuer": issuer.SetDown, "its keys": issuer.SetKeysDown} {
		if err := again(); err != nil { // and no token comes before the outage
			t.Fatal(err)
		}
		set(true)
		tokens.issuer.forget()
		if _, err := tokens.caller(t.Context(), first); err != nil {
			t.Errorf("%s away before the first token: %v", what, err)
		}
		if err := again(); err == nil {
			t.Errorf("%s away, and read all the same", what)
		}
		if _, err := tokens.caller(t.Context(), first); err != nil {
			t.Errorf("%s away: a token of a known key: %v", what, err)
		}
		long := *tokens.known.Load()
		long.at = long.at.Add(-knownFor)
		tokens.known.Store(&long)
		if _, err := tokens.caller(t.Context(), first); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s away for long: %v, want it to be unknown", what, err)
		}
		set(false)
	}
	if err := again(); err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.caller(t.Context(), first); err != nil {
		t.Errorf("back again: %v", err)
	}
	issuer.Rotate()
	if err := again(); err != nil {
		t.Fatal(err)
	}
	var refused *Refused
	if _, err := tokens.caller(t.Context(), first); !errors.As(err, &refused) {
		t.Errorf("a withdrawn key: %v", err)
	}
}

// TestTokens_KeysMustBeSafe has the issuer name keys that somebody on the way could change.
func TestTokens_KeysMustBeSafe(t *testing.T) {
	for _, c := range []struct {
		issuer, keys string
		safe         bool
	}{
		{"https://issuer.example", "https://issuer.example/keys", true}, {"https://issuer.example", "https://keys.example/", true},
		{"http://127.0.0.1:9000", "http://127.0.0.1:9000/keys", true}, {"http://localhost:9000", "http://[::1]:9000/keys", true}, {"http://localhost:9000", "https://keys.example/", true},
		{"https://issuer.example", "http://issuer.example/keys", false}, {"https://issuer.example", "http://127.0.0.1/keys", false}, {"http://127.0.0.1:9000", "http://issuer.example/keys", false},
		{"https://issuer.example", "/keys", false}, {"https://issuer.example", "https:///keys", false}, {"https://issuer.example", "ftp://issuer.example/keys", false}, {"https://issuer.example", "https://a b", false},
	} {
		if safeKeys(c.issuer, c.keys) != c.safe {
			t.Errorf("%s of %s: safe %t, want %t", c.keys, c.issuer, !c.safe, c.safe)
		}
	}
	issuer := authtest.Start(t)
	issuer.SetKeysURL(strings.Replace(issuer.URL, "127.0.0.1", "0.0.0.0", 1) + "/keys") // it answers there, and that is no name of this machine
	tokens := tokensOf(t, issuer)
	if _, err := tokens.caller(t.Context(), issuer.Token(nil)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a token by keys over http: %v", err)
	}
}
