package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"taskflow/internal/flows"

	"github.com/coreos/go-oidc/v3/oidc"
)

// TokenOptions say whose JWTs are taken.
type TokenOptions struct {
	// Issuer is the URL that discovery begins at, and a token's iss.
	Issuer string
	// Audience must be in a token's aud.
	Audience string
	// OwnerClaim is the claim with the owners of the token's holder.
	OwnerClaim string
	Logger     *slog.Logger
}

// DefaultOwnerClaim is the claim that says whose flows a token is for.
const DefaultOwnerClaim = "taskflow_owner"

const (
	// discoverAgain is how often what the issuer says of itself, and its keys, are read again; keys that it has withdrawn
	// are forgotten then. What was read last serves on where they cannot be read, but not for longer than knownFor: by then
	// most tokens that were good have expired, and a key may have been withdrawn for a reason.
	discoverAgain = 10 * time.Minute
	knownFor      = time.Hour
	// While the issuer cannot be asked it is tried more often, less and less.
	discoverFirst, discoverLast = time.Second, 30 * time.Second
)

// signatures are the algorithms that a token may be signed with: none whose secret the verifier shares.
func signatures() []string {
	return []string{
		oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
	}
}

// Tokens checks JWTs by what OpenID Connect discovery says of their issuer. It owns one goroutine, which keeps that
// fresh, from NewTokens to Close. While nothing is known of the issuer, no token is good.
type Tokens struct {
	options TokenOptions
	issuer  *issuerTransport
	client  *http.Client
	context context.Context // with the client; it never ends
	known   atomic.Pointer[knownIssuer]
	stop    context.CancelFunc
	work    sync.WaitGroup
}

// knownIssuer is what the issuer said of itself, and when.
type knownIssuer struct {
	verifier *oidc.IDTokenVerifier
	at       time.Time
}

// NewTokens starts to check tokens. It asks the issuer once, until ctx ends, and goes on asking by itself where that fails.
func NewTokens(ctx context.Context, o TokenOptions) *Tokens {
	running, stop := context.WithCancel(context.Background())
	t := &Tokens{options: o, issuer: newIssuerTransport(), stop: stop}
	t.client = &http.Client{Transport: t.issuer, Timeout: issuerTimeout}
	t.context = oidc.ClientContext(context.Background(), t.client)
	if err := t.discover(ctx); err != nil {
		o.Logger.WarnContext(ctx, "the issuer of tokens cannot be reached yet", "issuer", o.Issuer, "error", err)
	}
	t.work.Go(func() { t.discoverAll(running) })
	return t
}

// Close ends the goroutine.
func (t *Tokens) Close() {
	t.stop()
	t.work.Wait()
	t.issuer.close()
}

// discover reads what the issuer says of itself, and its keys. Where either cannot be had, what was known stays.
func (t *Tokens) discover(ctx context.Context) error {
	asking, cancel := context.WithCancel(t.context)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	now := time.Now()
	provider, err := oidc.NewProvider(asking, t.options.Issuer)
	if err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	var said struct {
		Keys string `json:"jwks_uri"`
	}
	if err := provider.Claims(&said); err != nil || said.Keys == "" {
		return fmt.Errorf("discovery: no jwks_uri: %w", err)
	}
	if !safeKeys(t.options.Issuer, said.Keys) {
		return errors.New("discovery: the issuer's jwks_uri is not https: whoever is on the way could put keys of their own there")
	}
	if err := t.checkKeys(asking, said.Keys); err != nil {
		return fmt.Errorf("the issuer's keys: %w", err)
	}
	keys := issuerKeys{oidc.NewRemoteKeySet(t.context, said.Keys)}
	// The library reads the keys for the first signature that it checks. That must not be a token's: the issuer may be away
	// by then. The answer is the one that was just read.
	_, _ = keys.VerifySignature(asking, nobodysToken)
	t.known.Store(&knownIssuer{at: now, verifier: oidc.NewVerifier(t.options.Issuer, keys, &oidc.Config{
		ClientID: t.options.Audience, SupportedSigningAlgs: signatures(),
	})})
	return nil
}

