package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"taskflow/internal/servertest"
)

// stream opens a live stream that ends with the test.
func (c *client) stream(path string, header ...string) *servertest.Stream {
	c.t.Helper()
	other := servertest.NewClient(c.t, c.url)
	if c.pipes != nil {
		other = servertest.NewClientOver(c.http.Transport, c.url)
	}
	s, err := other.Stream(c.t.Context(), path, header...)
	if err != nil {
		c.t.Fatalf("stream of %s: %v", path, err)
	}
	c.t.Cleanup(s.Close)
	if err := insecure(path, s.Header); err != nil {
		c.t.Errorf("stream of %s: %v", path, err)
	}
	return s
}

// noStream asks for a stream that must be refused.
func (c *client) noStream(status int, slug, path string, header ...string) {
	c.t.Helper()
	s, err := servertest.NewClient(c.t, c.url).Stream(c.t.Context(), path, header...)
	var refused *servertest.StatusError
	if err == nil {
		s.Close()
		c.t.Errorf("stream of %s: it is one", path)
	} else if !errors.As(err, &refused) || refused.Answer.Status != status || refused.Answer.Problem() != slug {
		c.t.Errorf("stream of %s %q: %v, want %d %s", path, header, err, status, slug)
	} else if err := insecure(path, refused.Answer.Header); err != nil {
		c.t.Errorf("no stream of %s: %v", path, err)
	}
}

// take reads n events.
func take(t testing.TB, s *servertest.Stream, n int) (seqs []int64) {
	t.Helper()
	for range n {
		e, err := s.NextEvent()
		if err != nil {
			t.Fatalf("after %v: %v", seqs, err)
		}
		seqs = append(seqs, e.Seq)
	}
	return seqs
}

func wantStream(t testing.TB, what string, s *servertest.Stream, want []int64) {
	t.Helper()
	if got := take(t, s, len(want)); !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestStreamIsThePageAsServerSentEvents: id is the seq, event the kind, data the event as a page has it.
func TestStreamIsThePageAsServerSentEvents(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		population(api)
		flow := api.inStatus("finished")
		for _, path := range []string{"/events", flow + "/events"} {
			s := api.stream(path + "?after=0")
			for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"} {
				if got := s.Header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if m, err := s.Next(); err != nil || m != (servertest.Message{Retry: "1000"}) {
				t.Errorf("begins with %+v, %v", m, err)
			}
			body := api.get(path + "?limit=500").want(200).body
			for i, e := range api.get(path + "?limit=500").events() {
				m, err := s.Next()
				want := servertest.Message{ID: fmt.Sprint(e.Seq), Event: e.Kind, Data: at(t, body, fmt.Sprintf("/items/%d", i))}
				if err != nil || m != want {
					t.Fatalf("%+v, %v; want %+v", m, err, want)
				}
			}
		}
	})
}

// TestStreamBeginsWhereItIsTold: after Last-Event-ID, else after or cursor, else at now.
func TestStreamBeginsWhereItIsTold(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		population(api)
		all := seqs(api.get("/events?limit=500").events())
		cursor := api.get("/events?limit=3").next()
		now, marked := api.stream("/events"), api.stream("/events")
		if m, err := marked.Next(); err != nil || m.ID != fmt.Sprint(all[len(all)-1]) || m.Data != "" {
			t.Errorf("a stream from now begins with %+v, %v; want the place", m, err)
		}
		empty := api.stream("/events", "Last-Event-ID", "")
		api.created("")
		new := append(slices.Clone(all), all[len(all)-1]+1)
		wantStream(t, "from now", now, new[len(all):])
		wantStream(t, "an empty Last-Event-ID", empty, new[len(all):])
		wantStream(t, "Last-Event-ID", api.stream("/events", "Last-Event-ID", fmt.Sprint(all[4])), new[5:])
		wantStream(t, "after", api.stream(fmt.Sprintf("/events?after=%d", all[2])), new[3:])
		wantStream(t, "cursor", api.stream("/events?cursor="+cursor), new[3:])
		wantStream(t, "both", api.stream(fmt.Sprintf("/events?after=%d", all[0]), "Last-Event-ID", fmt.Sprint(all[4])), new[5:])
		wantStream(t, "limit plays no part", api.stream("/events?after=0&limit=1"), new)
	})
}

