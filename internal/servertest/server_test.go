package servertest_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"taskflow/internal/servertest"
)

func TestServer_LifeOfAProcess(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Database: servertest.SQLite(t)})
	flow := s.Create(t)
	s.Kill()
	if _, err := s.Send(http.MethodGet, "/livez", ""); err == nil {
		t.Fatal("a killed server answers")
	}
	s.Restart()
	if got := s.Flow(t, flow.ID); got.ID != flow.ID {
		t.Errorf("after a restart: %+v, want the flow %s", got, flow.ID)
	}
	if code, took := s.Stop(); code != 0 || took > 15*time.Second {
		t.Errorf("stopped with code %d after %v", code, took)
	}
	s.Relaunch()
	s.Signal(syscall.SIGABRT)
	if code := s.AwaitExit(10 * time.Second); code == 0 {
		t.Error("an aborted server exited with 0")
	}
}

// TestServer_EndsWithItsTest proves that a server goes with the test that forgot it.
func TestServer_EndsWithItsTest(t *testing.T) {
	var address string
	t.Run("forgetful", func(t *testing.T) {
		address = servertest.Start(t, servertest.Options{Database: servertest.SQLite(t)}).Address()
	})
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Errorf("a server still listens on %s", address)
	}
}

func TestRun_ReportsCodeAndOutput(t *testing.T) {
	if r := servertest.Run(t, servertest.Options{}, "openapi"); r.Code != 0 || r.Stdout == "" || r.Stderr != "" {
		t.Errorf("openapi: code %d, %d bytes, standard error %q", r.Code, len(r.Stdout), r.Stderr)
	}
	if r := servertest.Run(t, servertest.Options{}, "no-such-command"); r.Code == 0 || r.Stderr == "" {
		t.Errorf("no such command: %+v", r)
	}
}

// TestServer_EndsWithItsProcess proves that a server goes with a test process that is killed, and the built program too.
func TestServer_EndsWithItsProcess(t *testing.T) {
	child := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v")
	child.Env = append(os.Environ(), childVariable+"=1", "TMPDIR="+t.TempDir())
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var address, binary string
	for lines := bufio.NewScanner(out); address == "" && lines.Scan(); {
		_, _ = fmt.Sscanf(lines.Text(), "child: %s %s", &address, &binary)
	}
	if err := child.Process.Kill(); err != nil || address == "" {
		t.Fatalf("the child listens on %q, killing it: %v", address, err)
	}
	_ = child.Wait() // it was killed
	gone := func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		_, missing := os.Stat(binary)
		return err != nil && missing != nil
	}
	if err := servertest.Await(t.Context(), 10*time.Second, gone); err != nil {
		t.Errorf("a server still listens on %s, or %s is still there", address, binary)
	}
}

const childVariable = "SERVERTEST_CHILD"

// TestChild is the process that TestServer_EndsWithItsProcess kills; by itself it does nothing.
func TestChild(t *testing.T) {
	if os.Getenv(childVariable) == "" {
		return
	}
	s := servertest.Start(t, servertest.Options{Database: servertest.SQLite(t)})
	fmt.Printf("child: %s %s\n", s.Address(), servertest.Binary(t))
	<-t.Context().Done() // it is killed first
}

// TestClient_RepeatsNothing counts what arrives of requests that get no answer.
func TestClient_RepeatsNothing(t *testing.T) {
	var arrived atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Idempotency-Key") == "" {
			return // the first request, which leaves a connection to be used again
		}
		arrived.Add(1)
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	c := servertest.NewClient(t, server.URL)
	for i, body := range []string{"", "{}"} {
		c.Call(t, http.StatusOK, http.MethodPost, "/", "")
		if answer, err := c.Send(http.MethodPost, "/", body, "Idempotency-Key", "k"); err == nil {
			t.Errorf("a request without an answer was answered with %+v", answer)
		}
		if got := arrived.Load(); got != int64(i+1) {
			t.Errorf("a request with the body %q arrived %d times", body, got-int64(i))
		}
	}
}
