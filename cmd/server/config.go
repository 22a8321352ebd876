package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"taskflow/internal/auth"
	"taskflow/internal/pg"

	"github.com/dustin/go-humanize"
	"github.com/sosodev/duration"
)

// byteSize is a number of bytes: 1MiB, 256KiB, 65536.
type byteSize int64

// UnmarshalText reads a size that is at least one byte and at most a gigabyte.
func (b *byteSize) UnmarshalText(text []byte) error {
	n, err := humanize.ParseBytes(string(text))
	if err != nil || n < 1 || n > 1<<30 {
		return fmt.Errorf("%q is not a size like 256KiB, at most 1GiB", text)
	}
	*b = byteSize(n)
	return nil
}

// period is an ISO 8601 duration: P1D, PT15M.
type period time.Duration

// UnmarshalText reads a duration that is longer than zero. Years and months have no fixed length and are refused.
func (p *period) UnmarshalText(text []byte) error {
	d, err := duration.Parse(string(text))
	if err != nil || d.Years != 0 || d.Months != 0 || d.ToTimeDuration() <= 0 {
		return fmt.Errorf("%q is not a duration like P1D or PT15M", text)
	}
	*p = period(d.ToTimeDuration())
	return nil
}

// logFormat is a choice of one word.
type logFormat string

// UnmarshalText reads text, json or auto.
func (f *logFormat) UnmarshalText(text []byte) error { return oneOf(f, text, "text", "json", "auto") }

func oneOf[T ~string](field *T, text []byte, allowed ...T) error {
	if *field = T(text); !slices.Contains(allowed, *field) {
		return fmt.Errorf("%q is not one of %v", text, allowed)
	}
	return nil
}

// retention is how long something is kept: 0 for ever, or a period.
type retention time.Duration

// UnmarshalText reads 0 or a duration.
func (r *retention) UnmarshalText(text []byte) error {
	if string(text) == "0" {
		*r = 0
		return nil
	}
	return (*period)(r).UnmarshalText(text)
}

// parseSecretKey reads an AES-256 key; nil where none is given. An empty one is given: whoever sets it means to have secrets
// encrypted, and has lost it on the way here. The message does not repeat it.
func parseSecretKey(text *string) ([]byte, error) {
	if text == nil {
		return nil, nil
	}
	key, err := base64.StdEncoding.DecodeString(*text)
	if err != nil || len(key) != 32 {
		return nil, errors.New("TASKFLOW_SECRET_KEY must be 32 bytes in base64")
	}
	return key, nil
}

// databaseConfig is what every command that touches the database reads.
type databaseConfig struct {
	URL           string `name:"database-url" env:"TASKFLOW_DATABASE_URL" default:"sqlite:data/taskflow.db" placeholder:"URL" help:"sqlite:PATH or postgres://…; several hosts with target_session_attrs=read-write."`
	NoAutoMigrate bool   `name:"no-auto-migrate" env:"TASKFLOW_NO_AUTO_MIGRATE" help:"Leave the schema to 'server migrate'."`
}

// Validate refuses what is no database's URL. The message repeats the URL, its password masked, only where it is beyond
// doubt which part of it that is.
func (c *databaseConfig) Validate() error {
	form := errors.New("TASKFLOW_DATABASE_URL must be sqlite:PATH, with the path of a file, or postgres://USER:PASSWORD@HOST/DATABASE, special characters percent-encoded")
	if path, ok := c.sqlitePath(); ok {
		if strings.HasPrefix(path, ":") || strings.HasPrefix(path, "file:") {
			return form
		}
		return nil
	}
	if !strings.HasPrefix(c.URL, "postgres://") && !strings.HasPrefix(c.URL, "postgresql://") {
		return form
	}
	err := pg.CheckURL(c.URL)
	if err == nil {
		return nil
	}
	if _, unclear := url.Parse(c.URL); unclear != nil || strings.Count(c.URL, "@") > 1 {
		return form
	}
	return fmt.Errorf("TASKFLOW_DATABASE_URL: %w", err)
}

// sqlitePath is the file of an embedded database; ok is false where the database is PostgreSQL.
func (c *databaseConfig) sqlitePath() (path string, ok bool) {
	path, ok = strings.CutPrefix(c.URL, "sqlite:")
	return path, ok && path != ""
}

// authentication says which credentials are taken; neither means that none are needed.
type authentication struct{ keys, tokens bool }

// UnmarshalText reads none, keys, jwt, or the last two with a comma.
func (a *authentication) UnmarshalText(text []byte) error {
	*a = authentication{}
	if string(text) == "none" {
		return nil
	}
	for word := range strings.SplitSeq(string(text), ",") {
		switch {
		case word == "keys" && !a.keys:
			a.keys = true
		case word == "jwt" && !a.tokens:
			a.tokens = true
		default:
			return fmt.Errorf("%q is not none, keys, jwt or keys,jwt", text)
		}
	}
	return nil
}

// on reports whether callers must say who they are.
func (a authentication) on() bool { return a.keys || a.tokens }

// checkListen holds the rule of the first day: without authentication, only this machine is served.
func checkListen(address string, who authentication, allowed bool) error {
	host, err := hostOf("TASKFLOW_LISTEN", address)
	if err != nil {
		return err
	}
	if who.on() || allowed || auth.Loopback(host) {
		return nil
	}
	return fmt.Errorf("TASKFLOW_LISTEN=%s is open to others, and TASKFLOW_AUTH=none lets anybody in: set TASKFLOW_AUTH=keys, listen on 127.0.0.1, or set TASKFLOW_ALLOW_UNAUTHENTICATED=true if something in front of this server keeps strangers out", address)
}

// hostOf is the host of an address to listen on. It fails where that is none, or its port, and names the variable.
func hostOf(variable, address string) (host string, err error) {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %q is not host:port: %w", variable, address, err)
	}
	return host, nil
}
