package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"taskflow/internal/pg/pgtest"
	"taskflow/internal/servertest"

	"github.com/alecthomas/kong"
)

// dribble sends text a byte at a time and never ends it, and reports what came back and how long the server bore it.
func dribble(t *testing.T, s *servertest.Server, text string) (answer string, took time.Duration) {
	t.Helper()
	conn, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	if err := conn.SetDeadline(began.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	read := make(chan string, 1)
	go func() { // ends with the connection
		got, _ := io.ReadAll(conn)
		read <- string(got)
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case got := <-read:
			return got, time.Since(began)
		case <-tick.C:
			_, _ = io.WriteString(conn, "x") // fails once the server has closed
		}
	}
}

// TestSlowRequests_AreCutOff holds the timeouts for headers and bodies; those of the contract are their defaults.
func TestSlowRequests_AreCutOff(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Database: servertest.SQLite(t), Env: []string{"TASKFLOW_HEADER_TIMEOUT=PT1S", "TASKFLOW_BODY_TIMEOUT=PT3S", "TASKFLOW_IDLE_TIMEOUT=PT1S"}})
	const head = "POST /flows HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	for _, c := range []struct {
		what, text  string
		least, most time.Duration
	}{
		{"a dribbled line", "GET /liv", 900 * time.Millisecond, 5 * time.Second},
		{"dribbled headers", head + "X-Slow: ", 900 * time.Millisecond, 5 * time.Second},
		{"a dribbled body", head + "Content-Length: 100000\r\n\r\n{", 2900 * time.Millisecond, 10 * time.Second},
	} {
		if answer, took := dribble(t, s, c.text); took < c.least || took > c.most {
			t.Errorf("%s: answered %q after %v, want to be cut off after %v", c.what, answer, took, c.least)
		}
	}
	answer, took := dribble(t, s, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 200") || took > 5*time.Second {
		t.Errorf("an idle connection: %q after %v", answer, took)
	}
}

// TestSlowRequests_Defaults holds what the contract says of a server that nobody has configured.
func TestSlowRequests_Defaults(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Database: servertest.SQLite(t)})
	if answer, took := dribble(t, s, "GET /flows HTTP/1.1\r\nHost: localhost\r\nX-Slow: "); took < 9*time.Second || took > 40*time.Second {
		t.Errorf("dribbled headers: answered %q after %v, want to be cut off after 10 s", answer, took)
	}
	var c cli
	parser, err := kong.New(&c)
	if err == nil {
		_, err = parser.Parse([]string{"serve"})
	}
	if err != nil {
		t.Fatal(err)
	}
	want := httpConfig{
		MaxHeader: 64 << 10, MaxConnections: 10_000, HeaderTimeout: period(10 * time.Second), BodyTimeout: period(30 * time.Second), WriteTimeout: period(time.Minute),
		IdleTimeout: period(2 * time.Minute), RequestTimeout: period(30 * time.Second), StreamTimeout: period(10 * time.Second),
	}
	if c.Serve.Connections != want || c.Serve.Connections.allStreams() != 9_000 {
		t.Errorf("by default %+v, want %+v", c.Serve.Connections, want)
	}
	var server http.Server
	want.limit(&server)
	if server.ReadHeaderTimeout != 10*time.Second || server.ReadTimeout != 30*time.Second || server.WriteTimeout != time.Minute || server.IdleTimeout != 2*time.Minute {
		t.Errorf("a server has %v, %v, %v, %v", server.ReadHeaderTimeout, server.ReadTimeout, server.WriteTimeout, server.IdleTimeout)
	}
}

