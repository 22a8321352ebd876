//go:build !linux

package main

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// runWorkers runs each worker's loop on a goroutine of its own, where there is no epoll. The connections know the deadline.
func runWorkers(ctx context.Context, workers []*worker, kind scenario, _ time.Time) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, w := range workers {
		group.Go(func() error { return w.loop(ctx, kind) })
	}
	return group.Wait()
}
