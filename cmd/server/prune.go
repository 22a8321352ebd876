package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"taskflow/internal/httpapi"
	"taskflow/internal/store"
)

type pruneCommand struct {
	OlderThan period `required:"" placeholder:"DURATION" help:"Erase flows that ended longer ago than this, like P30D."`
	DryRun    bool   `help:"Only say how many there are."`
}

// pruneBatch is how many flows one transaction erases, so that none holds its locks for long.
const pruneBatch = 100

// Run erases flows that ended long ago, with their steps and trail.
func (c *pruneCommand) Run(ctx context.Context, config *databaseConfig, out io.Writer, log *slog.Logger) error {
	db, err := config.open(ctx, log, watch{})
	if err != nil {
		return err
	}
	erased, err := c.prune(ctx, db)
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("after %d flows: %w", erased, err)
	}
	verb := "erased"
	if c.DryRun {
		verb = "would erase"
	}
	_, err = fmt.Fprintf(out, "%s %d flows\n", verb, erased)
	return err
}

func (c *pruneCommand) prune(ctx context.Context, db store.Store) (int64, error) {
	now, err := store.Now(ctx, db)
	if err != nil {
		return 0, err
	}
	before := now.Add(-time.Duration(c.OlderThan))
	if c.DryRun {
		return db.CountEnded(ctx, before)
	}
	total := int64(0)
	for {
		erased, err := db.Prune(ctx, before, pruneBatch)
		total += int64(erased)
		if err != nil || erased < pruneBatch {
			return total, err
		}
	}
}

type rotateCommand struct{}

// Run makes a new key for callback URLs. Servers begin to sign with it within a minute; the URLs that are out live on
// until their wait ends.
func (c *rotateCommand) Run(ctx context.Context, config *databaseConfig, out io.Writer, log *slog.Logger) error {
	db, err := config.open(ctx, log, watch{})
	if err != nil {
		return err
	}
	key, err := addCallbackKey(ctx, db, false)
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "made callback key %s\n", key)
	return err
}

// firstCallbackKey makes a key where there is none, until ctx ends: the database, or its schema, may come later than this
// server, which is not ready until then.
func firstCallbackKey(ctx context.Context, db store.Store, log *slog.Logger) {
	for {
		_, err := addCallbackKey(ctx, db, true)
		if err == nil || ctx.Err() != nil {
			return
		}
		log.DebugContext(ctx, "there is no callback key yet", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// addCallbackKey makes a key and returns its id; with onlyFirst it does so only where there is none.
func addCallbackKey(ctx context.Context, db store.Store, onlyFirst bool) (string, error) {
	now, err := store.Now(ctx, db)
	if err != nil {
		return "", err
	}
	key := httpapi.NewCallbackKey(now)
	if err := db.AddCallbackKey(ctx, key, onlyFirst); err != nil {
		return "", fmt.Errorf("adding a callback key: %w", err)
	}
	return key.ID, nil
}
