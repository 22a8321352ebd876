package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"taskflow/internal/httpapi"
	"taskflow/internal/servertest"
	"taskflow/internal/store/storetest"
	"taskflow/internal/telemetry"

	"github.com/alecthomas/kong"
)

// Each variable must reach what it is for: a limit that is read and handed to nobody would be no limit.

// TestWiring_LimitsOfACaller sends more than one caller may, and opens more streams than it may, and than all may.
func TestWiring_LimitsOfACaller(t *testing.T) {
	url := servertest.SQLite(t)
	busy, _ := makeKey(t, url, everything("busy")...)
	reader, _ := makeKey(t, url, everything("reader")...)
	another, _ := makeKey(t, url, everything("another")...)
	s := servertest.Start(t, withKeys(url, "TASKFLOW_RATE_LIMIT=0.01", "TASKFLOW_RATE_BURST=4", "TASKFLOW_MAX_STREAMS=2", "TASKFLOW_MAX_ALL_STREAMS=3"))
	for range 4 {
		s.Call(t, http.StatusOK, http.MethodGet, "/flows", "", bearer(busy)...)
	}
	answer := s.Call(t, http.StatusTooManyRequests, http.MethodGet, "/flows", "", bearer(busy)...)
	// The next one in 100 s, less what has passed: any other rate says something else.
	if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); err != nil || seconds < 40 || seconds > 100 || answer.Problem() != "too-many-requests" {
		t.Errorf("one too many is answered with Retry-After %q: %s", answer.Header.Get("Retry-After"), answer.Body)
	}
	open := func(key string) (*servertest.StatusError, string) {
		stream, err := s.Stream(t.Context(), "/events", bearer(key)...)
		if err == nil {
			t.Cleanup(stream.Close)
			return nil, ""
		}
		var refused *servertest.StatusError
		if !errors.As(err, &refused) || refused.Answer.Header.Get("Retry-After") == "" {
			t.Fatalf("a stream: %v, want a refusal with Retry-After", err)
		}
		return refused, refused.Answer.Problem()
	}
	for i, want := range []struct{ key, problem string }{
		{reader, ""}, {reader, ""}, {reader, "too-many-requests"}, {another, ""}, {another, "overloaded"},
	} {
		if err, got := open(want.key); got != want.problem {
			t.Errorf("stream %d: problem %q, want %q: %v", i+1, got, want.problem, err)
		}
	}
}

// TestWiring_CORSOrigins asks as a browser does for a page of another origin.
func TestWiring_CORSOrigins(t *testing.T) {
	const friend, wanted = "https://board.example", "authorization, content-type, if-match, idempotency-key, prefer, last-event-id"
	s := servertest.Start(t, withKeys(servertest.SQLite(t), "TASKFLOW_CORS_ORIGINS=https://other.example,"+friend))
	ask := []string{"Access-Control-Request-Method", http.MethodPost, "Access-Control-Request-Headers", strings.ReplaceAll(wanted, " ", "")}
	answer, err := s.Send(http.MethodOptions, "/flows", "", append(ask, "Origin", friend)...)
	if err != nil || answer.Status/100 != 2 || answer.Header.Get("Access-Control-Allow-Origin") != friend || answer.Header.Get("Access-Control-Allow-Methods") != http.MethodPost {
		t.Errorf("the preflight, which has no credentials: %v, %d, %v", err, answer.Status, answer.Header)
	}
	allowed := strings.ToLower(answer.Header.Get("Access-Control-Allow-Headers"))
	for _, name := range strings.Split(wanted, ", ") {
		if !strings.Contains(allowed, name) {
			t.Errorf("a page may not send %s: it may send %q", name, allowed)
		}
	}
	// Without it a page could not tell that it has to ask for a key from a server that is away.
	answer = s.Call(t, http.StatusUnauthorized, http.MethodGet, "/flows", "", "Origin", friend, "Sec-Fetch-Site", "cross-site")
	if answer.Header.Get("Access-Control-Allow-Origin") != friend || !strings.Contains(answer.Header.Get("Access-Control-Expose-Headers"), "Www-Authenticate") {
		t.Errorf("the 401 has %v", answer.Header)
	}
	answer, err = s.Send(http.MethodOptions, "/flows", "", append(ask, "Origin", "https://evil.example")...)
	if err != nil || answer.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("the preflight of a stranger: %v, %v", err, answer.Header)
	}
}

