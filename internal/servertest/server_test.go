package servertest_test

import (
	"net"
	"net/http"
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
