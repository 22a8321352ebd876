package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"taskflow/internal/store"
)

const (
	sweepEvery = time.Minute
	sweepBatch = 1000 // rows a transaction deletes, so that none holds its locks for long
	pruneBatch = 100  // flows a transaction erases, each with its steps and events
	// keepReceipts is how long the fate of an external event can be looked up.
	keepReceipts = 7 * 24 * time.Hour
)

// sweepAll deletes what has expired now and then, until the engine stops.
func (e *Engine) sweepAll() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	t := trouble{log: e.options.Logger, doing: "sweeping what has expired"}
	for {
		select {
		case <-e.stopped:
			return
		case <-tick.C:
			t.report(e.sweepOnce())
		}
	}
}

// sweepOnce deletes everything that has expired by the database's clock, or as much as it can until the engine stops.
func (e *Engine) sweepOnce() error {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	now, err := store.Now(ctx, e.store)
	if err != nil {
		return err
	}
	// What cannot be swept is no reason to keep the rest.
	err = errors.Join(
		e.sweep("stored answers", now.Add(-e.options.AnswerTTL), sweepBatch, e.store.SweepAnswers),
		e.sweep("receipts", now.Add(-keepReceipts), sweepBatch, e.store.SweepExternalEvents),
	)
	if e.options.RetainTerminal > 0 {
		err = errors.Join(err, e.sweep("ended flows", now.Add(-e.options.RetainTerminal), pruneBatch, e.store.Prune))
	}
	return err
}

// sweep deletes batch by batch.
func (e *Engine) sweep(what string, before time.Time, batch int, delete func(context.Context, time.Time, int) (int, error)) error {
	for !e.isStopped() {
		ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
		swept, err := delete(ctx, before, batch)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if swept < batch {
			return nil
		}
	}
	return nil
}