func TestStreamThatIsRefused(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.created("")
		for _, bad := range []string{"x", "-1", "1.5", "1 2", "9223372036854775808", "0x1"} {
			api.noStream(400, "invalid-request", "/events", "Last-Event-ID", bad)
		}
		for _, query := range []string{"order=-seq", "after=x", "after=-1", "unknown=1", "kind=none", "flow_id=1", "limit=0", "cursor=x"} {
			api.noStream(400, "invalid-request", "/events?"+query)
		}
		api.noStream(400, "invalid-request", flow+"/events?owner_session_key=x")
		api.noStream(404, "not-found", noFlow()+"/events")
		api.noStream(404, "not-found", "/flows/00000000-0000-0000-0000-000000000000/events")
		// What is refused is no longer counted.
		for range 200 {
			api.noStream(404, "not-found", noFlow()+"/events?after=0")
		}
		api.stream("/events")
	})
}

// TestStreamPassesItsFilters compares a stream with the page of the same query, what is recorded and what is to come.
func TestStreamPassesItsFilters(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.created("")
		queries := []string{
			"owner_session_key=kate", "controller_id=inbox", "mode=mirrored", "flow_id=" + flow[len("/flows/"):], "kind=started&kind=failed",
			"owner_session_key=kate&kind=created", "owner_session_key=nobody", "mode=mirrored&kind=started",
		}
		var streams []*servertest.Stream
		for _, query := range queries {
			streams = append(streams, api.stream("/events?after=0&"+query))
		}
		population(api)
		for i, query := range queries {
			want := seqs(api.get("/events?limit=500&" + query).events())
			wantStream(t, query, streams[i], want)
			wantStream(t, query+" afterwards", api.stream("/events?after=0&"+query), want)
		}
	})
}

func TestAcceptChoosesBetweenPageAndStream(t *testing.T) {
	api := serveSQLite(t)
	for accept, want := range map[string]string{
		"": "application/json", "*/*": "application/json", "application/json": "application/json", "text/html": "application/json",
		"text/event-stream": "text/event-stream", "Text/Event-Stream; charset=utf-8": "text/event-stream",
		"application/json, text/event-stream": "application/json", "text/event-stream, application/json": "text/event-stream",
		"text/event-stream;q=0.5, application/json": "application/json", "application/json;q=0.1, text/event-stream": "text/event-stream",
		"text/event-stream;q=0": "application/json", ", ,": "application/json", "text/event-stream, */*": "text/event-stream",
	} {
		a := api.do("HEAD", "/events", "", "Accept: "+accept).want(200)
		a.hasHeader("Content-Type", want)
	}
	api.do("HEAD", noFlow()+"/events", "", "Accept: text/event-stream").want(404)
	api.get("/events", "Accept: application/json", "Accept: text/event-stream").events()
	api.get("/flows", "Accept: text/event-stream").flows() // the other lists have no stream
}

// TestStreamsAreCapped: one too many is 503 with Retry-After, and one that ends makes room.
func TestStreamsAreCapped(t *testing.T) {
	api := serveSQLite(t, func(s *setup) { s.options.MaxStreams = 2 })
	one, two := api.stream("/events"), api.stream("/events")
	api.noStream(503, "overloaded", "/events")
	api.get("/events", "Prefer: wait=1").problem(503, "overloaded")
	api.get("/events").events() // a page counts for nothing
	one.Close()
	if err := servertest.Await(t.Context(), 10*time.Second, func() bool {
		s, err := servertest.NewClient(t, api.url).Stream(t.Context(), "/events")
		if err == nil {
			s.Close()
		}
		return err == nil
	}); err != nil {
		t.Error("there is no room after one has gone:", err)
	}
	api.created("")
	wantStream(t, "the one that stays", two, []int64{1})
}

// TestStreamOutlivesARequestsTime: neither the timeout of requests nor those of the connection end a stream or a wait.
func TestStreamOutlivesARequestsTime(t *testing.T) {
	const short = 200 * time.Millisecond
	api := serveSQLite(t, func(s *setup) {
		s.options.RequestTimeout = short
		s.server = func(server *http.Server) {
			server.ReadTimeout, server.WriteTimeout = short, short
		}
	})
	s := api.stream("/events")
	began := time.Now()
	api.get("/events", "Prefer: wait=1").want(200).hasHeader("Preference-Applied", "wait=1")
	if took := time.Since(began); took < time.Second {
		t.Errorf("a wait of a second took %v", took)
	}
	api.created("")
	wantStream(t, "after a second", s, []int64{1})
}

