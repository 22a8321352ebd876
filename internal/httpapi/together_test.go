package httpapi_test

import (
	"context"
	"sync"
	"testing"
)

// looks is how often each reader looks while the flow is changed.
const looks = 60

// TestFlowAndTrailAreNeverApart has readers look at a flow and its trail while both are written: whoever has seen a flow at a
// revision finds its event, and whoever has seen an event finds the flow as far, in a page as in a live stream.
func TestFlowAndTrailAreNeverApart(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path := api.running("")
		live := api.stream("/events?after=0")
		ctx, stop := context.WithCancel(t.Context())
		unlink := context.AfterFunc(ctx, live.Close) // whoever reads on when nobody writes would do so for ever
		defer unlink()
		var reading, writing sync.WaitGroup
		for range 3 {
			writing.Go(func() {
				defer stop()
				for ctx.Err() == nil {
					api.post(path+"/state", `{"patch":{"a":1}}`).want(200)
				}
			})
		}
		reading.Go(func() { api.looksFromFlow(ctx, path) })
		reading.Go(func() { api.looksFromPages(ctx, path) })
		reading.Go(func() {
			for range looks {
				e, err := live.NextEvent()
				if err != nil {
					t.Errorf("the stream: %v", err)
					return
				}
				api.wantAsFar("the stream", path, e.Revision)
			}
		})
		reading.Wait()
		stop()
		writing.Wait()
	})
}

// looksFromFlow reads the flow, and then the newest event of its trail.
func (c *client) looksFromFlow(ctx context.Context, path string) {
	for n := 0; n < looks && ctx.Err() == nil; n++ {
		f := c.read(path)
		if e := c.get(path + "/events?order=-seq&limit=1").events()[0]; e.Revision < f.Revision {
			c.t.Errorf("a read of the flow shows revision %d, and one of its trail after that ends with %d", f.Revision, e.Revision)
		}
	}
}

// looksFromPages reads the newest event of all flows, and then the flow.
func (c *client) looksFromPages(ctx context.Context, path string) {
	for n := 0; n < looks && ctx.Err() == nil; n++ {
		e := c.get("/events?order=-seq&limit=1").events()[0]
		c.wantAsFar("a page", path, e.Revision)
	}
}

// wantAsFar reads a flow of which an event was seen.
func (c *client) wantAsFar(where, path string, revision int64) {
	if f := c.read(path); f.Revision < revision {
		c.t.Errorf("%s shows the event of revision %d, and a read of the flow after that shows %d", where, revision, f.Revision)
	}
}
