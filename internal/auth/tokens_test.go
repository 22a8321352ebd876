package auth_test

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"taskflow/internal/auth"
	"taskflow/internal/auth/authtest"
	"taskflow/internal/flows"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tokenGate takes the tokens of an issuer.
func tokenGate(t *testing.T, issuer *authtest.Issuer) *auth.Gate {
	t.Helper()
	tokens := auth.NewTokens(t.Context(), auth.TokenOptions{
		Issuer: issuer.URL, Audience: authtest.Audience, OwnerClaim: auth.DefaultOwnerClaim, Logger: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(tokens.Close)
	return auth.NewGate(nil, tokens)
}

func ask(t *testing.T, g *auth.Gate, token string) (auth.Caller, error) {
	t.Helper()
	return g.Caller(t.Context(), []string{"Bearer " + token})
}

func TestToken_SaysWhoAndWhat(t *testing.T) {
	issuer := authtest.Start(t)
	g := tokenGate(t, issuer)
	for name, c := range map[string]struct {
		claims map[string]any
		scopes []auth.Scope
		owners flows.Owners
	}{
		"scope in words":  {nil, []auth.Scope{auth.ReadFlows, auth.WriteFlows, auth.WriteEvents}, "*"},
		"scp in words":    {map[string]any{"scope": nil, "scp": "admin webhooks"}, []auth.Scope{auth.Webhooks, auth.Admin}, "*"},
		"scp as a list":   {map[string]any{"scope": nil, "scp": []string{"flows:read", "other"}}, []auth.Scope{auth.ReadFlows}, "*"},
		"scope is first":  {map[string]any{"scope": "flows:read", "scp": "admin"}, []auth.Scope{auth.ReadFlows}, "*"},
		"no scopes":       {map[string]any{"scope": nil}, nil, "*"},
		"a prefix":        {map[string]any{"taskflow_owner": "agent:kate:*", "scope": "flows:readflows:write"}, nil, "agent:kate:*"},
		"several to hear": {map[string]any{"aud": []string{"other", authtest.Audience}, "scope": nil}, nil, "*"},
	} {
		got, err := ask(t, g, issuer.Token(c.claims))
		if err != nil || !slices.Equal(got.Scopes, c.scopes) || got.Owners != c.owners || got.Name != "tester" || got.ID != "jwt:tester" || !got.Limited {
			t.Errorf("%s: %+v, %v; want scopes %v and owners %s", name, got, err, c.scopes, c.owners)
		}
	}
}

func TestToken_Refused(t *testing.T) {
	issuer, other := authtest.Start(t), authtest.Start(t)
	g := tokenGate(t, issuer)
	good := issuer.Token(nil)
	head, rest, _ := strings.Cut(good, ".")
	claims, signature, _ := strings.Cut(rest, ".")
	for name, token := range map[string]string{
		"expired":             issuer.Token(map[string]any{"exp": time.Now().Add(-time.Second).Unix()}),
		"without an end":      issuer.Token(map[string]any{"exp": nil}),
		"not good yet":        issuer.Token(map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}),
		"not good for 6 min":  issuer.Token(map[string]any{"nbf": time.Now().Add(6 * time.Minute).Unix()}),
		"for another":         issuer.Token(map[string]any{"aud": "other"}),
		"for nobody":          issuer.Token(map[string]any{"aud": nil}),
		"of another issuer":   other.Token(nil),
		"claims another":      issuer.Token(map[string]any{"iss": other.URL}),
		"unsigned":            issuer.Unsigned(),
		"signed with HS256":   issuer.Symmetric(),
		"of an unknown key":   issuer.Stranger("no-such-key"),
		"of a false key":      issuer.Stranger("key-1"),
		"of no named key":     issuer.Stranger(""),
		"without a signature": head + "." + claims + ".",
		"of other claims":     head + "." + strings.ToUpper(claims) + "." + signature,
		"in pieces":           head, "empty parts": "..", "no token": "x",
		"nobody":         issuer.Token(map[string]any{"sub": nil}),
		"the server":     issuer.Token(map[string]any{"sub": flows.ActorTimer}),
		"anonymous":      issuer.Token(map[string]any{"sub": "anonymous"}),
		"of a long name": issuer.Token(map[string]any{"sub": strings.Repeat("x", 257)}),
		"a foreign key":  "tfk_abc_def",
	} {
		var refused *auth.Refused
		if got, err := ask(t, g, token); !errors.As(err, &refused) || strings.Contains(err.Error(), token) {
			t.Errorf("a token %s: %+v, %v", name, got, err)
		}
	}
	if _, err := ask(t, g, good); err != nil {
		t.Errorf("the good one afterwards: %v", err)
	}
}

// TestToken_SignedByEachAlgorithm holds that whichever of the pinned algorithms an issuer signs by, its tokens are taken, also
// where they do not say which key it was.
func TestToken_SignedByEachAlgorithm(t *testing.T) {
	issuer := authtest.Start(t)
	tokens := map[string]string{"without the key's id": issuer.Nameless()}
	for _, algorithm := range []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	} {
		tokens[string(algorithm)] = issuer.SignedBy(algorithm)
	}
	// An issuer's clock may be a little ahead of this server's.
	tokens["good in a minute"] = issuer.Token(map[string]any{"nbf": time.Now().Add(time.Minute).Unix()})
	g := tokenGate(t, issuer) // which reads the keys, now that all are published
	for what, token := range tokens {
		if got, err := ask(t, g, token); err != nil || got.Name != "tester" {
			t.Errorf("a token %s: %+v, %v", what, got, err)
		}
	}
}