// parsed is the command line of a server with these flags.
func parsed(t *testing.T, args ...string) (*cli, *kong.Application) {
	t.Helper()
	var c cli
	parser, err := kong.New(&c, kong.Vars{"version": version()})
	if err == nil {
		_, err = parser.Parse(append([]string{"serve"}, args...))
	}
	if err != nil {
		t.Fatal(err)
	}
	return &c, parser.Model
}

// inBubble runs a test against what a server with these flags is put together from, over a store in memory, where time
// passes as the test needs it. It does not listen.
func inBubble(t *testing.T, test func(t *testing.T, api *httpapi.Server), args ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c, _ := parsed(t, args...)
		log := slog.New(slog.DiscardHandler)
		db := &database{Store: storetest.NewMemory(time.Now), committers: 1, schemaVersion: 1, pools: func() []telemetry.Pool { return nil }}
		watched, err := c.Serve.Telemetry.watch(t.Context(), log)
		if err != nil {
			t.Fatal(err)
		}
		door := c.Serve.Access.gate(t.Context(), db, log)
		api, changes, err := c.Serve.build(t.Context(), db, door.Gate, watched, log)
		if err != nil {
			t.Fatal(err)
		}
		test(t, api)
		api.Close()
		door.close(log)
		finish(changes, db, log)
	})
}

// send sends a request to a server that does not listen.
func send(t *testing.T, api http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://localhost"+path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	return w
}

// later lets time pass in a bubble, and what it brings happen.
func later(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// TestWiring_RetainTerminal lets the time pass for which an ended flow is kept.
func TestWiring_RetainTerminal(t *testing.T) {
	for value, erased := range map[string]bool{"PT1H": true, "0": false} {
		inBubble(t, func(t *testing.T, api *httpapi.Server) {
			ended := send(t, api, http.MethodPost, "/flows", newFlow).Header().Get("Location")
			open := send(t, api, http.MethodPost, "/flows", newFlow).Header().Get("Location")
			send(t, api, http.MethodPost, ended+"/cancel", "")
			later(58 * time.Minute)
			if w := send(t, api, http.MethodGet, ended, ""); w.Code != http.StatusOK {
				t.Errorf("%s: before its time: %d %s", value, w.Code, w.Body)
			}
			later(4 * time.Minute) // it is looked for every minute
			if w := send(t, api, http.MethodGet, ended, ""); (w.Code == http.StatusNotFound) != erased {
				t.Errorf("%s: after an hour: %d %s, want it erased: %t", value, w.Code, w.Body, erased)
			}
			if w := send(t, api, http.MethodGet, open, ""); w.Code != http.StatusOK {
				t.Errorf("%s: one that has not ended: %d %s", value, w.Code, w.Body)
			}
		}, "--retain-terminal="+value)
	}
}

// TestWiring_IdempotencyTTL repeats a request before and after its answer is forgotten.
func TestWiring_IdempotencyTTL(t *testing.T) {
	inBubble(t, func(t *testing.T, api *httpapi.Server) {
		create := func(what, replayed string) {
			t.Helper()
			w := send(t, api, http.MethodPost, "/flows", newFlow, "Idempotency-Key", "k")
			if got := w.Header().Get("Idempotent-Replayed"); w.Code != http.StatusCreated || got != replayed {
				t.Errorf("%s: %d, replayed %q, want %q: %s", what, w.Code, got, replayed, w.Body)
			}
		}
		create("the first", "")
		later(59 * time.Minute)
		create("a repeat in time", "true")
		later(2 * time.Minute)
		create("a repeat that is late", "")
	}, "--idempotency-ttl=PT1H")
}

// deadlines is a connection that says how much time a write is given.
type deadlines struct {
	*httptest.ResponseRecorder
	given chan time.Duration
}

func (d deadlines) SetReadDeadline(time.Time) error { return nil }

func (d deadlines) SetWriteDeadline(at time.Time) error {
	d.given <- time.Until(at)
	return nil
}

// TestWiring_StreamTimeout looks at how long a stream waits for its reader.
func TestWiring_StreamTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, api *httpapi.Server) {
		ctx, hangUp := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/events", http.NoBody)
		r.Header.Set("Accept", "text/event-stream")
		w := deadlines{httptest.NewRecorder(), make(chan time.Duration, 10)}
		ended := make(chan struct{})
		go func() { // ends when it is hung up on, below
			defer close(ended)
			api.ServeHTTP(w, r)
		}()
		if got := <-w.given; got != 3*time.Second {
			t.Errorf("the reader of a stream has %v for what is sent to it, want 3s", got)
		}
		hangUp()
		<-ended
	}, "--stream-timeout=PT3S")
}
