package main

import (
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"taskflow/internal/servertest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// relay stands between servers and their PostgreSQL. It can fall silent, and it can go away.
type relay struct {
	listener         net.Listener
	network, address string // of the database

	mu     sync.Mutex // guards the rest
	silent bool       // connections are taken and kept, and nothing comes through
	away   bool       // connections are closed at once
	open   []net.Conn // both ends of each
	// swallowed is how often something was sent to the silent database.
	swallowed int

	running sync.WaitGroup
}

// newRelay starts a relay for the database at a URL until the test's end. through is the URL to use instead, with a
// password, which the database does not ask for.
func newRelay(t *testing.T, database, password string) (r *relay, through string) {
	t.Helper()
	config, err := pgx.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	r = &relay{}
	r.network, r.address = pgconn.NetworkAddress(config.Host, config.Port)
	if r.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	r.running.Go(r.accept)
	t.Cleanup(func() {
		_ = r.listener.Close()
		r.goAway()
		r.running.Wait()
	})
	u := url.URL{Scheme: "postgres", User: url.UserPassword(config.User, password), Host: r.listener.Addr().String(), Path: "/" + config.Database, RawQuery: "sslmode=disable"}
	return r, u.String()
}

func (r *relay) fallSilent() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent = true
}

// awaitSwallowed waits until somebody has asked the silent database for something.
func (r *relay) awaitSwallowed(t *testing.T) {
	t.Helper()
	if err := servertest.Await(t.Context(), time.Minute, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.swallowed > 0
	}); err != nil {
		t.Fatal("nobody has asked the silent database")
	}
}

func (r *relay) swallows() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.silent {
		r.swallowed++
	}
	return r.silent
}

func (r *relay) goAway() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = true
	for _, conn := range r.open {
		_ = conn.Close()
	}
}

// accept ends when the listener is closed.
func (r *relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial(r.network, r.address)
		if err != nil || !r.keep(client, server) {
			_ = client.Close()
			continue
		}
		r.running.Go(func() { r.copy(client, server) })
		r.running.Go(func() { r.copy(server, client) })
	}
}

// keep has two ends of a connection closed when the relay goes away, and closes the far one where it has gone.
func (r *relay) keep(client, server net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		_ = server.Close()
		return false
	}
	r.open = append(r.open, client, server)
	return true
}

// copy hands on what it reads, and ends with either connection.
func (r *relay) copy(to, from net.Conn) {
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if r.swallows() {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