// TestToken_WithoutOwner holds that a token which says nothing of owners is for no flow.
func TestToken_WithoutOwner(t *testing.T) {
	issuer := authtest.Start(t)
	g := tokenGate(t, issuer)
	for _, owner := range []any{nil, "", 7, []string{"*"}, map[string]any{}, "a*b", "a\x00b", strings.Repeat("x", 300)} {
		got, err := ask(t, g, issuer.Token(map[string]any{"taskflow_owner": owner}))
		var none *auth.NoOwner
		if !errors.As(err, &none) || none.Claim != "taskflow_owner" {
			t.Errorf("owner %v: %+v, %v", owner, got, err)
		}
	}
}

// TestToken_RotatedKeys holds that a new key is taken without a restart, and that strangers cannot have the issuer asked
// without end.
func TestToken_RotatedKeys(t *testing.T) {
	issuer := authtest.Start(t)
	g := tokenGate(t, issuer)
	if _, err := ask(t, g, issuer.Token(nil)); err != nil {
		t.Fatal(err)
	}
	issuer.Rotate()
	token := issuer.Token(nil)
	eventually(t, "the rotated key is taken", func() bool { _, err := ask(t, g, token); return err == nil })
	before, began := issuer.Served("/keys"), time.Now()
	stranger := issuer.Stranger("no-such-key")
	for range 200 {
		_, _ = ask(t, g, stranger)
	}
	if asked, most := issuer.Served("/keys")-before, int(time.Since(began)/time.Second)+2; asked > most {
		t.Errorf("200 tokens of an unknown key had the keys read %d times, want at most %d", asked, most)
	}
}

// TestToken_IssuerAway holds that a server starts without its issuer, and refuses to guess.
func TestToken_IssuerAway(t *testing.T) {
	issuer := authtest.Start(t)
	issuer.SetDown(true)
	g := tokenGate(t, issuer)
	token := issuer.Token(nil)
	if _, err := ask(t, g, token); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("before the issuer was reached: %v", err)
	}
	issuer.SetDown(false)
	eventually(t, "the issuer is found", func() bool { _, err := ask(t, g, token); return err == nil })
	issuer.SetDown(true)
	issuer.Rotate()
	rotated := issuer.Token(nil)
	eventually(t, "a key that cannot be read is not guessed at", func() bool {
		_, err := ask(t, g, rotated)
		return errors.Is(err, auth.ErrUnavailable)
	})
	if _, err := ask(t, g, token); err != nil {
		t.Errorf("a token of a known key while the issuer is away: %v", err)
	}
}

// eventually asks until the answer is yes.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-limit.C:
			t.Fatalf("not within 20 s: %s", what)
		case <-tick.C:
		}
	}
}
