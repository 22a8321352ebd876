package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"time"

	"taskflow/internal/auth"
)

// authConfig is who may call, and how much of the server one caller may use.
type authConfig struct {
	Auth                 authentication `env:"TASKFLOW_AUTH" default:"none" placeholder:"KINDS" help:"Who may call: none serves this machine only; keys, jwt, or keys,jwt."`
	AllowUnauthenticated bool           `env:"TASKFLOW_ALLOW_UNAUTHENTICATED" help:"Listen on other addresses without authentication all the same, and take requests for any Host."`
	JWTIssuer            string         `name:"jwt-issuer" env:"TASKFLOW_JWT_ISSUER" placeholder:"URL" help:"The issuer of JWTs, where OpenID Connect discovery begins."`
	JWTAudience          string         `name:"jwt-audience" env:"TASKFLOW_JWT_AUDIENCE" placeholder:"NAME" help:"The audience that a JWT must be for."`
	JWTOwnerClaim        string         `name:"jwt-owner-claim" env:"TASKFLOW_JWT_OWNER_CLAIM" default:"taskflow_owner" placeholder:"NAME" help:"The claim that says whose flows a JWT is for."`
	RateLimit            float64        `env:"TASKFLOW_RATE_LIMIT" default:"5000" placeholder:"N" help:"Requests a second that this server takes from one caller with credentials."`
	RateBurst            int            `env:"TASKFLOW_RATE_BURST" default:"10000" placeholder:"N" help:"How many of them may come at once."`
	MaxStreams           int            `env:"TASKFLOW_MAX_STREAMS" default:"100" placeholder:"N" help:"Streams that one caller may have open at this server."`
	MaxOpenFlows         int64          `env:"TASKFLOW_MAX_OPEN_FLOWS" default:"1000000" placeholder:"N" help:"Flows that have not ended which one caller with credentials may have."`
}

// Validate refuses what cannot be meant.
func (c *authConfig) Validate() error {
	for _, limit := range []struct {
		name string
		fine bool
	}{
		{"TASKFLOW_RATE_LIMIT", c.RateLimit > 0 && !math.IsInf(c.RateLimit, 1)},
		{"TASKFLOW_RATE_BURST", c.RateBurst > 0},
		{"TASKFLOW_MAX_STREAMS", c.MaxStreams > 0},
		{"TASKFLOW_MAX_OPEN_FLOWS", c.MaxOpenFlows > 0},
	} {
		if !limit.fine {
			return fmt.Errorf("%s must be greater than zero", limit.name)
		}
	}
	switch {
	case c.JWTOwnerClaim == "":
		return errors.New("TASKFLOW_JWT_OWNER_CLAIM must not be empty")
	case !c.Auth.tokens:
		return nil
	case c.JWTAudience == "":
		return errors.New("TASKFLOW_JWT_AUDIENCE must be set with TASKFLOW_AUTH=jwt")
	}
	return checkIssuer(c.JWTIssuer)
}

// checkIssuer wants an issuer whose answers nobody on the way can change: whoever could would let themselves in.
func checkIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.Scheme != "https" && !(u.Scheme == "http" && auth.Loopback(u.Hostname())) {
		return errors.New("TASKFLOW_JWT_ISSUER must be a URL like https://issuer.example.com, set with TASKFLOW_AUTH=jwt; http only on this machine")
	}
	return nil
}

// gate is what tells callers apart while the server runs.
type gate struct {
	*auth.Gate
	keys   *auth.Keys   // nil where they are not taken
	tokens *auth.Tokens // likewise
}

// gate starts to check credentials.
func (c *authConfig) gate(ctx context.Context, db *database, log *slog.Logger) *gate {
	var g gate
	if c.Auth.keys {
		g.keys = auth.NewKeys(db, log)
	}
	if c.Auth.tokens {
		g.tokens = auth.NewTokens(ctx, auth.TokenOptions{Issuer: c.JWTIssuer, Audience: c.JWTAudience, OwnerClaim: c.JWTOwnerClaim, Logger: log})
	}
	g.Gate = auth.NewGate(g.keys, g.tokens)
	return &g
}

// notePatience bounds what is still to be written about keys when the server stops.
const notePatience = time.Second

func (g *gate) close(log *slog.Logger) {
	if g.tokens != nil {
		g.tokens.Close()
	}
	if g.keys == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), notePatience)
	defer cancel()
	if err := g.keys.Close(ctx); err != nil {
		log.Warn("the last use of API keys was not noted", "error", err)
	}
}
