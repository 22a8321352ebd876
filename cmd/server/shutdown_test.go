package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"taskflow/internal/pg/pgtest"
	"taskflow/internal/servertest"
)

// stopLimit is how long a server may take to stop.
const stopLimit = 15 * time.Second

// TestShutdown_UnderLoad stops a server that is busy. Whatever it has acknowledged must be there when it is started
// again, and whatever it has refused must not.
func TestShutdown_UnderLoad(t *testing.T) {
	servertest.Databases(t, func(t *testing.T, url string, _ int) {
		s := servertest.Start(t, servertest.Options{Database: url})
		flow := s.Create(t)
		w := writers{client: s.Client, flow: flow.ID}
		for i := range 16 {
			w.working.Go(func() { w.write(i) })
		}
		if err := servertest.Await(t.Context(), time.Minute, func() bool { return w.acknowledged.Load() > 200 }); err != nil {
			t.Fatalf("only %d changes: %v", w.acknowledged.Load(), err)
		}
		code, took := s.Stop()
		w.working.Wait()
		if code != 0 || took > stopLimit {
			t.Errorf("stopped with code %d after %v, want 0 within %v", code, took, stopLimit)
		}
		for _, odd := range w.odd {
			t.Error(odd)
		}
		s.Restart()
		state := s.Flow(t, flow.ID).State
		for mark, there := range w.told {
			if _, found := state[mark]; found != there {
				t.Errorf("%s: there %v, and the client was told %v", mark, found, there)
			}
		}
		checkTrail(t, s.Client, s.Flow(t, flow.ID))
		t.Logf("stopped after %v; %d changes were acknowledged and %d requests refused", took, w.acknowledged.Load(), len(w.told)-int(w.acknowledged.Load()))
	})
}

// writers patch one flow until the server takes no more.
type writers struct {
	client       *servertest.Client
	flow         string
	working      sync.WaitGroup
	acknowledged atomic.Int64

	mu   sync.Mutex
	told map[string]bool // by mark, whether the patch was made, where an answer says so
	odd  []string
}

func (w *writers) write(number int) {
	for i := 0; ; i++ {
		mark := fmt.Sprintf("writer-%d-%d", number, i)
		var used httptrace.GotConnInfo // the connection; none where there was none to be had
		ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { used = info }})
		answer, err := w.client.SendWithin(ctx, http.MethodPost, "/flows/"+w.flow+"/state", fmt.Sprintf(`{"patch": {%q: 1}}`, mark))
		if !w.note(mark, answer, err, used) {
			return
		}
	}
}

// note keeps what a client was told, and reports whether the server goes on. A request that got no answer was not taken on:
// its change must not be there either.
func (w *writers) note(mark string, answer servertest.Answer, err error, used httptrace.GotConnInfo) (goesOn bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.told == nil {
		w.told = map[string]bool{}
	}
	switch {
	case errors.Is(err, servertest.ErrHalfAnswer):
		w.odd = append(w.odd, err.Error())
	case err != nil:
		w.told[mark] = false
		if !mayGoUnanswered(err, used) {
			w.odd = append(w.odd, fmt.Sprintf("a request got no answer: %v, on %+v", err, used))
		}
	case answer.Status == http.StatusOK:
		w.acknowledged.Add(1)
		w.told[mark] = true
		return true
	case answer.Problem() == "unavailable" && answer.Header.Get("Retry-After") != "":
		w.told[mark] = false
	default:
		w.odd = append(w.odd, fmt.Sprintf("a request was answered with %d: %s", answer.Status, answer.Body))
	}
	return false
}

// mayGoUnanswered says whether a server that stops may leave a request without an answer for this reason. Its listener closes
// at once: from then on connections are refused, and those that the system has made and the server has not taken are reset.
// A connection that it has taken is closed only when it has lain idle for a while, and no busy client's does.
func mayGoUnanswered(err error, used httptrace.GotConnInfo) bool {
	switch {
	case used.Conn == nil:
		return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET)
	case used.Reused:
		return used.IdleTime > turnover/2 // it had no processor for that long
	}
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF)
}