// TestStreamsEndWhenTheServerStops: cleanly, at once, and no new ones begin.
func TestStreamsEndWhenTheServerStops(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		s := api.stream("/events?after=0")
		waiting := make(chan answer, 1)
		go func() { // ends with the wait, which the test waits for
			a, _ := api.try(context.Background(), http.MethodGet, "/events", "", "Prefer: wait=60")
			waiting <- a
		}()
		api.created("")
		wantStream(t, "before", s, []int64{1})
		api.api.StopAccepting()
		if m, err := s.Next(); err != io.EOF {
			t.Errorf("after the end: %+v, %v", m, err)
		}
		api.noStream(503, "unavailable", "/events")
		if a := <-waiting; a.status != http.StatusOK && a.status != http.StatusServiceUnavailable {
			t.Errorf("a wait was answered with %d", a.status)
		}
	})
}

// TestSlowReaderIsCutOffAndCatchesUp: one that reads nothing holds nobody up, loses its stream, and goes on from the last
// event it has.
func TestSlowReaderIsCutOffAndCatchesUp(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.running("")
		slow, quick := api.stream("/events?after=0"), api.stream("/events?after=0")
		patch := `{"patch":{"a":"` + strings.Repeat("x", 50_000) + `"}}`
		seen := take(t, quick, 2)
		cutOff := func() bool { return strings.Contains(api.logged.String(), "a slow reader was cut off") }
		for n := 0; !cutOff() && n < 500; n++ { // until the buffers on the way are full, and for as long as it is waited for
			api.post(flow+"/state", patch).want(200)
			seen = append(seen, take(t, quick, 1)...)
		}
		if !cutOff() {
			t.Fatal("the slow reader was not cut off")
		}
		var got []int64
		for {
			e, err := slow.NextEvent()
			if err == io.EOF {
				t.Error("the stream ended as if it were at its end")
			}
			if err != nil {
				break
			}
			got = append(got, e.Seq)
		}
		if len(got) == 0 || len(got) == len(seen) {
			t.Fatalf("the slow reader has %d of %d events", len(got), len(seen))
		}
		again := api.stream("/events", "Last-Event-ID", strconv.FormatInt(got[len(got)-1], 10))
		wantStream(t, "what is left", again, seen[len(got):])
		if !slices.Equal(got, seen[:len(got)]) {
			t.Errorf("the slow reader saw %v", got)
		}
	}, narrow, func(s *setup) { s.options.StreamPatience = 100 * time.Millisecond })
}

// narrow has the server's connections hold little, or a reader that reads nothing is noticed after many megabytes.
func narrow(s *setup) {
	s.server = func(server *http.Server) {
		server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
			if err := c.(*net.TCPConn).SetWriteBuffer(16 << 10); err != nil {
				panic(err)
			}
			return ctx
		}
	}
}

// narrowStream is stream over a connection that holds little at this end too.
func (c *client) narrowStream(path string) *servertest.Stream {
	c.t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(16 << 10)
		}
		return conn, err
	}}
	s, err := servertest.NewClientOver(transport, c.url).Stream(c.t.Context(), path)
	if err != nil {
		c.t.Fatalf("stream of %s: %v", path, err)
	}
	c.t.Cleanup(func() { s.Close(); transport.CloseIdleConnections() })
	return s
}

// TestSlowReaderHoldsUpNoChange: changes are answered, and told to others, while a reader that reads nothing is still borne
// with. Had one waited for it, it would have been cut off first.
func TestSlowReaderHoldsUpNoChange(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.running("")
		slow, quick := api.narrowStream("/events?after=0"), api.stream("/events?after=0")
		patch := `{"patch":{"a":"` + strings.Repeat("x", 50_000) + `"}}`
		seen := take(t, quick, 2)
		for range 24 { // far more than fits on the way to a reader that reads nothing
			api.post(flow+"/state", patch).want(200)
			seen = append(seen, take(t, quick, 1)...)
		}
		wantStream(t, "the slow reader, when it reads at last", slow, seen)
	}, narrow, func(s *setup) { s.options.StreamPatience = time.Minute })
}
