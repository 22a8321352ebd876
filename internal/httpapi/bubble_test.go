package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"taskflow/internal/servertest"
	"taskflow/internal/store"
	"taskflow/internal/store/storetest"
)

// pipes are connections in memory, which hold nothing: a write waits until it is read. With them a server and its clients
// can live in a bubble, where time is as the test needs it.
type pipes struct {
	server  *http.Server
	dialled chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.dialled:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.dialled <- server:
		return client, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// inBubble runs a test against a server over a store in memory, in a bubble.
func inBubble(t *testing.T, test func(t *testing.T, api *client), changes ...func(*setup)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(changes)
		setDefault(&s.options.SchemaVersion, 1)
		api := build(t, storetest.NewMemory(time.Now), s)
		p := &pipes{server: &http.Server{Handler: api.api}, dialled: make(chan net.Conn), closed: make(chan struct{})}
		served := make(chan error, 1)
		go func() { served <- p.server.Serve(p) }() // ends with Close below
		transport := &http.Transport{DialContext: p.dial}
		giveUp := time.AfterFunc(5*time.Minute, func() { _ = p.server.Close() }) // a test that waits for what does not come
		t.Cleanup(func() {
			giveUp.Stop()
			transport.CloseIdleConnections()
			_ = p.server.Close()
			<-served
		})
		api.pipes, api.url, api.http = p, "http://taskflow", noRedirects(&http.Client{Transport: transport})
		test(t, api)
	})
}

// after lets time pass in a bubble.
func after(d time.Duration) { <-time.After(d) }

// large is a patch that no buffer on the way takes.
var large = `{"patch":{"a":"` + strings.Repeat("x", 100_000) + `"}}`

// TestStreamEndsWithItsFlow: a flow that is erased has no more events, and its stream ends within 15 s; that of all flows goes on.
func TestStreamEndsWithItsFlow(t *testing.T) {
	inBubble(t, func(t *testing.T, api *client) {
		flow := api.inStatus("cancelled")
		its, every := api.stream(flow+"/events"), api.stream("/events?flow_id="+strings.TrimPrefix(flow, "/flows/"))
		wantComment := func(s *servertest.Stream) {
			t.Helper()
			if m, err := s.Next(); err != nil || m.Comment != ":" {
				t.Errorf("%+v, %v; want a sign of life", m, err)
			}
		}
		for _, s := range []*servertest.Stream{its, every} {
			if _, err := s.Next(); err != nil { // how soon to come again
				t.Fatal(err)
			}
			wantComment(s)
		}
		api.erase(flow).want(204)
		if m, err := its.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("%+v, %v; want the end", m, err)
		}
		wantComment(every)
		api.get(flow+"/events", "Accept: text/event-stream").problem(404, "not-found")
	})
}

// TestStreamGivesSignsOfLife: 15 s after the last thing that was sent, with the place that the stream has come to where its
// filters have kept from the client what lies between.
func TestStreamGivesSignsOfLife(t *testing.T) {
	inBubble(t, func(t *testing.T, api *client) {
		s := api.stream("/events?after=0&kind=started")
		began := time.Now()
		expect := func(at time.Duration, id, comment, event string) {
			t.Helper()
			m, err := s.Next()
			if err != nil || m.ID != id || m.Comment != comment || m.Event != event || time.Since(began) != at {
				t.Errorf("%+v, %v at %v; want id %q, comment %q, event %q at %v", m, err, time.Since(began), id, comment, event, at)
			}
		}
		expect(0, "", "", "") // how soon to come again
		flow := api.created("")
		expect(15*time.Second, "1", ":", "")
		expect(30*time.Second, "", ":", "")
		after(7 * time.Second)
		api.post(flow+"/start", "").want(200)
		api.post(flow+"/state", `{"patch":{}}`).want(200)
		expect(37*time.Second, "2", "", "started")
		expect(52*time.Second, "3", ":", "")
		if s.Last() != "3" {
			t.Errorf("the client goes on from %q", s.Last())
		}
		// Who comes again with the id of a sign of life misses nothing, and sees nothing twice.
		s.Close()
		second := api.running("")
		again := api.stream("/events", "Last-Event-ID", "3")
		wantStream(t, "from a sign of life on", again, []int64{4, 5})
		if e := api.get("/events?after=3").events(); len(e) != 2 || "/flows/"+e[0].FlowID != second {
			t.Errorf("the trail goes on with %+v", e)
		}
	})
}