// TestSlowReaders_AreCutOff asks for more than a connection holds, and reads none of it.
func TestSlowReaders_AreCutOff(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Database: servertest.SQLite(t), Env: []string{"TASKFLOW_WRITE_TIMEOUT=PT1S", "TASKFLOW_REQUEST_TIMEOUT=PT0.9S"}})
	for range 8 {
		s.Create(t, `"state": {"x": "`+strings.Repeat("x", 250<<10)+`"}`)
	}
	const asked = 40 // at 2 MB each
	conn := dial(t, s, strings.Repeat("GET /flows?limit=8 HTTP/1.1\r\nHost: localhost\r\n\r\n", asked))
	err := servertest.Await(t.Context(), time.Minute, func() bool {
		_, err := io.WriteString(conn, "x") // fails once the server has closed
		return err != nil
	})
	if err != nil {
		t.Error("whoever does not read is served on")
	}
	s.Call(t, http.StatusOK, http.MethodGet, "/livez", "")
}

// TestStreams_OfAllCallersAreBounded opens one more than a server has, and gives up a request that takes too long.
func TestStreams_OfAllCallersAreBounded(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Database: servertest.SQLite(t), Env: []string{"TASKFLOW_MAX_ALL_STREAMS=1"}})
	stream, err := s.Stream(t.Context(), "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if answer := s.Call(t, http.StatusServiceUnavailable, http.MethodGet, "/events?after=9", "", "Prefer", "wait=1"); answer.Problem() != "overloaded" {
		t.Errorf("one more: %s", answer.Body)
	}
}

// TestStreams_LeaveRoomForOthers opens as many streams as a server takes whose connections alone are configured: one connection
// in ten, and at least one, is for whatever else there is to ask.
func TestStreams_LeaveRoomForOthers(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Database: servertest.SQLite(t), Env: []string{"TASKFLOW_MAX_CONNECTIONS=4"}})
	for range 3 {
		stream, err := s.Stream(t.Context(), "/events")
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
	}
	if _, err := s.Stream(t.Context(), "/events"); err == nil {
		t.Fatal("streams take every connection")
	}
	s.Call(t, http.StatusOK, http.MethodGet, "/livez", "")
	s.Call(t, http.StatusOK, http.MethodGet, "/readyz", "")
}

// TestRequestTimeout_IsConfigured has a change wait for a lock for longer than it may take.
func TestRequestTimeout_IsConfigured(t *testing.T) {
	url := pgtest.Empty(t)
	s := servertest.Start(t, servertest.Options{Database: url, Env: []string{"TASKFLOW_REQUEST_TIMEOUT=PT1S"}})
	flow := s.Create(t)
	tx, err := servertest.OpenDatabase(t, url).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(t.Context(), "lock table flows in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s.Call(t, http.StatusServiceUnavailable, http.MethodPost, "/flows/"+flow.ID+"/start", "")
	if took := time.Since(began); took > 8*time.Second { // a lock is waited for for 10 s
		t.Errorf("given up after %v", took)
	}
}

func TestMaxHeader(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Database: servertest.SQLite(t), Env: []string{"TASKFLOW_MAX_HEADER=16KiB"}})
	s.Call(t, http.StatusOK, http.MethodGet, "/livez", "", "X-Large", strings.Repeat("x", 12<<10))
	answer, err := s.Send(http.MethodGet, "/livez", "", "X-Large", strings.Repeat("x", 24<<10))
	if err == nil && answer.Status != http.StatusRequestHeaderFieldsTooLarge { // or cut off, as it was not read to its end
		t.Errorf("headers over the limit: status %d", answer.Status)
	}
}

// TestMaxConnections holds that those over the limit wait, and are served when there is room.
func TestMaxConnections(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Database: servertest.SQLite(t), Env: []string{"TASKFLOW_MAX_CONNECTIONS=2", "TASKFLOW_HEADER_TIMEOUT=PT2S"}})
	began := time.Now()
	for range 2 {
		conn, err := net.Dial("tcp", s.Address())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	fresh := servertest.NewClient(t, s.URL)
	fresh.Call(t, http.StatusOK, http.MethodGet, "/livez", "")
	if took := time.Since(began); took < time.Second {
		t.Errorf("a connection over the limit was served after %v", took)
	}
}