// TestShutdown_AnswersWhatItHasTakenOn stops a server that has got half of a request.
func TestShutdown_AnswersWhatItHasTakenOn(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Database: servertest.SQLite(t)})
	flow := s.Create(t)
	change := begin(t, s, "/flows/"+flow.ID+"/state")
	s.Signal(syscall.SIGTERM)
	s.AwaitLog("shutting down")
	refused := func() bool {
		conn, err := net.Dial("tcp", s.Address())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}
	if err := servertest.Await(t.Context(), stopLimit, refused); err != nil {
		t.Error("a server that shuts down takes new connections")
	}
	if got := change.finish(t, `{"patch": {"late": 1}}`); got.StatusCode != http.StatusOK || !got.Close {
		t.Errorf("a change that had begun was answered with %d, connection closed: %v", got.StatusCode, got.Close)
	}
	if code := s.AwaitExit(stopLimit); code != 0 {
		t.Errorf("stopped with code %d", code)
	}
	s.Restart()
	if got := s.Flow(t, flow.ID); got.State["late"] == nil {
		t.Errorf("an acknowledged change is lost: %+v", got)
	}
}

// half is a request of which the server has the header and waits for the body.
type half struct {
	net.Conn
	answers *bufio.Reader
}

// begin sends the header of a POST, with more lines where they are given, and returns when the server asks for the body.
func begin(t *testing.T, s *servertest.Server, path string, lines ...string) half {
	t.Helper()
	conn := dial(t, s, "POST "+path+" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"+
		"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n"+strings.Join(append(lines, "\r\n"), "\r\n"))
	h := half{conn, bufio.NewReader(conn)}
	if line, err := h.answers.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("the server does not ask for the body: %q, %v", line, err)
	}
	if _, err := h.answers.ReadString('\n'); err != nil { // the empty line
		t.Fatal(err)
	}
	return h
}

// finish sends the body and reads the answer.
func (h half) finish(t *testing.T, body string) *http.Response {
	t.Helper()
	h.send(t, body)
	return h.answer(t)
}

// send sends the body.
func (h half) send(t *testing.T, body string) {
	t.Helper()
	if _, err := fmt.Fprintf(h, "%x\r\n%s\r\n0\r\n\r\n", len(body), body); err != nil {
		t.Fatal(err)
	}
}

// answer reads the answer to a request that was sent.
func (h half) answer(t *testing.T) *http.Response {
	t.Helper()
	response, err := http.ReadResponse(h.answers, nil)
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || !strings.HasPrefix(string(body), "{") {
		t.Errorf("an answer of %q, error %v", body, err)
	}
	return response
}

// dial opens a connection and sends text on it.
func dial(t *testing.T, s *servertest.Server, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestShutdown_CutsOffWhoeverNeverEnds stops a server while a client sends a body that never ends.
func TestShutdown_CutsOffWhoeverNeverEnds(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Database: servertest.SQLite(t)})
	begin(t, s, "/flows")
	if code, took := s.Stop(); code != 0 || took > stopLimit {
		t.Errorf("stopped with code %d after %v, want 0 within %v", code, took, stopLimit)
	}
}

// TestShutdown_SilentDatabase stops a server whose PostgreSQL has gone silent, under its requests, a stream and what it looks
// after by itself: whoever waits is told what is known, and it ends in time.
func TestShutdown_SilentDatabase(t *testing.T) {
	t.Parallel()
	database := pgtest.Empty(t)
	key, _ := makeKey(t, database, everything("kate")...)
	wire, url := newRelay(t, database, "")
	s := servertest.Start(t, withKeys(url))
	flow := s.As(key).Call(t, http.StatusCreated, http.MethodPost, "/flows", newFlow).Header.Get("Location")
	stream, err := s.As(key).Stream(t.Context(), "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var requests []half // that the server has taken on, their callers known to it
	for range 8 {
		requests = append(requests, begin(t, s, flow+"/start", "Authorization: Bearer "+key))
	}
	wire.fallSilent()
	for _, r := range requests {
		r.send(t, "{}")
	}
	wire.awaitSwallowed(t)
	if code, took := s.Stop(); code != 0 || took > stopLimit {
		t.Errorf("stopped with code %d after %v, want 0 within %v", code, took, stopLimit)
	}
	for _, r := range requests {
		if got := r.answer(t); got.StatusCode != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "" || !got.Close {
			t.Errorf("a request that was taken on is answered with %d, %v", got.StatusCode, got.Header)
		}
	}
}

// TestShutdown_SilentDatabaseAtStart stops a server that waits for a database which takes its connection and never answers.
func TestShutdown_SilentDatabaseAtStart(t *testing.T) {
	t.Parallel()
	wire, url := newRelay(t, pgtest.Empty(t), "")
	wire.fallSilent()
	s := servertest.Launch(t, withKeys(url))
	wire.awaitSwallowed(t)
	if code, took := s.Stop(); code != 0 || took > stopLimit {
		t.Errorf("stopped with code %d after %v, want 0 within %v", code, took, stopLimit)
	}
}
