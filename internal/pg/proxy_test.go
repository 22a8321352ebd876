package pg_test

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// fate is what a proxy does with the next chunk of bytes that it meets.
type fate int

const (
	pass         fate = iota
	cutRequest        // the client's next bytes never arrive, and both ends are closed
	stallRequest      // likewise, but the server's end stays open until the proxy lets go of it
	cutAnswer         // the server's next bytes never arrive, and both ends are closed
)

// proxy stands between a store and its database, and cuts the wire at a chosen moment.
type proxy struct {
	listener         net.Listener
	network, address string // of the database

	mu       sync.Mutex
	next     fate
	refusing bool       // whether new connections are refused after next was met
	refuse   bool       // whether they are refused now
	stalled  []net.Conn // kept open
	open     map[net.Conn]bool
	requests int  // how often the wire turned from answers to requests
	asking   bool // the last bytes were the client's

	running sync.WaitGroup
}

// newProxy starts a proxy for the database at address, and returns the address to use instead.
func newProxy(t *testing.T, address string) (*proxy, string) {
	t.Helper()
	config, err := pgx.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{open: make(map[net.Conn]bool)}
	p.network, p.address = pgconn.NetworkAddress(config.Host, config.Port)
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	p.running.Go(p.accept)
	t.Cleanup(p.close)
	through := url.URL{Scheme: "postgres", User: url.UserPassword(config.User, config.Password),
		Host: p.listener.Addr().String(), Path: "/" + config.Database, RawQuery: "sslmode=disable"}
	return p, through.String()
}

// meet sets the fate of the next bytes; refusing says whether the database is out of reach from then on.
func (p *proxy) meet(f fate, refusing bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next, p.refusing = f, refusing
}

// letGo closes what stallRequest kept open.
func (p *proxy) letGo() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.stalled {
		conn.Close()
	}
	p.stalled = nil
}

// heal takes connections again.
func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = false
}

// roundTrips counts the requests so far.
func (p *proxy) roundTrips() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

func (p *proxy) close() {
	p.listener.Close()
	p.letGo()
	p.mu.Lock()
	for conn := range p.open {
		conn.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		} else if err != nil {
			panic(fmt.Sprintf("accepting: %v", err))
		}
		server, err := net.Dial(p.network, p.address)
		p.mu.Lock()
		if err != nil || p.refuse {
			client.Close()
			if err == nil {
				server.Close()
			}
		} else {
			p.open[client], p.open[server] = true, true
			p.running.Go(func() { p.pump(client, server, true) })
			p.running.Go(func() { p.pump(server, client, false) })
		}
		p.mu.Unlock()
	}
}

// pump carries bytes one way until an end is closed.
func (p *proxy) pump(from, to net.Conn, request bool) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		if n > 0 && p.stop(from, to, request) {
			return
		}
		if n > 0 {
			if _, failed := to.Write(buffer[:n]); failed != nil {
				err = failed
			}
		}
		if err != nil {
			p.drop(from, to)
			return
		}
	}
}

// stop deals out the fate of bytes, and reports whether they go no further.
func (p *proxy) stop(from, to net.Conn, request bool) bool {
	p.mu.Lock()
	if request && !p.asking {
		p.requests++
	}
	p.asking = request
	met := p.next
	if met == pass || request == (met == cutAnswer) {
		p.mu.Unlock()
		return false
	}
	p.next, p.refuse = pass, p.refusing
	if met == stallRequest {
		p.stalled = append(p.stalled, to)
		from.Close()
		p.mu.Unlock()
		return true
	}
	p.mu.Unlock()
	p.drop(from, to)
	return true
}

func (p *proxy) drop(ends ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, end := range ends {
		end.Close()
		delete(p.open, end)
	}
}
