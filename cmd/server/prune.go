package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

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