// TestStreamTellsThatItIsStalled: a stream goes on while the database is away, and says that it knows of nothing new; then that
// it does again.
func TestStreamTellsThatItIsStalled(t *testing.T) {
	inBubble(t, func(t *testing.T, api *client) {
		s := api.stream("/events?after=0")
		expect := func(want servertest.Message) {
			t.Helper()
			if m, err := s.Next(); err != nil || m != want {
				t.Errorf("%+v, %v; want %+v", m, err, want)
			}
		}
		expect(servertest.Message{Retry: "1000"})
		began := time.Now()
		api.faulty.Blind(true)
		expect(servertest.Message{Comment: ":stalled"})
		if late := time.Since(began); late > time.Second {
			t.Errorf("told after %v", late)
		}
		expect(servertest.Message{Comment: ":stalled"}) // 15 s later
		api.created("")
		api.faulty.Blind(false)
		if e, err := s.NextEvent(); err != nil || e.Seq != 1 {
			t.Errorf("%+v, %v; want what was committed meanwhile", e, err)
		}
		expect(servertest.Message{Comment: ":"})
		if late := time.Since(began); late < 15*time.Second || late > 16*time.Second {
			t.Errorf("all was told after %v", late)
		}
	}, func(s *setup) { s.faults = true })
}

// TestStreamThatIsBehindTellsThatItIsStalled: one that reads the store yet, for it has not met the feed, outlives the database too.
func TestStreamThatIsBehindTellsThatItIsStalled(t *testing.T) {
	inBubble(t, func(t *testing.T, api *client) {
		api.running("")
		api.faulty.Blind(true)
		s := api.stream("/events", "Last-Event-ID", "0")
		for i, want := range []servertest.Message{{Retry: "1000"}, {Comment: ":stalled"}, {Comment: ":stalled"}} { // 15 s later
			if m, err := s.Next(); err != nil || m != want {
				t.Fatalf("%d: %+v, %v; want %+v", i, m, err, want)
			}
		}
		api.faulty.Blind(false)
		wantStream(t, "what was there before", s, []int64{1, 2})
		if m, err := s.Next(); err != nil || m.Comment != ":" {
			t.Errorf("%+v, %v; want that it is stalled no more", m, err)
		}
	}, func(s *setup) { s.faults = true })
}

// TestSlowReaderIsCounted: a stream whose client reads nothing is cut off when its patience ends, and told of.
func TestSlowReaderIsCounted(t *testing.T) {
	var seen watcher
	inBubble(t, func(t *testing.T, api *client) {
		flow := api.running("")
		s := api.stream("/events")
		api.post(flow+"/state", large).want(200)
		after(time.Minute)
		if _, err := s.NextEvent(); err == nil || err == io.EOF {
			t.Errorf("the stream ended with %v, want it cut off", err)
		}
		for _, want := range []string{"streams +1", "a stream cut off", "streams -1"} {
			if got := <-seen.told; got != want {
				t.Errorf("told %q, want %q", got, want)
			}
		}
	}, func(s *setup) {
		seen = watcher{make(chan string, 100)} // made in the bubble, so that who waits for it lets time pass
		s.options.Observer = seen
	})
}

