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
