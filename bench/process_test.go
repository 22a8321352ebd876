package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"taskflow/internal/pg/pgtest"

	"go.uber.org/goleak"
)

// childAddress tells a test binary that was started by a test to be a server on this address; childMain, to be the
// program itself.
const (
	childAddress = "BENCH_TEST_CHILD"
	childMain    = "BENCH_TEST_MAIN"
)

func TestMain(m *testing.M) {
	if address := os.Getenv(childAddress); address != "" {
		serveChild(address)
		return
	}
	if os.Getenv(childMain) != "" {
		main()
		return
	}
	_ = os.Setenv(childMain, "1")                // for the processes that the tests start: here, as several run at a time
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0") // or each exit of a child would take a second
	goleak.VerifyTestMain(m)
}

// serveChild is ready at once and stops on SIGTERM, which is what happens when nobody handles it.
func serveChild(address string) {
	server := &http.Server{Addr: address, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ReadHeaderTimeout: time.Second}
	if err := server.ListenAndServe(); err != nil {
		os.Exit(1)
	}
}

func startChild(t *testing.T, ctx context.Context) *process {
	t.Helper()
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	child, err := startServer(ctx, "child", address, []string{childAddress + "=" + address}, os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	return child
}

func refusesConnections(t *testing.T, p *process) {
	t.Helper()
	conn := newHTTPConn(strings.TrimPrefix(p.url, "http://"), time.Now().Add(time.Minute))
	defer conn.close()
	if _, err := conn.do(t.Context(), request{method: "GET", path: "/readyz"}); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a stopped server still answers: %v", err)
	}
}

func TestStopEndsTheProcess(t *testing.T) {
	child := startChild(t, t.Context())
	if err := child.complaint(); err != nil {
		t.Errorf("complaint of a server that is well: %v", err)
	}
	child.Stop()
	refusesConnections(t, child)
	child.Stop() // a second time does no harm
}

func TestContextEndsTheProcess(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	child := startChild(t, ctx)
	cancel()
	<-child.exited
	if err := child.complaint(); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("complaint of a server that has gone: %v", err)
	}
	refusesConnections(t, child)
	child.Stop()
}

func TestStartServerTellsWhy(t *testing.T) {
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	_, err = startServer(t.Context(), "child", address, nil, "/bin/sh", "-c", "echo no such database >&2; exit 3")
	if !errors.Is(err, errExited) || !strings.Contains(err.Error(), "no such database") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error %v", err)
	}
	if _, err = startServer(t.Context(), "child", address, nil, "/nonexistent/server"); err == nil {
		t.Error("a program that does not exist was started")
	}
}

func TestLastOutputKeepsTheEnd(t *testing.T) {
	var output lastOutput
	for range 1000 {
		output.Write([]byte("some line of a log\n"))
	}
	output.Write([]byte("the reason"))
	if got := output.String(); !strings.HasSuffix(got, "the reason") || len(got) > keptOutput {
		t.Errorf("%d bytes, ending in %q", len(got), tail(got, 20))
	}
}

func TestChildEnvironment(t *testing.T) {
	t.Setenv("TASKFLOW_AUTH", "keys")
	t.Setenv("PGOPTIONS", "-c fsync=off")
	t.Setenv("BENCH_KEPT", "yes")
	got := strings.Join(childEnvironment("TASKFLOW_LISTEN=x"), "\n")
	if strings.Contains(got, "TASKFLOW_AUTH") || strings.Contains(got, "PGOPTIONS") {
		t.Error("a setting of this shell reaches the measured servers")
	}
	if !strings.Contains(got, "BENCH_KEPT=yes") || !strings.Contains(got, "TASKFLOW_LISTEN=x") {
		t.Error("the rest of the environment is missing")
	}
}

func TestInspectRefusesWhatIsNotDurable(t *testing.T) {
	address, err := url.Parse(pgtest.Empty(t))
	if err != nil {
		t.Fatal(err)
	}
	query := address.Query()
	query.Set("synchronous_commit", "off")
	address.RawQuery = query.Encode()
	if _, err := inspect(t.Context(), address.String(), t.TempDir()); !errors.Is(err, errNotDurable) {
		t.Errorf("error %v, want errNotDurable", err)
	}
}
