package servertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Options say how a server is started.
type Options struct {
	// Database is TASKFLOW_DATABASE_URL; "" leaves the variable out.
	Database string
	// Env are further variables, as NAME=value. The caller's own TASKFLOW_ variables are not handed on.
	Env []string
	// Args follow the program's name.
	Args []string
	// Address is where to listen, host:port on the loopback interface; "" is a free port of 127.0.0.1.
	Address string
}

func (o *Options) environment() []string {
	kept := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "TASKFLOW_") })
	if o.Database != "" {
		kept = append(kept, "TASKFLOW_DATABASE_URL="+o.Database)
	}
	kept = append(kept, "GORACE=atexit_sleep_ms=0") // or each exit would take a second
	return append(kept, o.Env...)
}

const (
	readyTimeout = 30 * time.Second // with the race detector, on a busy machine
	exitTimeout  = 30 * time.Second
	poll         = 4 * time.Millisecond
)

// Server is the program, running as a process of its own or stopped. Its methods must not be called at once, but for
// Log, and only by the test's goroutine; the client may be used by many.
type Server struct {
	*Client
	t       testing.TB
	options Options
	folder  string
	log     logBuffer
	run     *process // nil while stopped
}

// Start starts a server and waits until it is ready.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := Launch(t, o)
	s.AwaitReady(readyTimeout)
	return s
}

// Launch starts a server and returns at once. At the test's end it is killed where it still runs, and the test fails
// where the race detector or a panic has left a word in its log.
func Launch(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Address == "" {
		o.Address = FreeAddress(t)
	}
	s := &Server{Client: NewClient(t, "http://"+o.Address), t: t, options: o, folder: t.TempDir()}
	t.Cleanup(s.cleanUp)
	s.Relaunch()
	return s
}

// Relaunch starts a stopped server again, on the same address and database, and returns at once.
func (s *Server) Relaunch() {
	s.t.Helper()
	if s.run != nil {
		s.t.Fatal("the server runs already")
	}
	environment := append(s.options.environment(), "TASKFLOW_LISTEN="+s.options.Address)
	var err error
	if s.run, err = launch(Binary(s.t), s.folder, s.options.Args, environment, &s.log); err != nil {
		s.t.Fatalf("starting the server: %v", err)
	}
}

// Restart is Relaunch and AwaitReady.
func (s *Server) Restart() {
	s.t.Helper()
	s.Relaunch()
	s.AwaitReady(readyTimeout)
}

// Address is where the server listens, host:port.
func (s *Server) Address() string { return s.options.Address }

// PID is the process's id. The server must be running.
func (s *Server) PID() int {
	s.t.Helper()
	if s.run == nil {
		s.t.Fatal("the server does not run")
	}
	return s.run.pid
}

// Log is everything the server has written in all its runs so far.
func (s *Server) Log() string { return s.log.String() }

// AwaitReady waits until /readyz answers 200, and fails the test after limit or where the server ends.
func (s *Server) AwaitReady(limit time.Duration) {
	s.t.Helper()
	s.await(limit, "did not become ready", func() bool {
		answer, err := s.Send(http.MethodGet, "/readyz", "")
		return err == nil && answer.Status == http.StatusOK
	})
}

// AwaitAnswer waits until the server answers /livez, ready or not.
func (s *Server) AwaitAnswer() {
	s.t.Helper()
	s.await(readyTimeout, "did not answer", func() bool {
		_, err := s.Send(http.MethodGet, "/livez", "")
		return err == nil
	})
}

// AwaitLog waits until the log holds text.
func (s *Server) AwaitLog(text string) {
	s.t.Helper()
	s.await(readyTimeout, fmt.Sprintf("did not log %q", text), func() bool { return strings.Contains(s.Log(), text) })
}

func (s *Server) await(limit time.Duration, failure string, done func() bool) {
	s.t.Helper()
	err := Await(s.t.Context(), limit, func() bool {
		select {
		case <-s.run.ended:
			s.t.Fatalf("the server ended:\n%s", s.tail())
		default:
		}
		return done()
	})
	if err != nil {
		s.t.Fatalf("the server %s within %v", failure, limit)
	}
}

// Await asks again and again, every few milliseconds, until done says yes. It returns an error after limit, or when ctx
// ends.
func Await(ctx context.Context, limit time.Duration, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// AwaitExit waits until the server ends by itself, and returns its exit code. It fails the test after limit.
func (s *Server) AwaitExit(limit time.Duration) int {
	s.t.Helper()
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case <-s.run.ended:
	case <-timeout.C:
		s.t.Fatalf("the server still runs after %v", limit)
	}
	code := s.run.release()
	s.run = nil
	return code
}

// Kill ends the server with SIGKILL and returns when it is gone.
func (s *Server) Kill() {
	s.t.Helper()
	s.Signal(syscall.SIGKILL)
	s.AwaitExit(exitTimeout)
}

// Stop asks the server to end, with SIGTERM, and returns its exit code and how long it took.
func (s *Server) Stop() (code int, took time.Duration) {
	s.t.Helper()
	began := time.Now()
	s.Signal(syscall.SIGTERM)
	return s.AwaitExit(exitTimeout), time.Since(began)
}

// Signal sends a signal and does not wait for what comes of it.
func (s *Server) Signal(signal syscall.Signal) {
	s.t.Helper()
	if s.run == nil {
		s.t.Fatal("the server does not run")
	}
	if err := s.run.signal(signal); err != nil {
		s.t.Fatalf("signalling the server: %v", err)
	}
}

func (s *Server) cleanUp() {
	if s.run != nil {
		s.run.release()
	}
	log := s.Log()
	for _, sign := range []string{"WARNING: DATA RACE", "panic:", "panic in a"} {
		if at := strings.Index(log, sign); at >= 0 {
			s.t.Errorf("the server's log has %q:\n%.8000s", sign, log[at:])
		}
	}
	if s.t.Failed() {
		s.t.Logf("the end of the log of the server at %s:\n%s", s.options.Address, s.tail())
	}
}

func (s *Server) tail() string {
	log := s.Log()
	return log[max(0, len(log)-4000):]
}

// FreeAddress is a port of 127.0.0.1 that nobody listens on. It is below those that systems hand out by themselves, so
// that no connection is given it while a server that is to come back there is down.
func FreeAddress(t testing.TB) string {
	t.Helper()
	const first, last = 15000, 32000
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(last-first)))
		listener, err := net.Listen("tcp", address)
		if err != nil {
			continue // taken
		}
		if err := listener.Close(); err != nil {
			t.Fatalf("giving back %s: %v", address, err)
		}
		return address
	}
	t.Fatal("no free port")
	return ""
}
