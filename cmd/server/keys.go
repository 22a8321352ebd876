package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"taskflow/internal/auth"
	"taskflow/internal/flows"
	"taskflow/internal/store"
)

// keysCommand administers API keys.
type keysCommand struct {
	Create createKeyCommand `cmd:"" help:"Make a key and print it, this once."`
	List   listKeysCommand  `cmd:"" help:"List the keys. They themselves are not kept."`
	Revoke revokeKeyCommand `cmd:"" help:"Revoke a key; every server refuses it within 5 seconds."`
}

// asides is where a command says what is not its output.
type asides struct{ io.Writer }

type createKeyCommand struct {
	Name    string   `required:"" help:"The name of its holder, for the audit trail."`
	Scope   []string `required:"" placeholder:"SCOPE" help:"What its holder may do: flows:read, flows:write, events:write, webhooks, admin. Repeat it for several."`
	Owner   string   `required:"" placeholder:"PATTERN" help:"Whose flows its holder sees and changes: an owner_session_key, or the beginning of some with * at its end, like agent:kate:*; * is everyone's."`
	Expires *period  `placeholder:"DURATION" help:"How long it is good for, like P90D; for ever where it is not given."`
}

// Run prints the key alone on standard output, so that it can be caught there.
func (c *createKeyCommand) Run(ctx context.Context, config *databaseConfig, out io.Writer, aside asides, log *slog.Logger) error {
	spec := auth.KeySpec{Name: c.Name, Owners: flows.Owners(c.Owner)}
	for _, s := range c.Scope {
		spec.Scopes = append(spec.Scopes, auth.Scope(s))
	}
	if c.Expires != nil {
		spec.Lifetime = time.Duration(*c.Expires)
	}
	if _, _, err := auth.NewKey(spec, time.Now()); err != nil { // before anything is opened
		return err
	}
	return withDatabase(ctx, config, log, func(db *database) error {
		now, err := store.Now(ctx, db)
		if err != nil {
			return err
		}
		key, text, err := auth.NewKey(spec, now)
		if err != nil {
			return err
		}
		if err := db.AddAPIKey(ctx, key); err != nil {
			return fmt.Errorf("recording the key: %w", err)
		}
		fmt.Fprintf(aside, "made key %s; it is shown this once:\n", key.ID)
		_, err = fmt.Fprintln(out, text)
		return err
	})
}

type listKeysCommand struct{}

// Run lists every key, the oldest first.
func (c *listKeysCommand) Run(ctx context.Context, config *databaseConfig, out io.Writer, log *slog.Logger) error {
	return withDatabase(ctx, config, log, func(db *database) error {
		keys, err := db.APIKeys(ctx)
		if err != nil {
			return err
		}
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "ID\tNAME\tSCOPES\tOWNER\tCREATED\tEXPIRES\tLAST USE\tREVOKED")
		for _, k := range keys {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, plain(k.Name), strings.Join(k.Scopes, " "), plain(string(k.Owners)),
				day(&k.CreatedAt), day(k.ExpiresAt), day(k.LastUsedAt), day(k.RevokedAt))
		}
		return table.Flush()
	})
}

// plain is a text in one line and one column.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// day is a time to the second, or a dash.
func day(at *time.Time) string {
	if at == nil {
		return "-"
	}
	return at.UTC().Format(time.RFC3339)
}

type revokeKeyCommand struct {
	ID string `arg:"" help:"The key's id, as listed: what stands between tfk_ and the next underscore."`
}

// Run revokes a key; one that was revoked before stays so.
func (c *revokeKeyCommand) Run(ctx context.Context, config *databaseConfig, aside asides, log *slog.Logger) error {
	return withDatabase(ctx, config, log, func(db *database) error {
		err := db.RevokeAPIKey(ctx, c.ID)
		if errors.Is(err, flows.ErrNotFound) {
			return errors.New("there is no key of this id")
		}
		if err != nil {
			return fmt.Errorf("revoking the key: %w", err)
		}
		_, err = fmt.Fprintf(aside, "revoked key %s\n", c.ID)
		return err
	})
}

// withDatabase opens the database for one command.
func withDatabase(ctx context.Context, config *databaseConfig, log *slog.Logger, run func(*database) error) error {
	db, err := config.open(ctx, log, watch{})
	if err != nil {
		return err
	}
	return errors.Join(run(db), db.Close())
}