// TestStalledReaderHoldsUpNoStop: a server that stops does not wait for one that reads nothing, and does not blame it.
func TestStalledReaderHoldsUpNoStop(t *testing.T) {
	var seen watcher
	inBubble(t, func(t *testing.T, api *client) {
		flow := api.running("")
		api.stream("/events")
		api.post(flow+"/state", large).want(200)
		after(time.Second) // until the stream is being written to
		began := time.Now()
		api.api.StopAccepting()
		stopping, cancel := context.WithTimeout(t.Context(), 6500*time.Millisecond)
		defer cancel()
		if err := api.pipes.server.Shutdown(stopping); err != nil {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		for _, want := range []string{"streams +1", "streams -1"} {
			if got := <-seen.told; got != want {
				t.Errorf("told %q, want %q", got, want)
			}
		}
		if strings.Contains(api.logged.String(), "slow reader") {
			t.Errorf("the log says\n%s", api.logged.String())
		}
	}, func(s *setup) {
		seen = watcher{make(chan string, 100)}
		s.options.Observer, s.options.StreamPatience = seen, time.Minute
	})
}

// TestSlowReaderLosesItsKey: one that takes long for the events of a batch gets no more of them once its key is revoked, but
// for the one that is on its way.
func TestSlowReaderLosesItsKey(t *testing.T) {
	inBubble(t, func(t *testing.T, all *client) {
		kate := all.as("kate")
		flow := "/flows/" + kate.create("").ID
		for range 4 {
			kate.post(flow+"/state", large).want(200)
		}
		s := kate.stream("/events?after=0", "Authorization", kate.credentials)
		if seqs := take(t, s, 2); fmt.Sprint(seqs) != "[1 2]" { // the third is on its way
			t.Fatalf("events %v", seqs)
		}
		if err := all.store.RevokeAPIKey(t.Context(), strings.Split(all.keys["kate"], "_")[1]); err != nil {
			t.Fatal(err)
		}
		after(6 * time.Second)
		take(t, s, 1)
		if e, err := s.NextEvent(); err != io.EOF {
			t.Errorf("6 s after its key was revoked the stream goes on with event %d, %v", e.Seq, err)
		}
	}, twoTenants)
}

// TestWaitEndsWithItsKey: a read that waits is answered with 401 within 5 s of the revocation of its caller's key, though nothing
// happens that it waits for.
func TestWaitEndsWithItsKey(t *testing.T) {
	inBubble(t, func(t *testing.T, all *client) {
		flow := all.as("kate").created("")
		for _, path := range []string{"/events?after=9", "/flows/events?after=9", "/flows"} {
			text, id := newKey(t, all.store)
			answered := make(chan answer, 1)
			go func() {
				answered <- all.with("Bearer "+text).get(strings.Replace(path, "/flows", flow, 1), `If-None-Match: "0"`, "Prefer: wait=60")
			}()
			after(2 * time.Second)
			if err := all.store.RevokeAPIKey(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			revoked := time.Now()
			(<-answered).problem(401, "unauthenticated")
			if took := time.Since(revoked); took > 5*time.Second {
				t.Errorf("%s: it waited on for %v", path, took)
			}
		}
	}, twoTenants)
}

// TestWaitOutlastsTrouble: who waits is not sent home because the database is away for a moment.
func TestWaitOutlastsTrouble(t *testing.T) {
	var away atomic.Bool
	inBubble(t, func(t *testing.T, api *client) {
		flow := api.created("")
		answered := make(chan answer)
		go func() { answered <- api.get(flow, `If-None-Match: "0"`, "Prefer: wait=60") }()
		after(3 * time.Second)
		away.Store(true)
		api.get(flow).problem(503, "unavailable")
		after(9 * time.Second) // it has looked twice meanwhile
		away.Store(false)
		api.post(flow+"/start", "").want(200)
		(<-answered).want(200).has("/revision", "1")

		go func() { answered <- api.get(flow, `If-None-Match: "1"`, "Prefer: wait=20") }()
		after(3 * time.Second)
		away.Store(true)
		(<-answered).problem(503, "unavailable") // it does not know whether anything has changed
		away.Store(false)
	}, func(s *setup) {
		s.reads = func(context.Context) error {
			if away.Load() {
				return store.ErrUnavailable
			}
			return nil
		}
	})
}

// TestReadinessIsReadOnce has many ask at once while the database is slow: they need no credentials, and must not take the
// connections that keys are read on.
func TestReadinessIsReadOnce(t *testing.T) {
	var slow atomic.Bool
	var reads atomic.Int64
	inBubble(t, func(t *testing.T, api *client) {
		slow.Store(true)
		var asking sync.WaitGroup
		for range 20 {
			asking.Go(func() { api.get("/readyz").want(200) })
		}
		asking.Wait()
		if n := reads.Load(); n != 1 {
			t.Errorf("%d reads for those who asked at once", n)
		}
	}, func(s *setup) {
		s.reads = func(context.Context) error {
			if slow.Load() {
				reads.Add(1)
				after(time.Second)
			}
			return nil
		}
	})
}
