package pg_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"taskflow/internal/pg"
	"taskflow/internal/pg/pgtest"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// changer changes one flow again and again, and keeps what it was told of each change.
type changer struct {
	store store.Store
	flow  uuid.UUID

	done    atomic.Int64 // changes that were acknowledged
	acked   []string     // their actors; read after the changer has stopped
	refused []string     // actors of changes that are said not to be there
	unknown []string
	strange error // an error that is neither
}

func (c *changer) run(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		actor := fmt.Sprint(n)
		switch err := raise(context.WithoutCancel(ctx), c.store, c.flow, actor, nil); {
		case err == nil:
			c.acked = append(c.acked, actor)
			c.done.Add(1)
		case errors.Is(err, store.ErrUnavailable):
			c.refused = append(c.refused, actor)
		case errors.Is(err, store.ErrOutcomeUnknown):
			c.unknown = append(c.unknown, actor)
		default:
			c.strange = err
			return
		}
	}
}

// check holds what the changer was told against the trail.
func (c *changer) check(t *testing.T) {
	t.Helper()
	if c.strange != nil {
		t.Errorf("flow %s: %v", c.flow, c.strange)
	}
	there := make(map[string]bool)
	for _, actor := range trail(t, c.store, c.flow)[1:] {
		if there[actor] {
			t.Errorf("flow %s: change %s was made twice", c.flow, actor)
		}
		there[actor] = true
		if !slices.Contains(c.acked, actor) && !slices.Contains(c.unknown, actor) {
			t.Errorf("flow %s: change %s is there, and was said not to be", c.flow, actor)
		}
	}
	for _, actor := range c.acked {
		if !there[actor] {
			t.Errorf("flow %s: change %s was acknowledged and is lost", c.flow, actor)
		}
	}
}

// The database is killed and started again while changes run: nothing acknowledged is lost, nothing refused is there,
// nothing is made twice, and the store goes on unaided.
func TestDatabaseKilled(t *testing.T) {
	t.Parallel()
	cluster, err := pgtest.StartCluster(t.Context(), pgtest.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, cluster.Stop()) })
	url := cluster.URL("postgres")
	must(t, pg.Migrate(t.Context(), url, 0))
	s := open(t, url)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	changers := make([]*changer, 6)
	for i := range changers {
		f := newFlow()
		must(t, create(ctx, s, f))
		changers[i] = &changer{store: s, flow: f.ID}
		running.Go(func() { changers[i].run(ctx) })
	}
	for range 3 {
		progress(t, changers)
		must(t, cluster.Kill())
		must(t, cluster.Start(t.Context()))
	}
	progress(t, changers)
	stop()
	running.Wait()
	var unknown int
	for _, c := range changers {
		c.check(t)
		unknown += len(c.unknown)
	}
	t.Logf("%d changes with an unknown outcome", unknown)
}

// progress waits until every changer has had some more changes acknowledged.
func progress(t *testing.T, changers []*changer) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for _, c := range changers {
		for goal := c.done.Load() + 20; c.done.Load() < goal; {
			select {
			case <-deadline.C:
				t.Fatal("the changes do not go on")
			case <-tick.C:
			}
		}
	}
}
