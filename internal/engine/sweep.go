package engine

import (
	"context"
	"time"

	"taskflow/internal/store"
)

const (
	sweepEvery = time.Minute
	sweepBatch = 1000 // rows a transaction deletes, so that none holds its locks for long
)

// sweepAll deletes expired answers now and then, until the engine stops.
func (e *Engine) sweepAll() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-e.stopped:
			return
		case <-tick.C:
			if err := e.sweepOnce(); err != nil {
				e.options.Logger.Warn("sweeping expired answers", "error", err)
			}
		}
	}
}

// sweepOnce deletes every answer that has expired by the database's clock, or as many as it can until the engine stops.
func (e *Engine) sweepOnce() error {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	var now time.Time
	err := e.store.Update(ctx, func(tx store.Tx) error {
		snapshot, err := tx.Load(store.Need{})
		now = snapshot.Now
		return err
	})
	for err == nil && !e.isStopped() {
		var swept int
		swept, err = e.store.SweepAnswers(ctx, now.Add(-e.options.AnswerTTL), sweepBatch)
		if swept < sweepBatch {
			break
		}
	}
	return err
}
