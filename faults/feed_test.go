package faults_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"taskflow/internal/servertest"
)

var (
	readers = flag.Int("readers", 12, "how many follow the feed while servers are restarted")
	changes = flag.Int("changes", 400, "how many changes they follow")
)

// TestFeedOverRestarts: each reader of a live stream sees each event once and in order, while servers are killed and stopped
// in turn and it goes on at any of them with Last-Event-ID.
func TestFeedOverRestarts(t *testing.T) {
	replicas(t, func(t *testing.T, url string, servers []*servertest.Server) {
		flows := running(t, servers[0].Client, 10)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		var done atomic.Int64 // the last seq there will be, once it is known
		all := make([]follower, *readers)
		var following, writing sync.WaitGroup
		for i := range all {
			all[i].servers, all[i].done = servers, &done
			following.Go(func() { all[i].follow(ctx, i%2 == 0) })
		}
		var made atomic.Int64
		for i := range 4 {
			writing.Go(func() { // ends with the last change
				for made.Load() < int64(*changes) && ctx.Err() == nil {
					c := servers[rand.IntN(len(servers))].Client
					answer, err := c.Send(http.MethodPost, "/flows/"+flows[rand.IntN(len(flows))]+"/state", fmt.Sprintf(`{"patch": {"writer-%d": 1}}`, i))
					if err == nil && answer.Status == http.StatusOK {
						made.Add(1)
					}
				}
			})
		}
		restarts := restartInTurn(ctx, t, servers, &made)
		writing.Wait()
		var feed []int64
		events, err := servertest.All[servertest.Event](servers[0].Client, "/events")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			feed = append(feed, e.Seq)
		}
		done.Store(feed[len(feed)-1])
		following.Wait()
		reconnects := 0
		for i := range all {
			all[i].check(t, i, feed)
			reconnects += all[i].reconnects
		}
		t.Logf("%d readers saw %d events each over %d restarts, with %d reconnects", len(all), len(feed), restarts, reconnects)
		if restarts == 0 || reconnects == 0 {
			t.Error("nothing was restarted under a reader")
		}
	})
}

// restartInTurn kills or stops each server in turn, after every fifth of the changes, and starts it again.
func restartInTurn(ctx context.Context, t *testing.T, servers []*servertest.Server, made *atomic.Int64) (restarts int) {
	t.Helper()
	for next := int64(*changes / 5); next < int64(*changes); next += int64(*changes / 5) {
		if err := servertest.Await(ctx, time.Minute, func() bool { return made.Load() >= next }); err != nil {
			t.Fatalf("only %d changes: %v", made.Load(), err)
		}
		victim := servers[restarts%len(servers)]
		if restarts%2 == 0 {
			victim.Kill()
		} else if code, took := victim.Stop(); code != 0 || took > 15*time.Second {
			t.Errorf("stopped with code %d after %v", code, took)
		}
		victim.Restart()
		restarts++
	}
	return restarts
}

// follower is one reader: it goes on at any server from the last id it has.
type follower struct {
	servers    []*servertest.Server
	done       *atomic.Int64
	seen       []int64
	last       string
	reconnects int
	err        error
}

// follow reads until it has seen the last event. The URL of some readers says where to begin, as a browser's does, and goes
// on saying so when the last id is in the header.
func (f *follower) follow(ctx context.Context, fromStart bool) {
	path := "/events?after=0"
	if !fromStart {
		path = "/events"
		f.last = "0"
	}
	for f.err == nil && !f.finished() {
		if ctx.Err() != nil {
			f.err = ctx.Err()
			return
		}
		f.read(ctx, f.servers[rand.IntN(len(f.servers))].Client, path)
	}
}

func (f *follower) finished() bool {
	last := f.done.Load()
	return last > 0 && len(f.seen) > 0 && f.seen[len(f.seen)-1] >= last
}

// read follows one stream to its end.
func (f *follower) read(ctx context.Context, c *servertest.Client, path string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // so that it looks whether it is finished, and to go elsewhere
	defer cancel()
	var header []string
	if f.last != "" {
		header = []string{"Last-Event-ID", f.last}
	}
	s, err := c.Stream(ctx, path, header...)
	var refused *servertest.StatusError
	switch {
	case errors.As(err, &refused) && refused.Answer.Status != http.StatusServiceUnavailable:
		f.err = err
		return
	case err != nil:
		_ = servertest.Await(ctx, 20*time.Millisecond, func() bool { return false }) // it is down: wait a little
		return
	}
	defer s.Close()
	f.reconnects++
	for !f.finished() {
		e, err := s.NextEvent()
		if errors.Is(err, servertest.ErrOddEvent) {
			f.err = err
		}
		if err != nil {
			return // it was ended or broken off; what came before counts
		}
		f.seen, f.last = append(f.seen, e.Seq), s.Last()
	}
}

func (f *follower) check(t *testing.T, number int, feed []int64) {
	t.Helper()
	if f.err != nil {
		t.Errorf("reader %d: %v", number, f.err)
	}
	if slices.Equal(f.seen, feed) {
		return
	}
	same := 0
	for same < min(len(f.seen), len(feed)) && f.seen[same] == feed[same] {
		same++
	}
	t.Errorf("reader %d saw %d events of %d; from the %dth on %v, and the feed has %v", number, len(f.seen), len(feed), same,
		f.seen[same:min(same+10, len(f.seen))], feed[same:min(same+10, len(feed))])
}
