package auth

import (
	"context"
	"strings"

	"taskflow/internal/flows"
)

// Gate tells who sent a request.
type Gate struct {
	keys   *Keys
	tokens *Tokens
}

// NewGate makes a gate that takes API keys, JWTs or both; what is nil it does not take. With neither, everybody is let in
// as one anonymous caller who may do everything.
func NewGate(keys *Keys, tokens *Tokens) *Gate { return &Gate{keys, tokens} }

// Ready tells whether API keys can be checked now, with ErrUnavailable where they cannot: a server whose list of them is too
// old refuses everybody, for up to a second after its database is back. Tokens are not asked about, for where their issuer is
// away, it is so for every server.
func (g *Gate) Ready(ctx context.Context) error {
	if g.keys == nil {
		return nil
	}
	_, err := g.keys.fresh(ctx)
	return err
}

// Caller is who sent a request with these Authorization headers. Errors: ErrNoCredentials, Refused, NoOwner,
// ErrUnavailable, ctx's.
func (g *Gate) Caller(ctx context.Context, authorization []string) (Caller, error) {
	if g.keys == nil && g.tokens == nil { // nobody has to say who they are
		return Caller{ID: anonymous, Name: anonymous, Scopes: Scopes(), Owners: flows.Everyone}, nil
	}
	switch len(authorization) {
	case 0:
		return Caller{}, ErrNoCredentials
	case 1:
	default:
		return Caller{}, &Refused{Reason: "The Authorization header must be sent once."}
	}
	scheme, credentials, _ := strings.Cut(authorization[0], " ")
	if credentials = strings.TrimSpace(credentials); !strings.EqualFold(scheme, "bearer") || credentials == "" {
		return Caller{}, &Refused{Reason: "The Authorization header must be: Bearer, a space, and an API key or a token."}
	}
	isKey := strings.HasPrefix(credentials, keyPrefix)
	switch {
	case isKey && g.keys != nil:
		return g.keys.caller(ctx, credentials)
	case isKey:
		return Caller{}, &Refused{Reason: "This server takes no API keys."}
	case g.tokens != nil:
		return g.tokens.caller(ctx, credentials)
	}
	return Caller{}, &Refused{Reason: "The API key is not known here, or was revoked."}
}
