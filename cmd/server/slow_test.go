package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"taskflow/internal/servertest"
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
	if err := conn.SetDeadline(began.Add(20 * time.Second)); err != nil {
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

func TestMaxHeader(t *testing.T) {
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