// nobodysToken has the form of a signed token, and no signature that holds.
const nobodysToken = "eyJhbGciOiJSUzI1NiJ9.e30.AAAA"

// safeKeys reports whether nobody on the way can change what is read at a URL of keys: it is https, or on this machine, as
// its issuer is.
func safeKeys(issuer, keys string) bool {
	u, err := url.Parse(keys)
	if err != nil || u.Host == "" {
		return false
	}
	if u.Scheme == "https" {
		return true
	}
	from, err := url.Parse(issuer)
	return err == nil && u.Scheme == "http" && from.Scheme == "http" && Loopback(from.Hostname()) && Loopback(u.Hostname())
}

// Loopback reports whether a host, without its port, is this machine itself by every resolver's word.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// checkKeys reads the keys; no key at all is an error too.
func (t *Tokens) checkKeys(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := t.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.NewDecoder(response.Body).Decode(&set); err != nil {
		return fmt.Errorf("%w: %w", errIssuer, err)
	}
	if len(set.Keys) == 0 {
		return fmt.Errorf("%w: there are none", errIssuer)
	}
	return nil
}

// discoverAll keeps what is known of the issuer fresh, until ctx ends.
func (t *Tokens) discoverAll(ctx context.Context) {
	pause := discoverFirst
	if t.known.Load() != nil {
		pause = discoverAgain
	}
	for {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		err := t.discover(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			pause = discoverAgain
			continue
		case pause == discoverAgain:
			pause = discoverFirst
		default:
			pause = min(2*pause, discoverLast)
		}
		t.options.Logger.Warn("the issuer of tokens cannot be reached", "issuer", t.options.Issuer, "error", err)
	}
}

// caller is whose token it is. Errors: Refused, NoOwner, ErrUnavailable.
func (t *Tokens) caller(ctx context.Context, raw string) (Caller, error) {
	known := t.known.Load()
	if known == nil || time.Since(known.at) > knownFor {
		return Caller{}, fmt.Errorf("%w: the issuer was not reached, yet or for long", ErrUnavailable)
	}
	var away bool
	token, err := known.verifier.Verify(context.WithValue(ctx, awayKey{}, &away), raw)
	var expired *oidc.TokenExpiredError
	switch {
	case err == nil:
		return t.callerOf(token)
	case errors.As(err, &expired):
		return Caller{}, &Refused{Reason: "The token has expired, or does not say when it does."}
	case ctx.Err() != nil:
		return Caller{}, ctx.Err()
	case away:
		return Caller{}, fmt.Errorf("%w: the issuer's keys cannot be read", ErrUnavailable)
	}
	t.options.Logger.DebugContext(ctx, "a token is refused", "error", err)
	return Caller{}, &Refused{Reason: "The token is not one of this server's issuer and audience, or its signature does not hold."}
}

func (t *Tokens) callerOf(token *oidc.IDToken) (Caller, error) {
	var claims map[string]json.RawMessage
	if err := token.Claims(&claims); err != nil {
		return Caller{}, &Refused{Reason: "The token's claims cannot be read."}
	}
	if err := checkName(token.Subject); err != nil {
		return Caller{}, &Refused{Reason: "The token's sub cannot be a caller's name."}
	}
	var owners flows.Owners
	if json.Unmarshal(claims[t.options.OwnerClaim], &owners) != nil || owners.Validate() != nil {
		return Caller{}, &NoOwner{t.options.OwnerClaim}
	}
	c := Caller{ID: "jwt:" + token.Subject, Name: token.Subject, Owners: owners, Limited: true}
	granted := words(claims["scope"])
	if granted == nil {
		granted = words(claims["scp"])
	}
	for _, s := range Scopes() {
		if slices.Contains(granted, string(s)) {
			c.Scopes = append(c.Scopes, s)
		}
	}
	return c, nil
}

// words reads a claim that is a list, as issuers write it: words in a string, or an array of strings.
func words(claim json.RawMessage) []string {
	var text string
	if json.Unmarshal(claim, &text) == nil {
		return strings.Fields(text)
	}
	var list []string
	if json.Unmarshal(claim, &list) == nil {
		return list
	}
	return nil
}
